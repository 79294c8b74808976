/** A mirror with members of different speed. */
import { beforeEach, describe, expect, test } from 'vitest';
import { HoldfastError } from '../../src/errors.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { Mirror } from '../../src/backend/mirror.ts';
import { PATIENCE_MS } from '../../src/backend/stragglers.ts';
import { expectSame, keysAndSizes, patterned, rejects } from '../backend-helpers.ts';
import { FakeClock } from '../fake-clock.ts';
import { FaultyBackend } from '../faulty-backend.ts';

const one = patterned(10, 1);
let clock: FakeClock;
let nas: FaultyBackend;
let cloud: FaultyBackend;
let mirror: Mirror;

beforeEach(() => {
  clock = new FakeClock();
  nas = new FaultyBackend(createMemory('nas'), { name: 'nas' });
  cloud = new FaultyBackend(createMemory('cloud'), { name: 'cloud' });
  mirror = new Mirror(
    [
      { name: 'nas', backend: nas },
      { name: 'cloud', backend: cloud },
    ],
    clock,
  );
});

const states = () => mirror.states().map(({ name, state }) => `${name} ${state}`);
const put = (key: string) => mirror.hurry(mirror.put(key, one, { ifAbsent: true }), 1);
const keysOf = async (backend: FaultyBackend) => (await keysAndSizes(backend.inner, '')).map(([key]) => key);

describe('a member that holds the run up', () => {
  test('is left behind: its put is aborted, the others go on, and it is given nothing more', async () => {
    cloud.plan({ effect: 'stall', on: 'put' });
    expect(await clock.through(put('a'))).toBe('created');
    expect(clock.monotonic()).toBe(PATIENCE_MS);
    expect(cloud.stalled).toBe(0); // nobody has the bytes any more
    expect(states()).toEqual(['nas ok', 'cloud behind']);
    expect(mirror.states()[1]?.error).toMatchObject({
      code: 'backend_unavailable',
      message: 'backend cloud was left behind: it held the others up for 10 s',
      hint: expect.stringContaining('sync'),
    });
    await put('b');
    await mirror.delete('b');
    expectSame(await mirror.get('a'), one);
    expect(cloud.count()).toBe(1);
    expect(mirror.live()).toEqual([{ name: 'nas', backend: nas }]);
    expect(mirror.behind()).toEqual([{ name: 'cloud', backend: cloud }]);
    expect(() => mirror.member('cloud')).toThrow('left behind');
    expect(clock.sleeping).toBe(0);
  });

  test('rejoins when it is level', async () => {
    cloud.plan({ effect: 'stall', on: 'put' });
    await clock.through(put('a'));
    mirror.rejoin('cloud');
    expect(states()).toEqual(['nas ok', 'cloud ok']);
    expect(mirror.behind()).toEqual([]);
    await put('b');
    expect(await keysOf(cloud)).toEqual(['b']);
    // … and can be left again.
    cloud.plan({ effect: 'stall', on: 'put' });
    await clock.through(put('c'));
    expect(states()).toEqual(['nas ok', 'cloud behind']);
  });

  test('of which only one that was left behind can rejoin', () => {
    expect(() => mirror.rejoin('cloud')).toThrow('was not left behind');
    mirror.fail('cloud', new HoldfastError('backend_unavailable', 'gone'));
    mirror.leaveBehind('cloud', 'slow');
    expect(states()).toEqual(['nas ok', 'cloud failed']);
    expect(mirror.behind()).toEqual([]);
    expect(() => mirror.rejoin('cloud')).toThrow('was not left behind');
  });

  test('and fails afterwards, has failed', () => {
    mirror.leaveBehind('cloud', 'slow');
    const error = new HoldfastError('backend_unavailable', 'gone');
    mirror.fail('cloud', error);
    expect(mirror.states()[1]).toEqual({ name: 'cloud', state: 'failed', error });
    expect(mirror.behind()).toEqual([]);
  });

  test('is waited for while nobody hurries, and without a clock', async () => {
    cloud.plan({ effect: 'stall', on: 'put', times: Infinity });
    const stop = new AbortController();
    const idle = mirror.put('a', one, { signal: stop.signal });
    await clock.advance(10 * PATIENCE_MS);
    expect(states()).toEqual(['nas ok', 'cloud ok']);
    stop.abort();
    await rejects(idle, 'interrupted');
    expect(states()).toEqual(['nas ok', 'cloud ok']);
  });

  test('is not left for one that failed', async () => {
    nas.plan({ effect: 'fail', on: 'put' });
    let release = () => {};
    cloud.plan({ effect: 'delay', on: 'put', until: new Promise<void>((resolve) => (release = resolve)) });
    const storing = put('a');
    await clock.advance(10 * PATIENCE_MS);
    expect(states()).toEqual(['nas failed', 'cloud ok']);
    release();
    expect(await storing).toBe('created');
    expect(await keysOf(cloud)).toEqual(['a']);
  });

  test('and refuses when told to stop has failed no more than that', async () => {
    const until = new Promise<void>((resolve) => void clock.sleep(PATIENCE_MS + 1).then(resolve));
    cloud.plan({ effect: 'delay', on: 'put', until }).plan({ effect: 'fail', on: 'put' });
    await clock.through(put('a'));
    expect(states()).toEqual(['nas ok', 'cloud behind']);
    expect(await keysOf(nas)).toEqual(['a']);
  });

  test('leaves the run without any when the one that was faster fails then', async () => {
    cloud.plan({ effect: 'stall', on: 'put' });
    await clock.through(put('a'));
    nas.plan({ effect: 'fail', on: 'put' });
    const error = await rejects(put('b'), 'not_enough_backends');
    expect(error.message).toContain('cloud: backend cloud was left behind');
  });
});

describe('reads', () => {
  const slow = (backend: FaultyBackend, ms: number): void => {
    const get = backend.get.bind(backend);
    backend.get = async (...given) => {
      await clock.sleep(ms);
      return get(...given);
    };
  };
  const reader = () => clock.through(mirror.read('a', (_, name) => name));

  test('ask the nearest member first, once that is known, or the preferred one', async () => {
    await mirror.put('a', one);
    slow(nas, 200);
    slow(cloud, 30);
    const read: string[] = [];
    for (let i = 0; i < 8; i++) read.push(await reader());
    expect(read).toEqual(['nas', 'nas', 'nas', 'cloud', 'cloud', 'cloud', 'cloud', 'cloud']);
    expect(await clock.through(mirror.read('a', (_, name) => name, { prefer: 'nas' }))).toBe('nas');
  });

  test('fall over to the farther', async () => {
    await mirror.put('a', one);
    slow(nas, 200);
    for (let i = 0; i < 4; i++) await reader();
    cloud.plan({ effect: 'vanish' });
    expect(await reader()).toBe('nas');
    expect(mirror.mishaps()).toMatchObject([{ backend: 'cloud', servedBy: 'nas' }]);
  });
});
