/**
 * Who holds up a run that stores everything on several backends, and when the others need not wait for it any longer.
 *
 * A backend holds the run up while the run waits, this backend has yet to answer all that is waited for, and another has answered everything.
 * That time is added up. What it took from the run, not how fast a backend is, decides: one that is slow beside a slower source never counts.
 */
import type { Clock } from '../clock.ts';

/** In sum, this much is always forgiven: less than what leaving a backend behind costs (listings, and reading again what it lacks). */
export const PATIENCE_MS = 10_000;
/** And this part of the time since the first object: one that is not twice as slow as the others is cheaper waited for. */
const PATIENCE_SHARE = 1 / 2;

interface Member {
  /** Objects it was given and has not answered for. */
  pending: number;
  /** Milliseconds for which it has held the run up, those of `watch` not yet included. */
  heldMs: number;
  watch: { sinceMs: number; stop: AbortController } | undefined;
}

export interface StragglerOptions {
  clock: Clock;
  /** Names of those in use. */
  live: () => readonly string[];
  /** Called once the patience with one is used up. It must not be live after that. */
  leave: (name: string, heldMs: number) => void;
}

export class Stragglers {
  readonly #options: StragglerOptions;
  readonly #members = new Map<string, Member>();
  #startedMs: number | undefined;
  /** How many objects the run waits for; undefined while it does not. */
  #awaited: number | undefined;

  constructor(options: StragglerOptions) {
    this.#options = options;
  }

  /** An object is given to the member … */
  begin(name: string): void {
    this.#startedMs ??= this.#options.clock.monotonic();
    this.#of(name).pending++;
    this.#update();
  }

  /** … and this is its answer, of whatever kind. */
  end(name: string): void {
    this.#of(name).pending--;
    this.#update();
  }

  /** Resolves as `work` does: the run waits for `objects` objects, and can do nothing else until one of them is stored. */
  async during<T>(work: Promise<T>, objects: number): Promise<T> {
    const before = this.#awaited;
    this.#awaited = objects;
    this.#update();
    try {
      return await work;
    } finally {
      this.#awaited = before;
      this.#update();
    }
  }

  #of(name: string): Member {
    let member = this.#members.get(name);
    if (!member) this.#members.set(name, (member = { pending: 0, heldMs: 0, watch: undefined }));
    return member;
  }

  #update(): void {
    const { live, clock } = this.#options;
    const names = live();
    const nowMs = clock.monotonic();
    for (const [name, member] of this.#members) {
      const holdsUp =
        this.#awaited !== undefined &&
        member.pending > 0 &&
        member.pending >= this.#awaited &&
        names.includes(name) &&
        names.some((other) => this.#of(other).pending === 0);
      if (holdsUp && !member.watch) this.#watch(name, member, nowMs);
      if (!holdsUp && member.watch) {
        member.heldMs += nowMs - member.watch.sinceMs;
        member.watch.stop.abort();
        member.watch = undefined;
      }
    }
  }

  #watch(name: string, member: Member, nowMs: number): void {
    const { clock, leave } = this.#options;
    const stop = new AbortController();
    const watch = (member.watch = { sinceMs: nowMs, stop });
    const elapsedMs = nowMs - (this.#startedMs ?? nowMs);
    const { heldMs } = member;
    // `heldMs + left` is to reach the sum that is forgiven, and the share of `elapsedMs + left`.
    const leftMs = Math.max(0, PATIENCE_MS - heldMs, (PATIENCE_SHARE * elapsedMs - heldMs) / (1 - PATIENCE_SHARE));
    clock.sleep(leftMs, stop.signal).then(
      () => {
        if (member.watch !== watch) return;
        leave(name, heldMs + leftMs);
        this.#update();
      },
      () => undefined, // it answered
    );
  }
}
