/**
 * age files sealed with a passphrase (C2SP age.md, the scrypt recipient), as `age -p` writes and `age -d` opens. The file is the
 * age-encryption package's; scrypt is OpenSSL's, in a thread of its own: the package's own is slower, stops everything else meanwhile,
 * and opens no file of a work factor above 20, which `age` itself does.
 */
import { createCipheriv, createDecipheriv, scrypt } from 'node:crypto';
import type { Stanza } from 'age-encryption';
import { systemRandom, type Random } from '../clock.ts';
import { assert, HoldfastError, isHoldfastError, messageOf } from '../errors.ts';
import { equalBytes, wipe } from './hash.ts';

/** About a second on a machine of today, in 256 MiB; what `age -p` uses. */
export const WORK_FACTOR = 18;
/** The highest that is opened: 4 GiB, and some 12 seconds. The `age` command has the same limit. */
export const WORK_FACTOR_MAX = 22;

const START = 'age-encryption.org/v1\n-> scrypt ';
const LABEL = 'age-encryption.org/v1/scrypt';
const SALT_BYTES = 16;
const TAG_BYTES = 16;
const FILE_KEY_BYTES = 16;
const BLOCK_SIZE = 8;
const CIPHER = 'chacha20-poly1305';
/** The wrapping key is used once. */
const NONCE = new Uint8Array(12);

/** Whether a file begins as one that is sealed with a passphrase; nothing else of it is checked. */
export function isPassphraseFile(file: Uint8Array): boolean {
  return Buffer.from(file.buffer, file.byteOffset, Math.min(file.length, START.length)).toString('latin1') === START;
}

/**
 * Seals `plaintext` with a passphrase. The passphrase counts byte for byte in UTF-8, as it was typed, not in a Unicode normal form: that is
 * what every other age tool does with it. How strong it is, is not checked here. `random` makes the salt; the package draws the rest itself.
 * The result has been opened again, which takes as long as sealing: a difference throws `bug`.
 */
export async function sealWithPassphrase(
  plaintext: Uint8Array,
  passphrase: string,
  random: Random = systemRandom,
): Promise<Uint8Array> {
  assert(passphrase !== '', 'a file is sealed with no passphrase');
  const age = await import('age-encryption');
  const writer = new age.Encrypter();
  writer.addRecipient({
    wrapFileKey: async (fileKey) => {
      const salt = random.bytes(SALT_BYTES);
      const key = await wrappingKey(passphrase, salt, WORK_FACTOR);
      const cipher = createCipheriv(CIPHER, key, NONCE, { authTagLength: TAG_BYTES });
      const body = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
      wipe(key);
      return [new age.Stanza(['scrypt', unpadded(salt), String(WORK_FACTOR)], new Uint8Array(body))];
    },
  });
  const file = await writer.encrypt(plaintext);
  // The memory that scrypt fills is exactly what bad memory shows in: made anew, not remembered.
  const opened = await openWithPassphrase(file, passphrase);
  const isSame = equalBytes(opened, plaintext);
  wipe(opened);
  assert(isSame, 'a file sealed with a passphrase does not open to what went into it');
  return file;
}

/**
 * The plaintext of a file sealed with a passphrase, here or by any age tool. Throws `wrong_key` for a wrong passphrase and for a file that
 * was sealed to recipients instead, `unsupported_format` for a work factor above `workFactorMax`, before any memory is taken, `damaged`
 * when the file is no age file, was changed or cut short, `io` when there is too little memory.
 */
export async function openWithPassphrase(
  file: Uint8Array,
  passphrase: string,
  workFactorMax = WORK_FACTOR_MAX,
): Promise<Uint8Array> {
  const { Decrypter } = await import('age-encryption');
  const reader = new Decrypter();
  reader.addIdentity({ unwrapFileKey: (stanzas: Stanza[]) => unwrap(stanzas, passphrase, workFactorMax) });
  try {
    return await reader.decrypt(file);
  } catch (error) {
    if (isHoldfastError(error)) throw error;
    throw new HoldfastError('damaged', `the file sealed with a passphrase is damaged: ${messageOf(error)}`, {
      hint: 'Use another copy of the file.',
    });
  }
}

async function unwrap(stanzas: readonly Stanza[], passphrase: string, workFactorMax: number): Promise<Uint8Array> {
  const stanza = stanzas.find(({ args }) => args[0] === 'scrypt');
  if (!stanza) {
    throw new HoldfastError('wrong_key', 'the file was not sealed with a passphrase', {
      hint: 'It is an age file for recipients: it opens with the secret key of one of them.',
    });
  }
  const [, salt = '', factor = ''] = stanza.args;
  const saltBytes = Buffer.from(salt, 'base64');
  // As strict as the specification: a header that is read in two ways may be shown to two readers.
  const isWellFormed =
    stanzas.length === 1 &&
    stanza.args.length === 3 &&
    saltBytes.length === SALT_BYTES &&
    unpadded(saltBytes) === salt &&
    /^[1-9][0-9]*$/.test(factor) &&
    stanza.body.length === FILE_KEY_BYTES + TAG_BYTES;
  if (!isWellFormed) {
    throw new HoldfastError('damaged', 'the header of the file sealed with a passphrase is damaged', {
      hint: 'Use another copy of the file.',
    });
  }
  const workFactor = Number(factor);
  if (workFactor > workFactorMax) {
    throw new HoldfastError(
      'unsupported_format',
      `the file asks for a work factor of 2^${workFactor}; at most 2^${workFactorMax} is opened`,
      { hint: 'Neither holdfast nor age makes such files: it is damaged, or made to exhaust memory.' },
    );
  }
  const key = await wrappingKey(passphrase, saltBytes, workFactor);
  const decipher = createDecipheriv(CIPHER, key, NONCE, { authTagLength: TAG_BYTES });
  wipe(key);
  decipher.setAuthTag(stanza.body.subarray(FILE_KEY_BYTES));
  const fileKey = decipher.update(stanza.body.subarray(0, FILE_KEY_BYTES));
  try {
    decipher.final();
  } catch {
    throw new HoldfastError('wrong_key', 'the passphrase does not open the file', {
      hint: 'Check capital letters, spaces and the keyboard layout; a letter with an accent can be typed in two ways that are different bytes.',
    });
  }
  return new Uint8Array(fileKey);
}

function wrappingKey(passphrase: string, salt: Uint8Array, workFactor: number): Promise<Uint8Array> {
  const saltWithLabel = Buffer.concat([Buffer.from(LABEL), salt]);
  const N = 2 ** workFactor;
  const bytes = 128 * BLOCK_SIZE * (N + 3);
  const secret = new TextEncoder().encode(passphrase);
  return new Promise((resolve, reject) => {
    scrypt(secret, saltWithLabel, 32, { N, r: BLOCK_SIZE, p: 1, maxmem: bytes }, (error, key) => {
      wipe(secret);
      if (!error) return resolve(key);
      const message = `a passphrase of this work factor needs ${Math.ceil(bytes / 2 ** 20)} MiB of memory: ${messageOf(error)}`;
      reject(new HoldfastError('io', message, { hint: 'Close other programs, or use a machine with more memory.' }));
    });
  });
}

function unpadded(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replaceAll('=', '');
}
