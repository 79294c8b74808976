/**
 * Restores into folders that hold something: nothing but what was asked for is touched, a dry run tells what a real run does, and a run that is
 * killed at any call to the file system leaves files that are old or new.
 */
import { execFile, execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, it, test, vi } from 'vitest';
import type { RestoreResult } from '../../../src/operations/restore.ts';
import type * as Libc from '../../../src/state/libc.ts';
import { OVERWRITE, type Overwrite } from '../../../src/state/compare-tree.ts';
import { takeLock } from '../../../src/operations/host/lock.ts';
import { failure } from '../../crypto/support.ts';
import { inventory } from '../../state/trees.ts';
import { contentsOf, expectSameTree, makeAgent, packKeysOf, putBack, storeOf } from '../support.ts';

/** Counts what changes the file system, and can end all of it at one of them, as the death of the process does. */
const world = vi.hoisted(() => ({
  calls: 0,
  diesAt: Infinity,
  failing: undefined as ((call: string, path: string) => string | undefined) | undefined,
}));

vi.mock('node:fs', async (original) => {
  const real = await original<Record<string, unknown>>();
  const { namedPath } = await import('../../state/named-path.ts');
  const changing = [
    'mkdirSync',
    'openSync',
    'writeSync',
    'renameSync',
    'unlinkSync',
    'rmdirSync',
    'chmodSync',
    'fchmodSync',
  ];
  changing.push('chownSync', 'fchownSync', 'lchownSync', 'symlinkSync', 'copyFileSync');
  const watched = Object.fromEntries(
    changing.map((name) => [
      name,
      (...args: unknown[]): unknown => {
        const isChange = name !== 'openSync' || (typeof args[1] === 'number' && (args[1] & 3) !== 0);
        if (isChange && ++world.calls >= world.diesAt) throw new Error('killed');
        const code = world.failing?.(name, namedPath(args[0], real));
        if (code !== undefined) throw Object.assign(new Error(code), { code, errno: -18, syscall: name });
        return (real[name] as (...all: unknown[]) => unknown)(...args);
      },
    ]),
  );
  return { ...real, ...watched, fsyncSync: () => undefined };
});

// Hundreds of restores, each of which would wait for everything that anybody has written to the disk.
vi.mock('../../../src/state/libc.ts', async (original) => {
  const library = (await original<typeof Libc>()).libc();
  return { libc: () => library && { ...library, syncfs: () => Promise.resolve(0) } };
});

const MARKER = '.holdfast-restore-incomplete';
const STAGING = '.holdfast-restore-staging';

/** A tree as data: a string is a file, an array a link, an object a folder. */
type Tree = { [name: string]: string | [string] | Tree };

function plant(folder: string, tree: Tree, time = 1_600_000_000): void {
  for (const [name, what] of Object.entries(tree)) {
    const path = join(folder, name);
    if (typeof what === 'string') writeFileSync(path, what);
    else if (Array.isArray(what)) symlinkSync(what[0], path);
    else {
      mkdirSync(path);
      plant(path, what, time);
    }
    if (!Array.isArray(what)) utimesSync(path, time, time);
  }
  utimesSync(folder, time, time);
}

function harvest(folder: string): Tree {
  return Object.fromEntries(
    readdirSync(folder).map((name) => {
      const path = join(folder, name);
      const now = lstatSync(path);
      if (now.isSymbolicLink()) return [name, [readlinkSync(path)]];
      return [name, now.isDirectory() ? harvest(path) : readFileSync(path, 'utf8')];
    }),
  ) as Tree;
}

const SNAPSHOT: Tree = {
  'MEMORY.md': 'short answers',
  memory: { 'a.md': 'a'.repeat(300), 'b.md': 'b', deep: { 'log.jsonl': '{}\n'.repeat(5000) }, link: ['a.md'] },
  empty: {},
  'old.txt': 'old',
};
const agent = await makeAgent({ seed: 'over', fill: (state) => plant(state, SNAPSHOT) });
afterAll(() => agent[Symbol.asyncDispose]());
await agent.backup();

