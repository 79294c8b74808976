/** The lease of a watcher where the clock was set back: what no clock can wait for must not keep a fleet without one. */
import { expect, test } from 'vitest';
import type { Clock } from '../../src/clock.ts';
import { Lease } from '../../src/fleet/lease.ts';
import { memoryStateStore } from '../../src/fleet/memory-store.ts';
import { DAY_MS } from '../../src/units.ts';
import { seededRandom } from '../crypto/support.ts';
import { START_MS } from './support.ts';

const MS = 15_000;

function host() {
  let nowMs = START_MS;
  /** What happens while somebody waits. */
  let meanwhile = async (): Promise<void> => {};
  const clock: Clock = {
    now: () => nowMs,
    monotonic: () => nowMs,
    sleep: async (ms, signal) => {
      signal?.throwIfAborted();
      nowMs += ms / 2;
      await meanwhile();
      nowMs += ms / 2;
    },
  };
  const store = memoryStateStore(clock);
  const lease = (pid: number) =>
    new Lease({ store, clock, random: seededRandom(`lease ${pid}`), key: 'watch.lease', ms: MS, host: 'here', pid });
  return {
    lease,
    set: (ms: number) => void (nowMs = ms),
    during: (work: () => Promise<void>) => void (meanwhile = work),
  };
}

test('a lease of one that died before the clock was set back is taken over', async () => {
  const { lease, set } = host();
  set(START_MS + 400 * DAY_MS);
  expect(await lease(1).take()).toBe(true);
  set(START_MS);
  expect(await lease(2).take()).toBe(true);
  expect(await lease(3).take()).toBe(false);
});

test('one that lives renews it by the clock of now, and keeps it', async () => {
  const { lease, set, during } = host();
  set(START_MS + 400 * DAY_MS);
  const [one, two] = [lease(1), lease(2)];
  expect(await one.take()).toBe(true);
  set(START_MS);
  during(async () => void (await one.renew()));
  expect(await two.take()).toBe(false);
  expect(await one.renew()).toBe(true);
});

test('who waits for that can be interrupted, and what is not from a time to come is never dropped', async () => {
  const { lease, set } = host();
  set(START_MS + DAY_MS);
  expect(await lease(1).take()).toBe(true);
  set(START_MS);
  expect(await lease(2).take(AbortSignal.abort())).toBe(false);
  set(START_MS + DAY_MS - 30_000);
  expect(await lease(2).take()).toBe(false);
});
