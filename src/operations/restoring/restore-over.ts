/** What a restore changes in a target that may hold something: found out, told, and done. */
import type { Entry, FileEntry, FolderEntry, SpecialEntry, SymlinkEntry, Warning } from '../../entry.ts';
import { HoldfastError, isHoldfastError } from '../../errors.ts';
import { comparePaths, parentOf, rawForDisplay, ROOT, type RawPath } from '../../raw-path.ts';
import {
  compareTree,
  type Change,
  type ChangeKind,
  type CompareOptions,
  type Overwrite,
} from '../../state/compare-tree.ts';
import { lookAtTarget, NOT_HAD, openOverwriter } from '../../state/overwrite.ts';
import type { TreeWriter } from '../../state/write-tree.ts';
import { takeLockIn } from '../host/lock.ts';

/** Entries of one kind of change: paths for display, in the order of a manifest; the bytes of those that are files. */
export interface ChangeList {
  count: number;
  bytes: number;
  paths: string[];
}

/** For folders `keep` and `metadata` mean the folder itself. What lies below a refused folder is not listed. */
export type Changes = Record<ChangeKind, ChangeList>;

export function changesOf(changes: readonly Change[]): Changes {
  const list = (wanted: ChangeKind): ChangeList => {
    const entries = changes.filter(({ kind }) => kind === wanted).map(({ entry }) => entry);
    const bytes = entries.reduce((sum, entry) => sum + (entry.type === 'file' ? entry.size : 0), 0);
    return { count: entries.length, bytes, paths: entries.map(shown) };
  };
  return {
    create: list('create'),
    replace: list('replace'),
    metadata: list('metadata'),
    keep: list('keep'),
    refuse: list('refuse'),
  };
}

const shown = ({ path }: Entry): string => (path === ROOT ? '.' : rawForDisplay(path));

/** What is in the way of a restore makes it incomplete. */
export function refusalWarnings(changes: readonly Change[]): Warning[] {
  return changes
    .filter(({ kind, reason }) => kind === 'refuse' && reason !== NOT_HAD)
    .map(({ entry, reason }) => ({
      code: 'not_restored',
      path: shown(entry),
      message: `${shown(entry)}${entry.type === 'folder' ? ' and all it holds' : ''} is left as it is: ${reason}`,
      incomplete: true,
    }));
}

/** Of a restore into an empty target: what could not be had, or that the target could not hold, is not created. */
export function withoutLost(
  changes: readonly Change[],
  warnings: readonly Warning[],
  lost: readonly string[],
): Change[] {
  const not = new Set(lost);
  for (const { code, path } of warnings) if (code === 'not_restored' && path !== undefined) not.add(path);
  return changes.map((change) =>
    not.has(shown(change.entry)) ? { ...change, kind: 'refuse', reason: NOT_HAD } : change,
  );
}

/** What a plan holds, in the order of a manifest. */
export function entriesOf(plan: {
  folders: readonly FolderEntry[];
  symlinks: readonly SymlinkEntry[];
  specials: readonly SpecialEntry[];
  files: readonly { entry: FileEntry }[];
  links: readonly { entry: FileEntry }[];
}): Entry[] {
  const files = [...plan.files, ...plan.links].map(({ entry }) => entry);
  const entries = [...plan.folders, ...plan.symlinks, ...plan.specials, ...files];
  return entries.sort((a, b) => comparePaths(a.path, b.path));
}

/**
 * What a restore would do to the target.
 * @returns `isOver`: whether the target holds anything.
 * @throws `exists` as the restore would
 */
export async function compareWithTarget(
  target: string,
  overwrite: Overwrite | undefined,
  entries: readonly Entry[],
  options: Omit<CompareOptions, 'base' | 'overwrite'>,
): Promise<{ changes: Change[]; isOver: boolean }> {
  const base = lookAtTarget(target, overwrite);
  const changes = await compareTree(entries, { ...options, base, overwrite: overwrite ?? 'never' });
  return { changes, isOver: base !== undefined };
}

/**
 * Does the changes to a target that holds something.
 * @param write writes the contents of what is created or replaced, into the writer it is given; `result` is what it returns.
 * @param check looks at what came of it; `at` gives the absolute path of an entry, until it is asked for the next.
 */
export async function restoreOver<T>(
  target: string,
  overwrite: Overwrite,
  changes: readonly Change[],
  {
    write,
    check,
  }: {
    write: (writer: TreeWriter) => Promise<T>;
    check: (done: readonly Change[], at: (path: RawPath) => RawPath) => Promise<void>;
  },
): Promise<{ result: T; changes: Change[]; warnings: Warning[] }> {
  try {
    await using over = await openOverwriter(target, (folder) => takeLockIn(folder, `restore into ${target}`));
    const leading = leadingFolders(changes);
    for (const path of leading) over.addScaffold(path);
    const result = await write(over.writer);
    const done = await over.commit(changes, overwrite);
    await check(done.changes, (path) => over.at(path));
    return { result, ...done };
  } catch (error) {
    if (!isHoldfastError(error, 'io')) throw error;
    throw new HoldfastError('io', error.message, {
      hint: 'No file is half written. What is replaced needs room beside the old files; make sure of that, and restore again.',
      cause: error,
    });
  }
}

/** The folders that are there already and hold something that is to be written, the outer ones first. */
function leadingFolders(changes: readonly Change[]): RawPath[] {
  const [made, leading] = [new Set<RawPath>(), new Set<RawPath>()];
  for (const { kind, entry } of changes) {
    if (kind !== 'create' && kind !== 'replace') continue;
    if (entry.type === 'folder') made.add(entry.path);
    const missing: RawPath[] = [];
    for (let path = entry.path; path !== ROOT;) {
      path = parentOf(path);
      if (path === ROOT || made.has(path) || leading.has(path)) break;
      missing.push(path);
    }
    for (const path of missing.reverse()) leading.add(path);
  }
  return [...leading];
}
