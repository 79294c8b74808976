/** What damage means: for each object the snapshots and paths that need it, and what no backend can make good. */
import type { ChunkId } from '../../entry.ts';
import { isHoldfastError, isSurvivable } from '../../errors.ts';
import { rawForDisplay } from '../../raw-path.ts';
import { accountFor, manifestsOf } from './account.ts';
import type { Annotation } from '../records/annotation.ts';
import type { KnownLoss } from '../records/known-loss.ts';
import { parseKey, stampIn, type PackId, type SnapshotId } from '../records/object-name.ts';
import type { Repository } from '../open.ts';
import type { PackKind } from '../packs/pack.ts';
import type { IndexedPack, PackIndex } from '../packs/pack-index.ts';
import type { ChunkReader } from '../packs/reader.ts';
import type { Snapshot } from '../records/snapshot.ts';

export interface Damage {
  backend: string;
  key: string;
  problem: string;
  /** What such an object is for, in a few words. */
  means: string;
  /** Ids of the snapshots that need the object; empty when it is not known which do, or none does. */
  snapshots: string[];
  /** For display; empty when it is not known. */
  paths: string[];
  /** Names of the backends on which it was found whole, now or by an earlier verification. */
  elsewhere: string[];
  /** Names of the backends that show it with its size, and where it was not read. */
  unread: string[];
  repaired: boolean;
}

export interface RememberedDamage {
  problem: string;
  /** Milliseconds since the Unix epoch. */
  timeMs: number;
  /** That it is what its name says, and its contents are wrong: only `chunks` can find it whole again. */
  isInside: boolean;
}

/** What of a snapshot is lost on every backend. */
export interface LostOf {
  id: SnapshotId;
  /** Null of one that cannot be read. */
  seq: number | null;
  time: string;
  /** Nothing of it can be restored: the snapshot itself is lost, or its list of files. */
  whole: boolean;
  /** Files that cannot be restored, and their bytes; null where only the restore key could tell. */
  files: number | null;
  bytes: number | null;
  /** The first of them, for display. */
  paths: string[];
}

export interface Loss {
  /** Objects that are damaged somewhere and whole on another backend, those that are there on another and were not read, and those that no other has whole. */
  elsewhere: number;
  unread: number;
  everywhere: number;
  /** Snapshots that are touched by what is whole on none, the newest first. */
  snapshots: LostOf[];
}

/** What was looked at. */
export interface Seen {
  damaged: readonly Damage[];
  backends: readonly { name: string; has: (key: string) => boolean; isWhole: (key: string) => boolean }[];
  /** Of all backends together. */
  index: PackIndex;
  /** By key, the indexes that could be read on any backend. */
  indexes: ReadonlyMap<string, readonly IndexedPack[]>;
  snapshots: readonly Snapshot[];
  annotations: ReadonlyMap<string, Annotation>;
  known: ReadonlyMap<SnapshotId, KnownLoss>;
}

/** Paths told for one damaged object; the rest is counted. */
const PATHS_TOLD = 1000;
const PATHS_OF_LOST_TOLD = 20;

const MEANINGS: Readonly<Record<NonNullable<ReturnType<typeof parseKey>>['kind'], string>> = {
  repository: 'says what this repository is: without it the backend serves for nothing',
  keys: 'an entry of the identity log: without it nobody knows whose signature counts',
  secrets: 'the shared keys: without it nobody can restore',
  identity: "the agent's wrapped key: without it a recovery needs the words or the paper for it",
  vault: 'the words behind a passphrase: the words themselves still serve',
  pack: 'contents of files',
  index: 'says in which packs chunks are: what only it names cannot be found',
  snapshot: 'a snapshot: without it nothing of that moment can be restored',
  annotation: 'tags, a note or an acknowledgement: no contents depend on it',
  run: 'says that somebody relies on what is there: it can keep deletions waiting, and no contents depend on it',
  condemned: 'what is to go, with forgotten snapshots that could be put back: the others need nothing of it',
  verified: 'what an earlier verification found: no contents depend on it',
  drill: 'what a drill told: no contents depend on it',
};

