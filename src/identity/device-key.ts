/** OpenClaw's `identity/device.json`: both halves of the key as PEM, and the id that derives from the public one. */
import { equalBytes } from '../crypto/hash.ts';
import { HoldfastError } from '../errors.ts';
import { parsePem } from './pem.ts';
import { formatPkcs8, parsePkcs8, PKCS8_LABEL } from './pkcs8-key.ts';
import { deviceId, formatSpki, parsePublicKey } from './public-key.ts';
import { mismatch, notAKey, type SigningKey } from './signing-key.ts';

const VERSION = 1;

/**
 * The key of such a file. Throws `unsupported_format` for another version, `wrong_key` when it is none or when id, public and private key are not of one key:
 * OpenClaw would quietly put a new identity in the place of a file that it cannot read, and mend the id.
 */
export function parseDevice(text: string): SigningKey {
  const { version, deviceId: id, publicKeyPem, privateKeyPem } = parseObject(text);
  if (typeof version === 'number' && version !== VERSION) {
    throw new HoldfastError(
      'unsupported_format',
      `the device.json is of version ${version}, and version ${VERSION} is read`,
      {
        hint: 'Give the key as an OpenSSH or PEM file instead.',
      },
    );
  }
  if (
    version !== VERSION ||
    typeof id !== 'string' ||
    typeof publicKeyPem !== 'string' ||
    typeof privateKeyPem !== 'string'
  ) {
    throw notAKey('the device.json lacks version, deviceId, publicKeyPem or privateKeyPem');
  }
  const pem = parsePem(privateKeyPem);
  if (pem?.label !== PKCS8_LABEL) throw notAKey('the privateKeyPem of the device.json is no PKCS#8 key');
  const key = parsePkcs8(pem.bytes);
  if (!equalBytes(parsePublicKey(publicKeyPem), key.publicKey)) throw mismatch('public key');
  if (id !== deviceId(key.publicKey)) throw mismatch('deviceId');
  return key;
}

/** `createdAtMs`: milliseconds since the Unix epoch. */
export function formatDevice(key: SigningKey, createdAtMs: number): string {
  const device = {
    version: VERSION,
    deviceId: deviceId(key.publicKey),
    publicKeyPem: formatSpki(key.publicKey),
    privateKeyPem: formatPkcs8(key),
    createdAtMs,
  };
  return `${JSON.stringify(device, undefined, 2)}\n`;
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // the parser's own words repeat a part of the text
  }
  throw notAKey('it begins like a device.json and is no JSON object');
}
