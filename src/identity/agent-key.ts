/** The agent's Ed25519 key in the forms in which such keys are kept: OpenSSH, PKCS#8, raw hexadecimal. */
import type { Random } from '../clock.ts';
import { publicKeyOf, PUBLIC_KEY_BYTES, SEED_BYTES } from '../crypto/ed25519.ts';
import { equalBytes, sha256, unhex } from '../crypto/hash.ts';
import { HoldfastError } from '../errors.ts';
import { escapeForDisplay } from '../raw-path.ts';

export interface SigningKey {
  /** 32 bytes, secret: what RFC 8032 calls the private key. */
  seed: Uint8Array;
  /** 32 bytes. */
  publicKey: Uint8Array;
}

const SSH_TYPE = 'ssh-ed25519';
const SSH_MAGIC = 'openssh-key-v1\0';
const SSH_BLOCK_BYTES = 8;
const ED25519_OID = [0x2b, 0x65, 0x70];

/**
 * The key in an unencrypted OpenSSH private key file, a PKCS#8 PEM file (RFC 8410), or 64 hexadecimal digits (the seed;
 * or 128: seed and public key). A public part in the text must be the one of the seed. Throws `usage` when the key is
 * encrypted or a public one, `wrong_key` when it is no Ed25519 key; the text is never repeated.
 */
export function parseAgentKey(text: string): SigningKey {
  const trimmed = text.trim();
  if (/^[0-9a-f]+$/i.test(trimmed)) return parseHexKey(trimmed.toLowerCase());
  const pem = /^-----BEGIN ([A-Z0-9 ]+)-----\s([A-Za-z0-9+/=\s]*)-----END \1-----$/.exec(trimmed);
  if (pem?.[1] === 'OPENSSH PRIVATE KEY') return parseOpenSsh(Buffer.from(pem[2] ?? '', 'base64'));
  if (pem?.[1] === 'PRIVATE KEY') return parsePkcs8(Buffer.from(pem[2] ?? '', 'base64'));
  if (trimmed.startsWith('-----BEGIN ENCRYPTED PRIVATE KEY-----')) {
    throw encrypted('openssl pkey -in FILE -out NEW-FILE');
  }
  if (pem?.[1] === 'PUBLIC KEY' || /^ssh-\S+ AAAA/.test(trimmed)) {
    throw new HoldfastError('usage', 'the key file holds a public key, not the private key', {
      hint: 'Give the private key: the file without .pub.',
    });
  }
  throw notAKey('it is neither an OpenSSH nor a PKCS#8 private key, nor hexadecimal digits');
}

/** The key as an unencrypted OpenSSH private key file (OpenSSH, PROTOCOL.key). */
export function formatOpenSsh(key: SigningKey, comment: string, random: Random): string {
  const check = random.bytes(4);
  const type = Buffer.from(SSH_TYPE);
  const secret = Buffer.concat([
    ...[check, check],
    ...[type, key.publicKey, Buffer.concat([key.seed, key.publicKey]), Buffer.from(oneLine(comment))].map(sshString),
  ]);
  const padding = Uint8Array.from({ length: -secret.length & (SSH_BLOCK_BYTES - 1) }, (_, i) => i + 1);
  const none = sshString(Buffer.from('none'));
  const file = Buffer.concat([
    ...[Buffer.from(SSH_MAGIC), none, none, sshString(new Uint8Array(0)), uint32(1)],
    ...[sshPublicBlob(key.publicKey), Buffer.concat([secret, padding])].map(sshString),
  ]);
  const lines = file.toString('base64').match(/.{1,70}/g) ?? [];
  return ['-----BEGIN OPENSSH PRIVATE KEY-----', ...lines, '-----END OPENSSH PRIVATE KEY-----', ''].join('\n');
}

export type AgentKeyFormat = 'openssh' | 'pkcs8' | 'hex';

