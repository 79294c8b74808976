/** The real program on a folder, S3 and SFTP at once, against servers. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { openS3 } from '../../src/backend/s3.ts';
import { openSftp } from '../../src/backend/sftp.ts';
import type { Backend } from '../../src/backend/backend.ts';
import { keysAndSizes } from '../backend-helpers.ts';
import { newBucket, type TestBucket } from '../services/bucket.ts';
import { s3Server, sftpServer } from '../services/real.ts';
import type { Running, S3Server } from '../services/servers.ts';
import { PROGRAM, run, type Ended } from './run.ts';
import { runWarm } from './warm.ts';

const s3 = await s3Server('a folder, S3 and SFTP at once');
const sftp = await sftpServer('a folder, S3 and SFTP at once');

describe('an agent on a folder, S3 and SFTP', () => {
  let folder: string;
  let server: S3Server & Running & AsyncDisposable;
  let bucket: TestBucket;
  let sftpPath: string;
  let packOfBlob: string;
  const at = (...names: string[]) => join(folder, ...names);

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-three-'));
    server = await s3.startOwn(); // of its own, since it is killed
    bucket = await newBucket(server);
    sftpPath = `${sftp.server.folder}/three-${process.pid}`;
    mkdirSync(at('state'));
    mkdirSync(at('home'));
    writeFileSync(at('state', 'MEMORY.md'), 'likes short answers\n');
    writeFileSync(at('state', 'blob'), randomBytes(3_000_000));
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  const holdfast = (args: readonly string[], meanwhile?: () => void): Promise<Ended> => {
    const env = {
      HOME: at('home'),
      XDG_STATE_HOME: '',
      XDG_CACHE_HOME: '',
      XDG_CONFIG_HOME: '',
      AWS_ACCESS_KEY_ID: server.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: server.credentials.secretAccessKey,
    };
    return meanwhile ? run(PROGRAM, args, { cwd: folder, env, meanwhile }) : runWarm(args, { cwd: folder, env });
  };
  const json = <T>({ stdout }: Ended) => JSON.parse(stdout) as T;

  const urls = () => {
    const { host, port, user, keyFile, knownHostsFile } = sftp.server;
    return {
      cloud: `s3://${bucket.name}/ada?endpoint=${server.endpoint}`,
      ship: `sftp://${user}@${host}:${port}${sftpPath}?key=${keyFile}&knownHosts=${knownHostsFile}`,
    };
  };

  async function listings(): Promise<[string, number][][]> {
    const { credentials, endpoint } = server;
    const { host, port, user, keyFile, knownHostsFile } = sftp.server;
    const place = { host, port, user, path: sftpPath, keyFiles: [keyFile], knownHostsFiles: [knownHostsFile] };
    const backends: Backend[] = [
      await openS3(
        { bucket: bucket.name, prefix: 'ada/', endpoint },
        { name: 'cloud', now: systemClock.now, client: { credentials } },
      ),
      await openSftp(place, { name: 'ship', clock: systemClock, random: systemRandom }),
    ];
    const found: [string, number][][] = [];
    for (const backend of backends) {
      found.push((await keysAndSizes(backend, '')).map(([key, size]) => [key, size]));
      await backend[Symbol.asyncDispose]();
    }
    const disk = spawnSync('find', [at('disk'), '-type', 'f', '-printf', '%P %s\n'], { encoding: 'utf8' }).stdout;
    const files = disk.split('\n').filter((line) => line !== '' && !line.startsWith('tmp/'));
    return [
      files.map((line): [string, number] => [line.split(' ')[0] ?? '', Number(line.split(' ')[1])]).toSorted(),
      ...found.map((one) => one.toSorted()),
    ];
  }

  test('one backup goes to all three, byte for byte the same', async () => {
    const flags = Object.entries({ disk: `file://${at('disk')}`, ...urls() }).flatMap(([name, url]) => [
      '--backend',
      `${name}=${url}`,
    ]);
    const made = await holdfast([
      'init',
      '--handle',
      'ada',
      '--state',
      'state',
      ...flags,
      '--words-file',
      'words.txt',
      '--json',
    ]);
    expect(made).toMatchObject({ code: 0 });
    const first = await holdfast(['backup', '--json']);
    expect(first).toMatchObject({ code: 0 });
    expect(json<{ backends: object[] }>(first).backends).toEqual(
      ['disk', 'cloud', 'ship'].map((name) => ({ name, state: 'committed' })),
    );
    const packs = spawnSync('find', [at('disk', 'packs'), '-type', 'f', '-size', '+1000k'], { encoding: 'utf8' });
    packOfBlob = packs.stdout.trim();
    const [disk, cloud, ship] = await listings();
    expect(disk?.length).toBeGreaterThan(6);
    expect(cloud).toEqual(disk);
    expect(ship).toEqual(disk);
  });

  test('the S3 server killed in mid-run costs that backend only, and sync brings it level without the source', async () => {
    writeFileSync(at('state', 'large'), randomBytes(48_000_000));
    const packs = readdirSync(at('disk', 'packs'), { recursive: true }).length;
    let killed: Promise<void> | undefined;
    const during = await holdfast(['backup', '--json'], () => {
      killed = (async () => {
        while (readdirSync(at('disk', 'packs'), { recursive: true }).length <= packs + 1) await sleep(5);
        await server.kill();
      })();
    });
    await killed;
    const result = json<{ backends: { name: string; state: string }[] }>(during);
    expect(result.backends.map(({ name, state }) => [name, state])).toEqual([
      ['disk', 'committed'],
      ['cloud', 'behind'],
      ['ship', 'committed'],
    ]);
    expect(during.code).toBe(3); // all three are required
    const config = readFileSync(at('holdfast.yaml'), 'utf8').replace('require: 3', 'require: 2');
    writeFileSync(at('holdfast.yaml'), config);
    expect(await holdfast(['backup', '--json'])).toMatchObject({ code: 0 });

    await server.restart();
    renameSync(at('state'), at('away'));
    const before = await listings();
    const level = await holdfast(['sync', '--json']);
    expect(level).toMatchObject({ code: 0 });
    renameSync(at('away'), at('state'));
    const [disk, cloud, ship] = await listings();
    expect(cloud).toEqual(disk);
    expect(ship).toEqual(disk);
    const copied = json<{ backends: { name: string; objects: number }[] }>(level).backends;
    const missing = (disk?.length ?? 0) - (before[1]?.length ?? 0);
    expect(missing).toBeGreaterThan(0);
    expect(copied.map(({ name, objects }) => [name, objects])).toEqual([
      ['disk', 0],
      ['cloud', missing],
      ['ship', 0],
    ]);
    rmSync(at('state', 'large')); // of the others none needs so much
    expect(await holdfast(['backup', '--json'])).toMatchObject({ code: 3 }); // which is suspicious
  });

  test('a flipped byte on the disk is named, healed from elsewhere, and gone', async () => {
    const path = packOfBlob;
    const bytes = readFileSync(path);
    bytes[5000] = (bytes[5000] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    const restored = await holdfast([
      'restore',
      '--target',
      'out',
      '--words-file',
      'words.txt',
      '--from',
      'disk',
      '--json',
    ]);
    expect(restored).toMatchObject({ code: 0 });
    expect(json(restored)).toMatchObject({ healed: [{ backend: 'disk', key: path.slice(at('disk').length + 1) }] });
    expect(spawnSync('diff', ['-r', at('state'), at('out')]).status).toBe(0);
    expect(await holdfast(['verify', '--level', 'objects', '--json'])).toMatchObject({ code: 0 });
    expect(existsSync(path)).toBe(true);
  });

  test('a new machine recovers from S3 alone, and from SFTP alone', async () => {
    for (const [name, url] of Object.entries(urls())) {
      const config = at(name, 'holdfast.yaml');
      const recovered = await holdfast([
        'recover',
        '--config',
        config,
        '--from',
        url,
        '--target',
        at(name, 'state'),
        '--words-file',
        'words.txt',
        '--json',
      ]);
      expect(recovered).toMatchObject({ code: 0 });
      expect(json(recovered)).toMatchObject({ identity: { continuous: true } });
      expect(spawnSync('diff', ['-r', at('state'), at(name, 'state')], { encoding: 'utf8' }).stdout).toBe(
        `Only in ${at(name, 'state')}: holdfast-restored.json\n`,
      );
    }
  });

  test('a place where another repository lies is left as it is, on S3 and on SFTP', async () => {
    const before = (await listings()).slice(1);
    mkdirSync(at('bob'));
    const bob = ['--config', at('bob', 'holdfast.yaml'), '--json'];
    const init = (...flags: string[]) =>
      holdfast([
        'init',
        '--handle',
        'bob',
        '--state',
        'state',
        ...flags,
        '--words-file',
        at('bob', 'words.txt'),
        ...bob,
      ]);
    for (const [name, url] of Object.entries(urls())) {
      const refused = await init('--backend', `${name}=${url}`);
      expect(json(refused), refused.stdout).toMatchObject({ error: { code: 'exists' } });
      expect(readdirSync(at('bob'))).toEqual([]);
    }
    expect(await init('--backend', `disk=file://${at('bob-disk')}`)).toMatchObject({ code: 0 });
    const config = readFileSync(at('bob', 'holdfast.yaml'), 'utf8');
    const more = Object.entries(urls()).map(([name, url]) => `  ${name}: { url: ${JSON.stringify(url)} }\n`);
    writeFileSync(at('bob', 'holdfast.yaml'), config.replace('backends:\n', `backends:\n${more.join('')}`));
    for (const command of ['backup', 'sync']) {
      const done = await holdfast([command, ...bob]);
      expect(done.code, command).toBe(command === 'backup' ? 0 : 3); // one backend is what `commit.require` says
      for (const name of Object.keys(urls())) {
        const { backends } = json<{ backends: { name: string; state: string; error?: object }[] }>(done);
        const state = backends.find((one) => one.name === name);
        expect(state, command).toMatchObject({ state: 'failed', error: { code: 'foreign_repository' } });
      }
    }
    expect((await listings()).slice(1)).toEqual(before);
  });

  test('backend test finds both servers good', async () => {
    for (const name of ['cloud', 'ship']) {
      const tested = await holdfast(['backend', 'test', name, '--json']);
      expect(tested).toMatchObject({ code: 0 });
      expect(json(tested)).toMatchObject({ name, ok: true, left: [] });
    }
  });
});
