/** The run records of this host. */
import type { SigningKey } from '../identity/agent-key.ts';
import { beginRun, endRun, type BegunRun, type Repository, type RunId } from '../repository/repository.ts';
import { readLocalState, writeLocalState, type LocalFolders } from './host/local-state.ts';
import type { Seams } from './seams.ts';

/** So many earlier runs each one names: each is over by any of those after it, should some of them be lost. */
const RUNS_REMEMBERED = 32;

export interface HostRun extends BegunRun {
  /** Takes the record away, where that is allowed and nothing may arrive late; after an orderly end without a snapshot. */
  end(): Promise<void>;
}

/**
 * Says on every live backend that a run of this host begins, and that all before it are over; the caller holds the lock of the state folder. A prune, which
 * gives that lock back when this is done and holds one of its own, is over only for the next prune.
 * @throws `not_enough_backends`
 */
export async function beginHostRun(
  repository: Repository,
  { folders, signer, host, kind }: { folders: LocalFolders; signer: SigningKey; host: string; kind: 'write' | 'sweep' },
  seams: Seams,
): Promise<HostRun> {
  const { runs = [], sweeps = [] } = readLocalState(folders) ?? {};
  const after = kind === 'sweep' ? [...runs, ...sweeps] : runs;
  const run = await beginRun(
    repository,
    {
      ...{ kind, host, after },
      remember: (id) => {
        const add = (known: readonly RunId[]) => [...known, id].slice(-RUNS_REMEMBERED);
        writeLocalState(folders, kind === 'sweep' ? { sweeps: add(sweeps) } : { runs: add(runs) });
      },
    },
    signer,
    seams,
  );
  return { ...run, end: () => endRun(repository, run, seams.signal) };
}
