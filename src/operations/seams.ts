/** What every operation is given: time, chance, a way to be stopped and somebody to tell. */
import type { Clock, Random } from '../clock.ts';
import type { Progress } from '../progress.ts';

export interface Seams {
  clock: Clock;
  random: Random;
  signal?: AbortSignal | undefined;
  progress: Progress;
}

/** Seconds since `startMs` (monotonic), to the millisecond. */
export function secondsSince(clock: Clock, startMs: number): number {
  return Math.round(clock.monotonic() - startMs) / 1000;
}
