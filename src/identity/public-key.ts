/** The names of a public key: what people and other tools call an agent by. A public key is 32 bytes (RFC 8032). */
import { base58 } from '@scure/base';
import { PUBLIC_KEY_BYTES } from '../crypto/ed25519.ts';
import { equalBytes, hex, sha256Hex, unhex } from '../crypto/hash.ts';
import { HoldfastError } from '../errors.ts';
import { formatPem, parsePem } from './pem.ts';
import { parseSshPublicBlob, SSH_ED25519, sshPublicBlob } from './ssh-wire.ts';

/** Of did:key and multibase: base58btc of the multicodec `ed25519-pub` (0xed as a varint) and the key. */
const DID_KEY = 'did:key:z';
const ED25519_PUB = [0xed, 0x01];
/** SubjectPublicKeyInfo of an Ed25519 key (RFC 8410) up to the key itself. */
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

export { sshFingerprint as fingerprint } from '../crypto/ssh.ts';

/** The line of an `authorized_keys` or `.pub` file, without a newline. */
export function sshPublicLine(publicKey: Uint8Array, comment: string): string {
  return `${SSH_ED25519} ${sshPublicBlob(publicKey).toString('base64')} ${oneLine(comment)}`.trimEnd();
}

/** `did:key:z6Mk…` (W3C CCG, The did:key Method). */
export function didKey(publicKey: Uint8Array): string {
  return DID_KEY + base58.encode(Uint8Array.from([...ED25519_PUB, ...publicKey]));
}

/** What OpenClaw calls the key's device: its SHA-256, 64 hexadecimal digits. */
export function deviceId(publicKey: Uint8Array): string {
  return sha256Hex(publicKey);
}

/** A PEM file, as OpenSSL and OpenClaw keep it (RFC 8410). */
export function formatSpki(publicKey: Uint8Array): string {
  return formatPem('PUBLIC KEY', Buffer.concat([SPKI_HEAD, publicKey]), 64);
}

/**
 * The key in a line of a `.pub` file, a PEM file, a did:key, or 64 hexadecimal digits. Throws `usage` when it is a
 * private key, `wrong_key` when it is anything else; the text is never repeated.
 */
export function parsePublicKey(text: string): Uint8Array {
  const trimmed = text.trim();
  if (/^[0-9a-f]{64}$/i.test(trimmed)) return unhex(trimmed.toLowerCase());
  const line = /^ssh-ed25519[ \t]+([A-Za-z0-9+/=]+)(?:[ \t].*)?$/.exec(trimmed);
  if (line) return parseSshPublicBlob(Buffer.from(line[1] ?? '', 'base64'), notAPublicKey);
  if (trimmed.startsWith(DID_KEY)) return parseDidKey(trimmed);
  if (/^-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(trimmed)) {
    throw new HoldfastError('usage', 'this is a private key, and the public one is wanted', {
      hint: 'Give the .pub file, or what `holdfast identity show` prints.',
    });
  }
  const pem = parsePem(trimmed);
  if (pem?.label === 'PUBLIC KEY' && hex(pem.bytes).startsWith(hex(SPKI_HEAD))) {
    return ofRightLength(new Uint8Array(pem.bytes.subarray(SPKI_HEAD.length)));
  }
  throw notAPublicKey('it has none of the known forms');
}

/** Whether a text is meant as a public key rather than as the name of a file with one. */
export function looksLikePublicKey(text: string): boolean {
  return /^(?:ssh-\S+ |did:key:|[0-9a-f]{64}$)/i.test(text.trim());
}

/** For comments of key files, which must stay one line. */
export function oneLine(comment: string): string {
  return comment.replace(/[\x00-\x1f\x7f]+/g, ' ').trim();
}

function parseDidKey(text: string): Uint8Array {
  let bytes = new Uint8Array(0);
  try {
    // Decoding takes the square of the length; none is longer than 48 characters.
    if (text.length < 2 * PUBLIC_KEY_BYTES) bytes = Uint8Array.from(base58.decode(text.slice(DID_KEY.length)));
  } catch {
    // no base58: the same error as for another key
  }
  if (!equalBytes(bytes.subarray(0, ED25519_PUB.length), Uint8Array.from(ED25519_PUB))) {
    throw notAPublicKey('the did:key is not one of an Ed25519 key');
  }
  return ofRightLength(bytes.slice(ED25519_PUB.length));
}

function ofRightLength(bytes: Uint8Array): Uint8Array {
  if (bytes.length !== PUBLIC_KEY_BYTES) throw notAPublicKey(`its key has ${bytes.length} bytes`);
  return bytes;
}

function notAPublicKey(problem: string): HoldfastError {
  return new HoldfastError('wrong_key', `not an Ed25519 public key that can be used: ${problem}`, {
    hint: 'Accepted are the line of a .pub file, a PEM file, a did:key, and 64 hexadecimal digits.',
  });
}
