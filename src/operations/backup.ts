/** `backup`: one snapshot of the state to all backends. */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError, isSurvivable } from '../errors.ts';
import type { Mirror } from '../backend/mirror.ts';
import { hex } from '../crypto/hash.ts';
import type { SigningKey } from '../identity/agent-key.ts';
import type { WriterKey } from '../identity/writer-key.ts';
import {
  checkRun,
  FORMAT_VERSION,
  hasNewReader,
  level,
  openRepository,
  SPECIAL_FILES,
  timestamp,
  type Finding,
  type KeyLog,
  type Snapshot,
  type SnapshotId,
} from '../repository/repository.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from './backends.ts';
import { beginHostRun } from './begin-run.ts';
import { catchUp, patienceAtStart } from './saving/catch-up.ts';
import { checkLogIsComplete, findParent, pendingChangeWarnings, seen } from './host/continuity.ts';
import type { HookResult, Hooks } from './hooks.ts';
import { readPast, rememberSnapshot } from './saving/history.ts';
import { readLocalState, writeLocalState, type LocalFolders } from './host/local-state.ts';
import { takeLock } from './host/lock.ts';
import type { SecretCount } from './saving/secret-manifest.ts';
import { TreeSaver, type StateOptions } from './saving/save-tree.ts';
import { secondsSince, type Seams } from './seams.ts';
import { DEFAULT_THRESHOLDS, judge, type Past, type Thresholds } from './saving/suspicion.ts';

export interface BackupOptions {
  backends: readonly BackendAddress[];
  writerKey: WriterKey;
  /** The agent's key: it signs the snapshot. */
  signer: SigningKey;
  state: StateOptions;
  /** How many backends must hold the snapshot for the run to be complete. */
  require: number;
  tags: readonly string[];
  note?: string | undefined;
  /** When a snapshot is suspicious; false: never. Default: `DEFAULT_THRESHOLDS`. */
  suspicion?: Thresholds | false | undefined;
  host: string;
  /** `holdfast/<version>`. */
  tool: string;
  /** The config file's text: it goes into the snapshot, so that a recovery can rebuild it. Holds no secrets. */
  config: string;
  folders: LocalFolders;
  /** Run around the reading of the state; see `Hooks`. */
  hooks?: Hooks | undefined;
}

export interface BackupResult {
  snapshot: { id: SnapshotId; seq: number; time: string; parent: SnapshotId | null };
  /** Compared with the snapshot before. */
  files: { total: number; new: number; changed: number; unmodified: number; removed: number };
  /** What the profile calls secret, and what became of it: those kept apart are among `files`, those that were left are not. */
  secrets: SecretCount;
  /** `read`: from the source; `added`: of chunks that were not there yet; `stored`: of new objects on each backend. */
  bytes: { read: number; added: number; stored: number };
  backends: BackendOutcome[];
  /** Why somebody should look at what the state has become; each is a warning too. */
  suspicious: Finding[];
  warnings: Warning[];
  /** What ran before and after the state was read, where the config names something. */
  hooks?: HookResult[];
  seconds: number;
  /** False when something that should be in the snapshot is not, or too few backends hold it: exit code 3. */
  complete: boolean;
}

export interface BackendOutcome {
  name: string;
  /** `committed` holds the snapshot, some perhaps only since they were brought level at the end; `behind` will be brought level by the next run; `failed` could not be used at all. */
  state: 'committed' | 'behind' | 'failed';
  error?: { code: string; message: string; hint?: string };
}

/**
 * @throws `busy`, `source_unreadable`, `wrong_key`, `no_repository`, `not_enough_backends`, … ; whatever is thrown, no earlier snapshot is touched,
 *   and packs that were stored already serve the next run. `interrupted` may also come while slow backends are brought level, when the snapshot is there.
 */
