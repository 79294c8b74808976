import { expect, test } from 'vitest';
import { release, ROOM_BYTES } from '../src/memory.ts';

test('memory that belongs to one array alone is given back', () => {
  const bytes = new Uint8Array(100_000);
  const roomy = new Uint8Array(new ArrayBuffer(100_000 + ROOM_BYTES), 0, 100_000);
  release(bytes);
  release(roomy);
  expect([bytes.length, roomy.length]).toEqual([0, 0]);
});

test.each([
  ['a view of a larger buffer', new Uint8Array(200_000).subarray(0, 100_000)],
  ['a view that does not begin where its buffer does', new Uint8Array(100_010).subarray(10)],
  ['an array as small as those that Node keeps together', Buffer.from('small')],
  ['shared memory', new Uint8Array(new SharedArrayBuffer(100_000))],
])('%s stays', (_, bytes) => {
  const { length } = bytes;
  release(bytes);
  expect(bytes.length).toBe(length);
});
