/** `verify`: is what the backends hold what was written? What was found is remembered, so that a part of it at a time covers everything in time. */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { hex } from '../crypto/hash.ts';
import type { SigningKey } from '../identity/agent-key.ts';
import {
  heal,
  packKey,
  packPrefixes,
  parseKey,
  readVerified,
  REPOSITORY_KEY,
  scrub,
  storeVerified,
  timestamp,
  type Budget,
  type Damage,
  type HealResult,
  type Loss,
  type Repository,
  type ScrubLevel,
  type ScrubOptions,
  type ScrubResult,
  type SnapshotId,
} from '../repository/repository.ts';
import type { Profile } from '../state/profile.ts';
import { aboutBackend, type BackendAddress } from './backends.ts';
import { confidenceOf, type Confidence, type Coverage } from './coverage.ts';
import type { LocalFolders } from './host/local-state.ts';
import { openToVerify, remembered, type Remembered, type VerifyAccess } from './open-verifying.ts';
import { findRollback } from './host/rollback.ts';
import { secondsSince, type Seams } from './seams.ts';
import type { ReadLevel } from './host/verified-memory.ts';
import { checkByRestoring, requireScratch, type RestoreCheck } from './restoring/verify-restore.ts';

/** `restore`: besides the listing, a snapshot is restored from each backend alone, compared, and thrown away; needs the restore key. */
export type VerifyLevel = ScrubLevel | 'restore';

export interface VerifyOptions {
  backends: readonly BackendAddress[];
  /** The writer's key serves for `listing` and `objects`; deeper levels need the restore key, with which damage is also told as paths. */
  access: VerifyAccess;
  level: VerifyLevel;
  /** Store again what is damaged or missing on a backend and whole on another. */
  repair?: boolean | undefined;
  /** Packs that were found whole at this level or a deeper one so many milliseconds ago, or less, are passed over. */
  maxAgeMs?: number | undefined;
  /** Stop in an orderly way once it is used up. What was looked at longest ago comes first. */
  budget?: Budget | undefined;
  /** Where what was found is remembered; nowhere without. */
  folders?: LocalFolders | undefined;
  /** The agent's key: with it what was found is stored on the backends too, for other hosts. */
  signer?: SigningKey | undefined;
  host?: string | undefined;
  /** For `restore`: which snapshot (default: latest), and the folder in which it is restored (default: that of the cache). */
  snapshot?: string | undefined;
  scratch?: string | undefined;
  profile?: Profile | undefined;
}

export interface VerifyResult {
  level: VerifyLevel;
  objects: number;
  bytes: number;
  damaged: Damage[];
  /** What of it is whole on another backend, and what is lost; after a repair, what is left of that. */
  loss: Loss;
  /** What is known to be lost, and was given up: it is no damage any more. */
  knownLoss: { snapshot: SnapshotId; whole: boolean; files: number; bytes: number; since: string }[];
  /** How much of the packs was read; null at levels that read none. */
  coverage: Coverage | null;
  /** What a run that read a part of the packs says of all; null when all were read. */
  confidence: Confidence | null;
  /** Restores that were compared (level `restore`). */
  restored: RestoreCheck[];
  /** Key of the signed record of this run on the backends; null when there is none. */
  recorded: string | null;
  /** Backends that could not be looked at, among others. */
  warnings: Warning[];
  seconds: number;
  complete: boolean;
}

