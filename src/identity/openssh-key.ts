/** OpenSSH's private key files (OpenSSH, PROTOCOL.key), plain and encrypted with aes256-ctr and bcrypt. */
import type { Random } from '../clock.ts';
import { PUBLIC_KEY_BYTES, SEED_BYTES } from '../crypto/ed25519.ts';
import { equalBytes } from '../crypto/hash.ts';
import { aes256CtrBcrypt } from '../crypto/openssh-cipher.ts';
import { HoldfastError } from '../errors.ts';
import { escapeForDisplay } from '../raw-path.ts';
import { formatPem } from './pem.ts';
import { oneLine } from './public-key.ts';
import {
  cannotDecrypt,
  mismatch,
  notAKey,
  passphraseNeeded,
  signingKeyOf,
  wrongPassphrase,
  type SigningKey,
} from './signing-key.ts';
import { otherType, SSH_ED25519, sshPublicBlob, sshReader, sshString, uint32 } from './ssh-wire.ts';

export const OPENSSH_LABEL = 'OPENSSH PRIVATE KEY';
const MAGIC = 'openssh-key-v1\0';
const CIPHER = 'aes256-ctr';
const KDF = 'bcrypt';
const PLAIN_BLOCK_BYTES = 8;
const CIPHER_BLOCK_BYTES = 16;
const SALT_BYTES = 16;
/** What ssh-keygen takes since OpenSSH 9.4. */
const ROUNDS = 24;
/** Ten seconds or so; a forged file shall not take forever. `ssh-keygen -a 100` is what careful people take. */
const ROUNDS_MAX = 512;

/** Whether a passphrase opens the content of a key file; false also for what is none, or encrypted in another way. */
export function isEncryptedOpenSsh(file: Buffer): boolean {
  try {
    const { cipher, kdf } = readFile(file);
    return cipher === CIPHER && kdf === KDF;
  } catch {
    return false;
  }
}

/**
 * Throws `missing_key` when a passphrase opens the file, `usage` when it is encrypted in another way than can be opened,
 * `wrong_key` when it holds no Ed25519 key that can be used.
 */
export function parseOpenSsh(file: Buffer): SigningKey {
  const { cipher, kdf, publicBlob, secret } = readFile(file);
  if (cipher !== 'none') {
    checkCipher(cipher, kdf);
    throw passphraseNeeded('ssh-keygen -p -f COPY-OF-FILE');
  }
  return parseSecret(secret, publicBlob, PLAIN_BLOCK_BYTES, notAKey('its check numbers differ'));
}

/**
 * The same for an encrypted file; see `aes256CtrBcrypt` for how long that takes. Throws `wrong_key` when the passphrase is
 * not the right one, `usage` when the file is encrypted in another way.
 */
export async function openOpenSsh(file: Buffer, passphrase: string): Promise<SigningKey> {
  const { cipher, kdf, kdfOptions, publicBlob, secret } = readFile(file);
  if (cipher === 'none') return parseOpenSsh(file);
  checkCipher(cipher, kdf);
  const options = sshReader(kdfOptions, notAKey);
  const salt = options.string();
  const rounds = options.uint32();
  options.end();
  if (salt.length === 0 || rounds === 0 || secret.length % CIPHER_BLOCK_BYTES !== 0) {
    throw notAKey('what says how it is encrypted is damaged');
  }
  if (rounds > ROUNDS_MAX) {
    const problem = `its passphrase takes ${rounds} rounds of ${KDF}, and at most ${ROUNDS_MAX} are done`;
    throw cannotDecrypt(problem, `ssh-keygen -p -a ${ROUNDS} -f COPY-OF-FILE`);
  }
  if (passphrase === '') throw wrongPassphrase();
  const opened = Buffer.from(await aes256CtrBcrypt(secret, passphrase, salt, rounds));
  return parseSecret(opened, publicBlob, CIPHER_BLOCK_BYTES, wrongPassphrase());
}

/** The key as an unencrypted file. The comment becomes one line. */
export function formatOpenSsh(key: SigningKey, comment: string, random: Random): string {
  return formatFile(key, 'none', 'none', new Uint8Array(0), formatSecret(key, comment, PLAIN_BLOCK_BYTES, random));
}