let target: string;
beforeEach(() => {
  target = mkdtempSync(join(agent.folder, 'over-'));
  world.calls = 0;
  world.diesAt = Infinity;
  world.failing = undefined;
});

const over = (overwrite: Overwrite, paths: string[] = [], more: { dryRun?: boolean } = {}) =>
  agent.restore(target, { overwrite, paths, ...more });

/** Runs it dry, then for good; both must tell the same, and the first change nothing. */
async function both(overwrite: Overwrite, paths: string[] = []): Promise<RestoreResult> {
  const before = inventory(target);
  world.calls = 0;
  const dry = await over(overwrite, paths, { dryRun: true });
  expect(world.calls).toBe(0);
  expect(inventory(target)).toEqual(before);
  const real = await over(overwrite, paths);
  const told = ({ changes, files, bytes, lost, complete, snapshot }: RestoreResult) => ({
    changes,
    files,
    bytes,
    lost,
    complete,
    id: snapshot.id,
  });
  expect(told(real)).toEqual(told(dry));
  expect([dry.dryRun, real.dryRun]).toEqual([true, false]);
  expect(readdirSync(target)).not.toContain(MARKER);
  expect(readdirSync(target)).not.toContain(STAGING);
  return real;
}

describe('--overwrite', () => {
  const CHANGED: Tree = {
    'MEMORY.md': 'long answers!',
    memory: { 'a.md': 'other', link: ['elsewhere'], 'new.md': 'of today' },
    'new.txt': 'of today',
  };

  test('never adds what is missing and leaves all the rest alone', async () => {
    plant(target, CHANGED, 1_700_000_000);
    const result = await both('never');
    expect(result).toMatchObject({ complete: true, files: 3 });
    expect(result.changes).toMatchObject({
      create: { paths: ['empty', 'memory/b.md', 'memory/deep', 'memory/deep/log.jsonl', 'old.txt'], bytes: 15_004 },
      replace: { count: 0 },
      metadata: { count: 0 },
    });
    expect(harvest(target)).toEqual({
      ...SNAPSHOT,
      ...CHANGED,
      memory: { ...(SNAPSHOT['memory'] as Tree), ...(CHANGED['memory'] as Tree) },
    });
    expect(lstatSync(join(target, 'MEMORY.md')).mtimeMs).toBe(1_700_000_000_000);
  });

  test('changed replaces what differs; what is not in the snapshot stays', async () => {
    plant(target, CHANGED, 1_700_000_000);
    const { ino, ctimeNs } = lstatSync(join(target, 'new.txt'), { bigint: true });
    const result = await both('changed');
    expect(result.changes?.replace.paths).toEqual(['MEMORY.md', 'memory/a.md', 'memory/link']);
    expect(result.warnings).toEqual([]);
    expect(harvest(target)).toEqual({
      ...SNAPSHOT,
      'new.txt': 'of today',
      memory: { ...(SNAPSHOT['memory'] as Tree), 'new.md': 'of today' },
    });
    expect(lstatSync(join(target, 'new.txt'), { bigint: true })).toMatchObject({ ino, ctimeNs });
    const again = await both('changed');
    expect(again).toMatchObject({
      files: 0,
      changes: { create: { count: 0 }, replace: { count: 0 }, metadata: { count: 0 } },
    });
  });

  test('changed looks at contents where the time alone differs, and at nothing where both are right', async () => {
    const sameLength = 'tall answers.';
    plant(target, { 'MEMORY.md': SNAPSHOT['MEMORY.md'] as string, 'old.txt': 'OLD' }, 1_700_000_000);
    const { ino } = lstatSync(join(target, 'MEMORY.md'));
    expect((await both('changed', ['MEMORY.md', 'old.txt'])).changes).toMatchObject({
      metadata: { paths: ['MEMORY.md'] },
      replace: { paths: ['old.txt'] },
    });
    expect(lstatSync(join(target, 'MEMORY.md'))).toMatchObject({ ino, mtimeMs: 1_600_000_000_000 });
    writeFileSync(join(target, 'MEMORY.md'), sameLength);
    utimesSync(join(target, 'MEMORY.md'), 1_600_000_000, 1_600_000_000);
    expect((await both('changed', ['MEMORY.md'])).changes?.keep.paths).toEqual(['MEMORY.md']);
    expect((await both('always', ['MEMORY.md'])).changes?.replace.paths).toEqual(['MEMORY.md']);
    expect(readFileSync(join(target, 'MEMORY.md'), 'utf8')).toBe(SNAPSHOT['MEMORY.md']);
  });

  test.each(OVERWRITE)('%s makes an empty folder what the snapshot is', async (overwrite) => {
    await both(overwrite);
    expectSameTree(target, agent.state);
    expect((await both('changed')).changes?.keep.count).toBe(inventory(agent.state).length);
    expectSameTree(target, agent.state);
  });

  test('always brings a tree back to the last bit', async () => {
    plant(target, CHANGED, 1_700_000_000);
    for (const path of ['memory/new.md', 'new.txt']) await promisify(execFile)('rm', [join(target, path)]);
    await both('always');
    expectSameTree(target, agent.state);
  });

  test('gives folders back the times that replacing and adding files took from them, and others no time', async () => {
    plant(target, { memory: { 'a.md': 'mine' }, other: {} });
    expect((await both('changed', ['memory'])).changes).toMatchObject({ keep: { paths: ['memory'] } });
    for (const path of ['.', 'memory', 'other'])
      expect([path, lstatSync(join(target, path)).mtimeMs]).toEqual([path, 1_600_000_000_000]);
    await both('changed', ['old.txt']); // the folder that it goes into was not asked for
    expect(lstatSync(target).mtimeMs).toBeGreaterThan(1_700_000_000_000);
  });

  test('is needed for a target that holds something, also for a dry run', async () => {
    plant(target, { mine: 'precious' });
    for (const dryRun of [true, false]) await failure(() => agent.restore(target, { dryRun }), 'exists');
    expect(harvest(target)).toEqual({ mine: 'precious' });
  });
});

