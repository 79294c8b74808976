/** What differs between two trees: both are walked side by side, in the order of manifests, and chunk ids stand for contents. */
import type { ChunkId, Entry, FileEntry } from '../../entry.ts';
import { comparePaths, type RawPath } from '../../raw-path.ts';

/** An entry of which the chunks may be unknown until somebody asks: a file of the live tree. Its size is that of the file as it lies there until then. */
export type Comparable = Exclude<Entry, FileEntry> | ComparableFile;
export type ComparableFile = Omit<FileEntry, 'chunks'> & { chunks?: readonly ChunkId[] };

export const ASPECTS = ['type', 'content', 'size', 'target', 'mode', 'owner', 'attributes', 'mtime'] as const;
/** What of an entry is not as it was. */
export type Aspect = (typeof ASPECTS)[number];

export interface Difference {
  kind: 'added' | 'removed' | 'changed' | 'renamed';
  path: RawPath;
  /** Empty unless `changed` or `renamed`. */
  what: Aspect[];
  before: Entry | undefined;
  after: Comparable | undefined;
}

export type Saved = Required<Pick<ComparableFile, 'size' | 'chunks'>>;

export interface CompareOptions {
  /** What a backup would save of a file whose entry has no chunks; undefined when that cannot be had. */
  saved: (file: ComparableFile) => Promise<Saved | undefined>;
  /** Whether attributes and flags of the second tree are known. Default true. */
  hasAttributes?: boolean;
  /** Whether a folder that one side alone has is told. Not where folders are in a list only to lead to what it is about. Default true. */
  tellsFolders?: boolean;
  /** False for what is to be left out on both sides. */
  isWanted?: (path: RawPath) => boolean;
}

/** Bytes by which the contents of files became more, and less. */
export interface Tally {
  added: number;
  removed: number;
  changed: number;
  renamed: number;
  unchanged: number;
  bytes: { added: number; removed: number };
}

export interface Comparison {
  differences: Difference[];
  tally: Tally;
}

type Walk<T> = AsyncIterable<T> | Iterable<T>;

/**
 * Walks both trees once. A file of the same path and chunks has the same content: nothing is read for that. A file that went away and one of the
 * same chunks that came under another path are one that was renamed. Folders of which the time alone differs count as unchanged: it tells only that
 * something in them did.
 */
export async function compareTrees(
  before: Walk<Entry>,
  after: Walk<Comparable>,
  options: CompareOptions,
): Promise<Comparison> {
  const differences: Difference[] = [];
  let unchanged = 0;
  const { isWanted = () => true, tellsFolders = true } = options;
  for await (const [one, other] of sideBySide(before, after)) {
    const path = (one ?? other)?.path;
    if (path === undefined || !isWanted(path)) continue;
    if ((!one || !other) && !tellsFolders && (one ?? other)?.type === 'folder') continue;
    if (!one) differences.push({ kind: 'added', path, what: [], before: one, after: other });
    else if (!other) differences.push({ kind: 'removed', path, what: [], before: one, after: other });
    else {
      const { what, after: now } = await aspects(one, other, options);
      if (what.length === 0) unchanged++;
      else differences.push({ kind: 'changed', path, what, before: one, after: now });
    }
  }
  const paired = await pairRenamed(differences, options);
  return { differences: paired, tally: tallyOf(paired, unchanged) };
}

/** Entries of one path together; both sides are in the order of `comparePaths`. */
async function* sideBySide<A extends { path: RawPath }, B extends { path: RawPath }>(
  left: Walk<A>,
  right: Walk<B>,
): AsyncGenerator<[A | undefined, B | undefined]> {
  const [lefts, rights] = [iteratorOf(left), iteratorOf(right)];
  try {
    let [a, b] = [await next(lefts), await next(rights)];
    while (a || b) {
      const order = !a ? 1 : !b ? -1 : comparePaths(a.path, b.path);
      yield [order <= 0 ? a : undefined, order >= 0 ? b : undefined];
      if (order <= 0) a = await next(lefts);
      if (order >= 0) b = await next(rights);
    }
  } finally {
    await lefts.return?.();
    await rights.return?.();
  }
}

type Steps<T> = AsyncIterator<T> | Iterator<T>;

function iteratorOf<T>(walk: Walk<T>): Steps<T> {
  return Symbol.asyncIterator in walk ? walk[Symbol.asyncIterator]() : walk[Symbol.iterator]();
}

