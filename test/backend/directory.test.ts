import { spawnSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { systemClock, systemRandom, type Clock } from '../../src/clock.ts';
import type { HoldfastError } from '../../src/errors.ts';
import { OBJECT_MAX_BYTES, type Backend } from '../../src/backend/backend.ts';
import { createDirectory, openDirectory } from '../../src/backend/directory.ts';
import { collect, expectSame, keysAndSizes, patterned, rejects } from '../backend-helpers.ts';
import { backendSuite } from '../backend-suite.ts';

const HOUR_MS = 3_600_000;
const options = { name: 'disk', clock: systemClock, random: systemRandom };
const later = (ms: number): Clock => ({ ...systemClock, now: () => systemClock.now() + ms });
const newFolder = () => fs.mkdtemp(join(tmpdir(), 'holdfast-directory-'));

backendSuite('directory', async () => {
  const folder = await newFolder();
  const backend = await openDirectory(folder, options);
  return {
    backend,
    reopen: () => openDirectory(folder, options),
    loseStorage: () => fs.rename(folder, `${folder}.lost`),
    async cleanup() {
      await backend[Symbol.asyncDispose]();
      await fs.rm(folder, { recursive: true, force: true });
      await fs.rm(`${folder}.lost`, { recursive: true, force: true });
    },
  };
});

describe('a directory backend', () => {
  let folder: string;
  let backend: Backend;

  beforeEach(async () => {
    folder = await newFolder();
    backend = await openDirectory(folder, options);
  });

  afterEach(async () => {
    vi.restoreAllMocks();
    syncBuiltinESMExports();
    await backend[Symbol.asyncDispose]();
    await fs.rm(folder, { recursive: true });
  });

  /** Every name below the folder. */
  const tree = async () => (await fs.readdir(folder, { recursive: true })).sort();
  const temps = () => fs.readdir(join(folder, 'tmp'));

  describe('opening', () => {
    test('refuses a folder that is not there, and does not make it', async () => {
      const missing = join(folder, 'not-mounted');
      const error = (await rejects(openDirectory(missing, options), 'backend_unavailable')) as HoldfastError;
      expect(error.message).toContain(`backend disk: its folder ${missing} is not there`);
      expect(error.hint).toContain('mounted');
      expect(await tree()).toEqual([]);
    });

    test('refuses a file, and a folder below a file', async () => {
      await fs.writeFile(join(folder, 'file'), '');
      for (const path of ['file', 'file/below']) {
        const error = await rejects(openDirectory(join(folder, path), options), 'backend_unavailable');
        expect(error.message).toContain('ENOTDIR');
        await rejects(createDirectory(join(folder, path), options), 'backend_unavailable');
      }
    });

    test('works through a symlink to the folder, and with a relative path', async () => {
      await fs.symlink('.', join(folder, 'link'));
      for (const path of [join(folder, 'link'), relative(process.cwd(), folder)]) {
        await using other = await openDirectory(path, options);
        await other.put('a', patterned(3, 1));
        expect(await keysAndSizes(backend, '')).toEqual([['a', 3]]);
      }
    });

    test('creating makes the folders that are missing, closed to others, and keeps what is there', async () => {
      const deep = join(folder, 'x/y/z');
      await using created = await createDirectory(deep, options);
      await created.put('a', patterned(3, 1));
      for (const path of ['x', 'x/y', 'x/y/z']) expect((await fs.stat(join(folder, path))).mode & 0o777).toBe(0o700);
      await using again = await createDirectory(deep, options);
      expect(await keysAndSizes(again, '')).toEqual([['a', 3]]);
    });

    test('can be disposed of twice', async () => {
      await backend[Symbol.asyncDispose]();
      await backend[Symbol.asyncDispose]();
    });
  });

  describe('temporary files', () => {
    test('of 24 hours are removed at open, younger ones and strangers are not, and none is listed', async () => {
      await fs.mkdir(join(folder, 'tmp'));
      await fs.writeFile(join(folder, 'tmp', 'a'.repeat(32)), 'left by a crash');
      await fs.writeFile(join(folder, 'tmp', 'notes.txt'), "somebody else's");
      expect(await collect(backend.list(''))).toEqual([]);
      await using early = await openDirectory(folder, { ...options, clock: later(23 * HOUR_MS) });
      expect(await collect(early.list(''))).toEqual([]);
      expect(await temps()).toEqual(['a'.repeat(32), 'notes.txt']);
      await using late = await openDirectory(folder, { ...options, clock: later(25 * HOUR_MS) });
      expect(await temps()).toEqual(['notes.txt']);
      expect(await collect(late.list(''))).toEqual([]);
    });

    test('are not looked for through a symlink', async () => {
      const elsewhere = await newFolder();
      try {
        await fs.writeFile(join(elsewhere, 'b'.repeat(32)), 'not ours');
        await fs.symlink(elsewhere, join(folder, 'tmp'));
        await using late = await openDirectory(folder, { ...options, clock: later(25 * HOUR_MS) });
        expect(await fs.readdir(elsewhere)).toEqual(['b'.repeat(32)]);
        await rejects(late.put('a', patterned(3, 1)), 'backend_unavailable');
        expect(await fs.readdir(elsewhere)).toEqual(['b'.repeat(32)]);
      } finally {
        await fs.rm(elsewhere, { recursive: true });
      }
    });

    test('are gone after each put, and closed to others as objects are', async () => {
      await backend.put('packs/ab/one', patterned(3, 1), { ifAbsent: true });
      await backend.put('packs/ab/one', patterned(3, 1), { ifAbsent: true });
      await backend.put('packs/ab/one', patterned(3, 1));
      expect(await tree()).toEqual(['packs', 'packs/ab', 'packs/ab/one', 'tmp']);
      const modes = await Promise.all(
        ['packs', 'packs/ab', 'packs/ab/one', 'tmp'].map((path) => fs.stat(join(folder, path))),
      );
      expect(modes.map(({ mode }) => mode & 0o777)).toEqual([0o700, 0o700, 0o600, 0o700]);
    });
  });

  describe('what is no object', () => {
    test('is not found, not listed, and not taken for one by put', async () => {
      await fs.writeFile(join(folder, 'outside'), 'secret');
      await fs.mkdir(join(folder, 'packs/folder'), { recursive: true });
      await fs.symlink('../outside', join(folder, 'packs/link'));
      await fs.symlink('nowhere', join(folder, 'packs/dangling'));
      await fs.symlink('packs', join(folder, 'linked'));
      spawnSync('mkfifo', [join(folder, 'packs/fifo')]);
      for (const name of ['link', 'dangling', 'folder', 'fifo']) {
        const key = `packs/${name}`;
        await rejects(backend.get(key), 'not_found', key);
        expect(await backend.head(key)).toBeUndefined();
        const error = await rejects(backend.put(key, patterned(3, 1), { ifAbsent: true }), 'backend_unavailable', key);
        expect(error.message).toContain('is no regular file');
      }
      expect(await keysAndSizes(backend, '')).toEqual([['outside', 6]]);
      expect(await keysAndSizes(backend, 'packs/')).toEqual([]);
      await rejects(collect(backend.list('linked/')), 'backend_unavailable');
      // A symlink is replaced itself; what it points to is not written.
      await backend.put('packs/link', patterned(3, 1));
      expect(await fs.readFile(join(folder, 'outside'), 'utf8')).toBe('secret');
      expect(await keysAndSizes(backend, 'packs/')).toEqual([['packs/link', 3]]);
      expect(await temps()).toEqual([]);
    });

    test('is left alone: names that are no keys', async () => {
      for (const name of ['.DS_Store', 'read me.txt', 'ä', '.nfs0001']) await fs.writeFile(join(folder, name), '');
      await fs.mkdir(join(folder, '.snapshots'));
      await fs.writeFile(join(folder, '.snapshots', 'a'), '');
      await fs.writeFile(Buffer.from(join(folder, 'x\xff'), 'latin1'), '');
      await backend.put('a', patterned(3, 1));
      expect(await keysAndSizes(backend, '')).toEqual([['a', 3]]);
    });

    test('a file where a folder of objects should be is said to be there, not taken for no objects', async () => {
      await fs.writeFile(join(folder, 'packs'), '');
      for (const attempt of [
        () => backend.put('packs/ab/one', patterned(3, 1), { ifAbsent: true }),
        () => backend.get('packs/ab/one'),
        () => backend.head('packs/ab/one'),
        () => collect(backend.list('packs/')),
        () => collect(backend.list('packs/ab/')),
      ]) {
        const error = (await rejects(attempt(), 'backend_unavailable')) as HoldfastError;
        expect(error.message).toContain(folder);
        expect(error.hint).toBeDefined();
      }
    });

    test('an object larger than any may be is damage, found without taking memory for it', async () => {
      await fs.writeFile(join(folder, 'huge'), '');
      await fs.truncate(join(folder, 'huge'), 1024 ** 4);
      await rejects(backend.get('huge'), 'damaged');
      await rejects(backend.get('huge', { offset: 0, length: 10 }), 'damaged');
      expect((await backend.head('huge'))?.size).toBeGreaterThan(OBJECT_MAX_BYTES);
    });
  });

  describe('a root that went away', () => {
    afterEach(async () => {
      await fs.rm(folder, { recursive: true, force: true });
      await fs.rename(`${folder}.lost`, folder);
    });

    test('and left an empty folder in its place (an unmounted disk) is unavailable, and nothing is written there', async () => {
      await backend.put('packs/ab/one', patterned(3, 1));
      await fs.rename(folder, `${folder}.lost`);
      await fs.mkdir(folder);
      const error = await rejects(backend.get('packs/ab/one'), 'backend_unavailable');
      expect(error.message).toContain('is not the folder it was');
      await rejects(backend.head('packs/ab/one'), 'backend_unavailable');
      await rejects(collect(backend.list('')), 'backend_unavailable');
      await rejects(backend.delete('packs/ab/one'), 'backend_unavailable');
      await rejects(backend.put('packs/ab/two', patterned(3, 1), { ifAbsent: true }), 'backend_unavailable');
      await rejects(backend.put('new', patterned(3, 1)), 'backend_unavailable');
      expect(await tree()).toEqual([]);
    });
  });

  test('a folder below the root that went away is made again', async () => {
    await backend.put('packs/ab/one', patterned(3, 1));
    await fs.rm(join(folder, 'packs'), { recursive: true });
    await rejects(backend.get('packs/ab/one'), 'not_found');
    await fs.rm(join(folder, 'tmp'), { recursive: true });
    expect(await backend.put('packs/ab/one', patterned(3, 1), { ifAbsent: true })).toBe('created');
    expectSame(await backend.get('packs/ab/one'), patterned(3, 1));
  });

  test('two handles, as of two processes, have one winner in a race', async () => {
    await using other = await openDirectory(folder, options);
    for (let round = 0; round < 5; round++) {
      const puts = Array.from({ length: 20 }, (_, i) =>
        (i % 2 ? backend : other).put(`race/${round}`, patterned(100 + i, i), { ifAbsent: true }),
      );
      const outcomes = await Promise.all(puts);
      expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1);
      const winner = outcomes.indexOf('created');
      expectSame(await backend.get(`race/${round}`), patterned(100 + winner, winner));
    }
  });

  // Which file a handle is of is asked of /proc.
  describe.skipIf(process.platform !== 'linux')('order of writing', () => {
    /** Records, as they end, the calls that make things durable or visible, with paths under the folder. */
    async function record(work: () => Promise<unknown>): Promise<string[]> {
      const events: string[] = [];
      const shown = (path: unknown) => relative(folder, String(path)).replace(/[0-9a-f]{32}/, 'TEMP') || '.';
      const { promises } = await import('node:fs');
      const { link, rename, mkdir } = promises;
      vi.spyOn(promises, 'link').mockImplementation(async (from, to) => {
        await link(from, to);
        events.push(`link ${shown(to)}`);
      });
      vi.spyOn(promises, 'rename').mockImplementation(async (from, to) => {
        await rename(from, to);
        events.push(`rename ${shown(to)}`);
      });
      vi.spyOn(promises, 'mkdir').mockImplementation(async (path, how) => {
        const made = await mkdir(path, how);
        events.push(`mkdir ${shown(path)}`);
        return made;
      });
      const handles = await handlePrototype();
      const { sync } = handles;
      vi.spyOn(handles, 'sync').mockImplementation(async function (this: fs.FileHandle) {
        const path = readlinkSync(`/proc/self/fd/${this.fd}`);
        await sync.call(this);
        events.push(`sync ${shown(path)}`);
      });
      syncBuiltinESMExports();
      await work();
      return events;
    }

    test('the bytes are synced before the name is given, and the folder after it; folders made on the way, too', async () => {
      const events = await record(() => backend.put('packs/ab/one', patterned(3, 1), { ifAbsent: true }));
      expect(events).toEqual([
        'mkdir packs',
        'sync .',
        'mkdir packs/ab',
        'sync packs',
        'mkdir tmp',
        'sync .',
        'sync tmp/TEMP',
        'link packs/ab/one',
        'sync packs/ab',
      ]);
    });

    test('so it is with a replacing put', async () => {
      await backend.put('packs/ab/one', patterned(3, 1));
      const events = await record(() => backend.put('packs/ab/one', patterned(3, 1)));
      expect(events).toEqual(['sync tmp/TEMP', 'rename packs/ab/one', 'sync packs/ab']);
    });

    test('an object that was there already is made durable before it is said to exist', async () => {
      await backend.put('packs/ab/one', patterned(3, 1));
      await using other = await openDirectory(folder, options);
      const events = await record(() => other.put('packs/ab/one', patterned(3, 1), { ifAbsent: true }));
      expect(events).toEqual(['sync .', 'sync packs', 'sync packs/ab']);
    });

    test('a made root is synced into the folders above it', async () => {
      const events = await record(async () =>
        (await createDirectory(join(folder, 'x/y'), options))[Symbol.asyncDispose](),
      );
      expect(events).toEqual(['mkdir x/y', 'sync x', 'sync .']);
    });
  });

  describe('a call that fails', () => {
    test.each(['ENOSPC', 'EDQUOT', 'EIO', 'EACCES', 'EROFS', 'ENOTCONN', 'ESTALE'] as const)(
      'with %s while the bytes are written leaves nothing, and is told clearly',
      async (code) => {
        vi.spyOn(await handlePrototype(), 'write').mockRejectedValue(systemError(code));
        const error = (await rejects(
          backend.put('a', patterned(3, 1), { ifAbsent: true }),
          'backend_unavailable',
        )) as HoldfastError;
        expect(error.message).toMatch(
          new RegExp(`^backend disk cannot store a in the folder ${folder}: .+ \\(${code}\\)$`),
        );
        expect(error.hint).toBeDefined();
        expect(error.cause).toBeInstanceOf(Error);
        expect(await tree()).toEqual(['tmp']);
      },
    );

    test('the sync of the bytes: nothing becomes visible', async () => {
      vi.spyOn(await handlePrototype(), 'sync')
        .mockResolvedValueOnce() // of the root, after tmp is made
        .mockRejectedValueOnce(systemError('EIO'));
      await rejects(backend.put('a', patterned(3, 1), { ifAbsent: true }), 'backend_unavailable');
      expect(await tree()).toEqual(['tmp']);
    });

    test('the sync of the folder: the put is not said to have succeeded', async () => {
      vi.spyOn(await handlePrototype(), 'sync')
        .mockResolvedValueOnce()
        .mockResolvedValueOnce()
        .mockRejectedValueOnce(systemError('EIO'));
      await rejects(backend.put('a', patterned(3, 1), { ifAbsent: true }), 'backend_unavailable');
    });

    test('a file system that cannot sync folders is used all the same', async () => {
      const handles = await handlePrototype();
      const { sync } = handles;
      vi.spyOn(handles, 'sync').mockImplementation(async function (this: fs.FileHandle) {
        if ((await this.stat()).isDirectory()) throw systemError('EINVAL');
        await sync.call(this);
      });
      expect(await backend.put('packs/a', patterned(3, 1), { ifAbsent: true })).toBe('created');
    });
  });

  describe.each(['EPERM', 'ENOTSUP', 'ENOSYS', 'EMLINK'])('on a file system without hard links (%s)', (code) => {
    beforeEach(async () => {
      const { promises } = await import('node:fs');
      vi.spyOn(promises, 'link').mockImplementation(() => Promise.reject(systemError(code)));
      syncBuiltinESMExports();
    });

    test('put with ifAbsent creates once and does not replace', async () => {
      expect(await backend.put('packs/a', patterned(3, 1), { ifAbsent: true })).toBe('created');
      expect(await backend.put('packs/a', patterned(9, 2), { ifAbsent: true })).toBe('exists');
      expectSame(await backend.get('packs/a'), patterned(3, 1));
      expect(await temps()).toEqual([]);
    });

    test('a race within the process has one winner', async () => {
      const puts = Array.from({ length: 20 }, (_, i) => backend.put('race', patterned(100 + i, i), { ifAbsent: true }));
      const outcomes = await Promise.all(puts);
      expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1);
      const winner = outcomes.indexOf('created');
      expectSame(await backend.get('race'), patterned(100 + winner, winner));
    });
  });

  test('an NFS server that answers EEXIST to the repetition of its own link is understood', async () => {
    const { promises } = await import('node:fs');
    const { link } = promises;
    vi.spyOn(promises, 'link').mockImplementation(async (from, to) => {
      await link(from, to);
      throw systemError('EEXIST');
    });
    syncBuiltinESMExports();
    expect(await backend.put('a', patterned(3, 1), { ifAbsent: true })).toBe('created');
    expect(await backend.put('a', patterned(3, 2), { ifAbsent: true })).toBe('exists');
    expectSame(await backend.get('a'), patterned(3, 1));
  });
});

/** Where the methods of every file handle are: the class itself is not exported. */
async function handlePrototype(): Promise<fs.FileHandle> {
  await using handle = await fs.open(import.meta.filename);
  return Object.getPrototypeOf(handle) as fs.FileHandle;
}

function systemError(code: string): Error {
  const errno =
    { EPERM: -1, EIO: -5, EACCES: -13, EEXIST: -17, EINVAL: -22, ENOSPC: -28, EROFS: -30, EMLINK: -31 }[code] ?? -5;
  return Object.assign(new Error(`${code}: as planned`), { code, errno, syscall: 'test' });
}