/** @throws `usage` for what goes with another level only, `wrong_key`, `no_repository`, … */
export async function verify(options: VerifyOptions, seams: Seams): Promise<VerifyResult> {
  const started = seams.clock.monotonic();
  const beganMs = seams.clock.now();
  const { level } = options;
  const readLevel: ReadLevel | undefined = level === 'objects' || level === 'chunks' ? level : undefined;
  if (!readLevel && (options.maxAgeMs !== undefined || options.budget)) {
    throw new HoldfastError('usage', `--max-age and --budget are for levels that read packs, and ${level} is none`, {
      hint: 'Give --level objects or --level chunks.',
    });
  }
  await using opened = await openToVerify(options.backends, options.access, { repair: options.repair ?? false }, seams);
  const { mirror, repository } = opened;
  const warnings: Warning[] = [];
  const { memory, placeOf, how } = remembered(options, seams);
  let recordKeys: string[] | undefined;
  if (memory && readLevel) {
    const { records, keys } = await readVerified(repository, (key) => !memory.knows(key), seams.signal);
    for (const record of records) memory.learn(record, beganMs);
    recordKeys = keys;
  }
  const lastWhole = (name: string, pack: string): number | undefined => {
    const lastMs = memory?.lastWhole(placeOf(name), pack, readLevel ?? 'objects');
    return lastMs !== undefined && lastMs <= beganMs ? lastMs : undefined;
  };
  const scrubOptions: ScrubOptions = {
    ...how,
    level: level === 'restore' ? 'listing' : level,
    lastWhole,
    freshFromMs: options.maxAgeMs === undefined ? undefined : beganMs - options.maxAgeMs,
    budget: options.budget,
  };
  seams.progress({ type: 'phase', name: 'verifying' });
  const found = await scrub(repository, scrubOptions);
  const rollback = findRollback(repository, found, options.folders, allThere(repository));
  warnings.push(...rollback.warnings, ...unreadWarnings(found));
  found.damaged.push(...rollback.damaged);
  const loss = options.repair ? await repairAll(repository, found, scrubOptions, warnings) : found.loss;
  const damaged = [...opened.damaged, ...found.damaged];
  let restored: RestoreCheck[] = [];
  if (level === 'restore') {
    const checked = await restoreLevel(repository, found, options, seams);
    restored = checked.restored;
    damaged.push(...checked.damaged);
    warnings.push(...checked.warnings);
  }
  const isWhole = mirror.states().every(({ state }) => state === 'ok');
  notLookedAt(repository, damaged, warnings);

  if (memory) {
    for (const [name, packs] of found.packs.whole)
      memory.noteWhole(placeOf(name), packs, readLevel ?? 'objects', beganMs);
    for (const { backend, key, problem, repaired } of damaged) {
      const name = parseKey(key);
      const place = placeOf(backend);
      // What was not read again is as it was found before.
      if (name?.kind !== 'pack' || repaired || found.packs.toldBefore.get(backend)?.has(name.id)) continue;
      const isInside = found.packs.wrongInside.has(name.id);
      memory.noteDamaged(place, name.id, { problem, timeMs: beganMs, isInside });
    }
  }
  const { coverage, confidence } = readLevel
    ? coverageOf(found, { lastWhole, damaged, ...options, beganMs })
    : { coverage: null, confidence: null };
  const recorded =
    isWhole && (readLevel || level === 'restore' || damaged.length > 0)
      ? await record(repository, found, { ...options, damaged, beganMs, placeOf }, warnings, seams)
      : null;
  const isChanged = readLevel !== undefined || damaged.length > 0 || found.packs.read > 0;
  if (memory && isChanged && !memory.save(recorded === null ? recordKeys : [...(recordKeys ?? []), recorded]))
    warnings.push({
      code: 'state_not_saved',
      message: 'what was verified is not remembered: the next run begins anew',
    });
  return {
    ...{ level, objects: found.objects, bytes: found.bytes, damaged, loss },
    knownLoss: [...found.known].map(([snapshot, { whole, files, bytes, time }]) => {
      return { snapshot, whole, files, bytes, since: time };
    }),
    ...{ coverage, confidence, restored, recorded, warnings },
    seconds: secondsSince(seams.clock, started),
    complete: !warnings.some(({ incomplete }) => incomplete),
  };
}

const allThere = ({ mirror }: Repository): boolean => mirror.states().every(({ state }) => state === 'ok');

/** What no backend let be read, and backends that have what was forgotten on the others. */
export function unreadWarnings({ unread, behind }: Pick<ScrubResult, 'unread' | 'behind'>): Warning[] {
  const names = new Set(behind.map(({ backend }) => backend));
  return [
    ...unread.map(({ backend, key, problem }) => ({
      code: 'not_read',
      message: `not verified: ${key} on backend ${backend}: ${problem}`,
      incomplete: true,
    })),
    ...[...names].map((name) => ({
      code: 'forgotten_behind',
      message: `backend ${name} still has what was forgotten on others while it was away (${behind.filter(({ backend }) => backend === name).length} objects): \`holdfast sync\` makes them alike, and what comes back by it goes with the next forget`,
      incomplete: true,
    })),
  ];
}

