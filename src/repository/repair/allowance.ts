/** A budget of time and bytes, and the order in which it is spent. */
import type { Clock, Random } from '../../clock.ts';

/** Milliseconds from the start, and bytes of packs; what is not given is not limited. */
export interface Budget {
  ms?: number | undefined;
  bytes?: number | undefined;
}

/** The first is always granted: a run with the smallest budget goes on where the last one stopped. */
export class Allowance {
  readonly #budget: Budget;
  readonly #clock: Clock;
  readonly #startedMs: number;
  #spent = 0;
  #isFirst = true;

  constructor(budget: Budget = {}, clock: Clock) {
    this.#budget = budget;
    this.#clock = clock;
    this.#startedMs = clock.monotonic();
  }

  /** Whether the time is over. */
  get isOver(): boolean {
    return this.#clock.monotonic() - this.#startedMs >= (this.#budget.ms ?? Infinity);
  }

  /** True when this many bytes may be read still; then they count as read. */
  take(bytes: number): boolean {
    const isGranted = this.#isFirst || (!this.isOver && this.#spent + bytes <= (this.#budget.bytes ?? Infinity));
    this.#isFirst = false;
    if (isGranted) this.#spent += bytes;
    return isGranted;
  }
}

/**
 * What was never looked at first, then by age; what is of one age in an order that nobody can foresee, so that what a budget reaches is a fair
 * sample of it.
 */
export function byAge<T extends { lastMs: number | undefined }>(items: readonly T[], random: Random): T[] {
  const dice = random.bytes(items.length * 4);
  const roll = new DataView(dice.buffer, dice.byteOffset, dice.length);
  return items
    .map((item, i) => ({ item, at: item.lastMs ?? -Infinity, roll: roll.getUint32(i * 4) }))
    .sort((a, b) => (a.at === b.at ? a.roll - b.roll : a.at - b.at))
    .map(({ item }) => item);
}
