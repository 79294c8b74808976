/** The SFTP backend on a server, with something in between that harms what passes, and with servers that die. */
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom, type Clock } from '../../src/clock.ts';
import type { HoldfastError } from '../../src/errors.ts';
import { openSftp, type SftpBackend } from '../../src/backend/sftp.ts';
import { collect, expectSame, notFoundAsUndefined, patterned, rejects } from '../backend-helpers.ts';
import { tcpProxy, type Direction, type Fault, type FaultProxy } from '../fault-proxy.ts';
import { sftpServer } from '../services/real.ts';
import type { SftpServer } from '../services/servers.ts';

const sftp = await sftpServer('SFTP backend under faults');
const isLong = process.env['HOLDFAST_LONG'] === '1';

describe('an SFTP backend behind a bad network', () => {
  const { server } = sftp;
  let proxy: FaultProxy;
  let backend: SftpBackend;
  let path: string;
  /** What the backend takes for the time that passed. */
  let elapsed = 0;
  const clock: Clock = { ...systemClock, monotonic: () => elapsed };

  async function openAt(at: SftpServer, port: number, folder: string): Promise<SftpBackend> {
    const { host, user, keyFile } = at;
    // The proxy has another port: known_hosts must name the key under it.
    const knownHostsFile = `${at.knownHostsFile}-${port}`;
    const known = await fs.readFile(at.knownHostsFile, 'utf8');
    await fs.writeFile(knownHostsFile, known.replace(/\]:\d+/, `]:${port}`));
    const location = { host, port, user, path: folder, keyFiles: [keyFile], knownHostsFiles: [knownHostsFile] };
    return openSftp(location, { name: 'ship', clock, random: systemRandom, create: true });
  }

  beforeAll(async () => {
    proxy = await tcpProxy(server.port);
    path = join(server.folder, 'faults');
    backend = await openAt(server, proxy.port, path);
    await backend.put('there', patterned(200_000, 9), { ifAbsent: true });
  });
  afterAll(async () => {
    await backend[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await fs.rm(path, { recursive: true });
  });
  // Each test finds no fault, a connection that works, and nothing but this object.
  beforeEach(async () => {
    proxy.clear();
    const list = () => collect(backend.list(''));
    for (const { key } of await list().catch(list)) if (key !== 'there') await backend.delete(key);
  });

  const fails = async (call: Promise<unknown>, message?: string | RegExp): Promise<void> => {
    const error = (await rejects(call, 'backend_unavailable')) as HoldfastError;
    expect(error.retryable, error.message).toBe(true);
    if (message !== undefined) expect(error.message).toMatch(message);
  };
  const calls: [name: string, call: (signal?: AbortSignal) => Promise<unknown>][] = [
    ['put', (signal) => backend.put('new', patterned(300_000, 1), { ifAbsent: true, signal })],
    ['replacement', (signal) => backend.put('there', patterned(200_000, 9), { signal })],
    ['get', (signal) => backend.get('there', undefined, { signal })],
    ['head', (signal) => backend.head('there', { signal })],
    ['list', (signal) => collect(backend.list('', { signal }))],
    ['delete', (signal) => backend.delete('never', { signal })],
  ];

  describe.each(calls)('%s', (_, call) => {
    test.each(['up', 'down'] as Direction[])(
      'whose connection is cut (%s) is worth another try, which succeeds',
      async (direction) => {
        proxy.plan({ effect: 'cut', direction, bytes: 20 });
        await fails(call());
        proxy.assertAllFired();
        await call();
        expectSame(await backend.get('there'), patterned(200_000, 9));
      },
    );

    test.each(['up', 'down'] as Direction[])(
      'of which a byte changes (%s) is noticed, and worth another try',
      async (direction) => {
        proxy.plan({ effect: 'corrupt', direction, bytes: 30 });
        await fails(call());
        proxy.assertAllFired();
        await call();
        expectSame(await backend.get('there'), patterned(200_000, 9));
      },
    );

    test.each([
      ['is never answered', { effect: 'hang' }],
      ['goes out byte by byte', { effect: 'slow', direction: 'up', bytesPerSecond: 50 }],
      ['comes back byte by byte', { effect: 'slow', direction: 'down', bytesPerSecond: 5 }],
    ] as [string, Fault][])('that %s ends when it is given up', async (_what, fault) => {
      proxy.plan(fault);
      const controller = new AbortController();
      const outcome = rejects(call(controller.signal), 'interrupted');
      while (proxy.fired === 0) await new Promise((resolve) => setImmediate(resolve));
      elapsed += 30_000;
      controller.abort();
      await outcome;
      proxy.assertAllFired();
      // From a connection that is dead the next call does not suffer; one that is only slow would be used on.
      if (fault.effect === 'slow') proxy.cutAll();
      else await call();
    });
  });

  test.each(isLong ? [100, 5_000, 100_000, 290_000] : [100, 100_000, 290_000])(
    'a put that is cut after %i bytes leaves nothing to be seen',
    async (bytes) => {
      for (const ifAbsent of [true, false]) {
        proxy.plan({ effect: 'cut', direction: 'up', bytes });
        await fails(backend.put('new', patterned(300_000, 1), { ifAbsent }));
        expect(await backend.head('new')).toBeUndefined();
        expect((await collect(backend.list(''))).map(({ key }) => key)).toEqual(['there']);
        await fails(
          (proxy.plan({ effect: 'cut', direction: 'up', bytes }), backend.put('there', patterned(300_000, 1))),
        );
        expectSame(await backend.get('there'), patterned(200_000, 9));
      }
      proxy.assertAllFired();
    },
  );

  test('a put that is cut at any of its answers is whole or absent, and succeeds when repeated', async () => {
    const seen = new Set<string>();
    for (let bytes = 0; bytes < 1200; bytes += isLong ? 44 : 110) {
      const key = `packs/ab/${bytes}`;
      proxy.plan({ effect: 'cut', direction: 'down', bytes });
      const outcome = await backend
        .put(key, patterned(5000, bytes), { ifAbsent: true })
        .catch((error: unknown) => error);
      if (outcome !== 'created') expect(outcome).toMatchObject({ code: 'backend_unavailable', retryable: true });
      proxy.clear();
      const got = await backend.get(key).catch(notFoundAsUndefined);
      if (got) expectSame(got, patterned(5000, bytes));
      seen.add(`${outcome === 'created' ? 'created' : 'failed'}, ${got ? 'whole' : 'absent'}`);
      expect(await backend.put(key, patterned(5000, bytes), { ifAbsent: true })).toBe(got ? 'exists' : 'created');
    }
    expect([...seen].sort()).toEqual(['created, whole', 'failed, absent', 'failed, whole']);
  });

  test.each([0, 40_000, 150_000])('a get that is cut after %i bytes gives none', async (bytes) => {
    proxy.plan({ effect: 'cut', direction: 'down', bytes });
    await fails(backend.get('there'));
    proxy.assertAllFired();
    expectSame(await backend.get('there'), patterned(200_000, 9));
  });

  test('many calls at once whose connection is cut all fail, and share one new connection', async () => {
    const { accepted } = proxy;
    proxy.plan({ effect: 'cut', direction: 'down', bytes: 1000 });
    const many = await Promise.allSettled(Array.from({ length: 30 }, () => backend.get('there')));
    expect(many.every(({ status }) => status === 'rejected')).toBe(true);
    proxy.assertAllFired();
    proxy.clear();
    const again = await Promise.all(Array.from({ length: 30 }, () => backend.get('there')));
    for (const bytes of again) expectSame(bytes, patterned(200_000, 9));
    expect(proxy.accepted).toBe(accepted + 1);
  });

  test('a connection that is refused is worth another try', async () => {
    proxy.cutAll();
    await fails(backend.head('there'));
    proxy.plan({ effect: 'refuse' });
    await fails(backend.head('there'), 'cannot connect');
    proxy.assertAllFired();
    expect(await backend.head('there')).toEqual({ size: 200_000 });
  });

  test.each([0, 30, 1500])('a handshake that is cut after %i bytes is worth another try', async (bytes) => {
    proxy.plan({ effect: 'cut', direction: 'down', bytes });
    await fails(openAt(server, proxy.port, path), 'cannot connect');
    proxy.assertAllFired();
    await using _ = await openAt(server, proxy.port, path);
  });

  test('a server that answers nothing at all does not keep the backend from being closed', async () => {
    const own = await openAt(server, proxy.port, path);
    proxy.plan({ effect: 'hang', times: Infinity });
    const controller = new AbortController();
    const outcome = rejects(own.get('there', undefined, { signal: controller.signal }), 'interrupted');
    while (proxy.fired === 0) await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    await outcome;
    await own[Symbol.asyncDispose]();
    await rejects(own.head('there'), 'bug');
    proxy.cutAll(); // what was held back passes nothing any more
  });

  test('a server that is killed and comes back is used again, and kept what it acknowledged', async () => {
    await using own = await sftp.startOwn();
    await using other = await openAt(own, own.port, join(own.folder, 'a'));
    await other.put('before', patterned(1000, 1), { ifAbsent: true });
    const put = other.put('during', patterned(20_000_000, 1), { ifAbsent: true }).catch((error: unknown) => error);
    const temporary = join(own.folder, 'a/tmp');
    while ((await fs.readdir(temporary)).length === 0) await new Promise((resolve) => setImmediate(resolve));
    await own.kill();
    expect(await put).toMatchObject({ code: 'backend_unavailable', retryable: true });
    await fails(other.get('before'), 'cannot connect');
    await own.restart();
    expectSame(await other.get('before'), patterned(1000, 1));
    expect(await other.head('during')).toBeUndefined();
    expect(await other.put('during', patterned(20_000_000, 1), { ifAbsent: true })).toBe('created');
  });
});
