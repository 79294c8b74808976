/**
 * Restores into folders that hold something, of databases with a log beside them and with what killed runs left, while calls to the file system
 * fail or the run is killed at one of them.
 */
import {
  copyFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeEach, describe, expect, it, test, vi } from 'vitest';
import type * as Libc from '../../src/state/libc.ts';
import { failure } from '../crypto/support.ts';
import { expectSameTree, makeAgent } from './support.ts';

/** Counts what changes the file system, and can end all of it at one of them, as the death of the process does, or make one fail. */
const world = vi.hoisted(() => ({
  calls: 0,
  diesAt: Infinity,
  failing: undefined as ((call: string, path: string, other: string) => string | undefined) | undefined,
  syncs: 0,
}));

const ERRNO: Record<string, number> = vi.hoisted(() => ({ EXDEV: -18, ENOSPC: -28, EPERM: -1 }));

vi.mock('node:fs', async (original) => {
  const real = await original<Record<string, unknown>>();
  const { namedPath } = await import('../state/named-path.ts');
  const changing = ['mkdirSync', 'openSync', 'writeSync', 'renameSync', 'unlinkSync', 'rmdirSync', 'copyFileSync'];
  const watched = Object.fromEntries(
    changing.map((name) => [
      name,
      (...args: unknown[]): unknown => {
        const isChange = name !== 'openSync' || (typeof args[1] === 'number' && (args[1] & 3) !== 0);
        if (isChange && ++world.calls >= world.diesAt) throw new Error('killed');
        const code = world.failing?.(name, namedPath(args[0], real), namedPath(args[1], real));
        if (code !== undefined) throw Object.assign(new Error(code), { code, errno: ERRNO[code], syscall: name });
        return (real[name] as (...all: unknown[]) => unknown)(...args);
      },
    ]),
  );
  return { ...real, ...watched, fsyncSync: () => undefined };
});

vi.mock('../../src/state/libc.ts', async (original) => {
  const library = (await original<typeof Libc>()).libc();
  return { libc: () => library && { ...library, syncfs: () => Promise.resolve(world.syncs) } };
});

const STAGING = '.holdfast-restore-staging';
const READY = '.holdfast-restore-file';
const MARKER = '.holdfast-restore-incomplete';

const agent = await makeAgent({
  seed: 'over faults',
  fill: (state) => {
    for (const folder of ['db', 'other']) mkdirSync(join(state, folder));
    writeFileSync(join(state, 'other/file'), 'x');
  },
});
afterAll(() => agent[Symbol.asyncDispose]());
/** The snapshot has three rows. What an agent did to the table since is in its log alone. */
const emptied = join(agent.folder, 'emptied');
{
  using live = new DatabaseSync(join(agent.state, 'db/m.db'));
  live.exec('PRAGMA journal_mode=wal; CREATE TABLE t(n); INSERT INTO t VALUES (1), (2), (3)');
  live.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  await agent.backup();
  live.exec('DELETE FROM t WHERE n > 1');
  mkdirSync(emptied);
  for (const suffix of ['', '-wal'])
    copyFileSync(join(agent.state, `db/m.db${suffix}`), join(emptied, `m.db${suffix}`));
}

let target: string;
/** Of the database that is to be replaced. */
let inode: number;
const newTarget = () => {
  target = mkdtempSync(join(agent.folder, 'over-'));
  mkdirSync(join(target, 'db'));
  for (const name of readdirSync(emptied))
    cpSync(join(emptied, name), join(target, 'db', name), { preserveTimestamps: true });
  inode = lstatSync(join(target, 'db/m.db')).ino;
};
const reset = () => Object.assign(world, { calls: 0, diesAt: Infinity, failing: undefined, syncs: 0 });
beforeEach(() => {
  reset();
  newTarget();
});

const over = (paths: string[] = []) => agent.restore(target, { overwrite: 'changed', paths });
const own = () => readdirSync(target, { recursive: true }).filter((name) => String(name).includes('.holdfast'));
/** What a program that opens the database sees; it gets a copy. */
function rows(): unknown {
  const folder = mkdtempSync(join(agent.folder, 'seen-'));
  for (const name of readdirSync(join(target, 'db')))
    if (/^m\.db(-wal)?$/.test(name)) cpSync(join(target, 'db', name), join(folder, name));
  using database = new DatabaseSync(join(folder, 'm.db'));
  return database.prepare('SELECT count(*) AS n FROM t').get()?.['n'];
}

test('the database to be replaced has lost rows, and its log is what says so', () => {
  expect(rows()).toBe(1);
  expect(lstatSync(join(target, 'db/m.db-wal')).size).toBeGreaterThan(0);
});

const crossing = (call: string, path: string) =>
  call === 'renameSync' && path.includes(`${STAGING}/tree/`) ? 'EXDEV' : undefined;

