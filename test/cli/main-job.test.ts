/** The main job and what can go wrong with it, as a user sees them: the real program, its exit codes, stdout and stderr. */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { initArgs } from './agent-home.ts';
import { PROGRAM, run, type Ended } from './run.ts';
import { runWarm } from './warm.ts';

let home: string;
const at = (...names: string[]) => join(home, ...names);
const env = () => ({ HOME: home, XDG_STATE_HOME: '', XDG_CACHE_HOME: '', XDG_CONFIG_HOME: '' });
const holdfast = (...args: string[]): Promise<Ended> => runWarm(args, { cwd: home, env: env() });
const json = <T>(ended: Ended): T => JSON.parse(ended.stdout) as T;
const url = (name: string) => `file://${at(name)}`;
const WORDS = ['--words-file', 'words.txt'];

const wordsIn = (name: string) =>
  readFileSync(at(name), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .join(' ')
    .split(' ');

interface Failure {
  error: { code: string; message: string; hint: string };
}

/** Runs with --json and checks the form of the error: one document on stdout, a hint, no trace, no leftovers. */
async function refused(code: number, args: string[]): Promise<Failure['error']> {
  const ended = await holdfast(...args, '--json');
  expect(ended, args.join(' ')).toMatchObject({ code });
  const { error } = json<Failure>(ended);
  expect(error.message.length).toBeGreaterThan(10);
  expect(ended.stdout + ended.stderr).not.toMatch(/\n\s+at /);
  return error;
}

beforeAll(async () => {
  home = temporaryFolder();
  mkdirSync(at('state', 'memory'), { recursive: true });
  mkdirSync(at('state', 'empty'));
  writeFileSync(at('state', 'MEMORY.md'), '# memory\n');
  writeFileSync(
    at('state', 'log.jsonl'),
    Array.from({ length: 5000 }, (_, i) => `{"line":${i},"text":"something that happened"}\n`).join(''),
  );
  const made = await holdfast(...initArgs(at), ...WORDS);
  expect(made).toMatchObject({ code: 0, stderr: '' });
});
afterAll(() => removeFolder(home));

describe('the main job', () => {
  it('init shows no word and leaves only files that nobody else can read', async () => {
    const words = wordsIn('words.txt');
    expect(words).toHaveLength(24);
    for (const name of ['words.txt', 'holdfast.yaml', 'holdfast.identity.key', 'holdfast.writer.key']) {
      expect(statSync(at(name)).mode & 0o777, name).toBe(0o600);
    }
    const shown = await holdfast(...initArgs(at, ['x']), '--config', 'x.yaml', '--words-file', 'x.txt', '--json');
    expect(shown.code).toBe(0);
    expect(Object.keys(json<object>(shown))).not.toContain('words');
    const printed = wordsIn('x.txt');
    // Words of the list in what is printed, fingerprints aside: the members and texts of every result, and no other.
    const told = (shown.stdout + shown.stderr).replaceAll(/SHA256:[^"]*/g, '').match(/\b[a-z]+\b/g) ?? [];
    const ours = ['agent', 'any', 'file', 'key', 'name', 'paper', 'secret', 'state', 'title', 'true'];
    expect([...new Set(told)].filter((word) => wordlist.includes(word)).sort()).toEqual(ours);
    for (const [i, word] of printed.entries())
      if (i > 0) expect(shown.stdout + shown.stderr).not.toContain(`${printed[i - 1]} ${word}`);
    for (const name of ['x', 'x.yaml', 'x.txt', 'x.identity.key', 'x.writer.key'])
      rmSync(at(name), { recursive: true });
  });

  it('backup, change, backup, snapshots: with the promised fields', async () => {
    const first = json<{
      snapshot: { id: string; seq: number; parent: string | null };
      files: object;
      backends: object[];
      warnings: object[];
    }>(await holdfast('backup', '--json'));
    expect(first).toMatchObject({
      snapshot: { seq: 0, parent: null },
      files: { total: 2, new: 2, changed: 0, unmodified: 0, removed: 0 },
      backends: [
        { name: 'nas', state: 'committed' },
        { name: 'usb', state: 'committed' },
      ],
      warnings: [],
    });
    appendFileSync(at('state', 'log.jsonl'), '{"line":5000}\n');
    writeFileSync(at('state', 'memory', 'today.md'), 'today\n');
    const second = await holdfast('backup', '--json', '--tag', 'evening');
    expect(second).toMatchObject({ code: 0 });
    expect(json(second)).toMatchObject({
      snapshot: { seq: 1, parent: first.snapshot.id },
      files: { total: 3, new: 1, changed: 1, unmodified: 1, removed: 0 },
    });
    const packs = readdirSync(at('nas', 'packs'), { recursive: true }).length;
    expect(json(await holdfast('backup', '--json'))).toMatchObject({
      bytes: { added: 0 },
      files: { changed: 0, new: 0 },
    });
    expect(readdirSync(at('nas', 'packs'), { recursive: true })).toHaveLength(packs);
    const listed = json<{ id: string; seq: number; tags: string[]; backends: string[] }[]>(
      await holdfast('snapshots', '--json'),
    );
    expect(listed.map(({ seq, tags, backends }) => [seq, tags, backends])).toEqual([
      [0, [], ['nas', 'usb']],
      [1, ['evening'], ['nas', 'usb']],
      [2, [], ['nas', 'usb']],
    ]);
  });

  it('both backends are the same, byte for byte', () => {
    expect(spawnSync('diff', ['-r', at('nas'), at('usb')], { encoding: 'utf8' })).toMatchObject({
      status: 0,
      stdout: '',
    });
  });

  it('ls, cat and restore need the words and give back what was there', async () => {
    const listing = json<{ entries: { path: string; size: number }[] }>(
      await holdfast('ls', 'latest', 'memory', ...WORDS, '--json'),
    );
    expect(listing.entries.map(({ path, size }) => [path, size])).toEqual([
      ['memory', 0],
      ['memory/today.md', 6],
    ]);
    expect(await holdfast('cat', 'latest', 'memory/today.md', ...WORDS)).toMatchObject({
      code: 0,
      stdout: 'today\n',
      stderr: '',
    });
    const restored = await holdfast('restore', 'latest', '--target', 'out', ...WORDS, '--json');
    expect(restored).toMatchObject({ code: 0 });
    expect(json(restored)).toMatchObject({ files: 3, healed: [], warnings: [] });
    const list = (folder: string) =>
      spawnSync('find', [at(folder), '-printf', '%P %y %m %T@ %s %l\n'], { encoding: 'utf8' })
        .stdout.split('\n')
        .toSorted();
    expect(list('out')).toEqual(list('state'));
    expect(spawnSync('diff', ['-r', at('state'), at('out')]).status).toBe(0);
    const part = await holdfast('restore', 'latest', '--target', 'part', '--path', 'memory/today.md', ...WORDS);
    expect(part).toMatchObject({ code: 0 });
    expect(readdirSync(at('part'), { recursive: true }).toSorted()).toEqual(['memory', 'memory/today.md']);
  });

  it('verify finds nothing wrong at any level', async () => {
    for (const level of ['listing', 'objects', 'chunks']) {
      const ended = await holdfast('verify', '--level', level, ...(level === 'chunks' ? WORDS : []), '--json');
      expect(ended, level).toMatchObject({ code: 0 });
      expect(json(ended)).toMatchObject({ level, damaged: [] });
    }
  });

  it('recover on an empty machine brings back identity, config and state', async () => {
    const before = json<{ fingerprint: string }>(await holdfast('identity', 'show', '--json'));
    const there = await run(
      PROGRAM,
      ['recover', '--from', url('usb'), '--target', 'state', '--words-file', at('words.txt'), '--json'],
      {
        cwd: (mkdirSync(at('machine')), at('machine')),
        env: { ...env(), HOME: at('machine') },
      },
    );
    expect(there).toMatchObject({ code: 0 });
    expect(json(there)).toMatchObject({
      identity: { continuous: true },
      agent: { handle: 'ada', fingerprint: before.fingerprint },
    });
    expect(readFileSync(at('machine', 'holdfast.identity.key'), 'utf8').length).toBeGreaterThan(100);
    expect(spawnSync('diff', ['-r', at('state'), at('machine', 'state')], { encoding: 'utf8' }).stdout).toBe(
      `Only in ${at('machine', 'state')}: holdfast-restored.json\n`,
    );
    const next = await run(PROGRAM, ['backup', '--json'], {
      cwd: at('machine'),
      env: { ...env(), HOME: at('machine') },
    });
    expect(json(next)).toMatchObject({ snapshot: { seq: 3 }, bytes: { added: 0 } });
  });
});

describe('bad input gives one clear sentence, a hint and its exit code, and changes nothing', () => {
  it('words', async () => {
    const words = wordsIn('words.txt');
    const file = (name: string, text: string) => (
      writeFileSync(at(name), text, { mode: 0o600 }),
      ['restore', '--target', 'never', '--words-file', name]
    );
    const swapped = words.with(0, words[1] ?? '').with(1, words[0] ?? '');
    expect((await refused(12, file('few', words.slice(1).join(' ')))).message).toMatch(/23/);
    expect((await refused(12, file('typo', words.with(6, 'holdfastx').join(' ')))).message).toMatch(/7/);
    expect(await refused(12, file('swap', swapped.join(' ')))).toMatchObject({
      code: expect.stringMatching(/bad_words|wrong_key/),
    });
    const other = `${'abandon '.repeat(23)}art`;
    expect((await refused(12, file('other', other))).message).toMatch(/fingerprint .* does not match/);
    expect((await refused(12, ['restore', '--target', 'never'])).code).toBe('missing_key');
    // Whatever the words are, it says the same.
    const misplaced = (phrase: string[], flag: string[]) =>
      refused(2, ['restore', '--target', 'never', ...flag, ...phrase]);
    const anotherPhrase = other.split(' ');
    expect(await misplaced(words, [])).toEqual(await misplaced(anotherPhrase, []));
    expect(await misplaced([words.join(' ')], ['--words-file'])).toEqual(await misplaced([other], ['--words-file']));
    chmodSync(at('other'), 0o644);
    expect(await refused(12, ['restore', '--target', 'never', '--words-file', 'other'])).toMatchObject({
      code: 'insecure_permissions',
      hint: expect.stringContaining('chmod 600'),
    });
    expect(existsSync(at('never'))).toBe(false);
  });

  it('targets, snapshots and paths', async () => {
    expect((await refused(1, ['restore', '--target', 'state', ...WORDS])).code).toBe('exists');
    expect((await refused(1, ['restore', 'ffff0000', '--target', 'never', ...WORDS])).code).toBe('not_found');
    expect((await refused(2, ['restore', 'the-last', '--target', 'never', ...WORDS])).code).toBe('usage');
    expect((await refused(1, ['restore', '--target', 'never', '--path', 'no/such', ...WORDS])).code).toBe('not_found');
    expect((await refused(2, ['restore', '--target', 'never', '--path', '../etc', ...WORDS])).code).toBe('usage');
    expect((await refused(2, ['restore', '--target', 'never', '--from', 'moon', ...WORDS])).code).toBe('usage');
    expect(existsSync(at('never'))).toBe(false);
  });

  it('a second init over the first', async () => {
    const before = readFileSync(at('holdfast.identity.key'));
    const again = [
      'init',
      '--handle',
      'eve',
      '--state',
      'state',
      '--backend',
      `nas=${url('nas')}`,
      '--words-file',
      'w2',
    ];
    expect((await refused(1, again)).code).toBe('exists');
    expect((await refused(1, [...again, '--config', 'elsewhere.yaml'])).message).toMatch(/nas.*repository/);
    expect(readFileSync(at('holdfast.identity.key')).equals(before)).toBe(true);
    for (const name of ['w2', 'elsewhere.yaml', 'elsewhere.identity.key'])
      expect(existsSync(at(name)), name).toBe(false);
    expect((await refused(1, ['recover', '--from', url('usb'), '--target', 'never', ...WORDS])).code).toBe('exists');
    expect(existsSync(at('never'))).toBe(false);
  });

  it('flags before the command, an unknown flag, an unknown key in the config', async () => {
    expect((await refused(2, ['--config', 'holdfast.yaml', 'backup'])).hint).toMatch(/after the command/);
    expect((await refused(2, ['backup', '--jsno'])).code).toBe('usage');
    writeFileSync(at('odd.yaml'), readFileSync(at('holdfast.yaml'), 'utf8').replace('handle:', 'handel:'));
    expect(await refused(2, ['backup', '--config', 'odd.yaml'])).toMatchObject({
      message: expect.stringContaining('handel'),
      hint: expect.stringContaining('handle'),
    });
  });

  it('a backend that is not there, is no repository, or is somebody else’s', async () => {
    renameSync(at('nas'), at('nas.away'));
    const without = await holdfast('backup', '--json');
    expect(without).toMatchObject({ code: 3 });
    expect(json(without)).toMatchObject({
      backends: [
        { name: 'nas', state: 'failed', error: { code: 'backend_unavailable' } },
        { name: 'usb', state: 'committed' },
      ],
    });
    mkdirSync(at('nas'));
    expect(json(await holdfast('backup', '--json'))).toMatchObject({
      backends: [{ state: 'failed', error: { code: 'no_repository' } }, { state: 'committed' }],
    });
    expect(readdirSync(at('nas')).filter((name) => name !== 'tmp')).toEqual([]);
    rmSync(at('nas'), { recursive: true });

    writeFileSync(at('eve.txt'), '');
    rmSync(at('eve.txt'));
    expect(
      await holdfast(
        'init',
        '--handle',
        'eve',
        '--state',
        'state',
        '--backend',
        `nas=${url('nas')}`,
        '--config',
        'eve.yaml',
        '--words-file',
        'eve.txt',
      ),
    ).toMatchObject({ code: 0 });
    const foreign = readdirSync(at('nas'), { recursive: true }).toSorted();
    const mixed = await holdfast('backup', '--json');
    expect(mixed).toMatchObject({ code: 3 });
    expect(json(mixed)).toMatchObject({
      backends: [{ state: 'failed', error: { code: 'foreign_repository' } }, { state: 'committed' }],
    });
    expect(readdirSync(at('nas'), { recursive: true }).toSorted()).toEqual(foreign);
    rmSync(at('nas'), { recursive: true });
    renameSync(at('nas.away'), at('nas'));

    const levelled = await holdfast('backup', '--json');
    expect(levelled).toMatchObject({ code: 0 });
    expect(json(levelled)).toMatchObject({
      backends: [{ state: 'committed' }, { state: 'committed' }],
      warnings: [{ code: 'levelled' }],
    });
    expect(spawnSync('diff', ['-r', at('nas'), at('usb')]).status).toBe(0);
  });

  it('all backends gone', async () => {
    cpSync(at('holdfast.yaml'), at('gone.yaml'));
    writeFileSync(
      at('gone.yaml'),
      readFileSync(at('gone.yaml'), 'utf8')
        .replaceAll('/nas', '/gone-a')
        .replaceAll('/usb', '/gone-b')
        .replace('identity: holdfast', 'identity: ./holdfast'),
    );
    expect((await refused(1, ['backup', '--config', 'gone.yaml'])).code).toBe('backend_unavailable');
    mkdirSync(at('gone-a'));
    mkdirSync(at('gone-b'));
    expect((await refused(10, ['snapshots', '--config', 'gone.yaml'])).code).toBe('no_repository');
  });

  it('a damaged object: restore takes the other backend and says so; verify names it', async () => {
    const [name = ''] = readdirSync(at('nas', 'packs'), { recursive: true, encoding: 'utf8' }).filter((one) =>
      one.endsWith('.age'),
    );
    const pack = at('nas', 'packs', name);
    const good = readFileSync(pack);
    chmodSync(pack, 0o600);
    writeFileSync(pack, Buffer.from(good).fill(0, good.length - 8));
    const found = await holdfast('verify', '--level', 'objects', '--json');
    expect(found).toMatchObject({ code: 13 });
    expect(json(found)).toMatchObject({ damaged: [{ backend: 'nas', key: `packs/${name}` }] });
    const restored = await holdfast('restore', '--target', 'healed', ...WORDS, '--json');
    expect(restored).toMatchObject({ code: 0 });
    expect(spawnSync('diff', ['-r', at('state'), at('healed')]).status).toBe(0);
    writeFileSync(at('usb', 'packs', name), Buffer.from(good).fill(1, good.length - 8));
    const lost = await holdfast('restore', '0', '--target', 'lost', ...WORDS, '--json');
    expect(lost.code).toBeGreaterThan(0);
    writeFileSync(pack, good);
    writeFileSync(at('usb', 'packs', name), good);
    expect(await holdfast('verify', '--level', 'objects')).toMatchObject({ code: 0 });
  });
});

describe('demo', () => {
  it('prints one JSON document that is true, and leaves nothing behind', async () => {
    const before = readdirSync(home);
    const ended = await run(PROGRAM, ['demo', '--json'], { cwd: home, env: { ...env(), TMPDIR: home } });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    const result = json<{ steps: { name: string; seconds: number }[] }>(ended);
    expect(result).toMatchObject({
      ok: true,
      recovered: { identity: true, state: true },
      snapshots: [{ seq: 0 }, { seq: 1 }],
    });
    expect(result.steps.map(({ seconds }) => typeof seconds)).toEqual(result.steps.map(() => 'number'));
    expect(readdirSync(home)).toEqual(before);
  });
});