/** DER of a PKCS#8 Ed25519 private key (RFC 8410) up to the 32 bytes of the seed. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** The text of a key file that `parseAgentKey` and other tools read. Secret. */
export function formatAgentKey(key: SigningKey, format: AgentKeyFormat, comment: string, random: Random): string {
  switch (format) {
    case 'openssh':
      return formatOpenSsh(key, comment, random);
    case 'pkcs8':
      return `-----BEGIN PRIVATE KEY-----\n${Buffer.concat([PKCS8_PREFIX, key.seed]).toString('base64')}\n-----END PRIVATE KEY-----\n`;
    case 'hex':
      return `${Buffer.from(key.seed).toString('hex')}\n`;
  }
}

/** `SHA256:` and 43 characters, as `ssh-keygen -l` prints the key. */
export function fingerprint(publicKey: Uint8Array): string {
  return `SHA256:${Buffer.from(sha256(sshPublicBlob(publicKey)))
    .toString('base64')
    .replace(/=+$/, '')}`;
}

/** The line of an `authorized_keys` or `.pub` file, without a newline. */
export function sshPublicLine(publicKey: Uint8Array, comment: string): string {
  return `${SSH_TYPE} ${sshPublicBlob(publicKey).toString('base64')} ${oneLine(comment)}`.trimEnd();
}

function parseHexKey(digits: string): SigningKey {
  if (digits.length !== 2 * SEED_BYTES && digits.length !== 2 * (SEED_BYTES + PUBLIC_KEY_BYTES)) {
    throw notAKey(`expected 64 or 128 hexadecimal digits, got ${digits.length}`);
  }
  const bytes = unhex(digits);
  return keyOf(bytes.subarray(0, SEED_BYTES), bytes.length > SEED_BYTES ? bytes.subarray(SEED_BYTES) : undefined);
}

function parseOpenSsh(file: Buffer): SigningKey {
  const reader = sshReader(file);
  if (reader.take(SSH_MAGIC.length).toString('latin1') !== SSH_MAGIC)
    throw notAKey('it lacks the mark of OpenSSH keys');
  const cipher = reader.string().toString('latin1');
  reader.string(); // key derivation, used by encrypted keys only
  reader.string();
  if (cipher !== 'none') throw encrypted('ssh-keygen -p -f COPY-OF-FILE');
  if (reader.uint32() !== 1) throw notAKey('it holds more than one key');
  const publicBlob = reader.string();
  const secret = sshReader(reader.string());
  reader.end();
  if (secret.uint32() !== secret.uint32()) throw notAKey('its check numbers differ');
  const type = secret.string().toString('latin1');
  if (type !== SSH_TYPE) throw notAKey(`it is of the type "${escapeForDisplay(type.slice(0, 40))}"`);
  const publicKey = secret.string();
  const pair = secret.string();
  secret.string(); // comment
  secret.padding();
  if (pair.length !== SEED_BYTES + PUBLIC_KEY_BYTES)
    throw notAKey(`expected a key pair of 64 bytes, got ${pair.length}`);
  const key = keyOf(pair.subarray(0, SEED_BYTES), pair.subarray(SEED_BYTES));
  if (!equalBytes(publicKey, key.publicKey) || !equalBytes(publicBlob, sshPublicBlob(key.publicKey))) throw mismatch();
  return key;
}

/**
 * PrivateKeyInfo (RFC 5958, RFC 8410): SEQUENCE {version, {id-Ed25519}, OCTET STRING {OCTET STRING seed}, [0]
 * attributes?, [1] public key?}.
 */
