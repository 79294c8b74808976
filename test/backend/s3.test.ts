/** The S3 backend on a server (services/real.ts). What connections do to it is in s3-faults.test.ts. */
import {
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectRetentionCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  PutBucketPolicyCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { HoldfastError } from '../../src/errors.ts';
import { openS3, type S3Backend } from '../../src/backend/s3.ts';
import type { S3Location } from '../../src/backend/s3-client.ts';
import { collect, expectSame, keysAndSizes, patterned, rejects } from '../backend-helpers.ts';
import { backendSuite, ON_SERVER } from '../backend-suite.ts';
import { httpProxy } from '../fault-proxy.ts';
import { newBucket, type TestBucket } from '../services/bucket.ts';
import { s3Server } from '../services/real.ts';

const HOUR_MS = 3_600_000;
const MiB = 1024 * 1024;
/** As small as parts may be: two, and a rest. */
const parts = { fromBytes: 10 * MiB, bytes: 5 * MiB };
const large = patterned(11 * MiB, 1);
const s3 = await s3Server('S3 backend');

describe('an S3 backend', () => {
  const { server, gaps } = s3;
  const { endpoint, credentials, version } = server;
  let bucket: TestBucket;
  let opened: S3Backend[] = [];
  let prefixes = 0;

  beforeAll(async () => {
    bucket = await newBucket(server);
  });
  afterEach(async () => {
    for (const backend of opened) await backend[Symbol.asyncDispose]();
    opened = [];
  });
  afterAll(() => bucket.remove());

  async function open(
    location: Partial<S3Location> = {},
    { now = systemClock.now, client = {}, ...more }: Partial<Parameters<typeof openS3>[1]> = {},
  ): Promise<S3Backend> {
    const whole = { bucket: bucket.name, prefix: `own-${++prefixes}/`, endpoint, ...location };
    const backend = await openS3(whole, { name: 'cloud', now, parts, ...more, client: { credentials, ...client } });
    opened.push(backend);
    return backend;
  }

  // One for all, until a test has taken it away.
  let suiteBucket: TestBucket | undefined;
  afterAll(() => suiteBucket?.remove());
  backendSuite(
    's3',
    async () => {
      const own = (suiteBucket ??= await newBucket(server));
      const location = { bucket: own.name, prefix: `agents/${++prefixes}/`, endpoint };
      const reopen = () => openS3(location, { name: 'cloud', now: systemClock.now, client: { credentials } });
      const backend = await reopen();
      return {
        backend,
        reopen,
        finishesLate: true,
        loseStorage: async () => {
          suiteBucket = undefined;
          await own.remove();
        },
        cleanup: async () => backend[Symbol.asyncDispose](),
      };
    },
    ON_SERVER,
  );

  describe('opening', () => {
    test.each([
      ['a wrong secret', { accessKeyId: credentials.accessKeyId, secretAccessKey: 'wrong-hunter2' }],
      ['an unknown key', { accessKeyId: 'NOBODY', secretAccessKey: 'wrong-hunter2' }],
    ])('with %s says to check the credentials, and repeats no secret', async (_, wrong) => {
      const error = (await rejects(
        open({}, { client: { credentials: wrong } }),
        'backend_unavailable',
      )) as HoldfastError;
      expect(error.message).toMatch(
        /^backend cloud cannot look at the bucket: (SignatureDoesNotMatch|InvalidAccessKeyId)/,
      );
      expect(error.hint).toContain('Check the credentials');
      expect(error.retryable).toBe(false);
      expect(`${error.message}${error.hint}${String(error.cause)}`).not.toContain('hunter2');
    });

    test('a bucket that is not there is refused, and not made', async () => {
      for (let i = 0; i < 2; i++) {
        const error = (await rejects(open({ bucket: 'never-made' }), 'backend_unavailable')) as HoldfastError;
        expect(error.message).toContain('NoSuchBucket');
        expect(error.hint).toContain('Make the bucket first');
        expect(error.retryable).toBe(false);
      }
    });

    test('a server that is not there is worth another try', async () => {
      const error = (await rejects(open({ endpoint: 'http://127.0.0.1:1' }), 'backend_unavailable')) as HoldfastError;
      expect(error.message).toContain('ECONNREFUSED');
      expect(error.retryable).toBe(true);
    });

    test('a bucket of another account says that it is not allowed', async () => {
      const error = (await rejects(
        open({}, { client: { credentials: server.guest } }),
        'backend_unavailable',
      )) as HoldfastError;
      expect(error.message).toContain('AccessDenied');
      expect(error.hint).toContain('policy');
      expect(error.retryable).toBe(false);
    });

    test('a clock that is wrong says so; another try is made by the time of the server', async () => {
      const location = { bucket: bucket.name, prefix: 'skewed/', endpoint };
      const client = { credentials, systemClockOffset: 40 * 60_000 };
      const error = (await rejects(
        openS3(location, { name: 'cloud', now: systemClock.now, client }),
        'backend_unavailable',
      )) as HoldfastError;
      expect(error.message).toContain('RequestTimeTooSkewed');
      expect(error.hint).toContain('clock');
      expect(error.retryable).toBe(true);
    });
  });

  test('sees nothing outside its prefix, and harms nothing there', async () => {
    const [outer, one, other] = [
      await open({ prefix: '' }),
      await open({ prefix: 'p/a/' }),
      await open({ prefix: 'p/ab/' }),
    ];
    await outer.put('p/a', patterned(1, 0));
    await one.put('same', patterned(2, 1));
    await other.put('same', patterned(3, 2));
    expect(await keysAndSizes(one, '')).toEqual([['same', 2]]);
    expect(await keysAndSizes(other, 's')).toEqual([['same', 3]]);
    expect(await keysAndSizes(outer, 'p/')).toEqual([
      ['p/a', 1],
      ['p/a/same', 2],
      ['p/ab/same', 3],
    ]);
    await one.delete('same');
    expectSame(await other.get('same'), patterned(3, 2));
  });

  test('lists more than one page', async () => {
    const isLong = process.env['HOLDFAST_LONG'] === '1';
    const backend = await open({}, isLong ? {} : { pageKeys: 10 });
    const keys = Array.from({ length: isLong ? 1005 : 25 }, (_, i) => `packs/${String(i).padStart(4, '0')}`);
    const left = [...keys];
    const lane = async () => {
      for (let key = left.pop(); key !== undefined; key = left.pop()) await backend.put(key, new Uint8Array(0));
    };
    await Promise.all(Array.from({ length: 32 }, lane));
    expect((await collect(backend.list(''))).map(({ key }) => key).sort()).toEqual(keys);
  });

  describe('a large object', () => {
    test('goes in parts, of 8 MiB unless told otherwise, and is read back whole and in ranges across them', async () => {
      const larger = patterned(25 * MiB, 1);
      const backend = await open({ prefix: 'large/' }, { parts: undefined });
      expect(await backend.put('index/a', larger, { ifAbsent: true })).toBe('created');
      const { ETag } = await bucket.client.send(new HeadObjectCommand({ Bucket: bucket.name, Key: 'large/index/a' }));
      expect(ETag).toMatch(/-4"$/);
      expectSame(await backend.get('index/a'), larger);
      const range = { offset: 8 * MiB - 10, length: 20 };
      expectSame(await backend.get('index/a', range), larger.slice(range.offset, range.offset + range.length));
      expect(await bucket.unfinishedUploads()).toEqual([]);
    });

    test('is not sent where the key is taken', async () => {
      await using proxy = await httpProxy(Number(new URL(endpoint).port));
      const backend = await open({ endpoint: `http://127.0.0.1:${proxy.port}` });
      await backend.put('index/a', patterned(5, 5));
      proxy.plan({ effect: 'answer', status: 500, code: 'InternalError', on: /partNumber/ });
      expect(await backend.put('index/a', large, { ifAbsent: true })).toBe('exists');
      expect(proxy.fired).toBe(0);
      expectSame(await backend.get('index/a'), patterned(5, 5));
    });

    test('of several put at once with ifAbsent, one wins', async () => {
      const backend = await open();
      const bodies = [large, patterned(large.length, 2), patterned(large.length, 3)];
      const outcomes = await Promise.all(bodies.map((bytes) => backend.put('index/a', bytes, { ifAbsent: true })));
      expect(outcomes.toSorted()).toEqual(['created', 'exists', 'exists']);
      expectSame(await backend.get('index/a'), bodies[outcomes.indexOf('created')]);
      expect(await bucket.unfinishedUploads()).toEqual([]);
    });

    test('that is given up between its parts leaves none', async () => {
      await using proxy = await httpProxy(Number(new URL(endpoint).port));
      const backend = await open({ endpoint: `http://127.0.0.1:${proxy.port}` });
      proxy.plan({ effect: 'hang', on: /partNumber=2/ });
      const controller = new AbortController();
      const put = backend.put('index/a', large, { signal: controller.signal });
      while (proxy.fired === 0) await new Promise((resolve) => setImmediate(resolve));
      expect(await bucket.unfinishedUploads()).toHaveLength(1);
      controller.abort();
      await rejects(put, 'interrupted');
      expect(await bucket.unfinishedUploads()).toEqual([]);
      expect(await backend.head('index/a')).toBeUndefined();
    });
  });

  test('removes uploads that were begun a day ago and not finished, below its prefix only', async () => {
    const begin = (Key: string) => bucket.client.send(new CreateMultipartUploadCommand({ Bucket: bucket.name, Key }));
    await begin('elsewhere/a');
    for (let i = 0; i < 3; i++) await begin(`mine/index/${i}`);
    expect(await (await open({ prefix: 'mine/' })).cleanUp()).toBe(0);
    const tomorrow = await open({ prefix: 'mine/' }, { now: () => systemClock.now() + 25 * HOUR_MS });
    expect(await tomorrow.cleanUp()).toBe(3);
    expect(await bucket.unfinishedUploads()).toEqual(['elsewhere/a']);
    const other = await open({ prefix: 'elsewhere/' }, { now: () => systemClock.now() + 25 * HOUR_MS });
    expect(await other.cleanUp()).toBe(1);
  });

  test.each([
    ['a storage class', { storageClass: 'NO_SUCH_CLASS' }],
    ['encryption', { serverSideEncryption: 'aws:kms', kmsKeyId: 'none' }],
  ])('asks for %s, whole and in parts: a server that has it not refuses, and nothing is stored', async (_, asked) => {
    const backend = await open({ prefix: 'asked/', ...asked });
    for (const bytes of [patterned(10, 1), large]) {
      const error = (await rejects(backend.put('a', bytes), 'backend_unavailable')) as HoldfastError;
      expect(error).toMatchObject({ retryable: false, hint: expect.stringContaining('`storageClass`') as string });
      expect(await backend.head('a')).toBeUndefined();
    }
    expect(await bucket.unfinishedUploads()).toEqual([]);
  });

  test('bytes that changed in storage are damaged, not given', async () => {
    const backend = await open({ prefix: 'rot/' });
    await backend.put('a', patterned(1000, 1));
    const target = { Bucket: bucket.name, Key: 'rot/a' };
    const { Metadata } = await bucket.client.send(new HeadObjectCommand(target));
    await bucket.client.send(new PutObjectCommand({ ...target, Metadata, Body: patterned(1000, 2) }));
    await rejects(backend.get('a'), 'damaged');
    expectSame(await backend.get('a', { offset: 0, length: 9 }), patterned(9, 2)); // a part cannot be told
    // What something else wrote has nothing to be compared with.
    await bucket.client.send(new PutObjectCommand({ ...target, Body: patterned(1000, 2) }));
    expectSame(await backend.get('a'), patterned(1000, 2));
  });

  describe('conditional writes', () => {
    test('are found out to be there', async () => {
      expect(await (await open()).capabilities()).toEqual({ conditionalWrites: true });
    });

    test.each([
      ['refuses', 501],
      ['ignores', 200],
    ])('of a service that %s them are replaced by looking first', async (_, status) => {
      await using proxy = await httpProxy(Number(new URL(endpoint).port));
      const backend = await open({ endpoint: `http://127.0.0.1:${proxy.port}` });
      proxy.plan({ effect: 'answer', status, code: 'NotImplemented', on: /^PUT .*conditional-write/, times: 2 });
      expect(await backend.capabilities()).toEqual({ conditionalWrites: false });
      expect(proxy.fired).toBe(status === 501 ? 1 : 2);
      proxy.clear();
      expect(await backend.put('a', patterned(10, 1), { ifAbsent: true })).toBe('created');
      expect(await backend.put('a', patterned(10, 2), { ifAbsent: true })).toBe('exists');
      expectSame(await backend.get('a'), patterned(10, 1));
    });
  });

  test('credentials that may not delete are enough to store and read, and not to delete', async ({ skip }) => {
    skip(gaps.includes('bucket policies'), 'no bucket policies');
    await using own = Object.assign(await newBucket(server), { [Symbol.asyncDispose]: () => own.remove() });
    const allow = (Action: string[], Resource: string) => ({
      Effect: 'Allow',
      Principal: { AWS: ['arn:aws:iam:::user/guest'] },
      Action,
      Resource: [`arn:aws:s3:::${own.name}${Resource}`],
    });
    const Policy = JSON.stringify({
      Version: '2012-10-17',
      Statement: [allow(['s3:ListBucket'], ''), allow(['s3:GetObject', 's3:PutObject'], '/*')],
    });
    await own.client.send(new PutBucketPolicyCommand({ Bucket: own.name, Policy }));
    const backend = await open({ bucket: own.name }, { client: { credentials: server.guest } });
    expect(await backend.put('packs/a', patterned(10, 1), { ifAbsent: true })).toBe('created');
    expect(await backend.put('packs/a', patterned(10, 2), { ifAbsent: true })).toBe('exists');
    expect(await backend.put('index/a', large, { ifAbsent: true })).toBe('created');
    expectSame(await backend.get('packs/a'), patterned(10, 1));
    expect(await keysAndSizes(backend, 'packs')).toEqual([['packs/a', 10]]);
    const error = (await rejects(backend.delete('packs/a'), 'backend_unavailable')) as HoldfastError;
    expect(error.message).toContain('AccessDenied');
    expect(error.retryable).toBe(false);
    expectSame(await backend.get('packs/a'), patterned(10, 1));
  });

  describe.skipIf(gaps.includes('Object Lock'))('with Object Lock', () => {
    // Nobody can remove the bucket before its objects are free: it ends with the server.
    let locked: TestBucket;
    beforeAll(async () => {
      locked = await newBucket(server, { lock: true });
    });
    const days = 3;
    const objectLock = { mode: 'governance', days } as const;

    test.each([
      ['small', patterned(100, 1)],
      ['large', large],
    ])('keeps each object that it stores for so many days (%s)', async (key, bytes) => {
      const backend = await open({ bucket: locked.name, prefix: 'l/', objectLock });
      const from = systemClock.now();
      expect(await backend.put(key, bytes)).toBe('created');
      const target = { Bucket: locked.name, Key: `l/${key}` };
      const { Retention } = await locked.client.send(new GetObjectRetentionCommand(target));
      expect(Retention?.Mode).toBe('GOVERNANCE');
      const kept = (Retention?.RetainUntilDate?.getTime() ?? 0) - from;
      expect(kept).toBeGreaterThanOrEqual(days * 24 * HOUR_MS - 1000);
      expect(kept).toBeLessThan(days * 24 * HOUR_MS + 60_000);

      // Deleting hides it; what is stored stays.
      await backend.delete(key);
      await rejects(backend.get(key), 'not_found');
      const { Versions = [] } = await locked.client.send(
        new ListObjectVersionsCommand({ Bucket: locked.name, Prefix: target.Key }),
      );
      expect(Versions).toHaveLength(1);
      const VersionId = Versions[0]?.VersionId;
      await expect(locked.client.send(new DeleteObjectCommand({ ...target, VersionId }))).rejects.toThrow(
        'forbidden by object lock',
      );
    });

    test('extends a lock, and leaves one that is longer already', async () => {
      const shorter = await open({ bucket: locked.name, prefix: 'e/', objectLock: { ...objectLock, days: 1 } });
      const longer = await open({ bucket: locked.name, prefix: 'e/', objectLock });
      const until = async () => {
        const target = { Bucket: locked.name, Key: 'e/a' };
        const { Retention } = await locked.client.send(new GetObjectRetentionCommand(target));
        return Retention?.RetainUntilDate?.getTime() ?? 0;
      };
      await shorter.put('a', patterned(3, 1));
      const first = await until();
      await longer.lock?.extend('a');
      const extended = await until();
      expect(extended - first).toBeGreaterThan((days - 1) * 24 * HOUR_MS - 60_000);
      await shorter.lock?.extend('a');
      expect(await until()).toBe(extended);
      await rejects(longer.lock?.extend('none') ?? Promise.resolve(), 'not_found');
    });

    test('a bucket that has none refuses', async () => {
      const backend = await open({ objectLock });
      const error = (await rejects(backend.put('a', patterned(3, 1)), 'backend_unavailable')) as HoldfastError;
      expect(error.retryable).toBe(false);
      expect(await backend.head('a')).toBeUndefined();
    });

    test.runIf(version >= 20)('does not replace with ifAbsent what is there already', async () => {
      const backend = await open({ bucket: locked.name, objectLock });
      expect(await backend.put('a', patterned(10, 1), { ifAbsent: true })).toBe('created');
      expect(await backend.put('a', patterned(10, 2), { ifAbsent: true })).toBe('exists');
      expectSame(await backend.get('a'), patterned(10, 1));
    });
  });
});
