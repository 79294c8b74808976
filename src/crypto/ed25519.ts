/** Ed25519 (RFC 8032), pure and synchronous. A seed is the 32 bytes that RFC 8032 calls the private key. */
import { createHash } from 'node:crypto';
import { getPublicKey, hashes, sign as signMessage, verify as verifyMessage } from '@noble/ed25519';
import { assert } from '../errors.ts';

hashes.sha512 = (message) => new Uint8Array(createHash('sha512').update(message).digest());

export const SEED_BYTES = 32;
export const PUBLIC_KEY_BYTES = 32;
export const SIGNATURE_BYTES = 64;

/** The 32-byte public key of a seed. Throws `bug` when the seed is not 32 bytes. */
export function publicKeyOf(seed: Uint8Array): Uint8Array {
  assertSeed(seed);
  return getPublicKey(seed);
}

/** The 64-byte signature of a message. Throws `bug` when the seed is not 32 bytes. */
export function sign(message: Uint8Array, seed: Uint8Array): Uint8Array {
  assertSeed(seed);
  return signMessage(message, seed);
}

/**
 * RFC 8032, strict: points must be canonical and the public key not of small order, S below the group order. False,
 * never an error, for a signature or key that is malformed in any way, its length included.
 */
export function verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES || publicKey.length !== PUBLIC_KEY_BYTES) return false;
  return verifyMessage(signature, message, publicKey, { zip215: false });
}

function assertSeed(seed: Uint8Array): void {
  assert(seed.length === SEED_BYTES, `an ed25519 seed has ${SEED_BYTES} bytes, got ${seed.length}`);
}
