/** Healing: an object that one backend gave damaged, or not at all, is stored there again from another that has it whole. */
import { isHoldfastError, isSurvivable, type HoldfastError } from '../errors.ts';
import type { Mishap } from '../backend/mirror.ts';
import { checkStored } from './level.ts';
import { parseKey } from './object-name.ts';
import type { Repository } from './open.ts';

export interface Healed {
  backend: string;
  key: string;
}

export interface HealResult {
  healed: Healed[];
  /** What could not be stored, and why. */
  failed: (Healed & { error: HoldfastError })[];
}

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
    try {
      const backend = repository.mirror.member(name);
      const bytes = await repository.mirror.read(key, check, { signal, prefer: servedBy, quiet: true });
      await backend.put(key, bytes, { signal });
      await check(await backend.get(key, undefined, { signal }));
      result.healed.push({ backend: name, key });
    } catch (problem) {
      if (!isSurvivable(problem)) throw problem;
      result.failed.push({ backend: name, key, error: problem });
    }
  }
  return result;
}
