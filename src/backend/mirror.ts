/**
 * Two or more backends as one (one alone will do): every object is put to all of them, byte for byte the same, and read from the first
 * that has it whole.
 *
 * A member that cannot be used is taken out, with its error, for the rest of the mirror's life: a dead backend costs one failed call and
 * not one for every object. What the mirror then says is about the members that are left; a later run brings the lost one level.
 *
 * A member that holds up a run (`hurry`) for too long is left behind: it is told to stop, and the rest goes to the others alone. It can be
 * brought level from them and taken in again (`rejoin`). Reads ask the nearest member first, by what reads took. Both need a clock.
 *
 * Line 3 of the contract ('created' once) holds among the calls of one mirror. Between two mirrors over the same members, each may win on
 * another member, and then none is told 'created'.
 */
import type { Clock } from '../clock.ts';
import { assert, HoldfastError, isHoldfastError, isSurvivable, messageOf, throwIfAborted } from '../errors.ts';
import {
  checkKey,
  checkObject,
  objectNotFound,
  type Backend,
  type ByteRange,
  type ObjectInfo,
  type PutOptions,
} from './backend.ts';
import { Nearness } from './nearness.ts';
import { Stragglers } from './stragglers.ts';

/** A named backend, or the reason why it could not be opened. */
export type Member = { name: string; backend: Backend } | { name: string; error: HoldfastError };

export interface LiveMember {
  name: string;
  backend: Backend;
}

export interface MemberState {
  name: string;
  /** `behind`: it works, and lacks what was stored since the others were not held up by it any more. */
  state: 'ok' | 'behind' | 'failed';
  /** Why it was taken out. */
  error?: HoldfastError;
}

/** An object that one backend should have given and did not. */
export interface Mishap {
  /** Name of the backend. */
  backend: string;
  key: string;
  /** One line for people. */
  problem: string;
  error: HoldfastError;
  /** Name of the backend that gave it instead; undefined when none did, and the read failed. */
  servedBy: string | undefined;
}

export interface ReadOptions {
  range?: ByteRange | undefined;
  signal?: AbortSignal | undefined;
  /** Name of the member to try first. */
  prefer?: string | undefined;
  /** Do not record mishaps: for reads that expect some. */
  quiet?: boolean | undefined;
}

type Cancellable = { signal?: AbortSignal | undefined };