/** Whether no backend is known to have it, nor might. */
export const isLost = ({ elsewhere, unread }: Damage): boolean => elsewhere.length + unread.length === 0;

export function meaningOf(key: string, pack: PackKind | undefined, { keys }: Pick<Repository, 'keys'>): string {
  const name = parseKey(key);
  if (!name) return 'the repository as a whole';
  if (pack === 'manifest') return 'lists of files: what they list cannot be restored without them';
  if (name.kind === 'secrets' && (keys.grants ?? []).includes(name.id))
    return 'a grant: the recipient that was added later cannot open older packs without it';
  return MEANINGS[name.kind];
}

/** Fills in what is known of each damage. Which paths need a pack only the restore key can tell. @returns what is lost on all */
export async function tellImpact(repository: Repository, seen: Seen, signal: AbortSignal | undefined): Promise<Loss> {
  const { damaged, backends, index, indexes, snapshots, annotations } = seen;
  const bad = new Map<string, Set<string>>();
  for (const { backend, key } of damaged) bad.set(key, (bad.get(key) ?? new Set()).add(backend));
  for (const damage of damaged) {
    const isGood = (name: string, has: (key: string) => boolean) =>
      has(damage.key) && bad.get(damage.key)?.has(name) !== true;
    const there = backends.filter(({ name, has }) => isGood(name, has));
    damage.elsewhere = there.filter(({ isWhole }) => isWhole(damage.key)).map(({ name }) => name);
    damage.unread = there.filter(({ isWhole }) => !isWhole(damage.key)).map(({ name }) => name);
    const name = parseKey(damage.key);
    const about = annotations.get(damage.key)?.record.snapshot;
    const id = name?.kind === 'snapshot' ? name.id : about;
    if (id !== undefined && damage.snapshots.length === 0) damage.snapshots.push(id);
  }
  const lostPacks = new Set<PackId>();
  const hits = new Map<PackId, Damage[]>();
  const addHit = (pack: PackId, damage: Damage) => hits.set(pack, [...(hits.get(pack) ?? []), damage]);
  /** Of indexes that no backend has: whatever is in no index may have been in one of them. */
  const blind: Damage[] = [];
  for (const damage of damaged) {
    const name = parseKey(damage.key);
    if (name?.kind === 'pack') {
      addHit(name.id, damage);
      if (isLost(damage)) lostPacks.add(name.id);
    } else if (name?.kind === 'index') {
      const packs = indexes.get(damage.key);
      for (const { id } of packs ?? []) addHit(id, damage);
      if (!packs) blind.push(damage);
    } else if (damage.key === 'index/') blind.push(damage);
  }
  const reader = repository.reader(index);
  if (hits.size > 0 || blind.length > 0)
    for (const snapshot of snapshots) await tellOf(repository, snapshot, { index, reader, hits, blind }, signal);

  const of = (which: (one: Damage) => boolean) => new Set(damaged.filter(which).map(({ key }) => key)).size;
  const loss: Loss = {
    elsewhere: of(({ elsewhere }) => elsewhere.length > 0),
    unread: of(({ elsewhere, unread }) => elsewhere.length === 0 && unread.length > 0),
    everywhere: of(isLost),
    snapshots: [],
  };
  if (loss.everywhere === 0) return loss;
  const left = lostPacks.size > 0 ? index.without(lostPacks) : index;
  const leftReader = repository.reader(left);
  for (const snapshot of snapshots) {
    const lost = await lostOf(repository, snapshot, left, leftReader, seen.known.get(snapshot.id), signal);
    if (lost) loss.snapshots.push(lost);
  }
  const readable = new Set<string>(snapshots.map(({ id }) => id));
  for (const [key] of bad) {
    const name = parseKey(key);
    if (name?.kind !== 'snapshot' || readable.has(name.id)) continue;
    const none = { files: null, bytes: null, paths: [] };
    loss.snapshots.push({ id: name.id, seq: null, time: timeIn(key), whole: true, ...none });
  }
  loss.snapshots.sort((a, b) => (a.time < b.time ? 1 : -1));
  return loss;
}

