/** The contract of a backend, kept by S3 and SFTP under guard while the network between fails now and then. */
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { openGuarded } from '../../src/backend/guarded.ts';
import { openS3 } from '../../src/backend/s3.ts';
import { openSftp } from '../../src/backend/sftp.ts';
import { backendSuite, ON_SERVER } from '../backend-suite.ts';
import { httpProxy, tcpProxy } from '../fault-proxy.ts';
import { newBucket } from '../services/bucket.ts';
import { s3Server, sftpServer } from '../services/real.ts';

const NAME = 'backend contract behind a bad network';
const s3 = await s3Server(NAME);
const sftp = await sftpServer(NAME);
/** No pause before a repetition. */
const noPause = { bytes: (length: number) => new Uint8Array(length) };
let places = 0;

describe('S3 through a proxy that throttles, refuses, cuts and corrupts', async () => {
  const { endpoint, credentials } = s3.server;
  const proxy = await httpProxy(Number(new URL(endpoint).port));
  const bucket = await newBucket(s3.server);
  const often = { times: Infinity };
  proxy.plan(
    { effect: 'answer', status: 503, code: 'SlowDown', every: 23, nth: 3, ...often },
    { effect: 'refuse', every: 29, nth: 5, ...often },
    { effect: 'cut', direction: 'up', bytes: 2, every: 17, on: /^PUT/, ...often },
    { effect: 'cut', direction: 'down', bytes: 30, every: 17, on: /^GET/, ...often },
    { effect: 'corrupt', direction: 'up', bytes: 1, every: 19, on: /^PUT/, ...often },
  );
  afterAll(async () => {
    await proxy[Symbol.asyncDispose]();
    await bucket.remove();
  });
  backendSuite(
    's3 under guard',
    async () => {
      const location = { bucket: bucket.name, prefix: `${++places}/`, endpoint: `http://127.0.0.1:${proxy.port}` };
      const name = 'cloud';
      const reopen = () =>
        openGuarded((signal) => openS3(location, { name, now: systemClock.now, client: { credentials }, signal }), {
          name,
          clock: systemClock,
          random: noPause,
        });
      const backend = await reopen();
      return { backend, reopen, finishesLate: true, cleanup: async () => backend[Symbol.asyncDispose]() };
    },
    ON_SERVER,
  );
  test('each of these faults happened', () => {
    proxy.assertAllFired();
    expect(proxy.fired).toBeGreaterThan(100);
  });
});

describe('SFTP over connections that are cut', async () => {
  const { host, user, keyFile, folder, knownHostsFile, port } = sftp.server;
  const proxy = await tcpProxy(port);
  const known = join(folder, '..', `known_hosts-${proxy.port}`);
  await fs.writeFile(known, (await fs.readFile(knownHostsFile, 'utf8')).replace(/\]:\d+/, `]:${proxy.port}`));
  afterAll(() => proxy[Symbol.asyncDispose]());
  let cuts = 0;
  backendSuite(
    'sftp under guard',
    async () => {
      const path = join(folder, `guarded-${++places}`);
      const location = { host, port: proxy.port, user, path, keyFiles: [keyFile], knownHostsFiles: [known] };
      const name = 'ship';
      const reopen = () =>
        openGuarded(() => openSftp(location, { name, clock: systemClock, random: systemRandom, create: true }), {
          name,
          clock: systemClock,
          random: noPause,
        });
      const backend = await reopen();
      const disturb = () => void proxy.plan({ effect: 'cut', direction: 'up', bytes: 300 + ((++cuts * 997) % 3000) });
      disturb();
      return {
        backend,
        reopen,
        finishesLate: true,
        disturb,
        async cleanup() {
          await backend[Symbol.asyncDispose]();
          await fs.rm(path, { recursive: true, force: true });
        },
      };
    },
    ON_SERVER,
  );
  test('connections were cut', () => {
    expect(proxy.fired).toBeGreaterThan(20);
  });
});
