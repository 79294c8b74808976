/** Accounting for a snapshot: is every chunk that it names in an index, and do they add up? */
import type { ChunkId } from '../../entry.ts';
import { isSurvivable, type HoldfastError } from '../../errors.ts';
import { rawForDisplay } from '../../raw-path.ts';
import type { Repository } from '../open.ts';
import type { PackIndex } from '../packs/pack-index.ts';
import type { ChunkReader } from '../packs/reader.ts';
import type { Snapshot } from '../records/snapshot.ts';

export interface Account {
  /** Files of which something is wrong. */
  files: {
    /** For display. */
    path: string;
    size: number;
    /** Those that are in no index; empty when the sum is wrong. */
    chunks: ChunkId[];
    problem: string;
  }[];
  /** Why the manifest could not be read to its end. */
  error: HoldfastError | undefined;
}

/** The chunks of both manifests. */
export const manifestsOf = ({ record }: Pick<Snapshot, 'record'>): ChunkId[] => [
  ...record.manifest.chunks,
  ...(record.secrets?.chunks ?? []),
];

/** Needs the restore key. */
export async function accountFor(
  repository: Repository,
  snapshot: Snapshot,
  index: PackIndex,
  reader: ChunkReader,
  signal: AbortSignal | undefined,
): Promise<Account> {
  const account: Account = { files: [], error: undefined };
  try {
    for await (const entry of repository.allEntries(snapshot, reader, signal)) {
      if (entry.type !== 'file') continue;
      const chunks = entry.chunks.filter((id) => index.lengthOf(id) === undefined);
      const bytes = entry.chunks.reduce((sum, id) => sum + (index.lengthOf(id) ?? 0), 0);
      if (chunks.length === 0 && bytes === entry.size) continue;
      const problem =
        chunks.length > 0 ? 'a chunk of it is in no index' : `its chunks add up to ${bytes} bytes, not ${entry.size}`;
      account.files.push({ path: rawForDisplay(entry.path), size: entry.size, chunks, problem });
    }
  } catch (error) {
    if (!isSurvivable(error)) throw error;
    account.error = error;
  }
  return account;
}
