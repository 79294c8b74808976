/**
 * The right to be the one that acts, for a while: it expires unless it is renewed, and only one of several can hold it. Who cannot be sure to
 * hold it still does not.
 */
import type { Clock, Random } from '../clock.ts';
import { isSurvivable } from '../errors.ts';
import { objectIn } from '../json.ts';
import type { StateStore } from './store.ts';

export interface LeaseHolder {
  host: string;
  pid: number;
  sinceMs: number;
}

export interface LeaseOptions {
  store: StateStore;
  clock: Clock;
  random: Random;
  key: string;
  /** How long it holds without being renewed. */
  ms: number;
  host: string;
  pid: number;
}

const VERSION = 1;
/** Clocks that differ by less are taken for equal. */
const CLOCK_SKEW_MS = 60_000;
const LEASE_MAX_MS = 3_600_000;

export class Lease {
  /** Of this holder alone. */
  readonly id: string;
  readonly #options: LeaseOptions;
  #held: { revision: number; sinceMs: number; renewedMs: number; renewedMonotonicMs: number } | undefined;
  #renewing: Promise<boolean> | undefined;

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.id = Buffer.from(options.random.bytes(8)).toString('hex');
  }

  /** Whether it surely is ours at this moment, by both clocks: one stands still while the host sleeps, the other can be set. */
  isHeld(): boolean {
    const { clock, ms } = this.#options;
    if (!this.#held) return false;
    const passed = [clock.now() - this.#held.renewedMs, clock.monotonic() - this.#held.renewedMonotonicMs];
    return passed.every((one) => one < ms) && (passed[0] ?? 0) >= 0;
  }

  /** Takes it where nobody has it. Asked again and again by who stands by. */
  async take(signal?: AbortSignal): Promise<boolean> {
    return (await this.#create()) || ((await this.#dropImpossible(signal)) && (await this.#create()));
  }

  async #create(): Promise<boolean> {
    const { store, clock, key } = this.#options;
    const at = this.#moment();
    const sinceMs = clock.now();
    const revision = await store.create(key, this.#value(sinceMs), { expiresMs: this.#expiresMs() });
    if (revision === undefined) return false;
    this.#held = { revision, sinceMs, ...at };
    return true;
  }

  /**
   * One that was renewed at a time to come is from before the clock was set back, and would not expire for as long as that was. Whoever has it and
   * lives renews it in good time by the clock of now.
   */
  async #dropImpossible(signal: AbortSignal | undefined): Promise<boolean> {
    const { store, clock, key, ms } = this.#options;
    const entry = await store.get(key);
    const written = entry && termsIn(entry.value);
    if (!written || written.renewedMs <= clock.now() + CLOCK_SKEW_MS) return false;
    try {
      await clock.sleep(Math.max(ms, written.ms), signal);
    } catch {
      return false; // interrupted
    }
    return store.delete(key, entry.revision);
  }

  /** @returns false when it is somebody else's by now, or the store could not be asked until it ran out */
  renew(): Promise<boolean> {
    // Two at once would each take the other for somebody else.
    this.#renewing ??= this.#renew().finally(() => (this.#renewing = undefined));
    return this.#renewing;
  }

  async #renew(): Promise<boolean> {
    const { store, key } = this.#options;
    const held = this.#held;
    if (!held) return false;
    const at = this.#moment();
    try {
      const value = this.#value(held.sinceMs);
      const revision = await store.update(key, value, held.revision, { expiresMs: this.#expiresMs() });
      this.#held = revision === undefined ? undefined : { ...held, revision, ...at };
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      if (!this.isHeld()) this.#held = undefined;
    }
    return this.#held !== undefined;
  }

  /** For whoever stands by. */
  async release(): Promise<void> {
    const { store, key } = this.#options;
    const held = this.#held;
    this.#held = undefined;
    if (held) await store.delete(key, held.revision);
  }

  #expiresMs(): number {
    return this.#options.clock.now() + this.#options.ms;
  }

  /** Before it is written: it never holds longer here than there. */
  #moment(): { renewedMs: number; renewedMonotonicMs: number } {
    const { clock } = this.#options;
    return { renewedMs: clock.now(), renewedMonotonicMs: clock.monotonic() };
  }

  #value(sinceMs: number): string {
    const { host, pid } = this.#options;
    const { clock, ms } = this.#options;
    return JSON.stringify({ version: VERSION, id: this.id, host, pid, sinceMs, renewedMs: clock.now(), ms });
  }
}

function termsIn(value: string): { renewedMs: number; ms: number } | undefined {
  const { renewedMs, ms } = objectIn(value) ?? {};
  const isWhole = typeof renewedMs === 'number' && typeof ms === 'number' && ms <= LEASE_MAX_MS;
  return isWhole ? { renewedMs, ms } : undefined;
}

/** Who has it now; null: nobody, or somebody of another version. */
export async function leaseHolder(store: StateStore, key: string): Promise<LeaseHolder | null> {
  const entry = await store.get(key);
  if (!entry) return null;
  try {
    const { host, pid, sinceMs } = JSON.parse(entry.value) as LeaseHolder;
    return { host: String(host), pid: Number(pid), sinceMs: Number(sinceMs) };
  } catch {
    return null;
  }
}