function parsePkcs8(der: Buffer): SigningKey {
  const file = derReader(der);
  const info = derReader(file.expect(0x30));
  file.end();
  const version = info.expect(0x02);
  const algorithm = info.expect(0x30);
  if (
    !equalBytes(derReader(algorithm).expect(0x06), Uint8Array.from(ED25519_OID)) ||
    algorithm.length !== 2 + ED25519_OID.length
  ) {
    throw notAKey('it is a PKCS#8 key of another algorithm');
  }
  const seed = derReader(info.expect(0x04)).expect(0x04);
  info.optional(0xa0);
  const bits = info.optional(0x81);
  info.end();
  if (version.length !== 1 || version[0] !== (bits === undefined ? 0 : 1) || (bits !== undefined && bits[0] !== 0)) {
    throw notAKey('its PKCS#8 form is not the one of RFC 8410');
  }
  return keyOf(seed, bits?.subarray(1));
}

function keyOf(seed: Uint8Array, storedPublicKey?: Uint8Array): SigningKey {
  if (seed.length !== SEED_BYTES) throw notAKey(`expected a seed of ${SEED_BYTES} bytes, got ${seed.length}`);
  const publicKey = publicKeyOf(seed);
  if (storedPublicKey !== undefined && !equalBytes(storedPublicKey, publicKey)) throw mismatch();
  return { seed: new Uint8Array(seed), publicKey };
}

function sshPublicBlob(publicKey: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(SSH_TYPE), publicKey].map(sshString));
}

function sshString(bytes: Uint8Array): Buffer {
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** SSH's data types (RFC 4251, 5), read strictly: whatever runs past the end is an error. */
function sshReader(bytes: Buffer) {
  let at = 0;
  const take = (length: number): Buffer => {
    if (length > bytes.length - at) throw notAKey('it is cut short');
    return bytes.subarray(at, (at += length));
  };
  const uint32 = () => take(4).readUInt32BE();
  return {
    take,
    uint32,
    string: () => take(uint32()),
    end: () => {
      if (at !== bytes.length) throw notAKey('it holds more than a key');
    },
    /** The rest: 1, 2, 3, … up to the next whole block. */
    padding: () => {
      const rest = take(bytes.length - at);
      if (
        bytes.length % SSH_BLOCK_BYTES !== 0 ||
        rest.length >= SSH_BLOCK_BYTES ||
        rest.some((byte, i) => byte !== i + 1)
      ) {
        throw notAKey('its padding is wrong');
      }
    },
  };
}

/** As much of DER (X.690) as these keys need: definite lengths below 256. */
function derReader(bytes: Buffer) {
  let at = 0;
  const optional = (tag: number): Buffer | undefined => {
    if (bytes[at] !== tag) return undefined;
    const short = bytes[at + 1];
    const [length, header] = short === 0x81 ? [bytes[at + 2], 3] : [short, 2];
    if (length === undefined || (header === 2) !== length < 0x80) throw notAKey('its PKCS#8 form cannot be read');
    if (at + header + length > bytes.length) throw notAKey('it is cut short');
    return bytes.subarray(at + header, (at += header + length));
  };
  return {
    optional,
    expect: (tag: number): Buffer => {
      const content = optional(tag);
      if (content === undefined) throw notAKey('its PKCS#8 form cannot be read');
      return content;
    },
    end: () => {
      if (at !== bytes.length) throw notAKey('it holds more than a key');
    },
  };
}

function oneLine(comment: string): string {
  return comment.replace(/[\x00-\x1f\x7f]+/g, ' ').trim();
}

function encrypted(command: string): HoldfastError {
  return new HoldfastError('usage', 'the agent key file is encrypted with a passphrase', {
    hint: `Make a copy without the passphrase first (${command}), import it, and delete the copy.`,
  });
}

function notAKey(problem: string): HoldfastError {
  return new HoldfastError('wrong_key', `not an Ed25519 private key that can be used: ${problem}`, {
    hint: 'Accepted are OpenSSH and PKCS#8 (PEM) files of an Ed25519 key, and its seed as 64 hexadecimal digits.',
  });
}

function mismatch(): HoldfastError {
  return new HoldfastError('wrong_key', 'the public key in the agent key file is not the one of its private key', {
    hint: 'The file is damaged or was put together from two keys; use another copy of it.',
  });
}
