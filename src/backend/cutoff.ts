/**
 * A backend that is only read, by a run that shall end in time whatever becomes of it: every call has a deadline, and after the first that fails
 * because the storage cannot be reached, all that follow fail at once with the same error.
 */
import type { Clock } from '../clock.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { withDeadline } from '../policy/deadline.ts';
import type { Backend, ObjectInfo } from './backend.ts';

/** What a reader needs of a backend: nothing that is given this can change it. */
export type ReadableBackend = Pick<Backend, 'get' | 'head' | 'list'>;

export interface CutoffOptions {
  /** What errors call the backend. */
  name: string;
  clock: Clock;
  /** How long a call may be silent. A transfer that takes longer goes on as long as the backend answers others meanwhile. Default: `SILENCE_MS`. */
  silenceMs?: number | undefined;
}

/** Longer than the guard of a remote backend needs to find out for itself, with its repetitions. */
export const SILENCE_MS = 90_000;
const GRACE_MS = 1_000;
/** Objects of a listing under one deadline. */
const LIST_BATCH = 1000;

export interface CutoffBackend extends ReadableBackend {
  /** Why it is not asked any more; undefined while it is. */
  readonly cut: HoldfastError | undefined;
}

export function withCutoff(
  backend: ReadableBackend,
  { name, clock, silenceMs = SILENCE_MS }: CutoffOptions,
): CutoffBackend {
  let cut: HoldfastError | undefined;
  const silent = (cause: unknown) =>
    new HoldfastError('backend_unavailable', `backend ${name} has not answered for ${Math.round(silenceMs / 1000)} s`, {
      hint: 'Look whether it can be reached: `holdfast backend test` tries it.',
      cause,
    });

  async function call<T>(
    make: (signal: AbortSignal) => Promise<T>,
    signal: AbortSignal | undefined,
    extend?: (settled: AbortSignal) => Promise<number>,
  ): Promise<T> {
    if (cut) throw cut;
    try {
      const how = { clock, ms: silenceMs, graceMs: GRACE_MS, signal, expired: silent };
      return await withDeadline(make, extend ? { ...how, extend } : how);
    } catch (error) {
      if (isHoldfastError(error, 'backend_unavailable')) cut ??= error;
      throw error;
    }
  }

  return {
    get cut() {
      return cut;
    },
    get(key, range, { signal } = {}) {
      const isAlive = async (settled: AbortSignal): Promise<number> => {
        const asking = (stop: AbortSignal) => backend.head(key, { signal: AbortSignal.any([stop, settled]) });
        await withDeadline(asking, { clock, ms: silenceMs, graceMs: GRACE_MS, expired: silent });
        return silenceMs;
      };
      const over = (settled: AbortSignal) => isAlive(settled).catch(() => 0);
      return call((stop) => backend.get(key, range, { signal: stop }), signal, over);
    },
    head: (key, { signal } = {}) => call((stop) => backend.head(key, { signal: stop }), signal),
    async *list(prefix, { signal } = {}) {
      if (cut) throw cut;
      const whole = new AbortController();
      const both = signal ? AbortSignal.any([signal, whole.signal]) : whole.signal;
      const objects = backend.list(prefix, { signal: both })[Symbol.asyncIterator]();
      let isAtEnd = false;
      const next = async (stop: AbortSignal) => {
        stop.addEventListener('abort', () => whole.abort(stop.reason), { once: true });
        const some: ObjectInfo[] = [];
        while (some.length < LIST_BATCH && !isAtEnd) {
          const step = await objects.next();
          if (step.done === true) isAtEnd = true;
          else some.push(step.value);
        }
        return some;
      };
      try {
        while (!isAtEnd) yield* await call(next, signal);
      } finally {
        // One that hangs would hang here too.
        if (!isAtEnd && !cut) await objects.return?.();
      }
    },
  };
}
