import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { systemRandom } from '../../src/clock.ts';
import { HoldfastError } from '../../src/errors.ts';
import { fullJitterMs, isTransient, retry, type RetrySettings } from '../../src/policy/retry.ts';
import { rejects } from '../backend-helpers.ts';
import { FakeClock } from '../fake-clock.ts';
import { randomOf, transient } from './support.ts';

const settings: RetrySettings = { tries: 4, baseMs: 100, capMs: 300, budgetMs: 10_000 };

/** A call that throws each of the errors in turn, and then succeeds. */
function failing(...errors: unknown[]): { call: () => Promise<string>; made: () => number } {
  let made = 0;
  return {
    call: async () => {
      const error = errors[made++];
      if (error !== undefined) throw error;
      return 'done';
    },
    made: () => made,
  };
}

describe('retry', () => {
  test('makes a call once that succeeds, and again one that fails for now', async () => {
    const clock = new FakeClock();
    for (const errors of [[], [transient()], [transient(), transient(), transient()]]) {
      const { call, made } = failing(...errors);
      expect(await clock.through(retry(call, { settings, clock, random: randomOf(255) }))).toBe('done');
      expect(made()).toBe(errors.length + 1);
    }
  });

  test('gives up after so many tries, with the last error', async () => {
    const clock = new FakeClock();
    const errors = Array.from({ length: 9 }, (_, i) => transient(`failure ${i}`));
    const { call, made } = failing(...errors);
    await expect(clock.through(retry(call, { settings, clock, random: randomOf(0) }))).rejects.toBe(errors[3]);
    expect(made()).toBe(4);
  });

  test('never repeats what failed for good, nor a defect', async () => {
    const clock = new FakeClock();
    for (const error of [
      new HoldfastError('backend_unavailable', 'wrong credentials'),
      new HoldfastError('not_found', 'not there'),
      new TypeError('a defect'),
    ]) {
      const { call, made } = failing(error);
      await expect(retry(call, { settings, clock, random: randomOf(255) })).rejects.toBe(error);
      expect(made()).toBe(1);
      expect(isTransient(error)).toBe(false);
    }
    expect(clock.monotonic()).toBe(0);
  });

  test('pauses are even between nothing and twice as long each time, up to the cap', () => {
    for (const [n, most] of [100, 200, 300, 300, 300].entries()) {
      expect(fullJitterMs(n, settings, randomOf(0))).toBe(0);
      expect(fullJitterMs(n, settings, randomOf(255))).toBeCloseTo(most, 3);
      expect(fullJitterMs(n, settings, randomOf(0x80))).toBeCloseTo((most * 0x80) / 0xff, 3);
    }
    const pauses = Array.from({ length: 2000 }, () => fullJitterMs(1, settings, systemRandom));
    const mean = pauses.reduce((sum, ms) => sum + ms, 0) / pauses.length;
    expect(Math.max(...pauses)).toBeLessThan(200);
    expect(mean).toBeGreaterThan(85);
    expect(mean).toBeLessThan(115);
  });

  test('a call that takes long to fail is tried within the budget only, which begins with the first failure', async () => {
    const clock = new FakeClock();
    let made = 0;
    const slow = async () => {
      made++;
      await clock.sleep(60_000);
      throw transient();
    };
    await rejects(clock.through(retry(slow, { settings, clock, random: randomOf(255) })), 'backend_unavailable');
    expect(made).toBe(2);
    expect(clock.monotonic()).toBeLessThan(2 * 60_000 + 101);
  });

  test('stays within tries, and within two tries and the budget', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 6 }),
        fc.nat(3000),
        fc.nat(3000),
        fc.nat(255),
        async (tries, tryMs, budgetMs, byte) => {
          const clock = new FakeClock();
          let made = 0;
          const call = async () => {
            made++;
            if (tryMs > 0) await clock.sleep(tryMs);
            throw transient();
          };
          const options = { settings: { ...settings, tries, budgetMs }, clock, random: randomOf(byte) };
          await rejects(clock.through(retry(call, options)), 'backend_unavailable');
          expect(made).toBeLessThanOrEqual(tries);
          expect(clock.monotonic()).toBeLessThanOrEqual(2 * tryMs + budgetMs);
        },
      ),
      { numRuns: 100 },
    );
  });

  test('an abort ends a pause, and makes no call', async () => {
    const clock = new FakeClock();
    const controller = new AbortController();
    const { call, made } = failing(transient(), transient());
    const done = retry(call, { settings, clock, random: randomOf(255), signal: controller.signal });
    const outcome = rejects(done, 'interrupted');
    await clock.advance(50);
    expect(clock.sleeping).toBe(1);
    controller.abort();
    await outcome;
    expect(made()).toBe(1);
    expect(clock.sleeping).toBe(0);
    await rejects(retry(call, { settings, clock, random: randomOf(0), signal: controller.signal }), 'interrupted');
    expect(made()).toBe(1);
  });

  test('gives up when told that there is no use, also after the pause', async () => {
    for (const yes of [0, 1]) {
      const clock = new FakeClock();
      const { call, made } = failing(transient(), transient(), transient());
      let asked = 0;
      const mayGoOn = () => asked++ < yes;
      await rejects(
        clock.through(retry(call, { settings, clock, random: randomOf(255), mayGoOn })),
        'backend_unavailable',
      );
      expect(made()).toBe(1);
      expect(asked).toBe(yes + 1);
    }
  });
});
