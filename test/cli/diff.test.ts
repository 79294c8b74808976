/** `diff` on the command line: text, JSON, exit codes. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';

const folder = temporaryFolder();
let home: AgentHome;
const SECRET = ['--words-file', 'words.txt'];

beforeAll(async () => {
  home = agentHome(folder, { warm: true });
  mkdirSync(home.at('state'));
  writeFileSync(home.at('state', 'notes.md'), 'one\n\ttwo\n');
  writeFileSync(home.at('state', 'gone\x1b[2J'), 'gone');
  await home.json(0, ...initArgs((name) => home.at(name)), '--words-file', 'words.txt');
  await home.json(0, 'backup');
  writeFileSync(home.at('state', 'notes.md'), 'one\n\ttwo\n\tthree\x1b[31m\n');
  rmSync(home.at('state', 'gone\x1b[2J'));
});
afterAll(() => removeFolder(folder));

it('shows the changes and their lines, with nothing in them that could move the cursor', async () => {
  const { code, stdout, stderr } = await home.holdfast('diff', '--text', ...SECRET);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^snapshot [0-9a-f]{8} \(number 0, .*\) -> the state as it is in .*state\n/);
  expect(stdout).toContain('-  gone\\x1b[2J  file');
  expect(stdout).toContain('\n \ttwo\n+\tthree\\x1b[31m\n');
  expect(stdout).toMatch(/\n0 added, 1 removed, 1 changed, 0 renamed, .*; 12 B more, 4 B less\n$/);
  expect(stdout).not.toContain('\x1b');
});

it('--json has summary and changes; --stat the summary alone', async () => {
  const result = await home.json<{ summary: object; changes: unknown[] }>(0, 'diff', ...SECRET);
  expect(result).toMatchObject({ summary: { added: 0, removed: 1, changed: 1, renamed: 0 }, complete: true });
  expect(result.changes).toHaveLength(2);
  const stat = await home.json<{ changes: unknown[] }>(0, 'diff', '--stat', ...SECRET);
  expect(stat).toMatchObject({ summary: result.summary, changes: [] });
});

it('ends with 3 when something of the state cannot be read, 2 for two second sides, 12 without the words', async () => {
  writeFileSync(home.at('state', '.holdfast-restore-incomplete'), '');
  const { complete } = await home.json<{ complete: boolean }>(3, 'diff', ...SECRET);
  expect(complete).toBe(false);
  rmSync(home.at('state', '.holdfast-restore-incomplete'));
  await home.refused(2, 'diff', 'latest', 'latest', '--live', ...SECRET);
  await home.refused(12, 'diff');
  await home.refused(1, 'diff', 'abcdef12', ...SECRET);
});
