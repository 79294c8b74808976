/** `forget`: deletes snapshots that no rule keeps. What they alone needed stays until `prune` takes it, and until then they can be put back. */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { drain, inLanes } from '../drain.ts';
import type { SigningKey } from '../identity/agent-key.ts';
import { CONDEMNED_SNAPSHOT_BYTES_MAX, RECORDS_IN_FLIGHT } from '../limits.ts';
import {
  checkStored,
  condemn,
  openRepository,
  readAnnotations,
  readCondemned,
  selectSnapshot,
  timestamp,
  whatIsSaid,
  type Access,
  type Annotation,
  type Condemned,
  type CondemnedId,
  type CondemnedRecord,
  type Repository,
  type Snapshot,
  type SnapshotId,
} from '../repository/repository.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from './backends.ts';
import { checkLogIsComplete, checkNotRevoked } from './host/continuity.ts';
import { ForgottenMarks } from './host/forgotten-marks.ts';
import type { LocalFolders } from './host/local-state.ts';
import { takeLock } from './host/lock.ts';
import { unreadable } from './looking/open-look.ts';
import {
  alwaysKept,
  hasRules,
  judgeRetention,
  PROTECTED,
  type Always,
  type KeepRules,
  type Reason,
  type Retainable,
} from './retention.ts';
import { missedHere } from './host/rollback.ts';
import { secondsSince, type Seams } from './seams.ts';
import { heldBySuspicion } from './saving/suspicion.ts';

/**
 * So long the condemned record of a run that was cut off serves the next one. The grace begins with the record: in an older one it may be over any moment,
 * and with it the time in which what is forgotten now can be put back.
 */
const USED_AGAIN_MS = 3_600_000;

export interface ForgetOptions {
  backends: readonly BackendAddress[];
  access: Access;
  /** The agent's key. */
  signer: SigningKey;
  folders: LocalFolders;
  host: string;
  /** These go, and no others, whatever the rules say; as `selectSnapshot` takes them. None: the rules decide. */
  snapshots: readonly string[];
  rules: KeepRules;
  /** Tags that protect. */
  protect: readonly string[];
  timeZone?: string | undefined;
  /** Nothing is changed: the result is what would be. */
  dryRun: boolean;
}

export interface SnapshotName {
  id: SnapshotId;
  seq: number;
  time: string;
}

export interface ForgetResult {
  dryRun: boolean;
  /** Oldest first, both. */
  kept: (SnapshotName & { reasons: Reason[] })[];
  forgotten: SnapshotName[];
  /** Ids of the records from which they can be put back, see `undoForget`. */
  records: CondemnedId[];
  backends: BackendState[];
  warnings: Warning[];
  seconds: number;
  /** False when a backend still has what was forgotten: it comes back from there with the next `sync` or `backup`. */
  complete: boolean;
}

export interface BackendState {
  name: string;
  /** `unchanged` in a dry run. */
  state: 'done' | 'failed' | 'unchanged';
  error?: { code: string; message: string; hint?: string };
}

/**
 * @throws `usage` without a rule or a name, and for a name whose snapshot stays; `damaged` when a snapshot or an annotation cannot be read from any
 *   backend, for it may be what protects or holds others; `not_enough_backends` when none lets delete; `busy`, `revoked`, …
 */
export async function forget(options: ForgetOptions, seams: Seams): Promise<ForgetResult> {
  const started = seams.clock.monotonic();
  const { clock, signal, progress } = seams;
  const { dryRun } = options;
  if (options.snapshots.length === 0 && !hasRules(options.rules)) throw noRules();
  using _lock = dryRun ? undefined : takeLock(options.folders.state, 'backup, sync or forget');
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openRepository(mirror, options.access, seams);
  checkLogIsComplete(repository.log, mirror, options.folders);
  checkNotRevoked(repository);
  progress({ type: 'phase', name: 'looking at the snapshots' });
  const { snapshots, annotations, rows, warnings } = await lookAt(repository, signal);
  const missing = missedHere(snapshots, annotations, options.folders);
  if (missing !== undefined) {
    throw new HoldfastError('damaged', `${missing}: nothing was forgotten`, {
      hint: 'Rules may be wrong about what is left. Bring it back: a backend that is away, with `holdfast sync`; what is lost for good: `holdfast repair --forget-damaged`.',
    });
  }
  const reasons = verdicts(options, snapshots, rows, clock.now());
  const goes = snapshots.filter(({ id }) => reasons.get(id)?.length === 0);
  warnings.push(...futureWarnings(rows, clock.now()));
  const records: CondemnedId[] = [];
  if (!dryRun && goes.length > 0) {
    progress({ type: 'phase', name: 'forgetting' });
    records.push(...(await condemnAll(repository, goes, options, seams)));
    const marks = new ForgottenMarks(repository, annotations, options, seams);
    // The first shows whether this host may delete at all. Where it may not, no more than this one is said to be forgotten.
    for (const some of [goes.slice(0, 1), goes.slice(1)]) {
      await marks.add(some, snapshots);
      await deleteAll(repository, some, signal);
    }
    await marks.dropOld();
  }
  warnings.push(
    ...mishapWarnings(mirror),
    ...failedBackendWarnings(mirror, { incomplete: true }),
    ...(dryRun || goes.length === 0 ? [] : comesBackWarnings(repository)),
  );
  const name = ({ id, record: { seq, time } }: Snapshot): SnapshotName => ({ id, seq, time });
  return {
    dryRun,
    kept: snapshots
      .filter((one) => !goes.includes(one))
      .map((one) => ({ ...name(one), reasons: reasons.get(one.id) ?? [] })),
    forgotten: goes.map(name),
    records,
    backends: backendStates(repository).map((one) =>
      dryRun && one.state === 'done' ? { ...one, state: 'unchanged' } : one,
    ),
    warnings,
    seconds: secondsSince(clock, started),
    complete: !warnings.some(({ incomplete }) => incomplete),
  };
}