async function next<T>(steps: Steps<T>): Promise<T | undefined> {
  const step = await steps.next();
  return step.done === true ? undefined : step.value;
}

/** `after` as it is known by then. */
async function aspects(
  before: Entry,
  after: Comparable,
  options: CompareOptions,
): Promise<{ what: Aspect[]; after: Comparable }> {
  const what = new Set<Aspect>();
  let now = after;
  if (before.type !== after.type) what.add('type');
  else if (before.type === 'symlink' && after.type === 'symlink' && before.target !== after.target) what.add('target');
  else if (before.type === 'file' && after.type === 'file') {
    // A file whose size and time are what they were is taken to be what it was, as a backup takes it. Of a database neither says anything: what was
    // written to it may lie beside it, and its copy may have another size.
    const isDatabase = before.sqlite !== undefined;
    const isAsked = !after.chunks && (isDatabase || (before.size === after.size && before.mtimeNs !== after.mtimeNs));
    const file: ComparableFile = isAsked ? { ...after, ...(await options.saved(after)) } : after;
    // What could not be had is told by whoever could not have it.
    if (before.size !== file.size && (file.chunks || !isDatabase)) what.add('size');
    if (file.chunks ? !sameList(before.chunks, file.chunks) : what.has('size')) what.add('content');
    now = file;
  }
  if (before.mode !== after.mode) what.add('mode');
  if (before.uid !== after.uid || before.gid !== after.gid) what.add('owner');
  const { hasAttributes = true } = options;
  if (hasAttributes && attributesOf(before) !== attributesOf(after)) what.add('attributes');
  const isFolder = before.type === 'folder' && after.type === 'folder';
  if (before.mtimeNs !== after.mtimeNs && (!isFolder || what.size > 0)) what.add('mtime');
  return { what: ASPECTS.filter((aspect) => what.has(aspect)), after: now };
}
const sameList = (a: readonly ChunkId[], b: readonly ChunkId[]): boolean =>
  a.length === b.length && a.every((id, i) => id === b[i]);

function attributesOf({ xattrs, flags }: Comparable): string {
  const sorted = Object.entries(xattrs ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([sorted.map(([name, value]) => [name, Buffer.from(value).toString('base64')]), flags ?? []]);
}

/** Empty files are all alike, and none is another under a new name. */
async function pairRenamed(differences: readonly Difference[], options: CompareOptions): Promise<Difference[]> {
  const gone = new Map<number, { difference: Difference; entry: FileEntry }[]>();
  for (const difference of differences) {
    const entry = difference.before;
    if (difference.kind !== 'removed' || entry?.type !== 'file' || entry.size === 0) continue;
    gone.set(entry.size, [...(gone.get(entry.size) ?? []), { difference, entry }]);
  }
  const paired = new Map<Difference, Difference | undefined>();
  for (const difference of differences) {
    const { after } = difference;
    if (difference.kind !== 'added' || after?.type !== 'file') continue;
    const candidates = gone.get(after.size) ?? [];
    if (candidates.length === 0) continue;
    const file: ComparableFile = after.chunks ? after : { ...after, ...(await options.saved(after)) };
    const { chunks } = file;
    if (!chunks) continue;
    const at = candidates.findIndex(({ entry }) => sameList(entry.chunks, chunks));
    const [old] = at < 0 ? [] : candidates.splice(at, 1);
    if (!old) continue;
    const { what } = await aspects(old.entry, file, options);
    paired.set(difference, { kind: 'renamed', path: difference.path, what, before: old.entry, after: file });
    paired.set(old.difference, undefined);
  }
  return differences.flatMap((one) => (paired.has(one) ? (paired.get(one) ?? []) : one));
}

function tallyOf(differences: readonly Difference[], unchanged: number): Tally {
  const tally: Tally = { added: 0, removed: 0, changed: 0, renamed: 0, unchanged, bytes: { added: 0, removed: 0 } };
  const sizeOf = (entry: Comparable | undefined) => (entry?.type === 'file' ? entry.size : 0);
  for (const { kind, before, after } of differences) {
    tally[kind]++;
    const growth = sizeOf(after) - sizeOf(before);
    tally.bytes[growth > 0 ? 'added' : 'removed'] += Math.abs(growth);
  }
  return tally;
}
