/**
 * Cutting out what is lost on every backend, so that the rest is whole again. Snapshots stay as they were signed; what of them is lost is said in
 * annotations.
 *
 * The order keeps it safe at every step, and beside writers: what can still be had of lost packs is stored again; the indexes are written anew without
 * the lost packs; what is lost is said; only then are the old indexes, and objects that nobody can read, deleted. A writer that has read an old index
 * takes chunks of a lost pack for stored, as it would have done without all this: they are lost as before, and the next verification says so.
 */
import { HoldfastError, isSurvivable } from '../../errors.ts';
import type { Clock, Random } from '../../clock.ts';
import type { ChunkId } from '../../entry.ts';
import { sha256Hex } from '../../crypto/hash.ts';
import { manifestsOf } from './account.ts';
import { annotate, readAnnotations } from '../records/annotation.ts';
import { timestamp, type Signer } from '../records/format.ts';
import { missingOf, type Damage } from './impact.ts';
import { sealIndex } from '../packs/index-object.ts';
import { knownLosses, lostRecord } from '../records/known-loss.ts';
import { indexKey, parseKey, type PackId, type SnapshotId } from '../records/object-name.ts';
import type { Repository } from '../open.ts';
import { PackIndex, type IndexedPack } from '../packs/pack-index.ts';
import { salvage, type Salvaged } from './salvage.ts';
import type { Snapshot } from '../records/snapshot.ts';

export interface CutOut {
  /** Stored again out of damaged packs and of packs that no index named. */
  salvaged: Salvaged;
  /** Packs that no index names any more, and how many indexes were written anew for that. */
  packs: number;
  indexes: number;
  /** Keys of objects that nobody could read, and that were deleted. */
  removed: string[];
  /** What was said to be lost, the newest first. */
  lost: { snapshot: SnapshotId; seq: number | null; whole: boolean; files: number; bytes: number; paths: string[] }[];
}

export interface CutOutOptions {
  signer: Signer;
  host: string;
  seams: { clock: Clock; random: Random; signal?: AbortSignal | undefined };
}

/** Kinds of objects that may go when nobody can read them. What keys depend on stays, whatever it is. */
const REMOVABLE = ['index', 'snapshot', 'annotation', 'verified', 'drill'];
const PATHS_TOLD = 1000;
/** The key under which snapshots are told that somebody remembers and no backend shows. */
export const ROLLED_BACK = 'snapshots/';

/**
 * @param damaged what is damaged on all backends: none of it has it whole.
 * @throws `not_enough_backends` as soon as one backend cannot be written to; what was done until then harms nothing, and is gone on with by the next run
 */
export async function cutOut(
  repository: Repository,
  damaged: readonly Pick<Damage, 'key' | 'snapshots'>[],
  options: CutOutOptions,
): Promise<CutOut> {
  const { seams } = options;
  const { mirror } = repository;
  const { signal } = seams;
  const names = new Map([...new Set(damaged.map(({ key }) => key))].map((key) => [key, parseKey(key)]));
  const lostPacks = new Set<PackId>();
  for (const name of names.values()) if (name?.kind === 'pack') lostPacks.add(name.id);
  const { index, touched, lost } = await withoutLost(repository, lostPacks, signal);

  const { snapshots, problems } = await repository.snapshots(signal);
  for (const { error } of problems) if (error.code === 'not_enough_backends') throw error;
  const wanted = await wantedChunks(repository, snapshots, index, signal);
  const isManifest = (id: ChunkId) => wanted.manifests.has(id);
  const salvaged: Salvaged = { chunks: 0, bytes: 0 };
  // Contents are known only once the lists are there that name them.
  for (let isFirst = true; wanted.all.size > 0; isFirst = false) {
    const got = await salvage(repository, index, lost, { seams, isManifest, isWanted: (id) => wanted.all.has(id) });
    salvaged.chunks += got.chunks;
    salvaged.bytes += got.bytes;
    if (!isFirst || got.chunks === 0) break;
    wanted.all = (await wantedChunks(repository, snapshots, index, signal)).all;
  }
  checkAllThere(repository);

  for (const { keep } of touched) {
    if (keep.length === 0) continue;
    const { recipients } = repository.keys;
    const bytes = await sealIndex(keep, {
      repository: repository.id,
      chunkIdKey: repository.chunkIdKey,
      recipients: [...recipients.restore, ...recipients.writer],
      random: seams.random,
    });
    await mirror.put(indexKey(sha256Hex(bytes)), bytes, { ifAbsent: true, signal });
  }
  checkAllThere(repository);

  const removable = [...names].filter(([, name]) => name && REMOVABLE.includes(name.kind));
  const readable = new Set(snapshots.map(({ id }) => id));
  const gone = new Set([
    ...removable.flatMap(([, name]) => (name?.kind === 'snapshot' ? [name.id] : [])),
    // A break in the chain is told of the snapshot whose parent is missing.
    ...snapshots.flatMap(({ key, record }) => (names.has(key) && record.parent !== null ? [record.parent] : [])),
    ...damaged.flatMap((one) => (one.key === ROLLED_BACK ? (one.snapshots as SnapshotId[]) : [])),
  ]);
  const said = await sayLost(
    repository,
    { snapshots, gone: [...gone].filter((id) => !readable.has(id)), index },
    options,
  );
  checkAllThere(repository);

  for (const { key } of touched) await mirror.delete(key, { signal });
  const removed: string[] = [];
  for (const [key, name] of removable) {
    if (name?.kind === 'snapshot' && readable.has(name.id)) continue; // it is something that it names that is lost
    await mirror.delete(key, { signal });
    removed.push(key);
  }
  checkAllThere(repository);
  return { salvaged, packs: lost.length, indexes: touched.length, removed, lost: said };
}