/** Backends of which nothing, or not everything, was looked at. */
export function notLookedAt({ mirror }: Repository, damaged: Damage[], warnings: Warning[]): void {
  for (const { name, error } of mirror.states()) {
    if (!error) continue;
    const isTold = damaged.some(({ backend, key }) => backend === name && key === REPOSITORY_KEY);
    // What it is is damaged: none of it was looked at, and none of it serves.
    if (isHoldfastError(error, 'damaged', 'forged') && !isTold) {
      damaged.push({
        ...{ backend: name, key: REPOSITORY_KEY, problem: error.message, snapshots: [], paths: [] },
        ...{
          means: 'the backend serves for nothing',
          elsewhere: mirror.live().map((one) => one.name),
          unread: [],
          repaired: false,
        },
      });
    }
    const message = `not verified: ${aboutBackend(name, error)}`;
    warnings.push({ code: 'backend_failed', message, incomplete: true });
  }
}

/**
 * Stores again what another backend has whole, until nothing is found or nothing more can be done: an index that is whole again may show packs that
 * are missing. What was found whole is not read again.
 * @returns what is left
 */
export async function repairAll(
  repository: Repository,
  found: ScrubResult,
  options: ScrubOptions,
  warnings: Warning[],
): Promise<Loss> {
  const { damaged } = found;
  const known = new Set<string>(found.packs.ids);
  const idOf = ({ backend, key }: Pick<Damage, 'backend' | 'key'>) => `${backend} ${key}`;
  let loss = found.loss;
  for (let todo = damaged.filter(({ repaired }) => !repaired); todo.length > 0;) {
    const failed = await repair(repository, todo, options.signal);
    const wasDamaged = new Set(damaged.map(idOf));
    // What was thought to be whole elsewhere may not be.
    const failedKeys = new Set(failed.map(({ key }) => key));
    const left = await scrub(repository, {
      ...options,
      budget: undefined,
      freshFromMs: undefined,
      mustRead: (pack) => failedKeys.has(packKey(pack)),
      isDue: (backend, pack) => !known.has(pack) || wasDamaged.has(idOf({ backend, key: packKey(pack) })),
    });
    for (const [name, packs] of left.packs.whole) for (const pack of packs) found.packs.whole.get(name)?.add(pack);
    for (const pack of left.packs.ids) known.add(pack);
    const stillBad = new Map(left.damaged.map((one) => [idOf(one), one]));
    for (const one of damaged) {
      const again = stillBad.get(idOf(one));
      if (parseKey(one.key) || one.key === 'index/') one.repaired = !again;
      if (again) [one.elsewhere, one.unread] = [again.elsewhere, again.unread];
      // It came from there: it was read.
      else if (one.elsewhere.length === 0 && one.unread.length === 1)
        [one.elsewhere, one.unread] = [one.unread, one.elsewhere];
    }
    todo = left.damaged.filter((one) => !wasDamaged.has(idOf(one)));
    damaged.push(...todo);
    loss = left.loss;
    for (const { backend, key, error } of failed)
      warnings.push({
        code: 'not_healed',
        message: `${key} on backend ${backend} could not be repaired: ${error.message}`,
      });
  }
  return loss;
}

/** Stores again what another backend has whole. @returns what could not be */
async function repair(
  repository: Repository,
  damaged: readonly Damage[],
  signal: AbortSignal | undefined,
): Promise<HealResult['failed']> {
  const live = repository.mirror.live().map(({ name }) => name);
  const mishaps = damaged.map(({ backend, key, problem }) => ({
    ...{ backend, key, problem, error: new HoldfastError('damaged', problem) },
    servedBy: live.find((name) => name !== backend),
  }));
  return (await heal(repository, mishaps, signal)).failed;
}

