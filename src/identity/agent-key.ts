/** The agent's Ed25519 key in the forms in which such keys are kept: OpenSSH, PKCS#8, OpenClaw's, raw hexadecimal. */
import type { Random } from '../clock.ts';
import { PUBLIC_KEY_BYTES, SEED_BYTES } from '../crypto/ed25519.ts';
import { hex, unhex } from '../crypto/hash.ts';
import { HoldfastError } from '../errors.ts';
import { formatDevice, parseDevice } from './device-key.ts';
import { formatOpenSsh, isEncryptedOpenSsh, openOpenSsh, OPENSSH_LABEL, parseOpenSsh } from './openssh-key.ts';
import { parsePem } from './pem.ts';
import { ENCRYPTED_PKCS8_LABEL, formatPkcs8, openPkcs8, parsePkcs8, PKCS8_DECRYPT, PKCS8_LABEL } from './pkcs8-key.ts';
import { notAKey, passphraseNeeded, signingKeyOf, type SigningKey } from './signing-key.ts';

export { formatEncryptedOpenSsh, formatOpenSsh } from './openssh-key.ts';
export { deviceId, didKey, fingerprint, looksLikePublicKey, parsePublicKey, sshPublicLine } from './public-key.ts';
export type { SigningKey } from './signing-key.ts';

/** `device` is OpenClaw's device.json; `hex` the seed. */
export const AGENT_KEY_FORMATS = ['openssh', 'pkcs8', 'device', 'hex'] as const;
export type AgentKeyFormat = (typeof AGENT_KEY_FORMATS)[number];

/**
 * The key in an unencrypted OpenSSH private key file, a PKCS#8 PEM file (RFC 8410), a device.json, or 64 hexadecimal
 * digits (the seed; or 128: seed and public key). A public part in the text must be the one of the seed. Throws
 * `missing_key` when the key is encrypted (then `openAgentKey`), `usage` when it is a public one, `wrong_key` when it is no
 * Ed25519 key, `unsupported_format` for a device.json of a newer version; the text is never repeated.
 */
export function parseAgentKey(text: string): SigningKey {
  const trimmed = text.trim();
  if (/^[0-9a-f]+$/i.test(trimmed)) return parseHexKey(trimmed.toLowerCase());
  if (trimmed.startsWith('{')) return parseDevice(trimmed);
  const pem = parsePem(trimmed);
  if (pem?.label === OPENSSH_LABEL) return parseOpenSsh(pem.bytes);
  if (pem?.label === PKCS8_LABEL) return parsePkcs8(pem.bytes);
  if (pem?.label === ENCRYPTED_PKCS8_LABEL) throw passphraseNeeded(PKCS8_DECRYPT);
  if (pem?.label === 'PUBLIC KEY' || /^ssh-\S+ AAAA/.test(trimmed)) {
    throw new HoldfastError('usage', 'the key file holds a public key, not the private key', {
      hint: 'Give the private key: the file without .pub.',
    });
  }
  throw notAKey('it is neither an OpenSSH nor a PKCS#8 private key, nor a device.json, nor hexadecimal digits');
}

/** Whether `parseAgentKey` would ask for a passphrase; false for a text that is no key. */
export function isEncryptedAgentKey(text: string): boolean {
  const pem = parsePem(text);
  return pem?.label === ENCRYPTED_PKCS8_LABEL || (pem?.label === OPENSSH_LABEL && isEncryptedOpenSsh(pem.bytes));
}

/**
 * The key in a text of any kind that `parseAgentKey` takes, or one of them under a passphrase: OpenSSH with aes256-ctr and
 * bcrypt, PKCS#8 with PBES2 and PBKDF2. That may take seconds, never more than some. Throws what `parseAgentKey` throws,
 * `wrong_key` also when the passphrase is not the right one, and `usage` when it is encrypted in another way.
 */
export async function openAgentKey(text: string, passphrase: string): Promise<SigningKey> {
  const pem = parsePem(text);
  if (pem?.label === OPENSSH_LABEL) return openOpenSsh(pem.bytes, passphrase);
  if (pem?.label === ENCRYPTED_PKCS8_LABEL) return openPkcs8(pem.bytes, passphrase);
  return parseAgentKey(text);
}

/**
 * The text of a key file that `parseAgentKey` and other tools read, unencrypted (see `formatEncryptedOpenSsh`). Secret.
 * The comment is written into OpenSSH files, the time (milliseconds since the Unix epoch; 0: not known) into a device.json.
 */
export function formatAgentKey(
  key: SigningKey,
  format: AgentKeyFormat,
  comment: string,
  random: Random,
  createdAtMs = 0,
): string {
  switch (format) {
    case 'openssh':
      return formatOpenSsh(key, comment, random);
    case 'pkcs8':
      return formatPkcs8(key);
    case 'device':
      return formatDevice(key, createdAtMs);
    case 'hex':
      return `${hex(key.seed)}\n`;
  }
}

function parseHexKey(digits: string): SigningKey {
  if (digits.length !== 2 * SEED_BYTES && digits.length !== 2 * (SEED_BYTES + PUBLIC_KEY_BYTES)) {
    throw notAKey(`expected 64 or 128 hexadecimal digits, got ${digits.length}`);
  }
  const bytes = unhex(digits);
  return signingKeyOf(
    bytes.subarray(0, SEED_BYTES),
    bytes.length > SEED_BYTES ? bytes.subarray(SEED_BYTES) : undefined,
  );
}
