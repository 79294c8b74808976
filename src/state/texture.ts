/**
 * Whether a file's bytes are spread as those of compressed or encrypted data are. Samples are looked at, not all of it: it costs a few
 * microseconds a file, where compressing it would cost milliseconds.
 */

/** Bytes of a sample; one is taken at the beginning of each stretch. */
const SAMPLE_BYTES = 4096;
const STRETCH_BYTES = 256 * 1024;
/** Fewer say nothing. */
const SAMPLE_MIN_BYTES = 16;
/**
 * How many values the bytes would have, were all equally frequent (the inverse of the chance that two bytes of the sample are the same, which
 * does not depend on the sample's length). Text has 15 to 25, Base64 64, machine code about 40, random bytes 256, compressed data 200 and more.
 */
const EVEN_VALUES = 100;

export type Texture = 'compressible' | 'incompressible';

/** Of one sample at a time. */
const counts = new Uint32Array(256);

/** Takes samples of one file as it is read. */
export class TextureSampler {
  #even = 0;
  #uneven = 0;

  /** @param piece the next bytes of the file, of any length. */
  see(piece: Uint8Array): void {
    for (let at = 0; at < piece.length; at += STRETCH_BYTES)
      this.#judge(piece, at, Math.min(at + SAMPLE_BYTES, piece.length));
  }

  /** Undefined when there was too little to tell. */
  get texture(): Texture | undefined {
    if (this.#even + this.#uneven === 0) return undefined;
    return this.#even >= this.#uneven ? 'incompressible' : 'compressible';
  }

  /** @param start where the sample begins in `bytes`, and `end` where it ends */
  #judge(bytes: Uint8Array, start: number, end: number): void {
    const length = end - start;
    if (length < SAMPLE_MIN_BYTES) return;
    counts.fill(0);
    // Indexes are within bounds; `for…of` and checks would take three times as long.
    for (let i = start; i < end; i++) counts[bytes[i]!]!++;
    let pairs = 0;
    let high = 0;
    for (let value = 0; value < 256; value++) {
      const count = counts[value]!;
      pairs += count * (count - 1);
      if (value >= 128) high += count;
    }
    // Short texts may have no byte twice, but few that are not ASCII.
    const isEven = pairs * EVEN_VALUES <= length * (length - 1) && high * 4 >= length;
    if (isEven) this.#even++;
    else this.#uneven++;
  }
}
