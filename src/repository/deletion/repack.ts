/** Rewriting packs of which little is needed, and packs that are small: what is needed of them goes into new ones, whole packs at a time. */
import type { Clock, Random } from '../../clock.ts';
import { HoldfastError } from '../../errors.ts';
import type { PackId } from '../records/object-name.ts';
import { hasNewReader } from '../keys/keys.ts';
import type { Repository } from '../open.ts';
import { PackIndex } from '../packs/pack-index.ts';
import type { PackUse, Survey } from './survey.ts';

/** A pack of which less is needed is rewritten. */
const SPARSE_SHARE = 0.5;
/** A smaller pack is rewritten with others such. */
const SMALL_BYTES = 1024 * 1024;
/** So many small ones of a kind are let be: each backup may leave one or two. */
const SMALL_MANY = 16;

export interface Repacked {
  packs: PackId[];
  /** Those that were written, and are no good: somebody was added meanwhile who could not read them. Then no other may go for them. */
  spoiled: PackId[];
  /** Bytes of the packs that were rewritten, and of those they went into. */
  readBytes: number;
  storedBytes: number;
}

/** Which packs to rewrite, the most wasteful first, as far as the budget goes. @param budgetBytes of packs that are read */
export function chooseToRepack(uses: Iterable<PackUse>, budgetBytes: number): PackUse[] {
  const used = [...uses].filter(({ liveBytes }) => liveBytes > 0);
  const sparse = used.filter(({ liveBytes, bytes }) => liveBytes < bytes * SPARSE_SHARE);
  const small = (['data', 'manifest'] as const).flatMap((kind) => {
    const those = used.filter(({ info }) => info.kind === kind && info.storedBytes < SMALL_BYTES);
    return those.length >= SMALL_MANY ? those : [];
  });
  const share = ({ liveBytes, bytes }: PackUse) => liveBytes / bytes;
  const inOrder = (list: PackUse[]) => list.toSorted((a, b) => share(a) - share(b) || (a.info.id < b.info.id ? -1 : 1));
  const chosen: PackUse[] = [];
  let left = budgetBytes;
  for (const use of new Set([...inOrder(sparse), ...inOrder(small)])) {
    if (use.info.storedBytes > left) continue;
    left -= use.info.storedBytes;
    chosen.push(use);
  }
  return chosen;
}

/**
 * Stores what is needed of the packs in new packs, durable with their indexes on every live backend when this resolves. The old ones are still there.
 * @returns the packs that may go for it: not those of which a needed chunk could not be had
 */
export async function repack(
  repository: Repository,
  survey: Survey,
  chosen: readonly PackUse[],
  seams: { clock: Clock; random: Random; signal?: AbortSignal | undefined },
): Promise<Repacked> {
  const wantedOf = ({ number, needed }: PackUse) =>
    needed.flatMap((one) => {
      const { id, places } = survey.index.chunkAt(one);
      return places.filter(({ pack }) => pack === number).map((location) => ({ id, location }));
    });
  const reader = repository.reader(survey.index);
  const made = new PackIndex();
  // Of an index of its own: every chunk counts as new, also where it lies elsewhere.
  const writer = repository.writer(made, seams);
  const packs: PackId[] = [];
  let readBytes = 0;
  try {
    for (const use of chosen) {
      const { number, info } = use;
      const add = (_: unknown, bytes: Uint8Array) => void writer.add(bytes, info.kind);
      const missing = await reader.fromPack(number, wantedOf(use), add, seams.signal);
      await writer.ready();
      if (missing.length > 0) continue; // it stays as it is: what is damaged is not for a deletion to judge
      packs.push(info.id);
      readBytes += info.storedBytes;
    }
    await writer.flush();
  } catch (error) {
    await writer.salvage();
    throw error;
  }
  if (writer.totals.packs === 0 && packs.length > 0)
    throw new HoldfastError('bug', 'packs with needed chunks gave none');
  // After the new packs are durable: who is added from now on is granted them.
  if (await hasNewReader(repository, seams))
    return { packs: [], spoiled: made.packs.map(({ id }) => id), readBytes, storedBytes: writer.totals.storedBytes };
  return { packs, spoiled: [], readBytes, storedBytes: writer.totals.storedBytes };
}
