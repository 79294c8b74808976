/**
 * Standard age v1 files (C2SP age.md), readable by every age tool. X25519 headers are ours (age-header.ts), those of other recipients the
 * age-encryption package's, which is loaded when one is met: it takes 50 ms. The payload is ours (age-stream.ts), because OpenSSL's
 * cipher is ten times as fast as the package's.
 */
import { createSecretKey, type KeyObject } from 'node:crypto';
import type { Random } from '../clock.ts';
import { assert, HoldfastError, messageOf } from '../errors.ts';
import { headerHolds, makeHeader, openHeader, x25519Identity, type X25519Identity } from './age-header.ts';
import { x25519RecipientBytes, x25519SecretOf } from './age-keys.ts';
import { BLOCK_PLAIN_BYTES, BLOCK_STORED_BYTES, openStream, sealStream, shapeOf, storedSizeOf } from './age-stream.ts';
import { hkdfSha256, withSecret } from './hash.ts';

export {
  ageIdentityFromSeed,
  ageRecipientOf,
  checkAgeIdentity,
  checkAgeRecipient,
  newAgeIdentity,
  parseAgeIdentityFile,
  type AgeKind,
} from './age-keys.ts';

const NONCE_BYTES = 16;
/** A header this long has room for more than a hundred post-quantum recipients; a longer one is refused. */
export const AGE_HEADER_MAX_BYTES = 256 * 1024;

/** A stretch of bytes, of a file or of its plaintext. */
export interface AgeRange {
  offset: number;
  length: number;
}

/** The opened header of a file: what reads its payload. */
export interface AgePayload {
  /** Index in the file of the first payload block: the bytes of header and nonce. */
  payloadOffset: number;
  /**
   * Decrypts whole blocks, of which the first is number `firstBlock` (from 0), of a file of `fileSize` bytes; see
   * `blocksFor`. Throws `damaged`, releasing nothing, when they are not what was written there, when the file was cut
   * or grew (its size says which block is the last), or when `blocks` ends inside a block.
   */
  open(blocks: Uint8Array, firstBlock: number, fileSize: number): Uint8Array;
}

/**
 * Encrypts `plaintext` (the parts one after the other) to the recipients (`age1…`). `payloadOffset` is the index of the
 * first payload block. The result has been opened again and compared before it is returned: a difference throws `bug`.
 * Throws `usage` on a recipient that is none.
 */
export async function sealAge(
  plaintext: Uint8Array | readonly Uint8Array[],
  recipients: readonly string[],
  random: Random,
): Promise<{ bytes: Uint8Array; payloadOffset: number }> {
  const parts = plaintext instanceof Uint8Array ? [plaintext] : plaintext;
  const { header, fileKey } = await newHeader(recipients, random);
  const payloadOffset = header.length + NONCE_BYTES;
  const bytes = new Uint8Array(payloadOffset + storedSizeOf(parts.reduce((sum, part) => sum + part.length, 0)));
  bytes.set(header);
  bytes.set(random.bytes(NONCE_BYTES), header.length);

  assert(headerHolds(bytes.subarray(0, headerLength(bytes)), fileKey), 'a new age header does not open');
  sealStream(payloadKey(fileKey, bytes, payloadOffset), parts, bytes.subarray(payloadOffset));
  return { bytes, payloadOffset };
}

/**
 * The plaintext of a whole file. `fileKey` may be given where it is known. Throws `wrong_key` when neither it nor any of the identities
 * (`AGE-SECRET-KEY-…`) opens it, `damaged` when it is malformed, changed, cut short or longer than what was written. Nothing unauthenticated is
 * returned.
 */
export async function openAge(
  file: Uint8Array,
  identities: readonly string[],
  fileKey?: Uint8Array,
): Promise<Uint8Array> {
  const payload = await openAgeHeader(file, identities, fileKey);
  return payload.open(file.subarray(payload.payloadOffset), 0, file.length);
}

/**
 * The file key (16 bytes, secret): who has it reads this file, and no other. `known` is one that may be it already.
 * Throws as `openAge`.
 */
export async function openFileKey(
  head: Uint8Array,
  identities: readonly string[],
  known?: Uint8Array,
): Promise<Uint8Array> {
  const header = head.subarray(0, headerLength(head));
  return known !== undefined && headerHolds(header, known) ? known : fileKeyOf(header, identities);
}

/**
 * Opens the header of a file, for reads of parts of it. `head` is the start of the file, at least up to the payload.
 * Throws as `openAge`.
 */
export async function openAgeHeader(
  head: Uint8Array,
  identities: readonly string[],
  known?: Uint8Array,
): Promise<AgePayload> {
  const payloadOffset = headerLength(head) + NONCE_BYTES;
  const fileKey = await openFileKey(head, identities, known);
  if (head.length < payloadOffset)
    throw new HoldfastError('damaged', 'an encrypted file is cut short after its header');
  const key = payloadKey(fileKey, head, payloadOffset);
  return {
    payloadOffset,
    open(blocks, firstBlock, fileSize) {
      assert(Number.isSafeInteger(firstBlock) && firstBlock >= 0, 'a block number is a whole number from 0');
      const shape = shapeOf(fileSize - payloadOffset);
      const storedBytes = fileSize - payloadOffset - firstBlock * BLOCK_STORED_BYTES;
      const whole =
        blocks.length === storedBytes || (blocks.length < storedBytes && blocks.length % BLOCK_STORED_BYTES === 0);
      if (!whole) {
        throw new HoldfastError(
          'damaged',
          `an encrypted file is cut short: block ${firstBlock + 1} of ${shape.blocks} and those after it have ${blocks.length} bytes`,
        );
      }
      return openStream(key, blocks, firstBlock, shape.blocks);
    },
  };
}