describe('a dry run', () => {
  it('of a new folder lists everything and makes nothing', async () => {
    const into = join(target, 'not', 'there');
    const result = await agent.restore(into, { dryRun: true, paths: ['memory/*.md'] });
    expect(result).toMatchObject({ files: 2, bytes: 301, dryRun: true, complete: true });
    expect(result.changes?.create.paths).toEqual(['.', 'memory', 'memory/a.md', 'memory/b.md']);
    expect(existsSync(join(target, 'not'))).toBe(false);
  });
});

describe('what is in the way', () => {
  it('a folder where a file should be, and a file where a folder should be, are left and told', async () => {
    plant(target, { 'MEMORY.md': { precious: '1' }, memory: 'precious', 'old.txt': 'new' });
    for (const overwrite of OVERWRITE) {
      const result = await both(overwrite);
      expect(result.complete).toBe(false);
      expect(result.changes?.refuse.paths).toEqual(['MEMORY.md', 'memory']);
      expect(result.warnings.map(({ code, path }) => [code, path])).toEqual([
        ['not_restored', 'MEMORY.md'],
        ['not_restored', 'memory'],
      ]);
      expect(harvest(target)).toMatchObject({ 'MEMORY.md': { precious: '1' }, memory: 'precious', empty: {} });
    }
    expect(harvest(target)).toMatchObject({ 'old.txt': 'old' });
  });

  it('a link is replaced where it stands for a file, and never written through', async () => {
    const outside = mkdtempSync(join(agent.folder, 'outside-'));
    plant(outside, { file: 'precious', folder: { 'a.md': 'precious' } });
    plant(target, { 'MEMORY.md': [join(outside, 'file')], memory: [join(outside, 'folder')] });
    const before = inventory(outside);
    const result = await both('changed');
    expect(result.changes?.replace.paths).toEqual(['MEMORY.md']);
    expect(result.changes?.refuse.paths).toEqual(['memory']);
    expect(harvest(target)).toMatchObject({ 'MEMORY.md': 'short answers', memory: [join(outside, 'folder')] });
    expect(inventory(outside)).toEqual(before);
    expect(harvest(outside)).toEqual({ file: 'precious', folder: { 'a.md': 'precious' } });
  });

  it('a folder that became a link after the comparison is not gone through', async () => {
    const outside = mkdtempSync(join(agent.folder, 'outside-'));
    plant(outside, { 'a.md': 'precious' });
    plant(target, { memory: { 'a.md': 'mine' }, 'old.txt': 'new' });
    world.failing = (call, path) => {
      if (call === 'renameSync' && path.endsWith('tree/empty')) {
        world.failing = undefined;
        chmodSync(target, 0o755);
        // Behind the run's back, between two renames.
        moveAside(join(target, 'memory'));
        symlinkSync(outside, join(target, 'memory'));
      }
      return undefined;
    };
    const result = await over('always');
    expect(result.changes?.refuse.paths).toEqual(expect.arrayContaining(['memory/a.md']));
    expect(result.complete).toBe(false);
    expect(harvest(outside)).toEqual({ 'a.md': 'precious' });
    expect(harvest(target)).toMatchObject({ 'old.txt': 'old', 'memory.aside': { 'a.md': 'mine' } });
  });

  it('a file that may not be written is replaced, and its other names keep what they had', async () => {
    plant(target, { 'old.txt': 'precious' });
    linkSync(join(target, 'old.txt'), join(target, 'other name'));
    chmodSync(join(target, 'old.txt'), 0o400);
    expect((await both('changed', ['old.txt'])).complete).toBe(true);
    expect(harvest(target)).toEqual({ 'old.txt': 'old', 'other name': 'precious' });
    expect(lstatSync(join(target, 'old.txt')).mode & 0o777).toBe(lstatSync(join(agent.state, 'old.txt')).mode & 0o777);
  });

  it('a folder that may not be written to is told beforehand', async () => {
    const program = fileURLToPath(new URL('restore-as-nobody.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [program]);
    expect(JSON.parse(stdout)).toMatchObject({
      dry: { complete: false, changes: { refuse: { paths: ['closed/file'] }, replace: { paths: ['open/file'] } } },
      real: { complete: false, changes: { refuse: { paths: ['closed/file'] }, replace: { paths: ['open/file'] } } },
      closed: 'mine',
      open: 'theirs',
      shut: 0o555,
    });
  });

  it('another restore into the same folder is not disturbed', async () => {
    plant(target, { 'old.txt': 'new' });
    mkdirSync(join(target, STAGING));
    using _held = takeLock(join(target, STAGING), 'test');
    await failure(() => over('changed'), 'busy');
    expect(harvest(target)).toMatchObject({ 'old.txt': 'new' });
  });
});

function moveAside(path: string): void {
  // Not by `renameSync`, which is watched here.
  execFileSync('mv', [path, `${path}.aside`]);
}

it('on another file system that is mounted in the target a file is made ready beside its place', async () => {
  plant(target, { memory: { 'a.md': 'old', deep: {} } }, 1_700_000_000);
  world.failing = (call, path) => (call === 'renameSync' && path.includes(`${STAGING}/tree/`) ? 'EXDEV' : undefined);
  await both('changed');
  expectSameTree(target, agent.state);
});

it('a disk that is full replaces nothing, and leaves nothing behind', async () => {
  const before: Tree = { 'MEMORY.md': 'mine', memory: { 'a.md': 'mine' } };
  plant(target, before, 1_700_000_000);
  const listed = inventory(target);
  world.failing = (call) => (call === 'writeSync' && world.calls > 12 ? 'ENOSPC' : undefined);
  const error = await failure(() => over('always'), 'io');
  expect(error.hint).toContain('No file is half written');
  world.failing = undefined;
  expect(harvest(target)).toEqual(before);
  expect(inventory(target)).toEqual(listed);
});

it('what is damaged on every backend stays the file that is there, and is told', async () => {
  const pristine = await contentsOf(agent);
  plant(target, { 'MEMORY.md': 'mine', memory: { 'a.md': 'mine' } });
  const [pack = ''] = await packKeysOf(agent, 'data');
  for (const name of ['a', 'b']) await storeOf(agent, name).inner.delete(pack);
  const result = await over('always');
  await putBack(agent, pristine);
  expect(result.lost).toEqual(['MEMORY.md', 'memory/a.md', 'memory/b.md', 'memory/deep/log.jsonl', 'old.txt']);
  expect(result.changes).toMatchObject({ replace: { count: 0 }, refuse: { paths: result.lost } });
  expect(result.complete).toBe(false);
  expect(harvest(target)).toEqual({
    'MEMORY.md': 'mine',
    memory: { 'a.md': 'mine', deep: {}, link: ['a.md'] },
    empty: {},
  });
});

const IS_LONG = process.env['HOLDFAST_LONG'] === '1';
/** Of the calls at which a run is killed. */
const EVERY = IS_LONG ? 1 : 2;

describe('a run that is killed', () => {
  const BEFORE: Tree = { 'MEMORY.md': 'mine', memory: { 'a.md': 'mine', 'new.md': 'mine' }, mine: { x: 'mine' } };

  /** Each file is as it was, or as it will be. */
  function expectOldOrNew(now: Tree, old: Tree | undefined, wanted: Tree | undefined, at: string): void {
    for (const [name, what] of Object.entries(now)) {
      if (name === MARKER || name === STAGING) continue;
      const [before, after] = [old?.[name], wanted?.[name]];
      if (typeof what === 'object' && !Array.isArray(what))
        expectOldOrNew(what, before as Tree | undefined, after as Tree | undefined, `${at}${name}/`);
      else expect([before, after], `${at}${name}`).toContainEqual(what);
    }
    for (const name of Object.keys(old ?? {})) expect(Object.keys(now), at).toContain(name);
  }

  it('leaves old files or new ones at every call, is recognised, and is finished by the next', async () => {
    const finished = {
      ...SNAPSHOT,
      mine: { x: 'mine' },
      memory: { ...(SNAPSHOT['memory'] as Tree), 'new.md': 'mine' },
    };
    const seen = { old: 0, mixed: 0 };
    for (let at = 1, isDone = false; !isDone; at += EVERY) {
      target = mkdtempSync(join(agent.folder, 'killed-'));
      plant(target, BEFORE, 1_700_000_000);
      world.calls = 0;
      world.diesAt = at;
      const end = await over('changed').catch((error: unknown) => error);
      const calls = world.calls;
      world.diesAt = Infinity;
      if (end instanceof Error && calls < at) throw end;
      isDone = !(end instanceof Error);
      const left = harvest(target);
      expectOldOrNew(left, BEFORE, finished, '');
      const isUnchanged = left['MEMORY.md'] === 'mine';
      if (isUnchanged) seen.old++;
      else seen.mixed++;
      const isComplete = JSON.stringify(left) === JSON.stringify(harvestOf(finished, left));
      if (!isDone && !isUnchanged && !isComplete) expect(Object.keys(left)).toContain(MARKER);
      // Once it went on with other paths: that leaves no trace of the first either.
      if (at % 5 === 0) await over('never', ['empty']);
      expect((await over('changed')).complete).toBe(true);
      expect(harvest(target)).toEqual(finished);
      expect(lstatSync(join(target, 'MEMORY.md')).mtimeMs).toBe(1_600_000_000_000);
    }
    expect(seen.old * EVERY).toBeGreaterThan(10);
    expect(seen.mixed * EVERY).toBeGreaterThan(10);
  }, 60_000);

  it('in an empty folder is finished with --overwrite changed, and not called finished with never', async () => {
    world.diesAt = 20;
    await over('changed').catch(() => undefined);
    world.diesAt = Infinity;
    expect(readdirSync(target)).toContain(MARKER);
    await failure(() => agent.restore(target), 'exists');
    await failure(() => over('never'), 'exists');
    await failure(() => over('never', [], { dryRun: true }), 'exists');
    await over('changed');
    expectSameTree(target, agent.state);
  });
});

function harvestOf(tree: Tree, like: Tree): Tree {
  return Object.fromEntries(Object.keys(like).map((name) => [name, tree[name] ?? '(not wanted)']));
}

const name = fc.constantFrom('MEMORY.md', 'memory', 'a.md', 'b.md', 'deep', 'link', 'empty', 'x');
const { tree: anyTree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.dictionary(
    name,
    fc.oneof(
      { maxDepth: 2 },
      fc.constantFrom('short answers', 'other', 'b', ''),
      fc.constantFrom<[string]>(['a.md'], ['..'], ['nowhere']),
      tie('tree'),
    ),
    { maxKeys: 4, noNullPrototype: true },
  ),
}));

