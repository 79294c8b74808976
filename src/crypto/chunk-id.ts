/**
 * Ids of chunks and the table that places the cuts between them: both keyed, so that neither tells anything about the
 * content.
 */
import { createHmac, createSecretKey } from 'node:crypto';
import type { ChunkId } from '../entry.ts';
import { HoldfastError } from '../errors.ts';
import { hkdf } from './hash.ts';

const CHUNK_ID = /^[0-9a-f]{64}$/;

/**
 * HMAC-SHA-256 (RFC 2104) of a chunk's plaintext under the repository's chunk-id key, as 64 lower-case hexadecimal
 * digits.
 */
export function chunkIdFunction(key: Uint8Array): (bytes: Uint8Array) => ChunkId {
  // A KeyObject made once takes 2 µs a call where raw key bytes take 14, and reaches the speed of SHA-256 itself from 16 KiB.
  const secret = createSecretKey(key);
  return (bytes) => createHmac('sha256', secret).update(bytes).digest('hex') as ChunkId;
}

/** Throws `damaged` on anything but 64 lower-case hexadecimal digits. */
export function parseChunkId(text: string): ChunkId {
  if (!CHUNK_ID.test(text)) {
    throw new HoldfastError(
      'damaged',
      `not a chunk id: expected 64 lower-case hexadecimal digits, got ${text.length} characters`,
    );
  }
  return text as ChunkId;
}

/**
 * The chunker's 256 words of 32 bits: 1,024 bytes of HKDF from the chunk-id key with the label `gear`, little-endian.
 */
export function gearTable(key: Uint8Array): Uint32Array {
  const view = new DataView(hkdf(key, 'gear', 1024).buffer);
  return Uint32Array.from({ length: 256 }, (_, i) => view.getUint32(4 * i, true));
}
