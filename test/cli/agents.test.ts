/**
 * Each kind of agent, backed up while it works and restored, as a user does it; and what came back is judged by programs that are not ours: `sqlite3 .dump`,
 * `jq`, `diff -r`, `getfattr -R`, `getfacl -R`, `find -printf`.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { AGENTS, makeFixture } from '../../fixtures/agents/generate.ts';
import type { BackupResult } from '../../src/operations/backup.ts';
import { aclsIn, hasTool, isRoot, xattrsIn } from '../state/tools.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs } from './agent-home.ts';

const folder = temporaryFolder();
afterAll(() => removeFolder(folder));
const TOOLS = ['sqlite3', 'jq', 'diff', 'getfattr', 'getfacl', 'find'];
const isEquipped = TOOLS.every(hasTool);
if (process.env['CI'] === 'true' && !isEquipped) throw new Error(`this needs ${TOOLS.join(', ')}`);

const out = (file: string, args: readonly string[], cwd?: string): string =>
  execFileSync(file, args, { cwd, encoding: 'utf8', maxBuffer: 2 ** 28 });
const dump = (path: string) => out('sqlite3', ['-readonly', path, '.dump']);
const DATABASES = /\.(db|sqlite|sqlite3)$/;
/** What belongs to a database and is in the copy of it. */
const isSibling = (path: string) => /-(wal|shm|journal)$/.test(path);

/** Where each of them keeps a log that grows. */
const LOG: Partial<Record<string, string>> = {
  openclaw: 'agents/main/sessions/busy.jsonl',
  'claude-code': 'projects/-home-ada-work/busy.jsonl',
  hermes: 'sessions/busy.jsonl',
};

describe.skipIf(!isEquipped)('an agent that works meanwhile', () => {
  test.each(AGENTS)('comes back whole: %s', async (name) => {
    const home = agentHome(join(folder, name), { warm: true });
    const state = home.at('state');
    using made = makeFixture(name, state);
    if (isRoot) {
      const [file = ''] = made.state;
      out('setfattr', ['-n', 'user.origin', '-v', 'the workshop', join(state, file)]);
      out('setfacl', ['-m', 'u:12345:r', join(state, file)]);
    }
    const busyLog = LOG[made.profile] ?? 'busy.jsonl';
    const busyDb = join(dirname(busyLog), 'busy.sqlite');
    mkdirSync(join(state, dirname(busyLog)), { recursive: true });
    const init = await home.json<{ profile: { name: string } }>(
      0,
      ...initArgs((disk) => home.at(disk)),
      '--words-file',
      'words.txt',
    );
    expect(init.profile.name).toBe(made.profile);

    const busy = spawn(
      process.execPath,
      [new URL('busy-agent.ts', import.meta.url).pathname, join(state, busyDb), join(state, busyLog)],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    await once(busy.stdout, 'data');
    let backup: BackupResult;
    try {
      backup = await home.json<BackupResult>(0, 'backup');
    } finally {
      busy.kill('SIGKILL');
      await once(busy, 'exit');
    }
    expect(backup.secrets.files).toBe(made.secret.filter((path) => !isSibling(path)).length);
    await home.json(0, 'restore', '--target', 'back', '--with-secrets', '--words-file', 'words.txt');
    const back = home.at('back');

    // What the agent was at: whole lines only, and a prefix of its commits.
    expect(out('jq', ['-s', 'length == (map(.n) | max)', join(back, busyLog)])).toBe('true\n');
    const rows = (expression: string) => out('sqlite3', ['-readonly', join(back, busyDb), expression]).trim();
    expect(rows('PRAGMA integrity_check')).toBe('ok');
    expect(rows('SELECT count(*) = max(n) AND count(*) > 0 FROM work')).toBe('1');

    // Everything else: the same in every respect.
    const databases = [...made.state, ...made.secret].filter((path) => DATABASES.test(path));
    for (const path of databases) expect(dump(join(back, path)), path).toBe(dump(join(state, path)));
    for (const path of [...made.state, ...made.secret].filter((one) => /\.jsonl?$/.test(one)))
      expect(out('jq', ['-c', '.', join(back, path)]), path).toBe(out('jq', ['-c', '.', join(state, path)]));
    const apart = [...databases, busyLog, busyDb].flatMap((path) =>
      ['', '-wal', '-shm', '-journal'].map((end) => `${path}${end}`),
    );
    const left = (line: string) => !apart.some((path) => line.includes(path.split('/').at(-1) ?? path));
    const differences = spawnSync('diff', ['-rq', '--no-dereference', state, back], { encoding: 'utf8' }).stdout;
    const cached = new Set(made.cache.map((path) => path.split('/').at(-1)));
    expect(
      differences.split('\n').filter((line) => line !== '' && left(line) && !line.startsWith(`Only in ${state}`)),
    ).toEqual([]);
    expect(made.cache.every((path) => spawnSync('test', ['-e', join(back, path)]).status !== 0)).toBe(true);
    const listed = (root: string) =>
      out('find', ['.', '-printf', '%P %y %m %U %G %s %T@ %l\\n'], root)
        .split('\n')
        .filter((line) => line !== '' && left(line) && ![...cached].some((one) => line.includes(one ?? '/')));
    const isFolder = (line: string) => / d \d+ \d+ \d+ /.test(line);
    const kept = new Set(listed(back).filter((line) => !isFolder(line)));
    const wanted = new Set([...made.state, ...made.secret]);
    expect([...kept].sort()).toEqual(
      listed(state)
        .filter((line) => !isFolder(line) && wanted.has(line.split(' ')[0] ?? ''))
        .sort(),
    );
    const ofKept = (blocks: string[]) =>
      blocks.filter((block) => left(block) && ![...cached].some((one) => block.includes(one ?? '/')));
    expect(ofKept(xattrsIn(back))).toEqual(ofKept(xattrsIn(state)));
    if (isRoot) expect(xattrsIn(back).join()).toContain('the workshop');
    const files = (blocks: string[]) =>
      ofKept(blocks).filter((block) => [...wanted].some((path) => block.startsWith(`# file: ${path}\n`)));
    expect(files(aclsIn(back))).toEqual(files(aclsIn(state)));
  });
});
