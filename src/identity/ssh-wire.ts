/** Reading SSH's data types (RFC 4251, section 5) and the public key blob of ed25519 keys (RFC 8709). */
import { PUBLIC_KEY_BYTES } from '../crypto/ed25519.ts';
import { SSH_ED25519 } from '../crypto/ssh.ts';
import { escapeForDisplay } from '../raw-path.ts';

export { SSH_ED25519, sshPublicBlob, sshString, uint32 } from '../crypto/ssh.ts';

/** The 32-byte key in a public key blob. `fail` makes the error. */
export function parseSshPublicBlob(blob: Buffer, fail: (problem: string) => Error): Uint8Array {
  const reader = sshReader(blob, fail);
  const type = reader.string().toString('latin1');
  if (type !== SSH_ED25519) throw fail(otherType(type));
  const publicKey = reader.string();
  reader.end();
  if (publicKey.length !== PUBLIC_KEY_BYTES) throw fail(`its public key has ${publicKey.length} bytes`);
  return new Uint8Array(publicKey);
}

/** For an error: the name comes from a file, which may be hostile. */
export function otherType(type: string): string {
  return `it is of the type "${escapeForDisplay(type.slice(0, 40))}"`;
}

/** Reads strictly: whatever runs past the end is an error, which `fail` makes. */
export function sshReader(bytes: Buffer, fail: (problem: string) => Error) {
  let at = 0;
  const take = (length: number): Buffer => {
    if (length > bytes.length - at) throw fail('it is cut short');
    return bytes.subarray(at, (at += length));
  };
  const uint32 = () => take(4).readUInt32BE();
  return {
    take,
    uint32,
    string: () => take(uint32()),
    rest: () => take(bytes.length - at),
    end: () => {
      if (at !== bytes.length) throw fail('it holds more than it should');
    },
  };
}