interface Looked {
  index: PackIndex;
  reader: ChunkReader;
  hits: ReadonlyMap<PackId, readonly Damage[]>;
  blind: readonly Damage[];
}

async function tellOf(
  repository: Repository,
  snapshot: Snapshot,
  { index, reader, hits, blind }: Looked,
  signal: AbortSignal | undefined,
): Promise<void> {
  const hitBy = (ids: readonly ChunkId[]): Set<Damage> => {
    const found = new Set<Damage>();
    for (const id of ids) {
      const place = index.locate(id);
      const pack = place && index.packs[place.pack]?.id;
      for (const damage of pack === undefined ? blind : (hits.get(pack) ?? [])) found.add(damage);
    }
    return found;
  };
  const add = (damage: Damage, path?: string) => {
    if (!damage.snapshots.includes(snapshot.id)) damage.snapshots.push(snapshot.id);
    if (path !== undefined && damage.paths.length < PATHS_TOLD && !damage.paths.includes(path)) damage.paths.push(path);
  };
  for (const damage of hitBy(manifestsOf(snapshot))) add(damage);
  try {
    for await (const entry of repository.allEntries(snapshot, reader, signal)) {
      if (entry.type !== 'file') continue;
      for (const damage of hitBy(entry.chunks)) add(damage, rawForDisplay(entry.path));
    }
  } catch (error) {
    if (!isSurvivable(error)) throw error;
    // Without the restore key, or with the manifest lost, paths stay unknown.
  }
}

/** @param index without what is lost. @returns undefined when nothing is lost of it but what was given up before */
async function lostOf(
  repository: Repository,
  snapshot: Snapshot,
  index: PackIndex,
  reader: ChunkReader,
  known: KnownLoss | undefined,
  signal: AbortSignal | undefined,
): Promise<LostOf | undefined> {
  const { id, record } = snapshot;
  const said = { id, seq: record.seq, time: record.time };
  if (known?.whole) return undefined;
  const { files, error } = await missingOf(repository, snapshot, { index, reader }, signal);
  if (error === 'list') {
    const { files: all, bytes } = record.counts;
    return { ...said, whole: true, files: all + (record.secrets?.files ?? 0), bytes, paths: [] };
  }
  if (error === 'unknown') return undefined;
  const lost = files.filter(({ chunks }) => !chunks.every((one) => known?.has(one)));
  if (lost.length === 0) return undefined;
  const bytes = lost.reduce((sum, { size }) => sum + size, 0);
  const paths = lost.slice(0, PATHS_OF_LOST_TOLD).map(({ path }) => path);
  return { ...said, whole: false, files: lost.length, bytes, paths };
}

/**
 * The files of a snapshot that cannot be restored from the packs in the index, with the chunks they lack; `list` when its list of files itself
 * is lost, `unknown` without the restore key or while a backend does not answer.
 */
export async function missingOf(
  repository: Repository,
  snapshot: Snapshot,
  { index, reader }: { index: PackIndex; reader: ChunkReader },
  signal: AbortSignal | undefined,
): Promise<{ files: { path: string; size: number; chunks: ChunkId[] }[]; error?: 'list' | 'unknown' }> {
  if (manifestsOf(snapshot).some((id) => !index.has(id))) return { files: [], error: 'list' };
  const { files, error } = await accountFor(repository, snapshot, index, reader, signal);
  if (!error) return { files: files.filter(({ chunks }) => chunks.length > 0) };
  return { files: [], error: isHoldfastError(error, 'damaged', 'forged', 'not_found') ? 'list' : 'unknown' };
}

/** RFC 3339, of the time in the name of a snapshot. */
function timeIn(key: string): string {
  return stampIn(key).replace(/^(....)(..)(..T..)(..)(..)Z$/, '$1-$2-$3:$4:$5.000Z');
}
