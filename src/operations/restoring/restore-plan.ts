/** What a restore writes: the entries that were asked for, and for each pack the chunks to take from it. The whole manifest is checked before anything is written. */
import type { ChunkId, Entry, FileEntry, FolderEntry, SpecialEntry, SymlinkEntry, Warning } from '../../entry.ts';
import { HoldfastError, isHoldfastError } from '../../errors.ts';
import { rawForDisplay, type RawPath } from '../../raw-path.ts';
import type { ChunkReader, Repository, Snapshot, WantedChunk } from '../../repository/repository.ts';
import type { Change, Piece } from '../../state/compare-tree.ts';
import { Losses } from '../../state/losses.ts';
import { isRestoreOwn } from '../../state/tree-path.ts';
import type { FileRef } from '../../state/write-tree.ts';
import { FirstNames } from '../saving/hard-links.ts';
import { isBelow, Selection } from '../looking/selection.ts';

export interface Plan {
  wanted: Selection;
  folders: FolderEntry[];
  symlinks: SymlinkEntry[];
  specials: SpecialEntry[];
  /** In the order of the manifest. */
  files: PlannedFile[];
  /** Other names of `files`. */
  links: PlannedLink[];
  bytes: number;
  /** For each pack, by number, the chunks to take from it. */
  packs: Map<number, PlannedChunk[]>;
}

export interface PlannedLink {
  entry: FileEntry;
  to: PlannedFile;
}

export interface PlannedFile {
  entry: FileEntry;
  /** Chunks still to be written. */
  missing: number;
  ref: FileRef | undefined;
  lost: boolean;
  isSecret: boolean;
}

export interface PlannedChunk extends WantedChunk {
  file: PlannedFile;
  fileOffset: number;
  /** Places left to try; undefined before the first failed. */
  others?: readonly WantedChunk['location'][];
  /** That these are such as indexes named only when they were loaded once more. */
  isRenewed?: boolean;
}

export interface PlanOptions {
  paths: readonly string[];
  withSecrets?: boolean | undefined;
  signal: AbortSignal | undefined;
}

/** @throws `damaged`, `not_found` for a path that the snapshot has not, … */
export async function makePlan(
  repository: Repository,
  snapshot: Snapshot,
  reader: ChunkReader,
  { paths, withSecrets = false, signal }: PlanOptions,
): Promise<Plan> {
  const wanted = await Selection.of(paths);
  const made = new Set<RawPath>();
  const plan = emptyPlan(wanted);
  let firsts = new FirstNames<PlannedFile>();
  let parents: FolderEntry[] = [];
  let isSecret = false;
  const take = (entry: Entry): void => {
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
    if (!selected) return;
    // The folders that lead to a selected entry come along, with their modes and times.
    plan.folders.push(...parents.filter(({ path }) => isBelow(entry.path, path) && !made.has(path) && made.add(path)));
    if (entry.type === 'symlink') plan.symlinks.push(entry);
    if (entry.type === 'fifo' || entry.type === 'device') plan.specials.push(entry);
    if (entry.type !== 'file') return;
    const to = firsts.of(entry);
    if (!to) firsts.add(planFile(plan, entry, reader, isSecret));
    else {
      plan.links.push({ entry, to });
      plan.bytes += entry.size;
    }
  };
  const secrets = new Map<RawPath, Entry>();
  if (withSecrets)
    for await (const entry of repository.secretEntries(snapshot, reader, signal)) secrets.set(entry.path, entry);
  for await (const entry of repository.entries(snapshot, reader, signal, (path) => wanted.has(path))) {
    const twin = secrets.get(entry.path);
    if (twin && (twin.type !== 'folder' || entry.type !== 'folder')) throw inBothManifests(entry.path);
    take(entry);
  }
  isSecret = true;
  firsts = new FirstNames(); // a manifest names no file of the other
  // The folders that lead to them are in both manifests.
  for (const entry of secrets.values()) take(entry);
  wanted.checkAllFound(snapshot.record.secrets !== undefined && !withSecrets);
  return plan;
}

