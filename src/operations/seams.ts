/** What every operation is given: time, chance, a way to be stopped and somebody to tell. */
import type { openBackend } from '../backend/open.ts';
import type { Clock, Random } from '../clock.ts';
import type { Progress } from '../progress.ts';

export interface Seams {
  clock: Clock;
  random: Random;
  signal?: AbortSignal | undefined;
  progress: Progress;
  /** How a configured backend is opened; by its URL, where nothing else is given. For storage that holdfast has no URL for. */
  openBackend?: typeof openBackend | undefined;
}

/** Seconds since `startMs` (monotonic), to the millisecond. */
export function secondsSince(clock: Clock, startMs: number): number {
  return Math.round(clock.monotonic() - startMs) / 1000;
}
