/**
 * Ed25519 (RFC 8032), pure and synchronous. A seed is the 32 bytes that RFC 8032 calls the private key.
 *
 * OpenSSL does the arithmetic: it takes 0.2 ms where JavaScript takes 2, and 30 at the first use. It accepts public keys that no key pair
 * has, though, so @noble/ed25519 judges each key once.
 */
import {
  createPrivateKey,
  createPublicKey,
  sign as signMessage,
  verify as verifyMessage,
  type KeyObject,
} from 'node:crypto';
import { Point } from '@noble/ed25519';
import { assert } from '../errors.ts';
import { withSecret } from './hash.ts';

export const SEED_BYTES = 32;
export const PUBLIC_KEY_BYTES = 32;
export const SIGNATURE_BYTES = 64;

/** What stands before the seed in PKCS#8, and before the public key in SubjectPublicKeyInfo (RFC 8410). */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

/** The 32-byte public key of a seed. Throws `bug` when the seed is not 32 bytes. */
export function publicKeyOf(seed: Uint8Array): Uint8Array {
  const spki = createPublicKey(privateKey(seed)).export({ format: 'der', type: 'spki' });
  return new Uint8Array(spki.subarray(SPKI_HEAD.length));
}

/** The 64-byte signature of a message. Throws `bug` when the seed is not 32 bytes. */
export function sign(message: Uint8Array, seed: Uint8Array): Uint8Array {
  return new Uint8Array(signMessage(null, message, privateKey(seed)));
}

/**
 * RFC 8032, strict: points must be canonical and the public key not of small order, S below the group order. False,
 * never an error, for a signature or key that is malformed in any way, its length included.
 */
export function verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES || publicKey.length !== PUBLIC_KEY_BYTES) return false;
  const key = checkedKey(publicKey);
  return key !== undefined && verifyMessage(null, message, key, signature);
}

function privateKey(seed: Uint8Array): KeyObject {
  assert(seed.length === SEED_BYTES, `an ed25519 seed has ${SEED_BYTES} bytes, got ${seed.length}`);
  return withSecret(Buffer.concat([PKCS8_HEAD, seed]), (key) =>
    createPrivateKey({ key: key as Buffer, format: 'der', type: 'pkcs8' }),
  );
}

/** A repository has a handful of keys; somebody who makes up more of them shall not fill the memory. */
const KEYS_REMEMBERED = 64;
const checkedKeys = new Map<string, KeyObject | undefined>();

/** Undefined for what is no public key. */
function checkedKey(publicKey: Uint8Array): KeyObject | undefined {
  const name = Buffer.from(publicKey).toString('latin1');
  if (!checkedKeys.has(name)) {
    if (checkedKeys.size >= KEYS_REMEMBERED) checkedKeys.clear();
    checkedKeys.set(name, isPublicKey(publicKey) ? importKey(publicKey) : undefined);
  }
  return checkedKeys.get(name);
}

function importKey(publicKey: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_HEAD, publicKey]), format: 'der', type: 'spki' });
}

/** A canonical point that is not of small order. */
function isPublicKey(bytes: Uint8Array): boolean {
  try {
    return !Point.fromBytes(bytes).isSmallOrder();
  } catch {
    return false;
  }
}