/** With nothing in it. */
export const emptyPlan = (wanted: Selection): Plan => ({
  wanted,
  folders: [],
  symlinks: [],
  specials: [],
  files: [],
  links: [],
  bytes: 0,
  packs: new Map(),
});

function inBothManifests(path: RawPath): HoldfastError {
  return new HoldfastError('damaged', `the snapshot has ${JSON.stringify(rawForDisplay(path))} twice`, {
    hint: 'No backup writes such a snapshot. Restore another one, and find out who could have written this one.',
  });
}

/** Adds one file to the plan. One of which a chunk is nowhere is `lost`. */
export function planFile(plan: Plan, entry: FileEntry, reader: ChunkReader, isSecret = false): PlannedFile {
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

/** Takes out of the plan what need not be written: what is kept, or refused. */
export function reduce(plan: Plan, changes: readonly Change[]): void {
  const written = new Set<Entry>();
  for (const { kind, entry } of changes) if (kind === 'create' || kind === 'replace') written.add(entry);
  plan.files = plan.files.filter(({ entry }) => written.has(entry));
  plan.links = plan.links.filter(({ entry }) => written.has(entry));
  plan.folders = plan.folders.filter((entry) => written.has(entry));
  plan.symlinks = plan.symlinks.filter((entry) => written.has(entry));
  plan.specials = plan.specials.filter((entry) => written.has(entry));
  plan.bytes = bytesOf([...plan.files, ...plan.links]);
  for (const [pack, chunks] of plan.packs) {
    const needed = chunks.filter(({ file }) => written.has(file.entry));
    if (needed.length > 0) plan.packs.set(pack, needed);
    else plan.packs.delete(pack);
  }
}

/**
 * Makes files of their own of the other names of files, for a target in which some of them may be there.
 * @returns what is lost by it, when these changes are done.
 */
export function splitLinks(plan: Plan, changes: readonly Change[], reader: ChunkReader): Warning[] {
  const written = new Set<Entry>();
  for (const { kind, entry } of changes) if (kind === 'create' || kind === 'replace') written.add(entry);
  const losses = new Losses();
  for (const { entry, to } of plan.links.splice(0)) {
    planFile(plan, entry, reader, to.isSecret);
    if (written.has(entry) || written.has(to.entry)) losses.count('hardlinks_not_restored', entry.path);
  }
  return losses.warnings();
}

const bytesOf = (files: readonly { entry: FileEntry }[]): number =>
  files.reduce((sum, { entry }) => sum + entry.size, 0);

/** A file that is known to be lost has no pieces, and so never those of the target. */
export function* piecesOf(file: FileEntry, reader: ChunkReader, { idOf }: Repository): Generator<Piece> {
  for (const id of file.chunks) {
    const length = tryLocate(reader, id)?.length;
    yield length === undefined ? { length: 0, isIt: () => false } : { length, isIt: (bytes) => idOf(bytes) === id };
  }
}

/** The files whose data could not be had, under all their names. */
export function lostFiles({ files, links }: Plan): FileEntry[] {
  return [...files.filter(({ lost }) => lost), ...links.filter(({ to }) => to.lost)].map(({ entry }) => entry);
}

/** Files that are written, or would be, when all goes well but for what is `lost`, and what became of the rest. */
export function countWritten(
  { files, links }: Plan,
  lost: readonly FileEntry[],
  changes: readonly Change[] = [],
): { files: number; bytes: number; secrets: number } {
  const not = new Set<Entry>(lost);
  for (const { kind, entry } of changes) if (kind === 'refuse') not.add(entry);
  const written = [...files, ...links.map(({ entry, to }) => ({ entry, isSecret: to.isSecret }))].filter(
    ({ entry }) => !not.has(entry),
  );
  return {
    files: written.length,
    bytes: bytesOf(written),
    secrets: written.filter(({ isSecret }) => isSecret).length,
  };
}
