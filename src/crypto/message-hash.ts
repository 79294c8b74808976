/** Hashes of messages that do not fit in memory. */
import { createHash } from 'node:crypto';

export type MessageHash = 'sha256' | 'sha512';

/** The digest (32 or 64 bytes) of the pieces, one after the other. */
export async function hashMessage(
  algorithm: MessageHash,
  pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<Uint8Array> {
  const hash = createHash(algorithm);
  for await (const piece of pieces) hash.update(piece);
  return new Uint8Array(hash.digest());
}
