/** The rules for special files and other file systems, as a user gives them. */
import { execFileSync } from 'node:child_process';
import { lstatSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { canMount, mounted } from '../state/tools.ts';
import { makers, WORDS } from './made-agent.ts';

const { newAgent } = makers();

interface Run {
  warnings: { code: string; path?: string }[];
}

describe('the state', () => {
  it('is kept with its FIFOs, and within its file system, where the config or the command says so', async () => {
    const agent = await newAgent();
    execFileSync('mkfifo', [agent.at('state', 'fifo')]);
    mkdirSync(agent.at('state', 'mount'));
    const config = agent.at('holdfast.yaml');
    expect((await agent.json<Run>(0, 'backup')).warnings).toMatchObject([{ code: 'special_skipped', path: 'fifo' }]);
    writeFileSync(config, readFileSync(config, 'utf8').replace(/^state:$/m, 'state:\n  special: keep'));
    const isMounted = canMount();
    using _mount = isMounted ? mounted(agent.at('state', 'mount'), '-t', 'tmpfs', 'none') : undefined;
    const { warnings } = await agent.json<Run>(0, 'backup', '--one-file-system');
    expect(warnings.map(({ code }) => code)).toEqual(isMounted ? ['other_file_system'] : []);
    const listed = await agent.json<{ entries: { path: string; type: string }[] }>(0, 'ls', 'latest', ...WORDS);
    expect(listed.entries.find(({ path }) => path === 'fifo')?.type).toBe('fifo');
    const target = agent.at('restored');
    await agent.json(0, 'restore', 'latest', '--target', target, ...WORDS);
    expect(lstatSync(join(target, 'fifo')).isFIFO()).toBe(true);

    writeFileSync(config, readFileSync(config, 'utf8').replace('special: keep', 'special: some'));
    await agent.json(2, 'backup');
  });

  it.skipIf(!canMount())('that a target cannot hold whole is restored as far as it can, with exit code 3', async () => {
    const agent = await newAgent();
    execFileSync('setfattr', ['-n', 'user.tag', '-v', 'x', agent.at('state', 'MEMORY.md')]);
    await agent.json(0, 'backup');
    mkdirSync(agent.at('disk'));
    using _mount = mounted(agent.at('disk'), '-t', 'ramfs', 'none');
    const target = agent.at('disk', 'restored');
    const { warnings } = await agent.json<Run>(3, 'restore', 'latest', '--target', target, ...WORDS);
    expect(warnings).toMatchObject([{ code: 'xattrs_not_restored', path: 'MEMORY.md' }]);
    expect(readFileSync(join(target, 'MEMORY.md'), 'utf8')).toBe('# memory\n');
  });
});
