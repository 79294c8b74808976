/** A disk that fails, is full, or a process that has no descriptor left: what it costs, and that it is said. */
import { appendFileSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { RawPath } from '../../src/raw-path.ts';
import { openTarget } from '../../src/state/write-tree.ts';
import { counting, failing, type Fault } from '../state/fs-faults.ts';
import { temporaryFolder, removeFolder } from '../state/trees.ts';
import { makeAgent, type TestAgent } from './support.ts';

vi.mock('node:fs', async (original) => (await import('../state/fs-faults.ts')).withFaults(await original()));

const MARKER = '.holdfast-restore-incomplete';

function fill(state: string): void {
  for (const folder of ['one', 'two']) {
    mkdirSync(join(state, folder));
    for (const name of ['a', 'b', 'c']) writeFileSync(join(state, folder, name), `${folder} ${name}`);
  }
}

describe('a fault while the state is read', () => {
  const faults: [string, Fault, string][] = [
    ['a file that cannot be opened', { call: 'openSync', path: /state\/one\/b$/, code: 'EIO' }, 'one/b'],
    ['no descriptor left for a file', { call: 'openSync', path: /state\/one\/b$/, code: 'EMFILE' }, 'one/b'],
    ['a file that cannot be read', { call: 'readSync', path: /state\/one\/b$/, code: 'EIO' }, 'one/b'],
    ['a file whose state cannot be asked for', { call: 'fstatSync', path: /state\/one\/b$/, code: 'EIO' }, 'one/b'],
    ['an entry that cannot be looked at', { call: 'lstatSync', path: /state\/one\/b$/, code: 'EIO' }, 'one/b'],
    ['a folder that cannot be listed', { call: 'readdirSync', path: /state\/one$/, code: 'EIO' }, 'one'],
    ['no descriptor left for a folder', { call: 'readdirSync', path: /state\/one$/, code: 'EMFILE' }, 'one'],
  ];

  test.each(faults)(
    'costs this entry only, is said, and is made up for by the next run: %s',
    async (_, fault, path) => {
      await using agent = await makeAgent({ backends: ['a'], fill });
      const reason = fault.code === 'EMFILE' ? 'too many open files' : 'i/o error';
      {
        using _failing = failing(fault);
        const result = await agent.backup();
        expect(result.complete).toBe(false);
        expect(result.warnings).toMatchObject([{ code: 'unreadable', path, incomplete: true }]);
        expect(result.warnings[0]?.message).toContain(reason);
        expect(result.files.total).toBe(path === 'one' ? 3 : 5);
      }
      const again = await agent.backup();
      expect(again).toMatchObject({ complete: true, warnings: [], files: { total: 6 } });
      const target = join(agent.folder, 'restored');
      expect((await agent.restore(target)).complete).toBe(true);
      expect(readFileSync(join(target, 'one/b'), 'utf8')).toBe('one b');
    },
  );

  test('cannot come from a hole, as holes are not read', async () => {
    await using agent = await makeAgent({ backends: ['a'] });
    writeFileSync(join(agent.state, 'sparse'), '');
    truncateSync(join(agent.state, 'sparse'), 20 * 2 ** 20);
    appendFileSync(join(agent.state, 'sparse'), 'the end');
    using reads = counting('readSync', /state\/sparse$/);
    expect(await agent.backup()).toMatchObject({ complete: true, bytes: { read: 7 } });
    expect(reads.count).toBe(1);
    const target = join(agent.folder, 'restored');
    using writes = counting('writeSync', /restored\/sparse$/);
    await agent.restore(target);
    expect(writes.count).toBe(1);
    expect(readFileSync(join(target, 'sparse')).equals(readFileSync(join(agent.state, 'sparse')))).toBe(true);
  });

  test('while a file that was read is closed costs nothing', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill });
    using _failing = failing({ call: 'closeSync', path: /state\/one\/b$/, code: 'EIO' });
    expect(await agent.backup()).toMatchObject({ complete: true, files: { total: 6 } });
  });

  test('of the root stops the backup, as there is nothing to keep', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill });
    using _failing = failing({ call: 'readdirSync', path: /\/state$/, code: 'EIO' });
    await expect(agent.backup()).rejects.toMatchObject({ code: 'source_unreadable' });
  });
});