/** Every second call, others in each case; with HOLDFAST_LONG=1 every one. */
const EVERY = process.env['HOLDFAST_LONG'] === '1' ? 1 : 2;

describe.each([
  ['on one file system', () => undefined, 0],
  ['on another file system that is mounted in the target', crossing, 1],
] as const)('a database with a log %s', (_where, crosses, offset) => {
  it('is the old one with its log or the new one without it, wherever the run is killed and whatever is restored next', async () => {
    const seen = { old: 0, new: 0 };
    let first = Infinity;
    world.failing = (call, path) => {
      if (call === 'renameSync') first = Math.min(first, world.calls);
      return crosses(call, path);
    };
    await over();
    // Before, nothing in the target is changed; restore-over.test.ts kills runs there.
    let runs = 0;
    for (let at = first - 4 + (offset % EVERY), isDone = false; !isDone; at += EVERY) {
      reset();
      newTarget();
      world.failing = crosses;
      world.diesAt = at;
      const end = await over().catch((error: unknown) => error);
      if (end instanceof Error && world.calls < at) throw end;
      isDone = !(end instanceof Error);
      reset();
      world.failing = crosses;
      const isMarked = existsSync(join(target, MARKER)) || existsSync(join(target, STAGING));
      // In the window between, the marker says that the folder is not to be used yet.
      if (!isMarked) expect(rows()).toBe(isDone || !existsSync(join(target, 'db/m.db-wal')) ? 3 : 1);
      if (runs++ % 2 === 0) {
        expect((await over(['other'])).complete).toBe(true);
        const now = rows();
        expect(now).toBe(lstatSync(join(target, 'db/m.db')).ino === inode ? 1 : 3);
        seen[now === 1 ? 'old' : 'new']++;
        expect(existsSync(join(target, 'db/m.db-wal'))).toBe(now === 1);
      }
      expect(await over()).toMatchObject({ complete: true });
      expect(rows()).toBe(3);
      expect(readdirSync(join(target, 'db'))).toEqual(['m.db']);
      expect(own()).toEqual([]);
    }
    expect(seen.old).toBeGreaterThan(1);
    expect(seen.new).toBeGreaterThan(1);
  }, 60_000);

  it('keeps both when the new one cannot take its place', async () => {
    for (const code of ['EPERM', 'ENOSPC']) {
      reset();
      newTarget();
      world.failing = (call, path, other) => {
        if (call === 'renameSync' && other.endsWith('db/m.db')) return crosses(call, path) ?? code;
        return code === 'ENOSPC' && call === 'copyFileSync' ? code : crosses(call, path);
      };
      if (code === 'EPERM') expect((await over()).changes?.refuse.paths).toEqual(['db/m.db']);
      else await failure(over, 'io');
      expect(rows()).toBe(1);
      expect(readdirSync(join(target, 'db'))).toEqual(['m.db', 'm.db-wal']);
      reset();
      expect(await over()).toMatchObject({ complete: true });
      expect([rows(), own()]).toEqual([3, []]);
    }
  });
});

test('a log that cannot be moved out of the way stays with its database, which is told', async () => {
  world.failing = (call, path) => (call === 'renameSync' && path.endsWith('-wal') ? 'EPERM' : undefined);
  expect(await over()).toMatchObject({ complete: false, changes: { refuse: { paths: ['db/m.db'] } } });
  expect(rows()).toBe(1);
  expect(own()).toEqual([]);
});

test('what a disk does not take is an error, and the marker stays', async () => {
  // The first is that of the staging folder.
  world.failing = (call, path) => {
    if (call === 'renameSync' && path.endsWith('other')) world.syncs = -1;
    return undefined;
  };
  await failure(over, 'io');
  expect(readdirSync(target)).toContain(MARKER);
  reset();
  expect(await over()).toMatchObject({ complete: true });
  expect(own()).toEqual([]);
});

test('a file that a killed run left ready in a folder is removed, also where nothing is written', async () => {
  await over();
  const { mtimeMs } = lstatSync(join(target, 'db'));
  for (const folder of ['.', 'db', 'other']) writeFileSync(join(target, folder, READY), 'left');
  expect(await over()).toMatchObject({ complete: true, files: 0 });
  expect(own()).toEqual([]);
  expectSameTree(join(target, 'other'), join(agent.state, 'other'));
  expect(lstatSync(join(target, 'db')).mtimeMs).toBe(mtimeMs);
});

test('what cannot be removed in the end is an error with a hint, and the marker stays', async () => {
  world.failing = (call, path) => (call === 'rmdirSync' && path.endsWith(STAGING) ? 'EPERM' : undefined);
  const { hint } = await failure(over, 'io');
  expect(hint).toContain('No file is half written');
  expect(readFileSync(join(target, MARKER), 'utf8')).toContain('run the same one again');
  reset();
  expect(await over()).toMatchObject({ complete: true });
  expect(own()).toEqual([]);
});
