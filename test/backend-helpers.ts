/** What the tests of backends, and of what is stored on them, have in common. */
import { expect } from 'vitest';
import { isHoldfastError, type ErrorCode } from '../src/errors.ts';
import type { Backend, ObjectInfo } from '../src/backend/backend.ts';

/** `length` bytes that differ from place to place and from seed to seed. */
export function patterned(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed + 1) * 0x9e3779b1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

export async function collect(listing: AsyncIterable<ObjectInfo>): Promise<ObjectInfo[]> {
  const objects: ObjectInfo[] = [];
  for await (const object of listing) objects.push(object);
  return objects;
}

/** What `list` gives, sorted by key. */
export async function keysAndSizes(backend: Backend, prefix: string): Promise<[key: string, size: number][]> {
  const objects = await collect(backend.list(prefix));
  return objects.map(({ key, size }): [string, number] => [key, size]).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Byte equality without a diff of megabytes when it fails. */
export function expectSame(actual: Uint8Array | undefined, wanted: Uint8Array | undefined): void {
  if (actual && wanted && Buffer.compare(actual, wanted) === 0) return;
  const at = actual?.findIndex((byte, i) => byte !== wanted?.[i]) ?? -1;
  expect.fail(`bytes differ: ${actual?.length} instead of ${wanted?.length}, the first difference at ${at}`);
}

/** Asserts that a promise rejects with a HoldfastError of (one of) the code(s); resolves to it. */
export async function rejects(
  promise: Promise<unknown>,
  code: ErrorCode | readonly ErrorCode[],
  what = '',
): Promise<Error> {
  const error = await promise.then(
    (value) => expect.fail(`${what} resolved to ${String(value)} instead of rejecting with ${String(code)}`),
    (reason: unknown) => reason,
  );
  if (!isHoldfastError(error)) throw error;
  expect(typeof code === 'string' ? [code] : code, `${what}: ${error.message}`).toContain(error.code);
  return error;
}

/** For `get(…).catch`. */
export function notFoundAsUndefined(error: unknown): undefined {
  if (!isHoldfastError(error, 'not_found')) throw error;
}
