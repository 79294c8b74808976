import { beforeEach, describe, expect, test } from 'vitest';
import { HoldfastError } from '../../src/errors.ts';
import type { Backend } from '../../src/backend/backend.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { collect, expectSame, keysAndSizes, patterned, rejects } from '../backend-helpers.ts';
import { FaultyBackend } from '../faulty-backend.ts';

describe('a faulty backend', () => {
  const one = patterned(10, 1);
  let inner: Backend;
  let faulty: FaultyBackend;

  beforeEach(() => {
    inner = createMemory('inner');
    faulty = new FaultyBackend(inner);
  });

  test('fails before an effect or after it', async () => {
    faulty.plan({ effect: 'fail', key: 'a' }).plan({ effect: 'fail-after', key: /^b/ });
    await rejects(faulty.put('a', one), 'backend_unavailable');
    await rejects(faulty.put('b', one), 'backend_unavailable');
    expect(await keysAndSizes(inner, '')).toEqual([['b', 10]]);
    faulty.assertAllFired();
  });

  test('fails a list before the first object or after the last', async () => {
    await inner.put('a', one);
    faulty.plan({ effect: 'fail', on: 'list' }).plan({ effect: 'fail-after', on: 'list', nth: 2 });
    const seen: string[] = [];
    const list = async () => {
      for await (const { key } of faulty.list('')) seen.push(key);
    };
    await rejects(list(), 'backend_unavailable');
    expect(seen).toEqual([]);
    await rejects(list(), 'backend_unavailable');
    expect(seen).toEqual(['a']);
    await list();
  });

  test('damages what get gives, and not what is stored', async () => {
    await inner.put('a', one);
    faulty.plan({ effect: 'flip' }).plan({ effect: 'truncate', nth: 2 }).plan({ effect: 'vanish', nth: 3 });
    await faulty.head('a'); // Not counted by faults of get.
    const flipped = await faulty.get('a');
    expect([...flipped].filter((byte, i) => byte !== one[i])).toHaveLength(1);
    expectSame(await faulty.get('a'), one.slice(0, 5));
    await rejects(faulty.get('a'), 'not_found');
    expectSame(await faulty.get('a'), one);
    faulty.assertAllFired();
  });

  test('refuses to damage nothing, which would look like a fault survived', async () => {
    await inner.put('empty', new Uint8Array());
    faulty.plan({ effect: 'flip' });
    await expect(faulty.get('empty')).rejects.toThrow('nothing to flip');
  });

  test('holds an operation until it is let go', async () => {
    let release = () => {};
    faulty.plan({ effect: 'delay', until: new Promise<void>((resolve) => (release = resolve)) });
    const put = faulty.put('a', one);
    for (let i = 0; i < 10; i++) await Promise.resolve();
    expect(await inner.head('a')).toBeUndefined();
    release();
    await put;
    expect(await inner.head('a')).toEqual({ size: 10 });
  });

  test('hits the n-th, as often as told, with the error given', async () => {
    faulty.plan({ effect: 'fail', on: 'put', nth: 2, times: 2, error: new HoldfastError('interrupted', 'as planned') });
    await faulty.put('a', one);
    await rejects(faulty.put('b', one), 'interrupted');
    await faulty.delete('a');
    await rejects(faulty.put('c', one), 'interrupted');
    await faulty.put('d', one);
    expect(faulty.operations).toEqual([
      { operation: 'put', key: 'a' },
      { operation: 'put', key: 'b', effect: 'fail' },
      { operation: 'delete', key: 'a' },
      { operation: 'put', key: 'c', effect: 'fail' },
      { operation: 'put', key: 'd' },
    ]);
    expect([faulty.count(), faulty.count('put'), faulty.count('mutating'), faulty.count('get')]).toEqual([5, 4, 5, 0]);
  });

  test('tells which planned faults did not fire', async () => {
    faulty
      .plan({ effect: 'fail', on: 'put', times: 2 })
      .plan({ effect: 'fail', on: 'get', key: 'never', times: Infinity });
    await rejects(faulty.put('a', one), 'backend_unavailable');
    expect(() => faulty.assertAllFired()).toThrow(/fail on put .*hit 1 times.*fail on get never .*hit 0 times/);
  });

  test.each(['fail', 'fail-after'] as const)('dies at the n-th change, and stays dead (%s)', async (effect) => {
    faulty.dieAt(2, effect);
    await faulty.put('a', one);
    await faulty.get('a');
    expect(() => faulty.assertAllFired()).toThrow('death, 1 changes later');
    await rejects(faulty.put('b', one), 'backend_unavailable');
    expect(faulty.died).toBe(true);
    await rejects(faulty.put('c', one), 'backend_unavailable');
    await rejects(faulty.delete('a'), 'backend_unavailable');
    await rejects(faulty.get('a'), 'backend_unavailable');
    await rejects(faulty.head('a'), 'backend_unavailable');
    await rejects(collect(faulty.list('')), 'backend_unavailable');
    faulty.assertAllFired();
    expect((await keysAndSizes(inner, '')).map(([key]) => key)).toEqual(effect === 'fail' ? ['a'] : ['a', 'b']);
  });

  test('dies together with others, all their changes counted as one row', async () => {
    const other = new FaultyBackend(createMemory('other'));
    faulty.dieAt(3, 'fail', [other]);
    await faulty.put('a', one);
    await other.put('a', one);
    await rejects(other.put('b', one), 'backend_unavailable');
    await rejects(faulty.get('a'), 'backend_unavailable');
    expect([faulty.died, other.died]).toEqual([true, true]);
  });
});
