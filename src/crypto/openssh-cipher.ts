/** How OpenSSH encrypts private key files: AES-256-CTR under a key that bcrypt_pbkdf derives (OpenSSH, PROTOCOL.key). */
import { createCipheriv } from 'node:crypto';
import { assert } from '../errors.ts';

const KEY_BYTES = 32;
const IV_BYTES = 16;

/**
 * `bytes` encrypted, or decrypted: in counter mode both are the same. It takes about 20 ms a round, during which nothing
 * else runs. Throws `bug` when passphrase or salt is empty or there is no round.
 */
export async function aes256CtrBcrypt(
  bytes: Uint8Array,
  passphrase: string,
  salt: Uint8Array,
  rounds: number,
): Promise<Uint8Array> {
  const { default: bcrypt } = await import('bcrypt-pbkdf'); // rarely needed, and slow to load
  const secret = Buffer.from(passphrase);
  const derived = new Uint8Array(KEY_BYTES + IV_BYTES);
  const status = bcrypt.pbkdf(secret, secret.length, salt, salt.length, derived, derived.length, rounds);
  assert(status === 0, 'bcrypt_pbkdf refused its arguments');
  const cipher = createCipheriv('aes-256-ctr', derived.subarray(0, KEY_BYTES), derived.subarray(KEY_BYTES));
  return new Uint8Array(Buffer.concat([cipher.update(bytes), cipher.final()]));
}
