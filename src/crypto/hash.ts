/** Hashes, key derivation and the hexadecimal form of bytes. */
import { createHash, createSecretKey, hkdfSync, timingSafeEqual } from 'node:crypto';
import { HoldfastError } from '../errors.ts';

const SALT = new TextEncoder().encode('holdfast/v1');
const HEX_DIGITS = /^[0-9a-f]*$/;

/** SHA-256 (FIPS 180-4) of the parts, one after the other: 32 bytes. */
export function sha256(...parts: Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return plain(hash.digest());
}

/** SHA-256 as 64 lower-case hexadecimal digits. */
export function sha256Hex(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** HKDF-SHA256 (RFC 5869): `length` bytes, at most 8,160. An empty salt counts as 32 zero bytes. (Given bytes for a key, Node takes twice as long.) */
export function hkdfSha256(secret: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', createSecretKey(secret), salt, info, length));
}

/** The product's own derivation: HKDF-SHA256 with the salt `holdfast/v1`; each purpose has its own label `info`. */
export function hkdf(secret: Uint8Array, info: string, length = 32): Uint8Array {
  return hkdfSha256(secret, SALT, new TextEncoder().encode(info), length);
}

/**
 * Overwrites secrets that are not needed any more, so that they do not lie in memory until it is used again. What was a string, what OpenSSL
 * copied, and what the collector has moved, stays where it is.
 */
export function wipe(...secrets: readonly (Uint8Array | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0);
}

/** What `use` gives for a secret that is wiped afterwards. */
export function withSecret<T>(secret: Uint8Array, use: (secret: Uint8Array) => T): T {
  try {
    return use(secret);
  } finally {
    wipe(secret);
  }
}

/** Compares in a time that depends on the lengths only: for everything secret, and for every MAC and checksum of a secret. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Lower-case hexadecimal digits, two a byte. */
export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

/**
 * Bytes from lower-case hexadecimal digits, exactly `length` bytes when it is given. Throws `damaged` on anything else;
 * the message names `what`, what was expected and the length found, never the value.
 */
export function unhex(text: string, length?: number, what = 'a hexadecimal value'): Uint8Array {
  if (length === undefined ? text.length % 2 !== 0 : text.length !== 2 * length) {
    const expected = length === undefined ? 'an even number of' : 2 * length;
    throw new HoldfastError('damaged', `${what}: expected ${expected} hexadecimal digits, got ${text.length}`);
  }
  if (!HEX_DIGITS.test(text)) {
    throw new HoldfastError(
      'damaged',
      `${what}: expected only the digits 0-9 and a-f, got ${text.length} characters with others among them`,
    );
  }
  return new Uint8Array(Buffer.from(text, 'hex'));
}

/** The same memory as a Uint8Array that is no Buffer, so that it compares and slices as one. */
function plain(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}
