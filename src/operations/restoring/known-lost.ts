/** Files that cannot be restored, and of which that was known. */
import type { ChunkId, FileEntry } from '../../entry.ts';
import { isHoldfastError } from '../../errors.ts';
import {
  readAnnotations,
  whatIsSaid,
  type ChunkReader,
  type Repository,
  type Snapshot,
} from '../../repository/repository.ts';

/** Those of `lost` that lack chunks which were given up: what they lack besides does not matter any more. */
export async function knownLost(
  repository: Repository,
  snapshot: Snapshot,
  lost: readonly FileEntry[],
  reader: ChunkReader,
  signal: AbortSignal | undefined,
): Promise<Set<FileEntry>> {
  if (lost.length === 0) return new Set();
  const { annotations } = await readAnnotations(repository, undefined, signal);
  const { lost: known } = whatIsSaid(snapshot, annotations);
  if (!known) return new Set();
  return new Set(
    lost.filter(({ chunks }) => {
      const missing = chunks.filter((id) => isNowhere(reader, id));
      return missing.length > 0 && missing.every((id) => known.has(id));
    }),
  );
}

function isNowhere(reader: ChunkReader, id: ChunkId): boolean {
  try {
    reader.locate(id);
    return false;
  } catch (error) {
    if (!isHoldfastError(error, 'damaged')) throw error;
    return true;
  }
}
