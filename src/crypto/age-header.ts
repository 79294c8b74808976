/**
 * Headers of age v1 files with X25519 recipients (C2SP age.md), by node:crypto. The age-encryption package does the same and every other
 * kind of recipient, but loading it takes longer than all the rest of a backup in which nothing changed. Held to the same vectors.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
} from 'node:crypto';
import type { Random } from '../clock.ts';
import { HoldfastError } from '../errors.ts';
import { equalBytes, hkdfSha256, wipe, withSecret } from './hash.ts';

const VERSION_LINE = 'age-encryption.org/v1';
const X25519_INFO = new TextEncoder().encode('age-encryption.org/v1/X25519');
const HEADER_INFO = new TextEncoder().encode('header');
const FILE_KEY_BYTES = 16;
const TAG_BYTES = 16;
const BODY_COLUMNS = 64;
/** DER around the 32 bytes of an X25519 key (RFC 8410). */
const PRIVATE_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');
const PUBLIC_PREFIX = Buffer.from('302a300506032b656e032100', 'hex');

interface Stanza {
  args: string[];
  body: Uint8Array;
}

/** An X25519 key pair ready for use. */
export interface X25519Identity {
  privateKey: KeyObject;
  publicKey: Uint8Array;
}

/** @param secret 32 bytes. */
export function x25519Identity(secret: Uint8Array): X25519Identity {
  const privateKey = createPrivateKey({ key: Buffer.concat([PRIVATE_PREFIX, secret]), format: 'der', type: 'pkcs8' });
  return { privateKey, publicKey: rawPublicKey(privateKey) };
}

function rawPublicKey(privateKey: KeyObject): Uint8Array {
  return createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(PUBLIC_PREFIX.length);
}

/** A fresh file key wrapped to the recipients (32 bytes each), and the header that carries it. Throws `usage` for a recipient of low order. */
export function makeHeader(
  recipients: readonly Uint8Array[],
  random: Random,
): { header: Uint8Array; fileKey: Uint8Array } {
  const fileKey = random.bytes(FILE_KEY_BYTES);
  const lines = [VERSION_LINE];
  for (const recipient of recipients) {
    const ephemeral = x25519Identity(random.bytes(32));
    const shared = sharedSecret(ephemeral.privateKey, recipient);
    if (!shared) throw new HoldfastError('usage', 'one of the age recipients is no key that can be encrypted to');
    const key = wrapKey(shared, ephemeral.publicKey, recipient);
    const cipher = createCipheriv('chacha20-poly1305', key, ZERO_NONCE, { authTagLength: TAG_BYTES });
    const body = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
    lines.push(`-> X25519 ${base64(ephemeral.publicKey)}`, ...wrapBody(base64(body)));
  }
  const covered = `${lines.join('\n')}\n---`;
  const mac = headerMac(fileKey, Buffer.from(covered));
  return { header: Buffer.from(`${covered} ${base64(mac)}\n`), fileKey };
}

const ZERO_NONCE = Buffer.alloc(12);

/** Undefined when the other side's point is of low order and gives no secret. */
function sharedSecret(privateKey: KeyObject, publicKey: Uint8Array): Uint8Array | undefined {
  try {
    const peer = createPublicKey({ key: Buffer.concat([PUBLIC_PREFIX, publicKey]), format: 'der', type: 'spki' });
    return diffieHellman({ privateKey, publicKey: peer });
  } catch {
    return undefined;
  }
}

function wrapKey(shared: Uint8Array, ephemeral: Uint8Array, recipient: Uint8Array): Uint8Array {
  return hkdfSha256(shared, Buffer.concat([ephemeral, recipient]), X25519_INFO, 32);
}

function headerMac(fileKey: Uint8Array, covered: Uint8Array): Uint8Array {
  return withSecret(hkdfSha256(fileKey, new Uint8Array(0), HEADER_INFO, 32), (key) =>
    createHmac('sha256', key).update(covered).digest(),
  );
}

/**
 * The file key in a header, by the first identity that opens one of its stanzas.
 * @returns undefined when none does; @throws `damaged` when the header is not exactly as the specification has it.
 */
