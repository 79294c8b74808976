/** An end in time for a call that might never settle. */
import type { Clock } from '../clock.ts';
import { isHoldfastError, throwIfAborted, type HoldfastError } from '../errors.ts';

/** Made once: an error of its own for each call, with its stack, would cost more than the rest of this. */
const SETTLED = new Error('the call has settled');

export interface DeadlineOptions {
  clock: Clock;
  /** How long the call may take. */
  ms: number;
  /** Asked when that time is over: how much longer the call may take; 0 ends it. Its signal says that the call has settled meanwhile. It must settle itself. */
  extend?: (signal: AbortSignal) => Promise<number>;
  /** Between the end and the return a call that was told to stop has this long to settle, so that it is not still at it when repeated. */
  graceMs: number;
  signal?: AbortSignal | undefined;
  /** What to throw when the time is over. */
  expired: (cause: unknown) => HoldfastError;
}

/**
 * Makes the call with a signal that is aborted when its time is over, or when the caller's signal is.
 *
 * A call that settles although it was told to stop has its outcome taken (its own `interrupted` excepted); one that does not settle within
 * the grace is left behind, and whatever it comes to later is dropped. A call left behind may still be carried out.
 *
 * @throws `interrupted` when the caller's signal was aborted; `expired` when the time was over; else what the call threw.
 */
export async function withDeadline<T>(
  call: (signal: AbortSignal) => Promise<T>,
  { clock, ms, extend, graceMs, signal, expired }: DeadlineOptions,
): Promise<T> {
  throwIfAborted(signal);
  const stop = new AbortController();
  const settled = new AbortController();
  const running = (async () => call(stop.signal))();
  const end = running.then(
    () => 'settled' as const,
    () => 'settled' as const,
  );
  let forward = () => {};
  const aborted = new Promise<'aborted'>((resolve) => (forward = () => resolve('aborted')));
  signal?.addEventListener('abort', forward, { once: true });
  try {
    const over = timeOver(clock, ms, extend, settled.signal);
    const outcome = await Promise.race([end, over, aborted]);
    if (outcome !== 'settled') {
      stop.abort(signal?.aborted ? signal.reason : undefined);
      const grace = timeOver(clock, graceMs, undefined, settled.signal);
      if ((await Promise.race([end, grace])) === 'over') {
        throwIfAborted(signal);
        throw expired(undefined);
      }
    }
    return await running;
  } catch (error) {
    throwIfAborted(signal);
    if (stop.signal.aborted && isHoldfastError(error, 'interrupted')) throw expired(error);
    throw error;
  } finally {
    settled.abort(SETTLED);
    signal?.removeEventListener('abort', forward);
  }
}

/** Resolves to 'over' when the time is; never rejects, and never settles once `settled` is aborted (what it is raced with has). */
async function timeOver(
  clock: Clock,
  ms: number,
  extend: DeadlineOptions['extend'],
  settled: AbortSignal,
): Promise<'over'> {
  try {
    for (let leftMs = ms; leftMs > 0 && !settled.aborted; leftMs = (await extend?.(settled)) ?? 0)
      await clock.sleep(leftMs, settled);
  } catch {
    // Either the call has settled, and nobody listens any more, or there is nothing that would extend its time.
  }
  return 'over';
}
