/**
 * `restore`: a snapshot, or some paths of it, into a new or empty folder, or over what is there. Plan first, then fetch each pack once.
 */
import type { ChunkId, Entry, FileEntry, FolderEntry, SymlinkEntry, Warning } from '../entry.ts';
import { drain } from '../drain.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { PACKS_IN_FLIGHT } from '../limits.ts';
import { rawForDisplay, type RawPath } from '../raw-path.ts';
import {
  heal,
  type ChunkReader,
  type HealResult,
  type Repository,
  type Snapshot,
  type SnapshotId,
  type WantedChunk,
} from '../repository/repository.ts';
import type { Change, Overwrite, Piece } from '../state/compare-tree.ts';
import { isRestoreOwn } from '../state/tree-path.ts';
import { openTarget, type FileRef, type TreeWriter } from '../state/write-tree.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from './access.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from './backends.ts';
import {
  changesOf,
  compareWithTarget,
  entriesOf,
  refusalWarnings,
  restoreOver,
  withoutLost,
  type Changes,
} from './restore-over.ts';
import { secondsSince, type Seams } from './seams.ts';
import { isBelow, Selection } from './selection.ts';

export interface RestoreOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  expected?: ExpectedRepository | undefined;
  /** For what can be written see `selectSnapshot`. */
  snapshot: string;
  target: string;
  /** Only these paths, or globs over paths, and what lies below them; everything when empty. Relative to the root of the state, as text. */
  paths: readonly string[];
  /** What becomes of what the target holds; undefined: a target that holds anything is refused. What is not in the snapshot always stays. */
  overwrite?: Overwrite | undefined;
  /** Only find out what would be changed. */
  dryRun?: boolean | undefined;
  /** Name of the backend to read from first. */
  from?: string | undefined;
  /** Store again, where it was found damaged or missing, what another backend has whole. Default true. */
  heal?: boolean | undefined;
}

export interface RestoreResult {
  /** `ageSeconds` by the clock of this host; below 0 when it is behind the clock of the host that was backed up. */
  snapshot: { id: SnapshotId; seq: number; time: string; ageSeconds: number };
  target: string;
  dryRun: boolean;
  /** What was (or, in a dry run, would be) done to the target; null for a plain restore, which writes everything. */
  changes: Changes | null;
  /** Files written (or to be written), and their bytes. */
  files: number;
  bytes: number;
  /** Objects repaired on a backend on the way. */
  healed: { backend: string; key: string }[];
  /** Paths that could not be restored because their data is damaged on every backend. */
  lost: string[];
  warnings: Warning[];
  seconds: number;
  complete: boolean;
}

/**
 * @throws `exists` for a target that is not empty, `wrong_key`, `not_found`, `damaged` when the manifest itself cannot be read, …
 */
export async function restore(options: RestoreOptions, seams: Seams): Promise<RestoreResult> {
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, options.secret, options.expected, seams);
  return await restoreFrom(repository, options, seams);
}

