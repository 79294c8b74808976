/** Private key files as commands read and write them, recovery where something is in the way, and what help says of it all. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { formatAgentKey, parseAgentKey } from '../../src/identity/agent-key.ts';
import { lacks, seededRandom } from '../crypto/support.ts';
import { contentsOf, makers, WORDS, type Agent } from './made-agent.ts';

const random = seededRandom('identity files');
const ownKey = parseAgentKey(Buffer.from(random.bytes(32)).toString('hex'));
const PASSPHRASE = 'glacier-2 trumpet Saffron anchor';
const noSsh = lacks('ssh-keygen', '-?');

const { folder, machine, newAgent } = makers();

describe('identity import and export', () => {
  let agent: Agent;
  const fileOf = (format: 'openssh' | 'pkcs8' | 'device' | 'hex') => formatAgentKey(ownKey, format, 'ada', random);
  beforeAll(async () => {
    agent = await newAgent();
  });

  it('takes over a key of another program, once', async () => {
    const file = agent.secret('device.json', fileOf('device'));
    expect((await agent.refused(12, 'identity', 'import', file)).code).toBe('missing_key');
    const { stdout, code, stderr } = await agent.holdfast('identity', 'import', file, ...WORDS);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('(imported)');
    expect(stdout).toContain('holdfast paper create');
    const shown = await agent.shown();
    expect(shown.publicKey).toBe(Buffer.from(ownKey.publicKey).toString('hex'));
    expect((await agent.log()).entries.at(-1)).toMatchObject({
      change: 'rotate',
      state: 'current',
      agent: { origin: 'imported', publicKey: shown.publicKey },
    });
    expect((await agent.refused(2, 'identity', 'import', file, ...WORDS)).code).toBe('usage');
    writeFileSync(agent.at('state', 'more.md'), 'more\n');
    await agent.json(0, 'backup');
    const there = machine();
    await there.json(0, 'recover', ...agent.place, '--words-file', agent.at('words.txt'));
    expect(await there.json(0, 'identity', 'show')).toMatchObject({ publicKey: shown.publicKey });
  });

  it.each(['openssh', 'pkcs8', 'device', 'hex'] as const)('gives it as %s, which comes in again', async (format) => {
    const result = await agent.json(0, 'identity', 'export', '--format', format, '--output', `copy.${format}`);
    expect(result).toMatchObject({ format, file: agent.at(`copy.${format}`) });
    const text = readFileSync(agent.at(`copy.${format}`), 'utf8');
    expect(parseAgentKey(text).seed).toEqual(ownKey.seed);
    expect(statSync(agent.at(`copy.${format}`)).mode & 0o777).toBe(0o600);
    expect((await agent.refused(1, 'identity', 'export', '--format', format, '--output', `copy.${format}`)).code).toBe(
      'exists',
    );
  });

  it.skipIf(noSsh)('ssh-keygen reads the export, plain and under a passphrase', async () => {
    const passphrase = ['--passphrase', '--passphrase-file', agent.secret('passphrase', PASSPHRASE)];
    await agent.json(0, 'identity', 'export', '--format', 'openssh', '--output', 'sealed', ...passphrase);
    const [type, key] = (await agent.shown()).ssh.split(' ');
    for (const [file, phrase] of [
      ['sealed', PASSPHRASE],
      ['copy.openssh', ''],
    ] as const) {
      const line = execFileSync('ssh-keygen', ['-y', '-P', phrase, '-f', agent.at(file)], { encoding: 'utf8' });
      expect(line.trim().split(' ').slice(0, 2)).toEqual([type, key]);
    }
    expect(spawnSync('ssh-keygen', ['-y', '-P', 'wrong', '-f', agent.at('sealed')]).status).not.toBe(0);
  });

  it('refuses what it cannot do, with what to do instead', async () => {
    const weak = ['--passphrase-file', agent.secret('weak', 'password1')];
    for (const [code, ...args] of [
      [2, '--output', 'x'],
      [2, '--format', 'words', '--output', 'x', ...WORDS],
      [2, '--format', 'age', ...WORDS],
      [2, '--format', 'age', '--passphrase', '--to-backends', ...WORDS],
      [2, '--to-backends', ...WORDS],
      [2, '--format', 'gpg', '--output', 'x'],
      [2, '--passphrase', '--output', 'x', ...weak, ...WORDS],
      [12, '--passphrase', '--output', 'x', ...WORDS],
    ] as const) {
      const error = await agent.refused(code, 'identity', 'export', ...args);
      expect(JSON.stringify(error), args.join(' ')).not.toContain('password1');
    }
    expect(existsSync(agent.at('x'))).toBe(false);
  });
});

describe('a private key file', () => {
  let agent: Agent;
  beforeAll(async () => {
    agent = await newAgent();
  });

  it('that others can read is refused by everything that would use it', async () => {
    const own = agent.secret('own.hex', formatAgentKey(ownKey, 'hex', 'ada', random));
    const before = (await agent.log()).entries.length;
    chmodSync(own, 0o644);
    chmodSync(agent.at('holdfast.identity.key'), 0o644);
    writeFileSync(agent.at('letter.txt'), 'letter');
    try {
      for (const [file, ...args] of [
        [own, 'identity', 'import', own, ...WORDS],
        [
          own,
          'init',
          '--handle',
          'x',
          '--state',
          'state',
          '--backend',
          `x=file://${agent.at('x')}`,
          '--identity',
          own,
          '--words-file',
          'x.txt',
          '--config',
          'x.yaml',
        ],
        [agent.at('holdfast.identity.key'), 'backup'],
        [agent.at('holdfast.identity.key'), 'identity', 'show'],
        [agent.at('holdfast.identity.key'), 'identity', 'sign', 'letter.txt'],
        [agent.at('holdfast.identity.key'), 'identity', 'relays', 'wss://x.example'],
        [agent.at('holdfast.identity.key'), 'identity', 'object'],
        [agent.at('holdfast.identity.key'), 'identity', 'rotate', ...WORDS],
        [agent.at('holdfast.identity.key'), 'identity', 'export', '--format', 'hex', '--output', 'x'],
      ] as const) {
        const error = await agent.refused(12, ...args);
        expect(error, args.join(' ')).toMatchObject({ code: 'insecure_permissions', hint: `Run: chmod 600 ${file}` });
        expect(error.message).toContain('644');
      }
      const text = await agent.holdfast('backup');
      expect(text).toMatchObject({ code: 12, stdout: '' });
      expect(text.stderr).toContain(`Hint: Run: chmod 600 ${agent.at('holdfast.identity.key')}\n`);
    } finally {
      chmodSync(agent.at('holdfast.identity.key'), 0o600);
    }
    for (const file of ['x', 'x.txt', 'x.yaml', 'letter.txt.sig']) expect(existsSync(agent.at(file)), file).toBe(false);
    expect((await agent.log()).entries).toHaveLength(before);
  });

  it.skipIf(noSsh)('under a passphrase asks for it, and is told from a wrong one', async () => {
    execFileSync('ssh-keygen', [
      '-q',
      '-t',
      'ed25519',
      '-C',
      '',
      '-N',
      PASSPHRASE,
      '-a',
      '1',
      '-f',
      agent.at('sealed'),
    ]);
    const before = await agent.shown();
    const missing = await agent.refused(12, 'identity', 'import', 'sealed', ...WORDS);
    expect(missing).toMatchObject({
      code: 'missing_key',
      hint: expect.stringContaining('--passphrase-file') as string,
    });
    expect(missing.message).toContain(agent.at('sealed'));
    const wrong = agent.secret('wrong', 'another passphrase altogether');
    const refused = await agent.refused(12, 'identity', 'import', 'sealed', ...WORDS, '--passphrase-file', wrong);
    expect(refused.code).toBe('wrong_key');
    const init = [
      'init',
      '--handle',
      'x',
      '--state',
      'state',
      '--backend',
      `x=file://${agent.at('x')}`,
      '--words-file',
      'y.txt',
    ];
    const unasked = await agent.refused(12, ...init, '--identity', 'sealed', '--config', 'y.yaml');
    expect(unasked.hint).toContain('--passphrase-file');
    for (const file of ['x', 'y.txt', 'y.yaml']) expect(existsSync(agent.at(file)), file).toBe(false);
    expect(await agent.shown()).toEqual(before);
    const right = agent.secret('right', PASSPHRASE);
    await agent.json(0, 'identity', 'import', 'sealed', ...WORDS, '--passphrase-file', right);
    expect((await agent.shown()).ssh.split(' ')[1]).toBe(readFileSync(agent.at('sealed.pub'), 'utf8').split(' ')[1]);
  });

  it('put in place under a passphrase cannot serve a host that signs by itself: that is said', async () => {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-C', '', '-N', PASSPHRASE, '-a', '1', '-f', agent.at('later')]);
    const kept = readFileSync(agent.at('holdfast.identity.key'));
    cpSync(agent.at('later'), agent.at('holdfast.identity.key'));
    try {
      const error = await agent.refused(12, 'backup');
      expect(error.code).toBe('missing_key');
    } finally {
      writeFileSync(agent.at('holdfast.identity.key'), kept);
    }
  });
});

describe('recover', () => {
  it('where another identity or config lies changes nothing', async () => {
    const agent = await newAgent();
    const there = await newAgent();
    const words = ['--words-file', agent.at('words.txt')];
    const target = ['--from', agent.url('nas'), '--target', 'elsewhere'];
    const before = contentsOf(folder);
    const error = await there.refused(1, 'recover', ...target, ...words);
    expect(error).toMatchObject({
      code: 'exists',
      message: expect.stringContaining('holdfast.identity.key') as string,
    });
    expect(contentsOf(folder)).toEqual(before);
    for (const name of ['holdfast.identity.key', 'holdfast.writer.key', 'holdfast.yaml']) {
      const one = machine();
      const file = one.secret(name, 'of another agent');
      const refused = await one.refused(1, 'recover', ...target, ...words);
      expect(refused).toMatchObject({ code: 'exists', message: expect.stringContaining(file) as string });
      expect(readdirSync(one.folder).toSorted()).toEqual([name, 'tmp'].toSorted());
      expect(readFileSync(file, 'utf8')).toBe('of another agent');
    }
    const full = machine();
    mkdirSync(full.at('elsewhere'));
    writeFileSync(full.at('elsewhere', 'mine.txt'), 'mine');
    expect((await full.refused(1, 'recover', ...target, ...words)).code).toBe('exists');
    expect(readdirSync(full.folder).toSorted()).toEqual(['elsewhere', 'tmp']);
    const text = await there.holdfast('recover', ...target, ...words);
    expect(text).toMatchObject({ code: 1, stdout: '' });
    expect(text.stderr).toMatch(/^Error: .*holdfast\.identity\.key exists already\nHint: Nothing was changed\./);
  });
});

describe('help', () => {
  it.each([
    ['identity', ['export', 'import', 'log', 'object', 'relays', 'rotate', 'show', 'sign', 'verify']],
    ['recipients', ['add', 'list', 'remove']],
    ['paper', ['create', 'verify']],
  ])('of the topic %s names its commands', async (topic, commands) => {
    const { code, stdout, stderr } = await machine().holdfast(topic, '--help');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const command of commands) expect(stdout).toMatch(new RegExp(`^ +${topic} ${command}\\b`, 'm'));
  });

  it.each([
    ['identity rotate', ['--words-file', 'old key', '--json']],
    ['identity import', ['FILE', '--passphrase-file', 'device.json']],
    ['identity export', ['--format', '--to-backends', 'recovery', 'age -d']],
    ['identity relays', ['--none', 'wss://']],
    ['identity object', ['without the words']],
    ['identity log', ['--json']],
    ['recipients add', ['RECIPIENT', 'age1', 'age-keygen']],
    ['recipients remove', ['Takes nothing back']],
    ['recipients list', ['--json']],
    ['recover', ['--emergency', '--recovery-key', '--revoke', '--relay', '--stored-vault', 'three days']],
  ])('of %s says what it takes', async (command, told) => {
    const { code, stdout, stderr } = await machine().holdfast(...command.split(' '), '--help');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const part of told) expect(stdout.replaceAll(/\s+/g, ' ')).toContain(part);
  });
});
