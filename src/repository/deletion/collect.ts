/**
 * Deleting what no snapshot needs, beside writers that know nothing of it. Two steps, with a grace between: packs are condemned, so that no writer
 * that begins from then on relies on them; and later, when no run is left that began before, and nothing needs them after all, they are deleted. Clocks decide
 * when that is tried, never whether it is safe; docs/format.md, section 11.1, has the argument.
 */
import type { Clock, Random } from '../../clock.ts';
import { CONDEMNED_PACKS_MAX } from '../../limits.ts';
import type { Progress } from '../../progress.ts';
import { DAY_MS } from '../../units.ts';
import { condemn, type Condemned } from '../records/condemned.ts';
import { timestamp, type Signer } from '../records/format.ts';
import { level, type Levelled } from '../repair/level.ts';
import { packKey, type PackId } from '../records/object-name.ts';
import type { Repository } from '../open.ts';
import { chooseToRepack, repack, type Repacked } from './repack.ts';
import { endRun, type BegunRun } from '../records/runs.ts';
import { removeRuns, sweep, type Swept } from './sweep.ts';
import { Survey, type CheckSnapshots, type Unfinished } from './survey.ts';
import { removeAnnotationsOfGone, removeOldDrills, removeOldVerifications, type Tidied } from './tidy.ts';

export interface CollectOptions {
  /** The caller's, of kind `sweep`, on every live backend. Undefined: a dry run, and nothing is changed. */
  run: BegunRun | undefined;
  signer: Signer;
  host: string;
  /** So long what is condemned is let be, by its time and the clock. */
  graceMs: number;
  /** Longer than a listing lags behind what was stored. */
  settleMs: number;
  /** So long unfinished runs are waited for. */
  waitMs: number;
  /** Bytes of packs that may be read to be rewritten. */
  repackBytes: number;
  /** Runs that a person knows to be over: the beginning of their ids, or the host they ran on. */
  presumeOver: readonly string[];
  /** Is asked of the snapshots that each look finds: what those need that storage lost or hides would look needless. */
  check: CheckSnapshots;
  /**
   * When this host first saw each of the condemned records that are there now, by its key; it is told of all of them. A record dated to come is as old as
   * that: its grace has an end. Default: only the records say.
   */
  firstSeen?: ((keys: readonly string[]) => ReadonlyMap<string, number>) | undefined;
}

export interface Collected {
  /** New in this run. */
  condemned: { packs: number; bytes: number };
  repacked: { packs: number; readBytes: number; storedBytes: number };
  /** Whose grace is over: what the sweep was about, or would be in a dry run. */
  due: { packs: number; bytes: number };
  deleted: Swept;
  /** What says nothing any more, and was taken away. */
  tidied: Tidied;
  /** Whose unfinished runs a deletion waits for. */
  waiting: Unfinished[];
  /** Of `presumeOver`, what fits no unfinished run. */
  presumedNothing: string[];
  /** What stays, on each backend: what snapshots need of it, and what is condemned and not deleted yet. */
  kept: { packs: number; bytes: number; neededBytes: number; condemnedPacks: number; condemnedBytes: number };
  /** Condemned records whose time is to come: a clock was wrong, or somebody who has the agent's key made them. */
  ahead: { key: string; time: string; host: string }[];
  /** What `level` met on the way. */
  levelled: Pick<Levelled, 'results' | 'problems'>;
}

export interface CollectSeams {
  clock: Clock;
  random: Random;
  progress: Progress;
  signal?: AbortSignal | undefined;
}

const NOTHING_SWEPT: Swept = { packs: 0, indexes: 0, bytes: 0, backends: {} };
const NOTHING_REPACKED: Repacked = { packs: [], spoiled: [], readBytes: 0, storedBytes: 0 };

/** So far clocks may differ before it is told. */
const AHEAD_MS = DAY_MS;

/** How often it is looked whether a run is over, where listings do not lag. */
const POLL_MS = 10_000;

/**
 * @throws `damaged` when anything that may name what is needed cannot be read from any backend: nothing is condemned or deleted then;
 *   `not_enough_backends`
 */
