import { HoldfastError } from '../../src/errors.ts';
import type { Random } from '../../src/clock.ts';

/** Random bytes that are all the same: 0 gives no pause at all, 255 (nearly) the longest. */
export function randomOf(byte: number): Random {
  return { bytes: (length) => new Uint8Array(length).fill(byte) };
}

export function transient(message = 'not now'): HoldfastError {
  return new HoldfastError('backend_unavailable', message, { retryable: true });
}
