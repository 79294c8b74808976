/** Memory outside of JavaScript's heap. */

/** Output buffers may be this much longer than what is in them, and count as the memory of their contents alone. */
export const ROOM_BYTES = 64;
/** Smaller arrays are not worth the call, and may share their memory with others (Node's pool). */
const WORTH_RELEASING_BYTES = 16 * 1024;

/**
 * Gives the memory of an array back at once, instead of at some garbage collection; the array is empty from then on. Every byte that waits
 * for the collector brings the next collection nearer, and in a run that makes buffers all the time they take a fifth of the processor's.
 * Does nothing for an array that shares its memory.
 */
export function release(bytes: Uint8Array): void {
  if (isAlone(bytes) && bytes.length >= WORTH_RELEASING_BYTES) (bytes.buffer as ArrayBuffer).transfer(0);
}

/** The same bytes in memory of their own, which can be given to another thread: the array itself, or a copy where it shares its memory. */
export function owned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return isAlone(bytes) ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
}

/**
 * The same bytes in memory that holds nothing else. Where theirs was made for them alone, and `roomBytes` long, the rest of it is given back at once,
 * and the array is empty from then on. (Node makes many short ones in one piece of memory, which is longer.)
 */
export function trimmed(bytes: Uint8Array, roomBytes: number): Uint8Array {
  const { buffer, byteOffset, length } = bytes;
  if (byteOffset !== 0 || buffer.byteLength !== roomBytes) return new Uint8Array(bytes);
  return new Uint8Array((buffer as ArrayBuffer).transfer(length));
}

function isAlone({ buffer, byteOffset, length }: Uint8Array): boolean {
  return byteOffset === 0 && buffer instanceof ArrayBuffer && buffer.byteLength <= length + ROOM_BYTES;
}