export class Mirror implements Backend {
  /** In the order of the config. `backend` is undefined where it was never opened, `error` while it is in use. */
  readonly #members: {
    readonly name: string;
    readonly backend: Backend | undefined;
    error: HoldfastError | undefined;
    /** Aborted when it is left behind, and new when it rejoins. */
    stop: AbortController;
  }[];
  readonly #mishaps = new Map<string, Mishap>();
  /** The end of the queue of each key that is being changed. */
  readonly #queues = new Map<string, Promise<unknown>>();
  readonly #stragglers: Stragglers | undefined;
  readonly #nearness: Nearness | undefined;

  /**
   * @param clock without it reads go by the order given, and all members are waited for.
   * @throws `bug` without a member, or when two have one name.
   */
  constructor(members: readonly Member[], clock?: Clock) {
    assert(members.length > 0, 'a mirror needs a backend');
    assert(
      new Set(members.map(({ name }) => name)).size === members.length,
      'two backends of a mirror have the same name',
    );
    this.#members = members.map((member) => ({
      name: member.name,
      backend: 'backend' in member ? member.backend : undefined,
      error: 'error' in member ? member.error : undefined,
      stop: new AbortController(),
    }));
    if (!clock) return;
    this.#nearness = new Nearness(clock);
    this.#stragglers = new Stragglers({
      clock,
      live: () => this.live().map(({ name }) => name),
      leave: (name, heldMs) => this.leaveBehind(name, `it held the others up for ${Math.round(heldMs / 1000)} s`),
    });
  }

  /** All members and how they are, in the order given. */
  states(): MemberState[] {
    return this.#members.map(({ name, error, stop }) => {
      if (!error) return { name, state: 'ok' };
      return { name, state: stop.signal.aborted ? 'behind' : 'failed', error };
    });
  }

  /** The members in use, in the order given. */
  live(): LiveMember[] {
    return this.#members.flatMap(({ name, backend, error }) => (backend && !error ? [{ name, backend }] : []));
  }

  /** The members left behind, in the order given. */
  behind(): LiveMember[] {
    return this.#members.flatMap(({ name, backend, stop }) =>
      backend && stop.signal.aborted ? [{ name, backend }] : [],
    );
  }

  /**
   * One member alone.
   *
   * @throws `usage` when none has that name; the member's own error when it was taken out.
   */
  member(name: string): Backend {
    const member = this.#members.find((one) => one.name === name);
    if (member?.backend && !member.error) return member.backend;
    throw (
      member?.error ??
      new HoldfastError('usage', `no backend is called ${JSON.stringify(name)}`, {
        hint: `Backends are: ${this.#members.map((one) => one.name).join(', ')}.`,
      })
    );
  }

  /** Takes a member out for good, also one left behind. The first error stays. */
  fail(name: string, error: HoldfastError): void {
    const member = this.#named(name);
    if (member.error && !member.stop.signal.aborted) return;
    member.error = error;
    if (member.stop.signal.aborted) member.stop = new AbortController();
  }

  /** Goes on without a live member: what it is at is aborted, and it is given nothing more until it has rejoined. */
  leaveBehind(name: string, why: string): void {
    const member = this.#named(name);
    if (member.error) return;
    member.error = new HoldfastError('backend_unavailable', `backend ${name} was left behind: ${why}`, {
      hint: 'The next `holdfast backup`, or `holdfast sync`, brings it level from the others.',
      retryable: true,
    });
    member.stop.abort();
  }

  /** Takes in again a member that was left behind and has been brought level since. */
  rejoin(name: string): void {
    const member = this.#named(name);
    assert(member.stop.signal.aborted, `backend ${name} was not left behind`);
    member.error = undefined;
    member.stop = new AbortController();
  }

  /**
   * Resolves as `work` does, which waits for `objects` puts of this mirror: for as long as the run can do nothing else, members that hold it
   * up use up the patience with them (see stragglers.ts), and are left behind.
   */
  hurry<T>(work: Promise<T>, objects: number): Promise<T> {
    return this.#stragglers?.during(work, objects) ?? work;
  }

  /** What reads met so far that were not `quiet`, one for each backend and key. An object that is nowhere is nobody's mishap. */
  mishaps(): readonly Mishap[] {
    return [...this.#mishaps.values()];
  }

  /**
   * Stores the object on every live member at once. A member that refuses is taken out.
   *
   * @returns once all have answered, or were left behind: 'created' when each live member created it, 'exists' when one had it already.
   * @throws `not_enough_backends` when no member holds the object.
   */
  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<'created' | 'exists'> {
    checkObject(key, bytes);
    throwIfAborted(options.signal);
    const outcomes = await this.#changeAll(key, `store ${key}`, options, (backend, signal) =>
      backend.put(key, bytes, { ...options, signal }),
    );
    return outcomes.every((outcome) => outcome === 'created') ? 'created' : 'exists';
  }

  /**
   * Reads the object from one live member after the other, the nearest first, until `accept` takes its bytes, and resolves to what `accept` made of them.
   * `accept` says that the bytes are no good by throwing a HoldfastError (`damaged`, `forged`, …). A member that answers
   * `backend_unavailable` is taken out.
   *
   * @throws `interrupted` and `bug`, at once, whoever threw them. When no member served: `forged`, else `damaged`, else the first other
   *   failure; `not_found` when every member was asked and has no such object; `not_enough_backends` when those that could be asked
   *   have none, or none could be asked. The message names every backend's problem.
   */
  async read<T>(
    key: string,
    accept: (bytes: Uint8Array, backendName: string) => T | Promise<T>,
    { range, signal, prefer, quiet = false }: ReadOptions = {},
  ): Promise<T> {
    checkKey(key);
    throwIfAborted(signal);
    const failures = new Map<string, HoldfastError>();
    const members = this.live();
    members.sort(
      (a, b) => Number(b.name === prefer) - Number(a.name === prefer) || this.#distance(a) - this.#distance(b),
    );
    for (const { name, backend } of members) {
      try {
        const reading = backend.get(key, range, { signal });
        const bytes = await (this.#nearness?.measure(name, reading) ?? reading).catch((error: unknown) => {
          if (isHoldfastError(error, 'backend_unavailable')) this.fail(name, error);
          throw error;
        });
        const accepted = await accept(bytes, name);
        if (!quiet) this.#record(key, failures, name);
        return accepted;
      } catch (error) {
        failures.set(name, survivable(error));
      }
    }
    const failure = this.#readFailure(key, failures);
    if (!quiet && failure.code !== 'not_found') this.#record(key, failures, undefined);
    throw failure;
  }

  /** Whole objects or ranges as they are stored: `read` that accepts any bytes. */
  get(key: string, range?: ByteRange, { signal }: Cancellable = {}): Promise<Uint8Array> {
    return this.read(key, (bytes) => bytes, { range, signal });
  }

  /**
   * The size on the first live member that has the object; undefined when no live member has it.
   *
   * @throws `not_enough_backends` when no member is left.
   */
  async head(key: string, { signal }: Cancellable = {}): Promise<{ size: number } | undefined> {
    checkKey(key);
    throwIfAborted(signal);
    for (const { name, backend } of this.live()) {
      try {
        const found = await backend.head(key, { signal });
        if (found) return found;
      } catch (error) {
        this.fail(name, survivable(error));
      }
    }
    this.#requireLive(`look for ${key}`);
    return undefined;
  }

  /**
   * The objects that any live member has, each once, with the size it has on the first. A member that fails meanwhile is taken out.
   *
   * @throws `not_enough_backends` when no member is left.
   */
  async *list(prefix: string, { signal }: Cancellable = {}): AsyncGenerator<ObjectInfo> {
    throwIfAborted(signal);
    const seen = new Set<string>();
    for (const { name, backend } of this.live()) {
      const listing = backend.list(prefix, { signal })[Symbol.asyncIterator]();
      try {
        for (;;) {
          // Only `next` is guarded: an error of the consumer is not the member's.
          const next = await listing.next().catch((error: unknown) => this.fail(name, survivable(error)));
          if (!next || next.done) break;
          if (seen.has(next.value.key)) continue;
          seen.add(next.value.key);
          yield next.value;
        }
      } finally {
        await listing.return?.();
      }
    }
    this.#requireLive('list objects');
  }

  /**
   * Deletes the object on every live member. A member that refuses is taken out, and may keep it.
   *
   * @throws `not_enough_backends` when no member is left.
   */
  async delete(key: string, options: Cancellable = {}): Promise<void> {
    checkKey(key);
    throwIfAborted(options.signal);
    await this.#changeAll(key, `delete ${key}`, options, (backend, signal) => backend.delete(key, { signal }));
  }

  /** Disposes of every member that was opened, also of those taken out. */
  async [Symbol.asyncDispose](): Promise<void> {
    const ends = await Promise.allSettled(this.#members.map(async ({ backend }) => backend?.[Symbol.asyncDispose]()));
    for (const end of ends) if (end.status === 'rejected') survivable(end.reason);
  }

  /** Changes one key on all live members, after the changes of that key that were asked for before. */
  async #changeAll<T>(
    key: string,
    doing: string,
    { signal }: Cancellable,
    change: (backend: Backend, signal: AbortSignal) => Promise<T>,
  ): Promise<T[]> {
    const before = this.#queues.get(key);
    const changed = (async () => {
      await before?.catch(() => undefined);
      throwIfAborted(signal);
      const members = this.#members.filter(({ backend, error }) => backend && !error);
      const done: T[] = [];
      const answers = await Promise.allSettled(
        members.map(async ({ name, backend, stop }) => {
          this.#stragglers?.begin(name);
          try {
            if (backend) done.push(await change(backend, either(signal, stop.signal)));
          } catch (error) {
            if (stop.signal.aborted && !signal?.aborted && isHoldfastError(error, 'interrupted')) return; // left behind
            // At once: another must not be left behind because this one has answered.
            this.fail(name, survivable(error));
          } finally {
            this.#stragglers?.end(name);
          }
        }),
      );
      for (const answer of answers) if (answer.status === 'rejected') throw answer.reason;
      if (done.length === 0) throw this.#notEnough(doing);
      return done;
    })();
    this.#queues.set(key, changed);
    try {
      return await changed;
    } finally {
      if (this.#queues.get(key) === changed) this.#queues.delete(key);
    }
  }

  #named(name: string) {
    const member = this.#members.find((one) => one.name === name);
    assert(member, `no backend is called ${name}`);
    return member;
  }

  #distance({ name }: LiveMember): number {
    return this.#nearness?.distance(name) ?? 0;
  }

  #record(key: string, failures: ReadonlyMap<string, HoldfastError>, servedBy: string | undefined): void {
    for (const [backend, error] of failures) {
      const id = JSON.stringify([backend, key]);
      if (!this.#mishaps.has(id)) this.#mishaps.set(id, { backend, key, problem: problemOf(error), error, servedBy });
    }
  }

  #readFailure(key: string, failures: ReadonlyMap<string, HoldfastError>): HoldfastError {
    const errors = [...failures.values()];
    const telling =
      errors.find(({ code }) => code === 'forged') ??
      errors.find(({ code }) => code === 'damaged') ??
      errors.find(({ code }) => code !== 'not_found' && code !== 'backend_unavailable');
    if (telling === undefined) {
      const asked = errors.length === this.#members.length && errors.every(({ code }) => code === 'not_found');
      return asked ? objectNotFound(key, [...failures.keys()].join(', ')) : this.#notEnough(`read ${key}`, failures);
    }
    return new HoldfastError(telling.code, `object ${key} cannot be read: ${this.#problems(failures)}`, {
      ...(telling.hint === undefined ? {} : { hint: telling.hint }),
      retryable: telling.retryable,
      cause: telling,
    });
  }

  #requireLive(doing: string): void {
    if (this.live().length === 0) throw this.#notEnough(doing);
  }

  #notEnough(doing: string, failures: ReadonlyMap<string, HoldfastError> = new Map()): HoldfastError {
    const errors = this.#members.flatMap(({ name, error }) => failures.get(name) ?? error ?? []);
    return new HoldfastError('not_enough_backends', `no backend could ${doing}: ${this.#problems(failures)}`, {
      hint: errors.find(({ hint }) => hint !== undefined)?.hint ?? 'Make one of the backends reachable, and repeat.',
      retryable: errors.some(({ retryable }) => retryable),
      cause: new AggregateError(errors),
    });
  }

  /** Every member's problem, in the order given: the one met just now, or the one it was taken out for. */
  #problems(failures: ReadonlyMap<string, HoldfastError>): string {
    return this.#members
      .flatMap(({ name, error }) => {
        const problem = failures.get(name) ?? error;
        return problem ? [`${name}: ${problemOf(problem)}`] : [];
      })
      .join('; ');
  }
}

function either(signal: AbortSignal | undefined, stop: AbortSignal): AbortSignal {
  return signal ? AbortSignal.any([signal, stop]) : stop;
}

/** An error that concerns one member only. Anything else (cancelled, a defect) is thrown on. */
function survivable(error: unknown): HoldfastError {
  if (!isSurvivable(error)) throw error;
  return error;
}

function problemOf(error: HoldfastError): string {
  return error.code === 'not_found' ? 'it is not there' : messageOf(error);
}
