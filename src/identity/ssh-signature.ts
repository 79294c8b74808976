/**
 * Signatures as `ssh-keygen -Y` makes and checks them (OpenSSH, PROTOCOL.sshsig): of a hash of the message, in a namespace
 * that says what the signature is for, so that one made for one purpose holds for no other.
 */
import { sign, verify } from '../crypto/ed25519.ts';
import { equalBytes } from '../crypto/hash.ts';
import { hashMessage, type MessageHash } from '../crypto/message-hash.ts';
import { HoldfastError } from '../errors.ts';
import { escapeForDisplay } from '../raw-path.ts';
import { formatPem, parsePem } from './pem.ts';
import { fingerprint } from './public-key.ts';
import type { SigningKey } from './signing-key.ts';
import { otherType, SSH_ED25519, sshPublicBlob, sshReader, sshString, uint32 } from './ssh-wire.ts';

/** The bytes of a message, in pieces; a file's stream, or `[bytes]`. */
export type Message = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

const LABEL = 'SSH SIGNATURE';
const MAGIC = 'SSHSIG';
const VERSION = 1;
const HASHES: readonly MessageHash[] = ['sha512', 'sha256'];

/** An armored signature, with SHA-512. Throws `usage` when the namespace is empty, and what reading the message throws. */
export async function signSsh(key: SigningKey, namespace: string, message: Message): Promise<string> {
  checkNamespace(namespace);
  const signature = sign(signedBytes(namespace, 'sha512', await hashMessage('sha512', message)), key.seed);
  const blob = Buffer.concat([
    ...[Buffer.from(MAGIC), uint32(VERSION), sshString(sshPublicBlob(key.publicKey))],
    ...[sshString(namespace), sshString(''), sshString('sha512')],
    sshString(Buffer.concat([sshString(SSH_ED25519), sshString(signature)])),
  ]);
  return formatPem(LABEL, blob, 70);
}

/**
 * Resolves when `armored` is a signature of the message by `publicKey` (32 bytes) in the namespace. Throws `damaged` when it
 * is no signature that can be read, `wrong_key` when it is of another key, `forged` when it is for another namespace or
 * not of this message, and what reading the message throws.
 */
export async function verifySsh(
  armored: string,
  message: Message,
  { namespace, publicKey }: { namespace: string; publicKey: Uint8Array },
): Promise<void> {
  checkNamespace(namespace);
  const found = parseSignature(armored);
  if (!equalBytes(found.publicKey, publicKey)) {
    throw new HoldfastError(
      'wrong_key',
      `the signature is by ${fingerprint(found.publicKey)}, not by ${fingerprint(publicKey)}`,
      { hint: 'Trust it only if you know that key; then give it with --key.' },
    );
  }
  if (!found.namespace.equals(Buffer.from(namespace))) {
    const other = escapeForDisplay(found.namespace.toString('utf8').slice(0, 80));
    throw new HoldfastError('forged', `the signature was made for the namespace "${other}", not for "${namespace}"`, {
      hint: 'A signature holds for its own purpose only; give --namespace if you expected that one.',
    });
  }
  const digest = await hashMessage(found.hash, message);
  if (!verify(found.signature, signedBytes(namespace, found.hash, digest), publicKey)) {
    throw new HoldfastError('forged', 'the signature does not hold: it is not one of this content', {
      hint: 'The content was changed after it was signed, or the signature belongs to something else.',
    });
  }
}

function signedBytes(namespace: string, hash: MessageHash, digest: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(MAGIC), ...[namespace, '', hash, digest].map((part) => sshString(part))]);
}

function parseSignature(armored: string) {
  const pem = parsePem(armored);
  if (pem?.label !== LABEL) throw unreadable('it lacks the lines that begin and end one');
  const reader = sshReader(pem.bytes, unreadable);
  if (reader.take(MAGIC.length).toString('latin1') !== MAGIC) throw unreadable('it lacks the mark of SSH signatures');
  if (reader.uint32() !== VERSION) throw unreadable(`it is not of version ${VERSION}`);
  const publicBlob = reader.string();
  const namespace = reader.string();
  reader.string(); // reserved: ignored, and not part of what is signed
  const hashName = reader.string().toString('latin1');
  const signatureBlob = reader.string();
  reader.end();
  const publicKey = ed25519Part(publicBlob);
  const signature = ed25519Part(signatureBlob);
  const hash = HASHES.find((known) => known === hashName);
  if (hash === undefined) throw unreadable('its hash is neither SHA-512 nor SHA-256');
  return { publicKey, namespace, hash, signature };
}

/** A public key or a signature, each under the name of its algorithm. */
function ed25519Part(blob: Buffer): Uint8Array {
  const reader = sshReader(blob, unreadable);
  const type = reader.string().toString('latin1');
  if (type !== SSH_ED25519) {
    throw new HoldfastError('wrong_key', `the signature is by a key of another kind: ${otherType(type)}`, {
      hint: `Agents sign with ${SSH_ED25519} keys.`,
    });
  }
  const content = reader.string();
  reader.end();
  return content;
}

function checkNamespace(namespace: string): void {
  if (namespace === '') {
    throw new HoldfastError('usage', 'the namespace of a signature is empty', {
      hint: 'Give a name for what it is for, such as `file` or `git`.',
    });
  }
}

function unreadable(problem: string): HoldfastError {
  return new HoldfastError('damaged', `the SSH signature cannot be read: ${problem}`, {
    hint: 'Take another copy of the signature, or have it made again.',
  });
}
