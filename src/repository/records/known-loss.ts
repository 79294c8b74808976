/** What is known to be lost on every backend, and was given up: it is told, and is no alarm any more. */
import type { ChunkId } from '../../entry.ts';
import type { AnnotationRecord, LostRecord } from './format.ts';
import type { SnapshotId } from './object-name.ts';
import { packPrefixes, prefixOf, unpackPrefixes } from './prefixes.ts';

export interface KnownLoss {
  /** Nothing of the snapshot can be restored. */
  whole: boolean;
  /** Files that cannot be restored, and their bytes. */
  files: number;
  bytes: number;
  /** When it was given up (the last time). */
  time: string;
  /** Whether this chunk is among what is lost. */
  has: (id: ChunkId) => boolean;
}

/** Of each snapshot, all annotations taken together, in the order in which they were made. */
export function knownLosses(annotations: readonly { record: AnnotationRecord }[]): Map<SnapshotId, KnownLoss> {
  const chunks = new Map<SnapshotId, Set<string>>();
  const losses = new Map<SnapshotId, KnownLoss>();
  for (const { record } of annotations) {
    const { snapshot, lost, time } = record;
    if (!lost) continue;
    const all = chunks.get(snapshot) ?? new Set();
    for (const prefix of unpackPrefixes(lost.chunks)) all.add(prefix);
    chunks.set(snapshot, all);
    const whole = lost.whole === true || (losses.get(snapshot)?.whole ?? false);
    losses.set(snapshot, { whole, files: lost.files, bytes: lost.bytes, time, has: (id) => all.has(prefixOf(id)) });
  }
  return losses;
}

export function lostRecord(
  { whole, files, bytes }: Pick<KnownLoss, 'whole' | 'files' | 'bytes'>,
  chunks: Iterable<ChunkId>,
): LostRecord {
  return { ...(whole ? { whole } : {}), files, bytes, chunks: packPrefixes(chunks) };
}

/** Ids of the snapshots that are not there any more, or of which nothing can be restored: no gap in the chain is a break that begins at one of them. */
export function goneIn(losses: ReadonlyMap<SnapshotId, KnownLoss>): Set<string> {
  return new Set<string>([...losses].flatMap(([id, { whole }]) => (whole ? [id] : [])));
}