/** `restore` from a repository that is open already. */
export async function restoreFrom(
  repository: Repository,
  options: Pick<RestoreOptions, 'snapshot' | 'target' | 'paths' | 'overwrite' | 'dryRun' | 'from' | 'heal'>,
  seams: Seams,
): Promise<RestoreResult> {
  const started = seams.clock.monotonic();
  const { signal, progress, clock } = seams;
  if (options.from !== undefined) repository.mirror.member(options.from);
  progress({ type: 'phase', name: 'looking at the snapshot' });
  const [finding, loading] = [repository.findSnapshot(options.snapshot, signal), repository.loadIndex(signal)];
  await Promise.allSettled([finding, loading]);
  const snapshot = await finding;
  const warnings = passedOverWarnings(snapshot.passedOver);
  const { index, problems } = await loading;
  for (const { key, error } of problems) warnings.push({ code: 'index_lost', message: `${key}: ${error.message}` });
  const reader = repository.reader(index, options.from);
  const plan = await makePlan(repository, snapshot, reader, options.paths, signal);

  const report = (lost: readonly string[], changes: Changes | null, healed: RestoreResult['healed'] = []) => ({
    snapshot: {
      id: snapshot.id,
      seq: snapshot.record.seq,
      time: snapshot.record.time,
      ageSeconds: Math.floor((clock.now() - Date.parse(snapshot.record.time)) / 1000),
    },
    target: options.target,
    dryRun: options.dryRun ?? false,
    changes,
    files: plan.files.length - lost.length,
    bytes: plan.bytes - plan.lostBytes,
    healed,
    lost: [...lost],
    warnings,
    seconds: secondsSince(clock, started),
    complete: !warnings.some(({ incomplete }) => incomplete),
  });
  const { overwrite, dryRun } = options;
  let changes: Change[] | undefined;
  let isOver = false;
  if (overwrite || dryRun) {
    progress({ type: 'phase', name: 'comparing' });
    const compared = await compareWithTarget(options.target, overwrite, entriesOf(plan), {
      isSelected: (path) => plan.wanted.has(path),
      piecesOf: (file) => piecesOf(file, reader, repository),
      signal,
    });
    ({ changes, isOver } = compared);
    reduce(plan, changes);
  }
  if (dryRun) {
    const lost = lostFiles(plan);
    warnings.push(...lostWarnings(lost), ...refusalWarnings(changes ?? []));
    warnings.push(...mishapWarnings(repository.mirror), ...failedBackendWarnings(repository.mirror));
    return report(lost, changesOf(changes ?? []));
  }
  progress({ type: 'phase', name: 'restoring' });
  let lost: string[];
  if (isOver && overwrite && changes) {
    const done = await restoreOver(options.target, overwrite, changes, (target) =>
      execute(plan, reader, target, seams),
    );
    ({ result: lost, changes } = done);
    warnings.push(...done.warnings);
  } else {
    await using target = await openTarget(options.target);
    lost = await execute(plan, reader, target, seams);
    warnings.push(...(await target.finish()));
    changes &&= withoutLost(changes, warnings, lost);
  }
  warnings.push(...refusalWarnings(changes ?? []), ...lostWarnings(lost));
  const mishaps = repository.mirror.mishaps();
  warnings.push(...mishapWarnings(repository.mirror));
  const { healed, failed } = options.heal === false ? NOTHING_HEALED : await heal(repository, mishaps, signal);
  for (const { backend, key, error } of failed)
    warnings.push({
      code: 'not_healed',
      message: `${key} on backend ${backend} could not be healed: ${error.message}`,
    });
  warnings.push(...failedBackendWarnings(repository.mirror));
  return report(lost, changes ? changesOf(changes) : null, healed);
}

function lostWarnings(lost: readonly string[]): Warning[] {
  return lost.map((path) => ({
    code: 'lost',
    path,
    message: `${path} is damaged on every backend; it was not restored`,
    incomplete: true,
  }));
}

const NOTHING_HEALED: HealResult = { healed: [], failed: [] };

interface Plan {
  wanted: Selection;
  folders: FolderEntry[];
  symlinks: SymlinkEntry[];
  files: PlannedFile[];
  bytes: number;
  lostBytes: number;
  /** For each pack, by number, the chunks to take from it. */
  packs: Map<number, PlannedChunk[]>;
}

interface PlannedFile {
  entry: FileEntry;
  /** Chunks still to be written. */
  missing: number;
  ref: FileRef | undefined;
  lost: boolean;
}

interface PlannedChunk extends WantedChunk {
  file: PlannedFile;
  fileOffset: number;
  /** Places left to try; undefined before the first failed. */
  others?: readonly WantedChunk['location'][];
}

/** Reads and checks the whole manifest before anything is written. */
async function makePlan(
  repository: Repository,
  snapshot: Snapshot,
  reader: ChunkReader,
  paths: readonly string[],
  signal: AbortSignal | undefined,
): Promise<Plan> {
  const wanted = await Selection.of(paths);
  const made = new Set<RawPath>();
  const plan: Plan = { wanted, folders: [], symlinks: [], files: [], bytes: 0, lostBytes: 0, packs: new Map() };
  let parents: FolderEntry[] = [];
  for await (const entry of repository.entries(snapshot, reader, signal, (path) => wanted.has(path))) {
    if (isRestoreOwn(entry.path)) {
      throw new HoldfastError('damaged', `the snapshot holds ${entry.path}, the mark of an unfinished restore`, {
        hint: 'No backup takes it along. Restore another snapshot, and find out who could have written this one.',
      });
    }
    const selected = wanted.has(entry.path);
    if (entry.type === 'folder') {
      parents = parents.filter(({ path }) => isBelow(entry.path, path));
      parents.push(entry);
    }
    if (!selected) continue;
    // The folders that lead to a selected entry come along, with their modes and times.
    plan.folders.push(...parents.filter(({ path }) => isBelow(entry.path, path) && !made.has(path) && made.add(path)));
    if (entry.type === 'symlink') plan.symlinks.push(entry);
    if (entry.type === 'file') planFile(plan, entry, reader);
  }
  wanted.checkAllFound();
  return plan;
}

