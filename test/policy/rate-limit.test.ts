import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { rateLimit } from '../../src/policy/rate-limit.ts';
import { rejects } from '../backend-helpers.ts';
import { FakeClock } from '../fake-clock.ts';

describe('a rate limit', () => {
  test('lets a second of bytes go at once, and what is more when its time has come', async () => {
    const clock = new FakeClock();
    const limit = rateLimit(1000, clock);
    await limit.take(1000);
    expect(clock.monotonic()).toBe(0);
    await clock.through(limit.take(500));
    expect(clock.monotonic()).toBe(500);
    await clock.through(limit.take(16_000));
    expect(clock.monotonic()).toBe(16_500);
  });

  test('saves up no more than a second of bytes', async () => {
    const clock = new FakeClock();
    const limit = rateLimit(1000, clock);
    await clock.advance(3_600_000);
    await limit.take(1000);
    const began = clock.monotonic();
    await clock.through(limit.take(1));
    expect(clock.monotonic() - began).toBe(1);
  });

  test('calls at once share it, in the order of their coming', async () => {
    const clock = new FakeClock();
    const limit = rateLimit(1000, clock);
    const times: number[] = [];
    const all = [1000, 2000, 10, 3000].map((bytes) => limit.take(bytes).then(() => times.push(clock.monotonic())));
    await clock.through(Promise.all(all));
    expect(times).toEqual([0, 2000, 2010, 5010]);
  });

  test('what was received is paid for by who comes next', async () => {
    const clock = new FakeClock();
    const limit = rateLimit(1000, clock);
    await limit.take(0);
    limit.charge(5000);
    await clock.through(limit.take(0));
    expect(clock.monotonic()).toBe(4000);
  });

  test('an abort ends the wait and gives the bytes back', async () => {
    const clock = new FakeClock();
    const limit = rateLimit(1000, clock);
    await limit.take(1000);
    const controller = new AbortController();
    const waiting = rejects(limit.take(1_000_000, controller.signal), 'interrupted');
    await clock.advance(100);
    controller.abort();
    await waiting;
    await rejects(limit.take(1_000_000, controller.signal), 'interrupted');
    expect(clock.sleeping).toBe(0);
    await clock.through(limit.take(200));
    expect(clock.monotonic()).toBe(200);
  });

  test('never lets through more than the rate and a burst, whatever the calls', async () => {
    const sizes = fc.array(fc.nat(5000), { minLength: 1, maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 1, max: 5000 }), async (bytes, rate) => {
        const clock = new FakeClock();
        const limit = rateLimit(rate, clock);
        let sent = 0;
        const all = bytes.map(async (size) => {
          await limit.take(size);
          sent += size;
          expect(sent).toBeLessThanOrEqual(rate * (1 + clock.monotonic() / 1000) + 0.01);
        });
        await clock.through(Promise.all(all));
        // Nor does it wait for nothing: a millisecond of rounding for each call.
        const total = bytes.reduce((sum, size) => sum + size, 0);
        expect(clock.monotonic()).toBeLessThanOrEqual(Math.max(0, (total / rate - 1) * 1000) + bytes.length);
      }),
      { numRuns: 60 },
    );
  });

  test('a rate that is none is a defect', () => {
    for (const rate of [0, -1, NaN, Infinity]) expect(() => rateLimit(rate, new FakeClock())).toThrow('rate limit');
  });
});
