/** A limit on bytes per second: a token bucket (RFC 2697 has the idea, for routers) whose level may fall below zero. */
import type { Clock } from '../clock.ts';
import { assert, throwIfAborted } from '../errors.ts';
import { pause } from './retry.ts';

export interface RateLimit {
  /**
   * Takes tokens for `bytes` that are to be sent, and resolves when there were enough. Waiters are let through in the order of their
   * coming. With 0 bytes: waits until what was charged before is paid off.
   *
   * @throws `interrupted` when the signal is or gets aborted: then nothing was taken.
   */
  take(bytes: number, signal?: AbortSignal): Promise<void>;
  /** Takes tokens for bytes that have come already: whoever is next waits for them. */
  charge(bytes: number): void;
}

/** What an idle bucket holds: so much may go at once. */
const BURST_SECONDS = 1;

/**
 * A bucket for all calls that are to share the limit. It limits the average over calls: the bytes of one call go as fast as the line takes
 * them, after (sent) or before (received) the pause that they cost.
 *
 * @param bytesPerSecond more than 0
 */
export function rateLimit(bytesPerSecond: number, clock: Clock): RateLimit {
  assert(bytesPerSecond > 0 && Number.isFinite(bytesPerSecond), 'a rate limit is a number of bytes above 0');
  const fullBytes = bytesPerSecond * BURST_SECONDS;
  let level = fullBytes;
  let atMs = clock.monotonic();
  const draw = (bytes: number): void => {
    const nowMs = clock.monotonic();
    level = Math.min(fullBytes, level + ((nowMs - atMs) / 1000) * bytesPerSecond) - bytes;
    atMs = nowMs;
  };
  return {
    async take(bytes, signal) {
      throwIfAborted(signal);
      draw(bytes);
      if (level >= 0) return;
      try {
        await pause(clock, Math.ceil((-level / bytesPerSecond) * 1000), signal);
      } catch (error) {
        draw(-bytes);
        throw error;
      }
    },
    charge: draw,
  };
}