/**
 * Which bytes of a file to fetch for a stretch of its plaintext: whole blocks from number `firstBlock`, of whose
 * plaintext the first `skip` bytes are not part of the stretch. An empty stretch needs no bytes. Throws `damaged` when
 * the file holds no such stretch.
 */
export function blocksFor(
  range: AgeRange,
  payloadOffset: number,
  fileSize: number,
): { range: AgeRange; firstBlock: number; skip: number } {
  const { plainBytes } = shapeOf(fileSize - payloadOffset);
  const end = range.offset + range.length;
  if (range.offset < 0 || range.length < 0 || end > plainBytes) {
    throw new HoldfastError(
      'damaged',
      `bytes ${range.offset} to ${end} are asked of an encrypted file that holds ${plainBytes}`,
    );
  }
  const firstBlock = Math.floor(range.offset / BLOCK_PLAIN_BYTES);
  const offset = payloadOffset + firstBlock * BLOCK_STORED_BYTES;
  const blocks = range.length === 0 ? 0 : Math.ceil(end / BLOCK_PLAIN_BYTES) - firstBlock;
  const length = Math.min(blocks * BLOCK_STORED_BYTES, fileSize - offset);
  return { range: { offset, length }, firstBlock, skip: range.offset - firstBlock * BLOCK_PLAIN_BYTES };
}

/**
 * The file key. Identities of X25519 are tried first and by ourselves; the package is loaded only when another kind is left to try.
 * Throws `wrong_key`, `damaged`.
 */
async function fileKeyOf(header: Uint8Array, identities: readonly string[]): Promise<Uint8Array> {
  const { own, others } = sorted(identities);
  const fileKey = openHeader(header, own);
  const found = fileKey ?? (others.length > 0 ? await packageFileKey(header, others) : undefined);
  if (found) return found;
  throw new HoldfastError('wrong_key', 'the key does not open this encrypted file', {
    hint: 'It was encrypted to other recipients: check that the words, key file and repository belong together.',
  });
}

/** Identities made ready, by the list they came in: one list opens many files. */
const ready = new WeakMap<readonly string[], { own: X25519Identity[]; others: string[] }>();

function sorted(identities: readonly string[]): { own: X25519Identity[]; others: string[] } {
  const known = ready.get(identities);
  if (known) return known;
  const secrets = identities.map((identity) => x25519SecretOf(identity));
  const made = {
    own: secrets.flatMap((secret) => (secret ? [x25519Identity(secret)] : [])),
    others: identities.filter((_, i) => secrets[i] === undefined),
  };
  ready.set(identities, made);
  return made;
}

/** As the package reads it; undefined when none of the identities matches. */
async function packageFileKey(header: Uint8Array, identities: readonly string[]): Promise<Uint8Array | undefined> {
  const { Decrypter } = await import('age-encryption');
  const reader = new Decrypter();
  for (const identity of identities) reader.addIdentity(identity);
  // The package asks identities in turn and this one last: being asked means that none before it matched.
  let noneMatched = false;
  reader.addIdentity({
    unwrapFileKey: () => {
      noneMatched = true;
      return null;
    },
  });
  try {
    return await reader.decryptHeader(header);
  } catch (error) {
    if (noneMatched) return undefined;
    throw new HoldfastError('damaged', `the header of an encrypted file is damaged: ${messageOf(error)}`);
  }
}

/** A header, and the file key in it: of our own making for X25519 recipients, else of the package's. */
async function newHeader(
  recipients: readonly string[],
  random: Random,
): Promise<{ header: Uint8Array; fileKey: Uint8Array }> {
  assert(recipients.length > 0, 'a file is sealed to no recipient');
  const own = recipients.map(x25519RecipientBytes);
  if (own.every((bytes) => bytes !== undefined)) return makeHeader(own, random);
  const { Encrypter } = await import('age-encryption');
  const writer = new Encrypter();
  for (const recipient of recipients) writer.addRecipient(recipient);
  // A recipient without a stanza sees the file key: the package's way to it.
  let captured: Uint8Array | undefined;
  writer.addRecipient({
    wrapFileKey: (fileKey) => {
      captured = fileKey;
      return [];
    },
  });
  let empty: Uint8Array;
  try {
    empty = await writer.encrypt(new Uint8Array(0));
  } catch (error) {
    throw new HoldfastError('usage', `one of the age recipients cannot be encrypted to: ${messageOf(error)}`);
  }
  assert(captured !== undefined, 'the age package asked no custom recipient');
  return { header: empty.subarray(0, headerLength(empty)), fileKey: captured };
}

/**
 * Bytes of the textual header: up to the end of the line that starts with `---`, the MAC. Throws `damaged` when there
 * is none.
 */
function headerLength(file: Uint8Array): number {
  const head = Buffer.from(file.buffer, file.byteOffset, Math.min(file.length, AGE_HEADER_MAX_BYTES));
  const mac = head.indexOf('\n--- ', 0, 'latin1');
  const end = mac < 0 ? -1 : head.indexOf('\n', mac + 1, 'latin1');
  if (end < 0) throw new HoldfastError('damaged', 'not an age file, or its header is cut short');
  return end + 1;
}

function payloadKey(fileKey: Uint8Array, file: Uint8Array, payloadOffset: number): KeyObject {
  const nonce = file.subarray(payloadOffset - NONCE_BYTES, payloadOffset);
  return withSecret(hkdfSha256(fileKey, nonce, new TextEncoder().encode('payload'), 32), (key) => createSecretKey(key));
}
