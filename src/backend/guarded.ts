/**
 * A remote backend with every call under guard: a deadline, repetition of what failed for now, a breaker, a limit on bandwidth. What it
 * promises: no call hangs, and a backend that is down costs a run seconds.
 *
 * How long a call can take. A small one (`head`, `delete`, a page of `list`) has `DEADLINE_MS`. A transfer has that and the time of its bytes
 * at `RATE_MIN_BYTES_PER_SECOND`, but in instalments of `DEADLINE_MS`, each of which the backend pays for with an answer to `head`: what
 * is slow may take its time, what is silent may not. So a small call on a silent backend fails after 2 * 15 s, a transfer after 2 * 30 s, any on a
 * backend that refuses at once after at most 7.75 s; the calls after it fail at once until the breaker lets one try again, and that one is
 * made once. A backend inside that does not settle when its signal is aborted adds `GRACE_MS` to each of these deadlines.
 *
 * Repetition is harmless with objects that are named by their content, which are all that holdfast writes often:
 * - `put` with `ifAbsent` whose answer was lost says 'exists' of our own bytes when it is repeated. Line 3 of the contract is then "at most
 *   one is told 'created'"; where it matters who was first, the caller compares what is stored.
 * - `put` without `ifAbsent` may replace, when repeated, what another process put between the tries. And a call that was left behind at its
 *   deadline may be carried out after a later one. Whoever replaces objects must have only one writer of them.
 * - `list` is begun anew and leaves out what it has yielded; it keeps the keys yielded in memory for that, about 100 bytes each.
 *
 * A `put` that was left behind (its signal aborted, and not settled 5 s later) may still hold the caller's array: line 14 holds as far as the
 * backend inside begins no new reading of the array once its signal is aborted.
 */
import type { Clock, Random } from '../clock.ts';
import { HoldfastError, isHoldfastError, isSurvivable, messageOf, throwIfAborted } from '../errors.ts';
import { withDeadline } from '../policy/deadline.ts';
import {
  admit,
  after,
  CLOSED,
  memoryStore,
  type BreakerSettings,
  type BreakerState,
  type BreakerStore,
} from '../policy/breaker.ts';
import type { RateLimit } from '../policy/rate-limit.ts';
import { isTransient, pause, retry, type RetrySettings } from '../policy/retry.ts';
import { checkKey, checkObject, clampRange, OBJECT_MAX_BYTES, type Backend, type ObjectInfo } from './backend.ts';

export interface GuardOptions {
  /** What errors call the backend. */
  name: string;
  clock: Clock;
  random: Random;
  /** Where the breaker's state is kept. Default: in memory. */
  breaker?: BreakerStore | undefined;
  /** Limits for what is sent and what is received; several backends may share one. Default: none. */
  upload?: RateLimit | undefined;
  download?: RateLimit | undefined;
}

/** Some hundred times what a healthy service takes for a small call; longer than its own connection timeouts (10 s), whose errors say more. */
export const DEADLINE_MS = 15_000;
/** Per call. Three uploads to two backends over a line of 1 Mbit/s have 20 KiB/s each; slower than this, a pack takes a quarter of an hour. */
export const RATE_MIN_BYTES_PER_SECOND = 16 * 1024;
/** After it was told to stop, a call has this long to do so. */
export const GRACE_MS = 5_000;
/** Pauses of up to 0.25, 0.5, 1, 2 and 4 s: 3.9 s on average, enough for a service that throttles or restarts. */
export const RETRY: RetrySettings = { tries: 6, baseMs: 250, capMs: 4_000, budgetMs: 15_000 };
/**
 * One call in vain is six tries or two deadlines: evidence enough. What stays open is asked again after half a minute, and at the latest
 * after five: a try costs one call, and nobody shall wait long for a backend that is back.
 */