/** All snapshots, in the order of their numbers, and what was said of them. @throws `damaged` when one of either cannot be read */
async function lookAt(
  repository: Repository,
  signal: AbortSignal | undefined,
): Promise<{ snapshots: Snapshot[]; annotations: Annotation[]; rows: Retainable[]; warnings: Warning[] }> {
  const { snapshots, problems } = await repository.snapshots(signal);
  const { annotations, problems: unsaid } = await readAnnotations(repository, undefined, signal);
  // What the agent did not sign says nothing. What is damaged may be what holds or protects others.
  const isForged = ({ error }: { error: HoldfastError }) => error.code === 'forged';
  const lost = [...problems, ...unsaid].filter((problem) => !isForged(problem));
  if (lost[0]) {
    const others = lost.length > 1 ? `, nor can ${lost.length - 1} more` : '';
    throw new HoldfastError('damaged', `${lost[0].key} cannot be read${others}: nothing was forgotten`, {
      hint: 'It may be what holds or protects others. See `holdfast verify`, and repair it first.',
      cause: lost[0].error,
    });
  }
  const seen = snapshots.map((snapshot) => {
    const { tags, isAcknowledged } = whatIsSaid(snapshot, annotations);
    return { snapshot, tags, isAcknowledged, isSuspicious: (snapshot.record.suspicious?.length ?? 0) > 0 };
  });
  const held = heldBySuspicion(seen.map(({ snapshot, ...rest }) => ({ id: snapshot.id, ...rest })));
  const rows = seen.map(({ snapshot: { id, record }, tags }) => {
    return { id, seq: record.seq, timeMs: Date.parse(record.time), tags, isHeld: held.has(id) };
  });
  const warnings = [
    ...unreadable('snapshot_damaged', problems.filter(isForged)),
    ...unreadable('annotation_damaged', unsaid.filter(isForged)),
  ];
  return { snapshots, annotations, rows, warnings };
}

/** Why each stays; those that go have no reason. */
function verdicts(
  options: ForgetOptions,
  snapshots: readonly Snapshot[],
  rows: readonly Retainable[],
  nowMs: number,
): Map<SnapshotId, Reason[]> {
  const asked = { nowMs, protect: options.protect, timeZone: options.timeZone };
  if (options.snapshots.length === 0) return judgeRetention(rows, options.rules, asked);
  const candidates = snapshots.map(({ id, key, record: { time } }, i) => {
    return { id, key, row: rows[i], record: { time, tags: rows[i]?.tags ?? [] } };
  });
  const named = new Set<SnapshotId>();
  for (const selector of options.snapshots) {
    const { id, row } = selectSnapshot(selector, candidates, [], nowMs).snapshot;
    // One that is dated to come may be what somebody wants to be rid of.
    const [why] = row ? alwaysKept(row, rows, asked).filter((reason) => reason !== 'future') : [];
    if (why !== undefined) throw mayNotGo(id, why);
    named.add(id);
  }
  return new Map(
    rows.map((row) => {
      const always = alwaysKept(row, rows, asked);
      return [row.id, named.has(row.id) ? [] : always.length > 0 ? always : ['not named']];
    }),
  );
}

/**
 * Puts the objects of the snapshots into condemned records on every live backend, unless a run that did not come to its end has just done so.
 * @returns the ids of the records that hold them
 */
