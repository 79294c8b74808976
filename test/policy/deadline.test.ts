import { describe, expect, test } from 'vitest';
import { HoldfastError, throwIfAborted } from '../../src/errors.ts';
import { withDeadline, type DeadlineOptions } from '../../src/policy/deadline.ts';
import { rejects } from '../backend-helpers.ts';
import { FakeClock } from '../fake-clock.ts';
import { transient } from './support.ts';

const never = () => new Promise<never>(() => {});

function options(clock: FakeClock, more: Partial<DeadlineOptions> = {}): DeadlineOptions {
  const expired = (cause: unknown) => new HoldfastError('busy', 'too late', { cause });
  return { clock, ms: 1000, graceMs: 100, expired, ...more };
}

/** Work that stops as soon as it is told to, and says so. */
function obedient(clock: FakeClock, ms: number) {
  return async (signal: AbortSignal) => {
    await clock.sleep(ms, signal).catch(() => throwIfAborted(signal));
    return 'done';
  };
}

describe('a deadline', () => {
  test('gives what the call comes to in time, and leaves no timer behind', async () => {
    const clock = new FakeClock();
    expect(await withDeadline(async () => 1, options(clock))).toBe(1);
    expect(await clock.through(withDeadline(obedient(clock, 999), options(clock)))).toBe('done');
    await expect(withDeadline(() => Promise.reject(transient()), options(clock))).rejects.toThrow('not now');
    await expect(
      withDeadline(() => {
        throw new TypeError('at once');
      }, options(clock)),
    ).rejects.toThrow('at once');
    expect(clock.sleeping).toBe(0);
  });

  test('tells a call to stop when its time is over', async () => {
    const clock = new FakeClock();
    await rejects(clock.through(withDeadline(obedient(clock, 1001), options(clock))), 'busy');
    expect(clock.monotonic()).toBe(1000);
    expect(clock.sleeping).toBe(0);
  });

  test('leaves a call behind that does not stop, after the grace', async () => {
    const clock = new FakeClock();
    await rejects(clock.through(withDeadline(never, options(clock))), 'busy');
    expect(clock.monotonic()).toBe(1100);
  });

  test('takes the outcome of a call that finishes within the grace', async () => {
    const clock = new FakeClock();
    const late = async () => clock.sleep(1050).then(() => 'done');
    expect(await clock.through(withDeadline(late, options(clock)))).toBe('done');
    const failing = async () => clock.sleep(1050).then(() => Promise.reject(new HoldfastError('damaged', 'bad')));
    await rejects(clock.through(withDeadline(failing, options(clock))), 'damaged');
  });

  test('an abort reaches the call at once, and ends one that does not listen after the grace', async () => {
    const clock = new FakeClock();
    for (const [call, ms] of [
      [obedient(clock, 10_000), 0],
      [never, 100],
    ] as const) {
      const controller = new AbortController();
      const began = clock.monotonic();
      const done = rejects(withDeadline<unknown>(call, options(clock, { signal: controller.signal })), 'interrupted');
      controller.abort();
      await clock.through(done);
      expect(clock.monotonic() - began).toBe(ms);
    }
    await rejects(withDeadline(never, options(clock, { signal: AbortSignal.abort() })), 'interrupted');
  });

  test('is extended as long as it is told to be', async () => {
    const clock = new FakeClock();
    const asked: number[] = [];
    const extend = async () => {
      asked.push(clock.monotonic());
      return asked.length < 3 ? 500 : 0;
    };
    expect(await clock.through(withDeadline(obedient(clock, 1999), options(clock, { extend })))).toBe('done');
    expect(asked).toEqual([1000, 1500]);
    await rejects(clock.through(withDeadline(never, options(clock, { extend: async () => 0 }))), 'busy');
    await rejects(
      clock.through(withDeadline(never, options(clock, { extend: () => Promise.reject(transient()) }))),
      'busy',
    );
  });

  test('a hundred calls under one signal leave no listener on it', async () => {
    const clock = new FakeClock();
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      listeners++;
      addEventListener.apply(signal, args);
    };
    signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      listeners--;
      removeEventListener.apply(signal, args);
    };
    await Promise.all(Array.from({ length: 100 }, () => withDeadline(async () => 1, options(clock, { signal }))));
    expect(listeners).toBe(0);
  });
});