export const BREAKER: BreakerSettings = { threshold: 1, openMs: 30_000, openMaxMs: 5 * 60_000, trialMs: 60_000 };
/** While another call tries a half-open breaker out, calls wait for what comes of it: this long, … */
const TRIAL_WAIT_MS = DEADLINE_MS + GRACE_MS;
/** … looking this often (the other may be another process). */
const TRIAL_LOOK_MS = 100;
/** Objects of a listing that are fetched under one deadline: the largest page that services give. */
const LIST_BATCH = 1000;

type Cancellable = { signal?: AbortSignal | undefined };

/** What a call of the backend inside is given. */
interface Call<T> {
  /** For errors: 'store packs/ab/…'. */
  doing: string;
  make: (signal: AbortSignal) => Promise<T>;
  signal: AbortSignal | undefined;
  /** Before each try. */
  before?: (() => Promise<void>) | undefined;
  /** See `withDeadline`. Called anew for each try. */
  extension?: (() => (settled: AbortSignal) => Promise<number>) | undefined;
}

/** What makes calls, however many, of one backend. */
interface Guard {
  /** A call with everything. @throws what its last try threw; `backend_unavailable` when the breaker refuses it */
  run<T>(call: Call<T>): Promise<T>;
  /** One try, that ends. */
  once<T>(call: Call<T>): Promise<T>;
}

function guardOf({ name, clock, random, breaker = memoryStore() }: GuardOptions): Guard {
  const where = `backend ${name}`;
  const own = Buffer.from(random.bytes(8)).toString('hex');
  let calls = 0;

  const state = (): BreakerState => breaker.read() ?? CLOSED;
  const write = (before: BreakerState, now: BreakerState): void => {
    if (now !== before) breaker.write(now);
  };

  /** Resolves when the call may be made. @throws `backend_unavailable` when it may not */
  async function enter(holder: string, signal: AbortSignal | undefined): Promise<void> {
    const giveUpAtMs = clock.monotonic() + TRIAL_WAIT_MS;
    for (;;) {
      const before = state();
      const admission = admit(before, holder, clock.now(), BREAKER);
      write(before, admission.state);
      if (admission.admitted) return;
      if (admission.state.kind !== 'half-open' || clock.monotonic() >= giveUpAtMs)
        throw refused(where, admission.state);
      await pause(clock, TRIAL_LOOK_MS, signal);
    }
  }

  function report(holder: string, type: 'success' | 'failure' | 'abandoned', error = ''): void {
    const before = state();
    const event = type === 'failure' ? { type, holder, error } : { type, holder };
    write(before, after(before, event, clock.now(), BREAKER));
  }

  function once<T>({ doing, make, signal, extension }: Call<T>): Promise<T> {
    const expired = (cause: unknown): HoldfastError =>
      new HoldfastError('backend_unavailable', `${where} did not ${doing} in time`, {
        hint: 'Check that it is up, and the network; on a slow line, set a limit for the bandwidth.',
        retryable: true,
        cause,
      });
    const extend = extension?.();
    return withDeadline(make, {
      clock,
      ms: DEADLINE_MS,
      graceMs: GRACE_MS,
      signal,
      expired,
      ...(extend ? { extend } : {}),
    });
  }

  async function run<T>(call: Call<T>): Promise<T> {
    const { signal, before } = call;
    throwIfAborted(signal);
    const holder = `${own}-${++calls}`;
    await enter(holder, signal);
    try {
      const result = await retry(
        async () => {
          await before?.();
          return once(call);
        },
        {
          settings: RETRY,
          clock,
          random,
          signal,
          // Not on trial, nor when another call found out meanwhile that there is no use.
          mayGoOn: () => ['closed', 'disabled'].includes(state().kind),
        },
      );
      report(holder, 'success');
      return result;
    } catch (error) {
      if (isTransient(error)) report(holder, 'failure', messageOf(error));
      // What is refused for good was answered, and costs nothing; an end of our own making says nothing.
      else report(holder, isSurvivable(error) ? 'success' : 'abandoned');
      throw error;
    }
  }

  return { run, once };
}

