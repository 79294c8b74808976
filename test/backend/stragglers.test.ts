import { beforeEach, describe, expect, test } from 'vitest';
import { PATIENCE_MS, Stragglers } from '../../src/backend/stragglers.ts';
import { FakeClock } from '../fake-clock.ts';

let clock: FakeClock;
let live: string[];
/** Who was left behind, when, and for how long it had held the run up. */
let left: [name: string, atMs: number, heldMs: number][];
let stragglers: Stragglers;
let release = () => {};

beforeEach(() => {
  clock = new FakeClock();
  live = ['disk', 'nas', 'cloud'];
  left = [];
  stragglers = new Stragglers({
    clock,
    live: () => live,
    leave: (name, heldMs) => {
      left.push([name, clock.monotonic(), heldMs]);
      live = live.filter((one) => one !== name);
    },
  });
});

const begin = (...names: string[]) => names.forEach((name) => stragglers.begin(name));
const end = (...names: string[]) => names.forEach((name) => stragglers.end(name));
/** The run waits from now on. */
function wait(objects = 1): void {
  void stragglers.during(new Promise<void>((resolve) => (release = resolve)), objects);
}
async function goOn(): Promise<void> {
  release();
  await clock.advance(0);
}

describe('a backend that holds the run up', () => {
  test('is left behind when patience is used up, and not before', async () => {
    begin('disk', 'nas', 'cloud');
    end('disk', 'nas');
    wait();
    await clock.advance(PATIENCE_MS - 1);
    expect(left).toEqual([]);
    await clock.advance(1);
    expect(left).toEqual([['cloud', PATIENCE_MS, PATIENCE_MS]]);
    end('cloud');
    expect(clock.sleeping).toBe(0);
  });

  test('counts only while the run waits', async () => {
    begin('disk', 'cloud');
    end('disk');
    await clock.advance(10 * PATIENCE_MS);
    wait();
    await clock.advance(PATIENCE_MS / 2);
    await goOn();
    await clock.advance(10 * PATIENCE_MS);
    end('cloud');
    expect(left).toEqual([]);
    expect(clock.sleeping).toBe(0);
  });

  test('counts only while another has answered everything', async () => {
    live = ['disk', 'cloud'];
    begin('disk', 'cloud');
    wait();
    await clock.advance(10 * PATIENCE_MS);
    end('cloud');
    await clock.advance(10 * PATIENCE_MS);
    expect(left.map(([name]) => name)).toEqual(['disk']);
  });

  test('counts only while all that the run waits for waits for it', async () => {
    begin('disk', 'cloud', 'disk', 'cloud');
    end('disk', 'disk');
    wait(3); // the third is still being made
    await clock.advance(10 * PATIENCE_MS);
    expect(left).toEqual([]);
  });

  test('and took long in sum is left behind, however often it answered', async () => {
    let seconds = 0;
    for (; left.length === 0; seconds++) {
      begin('disk', 'cloud');
      end('disk');
      wait();
      await clock.advance(1000);
      if (left.length === 0) end('cloud');
      await goOn();
    }
    expect(left).toEqual([['cloud', PATIENCE_MS, PATIENCE_MS]]);
    expect(seconds).toBe(PATIENCE_MS / 1000);
  });

  test('for less than half of the time is waited for', async () => {
    for (let i = 0; i < 100; i++) {
      begin('disk', 'cloud');
      await clock.advance(1100);
      end('disk');
      wait();
      await clock.advance(1000);
      end('cloud');
      await goOn();
    }
    expect(left).toEqual([]);
    // It stops altogether: 110 s without it, 100 s with it, and 10 s more make the half.
    begin('disk', 'cloud');
    end('disk');
    wait();
    await clock.advance(60_000);
    expect(left).toEqual([['cloud', 220_000, 110_000]]);
  });

  test('with another that does so too: each is left behind, the last never', async () => {
    begin('disk', 'nas', 'cloud');
    end('disk');
    wait();
    await clock.advance(PATIENCE_MS);
    expect(left.map(([name]) => name).toSorted()).toEqual(['cloud', 'nas']);
    begin('disk');
    await clock.advance(100 * PATIENCE_MS);
    expect(live).toEqual(['disk']);
    end('disk');
    await goOn();
    expect(clock.sleeping).toBe(0);
  });

  test('that failed meanwhile is nobody to be left, and has answered nothing', async () => {
    begin('disk', 'cloud');
    live = ['cloud'];
    end('disk');
    wait();
    await clock.advance(10 * PATIENCE_MS);
    expect(left).toEqual([]);
  });
});

test('what the run waits for is passed on, also its failure', async () => {
  expect(await stragglers.during(Promise.resolve(5), 1)).toBe(5);
  await expect(stragglers.during(Promise.reject(new Error('as planned')), 1)).rejects.toThrow('as planned');
});
