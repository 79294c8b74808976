/** The only places where time and randomness enter: injected, so that tests and golden repositories are reproducible. */
import { randomFillSync } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';

export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. */
  now(): number;
  /** Monotonic clock in milliseconds, for durations. */
  monotonic(): number;
  /** Resolves after `ms`; rejects when the signal is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface Random {
  /** `length` fresh, cryptographically secure random bytes. */
  bytes(length: number): Uint8Array;
}

/** 24 days: a timer of Node.js that is set for longer goes off at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: async (ms, signal) => {
    let restMs = ms;
    do {
      await delay(Math.min(restMs, TIMER_MAX_MS), undefined, signal ? { signal } : {});
      restMs -= TIMER_MAX_MS;
    } while (restMs > 0);
  },
};

export const systemRandom: Random = {
  bytes: (length) => randomFillSync(new Uint8Array(length)),
};