function restoreLevel(repository: Repository, found: ScrubResult, options: VerifyOptions, seams: Seams) {
  const { access, profile } = options;
  if (access.kind === 'writer') throw new HoldfastError('missing_key', 'restoring needs the restore secret');
  const isMissing = (backend: string, key: string) =>
    found.damaged.some((one) => one.backend === backend && one.key === key && !one.repaired);
  return checkByRestoring(
    repository,
    (backend, key) => !isMissing(backend, key),
    {
      secret: access.secret,
      expected: access.expected,
      snapshot: options.snapshot ?? 'latest',
      scratch: requireScratch(options.scratch ?? options.folders?.cache),
      profile,
    },
    seams,
  );
}

/** How much has been verified by now, and when. */
function coverageOf(
  { packs, accounted }: ScrubResult,
  how: {
    lastWhole: (backend: string, pack: string) => number | undefined;
    damaged: readonly Damage[];
    beganMs: number;
    maxAgeMs?: number | undefined;
  },
): { coverage: Coverage; confidence: Confidence | null } {
  const { damaged, beganMs, maxAgeMs } = how;
  const bad = new Set(damaged.flatMap(({ backend, key, repaired }) => (repaired ? [] : [`${backend} ${key}`])));
  let [verified, withinMaxAge, oldestMs] = [0, 0, Infinity];
  for (const [name, whole] of packs.whole)
    for (const pack of packs.ids) {
      const ms = whole.has(pack) ? beganMs : how.lastWhole(name, pack);
      if (ms === undefined || bad.has(`${name} ${packKey(pack)}`)) continue;
      verified++;
      oldestMs = Math.min(oldestMs, ms);
      if (maxAgeMs === undefined ? whole.has(pack) : ms >= beganMs - maxAgeMs) withinMaxAge++;
    }
  const { total, read, left } = packs;
  const oldest = verified === total && total > 0 ? timestamp(oldestMs) : null;
  const snapshots = { accounted: accounted.done, total: accounted.total };
  return {
    coverage: { verified, total, oldest, withinMaxAge, read, left, snapshots },
    confidence: left > 0 ? (confidenceOf(packs) ?? null) : null,
  };
}

/** So many packs a record names at most: what is more is remembered on this host only. */
const COVERED_MAX = 500_000;
const DAMAGED_TOLD = 1000;

/** Stores what was found on the backends, where this host has the agent's key. @returns the key of the object */
async function record(
  repository: Repository,
  found: ScrubResult,
  run: VerifyOptions & { damaged: readonly Damage[]; beganMs: number; placeOf: Remembered['placeOf'] },
  warnings: Warning[],
  seams: Seams,
): Promise<string | null> {
  const { signer, damaged, placeOf } = run;
  const { keys, state, mirror } = repository;
  if (!signer || hex(signer.publicKey) !== keys.agent.publicKey || state.entry.isRevoked) return null;
  const backends = mirror.live().map(({ name }) => ({ name, place: placeOf(name) }));
  const sets = new Map<string, string[]>();
  for (const pack of found.packs.ids) {
    const on = backends.flatMap(({ name }, number) => (found.packs.whole.get(name)?.has(pack) ? [number] : []));
    if (on.length === 0) continue;
    const set = sets.get(on.join());
    if (set) set.push(pack);
    else sets.set(on.join(), [pack]);
  }
  let room = COVERED_MAX;
  const covered = [...sets].map(([on, packs]) => {
    const named = packs.slice(0, room);
    room -= named.length;
    return { backends: on.split(',').map(Number), packs: packPrefixes(named) };
  });
  try {
    return await storeVerified(
      repository,
      {
        // A clock that was set back must not date it to before the key that signs it.
        time: timestamp(Math.max(run.beganMs, state.entry.inForceFromMs)),
        host: run.host ?? '',
        ...{ level: run.level, backends, objects: found.objects, bytes: found.bytes, covered },
        damaged: damaged
          .slice(0, DAMAGED_TOLD)
          .map(({ backend, key, problem, repaired }) => ({ backend, key, problem, repaired })),
        newest: found.newest,
      },
      signer,
      seams,
    );
  } catch (error) {
    if (!isHoldfastError(error, 'not_enough_backends', 'backend_unavailable')) throw error;
    warnings.push({ code: 'not_recorded', message: `the result is remembered on this host only: ${error.message}` });
    return null;
  }
}
