/** One history after another, for the tests and for the torture. */
import { History, type Case, type Flaws } from './actors.ts';

const DEEDS = 20;

export interface Outcome {
  /** What went wrong, with the history that led there. */
  problem?: string;
  /** Packs that were deleted while others were at work. */
  deletedBeside: number;
  /** Runs of backup, forget, undo and prune; and those of them that died in mid-run. */
  runs: number;
  deaths: number;
}

/** The same seed gives the same history, where `zlib-at-once.ts` was imported first. */
export async function problemOf(seed: number, repository: Case, flaws?: Flaws): Promise<Outcome> {
  const history = new History(seed, repository, flaws);
  const { world } = history;
  const outcome = () => ({
    deletedBeside: history.deletedBeside,
    runs: world.history.filter((line) => / begins( without \w+)?$/.test(line)).length,
    deaths: world.history.filter((line) => / dies (before|after) \w+$/.test(line)).length,
  });
  try {
    await history.run(DEEDS, { isEnded: flaws === undefined });
    return outcome();
  } catch (error) {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { ...outcome(), problem: `seed ${seed}: ${what}\n${world.history.join('\n')}` };
  }
}
