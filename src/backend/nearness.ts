/** Which backend is nearest, by what reads took. Nothing is kept beyond the run. */
import type { Clock } from '../clock.ts';

/** So many reads are remembered, … */
const SAMPLES = 8;
/** … and so many are needed before one counts as far: a single slow one says nothing. */
const SAMPLES_MIN = 3;
/** Closer than this all are equally near: between local disks the order of the config decides, not the noise. */
const NEAR_MS = 20;
/** A read of this many bytes may take twice as long as one of a few. */
const DOUBLING_BYTES = 1024 * 1024;

export class Nearness {
  readonly #clock: Clock;
  readonly #samples = new Map<string, number[]>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Measures a read of the member. One that fails says nothing of the distance. */
  async measure(name: string, read: Promise<Uint8Array>): Promise<Uint8Array> {
    const startedMs = this.#clock.monotonic();
    const bytes = await read;
    const ms = (this.#clock.monotonic() - startedMs) / (1 + bytes.length / DOUBLING_BYTES);
    this.#samples.set(name, [ms, ...(this.#samples.get(name) ?? [])].slice(0, SAMPLES));
    return bytes;
  }

  /** Milliseconds: the least of the last reads, which a busy moment cannot raise. Of a member hardly read yet, as near as can be: it is to be tried. */
  distance(name: string): number {
    const samples = this.#samples.get(name) ?? [];
    return samples.length < SAMPLES_MIN ? NEAR_MS : Math.max(NEAR_MS, Math.min(...samples));
  }
}
