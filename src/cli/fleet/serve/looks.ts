/** Looks at the fleet, shared by all who ask: however many there are, one is under way, and nobody waits longer than they have time. */
import type { Clock } from '../../../clock.ts';
import { HoldfastError } from '../../../errors.ts';
import type { EventKind, FleetEvent } from '../../../fleet/events.ts';
import type { FleetView } from '../../../fleet/health.ts';
import type { Runs } from '../../../operations/host/runs.ts';

/** What is known at one moment. */
export interface FleetLook {
  view: FleetView;
  /** By agent: what its host remembers of its runs; nothing of those whose config is not known here. */
  runs: ReadonlyMap<string, Runs>;
  /** The last ones, oldest first. */
  events: readonly FleetEvent[];
  /** How many there were of each kind since the first look. */
  counted: Readonly<Partial<Record<EventKind, number>>>;
}

/** So long a look is as good as a new one: where somebody watches, and where looking means to ask every agent. */
const FRESH_MS = { watched: 2000, unwatched: 15_000 };
/** Whoever looks for so long will not come back; then another may try. */
const ABANDONED_MS = 30_000;

export class Looks {
  readonly #look: (signal: AbortSignal) => Promise<FleetLook>;
  readonly #clock: Clock;
  #last: { look: FleetLook; atMs: number } | undefined;
  #running: { look: Promise<FleetLook>; atMs: number; stop: AbortController } | undefined;

  constructor(look: (signal: AbortSignal) => Promise<FleetLook>, clock: Clock) {
    this.#look = look;
    this.#clock = clock;
  }

  /** @throws `busy` when it is not done in time, and what the look throws */
  async within(deadlineMs: number): Promise<FleetLook> {
    const nowMs = this.#clock.monotonic();
    if (this.#last) {
      const { look, atMs } = this.#last;
      if (nowMs - atMs < (look.view.watcher ? FRESH_MS.watched : FRESH_MS.unwatched)) return look;
    }
    if (this.#running && nowMs - this.#running.atMs > ABANDONED_MS) this.stop();
    const { look } = (this.#running ??= this.#begin(nowMs));
    const done = new AbortController();
    const late = this.#clock.sleep(Math.max(0, deadlineMs), done.signal).then(
      () => true,
      () => false,
    );
    try {
      const first = await Promise.race([look, late]);
      if (typeof first === 'object') return first;
    } finally {
      done.abort();
    }
    throw new HoldfastError('busy', 'the fleet could not be looked at in time', {
      hint: 'Ask again. If that goes on: is the host overloaded, or the disk of the state store?',
      retryable: true,
    });
  }

  /** The next look begins after this moment. */
  forget(): void {
    this.#last = undefined;
    this.#running = undefined;
  }

  /** Ends the look that is under way. */
  stop(): void {
    this.#running?.stop.abort();
    this.#running = undefined;
  }

  #begin(atMs: number) {
    const stop = new AbortController();
    const running = { look: this.#look(stop.signal), atMs, stop };
    running.look
      .then((look) => {
        if (this.#running === running) this.#last = { look, atMs: this.#clock.monotonic() };
      })
      .catch(() => {}) // those who wait are told
      .finally(() => {
        if (this.#running === running) this.#running = undefined;
      });
    return running;
  }
}
