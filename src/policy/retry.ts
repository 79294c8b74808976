/**
 * Doing a call again that failed for now, after a pause: exponential back-off with full jitter, as in Marc Brooker, "Exponential Backoff And
 * Jitter" (AWS Architecture Blog, 2015).
 */
import type { Clock, Random } from '../clock.ts';
import { HoldfastError, throwIfAborted } from '../errors.ts';

export interface RetrySettings {
  /** How often the call is made at most, the first time included; 1 or more. */
  tries: number;
  /** The pause after the n-th failure (from 0) is random, evenly from 0 up to `min(capMs, baseMs * 2^n)`. */
  baseMs: number;
  capMs: number;
  /** No try is begun when its pause would end later than this after the first failure. */
  budgetMs: number;
}

export interface RetryOptions {
  settings: RetrySettings;
  clock: Clock;
  random: Random;
  signal?: AbortSignal | undefined;
  /** Asked before each repetition: false gives up at once. */
  mayGoOn?: () => boolean;
}

/** True for what the same call may not meet again: a HoldfastError that says so of itself. Defects and permanent failures never. */
export function isTransient(error: unknown): error is HoldfastError {
  return error instanceof HoldfastError && error.retryable;
}

/** The pause after the n-th failure, from 0, in milliseconds. */
export function fullJitterMs(n: number, { baseMs, capMs }: RetrySettings, random: Random): number {
  const [a = 0, b = 0, c = 0] = random.bytes(3);
  return ((a * 0x10000 + b * 0x100 + c) / 0x1000000) * Math.min(capMs, baseMs * 2 ** n);
}

/**
 * Makes the call until it succeeds, fails for good, or tries or budget are used up.
 *
 * The budget begins with the first failure: a call that fails at once is tried often, one that takes minutes to fail is tried once more. A
 * call whose tries each take `t` therefore costs at most `2 t + budgetMs` (the last is begun within the budget, and takes its time).
 *
 * @throws what the last try threw; `interrupted` when the signal is aborted, also in a pause.
 */
export async function retry<T>(
  call: () => Promise<T>,
  { settings, clock, random, signal, mayGoOn = () => true }: RetryOptions,
): Promise<T> {
  let giveUpAtMs = Infinity;
  for (let failures = 0; ; failures++) {
    throwIfAborted(signal);
    try {
      return await call();
    } catch (error) {
      if (!isTransient(error) || failures + 1 >= settings.tries) throw error;
      throwIfAborted(signal);
      if (failures === 0) giveUpAtMs = clock.monotonic() + settings.budgetMs;
      const pauseMs = fullJitterMs(failures, settings, random);
      if (clock.monotonic() + pauseMs > giveUpAtMs || !mayGoOn()) throw error;
      await pause(clock, pauseMs, signal);
      if (!mayGoOn()) throw error;
    }
  }
}

/** Sleeps. @throws `interrupted` when the signal is or gets aborted */
export async function pause(clock: Clock, ms: number, signal: AbortSignal | undefined): Promise<void> {
  throwIfAborted(signal);
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    throwIfAborted(signal);
    throw error;
  }
}
