/** The S3 backend on a server, with something in between that harms what passes. It makes each call once: an error says whether to repeat it. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { HoldfastError } from '../../src/errors.ts';
import { openS3, type S3Backend } from '../../src/backend/s3.ts';
import { collect, expectSame, keysAndSizes, notFoundAsUndefined, patterned, rejects } from '../backend-helpers.ts';
import { httpProxy, type Fault, type FaultProxy } from '../fault-proxy.ts';
import { newBucket, type TestBucket } from '../services/bucket.ts';
import { s3Server } from '../services/real.ts';

const MiB = 1024 * 1024;
/** As small as parts may be: two, and a rest. */
const parts = { fromBytes: 10 * MiB, bytes: 5 * MiB };
const s3 = await s3Server('S3 backend under faults');

describe('an S3 backend behind a bad network', () => {
  const { endpoint, credentials } = s3.server;
  let bucket: TestBucket;
  let proxy: FaultProxy;
  let backend: S3Backend;

  beforeAll(async () => {
    bucket = await newBucket(s3.server);
    proxy = await httpProxy(Number(new URL(endpoint).port));
    const location = { bucket: bucket.name, prefix: 'p/', endpoint: `http://127.0.0.1:${proxy.port}` };
    backend = await openS3(location, { name: 'cloud', now: systemClock.now, client: { credentials }, parts });
    await backend.put('there', patterned(200_000, 9), { ifAbsent: true }); // finds out the capabilities, too
  });
  afterAll(async () => {
    await backend[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await bucket.remove();
  });
  // Each test finds no fault, and nothing but this object.
  beforeEach(async () => {
    proxy.clear();
    for (const { key } of await collect(backend.list(''))) if (key !== 'there') await backend.delete(key);
  });

  const calls: [name: string, on: RegExp, call: (signal?: AbortSignal) => Promise<unknown>][] = [
    ['put', /^PUT/, (signal) => backend.put('new', patterned(300_000, 1), { ifAbsent: true, signal })],
    ['get', /^GET .*there/, (signal) => backend.get('there', undefined, { signal })],
    ['get of a range', /^GET .*there/, (signal) => backend.get('there', { offset: 5, length: 100_000 }, { signal })],
    ['head', /^HEAD/, (signal) => backend.head('there', { signal })],
    ['list', /^GET .*list-type/, (signal) => collect(backend.list('', { signal }))],
    ['delete', /^DELETE/, (signal) => backend.delete('never', { signal })],
  ];
  const fails = async (call: Promise<unknown>, message?: string | RegExp): Promise<HoldfastError> => {
    const error = (await rejects(call, 'backend_unavailable')) as HoldfastError;
    expect(error.retryable, error.message).toBe(true);
    if (message !== undefined) expect(error.message).toMatch(message);
    return error;
  };

  describe.each(calls)('%s', (name, on, call) => {
    const faults: [what: string, fault: Fault, message: RegExp][] = [
      ['throttled', { effect: 'answer', status: 503, code: 'SlowDown' }, /SlowDown|503/],
      ['that finds the service ill', { effect: 'answer', status: 500, code: 'InternalError' }, /InternalError|500/],
      ['that finds too many requests', { effect: 'answer', status: 429, code: 'TooManyRequests' }, /TooMany|429/],
      ['that meets another', { effect: 'answer', status: 409, code: 'ConditionalRequestConflict' }, /Conflict|409/],
      ['refused', { effect: 'refuse' }, /ECONNRESET|socket hang up/],
      ['whose answer is lost', { effect: 'lose-answer' }, /ECONNRESET|socket hang up/],
    ];
    test.each(faults)('%s is worth another try, which succeeds', async (_, fault, message) => {
      proxy.plan({ ...fault, on });
      await fails(call(), message);
      proxy.assertAllFired();
      await call();
      expect(proxy.fired).toBe(1);
    });

    test.each([
      ['is never answered', { effect: 'hang' }],
      ...(name === 'put'
        ? [['goes out byte by byte', { effect: 'slow', direction: 'up', bytesPerSecond: 200 }]]
        : name.startsWith('get') || name === 'list'
          ? [['comes byte by byte', { effect: 'slow', direction: 'down', bytesPerSecond: 200 }]]
          : []),
    ] as [string, Fault][])('that %s ends when it is given up', async (_, fault) => {
      proxy.plan({ ...fault, on });
      const controller = new AbortController();
      const calling = call(controller.signal);
      const outcome = rejects(calling, 'interrupted');
      while (proxy.fired === 0) await new Promise((resolve) => setImmediate(resolve));
      controller.abort();
      await outcome;
      proxy.assertAllFired();
      await call();
    });
  });

  test.each([0, 1, 65_536, 299_999])('a put that is cut after %i bytes leaves nothing', async (bytes) => {
    proxy.plan({ effect: 'cut', direction: 'up', bytes, on: /^PUT/ });
    await fails(backend.put('new', patterned(300_000, 1), { ifAbsent: true }));
    proxy.assertAllFired();
    expect(await backend.head('new')).toBeUndefined();
    expect(await backend.put('new', patterned(300_000, 2), { ifAbsent: true })).toBe('created');
  });

  test('a replacement that is cut leaves the old bytes', async () => {
    proxy.plan({ effect: 'cut', direction: 'up', bytes: 100_000, on: /^PUT/ });
    await fails(backend.put('there', patterned(150_000, 1)));
    proxy.assertAllFired();
    expectSame(await backend.get('there'), patterned(200_000, 9));
  });

  test('a put whose answer was lost is found to exist when it is repeated', async () => {
    proxy.plan({ effect: 'lose-answer', on: /^PUT/ });
    await fails(backend.put('new', patterned(300_000, 1), { ifAbsent: true }));
    expect(await backend.put('new', patterned(300_000, 1), { ifAbsent: true })).toBe('exists');
    expectSame(await backend.get('new'), patterned(300_000, 1));
    proxy.assertAllFired();
  });

  test.each([0, 1, 65_536, 199_999])('a get that is cut after %i bytes gives none', async (bytes) => {
    proxy.plan({ effect: 'cut', direction: 'down', bytes, on: /^GET/ });
    await fails(backend.get('there'));
    proxy.assertAllFired();
    expectSame(await backend.get('there'), patterned(200_000, 9));
  });

  test('the answer that there is no such object, when it is cut, is no answer', async () => {
    for (const range of [undefined, { offset: 0, length: 5 }]) {
      proxy.plan({ effect: 'cut', direction: 'down', bytes: 20, on: /^GET/ });
      await fails(backend.get('none', range));
      await rejects(backend.get('none', range), 'not_found');
    }
    proxy.assertAllFired();
  });

  test('a listing that is cut is no listing', async () => {
    for (let i = 0; i < 10; i++) await backend.put(`k/${i}`, patterned(i, 1));
    for (const bytes of [0, 10, 500, 2000]) {
      proxy.plan({ effect: 'cut', direction: 'down', bytes, on: /list-type/ });
      await fails(collect(backend.list('k/')));
    }
    proxy.assertAllFired();
    expect(await keysAndSizes(backend, 'k/')).toHaveLength(10);
  });

  test('bytes that change on their way there are refused by the server', async () => {
    for (const bytes of [0, 70_000, 299_999]) {
      proxy.plan({ effect: 'corrupt', direction: 'up', bytes, on: /^PUT/ });
      await fails(backend.put('new', patterned(300_000, 1), { ifAbsent: true }), /BadDigest|XAmzContentSHA256Mismatch/);
    }
    proxy.assertAllFired();
    expect(await backend.head('new')).toBeUndefined();
  });

  test('bytes that change on their way back are asked for again', async () => {
    for (const bytes of [0, 70_000, 199_999]) {
      proxy.plan({ effect: 'corrupt', direction: 'down', bytes, on: /^GET/ });
      expectSame(await backend.get('there'), patterned(200_000, 9));
    }
    proxy.plan({ effect: 'corrupt', direction: 'down', bytes: 9, on: /^GET/, times: 2 });
    await rejects(backend.get('there'), 'damaged');
    proxy.assertAllFired();
  });

  describe('a put in parts', () => {
    const large = patterned(11 * MiB, 1);

    test.each([
      ['is throttled', { effect: 'answer', status: 503, code: 'SlowDown', on: /partNumber=2/ }],
      ['is cut', { effect: 'cut', direction: 'up', bytes: 300_000, on: /partNumber=3/ }],
      ['changes on its way', { effect: 'corrupt', direction: 'up', bytes: 3_000_000, on: /partNumber=1/ }],
    ] as [string, Fault][])(
      'of which one %s sends it once more; when that fails too, nothing is left',
      async (_, fault) => {
        proxy.plan(fault);
        expect(await backend.put('larger', large, { ifAbsent: true })).toBe('created');
        expectSame(await backend.get('larger'), large);
        proxy.assertAllFired();
        proxy.plan({ ...fault, times: 2 });
        await fails(backend.put('large', large, { ifAbsent: true }));
        proxy.assertAllFired();
        expect(await backend.head('large')).toBeUndefined();
        expect(await bucket.unfinishedUploads()).toEqual([]);
      },
    );

    test('whose last answer is lost is whole', async () => {
      proxy.plan({ effect: 'lose-answer', on: /^POST .*uploadId/ });
      await fails(backend.put('large', large, { ifAbsent: true }));
      proxy.assertAllFired();
      expect(await backend.put('large', large, { ifAbsent: true })).toBe('exists');
      expectSame(await backend.get('large'), large);
    });

    test('of which the clean-up fails too leaves an upload that cleanUp removes', async () => {
      proxy.plan(
        { effect: 'answer', status: 500, code: 'InternalError', on: /partNumber=2/, times: 2 },
        { effect: 'refuse', on: /^DELETE/ },
      );
      await fails(backend.put('large', large), /InternalError/);
      proxy.assertAllFired();
      expect(await bucket.unfinishedUploads()).toHaveLength(1);
      const location = { bucket: bucket.name, prefix: '', endpoint };
      const now = () => systemClock.now() + 25 * 3_600_000;
      await using tomorrow = await openS3(location, { name: 'cloud', now, client: { credentials } });
      expect(await tomorrow.cleanUp()).toBe(1);
      expect(await bucket.unfinishedUploads()).toEqual([]);
    });
  });

  test('the first put after capabilities could not be found out asks again', async () => {
    const location = { bucket: bucket.name, prefix: 'other/', endpoint: `http://127.0.0.1:${proxy.port}` };
    await using fresh = await openS3(location, { name: 'cloud', now: systemClock.now, client: { credentials } });
    proxy.plan({ effect: 'answer', status: 503, code: 'SlowDown', on: /conditional-write/ });
    await fails(fresh.put('a', patterned(3, 1), { ifAbsent: true }));
    expect(await fresh.put('a', patterned(3, 1), { ifAbsent: true })).toBe('created');
    expect(await fresh.put('a', patterned(3, 2), { ifAbsent: true })).toBe('exists');
    proxy.assertAllFired();
  });

  test('a call goes on when the one that asked for the capabilities is given up', async () => {
    const location = { bucket: bucket.name, prefix: 'third/', endpoint: `http://127.0.0.1:${proxy.port}` };
    await using fresh = await openS3(location, { name: 'cloud', now: systemClock.now, client: { credentials } });
    proxy.plan({ effect: 'hang', on: /conditional-write/ });
    const impatient = new AbortController();
    const first = rejects(fresh.put('a', patterned(3, 1), { ifAbsent: true, signal: impatient.signal }), 'interrupted');
    const second = fresh.put('b', patterned(3, 1), { ifAbsent: true });
    setTimeout(() => impatient.abort(), 50);
    await first;
    expect(await second).toBe('created');
    proxy.assertAllFired();
  });

  test('opening ends when it is given up', async () => {
    const location = { bucket: bucket.name, prefix: '', endpoint: `http://127.0.0.1:${proxy.port}` };
    proxy.plan({ effect: 'hang' });
    const options = { name: 'cloud', now: systemClock.now, client: { credentials }, signal: AbortSignal.timeout(50) };
    await rejects(openS3(location, options), 'interrupted');
    proxy.assertAllFired();
  });

  test('a server that is killed and comes back is used again, and kept what it acknowledged', async () => {
    await using own = await s3.startOwn();
    const ownBucket = await newBucket(own);
    const location = { bucket: ownBucket.name, prefix: '', endpoint: own.endpoint };
    await using other = await openS3(location, { name: 'cloud', now: systemClock.now, client: { credentials } });
    await other.put('before', patterned(1000, 1), { ifAbsent: true });
    const put = other.put('during', patterned(20 * MiB, 1), { ifAbsent: true });
    const outcome = put.catch((error: unknown) => error as HoldfastError);
    await own.kill();
    const during = await outcome;
    if (during !== 'created') expect(during).toMatchObject({ code: 'backend_unavailable', retryable: true });
    await fails(other.get('before'), /ECONNREFUSED|ECONNRESET/);
    await own.restart();
    expectSame(await other.get('before'), patterned(1000, 1));
    const got = await other.get('during').catch(notFoundAsUndefined);
    if (got || during === 'created') expectSame(got, patterned(20 * MiB, 1));
  });

  test('a transfer on which nothing moves any more is given up, while other calls are answered', async () => {
    const location = { bucket: bucket.name, prefix: 'silent/', endpoint: `http://127.0.0.1:${proxy.port}` };
    const options = { name: 'cloud', now: systemClock.now, client: { credentials }, silentMs: 300 };
    await using impatient = await openS3(location, options);
    await impatient.put('there', patterned(200_000, 9), { ifAbsent: true });
    for (const [on, call] of [
      [/^PUT/, () => impatient.put('new', patterned(300_000, 1), { ifAbsent: true })],
      [/^GET .*there/, () => impatient.get('there')],
    ] as const) {
      proxy.plan({ effect: 'hang', on });
      await fails(call());
      await call();
    }
    proxy.assertAllFired();
  });
});
