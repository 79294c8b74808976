/** What SSH calls a public key by, and the data types (RFC 4251, section 5) that it is made of. */
import { sha256 } from './hash.ts';

export const SSH_ED25519 = 'ssh-ed25519';

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Text counts as its UTF-8 bytes. */
export function sshString(content: Uint8Array | string): Buffer {
  const bytes = Buffer.from(content);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

/** An ed25519 public key (32 bytes) as it goes over the wire (RFC 8709): its type and itself. */
export function sshPublicBlob(publicKey: Uint8Array): Buffer {
  return Buffer.concat([sshString(SSH_ED25519), sshString(publicKey)]);
}

/** `SHA256:` and 43 characters, as `ssh-keygen -l` prints the key; of its bytes or 64 hexadecimal digits. */
export function sshFingerprint(publicKey: Uint8Array | string): string {
  const bytes = typeof publicKey === 'string' ? Buffer.from(publicKey, 'hex') : publicKey;
  return `SHA256:${Buffer.from(sha256(sshPublicBlob(bytes)))
    .toString('base64')
    .replace(/=+$/, '')}`;
}
