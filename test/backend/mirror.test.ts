import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { HoldfastError, type ErrorCode } from '../../src/errors.ts';
import type { Backend } from '../../src/backend/backend.ts';
import { openDirectory } from '../../src/backend/directory.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { Mirror } from '../../src/backend/mirror.ts';
import { collect, expectSame, keysAndSizes, patterned, rejects } from '../backend-helpers.ts';
import { backendSuite } from '../backend-suite.ts';
import { FaultyBackend } from '../faulty-backend.ts';

const newFolder = () => fs.mkdtemp(join(tmpdir(), 'holdfast-mirror-'));
const openNamed = (name: string, folder: string) =>
  openDirectory(folder, { name, clock: systemClock, random: systemRandom });

backendSuite('mirror of a directory and memory', async () => {
  const folder = await newFolder();
  const memory = createMemory('memory');
  const backend = new Mirror([
    { name: 'disk', backend: await openNamed('disk', folder) },
    { name: 'memory', backend: memory },
  ]);
  return {
    backend,
    reopen: async () =>
      new Mirror([
        { name: 'memory', backend: memory },
        { name: 'disk', backend: await openNamed('disk', folder) },
      ]),
    async cleanup() {
      await backend[Symbol.asyncDispose]();
      await fs.rm(folder, { recursive: true });
    },
  };
});

backendSuite('mirror of one', async () => {
  const folder = await newFolder();
  const backend = new Mirror([{ name: 'disk', backend: await openNamed('disk', folder) }]);
  return {
    backend,
    reopen: async () => new Mirror([{ name: 'disk', backend: await openNamed('disk', folder) }]),
    loseStorage: () => fs.rm(folder, { recursive: true }),
    async cleanup() {
      await backend[Symbol.asyncDispose]();
      await fs.rm(folder, { recursive: true, force: true });
    },
  };
});

