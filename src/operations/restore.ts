/** `restore`: a snapshot, or some paths of it, into a new or empty folder. Plan first, then fetch each pack once. */
import type { ChunkId, Entry, FileEntry, FolderEntry, SpecialEntry, SymlinkEntry, Warning } from '../entry.ts';
import { drain } from '../drain.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { PACKS_IN_FLIGHT } from '../limits.ts';
import { rawForDisplay, rawFromText, ROOT, type RawPath } from '../raw-path.ts';
import {
  heal,
  type ChunkReader,
  type HealResult,
  type Repository,
  type Snapshot,
  type SnapshotId,
  type WantedChunk,
} from '../repository/repository.ts';
import type { Profile } from '../state/profile.ts';
import { RESTORE_MARKER } from '../state/tree-path.ts';
import { openTarget, type FileRef, type TreeWriter } from '../state/write-tree.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from './access.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from './backends.ts';
import { checkDatabases, staleSiblings } from './check-databases.ts';
import { FirstNames } from './hard-links.ts';
import { pathDependence } from './path-dependence.ts';
import { secondsSince, type Seams } from './seams.ts';

export interface RestoreOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  expected?: ExpectedRepository | undefined;
  /** `latest`, an id or the beginning of one. */
  snapshot: string;
  target: string;
  /** Only these paths and what lies below them; everything when empty. Relative to the root of the state, as text. */
  paths: readonly string[];
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
  snapshot: { id: SnapshotId; seq: number; time: string };
  target: string;
  /** Files written, and their bytes. */
  files: number;
  bytes: number;
  /** Secrets that the snapshot keeps apart, and how many of them were restored (which `files` and `bytes` count too). */
  secrets: { files: number; restored: number };
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
  options: Pick<RestoreOptions, 'snapshot' | 'target' | 'paths' | 'from' | 'heal' | 'withSecrets' | 'profile'>,
  seams: Seams,
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
  const plan = await makePlan(repository, snapshot, reader, options, signal);

  progress({ type: 'phase', name: 'restoring' });
  await using target = await openTarget(options.target);
  const lost = await execute(plan, reader, target, seams);
  warnings.push(...(await target.finish()));
  const whole = plan.files.filter((file) => !file.lost).map(({ entry }) => entry);
  if (whole.some(({ sqlite }) => sqlite)) {
    progress({ type: 'phase', name: 'checking databases' });
    warnings.push(...(await checkDatabases(options.target, whole, signal)));
  }
  const pathNote = await pathDependence(snapshot.record.sources, options);
  if (pathNote) warnings.push(pathNote);
  for (const path of lost)
    warnings.push({
      code: 'lost',
      path,
      message: `${path} is damaged on every backend; it was not restored`,
      incomplete: true,
    });
  const mishaps = repository.mirror.mishaps();
  warnings.push(...mishapWarnings(repository.mirror));
  const { healed, failed } = options.heal === false ? NOTHING_HEALED : await heal(repository, mishaps, signal);
  for (const { backend, key, error } of failed)
    warnings.push({
      code: 'not_healed',
      message: `${key} on backend ${backend} could not be healed: ${error.message}`,
    });
  warnings.push(...failedBackendWarnings(repository.mirror));
  return {
    snapshot: { id: snapshot.id, seq: snapshot.record.seq, time: snapshot.record.time },
    target: options.target,
    files: plan.files.length + plan.links.length - lost.length,
    bytes: plan.bytes - plan.lostBytes,
    secrets: {
      files: snapshot.record.secrets?.files ?? 0,
      restored: plan.files.filter(({ isSecret, lost }) => isSecret && !lost).length,
    },
    healed,
    lost,
    warnings,
    seconds: secondsSince(clock, started),
    complete: !warnings.some(({ incomplete }) => incomplete),
  };
}

/** A backend to begin with that cannot be used is a warning like any other: the rest may have everything. */
function checkNamed({ mirror }: Repository, name: string | undefined): void {
  if (name !== undefined && !mirror.states().some((one) => one.name === name)) mirror.member(name); // which throws
}

