/** What a newer version wrote: refused by every command in the same words, and what it added beside the rest is let be. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseAgentKey } from '../../src/identity/agent-key.ts';
import { REPOSITORY_TYPE, signRecord } from '../../src/repository/records/format.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';

const WORDS = ['--words-file', 'words.txt'];
let home: AgentHome;
let sign: (change: object) => void;

beforeAll(async () => {
  home = agentHome(temporaryFolder(), { warm: true });
  mkdirSync(home.at('state'));
  writeFileSync(home.at('state', 'MEMORY.md'), 'one');
  const { files } = await home.json<{ files: { identity: string } }>(0, ...initArgs(home.at), ...WORDS);
  await home.json(0, 'backup');
  const signer = parseAgentKey(readFileSync(files.identity, 'utf8'));
  const { signatures: _, ...record } = JSON.parse(readFileSync(home.at('nas', 'holdfast.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  sign = (change) => {
    const bytes = signRecord({ ...record, ...change }, REPOSITORY_TYPE, [signer]);
    for (const disk of ['nas', 'usb']) {
      rmSync(home.at(disk, 'holdfast.json'), { force: true });
      writeFileSync(home.at(disk, 'holdfast.json'), bytes);
    }
  };
}, 60_000);
afterAll(() => removeFolder(home.folder));

it('folders of objects that this version does not know are ignored', async () => {
  for (const disk of ['nas', 'usb']) {
    mkdirSync(home.at(disk, 'future'));
    writeFileSync(home.at(disk, 'future', 'x.age'), 'x');
  }
  await home.json(0, 'backup');
  await home.json(0, 'verify', '--level', 'chunks', ...WORDS);
  await home.json(0, 'restore', '--target', 'restored', ...WORDS);
});

const COMMANDS = [
  ['backup'],
  ['sync'],
  ['snapshots'],
  ['snapshots', 'note', 'latest', 'text'],
  ['snapshots', 'tag', 'latest', '--add', 'one'],
  ['verify', '--level', 'listing'],
  ['ls', ...WORDS],
  ['cat', 'latest', 'MEMORY.md', ...WORDS],
  ['find', '*', ...WORDS],
  ['diff', 'latest', 'latest', ...WORDS],
  ['restore', '--target', 'never', ...WORDS],
  ['recipients', 'list'],
  ['identity', 'log'],
];

it.each(COMMANDS)('of another version is refused, with what to do: %s %s', async (...args) => {
  for (const change of [{ version: 2 }, { critical: ['what-comes-later'] }]) {
    sign(change);
    const { code, hint } = await home.refused(1, ...args);
    expect(code).toBe('unsupported_format');
    expect(hint).toMatch(/newer|version/);
  }
});