export async function backup(options: BackupOptions, seams: Seams): Promise<BackupResult> {
  const started = seams.clock.monotonic();
  const { signal, progress, clock } = seams;
  using _lock = takeLock(options.folders.state, 'backup');
  await using mirror = await openMirror(options.backends, seams);
  const { writerKey } = options;
  const repository = await openRepository(
    mirror,
    {
      kind: 'writer',
      repository: writerKey.repositoryId,
      agent: hex(options.signer.publicKey),
      chunkIdKey: writerKey.chunkIdKey,
      identity: writerKey.ageIdentity,
    },
    seams,
  );
  checkLogIsComplete(repository.log, mirror, options.folders);
  if (repository.state.entry.isRevoked) {
    throw new HoldfastError('revoked', "the agent's key was revoked: nothing it signs counts", {
      hint: 'Give the agent a new key with `holdfast identity rotate` and the recovery words.',
    });
  }
  const reachable = new Set(mirror.live().map(({ name }) => name));

  // Asked now, the answers are there when the first object is to be stored.
  for (const { backend } of mirror.live()) backend.capabilities?.().catch(() => undefined);
  progress({ type: 'phase', name: 'looking at the backends' });
  const begin = () => beginHostRun(repository, { ...options, kind: 'write' }, seams);
  const run = await begin();
  const { results, index, snapshots, annotations, problems } = await level(repository, {
    run,
    liveOnly: true, // one that held up the first small object waits for the end
    patience: patienceAtStart(clock),
    signal,
  });
  const warnings: Warning[] = pendingChangeWarnings(repository);
  for (const { name, objects, skipped, error } of results) {
    if (objects > 0) {
      warnings.push({
        code: 'levelled',
        message: `backend ${name} was behind; ${objects} objects were copied to it from another backend`,
      });
    }
    if (skipped.length > 0 && !error) {
      const what = `backend ${name} lacks ${skipped.length} objects that are not whole there, the first being ${skipped[0]}`;
      warnings.push({
        code: 'not_level',
        message: `${what}; \`holdfast sync\` stores again what another backend has whole`,
        incomplete: true,
      });
    }
  }
  for (const { key, error } of problems) {
    warnings.push({
      code: 'lost',
      message: `${key}: ${error.message}; what a lost pack or index held is stored again where the state still has it`,
      incomplete: true,
    });
  }
  const { parent, seq } = await findParent(repository, snapshots, options.folders, { warnings, signal });

  const thresholds = options.suspicion ?? DEFAULT_THRESHOLDS;
  const past = thresholds
    ? await readPast(repository, { snapshots, annotations }, options.folders, { atMost: thresholds.history, signal })
    : [];
  const device = readLocalState(options.folders)?.device;

  const writer = repository.writer(index, seams);
  const tree = new TreeSaver(options, seams, repository, writer, warnings);
  let snapshot: Snapshot;
  let mayBeThere = false;
  let suspicious: Finding[] = [];
  try {
    progress({ type: 'phase', name: 'saving' });
    const save = () => tree.save(parent);
    const { manifest, secrets } = await (options.hooks?.around(save, warnings, signal) ?? save());
    await writer.flush();
    const statistics = { ...tree.statistics, ...writer.totals.data };
    const { files, bytes } = tree.counts;
    if (thresholds) {
      const isOtherDevice = device !== undefined && tree.device !== undefined && device !== tree.device;
      suspicious = judge(past, { files, bytes, statistics, isOtherDevice, scaffolds: tree.scaffolds }, thresholds);
    }
    if (writer.totals.packs > 0 && (await hasNewReader(repository, seams).catch(notReached))) {
      warnings.push({
        code: 'recipient_added',
        message:
          'a restore recipient was added while this ran, and cannot read what it stored: repeat `holdfast recipients add` with it',
        incomplete: true,
      });
    }
    await checkRun(repository, run, signal);
    mayBeThere = true;
    snapshot = await writer.commit(
      {
        version: FORMAT_VERSION,
        critical: tree.hasSpecials ? [SPECIAL_FILES] : [],
        repository: repository.id,
        agent: { handle: repository.keys.agent.handle, publicKey: repository.keys.agent.publicKey },
        seq,
        parent: parent?.id ?? null,
        // A clock that was set back must not date it to before the key that signs it.
        time: timestamp(Math.max(clock.now(), repository.state.entry.inForceFromMs)),
        host: options.host,
        sources: [{ root: options.state.root, ...(options.state.profile && { profile: options.state.profile }) }],
        manifest,
        ...(secrets && { secrets }),
        counts: tree.counts,
        tags: [...options.tags],
        tool: options.tool,
        config: options.config,
        keys: newestEntry(repository.log),
        run: run.id,
        statistics,
        ...(suspicious.length > 0 ? { suspicious } : {}),
        ...(options.note === undefined ? {} : { note: options.note }),
      },
      options.signer,
    );
    await checkRun(repository, run, signal).catch((error: unknown) => {
      if (!isHoldfastError(error, 'not_enough_backends')) throw error;
      const message = `snapshot ${snapshot.id.slice(0, 8)} was written, and may lack something: ${error.message}`;
      throw new HoldfastError(error.code, message, { hint: error.hint ?? '', retryable: true, cause: error });
    });
  } catch (error) {
    await writer.salvage();
    tree.discard();
    // A snapshot whose answer was lost may arrive yet.
    if (!mayBeThere) await run.end();
    throw error;
  }
  tree.commitCache(snapshot.id);
  // An agent that starts without its keys may make some new ones: fewer than half are as good as none.
  if (parent?.secrets && tree.secret.files * 2 < parent.secrets && options.state.secret?.patterns.length) {
    warnings.push({
      code: 'secrets_gone',
      message: `snapshot ${parent.id.slice(0, 8)} keeps ${parent.secrets} secret files apart, and ${tree.secret.files === 0 ? 'none is' : `only ${tree.secret.files} are`} there now; to have them back, restore that snapshot with --with-secrets`,
      incomplete: true,
    });
  }
  rememberSnapshot(options.folders, snapshot);
  warnings.push(...suspicious.map(({ code, message }) => ({ code, message, incomplete: true })));
  if (suspicious.length === 0) warnings.push(...unacknowledgedWarnings(past));
  const holders = new Set(mirror.live().map(({ name }) => name));
  const known = readLocalState(options.folders)?.backends ?? [];
  const remember = () =>
    writeLocalState(options.folders, {
      last: { id: snapshot.id, seq },
      backends: [...new Set([...known, ...holders])],
      keys: seen(repository.log),
      // Of a source that seems not to be there, the device is not where it should be.
      ...(suspicious.length > 0 ? {} : { device: tree.device }),
    });
  let isRemembered = remember(); // at once: what comes now may take long, and be interrupted
  warnings.push(...(await catchUp(repository, { require: options.require, begin }, seams)));
  const late = mirror.live().filter(({ name }) => !holders.has(name));
  for (const { name } of late) holders.add(name);
  if (late.length > 0) isRemembered = remember();
  const backends = outcomes(mirror, reachable, holders);
  if (!isRemembered) {
    warnings.push({
      code: 'state_not_saved',
      message: `${options.folders.state} cannot be written: the next run will not notice a rollback`,
    });
  }
  warnings.push(...mishapWarnings(mirror), ...failedBackendWarnings(mirror));
  return {
    snapshot: { id: snapshot.id, seq, time: snapshot.record.time, parent: parent?.id ?? null },
    files: tree.files,
    secrets: tree.secret,
    bytes: { read: tree.readBytes, added: writer.totals.addedBytes, stored: writer.totals.storedBytes },
    backends,
    suspicious,
    warnings,
    ...(options.hooks && { hooks: options.hooks.results }),
    seconds: secondsSince(clock, started),
    complete: holders.size >= options.require && !warnings.some(({ incomplete }) => incomplete),
  };
}

