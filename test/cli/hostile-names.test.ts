/** Whatever files, tags, notes and configs are called: no command writes a character to the terminal that is more than itself. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';

const WORDS = ['--words-file', 'words.txt'];
/** A title, a colour, C1's CSI, DEL, overrides and isolates of direction, a line separator. */
const EVIL = 'e\x1b]0;owned\x07\x1b[31m\x9b2J\x7f\u202e\u2066\u061c\u2028\r\ni';
const HARMFUL = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;
let home: AgentHome;

beforeAll(async () => {
  home = agentHome(temporaryFolder(), { warm: true });
  mkdirSync(home.at('state', EVIL), { recursive: true });
  writeFileSync(home.at('state', EVIL, EVIL), EVIL);
  writeFileSync(home.at('state', 'plain.md'), `${EVIL}\none\n`);
  await home.json(0, ...initArgs(home.at), ...WORDS);
  await home.json(0, 'backup', '--note', EVIL);
  writeFileSync(home.at('state', 'plain.md'), `${EVIL}\ntwo\n`);
  writeFileSync(home.at('state', `more-${EVIL}`), EVIL);
  await home.json(0, 'backup');
  mkdirSync(home.at('blocked', `more-${EVIL}`), { recursive: true });
  writeFileSync(home.at(`evil-${EVIL}.yaml`), `${EVIL}: 1\n`);
}, 120_000);
afterAll(() => removeFolder(home.folder));

it.each([
  ['snapshots'],
  ['snapshots', 'note', 'latest', EVIL],
  ['snapshots', 'tag', 'latest', '--add', EVIL],
  ['ls', ...WORDS],
  ['find', '*', '--all', ...WORDS],
  ['find', EVIL, ...WORDS],
  ['diff', 'latest~1', 'latest', ...WORDS],
  ['diff', 'latest~1', 'latest', EVIL, ...WORDS],
  ['cat', 'latest', EVIL, ...WORDS],
  ['ls', EVIL, ...WORDS],
  ['restore', '--target', 'blocked', '--overwrite', 'always', ...WORDS],
  ['restore', '--target', 'blocked', '--overwrite', 'always', '--dry-run', ...WORDS],
  ['restore', '--target', EVIL, '--path', EVIL, '--path', `no ${EVIL}`, ...WORDS],
  ['verify', '--level', 'chunks', ...WORDS],
  ['snapshots', '--config', `evil-${EVIL}.yaml`],
  ['snapshots', '--config', `none-${EVIL}`],
  ['backup', '--tag', EVIL],
  ['sync', `--${EVIL}`],
  [EVIL],
])('%j', async (...args) => {
  for (const how of [[], ['--json']]) {
    const { stdout, stderr } = await home.holdfast(...args, ...how);
    expect(stdout + stderr).not.toBe('');
    expect(stdout).not.toMatch(HARMFUL);
    expect(stderr).not.toMatch(HARMFUL);
    if (how.length > 0) JSON.parse(stdout);
  }
});
