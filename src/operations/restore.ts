/**
 * `restore`: a snapshot, or some paths of it, into a new or empty folder, or over what is there. Plan first, then fetch each pack once.
 */
import type { ChunkId, Entry, FileEntry, Warning } from '../entry.ts';
import { drain } from '../drain.ts';
import type { HoldfastError } from '../errors.ts';
import { PACKS_IN_FLIGHT } from '../limits.ts';
import { rawForDisplay } from '../raw-path.ts';
import {
  heal,
  parseKey,
  type ChunkReader,
  type HealResult,
  type PackIndex,
  type Repository,
  type Snapshot,
  type SnapshotId,
  type WantedChunk,
} from '../repository/repository.ts';
import type { Change, Overwrite } from '../state/compare-tree.ts';
import type { Profile } from '../state/profile.ts';
import { openTarget, type TreeWriter } from '../state/write-tree.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from './access.ts';
import { checkTarget } from './restoring/apart.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from './backends.ts';
import { checkDatabases, DatabaseChecks } from './restoring/check-databases.ts';
import { knownLost } from './restoring/known-lost.ts';
import { pathDependence } from './restoring/path-dependence.ts';
import {
  changesOf,
  compareWithTarget,
  entriesOf,
  refusalWarnings,
  restoreOver,
  withoutLost,
  type Changes,
} from './restoring/restore-over.ts';
import {
  countWritten,
  emptyPlan,
  lostFiles,
  makePlan,
  piecesOf,
  planFile,
  reduce,
  splitLinks,
  type Plan,
  type PlannedChunk,
} from './restoring/restore-plan.ts';
import { secondsSince, type Seams } from './seams.ts';

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
  /** Also what the profile kept apart: keys, tokens. Default false. */
  withSecrets?: boolean | undefined;
  /** The profile of the state, where it is one of the user's; that of a snapshot made with one that comes with holdfast is known. */
  profile?: Profile | undefined;
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
  /** Secrets that the snapshot keeps apart, and how many of them were restored (which `files` and `bytes` count too). */
  secrets: { files: number; restored: number };
  /** Objects repaired on a backend on the way. */
  healed: { backend: string; key: string }[];
  /** Paths that could not be restored because their data is damaged on every backend. */
  lost: string[];
  /** Paths that were lost on every backend before, and given up with `repair --forget-damaged`. */
  knownLost: string[];
  warnings: Warning[];
  seconds: number;
  complete: boolean;
}

/**
 * @throws `exists` for a target that is not empty, `wrong_key`, `not_found`, `damaged` when the manifest itself cannot be read, …
 */
export async function restore(options: RestoreOptions, seams: Seams): Promise<RestoreResult> {
  checkTarget(options.target, options.backends);
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, options.secret, options.expected, seams);
  return await restoreFrom(repository, options, seams);
}

/**
 * `restore` from a repository that is open already.
 * @param isThere is called when a target that was empty has everything, and others cannot reach it yet; `base` leads to it until then.
 */