function checkAllThere({ mirror }: Repository): void {
  for (const { name, error } of mirror.states()) {
    if (!error) continue;
    throw new HoldfastError('not_enough_backends', `backend ${name} dropped out: ${error.message}`, {
      hint: 'What was done so far harms nothing. Bring the backend back, and run it again.',
      cause: error,
    });
  }
}

/** The indexes of all backends, those apart that name a lost pack. */
async function withoutLost(
  repository: Repository,
  lostPacks: ReadonlySet<PackId>,
  signal: AbortSignal | undefined,
): Promise<{ index: PackIndex; touched: { key: string; keep: IndexedPack[] }[]; lost: IndexedPack[] }> {
  const index = new PackIndex();
  const touched: { key: string; keep: IndexedPack[] }[] = [];
  const lost = new Map<PackId, IndexedPack>();
  for await (const { key } of repository.mirror.list('index/', { signal })) {
    const name = parseKey(key);
    if (name?.kind !== 'index') continue;
    let packs: IndexedPack[];
    try {
      packs = await repository.mirror.read(key, (bytes) => repository.checkIndex(name.id, bytes), { signal });
    } catch (error) {
      if (!isSurvivable(error) || error.code === 'not_enough_backends') throw error;
      continue; // nobody can read it
    }
    const keep = packs.filter(({ id }) => !lostPacks.has(id));
    for (const pack of keep) index.addPack(pack);
    for (const pack of packs) if (lostPacks.has(pack.id)) lost.set(pack.id, pack);
    if (keep.length < packs.length) touched.push({ key, keep });
  }
  return { index, touched, lost: [...lost.values()] };
}

/** Chunks that snapshots name and the index does not. */
async function wantedChunks(
  repository: Repository,
  snapshots: readonly Snapshot[],
  index: PackIndex,
  signal: AbortSignal | undefined,
): Promise<{ all: Set<ChunkId>; manifests: Set<ChunkId> }> {
  const manifests = new Set(snapshots.flatMap(manifestsOf));
  const all = new Set([...manifests].filter((id) => !index.has(id)));
  const reader = repository.reader(index);
  for (const snapshot of snapshots) {
    const { files } = await missingOf(repository, snapshot, { index, reader }, signal);
    for (const { chunks } of files) for (const id of chunks) all.add(id);
  }
  return { all, manifests };
}

/** Says of each snapshot what of it is lost, unless that has been said. */
async function sayLost(
  repository: Repository,
  what: { snapshots: readonly Snapshot[]; gone: readonly SnapshotId[]; index: PackIndex },
  { signer, host, seams }: CutOutOptions,
): Promise<CutOut['lost']> {
  const { snapshots, gone, index } = what;
  const { annotations } = await readAnnotations(repository, undefined, seams.signal);
  const known = knownLosses(annotations);
  // After all that was said before, whatever the clock says: the order of annotations decides.
  const last = Math.max(0, ...annotations.map(({ record }) => Date.parse(record.time)));
  let timeMs = Math.max(seams.clock.now(), repository.state.entry.inForceFromMs, last + 1);
  const said: CutOut['lost'] = [];
  const say = async (one: CutOut['lost'][number], chunks: ReadonlySet<ChunkId>) => {
    const lost = lostRecord(one, chunks);
    await annotate(repository, { snapshot: one.snapshot, time: timestamp(timeMs++), host, lost }, signer, seams);
    said.push(one);
  };
  const reader = repository.reader(index);
  for (const snapshot of snapshots.toReversed()) {
    const { id, record } = snapshot;
    const before = known.get(id);
    if (before?.whole) continue;
    const { files, error } = await missingOf(repository, snapshot, { index, reader }, seams.signal);
    if (error === 'unknown') throw cannotTell(id);
    const { counts, secrets } = record;
    if (error === 'list') {
      const chunks = new Set(manifestsOf(snapshot).filter((one) => !index.has(one)));
      const whole = { files: counts.files + (secrets?.files ?? 0), bytes: counts.bytes, whole: true, paths: [] };
      await say({ snapshot: id, seq: record.seq, ...whole }, chunks);
    } else if (files.some(({ chunks }) => !chunks.every((one) => before?.has(one)))) {
      const chunks = new Set(files.flatMap((file) => file.chunks));
      const bytes = files.reduce((sum, { size }) => sum + size, 0);
      const paths = files.slice(0, PATHS_TOLD).map(({ path }) => path);
      await say({ snapshot: id, seq: record.seq, whole: false, files: files.length, bytes, paths }, chunks);
    }
  }
  for (const id of gone)
    if (!known.get(id)?.whole)
      await say({ snapshot: id, seq: null, whole: true, files: 0, bytes: 0, paths: [] }, new Set());
  return said;
}

function cannotTell(id: SnapshotId): HoldfastError {
  return new HoldfastError(
    'not_enough_backends',
    `the list of files of snapshot ${id.slice(0, 8)} cannot be read now`,
    {
      hint: 'Nothing was deleted. Run it again when all backends answer; it needs the key that restores everything.',
    },
  );
}
