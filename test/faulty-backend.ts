/**
 * A backend that fails as planned, around one that works. It records every operation, so that a test can count a run's operations
 * first and then let it die at each in turn.
 */
import { HoldfastError, throwIfAborted } from '../src/errors.ts';
import {
  objectNotFound,
  type Backend,
  type ByteRange,
  type ObjectInfo,
  type PutOptions,
} from '../src/backend/backend.ts';

export type Operation = 'put' | 'get' | 'head' | 'list' | 'delete';
/** One kind of operation, those that change something (`put` and `delete`), or any. */
export type Selection = Operation | 'mutating' | 'any';

/**
 * - `fail`: refuse, nothing is done;
 * - `fail-after`: do it, then refuse: stored, but the answer is lost (of a `list`: refuse after the last object);
 * - `flip`, `truncate`, `vanish`: what a `get` gives has one bit turned, has half its bytes, or is not found;
 * - `delay`: wait for `until` first;
 * - `stall`: nothing is done, and no answer comes until the operation's signal is aborted; needs one.
 */
export type Effect = 'fail' | 'fail-after' | 'flip' | 'truncate' | 'vanish' | 'delay' | 'stall';

export interface Fault {
  effect: Effect;
  /** Which operations are hit; `flip`, `truncate` and `vanish` hit only a `get`. Default: any. */
  on?: Selection;
  /** Which keys (of a `list`: prefixes): this one, or those that match. Default: any. */
  key?: string | RegExp;
  /** The first of the operations so chosen that is hit, from 1, counted from when the fault is planned. Default: 1. */
  nth?: number;
  /** How many of them in a row are hit; Infinity for all that follow. Default: 1. */
  times?: number;
  /** What `fail` and `fail-after` reject with. Default: `backend_unavailable`. */
  error?: HoldfastError;
  /** What a `delay` waits for. */
  until?: Promise<unknown>;
}

export interface RecordedOperation {
  operation: Operation;
  key: string;
  /** What hit it, if anything did. */
  effect?: Effect;
}

type Cancellable = { signal?: AbortSignal | undefined };

export class FaultyBackend implements Backend {
  readonly inner: Backend;
  /** What errors call it. */
  readonly name: string;
  /** Every operation so far, in the order of their beginning. */
  readonly operations: RecordedOperation[] = [];
  /** How many operations are stalled now. */
  stalled = 0;
  readonly #plan: { fault: Fault; seen: number; hits: number }[] = [];
  #death: { mutationsLeft: number; effect: 'fail' | 'fail-after' } | undefined;

  constructor(inner: Backend, { name = 'faulty', plan = [] }: { name?: string; plan?: readonly Fault[] } = {}) {
    this.inner = inner;
    this.name = name;
    for (const fault of plan) this.plan(fault);
  }

  /** Adds a fault. Where several apply to one operation, the one planned first hits it; each counts all it applies to. */
  plan(fault: Fault): this {
    if (fault.effect === 'delay' && !fault.until) throw new Error('a delay needs something to wait for');
    this.#plan.push({ fault, seen: 0, hits: 0 });
    return this;
  }

  /**
   * The n-th operation that changes something, from 1 and counted from now, fails, and so does every operation of any kind after it:
   * to the store this looks as if the process had died there. With `fail-after` the n-th takes effect first.
   *
   * @param together others that die with this one: changes of all of them are counted as one row, as the process would make them.
   */
  dieAt(n: number, effect: 'fail' | 'fail-after' = 'fail', together: readonly FaultyBackend[] = []): this {
    if (!(n >= 1)) throw new Error('operations are counted from 1');
    const death = { mutationsLeft: n, effect };
    for (const backend of [this, ...together]) backend.#death = death;
    return this;
  }

  /** Whether the death that `dieAt` planned has come. */
  get died(): boolean {
    return this.#death?.mutationsLeft === 0;
  }

  /** How many operations there were so far. */
  count(on: Selection = 'any'): number {
    return this.operations.filter(({ operation }) => isOn(operation, on)).length;
  }