export async function collect(
  repository: Repository,
  options: CollectOptions,
  seams: CollectSeams,
): Promise<Collected> {
  const { run } = options;
  const doing: Doing = { isDeleting: false };
  try {
    return await collectAs(repository, options, seams, doing);
  } catch (error) {
    // Cut off in a deletion, it stays on record: what was sent may take effect yet. The next prune of this host says that it is over.
    if (run && !doing.isDeleting) await endRun(repository, run, seams.signal);
    throw error;
  }
}

interface Doing {
  isDeleting: boolean;
}

async function collectAs(
  repository: Repository,
  options: CollectOptions,
  seams: CollectSeams,
  doing: Doing,
): Promise<Collected> {
  const { run } = options;
  const { clock, signal, progress } = seams;
  progress({ type: 'phase', name: 'looking at the backends' });
  const levelled = run ? await level(repository, { run, packsOnly: true, signal }) : { results: [], problems: [] };
  const survey = new Survey(repository, options.check, signal);
  const lookAgain = () => survey.look({ clock, ms: options.settleMs });
  progress({ type: 'phase', name: 'marking what snapshots need' });
  await lookAgain();
  const { unfinished } = await survey.unfinished(run?.id);
  const others = unfinished.filter((one) => !isPresumedOver(one, options.presumeOver));

  const chosen = chooseToRepack(
    [...survey.use().values()].filter(({ info }) => !survey.condemnedPacks.has(info.id) && survey.isWhole(info)),
    options.repackBytes,
  );
  let repacked: Repacked = {
    ...NOTHING_REPACKED,
    packs: chosen.map(({ info }) => info.id),
    readBytes: sum(chosen.map(({ info }) => info.storedBytes)),
  };
  if (run && chosen.length > 0) {
    progress({ type: 'phase', name: 'repacking' });
    repacked = await repack(repository, survey, chosen, seams);
    await lookAgain();
  }
  const known = survey.condemnedPacks;
  const uses = survey.use(run ? [...repacked.packs, ...repacked.spoiled] : []);
  const going = [...uses.values()].filter(({ liveBytes, info }) => liveBytes === 0 && !known.has(info.id));
  const victims = new Map<PackId, number>(going.map(({ info }) => [info.id, info.storedBytes]));
  for (const id of [...repacked.packs, ...repacked.spoiled]) victims.set(id, uses.get(id)?.info.storedBytes ?? 0);
  // One that no index names may belong to a run that has not written its index yet.
  if (others.length === 0) for (const [id, size] of survey.orphans()) if (!known.has(id)) victims.set(id, size);
  const condemned = { packs: victims.size, bytes: sum(victims.values()) };
  if (run) {
    await condemnAll(repository, [...victims.keys()].toSorted(), options, seams);
    if (victims.size > 0) await lookAgain();
  }

  const seen = options.firstSeen?.(survey.condemned.map(({ key }) => key));
  const sinceMs = ({ key, record }: Condemned) => Math.min(Date.parse(record.time), seen?.get(key) ?? Infinity);
  const due = survey.condemned.filter((one) => sinceMs(one) + options.graceMs <= clock.now());
  const ahead = survey.condemned
    .filter(({ record }) => Date.parse(record.time) > clock.now() + AHEAD_MS)
    .map(({ key, record: { time, host } }) => ({ key, time, host }));
  const dueBytes = sizesOf(survey, new Set(due.flatMap(({ record }) => record.packs)));
  let deleted = NOTHING_SWEPT;
  const tidied: Tidied = { verifications: 0, annotations: 0, drills: 0 };
  let waiting: Unfinished[] = [];
  if (run && due.length > 0) {
    progress({ type: 'phase', name: 'waiting until listings have settled' });
    waiting = await settle(repository, survey, run, options, seams);
    if (waiting.length === 0) {
      progress({ type: 'phase', name: 'deleting' });
      await lookAgain();
      doing.isDeleting = true;
      const swept = stillThere(due, survey);
      deleted = await sweep(repository, survey, { ...options, run, due: swept }, seams);
      await lookAgain();
      tidied.annotations = await removeAnnotationsOfGone(repository, survey, swept, signal);
    }
  } else if (due.length > 0) waiting = others;
  if (run) {
    tidied.verifications = await removeOldVerifications(repository, survey, { nowMs: clock.now(), signal });
    tidied.drills = await removeOldDrills(repository, survey, { nowMs: clock.now(), signal });
    await removeRuns(repository, survey, { run, presumedOver: (one) => isPresumedOver(one, options.presumeOver) });
  }
  return {
    condemned,
    repacked: { packs: repacked.packs.length, readBytes: repacked.readBytes, storedBytes: repacked.storedBytes },
    due: { packs: dueBytes.length, bytes: sum(dueBytes) },
    deleted,
    tidied,
    waiting,
    presumedNothing: options.presumeOver.filter((name) => !unfinished.some((one) => isPresumedOver(one, [name]))),
    kept: keptOf(survey),
    ahead,
    levelled: { results: levelled.results, problems: levelled.problems },
  };
}