const NOTHING_HEALED: HealResult = { healed: [], failed: [] };

interface Plan {
  folders: FolderEntry[];
  symlinks: SymlinkEntry[];
  specials: SpecialEntry[];
  /** In the order of the manifest. */
  files: PlannedFile[];
  /** Other names of `files`. */
  links: PlannedLink[];
  bytes: number;
  lostBytes: number;
  /** For each pack, by number, the chunks to take from it. */
  packs: Map<number, PlannedChunk[]>;
}

interface PlannedLink {
  entry: FileEntry;
  to: PlannedFile;
}

interface PlannedFile {
  entry: FileEntry;
  /** Chunks still to be written. */
  missing: number;
  ref: FileRef | undefined;
  lost: boolean;
  isSecret: boolean;
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
  { paths, withSecrets }: Pick<RestoreOptions, 'paths' | 'withSecrets'>,
  signal: AbortSignal | undefined,
): Promise<Plan> {
  const wanted = new Selection(paths);
  const plan = emptyPlan();
  const firsts = new FirstNames<PlannedFile>();
  const isWanted = (path: RawPath) => wanted.has(path);
  let parents: FolderEntry[] = [];
  let isSecret = false;
  const take = (entry: Entry): void => {
    if (entry.path === RESTORE_MARKER) {
      throw new HoldfastError('damaged', `the snapshot holds ${RESTORE_MARKER}, the mark of an unfinished restore`, {
        hint: 'No backup takes it along. Restore another snapshot, and find out who could have written this one.',
      });
    }
    const selected = wanted.has(entry.path);
    if (entry.type === 'folder') {
      parents = parents.filter(({ path }) => isBelow(entry.path, path));
      parents.push(entry);
    }
    if (!selected) return;
    // The folders that lead to a selected entry come along, with their modes and times.
    plan.folders.push(
      ...parents.filter(({ path }) => isBelow(entry.path, path) && !wanted.made.has(path) && wanted.made.add(path)),
    );
    if (entry.type === 'symlink') plan.symlinks.push(entry);
    if (entry.type === 'fifo' || entry.type === 'device') plan.specials.push(entry);
    if (entry.type !== 'file') return;
    // A name in one manifest of a file in the other is a file of its own.
    const to = isSecret ? undefined : firsts.of(entry, plan.files);
    if (!to) firsts.add(planFile(plan, entry, reader, isSecret));
    else {
      plan.links.push({ entry, to });
      plan.bytes += entry.size;
    }
  };
  const secrets = new Map<RawPath, Entry>();
  if (withSecrets)
    for await (const entry of repository.secretEntries(snapshot, reader, signal)) secrets.set(entry.path, entry);
  for await (const entry of repository.entries(snapshot, reader, signal, isWanted)) {
    const twin = secrets.get(entry.path);
    if (twin && (twin.type !== 'folder' || entry.type !== 'folder')) throw inBothManifests(entry.path);
    take(entry);
  }
  isSecret = true;
  // The folders that lead to them are in both manifests.
  for (const entry of secrets.values()) take(entry);
  wanted.checkAllFound(snapshot.record.secrets !== undefined && !withSecrets);
  return plan;
}

const emptyPlan = (): Plan => ({
  folders: [],
  symlinks: [],
  specials: [],
  files: [],
  links: [],
  bytes: 0,
  lostBytes: 0,
  packs: new Map(),
});

function inBothManifests(path: RawPath): HoldfastError {
  return new HoldfastError('damaged', `the snapshot has ${JSON.stringify(rawForDisplay(path))} twice`, {
    hint: 'No backup writes such a snapshot. Restore another one, and find out who could have written this one.',
  });
}

function planFile(plan: Plan, entry: FileEntry, reader: ChunkReader, isSecret = false): PlannedFile {
  const file: PlannedFile = { entry, missing: entry.chunks.length, ref: undefined, lost: false, isSecret };
  plan.files.push(file);
  plan.bytes += entry.size;
  let fileOffset = 0;
  for (const id of entry.chunks) {
    const location = tryLocate(reader, id);
    if (!location) {
      file.lost = true;
      return file;
    }
    const chunks = plan.packs.get(location.pack);
    const chunk = { id, location, file, fileOffset };
    if (chunks) chunks.push(chunk);
    else plan.packs.set(location.pack, [chunk]);
    fileOffset += location.length;
  }
  if (fileOffset !== entry.size) file.lost = true;
  return file;
}