/** With no backend in reach there is no snapshot either: the commit says so, in its words. */
function notReached(error: unknown): false {
  if (!isSurvivable(error)) throw error;
  return false;
}

/** What was found once may be missing still, though it is no change any more: until somebody has looked, no run is whole. */
function unacknowledgedWarnings(past: readonly Past[]): Warning[] {
  const last = past.findLast(({ isSuspicious, isAcknowledged }) => isSuspicious && !isAcknowledged);
  if (!last || past.slice(past.indexOf(last)).some(({ isAcknowledged }) => isAcknowledged)) return [];
  const id = last.id.slice(0, 8);
  return [
    {
      code: 'unacknowledged',
      message: `snapshot ${id} was suspicious, and nobody has acknowledged it: nothing up to it may be forgotten; look with \`holdfast diff ${id}~1 ${id}\`, then: holdfast snapshots acknowledge ${id}`,
      incomplete: true,
    },
  ];
}

/** What this host has seen of the identity log. */
function newestEntry(log: KeyLog): { seq: number; id: string } {
  const { seq, id } = seen(log);
  return { seq, id };
}

function outcomes(mirror: Mirror, reachable: ReadonlySet<string>, holders: ReadonlySet<string>): BackendOutcome[] {
  return mirror.states().map(({ name, error }) => {
    if (holders.has(name) || !error) return { name, state: 'committed' };
    return {
      name,
      state: reachable.has(name) ? 'behind' : 'failed',
      error: {
        code: error.code,
        message: error.message,
        ...(error.hint === undefined ? {} : { hint: error.hint }),
      },
    };
  });
}
