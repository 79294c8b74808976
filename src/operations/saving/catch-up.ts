/** After a snapshot is written: the backends that were too slow for it get it from the others, in the same run. */
import type { Clock } from '../../clock.ts';
import type { Warning } from '../../entry.ts';
import { PATIENCE_MS } from '../../backend/stragglers.ts';
import { level, type Patience, type Repository } from '../../repository/repository.ts';
import type { HostRun } from '../begin-run.ts';
import type { Seams } from '../seams.ts';

/** So long a run goes on for backends it could do without, by `commit.require`; the next run goes on from there. */
export const CATCH_UP_MS = 5 * 60_000;

/** Before a snapshot is written: a backend that lacks much gets it afterwards, if another has everything that is whole. */
export function patienceAtStart(clock: Clock): Patience {
  return { clock, ms: PATIENCE_MS, enough: (done) => done.some(({ skipped }) => skipped.length === 0) };
}

/**
 * Brings level the backends that were left behind. As long as fewer than `require` hold the snapshot it goes on (a backend that stops altogether fails by its own deadlines),
 * for the others `CATCH_UP_MS`. The mirror says how each ended.
 */
export async function catchUp(
  repository: Repository,
  { require, begin }: { require: number; begin: () => Promise<HostRun> },
  seams: Seams,
): Promise<Warning[]> {
  const { mirror } = repository;
  const behind = new Set(mirror.behind().map(({ name }) => name));
  if (behind.size === 0) return [];
  const { clock, signal, progress } = seams;
  progress({ type: 'phase', name: 'bringing slow backends level' });
  const patience = { clock, ms: CATCH_UP_MS, enough: () => mirror.live().length >= require };
  const run = await begin(); // the snapshot has ended the one before
  const { results } = await level(repository, { run, patience, packsOnly: true, signal });
  await run.end();
  return results.flatMap(({ name, objects, skipped }): Warning[] => {
    if (!behind.has(name)) return [];
    const what = `backend ${name} was slower than the others; ${objects} objects were copied to it from another backend afterwards`;
    const lacking = skipped.length > 0 ? `, ${skipped.length} could not be, the first being ${skipped[0]}` : '';
    return [{ code: 'caught_up', message: what + lacking }];
  });
}