/** `backend` under guard. It owns `backend`: disposing of it disposes of that. */
export function guarded(backend: Backend, options: GuardOptions): Backend {
  return underGuard(backend, options, guardOf(options));
}

/**
 * Opens a backend as a call under guard (deadline, repetition, breaker), and gives it under the same guard.
 *
 * @throws what `open` throws; `backend_unavailable` when the breaker refuses
 */
export async function openGuarded(
  open: (signal: AbortSignal) => Promise<Backend>,
  options: GuardOptions,
  { signal }: Cancellable = {},
): Promise<Backend> {
  const guard = guardOf(options);
  const make = async (stop: AbortSignal): Promise<Backend> => {
    const backend = await open(stop);
    if (!stop.aborted) return backend;
    await backend[Symbol.asyncDispose](); // it came too late, and nobody else knows of it
    throwIfAborted(stop);
    return backend;
  };
  return underGuard(await guard.run({ doing: 'open', make, signal }), options, guard);
}

function underGuard(backend: Backend, { name, upload, download }: GuardOptions, { run, once }: Guard): Backend {
  /** More time for a transfer, as long as the backend answers and the bytes can still be under way. */
  function instalments(key: string, bytes: number | undefined): (settled: AbortSignal) => Promise<number> {
    let spentMs = DEADLINE_MS;
    return async (settled) => {
      if (bytes !== undefined && bytes < RATE_MIN_BYTES_PER_SECOND) return 0; // not worth a question
      const answer = await once({
        doing: `look for ${key}`,
        make: (signal) => backend.head(key, { signal }),
        signal: settled,
      }).catch((error: unknown) => {
        if (!isHoldfastError(error) || error.code === 'interrupted' || isTransient(error)) throw error;
        return undefined; // refused, but answered
      });
      const leftMs = DEADLINE_MS + transferMs(bytes ?? answer?.size ?? 0) - spentMs;
      spentMs += DEADLINE_MS;
      return Math.min(leftMs, DEADLINE_MS);
    };
  }

  const { lock } = backend;
  return {
    ...(backend.place === undefined ? {} : { place: backend.place }),
    ...(lock === undefined
      ? {}
      : {
          lock: {
            days: lock.days,
            extend: (key: string, { signal }: Cancellable = {}) =>
              run({ doing: `extend the lock of ${key}`, make: (stop) => lock.extend(key, { signal: stop }), signal }),
          },
        }),
    ...(backend.cleanUp === undefined
      ? {}
      : {
          cleanUp: ({ signal }: Cancellable = {}) =>
            run({
              doing: 'clean up',
              make: async (stop) => backend.cleanUp?.({ signal: stop }) ?? 0,
              signal,
            }),
        }),
    ...(backend.capabilities === undefined
      ? {}
      : {
          capabilities: () =>
            run({ doing: 'tell what it offers', make: async () => backend.capabilities?.() ?? {}, signal: undefined }),
        }),

    async put(key, bytes, { ifAbsent = false, signal } = {}) {
      checkObject(key, bytes);
      return run({
        doing: `store ${key}`,
        make: (stop) => backend.put(key, bytes, { ifAbsent, signal: stop }),
        signal,
        before: upload && (() => upload.take(bytes.length, signal)),
        extension: () => instalments(key, bytes.length),
      });
    },

    async get(key, range, { signal } = {}) {
      checkKey(key);
      if (range) clampRange(range, 0, key, `backend ${name}`);
      const bytes = await run({
        doing: `read ${key}`,
        make: (stop) => backend.get(key, range, { signal: stop }),
        signal,
        before: download && (() => download.take(0, signal)),
        extension: () => instalments(key, range && Math.min(range.length, OBJECT_MAX_BYTES)),
      });
      download?.charge(bytes.length);
      return bytes;
    },

    async head(key, { signal } = {}) {
      checkKey(key);
      return run({ doing: `look for ${key}`, make: (stop) => backend.head(key, { signal: stop }), signal });
    },

    async *list(prefix, { signal }: Cancellable = {}) {
      const seen = new Set<string>();
      const listing = restartable(backend, prefix, seen);
      try {
        for (let isDone = false; !isDone;) {
          const batch: ObjectInfo[] = [];
          let counted = 0;
          isDone = await run({
            doing: 'list objects',
            make: (stop) => listing.fill(batch, stop),
            signal,
            // While objects keep coming.
            extension: () => () => {
              const more = batch.length > counted ? DEADLINE_MS : 0;
              counted = batch.length;
              return Promise.resolve(more);
            },
          });
          for (const object of batch) {
            throwIfAborted(signal);
            yield object;
          }
        }
      } finally {
        listing.leave();
      }
    },

    async delete(key, { signal } = {}) {
      checkKey(key);
      return run({ doing: `delete ${key}`, make: (stop) => backend.delete(key, { signal: stop }), signal });
    },

    async [Symbol.asyncDispose]() {
      const closing = once({ doing: 'close', make: async () => backend[Symbol.asyncDispose](), signal: undefined });
      await closing.catch((error: unknown) => {
        if (!isTransient(error)) throw error; // what does not close in time is left to the end of the process
      });
    },
  };
}