/** What a restore makes of a tree, by the rules and not by the program. `isAsked` says which paths are restored. */
function expected(now: Tree, wanted: Tree, overwrite: Overwrite, isAsked: (path: string) => boolean, at = ''): Tree {
  const result: Tree = { ...now };
  for (const [key, value] of Object.entries(wanted)) {
    const path = `${at}${key}`;
    const [there, isFolder] = [result[key], typeof value === 'object' && !Array.isArray(value)];
    const thereIsFolder = typeof there === 'object' && !Array.isArray(there);
    if (isFolder) {
      if (there !== undefined && !thereIsFolder) continue;
      const inside = expected(there ?? {}, value as Tree, overwrite, isAsked, `${path}/`);
      if (there !== undefined || isAsked(path) || Object.keys(inside).length > 0) result[key] = inside;
    } else if (isAsked(path) && !thereIsFolder && (there === undefined || overwrite !== 'never')) result[key] = value;
  }
  return result;
}

it('whatever is there: what was asked for is as the rules say, and all the rest is as it was', async () => {
  const asked = fc.constantFrom<[string[], (path: string) => boolean]>(
    [[], () => true],
    [['memory'], (path) => path === 'memory' || path.startsWith('memory/')],
    [['**/*.md'], (path) => path.endsWith('.md')],
    [['memory/deep', 'empty'], (path) => path === 'empty' || path.startsWith('memory/deep')],
  );
  await fc.assert(
    fc.asyncProperty(anyTree, fc.constantFrom(...OVERWRITE), asked, async (tree, overwrite, [paths, isAsked]) => {
      target = mkdtempSync(join(agent.folder, 'any-'));
      plant(target, tree, 1_700_000_000);
      const times = timesOf(target);
      const result = await both(overwrite, paths);
      expect(harvest(target)).toEqual(expected(tree, SNAPSHOT, overwrite, isAsked));
      expect(result.complete).toBe(result.changes?.refuse.count === 0);
      for (const [path, time] of timesOf(target)) {
        const isListed = (['create', 'replace', 'metadata'] as const).some((kind) =>
          result.changes?.[kind].paths.includes(path),
        );
        if (!isListed && !lstatSync(join(target, path)).isDirectory())
          expect([path, time]).toEqual([path, times.get(path)]);
      }
      if (overwrite === 'never') return;
      const again = (await both('changed', paths)).changes;
      expect([again?.create.count, again?.replace.count, again?.metadata.count]).toEqual([0, 0, 0]);
    }),
    { numRuns: IS_LONG ? 100 : 25, seed: 4 },
  );
}, 60_000);

function timesOf(folder: string): Map<string, string> {
  return new Map(inventory(folder).map((line) => [line.split('\0')[0] ?? '', line]));
}