describe('a mirror', () => {
  const one = patterned(10, 1);
  let nas: FaultyBackend;
  let cloud: FaultyBackend;
  let mirror: Mirror;

  beforeEach(() => {
    nas = new FaultyBackend(createMemory('nas'), { name: 'nas' });
    cloud = new FaultyBackend(createMemory('cloud'), { name: 'cloud' });
    mirror = new Mirror([
      { name: 'nas', backend: nas },
      { name: 'cloud', backend: cloud },
    ]);
  });

  const states = () => mirror.states().map(({ name, state }) => `${name} ${state}`);
  const refusing = (code: ErrorCode) => () => {
    throw new HoldfastError(code, `this is ${code}`, { hint: `about ${code}` });
  };

  describe('members', () => {
    test('need to be one at least, and of different names', () => {
      expect(() => new Mirror([])).toThrow('needs a backend');
      const twice = { name: 'nas', backend: nas };
      expect(() => new Mirror([twice, twice])).toThrow('same name');
    });

    test('that could not be opened are reported, and the others used', async () => {
      const error = new HoldfastError('backend_unavailable', 'not mounted');
      mirror = new Mirror([
        { name: 'nas', error },
        { name: 'cloud', backend: cloud },
      ]);
      expect(mirror.states()).toEqual([
        { name: 'nas', state: 'failed', error },
        { name: 'cloud', state: 'ok' },
      ]);
      expect(mirror.live()).toEqual([{ name: 'cloud', backend: cloud }]);
      expect(await mirror.put('a', one, { ifAbsent: true })).toBe('created');
      expectSame(await mirror.get('a'), one);
      expect(mirror.mishaps()).toEqual([]);
    });

    test('can be had by name, unless unknown or taken out', () => {
      expect(mirror.member('cloud')).toBe(cloud);
      expect(() => mirror.member('usb')).toThrow(
        expect.objectContaining({ code: 'usage', hint: expect.stringContaining('nas, cloud') }),
      );
      const first = new HoldfastError('foreign_repository', 'somebody else');
      mirror.fail('cloud', first);
      mirror.fail('cloud', new HoldfastError('backend_unavailable', 'later'));
      expect(() => mirror.member('cloud')).toThrow(first);
      expect(mirror.states()[1]).toEqual({ name: 'cloud', state: 'failed', error: first });
      expect(mirror.live().map(({ name }) => name)).toEqual(['nas']);
    });

    test('are all disposed of, also those taken out', async () => {
      const disposed: string[] = [];
      const closing = (name: string): Backend => ({
        ...createMemory(name),
        async [Symbol.asyncDispose]() {
          disposed.push(name);
          throw new HoldfastError('backend_unavailable', 'it does not matter any more');
        },
      });
      {
        await using all = new Mirror([
          { name: 'a', backend: closing('a') },
          { name: 'b', backend: closing('b') },
          { name: 'c', error: new HoldfastError('backend_unavailable', 'never there') },
        ]);
        all.fail('a', new HoldfastError('backend_unavailable', 'gone'));
      }
      expect(disposed).toEqual(['a', 'b']);
    });
  });

  describe('put', () => {
    test('gives every member the same bytes, at once', async () => {
      let release = () => {};
      const held = new Promise<void>((resolve) => (release = resolve));
      nas.plan({ effect: 'delay', until: held });
      const put = mirror.put('packs/ab/one', one, { ifAbsent: true });
      // The second member does not wait for the first …
      for (let i = 0; i < 10; i++) await Promise.resolve();
      expectSame(await cloud.inner.get('packs/ab/one'), one);
      // … but the mirror for both.
      let settled = false;
      void put.then(() => (settled = true));
      for (let i = 0; i < 10; i++) await Promise.resolve();
      expect(settled).toBe(false);
      release();
      expect(await put).toBe('created');
      expectSame(await nas.inner.get('packs/ab/one'), one);
    });

    test('takes out a member that refuses, and asks it no more', async () => {
      nas.plan({ effect: 'fail', on: 'put', nth: 2 });
      await mirror.put('a', one);
      expect(await mirror.put('b', one, { ifAbsent: true })).toBe('created');
      expect(await mirror.put('c', one, { ifAbsent: true })).toBe('created');
      nas.assertAllFired();
      expect(states()).toEqual(['nas failed', 'cloud ok']);
      expect(mirror.states()[0]?.error?.message).toContain('told to fail at put b');
      expect(nas.count()).toBe(2);
      expect(await keysAndSizes(cloud.inner, '')).toHaveLength(3);
      expect(await keysAndSizes(nas.inner, '')).toHaveLength(1);
    });

    test('fills in the member that lacks the object, and says exists', async () => {
      await nas.inner.put('a', one);
      expect(await mirror.put('a', one, { ifAbsent: true })).toBe('exists');
      expectSame(await cloud.inner.get('a'), one);
    });

    test('with no member left names each with its error', async () => {
      nas.plan({ effect: 'fail', error: new HoldfastError('backend_unavailable', 'disk full', { hint: 'make room' }) });
      cloud.plan({
        effect: 'fail',
        error: new HoldfastError('backend_unavailable', 'no network', { retryable: true }),
      });
      const error = (await rejects(mirror.put('a', one), 'not_enough_backends')) as HoldfastError;
      expect(error.message).toBe('no backend could store a: nas: disk full; cloud: no network');
      expect(error.hint).toBe('make room');
      expect(error.retryable).toBe(true);
      await rejects(mirror.put('b', one), 'not_enough_backends');
      expect(nas.count() + cloud.count()).toBe(2);
    });

    test('of one key at a time: each member is asked in the same order', async () => {
      const bodies = Array.from({ length: 5 }, (_, i) => patterned(10, i));
      let release = () => {};
      nas.plan({ effect: 'delay', until: new Promise<void>((resolve) => (release = resolve)) });
      const puts = bodies.map((bytes) => mirror.put('a', bytes));
      for (let i = 0; i < 20; i++) await Promise.resolve();
      expect(cloud.count('put')).toBe(1);
      await mirror.put('b', one); // Another key does not wait.
      release();
      await Promise.all(puts);
      expectSame(await nas.inner.get('a'), bodies[4]);
      expectSame(await cloud.inner.get('a'), bodies[4]);
    });

    test.each(['interrupted', 'bug'] as const)('that meets %s throws it on, and takes nobody out', async (code) => {
      nas.plan({ effect: 'fail', error: new HoldfastError(code, 'as planned') });
      await rejects(mirror.put('a', one), code);
      expect(states()).toEqual(['nas ok', 'cloud ok']);
    });

    test('that meets a defect throws it on', async () => {
      nas.put = () => Promise.reject(new TypeError('a defect'));
      await expect(mirror.put('a', one)).rejects.toThrow(TypeError);
      expect(states()).toEqual(['nas ok', 'cloud ok']);
    });

    test('after a failed one of the same key goes on', async () => {
      nas.plan({ effect: 'fail', error: new HoldfastError('interrupted', 'as planned') });
      const [failed, done] = await Promise.allSettled([mirror.put('a', one), mirror.put('a', one)]);
      expect([failed.status, done.status]).toEqual(['rejected', 'fulfilled']);
    });
  });

  describe('read', () => {
    beforeEach(() => mirror.put('a', one));

    test('asks the members in order, or the preferred one first', async () => {
      expect(await mirror.read('a', (_, name) => name)).toBe('nas');
      expect(await mirror.read('a', (_, name) => name, { prefer: 'cloud' })).toBe('cloud');
      expect(await mirror.read('a', (_, name) => name, { prefer: 'no such' })).toBe('nas');
      expect(await mirror.read('a', async (bytes) => bytes.length, { range: { offset: 8, length: 8 } })).toBe(2);
      expect(mirror.mishaps()).toEqual([]);
    });

    test.each(['flip', 'truncate'] as const)(
      'goes to the next member when accept refuses the bytes (%s), and tells',
      async (effect) => {
        nas.plan({ effect, times: Infinity });
        const checked = (bytes: Uint8Array) => {
          if (Buffer.compare(bytes, one) !== 0) throw new HoldfastError('damaged', 'the hash is wrong');
          return bytes;
        };
        for (let i = 0; i < 3; i++) expectSame(await mirror.read('a', checked), one);
        nas.assertAllFired();
        expect(mirror.mishaps()).toEqual([
          {
            backend: 'nas',
            key: 'a',
            problem: 'the hash is wrong',
            error: expect.objectContaining({ code: 'damaged' }),
            servedBy: 'cloud',
          },
        ]);
        expect(states()).toEqual(['nas ok', 'cloud ok']);
      },
    );

    test('tells of an object that one member lacks', async () => {
      nas.plan({ effect: 'vanish' });
      expectSame(await mirror.get('a'), one);
      expect(mirror.mishaps()).toMatchObject([{ backend: 'nas', key: 'a', problem: 'it is not there' }]);
    });

    test('takes a dead member out, tells, and does not ask it again', async () => {
      nas.plan({ effect: 'fail', times: Infinity });
      for (let i = 0; i < 3; i++) expectSame(await mirror.get('a'), one);
      expect(nas.count('get')).toBe(1);
      expect(states()).toEqual(['nas failed', 'cloud ok']);
      expect(mirror.mishaps()).toHaveLength(1);
    });

    test('that is quiet tells nothing', async () => {
      nas.plan({ effect: 'vanish' });
      await mirror.read('a', (bytes) => bytes, { quiet: true });
      await rejects(mirror.read('a', refusing('damaged'), { quiet: true }), 'damaged');
      expect(mirror.mishaps()).toEqual([]);
    });

    test('of what no member has is not_found, and nobody is to blame', async () => {
      await rejects(mirror.get('none'), 'not_found');
      expect(mirror.mishaps()).toEqual([]);
    });

    test('of what the member left has not is unknown, not absent, while another cannot be asked', async () => {
      await cloud.inner.delete('a');
      nas.plan({ effect: 'fail' });
      for (let i = 0; i < 2; i++) {
        const error = await rejects(mirror.get('a'), 'not_enough_backends');
        expect(error.message).toBe(
          'no backend could read a: nas: nas was told to fail at get a; cloud: it is not there',
        );
      }
    });

    const thrownBy: [ErrorCode, ErrorCode, ErrorCode][] = [
      ['damaged', 'not_found', 'damaged'],
      ['not_found', 'damaged', 'damaged'],
      ['damaged', 'forged', 'forged'],
      ['forged', 'damaged', 'forged'],
      ['wrong_key', 'damaged', 'damaged'],
      ['wrong_key', 'unsupported_format', 'wrong_key'],
      ['not_found', 'wrong_key', 'wrong_key'],
    ];
    test.each(thrownBy)('refused by %s and %s throws %s, and names both', async (first, second, thrown) => {
      const codes: Record<string, ErrorCode> = { nas: first, cloud: second };
      const refuse = (_: Uint8Array, name: string) => refusing(codes[name] ?? 'bug')();
      const error = (await rejects(mirror.read('a', refuse), thrown)) as HoldfastError;
      const shown = (code: ErrorCode) => (code === 'not_found' ? 'it is not there' : `this is ${code}`);
      expect(error.message).toBe(`object a cannot be read: nas: ${shown(first)}; cloud: ${shown(second)}`);
      expect(error.hint).toBe(`about ${thrown}`);
      expect(mirror.mishaps()).toMatchObject([
        { backend: 'nas', servedBy: undefined },
        { backend: 'cloud', servedBy: undefined },
      ]);
    });

    test.each(['interrupted', 'bug'] as const)('throws %s at once', async (code) => {
      await rejects(mirror.read('a', refusing(code)), code);
      expect(cloud.count('get')).toBe(0);
      nas.plan({ effect: 'fail', error: new HoldfastError(code, 'as planned') });
      await rejects(mirror.get('a'), code);
      expect(cloud.count('get')).toBe(0);
    });

    test('throws a defect of accept at once', async () => {
      const defect = () => {
        throw new TypeError('a defect');
      };
      await expect(mirror.read('a', defect)).rejects.toThrow(TypeError);
      expect(cloud.count('get')).toBe(0);
    });

    test('without a member left says why each is out', async () => {
      for (const name of ['nas', 'cloud'])
        mirror.fail(name, new HoldfastError('foreign_repository', `${name} is not ours`));
      const error = await rejects(mirror.get('a'), 'not_enough_backends');
      expect(error.message).toBe('no backend could read a: nas: nas is not ours; cloud: cloud is not ours');
    });
  });

  describe('head, list and delete', () => {
    test('head finds what any member has', async () => {
      await cloud.inner.put('a', one);
      expect(await mirror.head('a')).toEqual({ size: 10 });
      expect(await mirror.head('b')).toBeUndefined();
    });

    test('head takes out a dead member', async () => {
      nas.plan({ effect: 'fail' });
      expect(await mirror.head('a')).toBeUndefined();
      expect(states()).toEqual(['nas failed', 'cloud ok']);
      cloud.plan({ effect: 'fail' });
      await rejects(mirror.head('a'), 'not_enough_backends');
    });

    test('list is the union, each once', async () => {
      for (const key of ['k/1', 'k/2']) await nas.inner.put(key, one);
      for (const key of ['k/2', 'k/3', 'l/4']) await cloud.inner.put(key, one);
      const listed = await collect(mirror.list('k/'));
      expect(listed.map(({ key }) => key).sort()).toEqual(['k/1', 'k/2', 'k/3']);
    });

    test.each(['fail', 'fail-after'] as const)(
      'list takes out a member that fails (%s), and goes on with the others',
      async (effect) => {
        for (const key of ['k/1', 'k/2']) await mirror.put(key, one);
        nas.plan({ effect, on: 'list' });
        expect(await keysAndSizes(mirror, '')).toEqual([
          ['k/1', 10],
          ['k/2', 10],
        ]);
        expect(states()).toEqual(['nas failed', 'cloud ok']);
        cloud.plan({ effect, on: 'list' });
        await rejects(collect(mirror.list('')), 'not_enough_backends');
      },
    );

    test('an error of the one who lists is no failure of a member', async () => {
      await mirror.put('a', one);
      const failing = (async () => {
        for await (const _ of mirror.list('')) throw new HoldfastError('io', 'of the consumer');
      })();
      await rejects(failing, 'io');
      expect(states()).toEqual(['nas ok', 'cloud ok']);
    });

    test('delete is on all, and takes out a member that refuses', async () => {
      for (const key of ['a', 'b']) await mirror.put(key, one);
      await mirror.delete('a');
      expect(await keysAndSizes(nas.inner, '')).toEqual(await keysAndSizes(cloud.inner, ''));
      nas.plan({ effect: 'fail', on: 'delete' });
      await mirror.delete('b');
      expect(states()).toEqual(['nas failed', 'cloud ok']);
      expect(await keysAndSizes(cloud.inner, '')).toEqual([]);
      cloud.plan({ effect: 'fail', on: 'delete' });
      await rejects(mirror.delete('c'), 'not_enough_backends');
    });
  });

  test('two runs over the same members, one of them down in the first, end level', async () => {
    nas.plan({ effect: 'fail', on: 'put', nth: 1 });
    for (const key of ['a', 'b']) await mirror.put(key, patterned(5, 1), { ifAbsent: true });
    const next = new Mirror([
      { name: 'nas', backend: nas.inner },
      { name: 'cloud', backend: cloud.inner },
    ]);
    for (const { key } of await collect(next.list('')))
      expect(await next.put(key, await next.get(key), { ifAbsent: true })).toBe('exists');
    for (const { key } of await collect(cloud.inner.list('')))
      expectSame(await nas.inner.get(key), await cloud.inner.get(key));
  });
});