/** A listing that can be gone on with after a failure: begun anew, without what is in `seen`. */
function restartable(backend: Backend, prefix: string, seen: Set<string>) {
  let current: { objects: AsyncIterator<ObjectInfo>; stop: AbortController } | undefined;
  return {
    /** Adds objects to `batch` up to `LIST_BATCH`. @returns true when there are no more */
    async fill(batch: ObjectInfo[], signal: AbortSignal): Promise<boolean> {
      if (current === undefined || current.stop.signal.aborted) {
        const stop = new AbortController();
        current = { objects: backend.list(prefix, { signal: stop.signal })[Symbol.asyncIterator](), stop };
      }
      const { objects, stop } = current;
      const forward = () => stop.abort(signal.reason);
      signal.addEventListener('abort', forward, { once: true });
      try {
        while (batch.length < LIST_BATCH) {
          const next = await objects.next();
          throwIfAborted(signal); // a listing that was left behind must not add to the batch of the next
          if (next.done) return true;
          if (seen.has(next.value.key)) continue;
          seen.add(next.value.key);
          batch.push(next.value);
        }
        return false;
      } catch (error) {
        stop.abort();
        objects.return?.().catch(() => undefined);
        throw error;
      } finally {
        signal.removeEventListener('abort', forward);
      }
    },
    /** Lets go of the listing that is under way, without waiting for it. */
    leave(): void {
      current?.stop.abort();
      current?.objects.return?.().catch(() => undefined);
    },
  };
}

function transferMs(bytes: number): number {
  return (bytes / RATE_MIN_BYTES_PER_SECOND) * 1000;
}

/** The cause of errors that were made without a call. */
const LEFT_ALONE = Symbol('left alone');

/** True when the backend was not even asked, because of how earlier calls ended. */
export function isLeftAlone(error: unknown): boolean {
  return error instanceof HoldfastError && error.cause === LEFT_ALONE;
}

function refused(where: string, state: Exclude<BreakerState, { kind: 'closed' | 'disabled' }>): HoldfastError {
  if (state.kind === 'forced-open') {
    return new HoldfastError('backend_unavailable', `${where} was taken out of use: ${state.reason}`);
  }
  const { untilMs, failures, lastError } = state;
  const until = new Date(untilMs).toTimeString().slice(0, 8);
  const times = failures === 1 ? '1 failure' : `${failures} failures`;
  return new HoldfastError(
    'backend_unavailable',
    `${where} is left alone until ${until}, after ${times}: ${lastError}`,
    {
      hint: 'It is tried again after that time; what it misses meanwhile it gets then. `holdfast sync` tries at once.',
      cause: LEFT_ALONE,
    },
  );
}