  /** Throws when a planned fault has not hit as often as planned (one that goes on for ever: once), or the death did not come. */
  assertAllFired(): void {
    const missed = this.#plan
      .filter(({ fault: { times = 1 }, hits }) => hits < (times === Infinity ? 1 : times))
      .map(
        ({ fault, hits }) => `${fault.effect} on ${fault.on ?? 'any'} ${String(fault.key ?? '')} (hit ${hits} times)`,
      );
    if (this.#death && !this.died) missed.push(`death, ${this.#death.mutationsLeft} changes later`);
    if (missed.length > 0) throw new Error(`planned faults of ${this.name} that did not fire: ${missed.join('; ')}`);
  }

  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'created' | 'exists'> {
    return this.#run('put', key, options, () => this.inner.put(key, bytes, options));
  }

  get(key: string, range?: ByteRange, options?: Cancellable): Promise<Uint8Array> {
    return this.#run('get', key, options, async (effect) => {
      const bytes = await this.inner.get(key, range, options);
      return effect === 'flip' || effect === 'truncate' ? damaged(bytes, effect, key) : bytes;
    });
  }

  head(key: string, options?: Cancellable): Promise<{ size: number } | undefined> {
    return this.#run('head', key, options, () => this.inner.head(key, options));
  }

  async *list(prefix: string, options?: Cancellable): AsyncGenerator<ObjectInfo> {
    const { effect, fail } = await this.#begin('list', prefix, options);
    if (effect === 'fail') throw fail;
    yield* this.inner.list(prefix, options);
    if (effect === 'fail-after') throw fail;
  }

  delete(key: string, options?: Cancellable): Promise<void> {
    return this.#run('delete', key, options, () => this.inner.delete(key, options));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve(this.inner[Symbol.asyncDispose]());
  }

  async #run<T>(
    operation: Operation,
    key: string,
    options: Cancellable | undefined,
    perform: (effect: Effect | undefined) => Promise<T>,
  ): Promise<T> {
    const { effect, fail } = await this.#begin(operation, key, options);
    if (effect === 'fail') throw fail;
    if (effect === 'vanish') throw objectNotFound(key, this.name);
    const result = await perform(effect);
    if (effect === 'fail-after') throw fail;
    return result;
  }

  /** Records the operation, and says what is to happen to it. */
  async #begin(
    operation: Operation,
    key: string,
    { signal }: Cancellable = {},
  ): Promise<{ effect?: Effect; fail?: HoldfastError }> {
    const record: RecordedOperation = { operation, key };
    this.operations.push(record);
    const fail = () => new HoldfastError('backend_unavailable', `${this.name} was told to fail at ${operation} ${key}`);
    if (this.#death) {
      if (this.died) return { effect: (record.effect = 'fail'), fail: fail() };
      if (isOn(operation, 'mutating') && --this.#death.mutationsLeft === 0) {
        return { effect: (record.effect = this.#death.effect), fail: fail() };
      }
    }
    const fault = this.#next(operation, key);
    if (fault === undefined) return {};
    record.effect = fault.effect;
    await fault.until;
    if (fault.effect === 'stall') await this.#stall(signal);
    return { effect: fault.effect, fail: fault.error ?? fail() };
  }

  async #stall(signal: AbortSignal | undefined): Promise<never> {
    if (!signal) throw new Error('what is to stall needs a signal to end it');
    this.stalled++;
    try {
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    } finally {
      this.stalled--;
    }
    throwIfAborted(signal);
    throw new Error('an aborted signal is aborted');
  }

  #next(operation: Operation, key: string): Fault | undefined {
    let hit: Fault | undefined;
    for (const planned of this.#plan) {
      const { effect, on = 'any', key: keys, nth = 1, times = 1 } = planned.fault;
      if (!isOn(operation, ['flip', 'truncate', 'vanish'].includes(effect) ? 'get' : on)) continue;
      if (keys !== undefined && (typeof keys === 'string' ? keys !== key : !keys.test(key))) continue;
      planned.seen++;
      if (hit || planned.seen < nth || planned.seen >= nth + times) continue;
      planned.hits++;
      hit = planned.fault;
    }
    return hit;
  }
}

function isOn(operation: Operation, selection: Selection): boolean {
  if (selection === 'mutating') return operation === 'put' || operation === 'delete';
  return selection === 'any' || selection === operation;
}

/** A fault that has nothing to work on would pass for one that was survived. */
function damaged(bytes: Uint8Array, effect: 'flip' | 'truncate', key: string): Uint8Array {
  if (bytes.length === 0) throw new Error(`nothing to ${effect} in ${key}: the object, or the range, is empty`);
  if (effect === 'truncate') return bytes.slice(0, bytes.length >> 1);
  const copy = bytes.slice();
  const middle = bytes.length >> 1;
  copy[middle] = (copy[middle] ?? 0) ^ 0x10;
  return copy;
}
