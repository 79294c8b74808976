/** What SSH calls a public key by. */
import { sha256 } from './hash.ts';

const TYPE = Buffer.from('ssh-ed25519');

/** An ed25519 public key (32 bytes) as it goes over the wire (RFC 8709): its type and itself, each with its length before it. */
export function sshPublicBlob(publicKey: Uint8Array): Buffer {
  return Buffer.concat([TYPE, publicKey].map(withLength));
}

/** `SHA256:` and 43 characters, as `ssh-keygen -l` prints the key; of its bytes or 64 hexadecimal digits. */
export function sshFingerprint(publicKey: Uint8Array | string): string {
  const bytes = typeof publicKey === 'string' ? Buffer.from(publicKey, 'hex') : publicKey;
  return `SHA256:${Buffer.from(sha256(sshPublicBlob(bytes)))
    .toString('base64')
    .replace(/=+$/, '')}`;
}

function withLength(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
