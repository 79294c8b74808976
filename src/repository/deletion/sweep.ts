/** The second step: deleting what was condemned, once nobody can rely on it any more. The order on each backend is fixed; see docs/format.md, section 11.1. */
import type { Random } from '../../clock.ts';

import { sha256Hex } from '../../crypto/hash.ts';
import { drain } from '../../drain.ts';
import { RECORDS_IN_FLIGHT } from '../../limits.ts';
import { condemn, type Condemned } from '../records/condemned.ts';
import type { Signer } from '../records/format.ts';
import { sealIndex } from '../packs/index-object.ts';
import { indexKey, packKey, parseKey, type PackId, type RunId } from '../records/object-name.ts';
import type { Repository } from '../open.ts';
import type { IndexedPack } from '../packs/pack-index.ts';
import type { BegunRun } from '../records/runs.ts';
import type { Survey, Unfinished } from './survey.ts';

/** An index that is written anew has at most so many chunks, which are some 20 MB. */
const INDEX_CHUNKS = 256 * 1024;
/** So many indexes of few packs are merged. */
const SMALL_INDEXES = 64;
const SMALL_INDEX_PACKS = 4;

export interface Swept {
  packs: number;
  indexes: number;
  /** On all backends together. */
  bytes: number;
  backends: Record<string, { packs: number; bytes: number }>;
}

interface SweepOptions {
  run: BegunRun;
  signer: Signer;
  /** The records whose grace is over. */
  due: readonly Condemned[];
}

/**
 * Deletes what is due, but for what is needed after all, which is condemned no more. The survey is of after the last unfinished run, and no other run of
 * kind `sweep` is on.
 */
export async function sweep(
  repository: Repository,
  survey: Survey,
  { due, signer }: SweepOptions,
  seams: { random: Random; signal?: AbortSignal | undefined },
): Promise<Swept> {
  const { mirror } = repository;
  const { signal } = seams;
  const isDue = new Set(due.map(({ key }) => key));
  const stays = survey.condemned.filter(({ key }) => !isDue.has(key));
  await survey.hold(stays);
  // Whoever puts a snapshot back looks afterwards whether its record is still there.
  for (const { key, record } of due) {
    if (record.snapshots.length === 0) continue;
    if (record.packs.length > 0) await condemn(repository, { ...record, snapshots: [] }, signer, seams);
    await mirror.delete(key, { signal });
  }

  const needed = neededAfterAll(survey);
  const keptByOthers = new Set(stays.flatMap(({ record }) => record.packs));
  const going = new Set(
    due.flatMap(({ record }) => record.packs).filter((id) => !needed.has(id) && !keptByOthers.has(id)),
  );
  const old = await rewriteIndexes(repository, survey, going, seams);
  // All new indexes are durable on every backend that is still in use: only now the old ones go.
  const before = new Set(mirror.live().map(({ name }) => name));
  for (const key of old) await mirror.delete(key, { signal });
  await drain([...going], RECORDS_IN_FLIGHT, (id) => mirror.delete(packKey(id), { signal }));
  const swept: Swept = { packs: going.size, indexes: old.length, bytes: 0, backends: {} };
  for (const { name } of mirror.live()) {
    if (!before.has(name)) continue;
    const sizes = [...going].flatMap((id) => survey.listings.get(name)?.get(packKey(id)) ?? []);
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    swept.backends[name] = { packs: sizes.length, bytes };
    swept.bytes += bytes;
  }
  for (const { key, record } of due) {
    if (record.snapshots.length > 0) continue;
    await mirror.delete(key, { signal });
  }
  return swept;
}

/** Condemned packs that hold a needed chunk which lies in no other pack that is whole, indexed and not condemned. */
function neededAfterAll(survey: Survey): Set<PackId> {
  const condemned = survey.condemnedPacks;
  return new Set(
    [...survey.use().values()]
      .filter(({ info, liveBytes }) => liveBytes > 0 && condemned.has(info.id))
      .map(({ info }) => info.id),
  );
}

/**
 * Stores new indexes for what stays of those that name a pack in `going`, and of small ones when there are many.
 * @returns keys of the indexes that are not needed any more
 */
async function rewriteIndexes(
  repository: Repository,
  survey: Survey,
  going: ReadonlySet<PackId>,
  { random, signal }: { random: Random; signal?: AbortSignal | undefined },
): Promise<string[]> {
  const all = [...survey.packsOf];
  const touched = new Set(all.filter(([, packs]) => packs.some((id) => going.has(id))).map(([key]) => key));
  const small = all.filter(([, packs]) => packs.length <= SMALL_INDEX_PACKS).map(([key]) => key);
  if (small.length >= SMALL_INDEXES) for (const key of small) touched.add(key);
  const elsewhere = new Set(all.flatMap(([key, packs]) => (touched.has(key) ? [] : packs)));
  let batch: IndexedPack[] = [];
  const made = new Set<string>();
  const store = async () => {
    if (batch.length === 0) return;
    const { restore, writer } = repository.keys.recipients;
    const bytes = await sealIndex(batch, {
      repository: repository.id,
      chunkIdKey: repository.chunkIdKey,
      recipients: [...restore, ...writer],
      random,
    });
    batch = [];
    const key = indexKey(sha256Hex(bytes));
    made.add(key);
    await repository.mirror.put(key, bytes, { ifAbsent: true, signal });
  };
  for (const key of touched) {
    const name = parseKey(key);
    if (name?.kind !== 'index') continue;
    const packs = await repository.mirror.read(key, (bytes) => repository.checkIndex(name.id, bytes), { signal });
    for (const pack of packs) {
      if (going.has(pack.id) || elsewhere.has(pack.id)) continue;
      elsewhere.add(pack.id);
      batch.push(pack);
    }
    if (batch.reduce((sum, { chunks }) => sum + chunks.length, 0) >= INDEX_CHUNKS) await store();
  }
  await store();
  return [...touched].filter((key) => !made.has(key));
}

/**
 * Takes away the records of runs that are over. One that says of others that they are over stays until they are gone; while a backend is out of
 * reach, which may hold some, all stay. The caller's own is the last.
 */
export async function removeRuns(
  repository: Repository,
  survey: Survey,
  { run, presumedOver }: { run: BegunRun; presumedOver: (one: Pick<Unfinished, 'run' | 'host'>) => boolean },
): Promise<void> {
  const { mirror } = repository;
  const { runs, unfinished } = await survey.unfinished(run.id);
  const open = new Set(unfinished.filter((one) => !presumedOver(one)).map(({ run: id }) => id));
  const left = new Map<RunId, (typeof runs)[number]>(runs.map((one) => [one.id, one]));
  for (let isMore = true; isMore;) {
    isMore = false;
    if (mirror.states().some(({ state }) => state !== 'ok')) return;
    const next = [...left.values()].filter(
      ({ id, record }) => id !== run.id && !open.has(id) && record.after.every((one) => !left.has(one)),
    );
    for (const { id, key } of next) {
      await mirror.delete(key);
      left.delete(id);
      isMore = true;
    }
  }
  if (run.record.after.every((one) => !left.has(one))) await mirror.delete(run.key);
}
