import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { equalBytes, hex, hkdf, hkdfSha256, sha256, sha256Hex, unhex } from '../../src/crypto/hash.ts';
import { failure, vectors } from './support.ts';

interface HkdfVector {
  name: string;
  secret: string;
  salt: string;
  info: string;
  length: number;
  output: string;
}

describe('sha256', () => {
  it('gives the values of FIPS 180-4', () => {
    expect(sha256Hex(new Uint8Array(0))).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
    expect(sha256Hex(Buffer.from('abc'))).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  });

  it('takes its parts as one message', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 })), (parts) => {
        expect(hex(sha256(...parts))).toBe(createHash('sha256').update(Buffer.concat(parts)).digest('hex'));
      }),
    );
  });
});

describe('hkdf', () => {
  const { vectors: cases } = vectors<{ vectors: HkdfVector[] }>('hkdf-rfc5869');

  it('has all three vectors of RFC 5869 with SHA-256', () => expect(cases).toHaveLength(3));

  it.each(cases)('gives the output of RFC 5869 $name', ({ secret, salt, info, length, output }) => {
    expect(hex(hkdfSha256(unhex(secret), unhex(salt), unhex(info), length))).toBe(output);
  });

  it('uses the salt holdfast/v1 and tells labels apart', () => {
    const secret = new Uint8Array(32).fill(7);
    const text = (value: string) => new TextEncoder().encode(value);
    expect(hkdf(secret, 'a', 48)).toEqual(hkdfSha256(secret, text('holdfast/v1'), text('a'), 48));
    expect(hkdf(secret, 'a')).toHaveLength(32);
    expect(hkdf(secret, 'a')).not.toEqual(hkdf(secret, 'b'));
  });
});

describe('equalBytes', () => {
  it('is true for the same bytes only', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
        expect(equalBytes(a, a.slice())).toBe(true);
        expect(equalBytes(a, b)).toBe(Buffer.compare(a, b) === 0);
      }),
    );
    expect(equalBytes(new Uint8Array(2), new Uint8Array(3))).toBe(false);
  });
});

describe('hex and unhex', () => {
  it('are inverse, also for a view into a larger buffer', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.nat(20), (bytes, skip) => {
        const view = bytes.subarray(Math.min(skip, bytes.length));
        expect(unhex(hex(view), view.length)).toEqual(view.slice());
      }),
    );
  });

  it.each([
    ['an odd number of digits', 'abc', undefined, 'got 3'],
    ['too few digits', 'abcd', 32, 'expected 64 hexadecimal digits, got 4'],
    ['upper case', 'ABCD', 2, 'got 4'],
    ['other characters', 'zz11', 2, 'got 4'],
    ['white space', ' a1 ', 2, 'got 4'],
  ])('refuse %s, naming the length and not the value', async (_, text, length, message) => {
    const error = await failure(() => unhex(text, length, 'the thing'), 'damaged');
    expect(error.message).toContain('the thing');
    expect(error.message).toContain(message);
    expect(error.message).not.toContain(text.trim());
  });
});