/** The key as a file that `ssh-keygen` opens with the passphrase. Throws `usage` when the passphrase is empty. */
export async function formatEncryptedOpenSsh(
  key: SigningKey,
  comment: string,
  passphrase: string,
  random: Random,
): Promise<string> {
  if (passphrase === '') {
    throw new HoldfastError('usage', 'an empty passphrase protects nothing', { hint: 'Give one, or ask for none.' });
  }
  const salt = random.bytes(SALT_BYTES);
  const secret = formatSecret(key, comment, CIPHER_BLOCK_BYTES, random);
  const encrypted = await aes256CtrBcrypt(secret, passphrase, salt, ROUNDS);
  return formatFile(key, CIPHER, KDF, Buffer.concat([sshString(salt), uint32(ROUNDS)]), encrypted);
}

function readFile(file: Buffer) {
  const reader = sshReader(file, notAKey);
  if (reader.take(MAGIC.length).toString('latin1') !== MAGIC) throw notAKey('it lacks the mark of OpenSSH keys');
  const cipher = reader.string().toString('latin1');
  const kdf = reader.string().toString('latin1');
  const kdfOptions = reader.string();
  if (reader.uint32() !== 1) throw notAKey('it holds more than one key');
  const publicBlob = reader.string();
  const secret = reader.string();
  // Ciphers that authenticate put their tag behind the key.
  if (cipher === 'none' || cipher === CIPHER) reader.end();
  return { cipher, kdf, kdfOptions, publicBlob, secret };
}

function checkCipher(cipher: string, kdf: string): void {
  if (cipher === CIPHER && kdf === KDF) return;
  const shown = (name: string) => `"${escapeForDisplay(name.slice(0, 40))}"`;
  const problem = `it uses ${shown(cipher)} and ${shown(kdf)}, and only ${CIPHER} with ${KDF} is read`;
  throw cannotDecrypt(problem, `ssh-keygen -p -Z ${CIPHER} -f COPY-OF-FILE`);
}

function formatFile(key: SigningKey, cipher: string, kdf: string, kdfOptions: Uint8Array, secret: Uint8Array): string {
  const file = Buffer.concat([
    ...[Buffer.from(MAGIC), sshString(cipher), sshString(kdf), sshString(kdfOptions), uint32(1)],
    ...[sshString(sshPublicBlob(key.publicKey)), sshString(secret)],
  ]);
  return formatPem(OPENSSH_LABEL, file, 70);
}

/** `unopened` is thrown when the check numbers differ: with a wrong passphrase they do. */
function parseSecret(bytes: Buffer, publicBlob: Buffer, blockBytes: number, unopened: HoldfastError): SigningKey {
  const secret = sshReader(bytes, notAKey);
  if (secret.uint32() !== secret.uint32()) throw unopened;
  const type = secret.string().toString('latin1');
  if (type !== SSH_ED25519) throw notAKey(otherType(type));
  const publicKey = secret.string();
  const pair = secret.string();
  secret.string(); // comment
  const padding = secret.rest();
  if (bytes.length % blockBytes !== 0 || padding.length >= blockBytes || padding.some((byte, i) => byte !== i + 1)) {
    throw notAKey('its padding is wrong');
  }
  if (pair.length !== SEED_BYTES + PUBLIC_KEY_BYTES)
    throw notAKey(`expected a key pair of ${SEED_BYTES + PUBLIC_KEY_BYTES} bytes, got ${pair.length}`);
  const key = signingKeyOf(pair.subarray(0, SEED_BYTES), pair.subarray(SEED_BYTES));
  if (!equalBytes(publicKey, key.publicKey) || !equalBytes(publicBlob, sshPublicBlob(key.publicKey))) {
    throw mismatch('public key');
  }
  return key;
}

function formatSecret(key: SigningKey, comment: string, blockBytes: number, random: Random): Uint8Array {
  const check = random.bytes(4);
  const pair = Buffer.concat([key.seed, key.publicKey]);
  const secret = Buffer.concat([
    ...[check, check],
    ...[SSH_ED25519, key.publicKey, pair, oneLine(comment)].map((part) => sshString(part)),
  ]);
  const padding = Uint8Array.from({ length: -secret.length & (blockBytes - 1) }, (_, i) => i + 1);
  return Buffer.concat([secret, padding]);
}
