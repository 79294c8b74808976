/** The only places where time and randomness enter: injected, so that tests and golden repositories are reproducible. */
import { randomFillSync } from 'node:crypto';
import { performance } from 'node:perf_hooks';

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

/** Made once: most sleeps are deadlines that were not needed, and an error with its stack for each of them costs more than the sleep. */
const ABORTED = new DOMException('This operation was aborted', 'AbortError');

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(ABORTED);
    const stop = () => {
      clearTimeout(timer);
      reject(ABORTED);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, ms);
    signal?.addEventListener('abort', stop, { once: true });
  });
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: async (ms, signal) => {
    let restMs = ms;
    do {
      await pause(Math.min(restMs, TIMER_MAX_MS), signal);
      restMs -= TIMER_MAX_MS;
    } while (restMs > 0);
  },
};

export const systemRandom: Random = {
  bytes: (length) => randomFillSync(new Uint8Array(length)),
};