export async function restoreFrom(
  repository: Repository,
  options: Pick<
    RestoreOptions,
    'snapshot' | 'target' | 'paths' | 'overwrite' | 'dryRun' | 'from' | 'heal' | 'withSecrets' | 'profile'
  >,
  seams: Seams,
  { isThere }: { isThere?: (base: string, snapshot: Snapshot) => Promise<void> } = {},
): Promise<RestoreResult> {
  const started = seams.clock.monotonic();
  const { signal, progress, clock } = seams;
  checkNamed(repository, options.from);
  progress({ type: 'phase', name: 'looking at the snapshot' });
  const [finding, loading] = [repository.findSnapshot(options.snapshot, signal), repository.loadIndex(signal)];
  await Promise.allSettled([finding, loading]);
  const snapshot = await finding;
  const warnings = passedOverWarnings(snapshot.passedOver);
  const { index, problems } = await loading;
  for (const { key, error } of problems) warnings.push({ code: 'index_lost', message: `${key}: ${error.message}` });
  const reader = repository.reader(index, options.from);
  const source: Source = { reader, newPlaces: findNewPlaces(repository, index, signal) };
  const { overwrite, dryRun } = options;
  const plan = await makePlan(repository, snapshot, reader, { ...options, signal });

  const report = (
    lost: readonly FileEntry[],
    changes: readonly Change[] | undefined,
    healed: RestoreResult['healed'] = [],
  ) => {
    const { files, bytes, secrets } = countWritten(plan, lost, changes);
    return {
      snapshot: {
        id: snapshot.id,
        seq: snapshot.record.seq,
        time: snapshot.record.time,
        ageSeconds: Math.floor((clock.now() - Date.parse(snapshot.record.time)) / 1000),
      },
      target: options.target,
      dryRun: options.dryRun ?? false,
      changes: changes ? changesOf(changes) : null,
      files,
      bytes,
      secrets: { files: snapshot.record.secrets?.files ?? 0, restored: secrets },
      healed,
      lost: shownPaths(lost.filter((file) => !known.has(file))),
      knownLost: shownPaths([...known]),
      warnings,
      seconds: secondsSince(clock, started),
      complete: !warnings.some(({ incomplete }) => incomplete),
    };
  };
  let known = new Set<FileEntry>();
  const tellLost = async (lost: readonly FileEntry[]): Promise<Warning[]> => {
    known = await knownLost(repository, snapshot, lost, reader, signal);
    return lostWarnings(lost, known);
  };
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
    if (isOver) warnings.push(...splitLinks(plan, changes, reader));
    reduce(plan, changes);
  }
  if (dryRun) {
    const lost = lostFiles(plan);
    warnings.push(...(await tellLost(lost)), ...refusalWarnings(changes ?? []));
    warnings.push(...mishapWarnings(repository.mirror), ...failedBackendWarnings(repository.mirror));
    return report(lost, changes);
  }
  progress({ type: 'phase', name: 'restoring' });
  let lost: FileEntry[];
  const faults: Warning[] = [];
  const check = async (
    done: readonly Change[] | undefined,
    warningsOf: (databases: readonly FileEntry[]) => Promise<Warning[]>,
  ) => {
    const databases = databasesToCheck(plan, done, overwrite);
    if (databases.length === 0) return;
    progress({ type: 'phase', name: 'checking databases' });
    faults.push(...(await warningsOf(databases)));
  };
  if (isOver && overwrite && changes) {
    const done = await restoreOver(options.target, overwrite, changes, {
      write: (target) => execute(plan, source, target, seams),
      check: (done, at) => check(done, (databases) => checkDatabases(at, databases, signal)),
    });
    ({ result: lost, changes } = done);
    warnings.push(...done.warnings);
  } else {
    await using target = await openTarget(options.target);
    // While the rest is restored; disposed of before the target, through which the databases are reached.
    await using checks = new DatabaseChecks((path) => target.at(path), signal);
    lost = await execute(plan, source, target, seams, (file) => checks.begin(file));
    await checks.settled(); // what they did to the files is on the disk, too, and before flags forbid it
    const finished = await target.finish(async (base, soFar) => {
      const done = changes && withoutLost(changes, soFar, shownPaths(lost));
      await check(done, (databases) => checks.warnings(databases));
      await isThere?.(base, snapshot);
    });
    warnings.push(...finished);
    changes &&= withoutLost(changes, warnings, shownPaths(lost));
  }
  warnings.push(...refusalWarnings(changes ?? []), ...(await tellLost(lost)), ...faults);
  const pathNote = await pathDependence(snapshot.record.sources, options);
  if (pathNote) warnings.push(pathNote);
  const mishaps = repository.mirror.mishaps();
  warnings.push(...mishapWarnings(repository.mirror));
  const { healed, failed } = options.heal === false ? NOTHING_HEALED : await heal(repository, mishaps, signal);
  for (const { backend, key, error } of failed)
    warnings.push({
      code: 'not_healed',
      message: `${key} on backend ${backend} could not be healed: ${error.message}`,
    });
  warnings.push(...failedBackendWarnings(repository.mirror));
  return report(lost, changes, healed);
}

const shownPaths = (files: readonly FileEntry[]): string[] => files.map(({ path }) => rawForDisplay(path));

/**
 * Those that were written, and those that were taken for what they should be.
 * @param changes what became of each entry, where that is known.
 */
function databasesToCheck(
  plan: Plan,
  changes: readonly Change[] | undefined,
  overwrite: Overwrite | undefined,
): FileEntry[] {
  const isOther = new Set<Entry>();
  const settled: Entry[] = [];
  for (const { kind, entry } of changes ?? []) {
    if (kind === 'refuse') isOther.add(entry);
    else if (overwrite === 'changed' && (kind === 'keep' || kind === 'metadata')) settled.push(entry);
  }
  const written = [...plan.files.filter(({ lost }) => !lost), ...plan.links.filter(({ to }) => !to.lost)].map(
    ({ entry }) => entry,
  );
  return [...written, ...settled].filter(
    (entry): entry is FileEntry => entry.type === 'file' && entry.sqlite !== undefined && !isOther.has(entry),
  );
}

function lostWarnings(lost: readonly FileEntry[], known: ReadonlySet<FileEntry>): Warning[] {
  return lost.map((file) => {
    const path = rawForDisplay(file.path);
    const why = known.has(file)
      ? 'was lost on every backend, and given up with `holdfast repair --forget-damaged`'
      : 'is damaged on every backend';
    const code = known.has(file) ? 'known_lost' : 'lost';
    return { code, path, message: `${path} ${why}; it was not restored`, incomplete: true };
  });
}

/** A backend to begin with that cannot be used is a warning like any other: the rest may have everything. */
function checkNamed({ mirror }: Repository, name: string | undefined): void {
  if (name !== undefined && !mirror.states().some((one) => one.name === name)) mirror.member(name); // which throws
}

