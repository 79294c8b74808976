/** A clock that stands still until a test moves it. */
import type { Clock } from '../src/clock.ts';

/** One for all: where it comes from, nobody asks, and finding that out takes longer than all the rest. */
const aborted = new DOMException('This operation was aborted', 'AbortError');

interface Sleeper {
  atMs: number;
  wake: () => void;
}

export class FakeClock implements Clock {
  #nowMs: number;
  readonly #startMs: number;
  #sleepers: Sleeper[] = [];

  /** @param startMs the wall clock at the start; the monotonic clock starts at 0 */
  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#startMs = this.#nowMs = startMs;
  }

  now(): number {
    return this.#nowMs;
  }

  monotonic(): number {
    return this.#nowMs - this.#startMs;
  }

  /** How many are asleep. */
  get sleeping(): number {
    return this.#sleepers.length;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const refuse = () => {
        this.#sleepers = this.#sleepers.filter((one) => one !== sleeper);
        reject(aborted);
      };
      const sleeper = {
        atMs: this.#nowMs + ms,
        wake: () => {
          signal?.removeEventListener('abort', refuse);
          resolve();
        },
      };
      if (signal?.aborted) return refuse();
      signal?.addEventListener('abort', refuse, { once: true });
      this.#sleepers.push(sleeper);
    });
  }

  /** Lets so much time go by: each sleeper wakes at its moment, and what it then does at once is done before the clock moves on. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settle();
    for (let next = this.#next(); next && next.atMs <= untilMs; next = this.#next()) await this.#wake(next);
    this.#nowMs = untilMs;
    await settle();
  }

  /** Lets time go by, as fast as can be, until `work` has settled. Throws when nothing is left to wait for: it hangs. */
  async through<T>(work: Promise<T>): Promise<T> {
    let isSettled = false;
    const end = () => void (isSettled = true);
    work.then(end, end);
    for (;;) {
      await settle();
      if (isSettled) return work;
      const next = this.#next();
      if (!next)
        throw new Error(`a hang: nothing is asleep, and the work is not done, ${this.monotonic()} ms after the start`);
      await this.#wake(next);
    }
  }

  #next(): Sleeper | undefined {
    return this.#sleepers.reduce<Sleeper | undefined>((a, b) => (a && a.atMs <= b.atMs ? a : b), undefined);
  }

  async #wake(sleeper: Sleeper): Promise<void> {
    this.#sleepers = this.#sleepers.filter((one) => one !== sleeper);
    this.#nowMs = Math.max(this.#nowMs, sleeper.atMs);
    sleeper.wake();
    await settle();
  }
}

/** All that can be done without time going by. */
async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}
