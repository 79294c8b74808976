/** What prune takes away beside packs: records and annotations that say nothing any more. Nothing that a snapshot needs depends on one. */
import { drain } from '../../drain.ts';
import { RECORDS_IN_FLIGHT } from '../../limits.ts';
import { readAnnotations } from '../records/annotation.ts';
import type { Condemned } from '../records/condemned.ts';
import { DRILL_FORM, readStoredDrills } from '../records/drills.ts';
import { parseKey, type SnapshotId } from '../records/object-name.ts';
import type { Repository } from '../open.ts';
import { prefixOf, unpackPrefixes } from '../records/prefixes.ts';
import type { Survey } from './survey.ts';
import { readVerified, type Verified } from '../records/verified.ts';

/** Of levels that read packs: the higher, the deeper. */
const DEPTH: Readonly<Record<string, number>> = { objects: 1, chunks: 2 };

export interface Tidied {
  /** Records of verifications. */
  verifications: number;
  annotations: number;
  /** Records of drills. */
  drills: number;
}

/** Of all drills the newest so many stay. */
export const DRILLS_STORED = 200;

/** Takes away records of verifications of which later ones say all. Nothing while a backend is out of reach. @returns how many */
export async function removeOldVerifications(
  repository: Repository,
  survey: Survey,
  { nowMs, signal }: { nowMs: number; signal?: AbortSignal | undefined },
): Promise<number> {
  if (isIncomplete(repository)) return 0;
  const packs = new Set<string>();
  for (const objects of survey.listings.values()) {
    for (const key of objects.keys()) {
      const name = parseKey(key);
      if (name?.kind === 'pack') packs.add(prefixOf(name.id));
    }
  }
  const { records } = await readVerified(repository, () => true, signal);
  // Whoever has the right time does not believe one of the future: it makes no other superfluous.
  const believed = records.filter(({ record }) => Date.parse(record.time) <= nowMs);
  const old = superfluous(believed, (prefix) => packs.has(prefix));
  await removeAll(repository, old, signal);
  return old.length;
}

/**
 * Those of which every pack that is still there was found whole by a later one too, on the same backend, at the same or a deeper level. The newest of
 * each level stays, and the newest that saw the highest snapshot, which shows that storage was rolled back.
 */
function superfluous(records: readonly Verified[], isThere: (prefix: string) => boolean): Verified[] {
  const deepest = new Map<string, number>();
  const levels = new Set<string>();
  const newestFirst = records.toSorted((a, b) => {
    return a.record.time === b.record.time ? (a.id < b.id ? 1 : -1) : a.record.time < b.record.time ? 1 : -1;
  });
  const highest = Math.max(...records.map(({ record }) => record.newest?.seq ?? -1));
  const witness = newestFirst.find(({ record }) => (record.newest?.seq ?? -1) === highest);
  return newestFirst.filter((one) => {
    const { level, covered, backends } = one.record;
    const depth = DEPTH[level] ?? 0;
    let isSaidLater = true;
    for (const { backends: numbers, packs } of covered) {
      for (const prefix of unpackPrefixes(packs)) {
        if (!isThere(prefix)) continue;
        for (const number of numbers) {
          const copy = `${backends[number]?.place} ${prefix}`;
          const known = deepest.get(copy) ?? 0;
          if (known >= depth) continue;
          isSaidLater = false;
          deepest.set(copy, depth);
        }
      }
    }
    const isNewest = !levels.has(level);
    levels.add(level);
    return isSaidLater && !isNewest && one !== witness;
  });
}

/**
 * Takes away the tags, notes and acknowledgements of snapshots that cannot be put back any more: those that were in the records just swept, that no other
 * record holds and that no look of this run has shown. What was forgotten or lost stays said. @returns how many
 */
export async function removeAnnotationsOfGone(
  repository: Repository,
  survey: Survey,
  swept: readonly Condemned[],
  signal?: AbortSignal,
): Promise<number> {
  if (isIncomplete(repository)) return 0;
  const gone = snapshotsIn(swept);
  for (const id of survey.seen) gone.delete(id);
  for (const id of snapshotsIn(survey.condemned)) gone.delete(id);
  if (gone.size === 0) return 0;
  const { annotations } = await readAnnotations(repository, undefined, signal);
  const old = annotations.filter(({ record }) => gone.has(record.snapshot) && !record.forgotten && !record.lost);
  await removeAll(repository, old, signal);
  return old.length;
}

/**
 * Takes away the oldest records of drills: the newest `DRILLS_STORED` stay, and of each host the last that says that it passed, and the last that does not. Nothing
 * while a backend is out of reach. @returns how many
 */
export async function removeOldDrills(
  repository: Repository,
  survey: Survey,
  { nowMs, signal }: { nowMs: number; signal?: AbortSignal | undefined },
): Promise<number> {
  if (isIncomplete(repository)) return 0;
  const listed = new Set([...survey.listings.values()].flatMap((objects) => [...objects.keys()]));
  const keys = [...listed].filter((key) => DRILL_FORM.idIn(key) !== undefined);
  if (keys.length <= DRILLS_STORED) return 0;
  const { drills } = await readStoredDrills(repository, signal);
  // One of the future makes no other superfluous.
  const newestFirst = drills.filter(({ record }) => Date.parse(record.time) <= nowMs).toReversed();
  const kinds = new Set<string>();
  const old = newestFirst.filter(({ record: { host, result } }, i) => {
    const kind = JSON.stringify([host, result['ok'] === true]);
    const isLast = !kinds.has(kind);
    kinds.add(kind);
    return i >= DRILLS_STORED && !isLast;
  });
  await removeAll(repository, old, signal);
  return old.length;
}

function snapshotsIn(records: readonly Condemned[]): Set<SnapshotId> {
  const ids = new Set<SnapshotId>();
  for (const { record } of records) {
    for (const { key } of record.snapshots) {
      const name = parseKey(key);
      if (name?.kind === 'snapshot') ids.add(name.id);
    }
  }
  return ids;
}

/** What one backend kept, the next `level` would only bring back. */
const isIncomplete = ({ mirror }: Repository): boolean => mirror.states().some(({ state }) => state !== 'ok');

const removeAll = (repository: Repository, some: readonly { key: string }[], signal?: AbortSignal): Promise<void> =>
  drain([...some], RECORDS_IN_FLIGHT, ({ key }) => repository.mirror.delete(key, { signal }));