const NOTHING_HEALED: HealResult = { healed: [], failed: [] };

interface Source {
  reader: ChunkReader;
  /** Where a chunk lies, too, as indexes have it that were not there when the restore began. */
  newPlaces: (id: ChunkId) => Promise<readonly WantedChunk['location'][]>;
}

/** A prune that went on beside the restore may have rewritten packs. The indexes are loaded once more, when the first chunk is missing. */
function findNewPlaces(repository: Repository, index: PackIndex, signal: AbortSignal | undefined): Source['newPlaces'] {
  const before = index.packs.length;
  let renewed: Promise<unknown> | undefined;
  return async (id) => {
    await (renewed ??= repository.renewIndex(index, signal));
    const first = index.locate(id);
    return [...(first ? [first] : []), ...index.elsewhere(id)].filter(({ pack }) => pack >= before);
  };
}

/**
 * @param written told of each file that is complete at its place.
 * @returns the files whose data could not be had.
 */
async function execute(
  plan: Plan,
  source: Source,
  target: TreeWriter,
  seams: Seams,
  written?: (file: FileEntry) => void,
): Promise<FileEntry[]> {
  for (const folder of plan.folders) target.addFolder(folder);
  for (const symlink of plan.symlinks) target.addSymlink(symlink);
  for (const special of plan.specials) target.addSpecial(special);
  await writeFiles(plan, source, target, seams, written);

  const apart = emptyPlan(plan.wanted);
  for (const { entry, to } of plan.links)
    if (!to.lost && !target.addHardlink(entry, to.entry.path)) planFile(apart, entry, source.reader);
  if (apart.files.length > 0) await writeFiles(apart, source, target, seams, written);
  return [...lostFiles(plan), ...lostFiles(apart)];
}

/** From here on the start of another thread is worth it. */
const OPENER_FROM_BYTES = 48 * 1024 * 1024;

/** Contents, and with them the files; those that cannot be had are `lost` then. */
async function writeFiles(
  plan: Plan,
  { reader, newPlaces }: Source,
  target: TreeWriter,
  seams: Seams,
  isWritten?: (file: FileEntry) => void,
): Promise<void> {
  for (const file of plan.files) if (!file.lost && file.missing === 0) target.writeFile(file.entry, []);

  let written = 0;
  const write = (chunk: PlannedChunk, bytes: Uint8Array): void => {
    if (chunk.file.lost) return;
    if (writeChunk(target, chunk, bytes)) isWritten?.(chunk.file.entry);
    written += bytes.length;
    seams.progress({ type: 'progress', phase: 'restoring', done: written, total: plan.bytes, unit: 'bytes' });
  };
  const queue = [...plan.packs.entries()];
  // None may still be writing when the target is given up.
  await using opener = plan.bytes >= OPENER_FROM_BYTES ? reader.opener() : undefined;
  await drain(queue, PACKS_IN_FLIGHT, async ([pack, chunks]) => {
    // What no backend can give from this pack may lie in another one too; else it is told at the end, and the rest comes back.
    for (const chunk of await reader.fromPack(pack, chunks, write, seams.signal, opener)) {
      let { isRenewed = false } = chunk;
      let places = chunk.others ?? reader.elsewhere(chunk.id);
      if (places.length === 0 && !isRenewed) [places, isRenewed] = [await newPlaces(chunk.id), true];
      const [place, ...others] = places;
      if (place) queue.push([place.pack, [{ ...chunk, location: place, others, isRenewed }]]);
      else chunk.file.lost = true;
    }
  });

  for (const file of plan.files) if (file.lost && file.ref) target.discardFile(file.ref);
}

/** @returns whether the file is complete with it. */
function writeChunk(target: TreeWriter, { file, fileOffset }: PlannedChunk, bytes: Uint8Array): boolean {
  if (file.entry.chunks.length === 1) {
    target.writeFile(file.entry, [bytes]);
    file.missing = 0;
    return true;
  }
  file.ref ??= target.createFile(file.entry);
  target.write(file.ref, fileOffset, bytes);
  if (--file.missing > 0) return false;
  target.closeFile(file.ref);
  file.ref = undefined;
  return true;
}

/** What cannot be read and may have made another snapshot the one that is meant: newer ones, and annotations where a tag was asked for. */
export function passedOverWarnings(passedOver: readonly { key: string; error: HoldfastError }[]): Warning[] {
  return passedOver.map(({ key, error }) => {
    const isSnapshot = parseKey(key)?.kind !== 'annotation';
    const why = isSnapshot ? 'seems to be newer than what is taken' : 'may say which snapshots have the tag';
    return {
      code: isSnapshot ? 'snapshot_damaged' : 'annotation_damaged',
      message: `${key} ${why}, and cannot be read: ${error.message}`,
      incomplete: true,
    };
  });
}
