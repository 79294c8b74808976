/** How fresh the backups of an agent are, by what its backends hold now: one listing of each, and one record opened. */
import type { HoldfastError } from '../errors.ts';
import { isSurvivable } from '../errors.ts';
import { openRepository, type Access, type SnapshotId } from '../repository/repository.ts';
import { openMirror, type BackendAddress } from './backends.ts';
import type { Seams } from './seams.ts';

export interface Newest {
  id: SnapshotId;
  /** When it was made, as its signed record says; milliseconds since the Unix epoch. */
  timeMs: number;
  /** Names of the backends that hold it, in the order of the config, whichever answered first. */
  backends: string[];
}

export interface Freshness {
  /** The newest that verifies; undefined when there is none. */
  newest: Newest | undefined;
  /** Those that are listed as newer, and do not verify. */
  unreadable: number;
  /** Backends that could not be asked. */
  failed: { name: string; error: HoldfastError }[];
}

/** So many are opened before the newest that verifies is given up for. */
const OPENED_MAX = 32;

/** @throws `no_repository`, `wrong_key`, `not_enough_backends`, … */
export async function freshness(
  options: { backends: readonly BackendAddress[]; access: Access },
  seams: Seams,
): Promise<Freshness> {
  const { signal } = seams;
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openRepository(mirror, options.access, seams);
  const listed = [...(await repository.listSnapshots(signal))].toSorted(([a], [b]) => (a < b ? 1 : -1));
  let newest: Newest | undefined;
  let unreadable = 0;
  for (const [key, { id, backends }] of listed.slice(0, OPENED_MAX)) {
    try {
      const { record } = await repository.readSnapshot(id, key, signal);
      const holders = options.backends.map(({ name }) => name).filter((name) => backends.includes(name));
      newest = { id, timeMs: Date.parse(record.time), backends: holders };
      break;
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      unreadable++;
    }
  }
  const failed = mirror.states().flatMap(({ name, error }) => (error ? [{ name, error }] : []));
  return { newest, unreadable, failed };
}
