/** Looking into snapshots and restoring from them as a user does it: exit codes, JSON, and what reaches the terminal. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { FindResult } from '../../src/operations/find.ts';
import type { RestoreResult } from '../../src/operations/restore.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';

const WORDS = ['--words-file', 'words.txt'];
const EVIL = '\x1b]0;owned\x07\x1b[31m.md';
let home: AgentHome;

beforeAll(async () => {
  home = agentHome(temporaryFolder(), { warm: true });
  mkdirSync(home.at('state'));
  writeFileSync(home.at('state', EVIL), 'x');
  writeFileSync(home.at('state', 'MEMORY.md'), 'one');
  await home.json(0, ...initArgs(home.at), ...WORDS);
  await home.json(0, 'backup', '--tag', 'first');
  writeFileSync(home.at('state', 'MEMORY.md'), 'second');
  await home.json(0, 'backup');
}, 60_000);
afterAll(() => removeFolder(home.folder));

it('find: JSON, and no file name writes to the terminal', async () => {
  const { entries, searched } = await home.json<FindResult>(0, 'find', '--all', 'MEMORY.md', ...WORDS);
  expect(searched).toHaveLength(2);
  expect(entries.map(({ size, first, last }) => [size, first.seq, last.seq])).toEqual([
    [3, 0, 0],
    [6, 1, 1],
  ]);
  for (const args of [['find'], ['find', '--all'], ['ls'], ['restore', '--dry-run', '--target', 'new']]) {
    const { code, stdout, stderr } = await home.holdfast(...args, ...WORDS);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('\\x1b[31m.md');
    expect(stdout.replaceAll('\n', '')).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
  }
  expect(existsSync(home.at('new'))).toBe(false);
  await home.refused(2, 'find', '--larger', 'big', ...WORDS);
  await home.refused(2, 'find', '--type', 'socket', ...WORDS);
  await home.refused(2, 'find', '--all', '--snapshot', 'latest', ...WORDS);
}, 60_000);

it('restore --overwrite: a dry run lists what the real one does, with the age of the snapshot', async () => {
  const args = ['restore', 'tag:first', '--target', 'state', '--overwrite', 'changed', '--path', '*.md', ...WORDS];
  const dry = await home.json<RestoreResult>(0, ...args, '--dry-run');
  expect(dry).toMatchObject({
    dryRun: true,
    changes: {
      replace: { count: 1, bytes: 3, paths: ['MEMORY.md'] },
      keep: { paths: ['\\x1b]0;owned\\x07\\x1b[31m.md'] },
    },
    snapshot: { seq: 0, ageSeconds: expect.any(Number) as number },
  });
  expect(readFileSync(home.at('state', 'MEMORY.md'), 'utf8')).toBe('second');
  const real = await home.json<RestoreResult>(0, ...args);
  expect(real).toMatchObject({ dryRun: false, changes: dry.changes, files: 1, bytes: 3, healed: [], warnings: [] });
  expect(readFileSync(home.at('state', 'MEMORY.md'), 'utf8')).toBe('one');
  expect(readdirSync(home.at('state')).sort()).toEqual([EVIL, 'MEMORY.md'].sort());
  const { stdout } = await home.holdfast('restore', 'latest~1', '--target', 'again', ...WORDS);
  expect(stdout).toMatch(/^It is .+ old; what was written since is not in it\.$/m);
}, 60_000);

it('restore: each way of not doing all of it has its exit code', async () => {
  mkdirSync(home.at('blocked', 'MEMORY.md'), { recursive: true });
  const blocked = ['restore', '--target', 'blocked', ...WORDS];
  expect((await home.refused(1, ...blocked)).code).toBe('exists');
  for (const dry of [['--dry-run'], []]) {
    const result = await home.json<RestoreResult>(3, ...blocked, '--overwrite', 'always', ...dry);
    expect(result.changes?.refuse.paths).toEqual(['MEMORY.md']);
  }
  expect(readdirSync(join(home.at('blocked'), 'MEMORY.md'))).toEqual([]);
  await home.refused(2, ...blocked, '--overwrite', 'some');
  await home.refused(2, 'restore', 'latest', '--at', '2h', '--target', 'new', ...WORDS);
  expect((await home.refused(1, 'restore', '--at', '2h', '--target', 'new', ...WORDS)).hint).toContain('The oldest is');
  await home.refused(1, 'restore', 'latest~2', '--target', 'new', ...WORDS);
  await home.refused(2, 'cat', '@soon', 'MEMORY.md', ...WORDS);
  expect(existsSync(home.at('new'))).toBe(false);
}, 60_000);

it('secrets: find and diff say how many are kept apart, and look at them when they are asked to', async () => {
  const own = agentHome(temporaryFolder(), { warm: true });
  try {
    mkdirSync(own.at('state'));
    writeFileSync(own.at('state', '.env'), 'TOKEN=1');
    writeFileSync(own.at('state', 'MEMORY.md'), 'one');
    writeFileSync(own.at('mine.yaml'), 'name: mine\ntitle: my agent\nsecret: [.env]\n');
    await own.json(0, ...initArgs(own.at), '--profile', './mine.yaml', ...WORDS);
    await own.json(0, 'backup');
    writeFileSync(own.at('state', '.env'), 'TOKEN=2222');
    const shown = async (...args: string[]) => {
      const { code, stdout, stderr } = await own.holdfast(...args, ...WORDS);
      expect([code, stderr]).toEqual([0, '']);
      return stdout;
    };
    expect(await shown('find', '.env')).toMatch(
      /^Nothing found in .*\.\n1 secret file kept apart and not searched: --secrets searches them instead\n$/,
    );
    expect(await shown('find', '.env', '--secrets')).toMatch(/ \.env\n1 entry in the secrets of snapshot .*\n$/);
    expect(await shown('diff')).toMatch(/\nsecret files kept apart and not compared: 1 -> 1; --secrets compares them/);
    const changed = await shown('diff', '--secrets', '--one-file-system');
    expect(changed).toMatch(/^~ +\.env +content, size, mtime/m);
    expect(changed).toContain('\ncompared are the secret files that are kept apart: 1 -> 1\n');
    expect(changed).not.toContain('2222');
    await own.refused(2, 'diff', '--secrets', '--text', ...WORDS);
    await own.refused(2, 'diff', 'latest', 'latest', '--one-file-system', ...WORDS);
  } finally {
    removeFolder(own.folder);
  }
}, 60_000);
