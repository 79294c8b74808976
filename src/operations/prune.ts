/** `prune`: deletes what no snapshot needs, in two steps with a grace between. */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import type { SigningKey } from '../identity/agent-key.ts';
import { collect, type Collected, type Repository, type Snapshot, type Unfinished } from '../repository/repository.ts';
import { agentKeyOf, openForRestore, type ExpectedRepository, type RestoreSecret } from './access.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from './backends.ts';
import { beginHostRun, type HostRun } from './begin-run.ts';
import { checkLogIsComplete } from './host/continuity.ts';
import { readFirstSeen, writeFirstSeen, type LocalFolders } from './host/local-state.ts';
import { takeLock } from './host/lock.ts';
import { checkAllShown, type Witnesses } from './host/rollback.ts';
import { secondsSince, type Seams } from './seams.ts';

export interface PruneOptions {
  backends: readonly BackendAddress[];
  /** Only manifests say what a snapshot needs, and only who restores can read them. */
  secret: RestoreSecret;
  expected?: ExpectedRepository | undefined;
  /** Of the repository of this id. */
  foldersOf: (repository: string) => LocalFolders;
  host: string;
  /** See `CollectOptions`; in milliseconds and bytes. */
  graceMs: number;
  settleMs: number;
  waitMs: number;
  repackBytes: number;
  presumeOver: readonly string[];
  /** Says what would go, and changes nothing. */
  dryRun: boolean;
}

export interface PruneResult {
  /** What is newly condemned: it is deleted by a later run, once its grace is over. In a dry run what would be. */
  condemned: { packs: number; bytes: number };
  repacked: { packs: number; readBytes: number; storedBytes: number };
  /** Condemned long enough ago to be deleted in this run. */
  due: { packs: number; bytes: number };
  /** `bytes` are those of all backends together; `locked`: its backend keeps them, out of sight, until their Object Lock is over. */
  deleted: { packs: number; indexes: number; bytes: number; byBackend: (DeletedOn & { name: string })[] };
  /** Records of verifications and drills, and annotations of what was forgotten, that said nothing any more. */
  tidied: Collected['tidied'];
  /** Whose unfinished backup the deletion waits for. */
  waiting: Pick<Unfinished, 'run' | 'host' | 'since' | 'kind'>[];
  kept: Collected['kept'];
  dryRun: boolean;
  warnings: Warning[];
  seconds: number;
  /** False when a backend was out of reach, or a deletion waits for somebody: exit code 3. */
  complete: boolean;
}

interface DeletedOn {
  packs: number;
  bytes: number;
  locked: boolean;
}

/**
 * @throws `damaged` when anything cannot be read that may name what is needed: nothing is deleted then; `busy`, `wrong_key`, `revoked`,
 *   `not_enough_backends`, …
 */
