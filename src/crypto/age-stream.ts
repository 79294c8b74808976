/**
 * The payload of an age v1 file (C2SP age.md, "Payload"): STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: "Online
 * Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance") with ChaCha20-Poly1305 in blocks of 64 KiB, each
 * followed by its tag. The nonce of a block is its number in 11 bytes, big-endian, and one byte that is 1 for the last
 * block only: neither the order nor the end can change unnoticed.
 */
import { createCipheriv, createDecipheriv, type CipherKey } from 'node:crypto';
import { assert, HoldfastError } from '../errors.ts';
import { release } from '../memory.ts';

const CIPHER = 'chacha20-poly1305';
const TAG_BYTES = 16;
/** Plaintext bytes of every block but the last. */
export const BLOCK_PLAIN_BYTES = 64 * 1024;
/** Stored bytes of every block but the last. */
export const BLOCK_STORED_BYTES = BLOCK_PLAIN_BYTES + TAG_BYTES;

/** Stored bytes of a plaintext; an empty one is one empty block. */
export function storedSizeOf(plainBytes: number): number {
  return plainBytes + TAG_BYTES * Math.max(1, Math.ceil(plainBytes / BLOCK_PLAIN_BYTES));
}

/** Blocks and plaintext bytes of a stored payload. Throws `damaged` when no payload has this size. */
export function shapeOf(storedBytes: number): { blocks: number; plainBytes: number } {
  const blocks = Math.ceil(storedBytes / BLOCK_STORED_BYTES);
  const plainBytes = storedBytes - TAG_BYTES * blocks;
  // Only the first block may be empty: a last block of a tag alone was never written.
  if (blocks < 1 || storedSizeOf(plainBytes) !== storedBytes) {
    throw new HoldfastError(
      'damaged',
      `an encrypted file is cut short or too long: no payload has ${storedBytes} bytes`,
    );
  }
  return { blocks, plainBytes };
}

/**
 * Encrypts the parts, one after the other, into `target`, which must be exactly as long as the payload. Then opens what
 * is in `target` again and compares: throws `bug` when it is not the plaintext (bad memory, a defect), so that nothing
 * is stored that could not be read.
 */
export function sealStream(key: CipherKey, parts: readonly Uint8Array[], target: Uint8Array): void {
  const { blocks } = shapeOf(target.length);
  let sealed = 0;
  for (const plain of plainBlocks(parts)) {
    const cipher = createCipheriv(CIPHER, key, nonceOf(sealed, sealed === blocks - 1), { authTagLength: TAG_BYTES });
    const start = sealed * BLOCK_STORED_BYTES;
    const stored = cipher.update(plain);
    target.set(stored, start);
    release(stored);
    cipher.final();
    target.set(cipher.getAuthTag(), start + plain.length);
    sealed++;
  }
  let checked = 0;
  for (const plain of plainBlocks(parts)) {
    const opened = openBlock(key, storedBlock(target, checked), checked, checked === blocks - 1);
    const isSame = opened !== undefined && Buffer.compare(opened, plain) === 0;
    assert(isSame, 'an encrypted file does not open to what went into it');
    release(opened);
    checked++;
  }
  assert(sealed === blocks && checked === blocks, 'an encrypted file has another number of blocks than its plaintext');
}

/**
 * Opens the whole blocks in `stored`, of which the first is number `firstBlock` of a payload of `blocks` blocks. Throws
 * `damaged`, releasing nothing, when one is not what was written at its place.
 */
export function openStream(key: CipherKey, stored: Uint8Array, firstBlock: number, blocks: number): Uint8Array {
  const count = Math.ceil(stored.length / BLOCK_STORED_BYTES);
  const plain = new Uint8Array(Math.max(0, stored.length - count * TAG_BYTES));
  for (let i = 0; i < count; i++) {
    const number = firstBlock + i;
    const opened = openBlock(key, storedBlock(stored, i), number, number === blocks - 1);
    if (opened === undefined) {
      throw new HoldfastError(
        'damaged',
        `an encrypted file is damaged: block ${number + 1} of ${blocks} does not authenticate`,
      );
    }
    plain.set(opened, i * BLOCK_PLAIN_BYTES);
    release(opened);
  }
  return plain;
}

function openBlock(key: CipherKey, stored: Uint8Array, number: number, last: boolean): Uint8Array | undefined {
  if (stored.length < TAG_BYTES) return undefined;
  const decipher = createDecipheriv(CIPHER, key, nonceOf(number, last), { authTagLength: TAG_BYTES });
  decipher.setAuthTag(stored.subarray(stored.length - TAG_BYTES));
  const plain = decipher.update(stored.subarray(0, stored.length - TAG_BYTES));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return plain;
}

function storedBlock(stored: Uint8Array, i: number): Uint8Array {
  return stored.subarray(i * BLOCK_STORED_BYTES, (i + 1) * BLOCK_STORED_BYTES);
}

function nonceOf(number: number, last: boolean): Uint8Array {
  const nonce = new Uint8Array(12);
  // Four of the eleven counter bytes count to 256 TiB, more than memory holds.
  new DataView(nonce.buffer).setUint32(7, number);
  nonce[11] = last ? 1 : 0;
  return nonce;
}

/**
 * The parts as blocks: a block inside one part is a view of it; one that spans parts is gathered in a buffer that the
 * next such block re-uses.
 */
function* plainBlocks(parts: readonly Uint8Array[]): Generator<Uint8Array> {
  const gathered = new Uint8Array(BLOCK_PLAIN_BYTES);
  let filled = 0;
  let any = false;
  for (const part of parts) {
    let at = 0;
    while (at < part.length) {
      any = true;
      if (filled === 0 && part.length - at >= BLOCK_PLAIN_BYTES) {
        yield part.subarray(at, (at += BLOCK_PLAIN_BYTES));
        continue;
      }
      const piece = part.subarray(at, at + BLOCK_PLAIN_BYTES - filled);
      gathered.set(piece, filled);
      at += piece.length;
      filled += piece.length;
      if (filled === BLOCK_PLAIN_BYTES) {
        yield gathered;
        filled = 0;
      }
    }
  }
  if (filled > 0 || !any) yield gathered.subarray(0, filled);
}