export function openHeader(header: Uint8Array, identities: readonly X25519Identity[]): Uint8Array | undefined {
  const { stanzas, covered, mac } = parseHeader(header);
  for (const stanza of stanzas) {
    if (stanza.args[0] !== 'X25519') {
      if (stanza.args[0] === 'scrypt' && stanzas.length > 1) throw malformed('a passphrase beside other recipients');
      continue;
    }
    const [, share, ...more] = stanza.args;
    const ephemeral = share === undefined ? undefined : unbase64(share);
    if (ephemeral?.length !== 32 || more.length > 0 || stanza.body.length !== FILE_KEY_BYTES + TAG_BYTES) {
      throw malformed('an X25519 recipient');
    }
    for (const identity of identities) {
      const shared = sharedSecret(identity.privateKey, ephemeral);
      if (!shared) throw malformed('a key share that gives no secret');
      const key = wrapKey(shared, ephemeral, identity.publicKey);
      const fileKey = unwrap(stanza.body, key);
      wipe(shared, key);
      if (!fileKey) continue;
      if (!equalBytes(headerMac(fileKey, covered), mac)) throw malformed('its MAC does not match');
      return fileKey;
    }
  }
  return undefined;
}

/** True when the header is well formed and its MAC is of this file key: the look back after making one. */
export function headerHolds(header: Uint8Array, fileKey: Uint8Array): boolean {
  const { covered, mac } = parseHeader(header);
  return equalBytes(headerMac(fileKey, covered), mac);
}

function unwrap(body: Uint8Array, key: Uint8Array): Uint8Array | undefined {
  const decipher = createDecipheriv('chacha20-poly1305', key, ZERO_NONCE, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(body.subarray(FILE_KEY_BYTES));
  const fileKey = decipher.update(body.subarray(0, FILE_KEY_BYTES));
  try {
    decipher.final();
    return fileKey;
  } catch {
    return undefined;
  }
}

function parseHeader(header: Uint8Array): { stanzas: Stanza[]; covered: Uint8Array; mac: Uint8Array } {
  const text = Buffer.from(header).toString('latin1');
  const lines = text.split('\n');
  if (lines.pop() !== '') throw malformed('its last line is cut off');
  const macLine = /^--- ([A-Za-z0-9+/]{43})$/.exec(lines.pop() ?? '');
  const mac = unbase64(macLine?.[1] ?? '');
  if (!mac || mac.length !== 32) throw malformed('its MAC line');
  if (lines.shift() !== VERSION_LINE) throw malformed('it is of another version of age');
  const stanzas: Stanza[] = [];
  while (lines.length > 0) {
    const [arrow, ...args] = (lines.shift() ?? '').split(' ');
    if (arrow !== '->' || args.length === 0 || !args.every((arg) => /^[\x21-\x7e]+$/.test(arg)))
      throw malformed('a recipient line');
    const body: string[] = [];
    let row: string | undefined;
    do {
      row = lines.shift();
      if (row === undefined || row.length > BODY_COLUMNS) throw malformed('the body of a recipient');
      body.push(row);
    } while (row.length === BODY_COLUMNS);
    const bytes = unbase64(body.join(''));
    if (!bytes) throw malformed('the body of a recipient');
    stanzas.push({ args, body: bytes });
  }
  if (stanzas.length === 0) throw malformed('it has no recipient');
  return { stanzas, covered: header.subarray(0, text.lastIndexOf('\n---') + 4), mac };
}

function wrapBody(text: string): string[] {
  const rows = text.match(/.{1,64}/g) ?? [];
  return text.length % BODY_COLUMNS === 0 ? [...rows, ''] : rows;
}

/** Without padding, as age has it. */
function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '');
}

/** Undefined unless the text is exactly what `base64` gives. */
function unbase64(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64');
  return base64(bytes) === text ? bytes : undefined;
}

function malformed(what: string): HoldfastError {
  return new HoldfastError('damaged', `the header of an encrypted file is damaged: ${what}`);
}
