/**
 * A world for histories of many hosts on one repository: backends in memory whose listings lag, clocks that are wrong by years, and one scheduler,
 * ruled by a seed, that decides whose operation is next. The code that runs in it is the real one.
 */
import type { Backend, ObjectInfo } from '../../src/backend/backend.ts';
import { Mirror } from '../../src/backend/mirror.ts';
import type { Clock } from '../../src/clock.ts';
import { HoldfastError } from '../../src/errors.ts';

/** A listing shows what was there at some moment not longer ago than this. */
export const LAG_MS = 50_000;
/** What one operation takes at most. */
const OPERATION_MS = 2_000;
/** How often, between two operations, somebody's rank changes. */
const RANK_CHANGE = 0.03;

/** A small generator (mulberry32): the same numbers from the same seed. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A backend's objects, with what was there when. */
export class Store {
  readonly name: string;
  readonly objects = new Map<string, Uint8Array>();
  /** Of each key, when it appeared and vanished, by turns. */
  readonly #changes = new Map<string, number[]>();

  constructor(name: string, base: ReadonlyMap<string, Uint8Array> = new Map()) {
    this.name = name;
    for (const [key, bytes] of base) this.set(key, bytes, -LAG_MS);
  }

  set(key: string, bytes: Uint8Array, nowMs: number): void {
    if (!this.objects.has(key)) this.#changes.set(key, [...(this.#changes.get(key) ?? []), nowMs]);
    this.objects.set(key, new Uint8Array(bytes));
    this.sizes.set(key, bytes.length);
  }

  delete(key: string, nowMs: number): void {
    if (this.objects.delete(key)) this.#changes.set(key, [...(this.#changes.get(key) ?? []), nowMs]);
  }

  readonly sizes = new Map<string, number>();

  /** What was there at that moment. */
  at(momentMs: number, prefix: string): ObjectInfo[] {
    return [...this.#changes].flatMap(([key, changes]) => {
      if (!key.startsWith(prefix)) return [];
      const isThere = changes.filter((changeMs) => changeMs <= momentMs).length % 2 === 1;
      return isThere ? [{ key, size: this.sizes.get(key) ?? 0 }] : [];
    });
  }
}

type Fate = 'done' | 'refused' | 'dead';

interface Pending {
  actor: Actor;
  what: string;
  /** Undefined: an operation, which may go on at any time. */
  wakeMs?: number;
  go: () => void;
}

/** Who does something: a process on some host. */
export interface Actor {
  name: string;
  /** By how much its wall clock is wrong. */
  skewMs: number;
  /** It dies at this operation, counted from 1; Infinity: never. */
  diesAt: number;
  /** Of the operation that it dies at: whether it takes effect. */
  lastTakesEffect: boolean;
  operations: number;
  /** Of those who could go on, the one of the highest rank does. */
  rank: number;
  /** It gets no turn before. */
  pausedUntilMs: number;
  isOver: boolean;
  hasDied: boolean;
}

export class World {
  readonly stores: Store[];
  readonly random: () => number;
  readonly history: string[] = [];
  nowMs = Date.UTC(2026, 0, 1);
  #pending: Pending[] = [];
  readonly #actors = new Set<Actor>();
  /** Called after each change, with what was changed. */
  onChange: (store: Store, key: string, actor: Actor) => Promise<void> = async () => {};

