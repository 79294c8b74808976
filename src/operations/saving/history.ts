/** What the snapshots before a new one were like, for its judgement; and whether they were acknowledged. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isSurvivable } from '../../errors.ts';
import { inLanes } from '../../drain.ts';
import { RECORDS_IN_FLIGHT } from '../../limits.ts';
import {
  parseKey,
  readAnnotations,
  statisticsSchema,
  type ListedSnapshots,
  type Repository,
  type Snapshot,
  type SnapshotId,
} from '../../repository/repository.ts';
import type { LocalFolders } from '../host/local-state.ts';
import type { Past } from './suspicion.ts';

type Remembered = Omit<Past, 'id' | 'isAcknowledged'> & { seq: number };

/** Kept beside the other caches, so that no run opens what another has opened: ids are hashes of signed records. */
interface HistoryCache {
  snapshots: Map<string, Remembered>;
  /** By the id of an annotation, the snapshot that it acknowledges, if any. */
  acknowledged: Map<string, string | null>;
}

/**
 * The newest snapshots, oldest first: so many that `atMost` of them are good, and all that came since. What cannot be read is left out: whoever looks for the parent tells it.
 * @param annotations keys
 */
export async function readPast(
  repository: Repository,
  there: { snapshots: ListedSnapshots; annotations: readonly string[] },
  folders: LocalFolders,
  { atMost, signal }: { atMost: number; signal: AbortSignal | undefined },
): Promise<Past[]> {
  const cache = readCache(folders);
  const idIn = (key: string) => {
    const name = parseKey(key);
    return name?.kind === 'annotation' ? name.id : key;
  };
  const acknowledged = new Map<string, string | null>();
  for (const key of there.annotations) {
    const known = cache.acknowledged.get(idIn(key));
    if (known !== undefined) acknowledged.set(idIn(key), known);
  }
  const unknown = there.annotations.filter((key) => !acknowledged.has(idIn(key)));
  const { annotations } = await readAnnotations(repository, unknown, signal);
  for (const { id, record } of annotations) acknowledged.set(id, record.acknowledged ? record.snapshot : null);
  const isAcknowledged = new Set(acknowledged.values());

  const newest = [...there.snapshots].toSorted(([a], [b]) => (a < b ? 1 : -1));
  const past = new Map<SnapshotId, Remembered>();
  let good = 0;
  // However long an alarm goes on: what is right is told by what was there before it.
  for (let at = 0; at < newest.length && good < atMost; at += atMost) {
    await inLanes(newest.slice(at, at + atMost), RECORDS_IN_FLIGHT, async ([key, { id }]) => {
      try {
        const check = (bytes: Uint8Array) => repository.checkSnapshot(id, key, bytes);
        const one =
          cache.snapshots.get(id) ?? remembered(await repository.mirror.read(key, check, { signal, quiet: true }));
        past.set(id, one);
        if (!one.isSuspicious || isAcknowledged.has(id)) good++;
      } catch (error) {
        if (!isSurvivable(error)) throw error;
      }
    });
  }
  writeCache(folders, { snapshots: past, acknowledged });
  return [...past]
    .toSorted(([, a], [, b]) => a.seq - b.seq)
    .map(([id, one]) => ({ id, ...one, isAcknowledged: isAcknowledged.has(id) }));
}

/** So that the next run need not open it. */
export function rememberSnapshot(folders: LocalFolders, snapshot: Pick<Snapshot, 'id' | 'record'>): void {
  const { snapshots, acknowledged } = readCache(folders);
  writeCache(folders, { snapshots: snapshots.set(snapshot.id, remembered(snapshot)), acknowledged });
}

function remembered({ record }: Pick<Snapshot, 'record'>): Remembered {
  const { seq, counts, statistics, suspicious = [] } = record;
  return { seq, files: counts.files, bytes: counts.bytes, statistics, isSuspicious: suspicious.length > 0 };
}

const cachePath = (folders: LocalFolders): string => join(folders.cache, 'history.json');

function readCache(folders: LocalFolders): HistoryCache {
  const cache: HistoryCache = { snapshots: new Map(), acknowledged: new Map() };
  try {
    const value = JSON.parse(readFileSync(cachePath(folders), 'utf8')) as {
      snapshots: Record<string, Remembered>;
      acknowledged: Record<string, string | null>;
    };
    for (const [id, one] of Object.entries(value.snapshots)) {
      const numbers = [one.seq, one.files, one.bytes];
      const isSound = numbers.every(Number.isSafeInteger) && typeof one.isSuspicious === 'boolean';
      if (isSound && statisticsSchema.optional().safeParse(one.statistics).success) cache.snapshots.set(id, one);
    }
    for (const [id, snapshot] of Object.entries(value.acknowledged)) {
      if (snapshot === null || typeof snapshot === 'string') cache.acknowledged.set(id, snapshot);
    }
  } catch {
    // what is missing is read again
  }
  return cache;
}

function writeCache(folders: LocalFolders, { snapshots, acknowledged }: HistoryCache): void {
  const value = { snapshots: Object.fromEntries(snapshots), acknowledged: Object.fromEntries(acknowledged) };
  try {
    mkdirSync(folders.cache, { recursive: true, mode: 0o700 });
    writeFileSync(`${cachePath(folders)}.new`, JSON.stringify(value), { mode: 0o600 });
    renameSync(`${cachePath(folders)}.new`, cachePath(folders));
  } catch {
    // only time is lost
  }
}