export async function prune(options: PruneOptions, seams: Seams): Promise<PruneResult> {
  const started = seams.clock.monotonic();
  const { secret, presumeOver, dryRun, host } = options;
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, secret, options.expected, seams);
  const folders = options.foldersOf(repository.id);
  using _lock = dryRun ? undefined : takeLock(folders.state, 'prune', 'prune');
  checkLogIsComplete(repository.log, mirror, folders);
  if (repository.state.entry.isRevoked) {
    throw new HoldfastError('revoked', "the agent's key was revoked: nothing it signs counts", {
      hint: 'Give the agent a new key with `holdfast identity rotate` and the recovery words.',
    });
  }
  const signer = await agentKeyOf(repository, secret, seams.signal);
  const run = dryRun ? undefined : await begin(repository, { folders, signer, host }, seams);
  const witnesses: Witnesses = { keys: new Set(), newest: null };
  const check = (snapshots: readonly Snapshot[]) =>
    checkAllShown(repository, snapshots, witnesses, { folders, done: 'nothing was deleted', signal: seams.signal });
  const { graceMs, settleMs, waitMs, repackBytes } = options;
  const firstSeen = (keys: readonly string[]) => {
    const known = readFirstSeen(folders);
    const seen = new Map(keys.map((key) => [key, known[key] ?? seams.clock.now()]));
    if (!dryRun) writeFirstSeen(folders, seen);
    return seen;
  };
  const collected = await collect(
    repository,
    { run, signer, host, presumeOver, check, firstSeen, ...{ graceMs, settleMs, waitMs, repackBytes } },
    seams,
  );
  const { condemned, repacked, due, deleted, tidied, waiting, kept, ahead, levelled } = collected;
  const isLocked = new Map(mirror.live().map(({ name, backend }) => [name, backend.lock !== undefined]));
  const byBackend = Object.entries(deleted.backends).map(([name, gone]) => {
    return { name, ...gone, locked: isLocked.get(name) ?? false };
  });
  const warnings: Warning[] = [
    ...levelled.results.flatMap(({ name, skipped }) =>
      skipped.length > 0 ? [notLevel(name, skipped.length, skipped[0] ?? '')] : [],
    ),
    ...levelled.problems.map(({ key, error }) => ({
      code: 'lost',
      message: `${key}: ${error.message}`,
      incomplete: true,
    })),
    ...waiting.map(waitingWarning),
    ...ahead.map(({ key, time, host: by }) => ({
      code: 'dated_ahead',
      message: `${key}, of host ${by}, is dated to come (${time}): its grace counts from when this host first saw it; if no clock was wrong there, somebody else may have the agent's key`,
    })),
    ...collected.presumedNothing.map((name) => ({
      code: 'presumed_nothing',
      message: `--presume-over ${name}: no unfinished run has an id that begins so, or is of a host of that name`,
    })),
    ...mishapWarnings(mirror),
    ...failedBackendWarnings(mirror, { incomplete: true }),
  ];
  return {
    ...{ condemned, repacked, due },
    deleted: { packs: deleted.packs, indexes: deleted.indexes, bytes: deleted.bytes, byBackend },
    tidied,
    waiting: waiting.map(({ run: id, host: of, since, kind }) => ({ run: id, host: of, since, kind })),
    ...{ kept, dryRun, warnings },
    seconds: secondsSince(seams.clock, started),
    complete: !warnings.some(({ incomplete }) => incomplete),
  };
}

/** Backups and the like of this host are kept out only until it is on record that this prune runs: it may take long. */
async function begin(
  repository: Repository,
  said: { folders: LocalFolders; signer: SigningKey; host: string },
  seams: Seams,
): Promise<HostRun> {
  using _lock = takeLock(said.folders.state, 'run (a backup, sync, forget or repair)');
  try {
    return await beginHostRun(repository, { ...said, kind: 'sweep' }, seams);
  } catch (cause) {
    if (!isHoldfastError(cause, 'not_enough_backends')) throw cause;
    throw new HoldfastError(cause.code, `nothing was deleted: ${cause.message}`, {
      hint: 'Prune stores about a kilobyte before it may delete. On a full disk make a little room first, but not by deleting objects: docs/prune.md, "A full disk".',
      cause,
    });
  }
}

function notLevel(name: string, count: number, first: string): Warning {
  const message = `backend ${name} has ${count} object${count > 1 ? 's' : ''} not, or not whole (${first}): holdfast verify --repair`;
  return { code: 'not_level', message, incomplete: true };
}

function waitingWarning({ run, host, since, kind }: Unfinished): Warning {
  const id = run.slice(0, 8);
  const whose =
    host === null
      ? `a run whose record ${id} cannot be read`
      : `the ${kind === 'sweep' ? 'prune' : 'backup'} of host ${host} that began ${since}`;
  return {
    code: 'waiting',
    message: `nothing was deleted: ${whose} is not finished, and may rely on what is condemned; the next ${kind === 'sweep' ? 'prune' : 'backup'} of that host ends it, or, if you know that it does not run any more: holdfast prune --presume-over ${id}`,
    incomplete: true,
  };
}