function tryLocate(reader: ChunkReader, id: ChunkId) {
  try {
    return reader.locate(id);
  } catch (error) {
    if (isHoldfastError(error, 'damaged')) return undefined;
    throw error;
  }
}

/** @returns the paths whose data could not be had. */
async function execute(plan: Plan, reader: ChunkReader, target: TreeWriter, seams: Seams): Promise<string[]> {
  for (const folder of plan.folders) target.addFolder(folder);
  for (const path of staleSiblings(plan.files.map(({ entry }) => entry))) target.removeStale(path);
  for (const symlink of plan.symlinks) target.addSymlink(symlink);
  for (const special of plan.specials) target.addSpecial(special);
  const lost = await writeFiles(plan, reader, target, seams);

  const apart = emptyPlan();
  for (const { entry, to } of plan.links) {
    if (to.lost) {
      lost.push(entry);
      plan.lostBytes += entry.size;
    } else if (!target.addHardlink(entry, to.entry.path)) planFile(apart, entry, reader);
  }
  if (apart.files.length > 0) {
    lost.push(...(await writeFiles(apart, reader, target, seams)));
    plan.lostBytes += apart.lostBytes;
  }
  return lost.map(({ path }) => rawForDisplay(path));
}

/** Contents, and with them the files. @returns those that could not be had. */
async function writeFiles(plan: Plan, reader: ChunkReader, target: TreeWriter, seams: Seams): Promise<FileEntry[]> {
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

  const lost = plan.files.filter((file) => file.lost);
  for (const file of lost) {
    if (file.ref) target.discardFile(file.ref);
    plan.lostBytes += file.entry.size;
  }
  return lost.map(({ entry }) => entry);
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

/** Which entries of the tree were asked for. */
class Selection {
  readonly made = new Set<RawPath>();
  readonly #paths: { raw: RawPath; found: boolean }[];

  constructor(paths: readonly string[]) {
    this.#paths = paths.map((path) => ({ raw: normalise(path), found: false }));
  }

  has(path: RawPath): boolean {
    if (this.#paths.length === 0) return true;
    let selected = false;
    for (const wanted of this.#paths) {
      if (!isBelow(path, wanted.raw)) continue;
      wanted.found = true;
      selected = true;
    }
    return selected;
  }

  /** @param hasMore that there are secrets, which were not looked through. */
  checkAllFound(hasMore: boolean): void {
    const absent = this.#paths.find(({ found }) => !found);
    if (absent) {
      throw new HoldfastError('not_found', `the snapshot has no ${JSON.stringify(rawForDisplay(absent.raw))}`, {
        hint: `\`holdfast ls SNAPSHOT\` lists what it has${hasMore ? '; it may be among the secrets: --with-secrets' : ''}. Nothing was written.`,
      });
    }
  }
}

/** A path as a user types it: `./a/b/` is `a/b`. */
export function normalise(path: string): RawPath {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..'))
    throw new HoldfastError('usage', `the path ${JSON.stringify(path)} leads out of the state`, {
      hint: 'Give paths relative to the root of the state.',
    });
  return rawFromText(names.join('/'));
}

/** True for `ancestor` itself and for all below it. */
function isBelow(path: RawPath, ancestor: RawPath): boolean {
  return ancestor === ROOT || path === ancestor || path.startsWith(`${ancestor}/`);
}

/** Snapshots that seem to be newer than the one that was taken for the latest, and cannot be read. */
export function passedOverWarnings(passedOver: readonly { key: string; error: HoldfastError }[]): Warning[] {
  return passedOver.map(({ key, error }) => ({
    code: 'snapshot_damaged',
    message: `${key} seems to be newer than what is taken, and cannot be read: ${error.message}`,
    incomplete: true,
  }));
}
