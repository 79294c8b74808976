import { createHash } from 'node:crypto';
import * as noble from '@noble/ed25519';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { publicKeyOf, sign, verify } from '../../src/crypto/ed25519.ts';
import { hex, unhex } from '../../src/crypto/hash.ts';
import { failure, vectors } from './support.ts';

interface Vector {
  name: string;
  seed: string;
  publicKey: string;
  message: string;
  signature: string;
}
const { vectors: cases } = vectors<{ vectors: Vector[] }>('ed25519-rfc8032');

/** The order of the group, 2^252 + 27742317777372353535851937790883648493. */
const L = 2n ** 252n + 27742317777372353535851937790883648493n;

describe('RFC 8032, section 7.1', () => {
  it('has all five vectors', () => expect(cases).toHaveLength(5));

  it.each(cases)('$name', ({ seed, publicKey, message, signature }) => {
    expect(hex(publicKeyOf(unhex(seed)))).toBe(publicKey);
    expect(hex(sign(unhex(message), unhex(seed)))).toBe(signature);
    expect(verify(unhex(signature), unhex(message), unhex(publicKey))).toBe(true);
  });
});

describe('signatures', () => {
  const seed = new Uint8Array(32).fill(9);
  const publicKey = publicKeyOf(seed);
  const message = Buffer.from('a message');
  const signature = sign(message, seed);

  it('and keys are those of an independent implementation, which accepts them', () => {
    noble.hashes.sha512 = (bytes) => new Uint8Array(createHash('sha512').update(bytes).digest());
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.uint8Array({ maxLength: 300 }),
        (secret, text) => {
          expect(publicKeyOf(secret)).toEqual(noble.getPublicKey(secret));
          expect(sign(text, secret)).toEqual(noble.sign(text, secret));
          expect(noble.verify(sign(text, secret), text, publicKeyOf(secret), { zip215: false })).toBe(true);
        },
      ),
      { numRuns: 25 },
    );
  });

  it('do not verify with any one bit changed in message, signature or key', () => {
    for (const [what, bytes] of Object.entries({ message: new Uint8Array(message), signature, publicKey })) {
      for (let i = 0; i < bytes.length; i++) {
        const changed = bytes.slice();
        changed[i]! ^= 1 << (i % 8);
        const all = { message, signature, publicKey, [what]: changed };
        expect(verify(all.signature, all.message, all.publicKey), `${what} byte ${i}`).toBe(false);
      }
    }
  });

  it('are false, not an error, at every wrong length', () => {
    for (const length of [0, 31, 32, 63, 65, 128]) {
      expect(verify(new Uint8Array(length), message, publicKey)).toBe(false);
    }
    for (const length of [0, 31, 33, 64]) expect(verify(signature, message, new Uint8Array(length))).toBe(false);
  });

  it('are refused with S not below the group order', () => {
    const s = BigInt(`0x${hex(signature.slice(32).reverse())}`) + L;
    const malleable = signature.slice();
    malleable.set(unhex(s.toString(16).padStart(64, '0')).reverse(), 32);
    expect(verify(malleable, message, publicKey)).toBe(false);
  });

  it('are refused under keys of small order, which would accept any message', () => {
    const identity = new Uint8Array(32);
    identity[0] = 1; // the neutral element
    const forged = new Uint8Array(64);
    forged[0] = 1; // R the neutral element, S = 0: the equation holds for every message
    expect(verify(forged, message, identity)).toBe(false);
    expect(verify(forged, message, new Uint8Array(32))).toBe(false); // a point of order 4
  });

  it('are refused for a key that is no canonical point', () => {
    const notCanonical = new Uint8Array(32).fill(0xff);
    notCanonical[31] = 0x7f; // y = 2^255 - 1, which is not below p
    expect(verify(signature, message, notCanonical)).toBe(false);
  });

  it('need a seed of 32 bytes', async () => {
    await failure(() => sign(message, new Uint8Array(64)), 'bug');
    await failure(() => publicKeyOf(new Uint8Array(31)), 'bug');
  });
});