  constructor(seed: number, stores: Store[]) {
    this.random = generator(seed);
    this.stores = stores;
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.random() * items.length)] as T;
  }

  get running(): Actor[] {
    return [...this.#actors].filter(({ isOver }) => !isOver);
  }

  /** Lets somebody begin; he gets his turns from `step`. */
  start(actor: Actor, work: (actor: Actor) => Promise<void>): void {
    this.#actors.add(actor);
    const end = (how: string) => {
      actor.isOver = true;
      this.note(actor, how);
    };
    work(actor).then(
      () => end('is done'),
      (error: unknown) => {
        end(`fails: ${error instanceof Error ? error.message : String(error)}`);
        if (!(error instanceof HoldfastError) || error.code === 'bug') this.defect ??= error;
      },
    );
  }

  /** What no actor may throw. */
  defect: unknown;

  note(actor: Actor | undefined, what: string): void {
    const at = ((this.nowMs - Date.UTC(2026, 0, 1)) / 1000).toFixed(0);
    this.history.push(`${at}s ${actor?.name ?? ''} ${what}`);
  }

  clock(actor: Actor): Clock {
    return {
      now: () => this.nowMs + actor.skewMs,
      monotonic: () => this.nowMs,
      sleep: (ms) =>
        new Promise((resolve) => {
          this.#pending.push({ actor, what: `sleeps ${ms}`, wakeMs: this.nowMs + ms, go: resolve });
        }),
    };
  }

  /** The backends as an actor sees them; `down` are out of his reach for his whole life. */
  mirror(actor: Actor, down: readonly string[] = []): Mirror {
    return new Mirror(
      this.stores.map((store) =>
        down.includes(store.name)
          ? { name: store.name, error: new HoldfastError('backend_unavailable', `backend ${store.name} is down`) }
          : { name: store.name, backend: this.backend(store, actor) },
      ),
    );
  }

  backend(store: Store, actor: Actor): Backend {
    const change = async (what: string, key: string, work: () => void): Promise<void> => {
      await this.#turn(actor, `${what} ${store.name} ${key}`, () => {
        work();
        return this.onChange(store, key, actor);
      });
    };
    return {
      put: async (key, bytes, { ifAbsent = false } = {}) => {
        let outcome: 'created' | 'exists' = 'created';
        const copy = new Uint8Array(bytes);
        await change('put', key, () => {
          if (ifAbsent && store.objects.has(key)) outcome = 'exists';
          else store.set(key, copy, this.nowMs);
        });
        return outcome;
      },
      get: async (key, range) => {
        await this.#turn(actor, `get ${store.name} ${key}`);
        const bytes = store.objects.get(key);
        if (!bytes) throw new HoldfastError('not_found', `object ${key} is not on ${store.name}`);
        return range ? bytes.slice(range.offset, range.offset + range.length) : bytes.slice();
      },
      head: async (key) => {
        await this.#turn(actor, `head ${store.name} ${key}`);
        const bytes = store.objects.get(key);
        return bytes && { size: bytes.length };
      },
      list: (prefix) => this.#list(store, actor, prefix),
      delete: (key) => change('delete', key, () => store.delete(key, this.nowMs)),
      async [Symbol.asyncDispose]() {},
    };
  }

  async *#list(store: Store, actor: Actor, prefix: string): AsyncGenerator<ObjectInfo> {
    await this.#turn(actor, `list ${store.name} ${prefix}`);
    // Each folder lags by itself.
    const folders = new Set([...store.sizes.keys()].map((key) => key.split('/')[0] ?? ''));
    for (const folder of folders) {
      const atMs = this.nowMs - Math.floor(this.random() * LAG_MS);
      for (const one of store.at(atMs, prefix)) if (one.key.split('/')[0] === folder) yield one;
    }
  }

  /** One more turn of somebody. @returns false when nobody has any left */
  async step(): Promise<boolean> {
    await settle();
    if (this.#pending.length === 0) return false;
    // By rank, not by chance: so one gets far while another stands still in the middle of what it does, for as long as it takes.
    if (this.random() < RANK_CHANGE) this.pick([...this.#pending]).actor.rank = this.random();
    const timeOf = ({ actor, wakeMs = 0 }: Pending) => Math.max(wakeMs, actor.pausedUntilMs);
    const able = this.#pending.filter(({ actor }) => actor.pausedUntilMs <= this.nowMs);
    const among = able.length > 0 ? able : this.#pending;
    const rank = Math.max(...among.map(({ actor }) => actor.rank));
    const own = among.filter(({ actor }) => actor.rank === rank);
    // Who sleeps is woken, though others could do something: that is how they come to stand still.
    const wakesMs = Math.min(...own.map(timeOf));
    this.nowMs = Math.max(this.nowMs, wakesMs);
    const next = this.pick(own.filter((one) => timeOf(one) <= this.nowMs));
    this.#pending = this.#pending.filter((one) => one !== next);
    this.nowMs += Math.floor(this.random() * OPERATION_MS);
    next.go();
    await settle();
    return true;
  }

  isAsleep(actor: Actor): boolean {
    const own = this.#pending.filter((one) => one.actor === actor);
    return own.length > 0 && own.every(({ wakeMs = 0 }) => wakeMs > this.nowMs);
  }

  /** Until all are done or dead. */
  async drain(): Promise<void> {
    while (await this.step());
  }

  async #turn(actor: Actor, what: string, effect: () => void | Promise<void> = () => {}): Promise<void> {
    // Who opens a repository reads its keys, which nobody changes here.
    if (/ (holdfast\.json|keys\/|identity\/)/.test(what)) return effect();
    const number = ++actor.operations;
    const fate: Fate = number < actor.diesAt ? 'done' : 'dead';
    if (number > actor.diesAt) return new Promise(() => {});
    await new Promise<void>((resolve) => this.#pending.push({ actor, what, go: resolve }));
    if (number > actor.diesAt || (fate === 'dead' && !actor.lastTakesEffect)) {
      this.#bury(actor, what, 'before');
      return new Promise(() => {});
    }
    this.note(actor, what.replaceAll(/([0-9a-f]{6})[0-9a-f]{58}/g, '$1'));
    await effect();
    if (fate === 'done') return undefined;
    this.#bury(actor, what, 'after');
    return new Promise(() => {});
  }

  #bury(actor: Actor, what: string, when: string): void {
    if (!actor.isOver) this.note(actor, `dies ${when} ${what.split(' ')[0]}`);
    actor.isOver = true;
    actor.hasDied = true;
    this.#pending = this.#pending.filter((one) => one.actor !== actor);
  }
}

/** All that can be done without another's turn. */
async function settle(): Promise<void> {
  for (let i = 0; i < 2; i++) await new Promise((resolve) => setImmediate(resolve));
}