async function condemnAll(
  repository: Repository,
  goes: readonly Snapshot[],
  { signer, host }: Pick<ForgetOptions, 'signer' | 'host'>,
  seams: Seams,
): Promise<Set<CondemnedId>> {
  const { signal } = seams;
  const timeMs = Math.max(seams.clock.now(), repository.state.entry.inForceFromMs);
  const { condemned } = await readCondemned(repository, undefined, signal);
  const recent = condemned.filter(({ record }) => Math.abs(timeMs - Date.parse(record.time)) < USED_AGAIN_MS);
  const holders = new Map(recent.flatMap((one) => one.record.snapshots.map(({ key }) => [key, one] as const)));
  const used = new Set<CondemnedId>();
  const useAgain = async ({ id, key }: Condemned) => {
    if (used.has(id)) return;
    // It may be on some of the backends only.
    const object = await storedObject(repository, key, signal);
    await repository.mirror.put(key, object, { ifAbsent: true, signal });
    used.add(id);
  };
  const time = timestamp(timeMs);
  let snapshots: CondemnedRecord['snapshots'] = [];
  let bytes = 0;
  const flush = async () => {
    if (snapshots.length > 0)
      used.add((await condemn(repository, { time, host, packs: [], snapshots }, signer, seams)).id);
    [snapshots, bytes] = [[], 0];
  };
  for (const { key } of goes) {
    const holder = holders.get(key);
    if (holder) await useAgain(holder);
  }
  const wanted = goes.filter(({ key }) => !holders.has(key));
  for (let at = 0; at < wanted.length; at += RECORDS_IN_FLIGHT) {
    const objects = await inLanes(wanted.slice(at, at + RECORDS_IN_FLIGHT), RECORDS_IN_FLIGHT, async ({ key }) => {
      return { key, object: await storedObject(repository, key, signal) };
    });
    for (const { key, object } of objects) {
      if (bytes + object.length > CONDEMNED_SNAPSHOT_BYTES_MAX) await flush();
      snapshots.push({ key, object: Buffer.from(object).toString('base64') });
      bytes += object.length;
    }
  }
  await flush();
  return used;
}

/** The bytes of a snapshot or a condemned record, as the first backend has them that has them whole. */
function storedObject(repository: Repository, key: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const check = async (bytes: Uint8Array) => {
    await checkStored(repository, key, bytes);
    return bytes;
  };
  return repository.mirror.read(key, check, { signal });
}

/** A backend that refuses is out of the run. @throws `not_enough_backends` when all refuse */
async function deleteAll(
  { mirror }: Repository,
  snapshots: readonly Snapshot[],
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await drain([...snapshots], RECORDS_IN_FLIGHT, ({ key }) => mirror.delete(key, { signal }));
  } catch (cause) {
    if (!isHoldfastError(cause, 'not_enough_backends')) throw cause;
    throw new HoldfastError(cause.code, cause.message, {
      hint: 'A host that may not delete, as is best, leaves it to a machine that may, and has `schedule: {forget: off}`: docs/retention.md.',
      cause,
    });
  }
}

function noRules(): HoldfastError {
  return new HoldfastError('usage', 'there is no rule that says which snapshots to keep', {
    hint: 'Write `retention: {daily: 7, weekly: 5, monthly: 12}` in the config, or give --keep-daily 7 and the like; --dry-run shows what it does.',
  });
}

function mayNotGo(id: SnapshotId, why: Exclude<Always, 'future'>): HoldfastError {
  const name = id.slice(0, 8);
  const [what, hint] = {
    newest: ['is the newest one', 'The newest snapshot always stays: make another one first.'],
    held: [
      'is held: it may be the last that is whole, for a suspicious one came after it, or it is suspicious itself',
      'Look with `holdfast snapshots`; if all is well: holdfast snapshots acknowledge ID',
    ],
    protected: [
      'is protected by a tag',
      `Take the tag away first: holdfast snapshots tag ${name} --remove ${PROTECTED} (or that of \`retention.protect\`)`,
    ],
  }[why] as [string, string];
  return new HoldfastError('usage', `snapshot ${name} ${what}: nothing was forgotten`, { hint });
}

function futureWarnings(rows: readonly Retainable[], nowMs: number): Warning[] {
  return rows
    .filter(({ timeMs }) => timeMs > nowMs)
    .map(({ id, timeMs }) => ({
      code: 'future',
      message: `snapshot ${id.slice(0, 8)} is dated ${timestamp(timeMs)}, which by the clock of this host is to come: it stays, and no rule counts it`,
    }));
}

/** @param done what was done there, for people */
export function comesBackWarnings({ mirror }: Repository, done = 'forgotten'): Warning[] {
  const names = mirror.states().flatMap(({ name, error }) => (error ? [name] : []));
  if (names.length === 0) return [];
  const where = `backend${names.length > 1 ? 's' : ''} ${names.join(', ')}`;
  return [
    {
      code: 'comes_back',
      message: `what ${where} still ${names.length > 1 ? 'have' : 'has'} comes back from there with the next backup or sync, until it is ${done} there too`,
      incomplete: true,
    },
  ];
}

export function backendStates({ mirror }: Repository): BackendState[] {
  return mirror.states().map(({ name, error }) => {
    if (!error) return { name, state: 'done' };
    const { code, message, hint } = error;
    return { name, state: 'failed', error: { code, message, ...(hint === undefined ? {} : { hint }) } };
  });
}
