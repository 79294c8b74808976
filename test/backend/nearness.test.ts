import { beforeEach, expect, test } from 'vitest';
import { Nearness } from '../../src/backend/nearness.ts';
import { FakeClock } from '../fake-clock.ts';

let clock: FakeClock;
let nearness: Nearness;

beforeEach(() => {
  clock = new FakeClock();
  nearness = new Nearness(clock);
});

async function read(name: string, ms: number, bytes = 100, times = 3): Promise<void> {
  for (let i = 0; i < times; i++)
    await clock.through(
      nearness.measure(
        name,
        clock.sleep(ms).then(() => new Uint8Array(bytes)),
      ),
    );
}

const order = (...names: string[]) => names.toSorted((a, b) => nearness.distance(a) - nearness.distance(b));

test('what is read faster is nearer', async () => {
  await read('far', 300);
  await read('cloud', 60);
  await read('disk', 1);
  expect(order('far', 'cloud', 'disk')).toEqual(['disk', 'cloud', 'far']);
});

test('what was hardly read yet is tried', async () => {
  await read('cloud', 60);
  await read('new', 900, 100, 2);
  expect(order('cloud', 'new')).toEqual(['new', 'cloud']);
  await read('new', 900, 100, 1);
  expect(order('cloud', 'new')).toEqual(['cloud', 'new']);
});

test('between those that are near the order given decides, not the noise', async () => {
  await read('a', 15);
  await read('b', 1);
  expect(order('a', 'b')).toEqual(['a', 'b']);
});

test('a slow moment changes nothing, a slow time does', async () => {
  await read('a', 30);
  await read('b', 90);
  await read('a', 5000, 100, 7);
  expect(order('a', 'b')).toEqual(['a', 'b']);
  await read('a', 5000, 100, 1);
  expect(order('a', 'b')).toEqual(['b', 'a']);
});

test('a large object does not make a backend far', async () => {
  await read('a', 800, 16 * 1024 * 1024);
  await read('b', 60);
  expect(order('b', 'a')).toEqual(['a', 'b']);
});

test('a read that fails is passed on, and says nothing', async () => {
  await read('b', 60);
  for (let i = 0; i < 5; i++)
    await expect(nearness.measure('a', Promise.reject(new Error('as planned')))).rejects.toThrow('as planned');
  expect(order('b', 'a')).toEqual(['a', 'b']);
});