function planFile(plan: Plan, entry: FileEntry, reader: ChunkReader): void {
  const file: PlannedFile = { entry, missing: entry.chunks.length, ref: undefined, lost: false };
  plan.files.push(file);
  plan.bytes += entry.size;
  let fileOffset = 0;
  for (const id of entry.chunks) {
    const location = tryLocate(reader, id);
    if (!location) {
      file.lost = true;
      return;
    }
    const chunks = plan.packs.get(location.pack);
    const chunk = { id, location, file, fileOffset };
    if (chunks) chunks.push(chunk);
    else plan.packs.set(location.pack, [chunk]);
    fileOffset += location.length;
  }
  if (fileOffset !== entry.size) file.lost = true;
}

function tryLocate(reader: ChunkReader, id: ChunkId) {
  try {
    return reader.locate(id);
  } catch (error) {
    if (isHoldfastError(error, 'damaged')) return undefined;
    throw error;
  }
}

/** Takes out of the plan what need not be written: what is kept, or refused. */
function reduce(plan: Plan, changes: readonly Change[]): void {
  const written = new Set<Entry>();
  for (const { kind, entry } of changes) if (kind === 'create' || kind === 'replace') written.add(entry);
  plan.files = plan.files.filter(({ entry }) => written.has(entry));
  plan.folders = plan.folders.filter((entry) => written.has(entry));
  plan.symlinks = plan.symlinks.filter((entry) => written.has(entry));
  plan.bytes = plan.files.reduce((sum, { entry }) => sum + entry.size, 0);
  for (const [pack, chunks] of plan.packs) {
    const needed = chunks.filter(({ file }) => written.has(file.entry));
    if (needed.length > 0) plan.packs.set(pack, needed);
    else plan.packs.delete(pack);
  }
}

/** A file that is known to be lost has no pieces, and so never those of the target. */
function* piecesOf(file: FileEntry, reader: ChunkReader, { idOf }: Repository): Generator<Piece> {
  for (const id of file.chunks) {
    const length = tryLocate(reader, id)?.length;
    yield length === undefined ? { length: 0, isIt: () => false } : { length, isIt: (bytes) => idOf(bytes) === id };
  }
}

/** @returns the paths whose data could not be had. */
async function execute(plan: Plan, reader: ChunkReader, target: TreeWriter, seams: Seams): Promise<string[]> {
  for (const folder of plan.folders) target.addFolder(folder);
  for (const symlink of plan.symlinks) target.addSymlink(symlink);
  for (const file of plan.files) if (!file.lost && file.missing === 0) target.writeFile(file.entry, []);

  let written = 0;
  const write = (chunk: PlannedChunk, bytes: Uint8Array): void => {
    if (chunk.file.lost) return;
    writeChunk(target, chunk, bytes);
    written += bytes.length;
    seams.progress({ type: 'progress', phase: 'restoring', done: written, total: plan.bytes, unit: 'bytes' });
  };
  const queue = [...plan.packs.entries()];
  // None may still be writing when the target is given up.
  await drain(queue, PACKS_IN_FLIGHT, async ([pack, chunks]) => {
    // What no backend can give from this pack may lie in another one too; else it is told at the end, and the rest comes back.
    for (const chunk of await reader.fromPack(pack, chunks, write, seams.signal)) {
      const [place, ...others] = chunk.others ?? reader.elsewhere(chunk.id);
      if (place) queue.push([place.pack, [{ ...chunk, location: place, others }]]);
      else chunk.file.lost = true;
    }
  });

  for (const file of plan.files) if (file.lost && file.ref) target.discardFile(file.ref);
  return lostFiles(plan);
}

function lostFiles(plan: Plan): string[] {
  const lost = plan.files.filter((file) => file.lost);
  plan.lostBytes = lost.reduce((sum, { entry }) => sum + entry.size, 0);
  return lost.map((file) => rawForDisplay(file.entry.path));
}

function writeChunk(target: TreeWriter, { file, fileOffset }: PlannedChunk, bytes: Uint8Array): void {
  if (file.entry.chunks.length === 1) {
    target.writeFile(file.entry, [bytes]);
    file.missing = 0;
    return;
  }
  file.ref ??= target.createFile(file.entry);
  target.write(file.ref, fileOffset, bytes);
  if (--file.missing > 0) return;
  target.closeFile(file.ref);
  file.ref = undefined;
}

/** Snapshots that seem to be newer than the one that was taken for the latest, and cannot be read. */
export function passedOverWarnings(passedOver: readonly { key: string; error: HoldfastError }[]): Warning[] {
  return passedOver.map(({ key, error }) => ({
    code: 'snapshot_damaged',
    message: `${key} seems to be newer than what is taken, and cannot be read: ${error.message}`,
    incomplete: true,
  }));
}
