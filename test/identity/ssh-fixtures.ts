/** What other programs wrote (fixtures/vectors/ssh), and ways to change it. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { isHoldfastError } from '../../src/errors.ts';
import { parsePem } from '../../src/identity/pem.ts';

export const PASSPHRASE = 'a test passphrase';

export const sshFixture = (name: string): string =>
  readFileSync(new URL(`../../fixtures/vectors/ssh/${name}`, import.meta.url), 'utf8');

/** The bytes of a PEM file. */
export function pemBytes(text: string): Buffer {
  const pem = parsePem(text);
  if (pem === undefined) throw new Error('no PEM');
  return pem.bytes;
}

/** The bytes with some of them changed, put in or left out. */
export function mutations(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat({ max: bytes.length - 1 });
  const some = fc.uint8Array({ minLength: 1, maxLength: 6 });
  const splice = (from: number, count: number, put: Uint8Array) =>
    Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + count)]);
  return fc.oneof(
    fc.tuple(at, some).map(([from, put]) => splice(from, put.length, put)),
    fc.tuple(at, some).map(([from, put]) => splice(from, 0, put)),
    fc.tuple(at, fc.integer({ min: 1, max: 40 })).map(([from, count]) => splice(from, count, new Uint8Array(0))),
    // lengths are where parsers fail
    fc.tuple(at, fc.constantFrom(0, 1, 0x7fffffff, 0x80000000, 0xffffffff)).map(([from, value]) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(value);
      return splice(from, 4, length);
    }),
    at.map((length) => bytes.subarray(0, length)),
  );
}

/** What `read` gives, or undefined when it throws a HoldfastError; any other error is thrown on. */
export async function orRefused<T>(read: () => T | Promise<T>, told: (shown: string) => void): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!isHoldfastError(error)) throw error;
    if (error.code === 'bug') throw error;
    told(`${error.message} ${error.hint ?? ''}`);
    return undefined;
  }
}
