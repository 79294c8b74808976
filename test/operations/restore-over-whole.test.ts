/** Restores into folders that hold something: attributes, flags, names of one file and special files are put back as into a new folder. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RestoreResult } from '../../src/operations/restore.ts';
import {
  aclsIn,
  canMount,
  clearFlags,
  flagsIn,
  hasTool,
  isRoot,
  linksIn,
  mounted,
  specialsIn,
  xattrsIn,
} from '../state/tools.ts';
import { inventory } from '../state/trees.ts';
import { makeAgent, type TestAgent } from './support.ts';

const lacksTools = !['getfattr', 'getfacl', 'lsattr', 'chattr'].every(hasTool);
const run = (...[command = '', ...args]: string[]) => execFileSync(command, args);
const dated = (...paths: string[]) => paths.forEach((path) => utimesSync(path, 1_600_000_000, 1_600_000_000));
const codesOf = ({ warnings }: RestoreResult) => warnings.map(({ code }) => code);

describe.skipIf(lacksTools)('what a file system knows besides', () => {
  let agent: TestAgent;
  const fill = (folder: string) => {
    mkdirSync(join(folder, 'folder'));
    for (const name of ['file', 'folder/file', 'log']) writeFileSync(join(folder, name), name);
    symlinkSync('file', join(folder, 'link'));
  };
  beforeAll(async () => {
    agent = await makeAgent({
      backends: ['a'],
      fill: (state) => {
        fill(state);
        run('setfattr', '-n', 'user.tag', '-v', 'blue', join(state, 'file'));
        run('setfattr', '-n', 'user.tag', '-v', 'green', join(state, 'folder'));
        run('setfacl', '-m', 'u:4711:rw', join(state, 'folder/file'));
        run('setfacl', '-m', 'd:u:4711:rwx', join(state, 'folder'));
        run('chattr', '+d', join(state, 'log'));
        dated(...['file', 'folder/file', 'log', 'folder', '.'].map((name) => join(state, name)));
      },
    });
    await agent.backup();
  });
  afterAll(() => agent[Symbol.asyncDispose]());
  const newTarget = () => mkdtempSync(join(agent.folder, 'over-'));
  const expectWhole = (target: string) => {
    expect(inventory(target)).toEqual(inventory(agent.state));
    for (const see of [xattrsIn, aclsIn, flagsIn]) expect(see(target)).toEqual(see(agent.state));
  };

  test('is put back over what differs in nothing else, and over what is replaced', async () => {
    for (const overwrite of ['changed', 'always'] as const) {
      const target = newTarget();
      fill(target);
      dated(...['file', 'folder/file', 'log', 'folder', '.'].map((name) => join(target, name)));
      run('touch', '-h', '-r', join(agent.state, 'link'), join(target, 'link'));
      run('setfacl', '-m', 'u:1234:rw', join(target, 'file'));
      chmodSync(join(target, 'file'), lstatSync(join(agent.state, 'file')).mode);
      const result = await agent.restore(target, { overwrite });
      expect(result).toMatchObject({ complete: true, warnings: [] });
      if (overwrite === 'changed')
        expect(result.changes).toMatchObject({
          replace: { count: 0 },
          metadata: { paths: ['.', 'file', 'folder', 'folder/file', 'log'] },
        });
      expectWhole(target);
      expect((await agent.restore(target, { overwrite: 'changed' })).changes?.keep.count).toBe(6);
    }
  });

  test('is left alone where files stay as they are', async () => {
    const target = newTarget();
    fill(target);
    const result = await agent.restore(target, { overwrite: 'never' });
    expect(result).toMatchObject({ complete: true, warnings: [], changes: { keep: { count: 6 } } });
    expect(xattrsIn(target)).toEqual([]);
  });

  test.skipIf(!canMount())('is named by a target that has no such thing', async () => {
    const place = newTarget();
    using _mount = mounted(place, '-t', 'ramfs', 'none');
    fill(place);
    const result = await agent.restore(place, { overwrite: 'changed' });
    expect(result.complete).toBe(false);
    expect(codesOf(result)).toEqual(expect.arrayContaining(['xattrs_not_restored', 'flags_not_restored']));
  });
});

describe.runIf(isRoot && !lacksTools)('immutable and append-only entries', () => {
  test('are restored over, and what a killed run left of them in the staging folder goes', async () => {
    await using agent = await makeAgent({
      backends: ['a'],
      fill: (state) => {
        mkdirSync(join(state, 'closed'));
        writeFileSync(join(state, 'closed/file'), 'wanted');
        for (const name of ['fixed', 'log']) writeFileSync(join(state, name), 'wanted');
        run('chattr', '+i', join(state, 'fixed'), join(state, 'closed'));
        run('chattr', '+a', join(state, 'log'));
      },
    });
    try {
      await agent.backup();
      const target = mkdtempSync(join(agent.folder, 'over-'));
      writeFileSync(join(target, 'log'), 'old');
      const left = join(target, '.holdfast-restore-staging/tree/closed');
      mkdirSync(left, { recursive: true });
      for (const name of ['fixed', 'log']) writeFileSync(join(left, name), 'left');
      run('chattr', '+i', join(left, 'fixed'), left);
      expect(await agent.restore(target, { overwrite: 'changed' })).toMatchObject({ complete: true, warnings: [] });
      expect(inventory(target)).toEqual(inventory(agent.state));
      expect(flagsIn(target)).toEqual(flagsIn(agent.state));
      expect(flagsIn(target)).toHaveLength(3);
      expect(await agent.restore(target, { overwrite: 'changed' })).toMatchObject({
        complete: true,
        changes: { keep: { count: 5 } },
      });
    } finally {
      clearFlags(agent.folder);
    }
  });

  test('in the target stay as they are and are told, and the next run can finish', async () => {
    await using agent = await makeAgent({
      backends: ['a'],
      fill: (state) => writeFileSync(join(state, 'file'), 'new'),
    });
    try {
      await agent.backup();
      const target = mkdtempSync(join(agent.folder, 'over-'));
      writeFileSync(join(target, 'file'), 'old');
      run('chattr', '+i', join(target, 'file'));
      const result = await agent.restore(target, { overwrite: 'changed' });
      expect(result).toMatchObject({ complete: false, files: 0, bytes: 0, changes: { refuse: { paths: ['file'] } } });
      expect(readdirSync(target)).toEqual(['file']);
      run('chattr', '-i', join(target, 'file'));
      expect(await agent.restore(target, { overwrite: 'changed' })).toMatchObject({
        complete: true,
        files: 1,
        bytes: 3,
      });
    } finally {
      clearFlags(agent.folder);
    }
  });
});

describe('names of one file', () => {
  const fill = (state: string) => {
    for (const folder of ['keys', 'notes']) mkdirSync(join(state, folder));
    for (const [first, other] of [
      ['keys/a', 'keys/b'],
      ['notes/a', 'notes/b'],
    ] as const) {
      writeFileSync(join(state, first), `the content of ${first}`);
      linkSync(join(state, first), join(state, other));
    }
    linkSync(join(state, 'keys/a'), join(state, 'notes/key'));
  };
  const backupOf = (agent: TestAgent) =>
    agent.backup({
      state: { root: agent.state, exclude: [], keepOut: [], secret: { patterns: ['/keys/'], handling: 'apart' } },
    });

  test('that are secret are names of one file again', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill });
    await backupOf(agent);
    const target = join(agent.folder, 'restored');
    const result = await agent.restore(target, { withSecrets: true });
    expect(result).toMatchObject({ complete: true, files: 5, bytes: 107, secrets: { files: 2, restored: 2 } });
    expect(linksIn(target)).toEqual(['2: ./keys/a ./keys/b', '2: ./notes/a ./notes/b']);
    expect(readFileSync(join(target, 'notes/key'), 'utf8')).toBe('the content of keys/a');
  });

  test('are so in an empty folder, whatever may be overwritten; a dry run counts the same', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill });
    await backupOf(agent);
    for (const overwrite of [undefined, 'never', 'changed', 'always'] as const) {
      const target = mkdtempSync(join(agent.folder, 'over-'));
      const dry = await agent.restore(target, { overwrite, dryRun: true });
      const real = await agent.restore(target, { overwrite });
      expect(real).toMatchObject({ complete: true, warnings: [], files: 3, bytes: 65 });
      expect(dry).toMatchObject({ complete: true, files: real.files, bytes: real.bytes });
      expect(linksIn(target)).toEqual(['2: ./notes/a ./notes/b']);
    }
  });

  test('become files of their own over what is there, which is told, beforehand too', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill });
    await backupOf(agent);
    const target = mkdtempSync(join(agent.folder, 'over-'));
    writeFileSync(join(target, 'mine'), 'mine');
    for (const dryRun of [true, false]) {
      const result = await agent.restore(target, { overwrite: 'changed', dryRun });
      expect(result).toMatchObject({ complete: false, files: 3, bytes: 65 });
      expect(result.warnings).toMatchObject([{ code: 'hardlinks_not_restored', path: 'notes/b', incomplete: true }]);
    }
    expect(linksIn(target)).toEqual([]);
    expect(readFileSync(join(target, 'notes/b'), 'utf8')).toBe('the content of notes/a');
    expect(await agent.restore(target, { overwrite: 'changed' })).toMatchObject({ complete: true, files: 0 });
  });
});

test('special files that are there already are kept, and with `never` as they are', async () => {
  await using agent = await makeAgent({
    backends: ['a'],
    fill: (state) => {
      run('mkfifo', '-m', '640', join(state, 'fifo'));
      if (isRoot) run('mknod', '-m', '604', join(state, 'zero'), 'c', '1', '5');
    },
  });
  await agent.backup({ state: { root: agent.state, exclude: [], keepOut: [], special: 'keep' } });
  const target = mkdtempSync(join(agent.folder, 'over-'));
  run('mkfifo', '-m', '600', join(target, 'fifo'));
  expect(await agent.restore(target, { overwrite: 'never' })).toMatchObject({ complete: true });
  expect(statSync(join(target, 'fifo')).mode & 0o777).toBe(0o600);
  for (const overwrite of ['changed', 'changed', 'never', 'always'] as const) {
    expect(await agent.restore(target, { overwrite })).toMatchObject({ complete: true, warnings: [] });
    expect(specialsIn(target)).toEqual(specialsIn(agent.state));
  }
  if (!isRoot) return;
  rmSync(join(target, 'zero'));
  run('mknod', join(target, 'zero'), 'c', '1', '3');
  expect((await agent.restore(target, { overwrite: 'changed' })).changes?.refuse.paths).toEqual(['zero']);
  expect(existsSync(join(target, 'zero'))).toBe(true);
});
