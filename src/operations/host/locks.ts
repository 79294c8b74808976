/** Keeping locked objects locked: what is still referenced must not become deletable because it is old. */
import { isSurvivable, type HoldfastError } from '../../errors.ts';
import { drain } from '../../drain.ts';
import { parseKey, type Repository } from '../../repository/repository.ts';
import { DAY_MS } from '../../units.ts';
import { readLocalState, writeLocalState, type LocalFolders } from './local-state.ts';
import type { Seams } from '../seams.ts';

/** Requests under way at once: one for each object. */
const LANES = 16;

export interface ExtendedLocks {
  /** Objects whose time was set anew, by name of the backend. */
  extended: ReadonlyMap<string, number>;
  failed: ReadonlyMap<string, HoldfastError>;
}

/**
 * On backends with a lock, sets the time of every object anew, when half of it may be over since that was last done. Also
 * of what is condemned: who has stolen the agent's key can condemn packs in use, and they would lose their lock in silence. What this host does not remember it does again.
 */
export async function extendLocks(repository: Repository, folders: LocalFolders, seams: Seams): Promise<ExtendedLocks> {
  const extended = new Map<string, number>();
  const failed = new Map<string, HoldfastError>();
  const { clock, signal } = seams;
  for (const { name, backend } of repository.mirror.live()) {
    const { lock } = backend;
    const nowMs = clock.now();
    const memory = readLocalState(folders);
    // By the days, too: a longer lock counts from now on.
    const place = `${name} ${lock?.days}d`;
    const lastMs = memory?.locked?.[place];
    if (!lock || (lastMs !== undefined && nowMs - lastMs < (lock.days * DAY_MS) / 2)) continue;
    try {
      const keys: string[] = [];
      for await (const { key } of backend.list('', { signal })) {
        const named = parseKey(key);
        if (!named || named.kind === 'run' || named.kind === 'condemned') continue;
        keys.push(key);
      }
      const count = keys.length;
      let refused: HoldfastError | undefined;
      await drain(keys, LANES, (key) =>
        lock.extend(key, { signal }).catch((error: unknown) => {
          // What is refused for one object is no reason to leave the others.
          if (!isSurvivable(error) || error.retryable) throw error;
          refused ??= error;
        }),
      );
      if (refused) throw refused;
      extended.set(name, count);
      writeLocalState(folders, { locked: { ...memory?.locked, [place]: nowMs } });
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      failed.set(name, error);
    }
  }
  return { extended, failed };
}
