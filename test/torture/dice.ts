/** All that is decided at random in a round of torture: the same for the same seed. */
import { createCipheriv, createHash } from 'node:crypto';

export class Dice {
  readonly #seed: string;
  #thrown = 0;

  constructor(seed: string) {
    this.#seed = seed;
  }

  /** Others, that depend on these and on the name alone: not on what was thrown before. */
  of(name: string): Dice {
    return new Dice(`${this.#seed}/${name}`);
  }

  /** From 0 to below 1. */
  fraction(): number {
    return this.#next().readUIntBE(0, 6) / 2 ** 48;
  }

  /** A whole number from 0 to below `end`. */
  below(end: number): number {
    return Math.floor(this.fraction() * end);
  }

  chance(share: number): boolean {
    return this.fraction() < share;
  }

  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new Error('there is nothing to pick from');
    return list[this.below(list.length)] as T;
  }

  shuffled<T>(list: readonly T[]): T[] {
    return list
      .map((one) => [this.fraction(), one] as const)
      .sort(([a], [b]) => a - b)
      .map(([, one]) => one);
  }

  /** Bytes that do not compress. */
  bytes(length: number): Buffer {
    return createCipheriv('aes-256-ctr', this.#next(), Buffer.alloc(16)).update(Buffer.alloc(length));
  }

  #next(): Buffer {
    return createHash('sha256').update(`${this.#seed} ${this.#thrown++}`).digest();
  }
}