describe('a fault while a state is written', () => {
  let agent: TestAgent;
  let target = '';
  let count = 0;
  beforeAll(async () => {
    agent = await makeAgent({ backends: ['a'], fill });
    await agent.backup();
  });
  beforeEach(() => {
    target = join(agent.folder, `restored-${++count}`);
  });
  afterAll(() => agent[Symbol.asyncDispose]());

  const faults: [string, Fault][] = [
    ['no room for a folder', { call: 'mkdirSync', path: /restored-\d+\/two$/, code: 'ENOSPC' }],
    ['no room for a file', { call: 'openSync', path: /restored-\d+\/two\/b$/, code: 'ENOSPC' }],
    ['no room for what a file holds', { call: 'writeSync', path: /restored-\d+\/two\/b$/, code: 'ENOSPC' }],
    ['a disk that takes no bytes', { call: 'writeSync', path: /restored-\d+\/one\/c$/, code: 'EIO' }],
    ['no descriptor left', { call: 'openSync', path: /restored-\d+\/one\/c$/, code: 'EMFILE' }],
    ['a file that cannot be closed', { call: 'closeSync', path: /restored-\d+\/one\/c$/, code: 'EIO' }],
    ['a folder that does not reach the disk', { call: 'fsyncSync', path: /restored-\d+$/, code: 'EIO', after: 1 }],
  ];

  test.each(faults)('ends the restore with what happened, and leaves the mark of it: %s', async (_, fault) => {
    {
      using _failing = failing(fault);
      await expect(agent.restore(target)).rejects.toMatchObject({
        code: 'io',
        message: expect.stringContaining(fault.code) as string,
        hint: expect.any(String) as string,
      });
    }
    expect(readdirSync(target)).toContain(MARKER);
    await expect(agent.restore(target)).rejects.toMatchObject({ code: 'exists' });
  });

  test('of the mark itself ends it before anything else is written', async () => {
    using _failing = failing({ call: 'fsyncSync', path: new RegExp(`${MARKER}$`), code: 'EIO' });
    await expect(agent.restore(target)).rejects.toMatchObject({ code: 'io' });
    expect(readdirSync(target)).toEqual([MARKER]);
  });

  test('of a file that is too long for the target costs this file, with its other names', async () => {
    using _failing = failing({ call: 'writeSync', path: /restored-\d+\/one\/b$/, code: 'EFBIG' });
    const result = await agent.restore(target);
    expect(result.complete).toBe(false);
    expect(result.warnings).toMatchObject([{ code: 'not_restored', path: 'one/b', incomplete: true }]);
    expect(readdirSync(join(target, 'one'))).toEqual(['a', 'c']);
    expect(statSync(join(target, MARKER), { throwIfNoEntry: false })).toBeUndefined();
  });
});

describe('a target that takes two names for one', () => {
  /** What a file system without case answers, and what it lists. */
  function* caseless(root: string): Generator<Disposable> {
    const isTaken = (path: string) => {
      if (!path.startsWith(`${root}/`)) return false;
      const [folder, name] = [path.slice(0, path.lastIndexOf('/')), path.slice(path.lastIndexOf('/') + 1)];
      const names = readdirSync(folder, 'latin1');
      return names.some((one) => one !== name && one.toLowerCase() === name.toLowerCase());
    };
    for (const call of ['openSync', 'mkdirSync', 'symlinkSync', 'linkSync'] as const)
      yield failing({ call, path: isTaken, code: 'EEXIST' });
  }

  test('keeps the first, and lists the others', async () => {
    const folder = temporaryFolder();
    const target = join(folder, 'target');
    const common = { mode: 0o700, mtimeNs: 0n, uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    const at = (path: string) => ({ ...common, path: path as RawPath });
    const writer = await openTarget(target);
    const faults = [...caseless(target)];
    const write = (path: string) => writer.writeFile({ ...at(path), size: path.length }, [Buffer.from(path)]);
    writer.addFolder(at('Memory'));
    writer.addFolder(at('memory'));
    writer.addSymlink({ ...at('Link'), target: 'x' as RawPath });
    writer.addSymlink({ ...at('link'), target: 'y' as RawPath });
    write('Memory/Notes');
    write('Memory/notes');
    write('memory/lost');
    expect(writer.addHardlink({ ...at('Memory/NOTES'), size: 12 }, 'Memory/Notes' as RawPath)).toBe(true);
    const warnings = await writer.finish();
    for (const fault of faults) fault[Symbol.dispose]();
    expect(warnings.map(({ code, path, incomplete }) => ({ code, path, incomplete }))).toEqual(
      ['memory', 'Memory/notes', 'Memory/NOTES', 'link'].map((path) => ({
        code: 'not_restored',
        path,
        incomplete: true,
      })),
    );
    expect(warnings[0]?.message).toContain('takes its name for that of another entry');
    expect(readdirSync(target)).toEqual(['Link', 'Memory']);
    expect(readdirSync(join(target, 'Memory'))).toEqual(['Notes']);
    expect(readFileSync(join(target, 'Memory/Notes'), 'utf8')).toBe('Memory/Notes');
    removeFolder(folder);
  });

  test('of two forms of one letter keeps the first, however it lists it', async () => {
    const folder = temporaryFolder();
    const target = join(folder, 'target');
    const [composed, apart] = ['é', 'é'.normalize('NFD')].map((text) => Buffer.from(text).toString('latin1'));
    const common = { mode: 0o600, mtimeNs: 0n, uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, size: 0 };
    const writer = await openTarget(target);
    writer.writeFile({ ...common, path: composed as RawPath }, []);
    {
      using _failing = failing({ call: 'openSync', path: (path) => path.endsWith(`/${apart}`), code: 'EEXIST' });
      writer.writeFile({ ...common, path: apart as RawPath }, []);
    }
    expect(await writer.finish()).toMatchObject([{ code: 'not_restored', incomplete: true }]);
    removeFolder(folder);
  });
});
