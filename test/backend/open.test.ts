import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import type { HoldfastError } from '../../src/errors.ts';
import { openBackend } from '../../src/backend/open.ts';
import { keysAndSizes, patterned, rejects } from '../backend-helpers.ts';

/** No pause before a repetition. */
const noPause = { bytes: (length: number) => new Uint8Array(length) };

const seams = { clock: systemClock, random: systemRandom };

describe('opening a backend by its URL', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await fs.mkdtemp(join(tmpdir(), 'holdfast-open-'));
  });
  afterEach(() => fs.rm(folder, { recursive: true }));

  test('opens a folder that is there', async () => {
    await using backend = await openBackend({ name: 'nas', url: `file://${folder}` }, seams);
    await backend.put('a', patterned(3, 1));
    expect(await fs.readdir(folder)).toContain('a');
  });

  test('makes a folder only when told to', async () => {
    const url = `file://${folder}/new/place`;
    await rejects(openBackend({ name: 'nas', url }, seams), 'backend_unavailable');
    expect(await fs.readdir(folder)).toEqual([]);
    await using made = await openBackend({ name: 'nas', url }, { ...seams, create: true });
    await made.put('a', patterned(3, 1));
    await using again = await openBackend({ name: 'nas', url: `${url}/` }, seams);
    expect(await keysAndSizes(again, '')).toEqual([['a', 3]]);
  });

  test.each(['with space', 'ünï', '100%', 'a:b@c', 'what?#', 'back\\slash', 'C|', '~'])(
    'finds the folder %j by the URL that Node makes of its path',
    async (name) => {
      const path = join(folder, name);
      const url = pathToFileURL(path).href;
      await using backend = await openBackend({ name: 'nas', url }, { ...seams, create: true });
      await backend.put('a', patterned(3, 1));
      expect(await fs.readdir(path)).toContain('a');
    },
  );

  test('takes characters that need no encoding as they are', async () => {
    await using _ = await openBackend({ name: 'nas', url: `file://${folder}/a b\\|ü` }, { ...seams, create: true });
    expect(await fs.readdir(folder)).toEqual(['a b\\|ü']);
  });

  test.each([
    ['/mnt/nas', 'is none'],
    ['mnt/nas', 'is none'],
    ['', 'is none'],
    ['file:/mnt/nas', 'is none'],
    ['file:nas', 'is none'],
    ['file://host/mnt/nas', 'host'],
    ['file://localhost/mnt/nas', 'host'],
    ['file://', 'host'],
    ['file:///mnt/nas?x=1', 'query'],
    ['file:///mnt/nas#x', 'fragment'],
    ['file:///mnt/%2e%zz', 'valid path'],
    ['file:///mnt/%ff', 'valid path'],
    ['file:///mnt%2Fnas', 'valid path'],
    ['file:///mnt/%00', 'valid path'],
    ['file:///mnt/\tnas', 'valid path'],
    ['file:///mnt/nas\n', 'valid path'],
    ['file:///', 'root'],
    ['file:////', 'root'],
    ['file:///mnt/..', 'root'],
    ['s3://', 'bucket'],
    ['s3://ab/x', 'bucket'],
    ['s3://bucket/a//b', 'prefix'],
    ['s3://bucket/../x?endpoint=nothing', 'endpoint'],
    ['s3://bucket/x?endpoint=https://user:secret@host', 'endpoint'],
    ['s3://bucket/x?pathStyle=yes', 'pathStyle'],
    ['s3://bucket/x?lock=governance', 'lock'],
    ['s3://bucket/x?lock=none:30d', 'lock'],
    ['s3://bucket/x?lock=governance:0d', 'lock'],
    ['s3://bucket/x?lock=governance:999999999d', 'lock'],
    ['s3://bucket:80/x', 'port'],
    ['s3://me@bucket/x', 'user'],
    ['s3://bucket/x?endpoint=http://host:99999', 'endpoint'],
    ['sftp://%ff@host/x', 'user'],
    ['s3://bucket/x?secret=1', 'setting'],
    ['s3://bucket/x?region=', 'setting'],
    ['s3://bucket/x?region=a&region=b', 'setting'],
    ['s3://bucket/x?upload=fast', 'limit'],
    ['sftp://user@host/x?download=0MiB', 'nothing would ever arrive'],
    ['s3://key:secret@bucket/x', 'password'],
    ['sftp://host', 'path'],
    ['sftp://user@host/', 'path'],
    ['sftp://user@host/~/', 'path'],
    ['sftp:///x', 'no host'],
    ['sftp://host/x', 'names no user'],
    ['sftp://user@host/a/%2e%2e/%2e%2e/', 'path'],
    ['sftp://user@host/x?key=', 'setting'],
    ['sftp://user:secret@host/x', 'password'],
    ['http://x/y', 'URLs of http: are not supported'],
  ])('refuses %j with what is wrong', async (url, problem) => {
    const error = (await rejects(
      openBackend({ name: 'nas', url }, { ...seams, create: true }),
      'config_invalid',
    )) as HoldfastError;
    expect(error.message).toContain('backend nas: ');
    expect(error.message).toContain(problem);
    expect(error.hint).toBeDefined();
  });

  test.each([
    'sftp://user:hunter2@host/x',
    's3://key:hunter2@bucket/x?endpoint=https://y',
    's3://key:pass/hunter2@bucket/x',
    's3://key:hunter2@@bucket',
    'file://user:hunter2@/mnt',
    'https://:hunter2@host',
    'user:hunter2@host',
    'sftp:user:hunter2@host/x',
    'file:///mnt/%zz?password=hunter2',
  ])('prints nothing of a URL with a password (%#)', async (url) => {
    const error = await rejects(openBackend({ name: 'nas', url }, seams), 'config_invalid');
    expect(inspect(error, { depth: 9 })).not.toContain('hunter2');
  });

  test('names the password as the problem', async () => {
    const error = await rejects(openBackend({ name: 'nas', url: 'sftp://u:hunter2@host/x' }, seams), 'config_invalid');
    expect(error.message).toBe('backend nas: its URL carries a password');
  });

  test('connects to an IPv6 address', async () => {
    const ssh = { user: 'user', keyFiles: [], agentSocket: '/nonexistent', knownHostsFiles: [] };
    const opened = openBackend(
      { name: 'nas', url: 'sftp://user@[::1]:1/x' },
      { clock: systemClock, random: noPause, ssh },
    );
    const error = await rejects(opened, 'backend_unavailable');
    expect(error.message).not.toMatch(/ENOTFOUND|EAI_AGAIN/); // a name to be looked up
  });
});
