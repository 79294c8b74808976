/** PKCS#8 private keys of Ed25519 (RFC 5958, RFC 8410), as DER. */
import { derReader } from '../crypto/der.ts';
import { decryptPkcs8 } from '../crypto/encrypted-pkcs8.ts';
import { equalBytes } from '../crypto/hash.ts';
import { formatPem } from './pem.ts';
import { cannotDecrypt, notAKey, signingKeyOf, wrongPassphrase, type SigningKey } from './signing-key.ts';

export const PKCS8_LABEL = 'PRIVATE KEY';
export const ENCRYPTED_PKCS8_LABEL = 'ENCRYPTED PRIVATE KEY';
/** What makes a copy without a passphrase. */
export const PKCS8_DECRYPT = 'openssl pkey -in FILE -out COPY-OF-FILE';
const ED25519_ALGORITHM = Buffer.from('06032b6570', 'hex');
/** The DER of such a key, without attributes and public key, up to the 32 bytes of the seed. */
const HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');

/**
 * PrivateKeyInfo: SEQUENCE {version, {id-Ed25519}, OCTET STRING {OCTET STRING seed}, [0] attributes?, [1] public key?}.
 * Throws `wrong_key`.
 */
export function parsePkcs8(der: Uint8Array): SigningKey {
  const file = derReader(der, notAKey);
  const info = derReader(file.expect(0x30), notAKey);
  file.end();
  const version = info.expect(0x02);
  if (!equalBytes(info.expect(0x30), ED25519_ALGORITHM)) throw notAKey('it is a PKCS#8 key of another algorithm');
  const wrapped = derReader(info.expect(0x04), notAKey);
  const seed = wrapped.expect(0x04);
  wrapped.end();
  info.optional(0xa0);
  const bits = info.optional(0x81);
  info.end();
  if (version.length !== 1 || version[0] !== (bits === undefined ? 0 : 1) || (bits !== undefined && bits[0] !== 0)) {
    throw notAKey('its PKCS#8 form is not the one of RFC 8410');
  }
  return signingKeyOf(seed, bits?.subarray(1));
}

/** The same for an encrypted key. Throws `usage` when it is encrypted in a way that is not read. */
export function openPkcs8(der: Uint8Array, passphrase: string): SigningKey {
  const opened = decryptPkcs8(der, passphrase, (problem) => cannotDecrypt(problem, PKCS8_DECRYPT));
  if (opened === undefined) throw wrongPassphrase();
  return parsePkcs8(opened);
}

/** A PEM file. */
export function formatPkcs8({ seed }: SigningKey): string {
  return formatPem(PKCS8_LABEL, Buffer.concat([HEAD, seed]), 64);
}
