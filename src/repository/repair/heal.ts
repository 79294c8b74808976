/** Healing: an object that one backend gave damaged, or not at all, is stored there again from another that has it whole. */
import { HoldfastError, isHoldfastError, isSurvivable } from '../../errors.ts';
import type { Mishap } from '../../backend/mirror.ts';
import { checkStored } from './level.ts';
import { parseKey } from '../records/object-name.ts';
import type { Repository } from '../open.ts';

export interface Healed {
  backend: string;
  key: string;
}

export interface HealResult {
  healed: Healed[];
  /** What could not be stored, and why. `mayArrive`: it was sent, and may take effect yet. */
  failed: (Healed & { error: HoldfastError; mayArrive: boolean })[];
}

/** What is deleted when nobody needs it any more, and would name what is gone if it came back. */
const DELETED = ['snapshot', 'index', 'condemned'];

/**
 * Heals what reads met on the way. The one case in which an object is replaced: by bytes that its name, or the record that names it, vouches for. What
 * was stored is read again before it counts.
 */
export async function heal(
  repository: Repository,
  mishaps: readonly Mishap[],
  signal: AbortSignal | undefined,
): Promise<HealResult> {
  const result: HealResult = { healed: [], failed: [] };
  for (const { backend: name, key, error, servedBy } of mishaps) {
    if (servedBy === undefined || !isHoldfastError(error, 'damaged', 'not_found', 'forged') || !parseKey(key)) continue;
    const check = async (bytes: Uint8Array): Promise<Uint8Array> => {
      await checkStored(repository, key, bytes);
      return bytes;
    };
    let mayArrive = false;
    try {
      const backend = repository.mirror.member(name);
      const bytes = await repository.mirror.read(key, check, { signal, prefer: servedBy, quiet: true });
      mayArrive = true;
      await backend.put(key, bytes, { signal });
      mayArrive = false;
      if (DELETED.includes(parseKey(key)?.kind ?? '') && !(await isElsewhere(repository, key, name, signal))) {
        await backend.delete(key, { signal });
        throw new HoldfastError('not_found', `${key} was deleted on the other backends meanwhile`);
      }
      await check(await backend.get(key, undefined, { signal }));
      result.healed.push({ backend: name, key });
    } catch (problem) {
      if (!isSurvivable(problem)) throw problem;
      result.failed.push({ backend: name, key, error: problem, mayArrive });
    }
  }
  return result;
}

/** Whether another live backend has it still; where none could be asked, it is taken to. Who heals puts no run on record, and a store that hung may have outlasted a deletion. */
async function isElsewhere(
  { mirror }: Repository,
  key: string,
  except: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  let hasAnswered = false;
  for (const { name, backend } of mirror.live()) {
    if (name === except) continue;
    try {
      if (await backend.head(key, { signal })) return true;
      hasAnswered = true;
    } catch (error) {
      if (!isSurvivable(error)) throw error;
    }
  }
  return !hasAnswered;
}
