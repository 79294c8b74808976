/** What every state store guarantees, line by line as numbered in src/fleet/store.ts. */
import { describe, expect, test } from 'vitest';
import { VALUE_MAX_BYTES, WATCH_MS, type Change, type StateStore } from '../../src/fleet/store.ts';
import { failure } from '../crypto/support.ts';
import { FakeClock } from '../fake-clock.ts';

export interface StoreUnderTest extends AsyncDisposable {
  /** Two ways to the same store, as of two processes. */
  one: StateStore;
  other: StateStore;
}

export function stateStoreSuite(name: string, open: (clock: FakeClock) => Promise<StoreUnderTest>): void {
  describe(`${name} keeps the contract of state stores`, () => {
    const START_MS = 1_000_000;
    const opened = async () => {
      const clock = new FakeClock(START_MS);
      return { clock, ...disposable(await open(clock)) };
    };

    test('1. get gives what was stored last, also by another process', async () => {
      await using at = await opened();
      expect(await at.one.get('a.b')).toBeUndefined();
      const first = await at.one.create('a.b', 'text ü\u0000"');
      expect(await at.other.get('a.b')).toEqual({ key: 'a.b', value: 'text ü\u0000"', revision: first });
      const second = await at.other.update('a.b', '', first ?? 0);
      expect(await at.one.get('a.b')).toEqual({ key: 'a.b', value: '', revision: second });
    });

    test('2. create stores only where nothing is; of many at once exactly one stores', async () => {
      await using at = await opened();
      const stored = await Promise.all(
        Array.from({ length: 20 }, (_, i) => (i % 2 ? at.one : at.other).create('key', `${i}`)),
      );
      const won = stored.flatMap((revision, i) => (revision === undefined ? [] : [{ revision, value: `${i}` }]));
      expect(won).toHaveLength(1);
      expect(await at.other.get('key')).toEqual({ key: 'key', ...won[0] });
    });

    test('3. update replaces the very revision; of many at once exactly one replaces', async () => {
      await using at = await opened();
      expect(await at.one.update('key', 'new', 1)).toBeUndefined();
      expect(await at.one.get('key')).toBeUndefined();
      const first = (await at.one.create('key', 'old')) ?? 0;
      expect(await at.one.update('key', 'new', first + 1)).toBeUndefined();
      const stored = await Promise.all(
        Array.from({ length: 20 }, (_, i) => (i % 2 ? at.one : at.other).update('key', `${i}`, first)),
      );
      const won = stored.flatMap((revision, i) => (revision === undefined ? [] : [{ revision, value: `${i}` }]));
      expect(won).toHaveLength(1);
      expect(await at.other.get('key')).toEqual({ key: 'key', ...won[0] });
    });

    test('4. delete removes the very revision, once', async () => {
      await using at = await opened();
      const first = (await at.one.create('key', 'old')) ?? 0;
      const second = (await at.one.update('key', 'new', first)) ?? 0;
      expect(await at.other.delete('key', first)).toBe(false);
      expect(await at.other.get('key')).toMatchObject({ value: 'new' });
      expect(await Promise.all([at.one.delete('key', second), at.other.delete('key', second)])).toContain(false);
      expect(await at.one.get('key')).toBeUndefined();
      expect(await at.one.delete('key', second)).toBe(false);
    });

    test('5. revisions only grow, over all keys and after a deletion', async () => {
      await using at = await opened();
      const revisions: number[] = [];
      const add = (revision: number | undefined) => revisions.push(revision ?? NaN);
      add(await at.one.create('a', '1'));
      add(await at.other.create('b', '1'));
      add(await at.one.update('a', '2', revisions[0] ?? 0));
      expect(await at.one.delete('a', revisions[2] ?? 0)).toBe(true);
      add(await at.one.create('a', '1'));
      expect(await at.other.update('a', '3', revisions[0] ?? 0)).toBeUndefined();
      expect(await at.other.delete('a', revisions[2] ?? 0)).toBe(false);
      expect(revisions).toEqual([...new Set(revisions)].toSorted((a, b) => a - b));
      expect(revisions.every((one) => Number.isSafeInteger(one) && one > 0)).toBe(true);
    });

    test('6. what one process has written another sees at once', async () => {
      await using at = await opened();
      let revision = (await at.one.create('count', '0')) ?? 0;
      for (let i = 1; i <= 20; i++) {
        const [writer, reader] = i % 2 ? [at.one, at.other] : [at.other, at.one];
        revision = (await writer.update('count', `${i}`, revision)) ?? NaN;
        expect(await reader.get('count')).toEqual({ key: 'count', value: `${i}`, revision });
      }
    });

    test('7. list gives every entry below the prefix, ordered, and no other', async () => {
      await using at = await opened();
      const keys = ['a', 'a-b', 'a.c', 'a.b', 'a.b.c', 'aa.b', 'A.b', 'b.a', 'a_.b', 'a.Z'];
      for (const key of keys) await at.one.create(key, `of ${key}`);
      const listed = async (prefix: string) => (await at.other.list(prefix)).map(({ key }) => key);
      expect(await listed('')).toEqual(keys.toSorted());
      expect(await listed('a.')).toEqual(['a.Z', 'a.b', 'a.b.c', 'a.c']);
      expect(await listed('a.b.')).toEqual(['a.b.c']);
      expect(await listed('c.')).toEqual([]);
      expect((await at.other.list('b.'))[0]).toEqual({ key: 'b.a', value: 'of b.a', revision: expect.any(Number) });
    });

    test('8. an entry whose time is over is absent for every method; each write sets the time anew', async () => {
      await using at = await opened();
      const { clock, one, other } = at;
      const lease = (await one.create('lease', 'a', { expiresMs: START_MS + 100 })) ?? 0;
      const renewed = (await one.update('lease', 'a', lease, { expiresMs: START_MS + 200 })) ?? 0;
      await clock.advance(199);
      expect(await other.create('lease', 'b')).toBeUndefined();
      expect(await other.get('lease')).toMatchObject({ revision: renewed });
      await clock.advance(1);
      expect(await other.get('lease')).toBeUndefined();
      expect(await other.list('')).toEqual([]);
      expect(await one.update('lease', 'a', renewed)).toBeUndefined();
      expect(await one.delete('lease', renewed)).toBe(false);
      const taken = (await other.create('lease', 'b', { expiresMs: START_MS + 300 })) ?? 0;
      expect(taken).toBeGreaterThan(renewed);
      await other.update('lease', 'b', taken);
      await clock.advance(1_000_000);
      expect(await one.get('lease')).toMatchObject({ value: 'b' });
    });

    test('9. watch tells what is there, then what changes, whoever changes it, and ends with the signal', async () => {
      await using at = await opened();
      const { clock, one, other } = at;
      const first = (await one.create('a.x', '1')) ?? 0;
      await one.create('b.x', '1');
      await one.create('a.short', '1', { expiresMs: START_MS + 10 * WATCH_MS });
      const stop = new AbortController();
      const told: string[] = [];
      const watching = (async () => {
        for await (const change of one.watch('a.', stop.signal)) told.push(textOf(change));
      })();
      const then = async () => {
        await clock.advance(WATCH_MS);
        return told.splice(0).toSorted();
      };
      expect(await then()).toEqual(['a.short=1', 'a.x=1']);
      expect(await then()).toEqual([]);
      const second = (await other.update('a.x', '2', first)) ?? 0;
      await other.create('b.y', '1');
      expect(await then()).toEqual(['a.x=2']);
      await one.create('a.y', '1'); // by the process that watches
      expect(await then()).toEqual(['a.y=1']);
      await other.delete('a.x', second);
      expect(await then()).toEqual(['a.x gone']);
      await clock.advance(10 * WATCH_MS);
      expect(told.splice(0)).toEqual(['a.short gone']);
      stop.abort();
      await watching;
      await other.create('a.z', '1');
      expect(await then()).toEqual([]);
    });

    test('10. other keys, prefixes and larger values are refused before anything is done', async () => {
      await using at = await opened();
      for (const key of ['', '.', 'a.', '.a', 'a..b', 'a b', 'a/b', 'ü', 'a*', 'x'.repeat(257)]) {
        await failure(() => at.one.get(key), 'bug');
        await failure(() => at.one.create(key, ''), 'bug');
        await failure(() => at.one.update(key, '', 1), 'bug');
        await failure(() => at.one.delete(key, 1), 'bug');
      }
      for (const prefix of ['a', '.', 'a..', 'a*.']) {
        await failure(() => at.one.list(prefix), 'bug');
        const watched = async () => {
          for await (const _change of at.one.watch(prefix, AbortSignal.abort()));
        };
        await failure(watched, 'bug');
      }
      await failure(() => at.one.create('a', 'ü'.repeat(VALUE_MAX_BYTES / 2 + 1)), 'bug');
      expect(await at.one.list('')).toEqual([]);
      expect(await at.one.create('x'.repeat(256), 'ü'.repeat(VALUE_MAX_BYTES / 2))).toBeGreaterThan(0);
    });
  });
}

function textOf(change: Change): string {
  return change.type === 'put' ? `${change.entry.key}=${change.entry.value}` : `${change.key} gone`;
}

function disposable(store: StoreUnderTest) {
  return {
    one: store.one,
    other: store.other,
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}
