/**
 * Content-defined chunking: where to cut a stream of bytes so that an insertion moves only the cuts near it.
 *
 * Gear hash with normalised chunking (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication
 * Based Storage Systems", 2020), 32 bits wide, over a table that is derived from the repository's secret: the lengths of
 * chunks say nothing about known files to somebody without it. docs/format.md has the exact rule and vectors.
 */
import { assert } from '../../errors.ts';

export interface ChunkerParameters {
  algorithm: 'gear32';
  /** No chunk but the last of a stream is shorter. */
  minBytes: number;
  /** Where the rule turns from reluctant to eager; about the mean length. */
  averageBytes: number;
  /** No chunk is longer. */
  maxBytes: number;
}

export const DEFAULT_CHUNKER: ChunkerParameters = {
  algorithm: 'gear32',
  minBytes: 16 * 1024,
  averageBytes: 64 * 1024,
  maxBytes: 256 * 1024,
};

/**
 * The length of the first chunk of `bytes[start, end)`. Right only if `end` is the end of the stream or at least
 * `maxBytes` after `start`.
 */
export type Cut = (bytes: Uint8Array, start: number, end: number) => number;

/** @param gear 256 values of 32 bits, see `gearTable`. */
export function makeCut(gear: Uint32Array, parameters: ChunkerParameters): Cut {
  const { minBytes, averageBytes, maxBytes } = parameters;
  assert(gear.length === 256, 'a gear table has 256 entries');
  const bits = Math.log2(averageBytes);
  assert(
    Number.isInteger(bits) && bits >= 8 && bits <= 24,
    'the average chunk length is a power of two, 256 B to 16 MiB',
  );
  assert(minBytes % 2 === 0 && maxBytes % 2 === 0, 'chunk lengths are even');
  assert(minBytes < averageBytes && averageBytes < maxBytes, 'minimum < average < maximum');
  // The highest bits but one depend on the most bytes; bit 31 is left out so that the mask can be shifted by one.
  const small = maskOf(bits + 2);
  const large = maskOf(bits - 2);
  const table = Int32Array.from(gear);
  const shifted = table.map((value) => value << 1);

  /** Rolls two bytes a step, which cuts exactly where one byte a step would: the first test looks one bit higher. */
  function scan(bytes: Uint8Array, from: number, to: number, mask: number, hash: number): number {
    const maskShifted = mask << 1;
    let i = from;
    for (; i + 1 < to; i += 2) {
      // Indexes are within bounds; checks would halve the speed
      hash = ((hash << 2) + shifted[bytes[i]!]!) | 0;
      if ((hash & maskShifted) === 0) return i + 1;
      hash = (hash + table[bytes[i + 1]!]!) | 0;
      if ((hash & mask) === 0) return i + 2;
    }
    if (i < to) {
      hash = ((hash << 1) + table[bytes[i]!]!) | 0;
      if ((hash & mask) === 0) return i + 1;
    }
    carried = hash;
    return -1;
  }
  let carried = 0;

  return (bytes, start, end) => {
    const available = end - start;
    if (available <= minBytes) return available;
    const limit = start + Math.min(available, maxBytes);
    const middle = Math.min(start + averageBytes, limit);
    let cut = scan(bytes, start + minBytes, middle, small, 0);
    if (cut < 0) cut = scan(bytes, middle, limit, large, carried);
    return (cut < 0 ? limit : cut) - start;
  };
}

function maskOf(bits: number): number {
  return ((2 ** bits - 1) * 2 ** (31 - bits)) | 0;
}

/**
 * Cuts a stream that arrives in pieces. Chunks are views, valid only during `emit`; only what a piece leaves over is copied.
 */
export class ChunkStream {
  readonly #cut: Cut;
  readonly #maxBytes: number;
  readonly #emit: (chunk: Uint8Array) => void;
  #held = new Uint8Array(0);
  #heldBytes = 0;

  constructor(cut: Cut, parameters: ChunkerParameters, emit: (chunk: Uint8Array) => void) {
    this.#cut = cut;
    this.#maxBytes = parameters.maxBytes;
    this.#emit = emit;
  }

  /** @param last that no more bytes will come; saves copying the tail. */
  push(bytes: Uint8Array, last = false): void {
    let piece = bytes;
    if (this.#heldBytes > 0) {
      const needed = this.#heldBytes + bytes.length;
      if (this.#held.length < needed) {
        const grown = new Uint8Array(needed);
        grown.set(this.#held.subarray(0, this.#heldBytes));
        this.#held = grown;
      }
      this.#held.set(bytes, this.#heldBytes);
      piece = this.#held.subarray(0, needed);
      this.#heldBytes = 0;
    }
    let start = 0;
    while (start < piece.length && (last || piece.length - start >= this.#maxBytes)) {
      const length = this.#cut(piece, start, piece.length);
      this.#emit(piece.subarray(start, start + length));
      start += length;
    }
    const rest = piece.subarray(start);
    if (this.#held.length < rest.length) this.#held = new Uint8Array(Math.max(rest.length, this.#maxBytes));
    this.#held.set(rest); // `set` copes with overlap
    this.#heldBytes = rest.length;
  }

  /** The end of the stream: emits what is left. */
  end(): void {
    this.push(new Uint8Array(0), true);
  }
}