/**
 * Waits for as long as listings may lag, and for unfinished runs.
 * @returns those that are still not over; with none, whoever begins from now on sees what is condemned
 */
async function settle(
  repository: Repository,
  survey: Survey,
  run: BegunRun,
  { settleMs, waitMs, presumeOver }: CollectOptions,
  { clock, progress, signal }: CollectSeams,
): Promise<Unfinished[]> {
  const untilMs = clock.monotonic() + waitMs;
  for (;;) {
    // What is condemned shows to all who begin from now on; …
    await clock.sleep(settleMs, signal);
    const { unfinished, unsaid } = await survey.unfinished(run.id);
    const others = unfinished.filter((one) => !isPresumedOver(one, presumeOver));
    if (others.length === 0) {
      // One that is on after all finds its record gone before it ends with a snapshot, or has ended in time to be looked at.
      for (const { key } of unsaid) await repository.mirror.delete(key, { signal });
      // … and so does what those have left who began before.
      await clock.sleep(settleMs, signal);
      return [];
    }
    if (clock.monotonic() >= untilMs) return others;
    progress({
      type: 'phase',
      name: `waiting for an unfinished run on ${others[0]?.host ?? 'a host that is not known'}`,
    });
    if (settleMs < POLL_MS) await clock.sleep(Math.min(POLL_MS, untilMs - clock.monotonic()), signal);
  }
}

function stillThere(due: readonly Condemned[], survey: Survey): Condemned[] {
  const keys = new Set(survey.condemned.map(({ key }) => key));
  return due.filter(({ key }) => keys.has(key));
}

async function condemnAll(
  repository: Repository,
  packs: readonly PackId[],
  { host, signer }: CollectOptions,
  { clock, random, signal }: CollectSeams,
): Promise<void> {
  for (let at = 0; at < packs.length; at += CONDEMNED_PACKS_MAX) {
    const some = packs.slice(at, at + CONDEMNED_PACKS_MAX);
    const said = { time: timestamp(clock.now()), host, packs: some, snapshots: [] };
    await condemn(repository, said, signer, { random, signal });
  }
}

/** @param presumed beginnings of ids of eight digits or more, or names of hosts */
export function isPresumedOver({ run, host }: Pick<Unfinished, 'run' | 'host'>, presumed: readonly string[]): boolean {
  return presumed.some((one) => one === host || (/^[0-9a-f]{8,64}$/.test(one) && run.startsWith(one)));
}

/** Of those that any live backend lists. */
function sizesOf(survey: Survey, packs: ReadonlySet<PackId>): number[] {
  const sizes = new Map<string, number>();
  for (const objects of survey.listings.values())
    for (const id of packs) {
      const size = objects.get(packKey(id));
      if (size !== undefined) sizes.set(id, size);
    }
  return [...sizes.values()];
}

function keptOf(survey: Survey): Collected['kept'] {
  const known = survey.condemnedPacks;
  const present = new Map<string, number>();
  for (const objects of survey.listings.values())
    for (const [key, size] of objects) if (key.startsWith('packs/')) present.set(key, size);
  const condemned = sizesOf(survey, known);
  let neededBytes = 0;
  for (const { liveBytes } of survey.use().values()) neededBytes += liveBytes;
  const [condemnedPacks, condemnedBytes] = [condemned.length, sum(condemned)];
  return { packs: present.size, bytes: sum(present.values()), neededBytes, condemnedPacks, condemnedBytes };
}

const sum = (numbers: Iterable<number>): number => {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
};
