/** Time that passes when a test says so, the same for several processes, of which each can be stopped for a while. */
import type { Clock } from '../../src/clock.ts';
import { START_MS } from './support.ts';

interface Timer {
  atMs: number;
  owner: object;
  wake: () => void;
}

export class ManualTime {
  #nowMs = 0;
  #timers: Timer[] = [];
  readonly #stopped = new Set<object>();

  /** Of one process: while it is stopped its sleeps do not end. */
  clock(): Clock {
    const owner = {};
    const clock: Clock = {
      now: () => START_MS + this.#nowMs,
      monotonic: () => this.#nowMs,
      sleep: (ms, signal) =>
        new Promise((resolve, reject) => {
          const end = (then: () => void) => {
            this.#timers = this.#timers.filter((one) => one !== timer);
            signal?.removeEventListener('abort', abort);
            then();
          };
          const abort = () => end(() => reject(new Error('aborted')));
          const timer: Timer = { atMs: this.#nowMs + ms, owner, wake: () => end(resolve) };
          this.#timers.push(timer);
          signal?.addEventListener('abort', abort, { once: true });
          if (signal?.aborted) abort();
        }),
    };
    this.#owners.set(clock, owner);
    return clock;
  }

  readonly #owners = new Map<Clock, object>();

  stop(clock: Clock): void {
    this.#stopped.add(this.#owners.get(clock) as object);
  }

  goOn(clock: Clock): void {
    this.#stopped.delete(this.#owners.get(clock) as object);
  }

  /** Lets everybody whose time has come go on, one after the other, until so much time has passed. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      await idle();
      const [next] = this.#timers
        .filter(({ owner, atMs }) => !this.#stopped.has(owner) && atMs <= untilMs)
        .toSorted((a, b) => a.atMs - b.atMs);
      if (!next) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.wake();
    }
    this.#nowMs = untilMs;
    await idle();
  }
}

/** What needs no time has happened. */
export async function idle(): Promise<void> {
  for (let i = 0; i < 30; i++) await new Promise((resolve) => setImmediate(resolve));
}
