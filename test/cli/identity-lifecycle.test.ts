/** The agent's keys over the years, as commands see them: rotation, the log, relays, recovery keys, objecting, recipients. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { ageRecipientOf } from '../../src/crypto/age.ts';
import { wordsOf } from '../../src/crypto/words.ts';
import { parseAgentKey } from '../../src/identity/agent-key.ts';
import { newRoot, parseWordsText, recoveryKey, restoreIdentity } from '../../src/identity/root.ts';
import { lacks, seededRandom } from '../crypto/support.ts';
import type { AgentHome } from './agent-home.ts';
import { contentsOf, makers, WORDS, type Agent, type LogRow, type Shown } from './made-agent.ts';

const random = seededRandom('identity lifecycle');
const operator = restoreIdentity(newRoot(random), 'x25519');
const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}$/;
const THREE_DAYS_MS = 3 * 24 * 60 * 60 * 1000;

interface Rotated {
  files: { kept: string | null };
}
interface Recipients {
  recipients: { recipient: string; kind: string }[];
  backends: string[];
}

const { folder, machine, newAgent } = makers();

describe('identity rotate', () => {
  let agent: Agent;
  let first: Shown;
  let rotated: Rotated;
  beforeAll(async () => {
    agent = await newAgent();
    first = await agent.shown();
    rotated = await agent.json<Rotated>(0, 'identity', 'rotate', ...WORDS);
  });

  it('gives the next key, keeps the old one, and logs the hand-over', async () => {
    const now = await agent.shown();
    expect(now.publicKey).not.toBe(first.publicKey);
    expect(rotated).toMatchObject({
      handle: 'ada',
      agent: { publicKey: now.publicKey, fingerprint: now.fingerprint, origin: 'derived' },
      previous: { publicKey: first.publicKey, fingerprint: first.fingerprint },
      entry: { seq: 1, change: 'rotate', by: 'agent', state: 'current' },
      wasInterrupted: false,
      files: { kept: agent.at('holdfast.identity.key.replaced-1') },
      backends: ['nas', 'usb'],
      warnings: [],
    });
    const { publicKey } = parseAgentKey(readFileSync(rotated.files.kept!, 'utf8'));
    expect(Buffer.from(publicKey).toString('hex')).toBe(first.publicKey);
    for (const file of readdirSync(agent.folder).filter((name) => name.includes('.key')))
      expect(statSync(agent.at(file)).mode & 0o777, file).toBe(0o600);
    const { entries } = await agent.log();
    expect(entries).toMatchObject([
      { seq: 0, change: 'genesis', previous: null, state: 'past', agent: { publicKey: first.publicKey } },
      { seq: 1, change: 'rotate', by: 'agent', state: 'current', agent: { publicKey: now.publicKey } },
    ]);
    expect(entries[1]!.previous).toBe(entries[0]!.id);
    for (const { agent: key, recovery } of entries)
      expect([key.fingerprint, recovery]).toEqual([
        expect.stringMatching(FINGERPRINT) as string,
        expect.stringMatching(FINGERPRINT) as string,
      ]);
  });

  it('and backups go on, with old and new snapshots believed; who has the old key alone adds none', async () => {
    writeFileSync(agent.at('state', 'more.md'), 'more\n');
    await agent.json(0, 'backup');
    await agent.json(0, 'verify', '--level', 'chunks', ...WORDS);
    const thief = machine();
    for (const file of ['holdfast.yaml', 'holdfast.writer.key'])
      writeFileSync(thief.at(file), readFileSync(agent.at(file)), { mode: 0o600 });
    writeFileSync(thief.at('holdfast.identity.key'), readFileSync(rotated.files.kept!), { mode: 0o600 });
    expect((await thief.refused(12, 'backup')).code).toBe('wrong_key');
  });

  it.skipIf(lacks('ssh-keygen', '-?'))(
    'signs with the new key, as ssh-keygen sees it, and no more with the old one',
    async () => {
      const text = 'what the agent says\n';
      writeFileSync(agent.at('letter.txt'), text);
      await agent.json(0, 'identity', 'sign', 'letter.txt');
      const check = (ssh: string) => {
        writeFileSync(agent.at('allowed'), `ada ${ssh}\n`);
        const args = ['-Y', 'verify', '-f', 'allowed', '-I', 'ada', '-n', 'file', '-s', 'letter.txt.sig'];
        return spawnSync('ssh-keygen', args, { cwd: agent.folder, input: text }).status;
      };
      const now = await agent.shown();
      expect([check(now.ssh), check(first.ssh)]).toEqual([0, 255]);
      await agent.json(0, 'identity', 'verify', 'letter.txt', '--signature', 'letter.txt.sig');
      const old = ['identity', 'verify', 'letter.txt', '--signature', 'letter.txt.sig', '--key', first.ssh];
      expect((await agent.refused(12, ...old)).code).toBe('wrong_key');
    },
  );

  it('as text names both keys, the file that is kept, and what is next', async () => {
    const before = await agent.shown();
    const { code, stdout, stderr } = await agent.holdfast('identity', 'rotate', ...WORDS);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const now = await agent.shown();
    for (const told of [before.fingerprint, now.fingerprint, 'holdfast.identity.key.replaced-2', 'entry:', 'nas, usb'])
      expect(stdout).toContain(told);
    const log = await agent.holdfast('identity', 'log');
    expect(log).toMatchObject({ code: 0, stderr: '' });
    expect(log.stdout.trim().split('\n')).toHaveLength(4);
    expect(log.stdout).toMatch(/^entry +time +change +signed by +state +agent key/);
    expect(log.stdout).toContain(now.fingerprint);
  });

  it('without the words, or with those of another agent, changes nothing', async () => {
    const before = contentsOf(folder);
    expect((await agent.refused(12, 'identity', 'rotate')).code).toBe('missing_key');
    expect((await agent.refused(12, 'identity', 'rotate', '--words-file', 'absent')).code).toBe('missing_key');
    const other = join(folder, 'other.txt');
    writeFileSync(other, wordsOf(newRoot(random)).join(' '), { mode: 0o600 });
    expect((await agent.refused(12, 'identity', 'rotate', '--words-file', other)).code).toBe('wrong_key');
    const key = join(folder, 'age.key');
    writeFileSync(key, restoreIdentity(parseWordsText(readFileSync(agent.at('words.txt'), 'utf8')), 'x25519'), {
      mode: 0o600,
    });
    const error = await agent.refused(12, 'identity', 'rotate', '--identity-file', key);
    expect(error).toMatchObject({ code: 'missing_key', hint: expect.stringContaining('--words-file') as string });
    expect(contentsOf(folder)).toEqual({
      ...before,
      [other]: readFileSync(other, 'latin1'),
      [key]: readFileSync(key, 'latin1'),
    });
  });
});

describe('identity relays', () => {
  let agent: Agent;
  const relays = ['wss://one.example/inbox', 'wss://two.example'];
  beforeAll(async () => {
    agent = await newAgent();
  });

  it('shows, replaces and empties the list', async () => {
    expect((await agent.json<{ relays: string[] }>(0, 'identity', 'relays')).relays).toEqual([]);
    expect(await agent.json(0, 'identity', 'relays', ...relays)).toEqual({ relays, warnings: [] });
    expect(await agent.holdfast('identity', 'relays')).toEqual({
      code: 0,
      stdout: `${relays.join('\n')}\n`,
      stderr: '',
    });
    const log = await agent.holdfast('identity', 'log');
    expect(log.stdout).toContain(`relays: ${relays.join(' ')}`);
    expect(await agent.json(0, 'identity', 'relays', '--none')).toEqual({ relays: [], warnings: [] });
    const { entries } = await agent.log();
    expect(entries.map(({ change, by }) => `${change} by ${by}`).slice(1)).toEqual([
      'relays by agent',
      'relays by agent',
    ]);
  });

  it('refuses what is no public URL, and repeats no password', async () => {
    const before = (await agent.log()).entries.length;
    for (const relay of ['one.example', 'wss://ada:hunter22@one.example', 'wss://']) {
      const error = await agent.refused(2, 'identity', 'relays', 'wss://good.example', relay);
      expect(error).toMatchObject({ code: 'usage', message: expect.stringContaining('relay 2') as string });
      expect(JSON.stringify(error)).not.toContain('hunter22');
    }
    expect((await agent.refused(2, 'identity', 'relays', '--none', ...relays)).code).toBe('usage');
    expect((await agent.log()).entries).toHaveLength(before);
  });
});

describe('a recovery key', () => {
  let agent: Agent;
  let rescuer: AgentHome;
  let first: Shown;
  const emergency = (...more: string[]) => [
    'recover',
    '--emergency',
    '--from',
    agent.url('nas'),
    '--from',
    agent.url('usb'),
    ...more,
  ];
  const withKey = (...more: string[]) => emergency('--recovery-key', 'recovery.key', ...more);

  beforeAll(async () => {
    agent = await newAgent();
    first = await agent.shown();
    rescuer = machine();
  });

  it('is exported with the words alone, once per authority, and says what it is for', async () => {
    const args = ['identity', 'export', '--format', 'recovery', '--output', 'recovery.key'];
    expect((await agent.refused(12, ...args)).code).toBe('missing_key');
    const made = await agent.holdfast(...args, ...WORDS);
    expect(made).toEqual({ code: 0, stdout: `written: ${agent.at('recovery.key')}\n`, stderr: '' });
    expect(statSync(agent.at('recovery.key')).mode & 0o777).toBe(0o600);
    expect((await agent.refused(1, ...args, ...WORDS)).code).toBe('exists');
    const text = readFileSync(agent.at('recovery.key'), 'utf8');
    expect(text).toContain('holdfast recover --emergency --recovery-key');
    const root = parseWordsText(readFileSync(agent.at('words.txt'), 'utf8'));
    expect(text).toContain(Buffer.from(recoveryKey(root, 0).seed).toString('hex'));
    expect(text).not.toContain(Buffer.from(recoveryKey(root, 1).seed).toString('hex'));
    rescuer.secret('recovery.key', text);
  });

  it('is needed for --emergency, with its own flags, for its own repository', async () => {
    const before = contentsOf(folder);
    const error = await rescuer.refused(2, ...emergency());
    expect(`${error.message}`).toContain('recovery-key');
    const alone = ['recover', '--from', agent.url('nas'), '--target', 'state'];
    expect((await rescuer.refused(2, ...alone, '--revoke')).message).toContain('emergency');
    expect((await rescuer.refused(2, ...alone, '--relay', 'wss://x.example')).message).toContain('emergency');
    await rescuer.refused(2, ...withKey('--revoke', '--relay', 'wss://x.example'));
    expect((await rescuer.refused(2, 'recover', '--from', agent.url('nas'))).message).toContain('target');
    expect((await rescuer.refused(12, ...emergency('--recovery-key', 'absent'))).code).toBe('missing_key');
    expect((await rescuer.refused(2, ...withKey('--relay', 'wss://a:b@x.example'))).code).toBe('usage');
    chmodSync(rescuer.at('recovery.key'), 0o640);
    const open = await rescuer.refused(12, ...withKey());
    expect(open).toMatchObject({ code: 'insecure_permissions', hint: expect.stringContaining('chmod 600') as string });
    chmodSync(rescuer.at('recovery.key'), 0o600);
    expect(contentsOf(folder)).toEqual(before);
    const stranger = await newAgent();
    const untouched = contentsOf(folder);
    const foreign = ['recover', '--emergency', '--recovery-key', 'recovery.key', '--from', stranger.url('nas')];
    expect((await rescuer.refused(10, ...foreign)).code).toBe('foreign_repository');
    expect(contentsOf(folder)).toEqual(untouched);
  });

  it('begins a new key, which waits three days; the agent goes on, sees it, and objects', async () => {
    const begun = await rescuer.json<{ entry: LogRow; agent: Shown; identityFile: string; warnings: unknown[] }>(
      0,
      ...withKey(),
    );
    expect(begun).toMatchObject({
      handle: 'ada',
      action: 'rotate',
      identityFile: rescuer.at('holdfast.identity.key'),
      entry: { seq: 1, change: 'rotate', by: 'recovery', state: 'pending', agent: { origin: 'imported' } },
      backends: ['backend-1', 'backend-2'],
      warnings: [],
    });
    expect(Date.parse(begun.entry.inForceFrom) - Date.parse(begun.entry.created)).toBe(THREE_DAYS_MS);
    expect(statSync(begun.identityFile).mode & 0o777).toBe(0o600);
    const { publicKey } = parseAgentKey(readFileSync(begun.identityFile, 'utf8'));
    expect(Buffer.from(publicKey).toString('hex')).toBe(begun.agent.publicKey);

    // The agent is the agent, and hears of it with each backup.
    writeFileSync(agent.at('state', 'more.md'), 'more\n');
    expect(await agent.json(3, 'backup')).toMatchObject({
      warnings: [{ code: 'contested_change', message: expect.stringContaining('holdfast identity object') as string }],
    });
    const log = await agent.holdfast('identity', 'log');
    expect(log.stdout).toMatch(/pending until \d{4}-/);
    expect(log.stdout).toContain('holdfast identity object');
    expect((await agent.refused(1, 'identity', 'rotate', ...WORDS)).code).toBe('contested');
    expect((await agent.log()).entries).toMatchObject([{ state: 'current' }, { state: 'pending' }]);

    const objected = await agent.json<{ entry: LogRow }>(0, 'identity', 'object');
    expect(objected).toMatchObject({
      entry: { seq: 2, change: 'object', by: 'agent', state: 'current' },
      backends: ['nas', 'usb'],
    });
    expect((await agent.log()).entries.map(({ state }) => state)).toEqual(['past', 'objected', 'current']);
    expect(await agent.shown()).toMatchObject({ publicKey: first.publicKey });
    await agent.json(0, 'backup');
    const nothing = await agent.refused(2, 'identity', 'object');
    expect(nothing).toMatchObject({ code: 'usage', hint: expect.stringContaining('identity log') as string });
  });

  it('serves once', async () => {
    const again = machine();
    again.secret('recovery.key', readFileSync(rescuer.at('recovery.key')));
    const before = contentsOf(folder);
    for (const args of [withKey(), withKey('--revoke'), withKey('--relay', 'wss://x.example')]) {
      const error = await again.refused(12, ...args);
      expect(error).toMatchObject({
        code: 'wrong_key',
        hint: expect.stringContaining('identity export --format recovery') as string,
      });
    }
    expect(contentsOf(folder)).toEqual(before);
  });

  it('of the next authority revokes, as text tells', async () => {
    const args = ['identity', 'export', '--format', 'recovery', '--output', 'next.key', ...WORDS];
    await agent.json(0, ...args);
    expect(readFileSync(agent.at('next.key'), 'utf8')).not.toBe(readFileSync(agent.at('recovery.key'), 'utf8'));
    const other = machine();
    const revoked = await other.holdfast(...emergency('--recovery-key', agent.at('next.key'), '--revoke'));
    expect(revoked).toMatchObject({ code: 0, stderr: '' });
    expect(revoked.stdout).toMatch(/in force: +from \d{4}-.*unless the agent objects/);
    expect(revoked.stdout).toContain('used up');
    expect(existsSync(other.at('holdfast.identity.key'))).toBe(false);
    expect((await agent.log()).entries.at(-1)).toMatchObject({ change: 'revoke', by: 'recovery', state: 'pending' });
    const cancelled = await agent.holdfast('identity', 'object');
    expect(cancelled).toMatchObject({ code: 0, stderr: '' });
    expect(cancelled.stdout).toMatch(/^cancelled: entry 4 of the identity log, on nas, usb\n/);
    expect((await agent.log()).isRevoked).toBe(false);
  });
});

describe('recipients', () => {
  let agent: Agent;
  let operatorRecipient: string;
  beforeAll(async () => {
    agent = await newAgent();
    operatorRecipient = await ageRecipientOf(operator);
  });
  const kinds = async (...args: string[]) =>
    (await agent.json<Recipients>(0, 'recipients', ...args)).recipients.map(({ kind }) => kind);

  it('are listed without any secret', async () => {
    const root = parseWordsText(readFileSync(agent.at('words.txt'), 'utf8'));
    const { recipients, backends } = await agent.json<Recipients>(0, 'recipients', 'list');
    expect(recipients).toEqual([
      { recipient: await ageRecipientOf(restoreIdentity(root, 'x25519')), kind: 'words' },
      { recipient: expect.stringMatching(/^age1/) as string, kind: 'writer' },
    ]);
    expect(backends).toEqual(['nas', 'usb']);
    const { stdout } = await agent.holdfast('recipients', 'list');
    expect(stdout).toMatch(/^recipient +what it is\n/);
    for (const { recipient } of recipients) expect(stdout).toContain(recipient);
  });

  it('an added one recovers state and identity, also from what was stored before', async () => {
    expect((await agent.refused(12, 'recipients', 'add', operatorRecipient)).code).toBe('missing_key');
    expect(await kinds('add', operatorRecipient, ...WORDS)).toEqual(['words', 'added', 'writer']);
    const there = machine();
    const key = there.secret('operator.key', `${operator}\n`);
    const recovered = await there.json(0, 'recover', ...agent.place, '--identity-file', key);
    expect(recovered).toMatchObject({
      identity: { continuous: false },
      lost: [],
      warnings: [{ code: 'identity_not_proved' }],
    });
    expect(readFileSync(there.at('state', 'MEMORY.md'), 'utf8')).toBe('# memory\n');
    expect(await there.json<Shown>(0, 'identity', 'show')).toMatchObject({
      publicKey: (await agent.shown()).publicKey,
    });
  });

  it('is removed, with the truth about what that takes back; then it opens nothing new', async () => {
    const removed = await agent.holdfast('recipients', 'remove', operatorRecipient, ...WORDS);
    expect(removed).toMatchObject({ code: 0, stderr: '' });
    for (const told of ['cannot be taken back', 'holdfast identity rotate', 'holdfast init'])
      expect(removed.stdout).toContain(told);
    expect(removed.stdout).not.toContain(operatorRecipient);
    expect(await kinds('list')).toEqual(['words', 'writer']);
    await agent.json(0, 'identity', 'rotate', ...WORDS);
    writeFileSync(agent.at('state', 'secret-plan.md'), 'the new plan\n');
    await agent.json(0, 'backup');
    const there = machine();
    const key = there.secret('operator.key', `${operator}\n`);
    const before = readdirSync(there.folder);
    expect((await there.refused(12, 'recover', ...agent.place, '--identity-file', key)).code).toBe('wrong_key');
    expect(readdirSync(there.folder)).toEqual(before);
  });

  it('that cannot be are refused', async () => {
    const { recipients } = await agent.json<Recipients>(0, 'recipients', 'list');
    const [words, writer] = recipients.map(({ recipient }) => recipient);
    for (const [code, name, ...args] of [
      [2, 'usage', 'add', words!],
      [2, 'usage', 'add', writer!],
      [2, 'usage', 'add', 'age1nonsense'],
      [2, 'usage', 'remove', words!],
      [1, 'not_found', 'remove', operatorRecipient],
      [1, 'not_found', 'remove', writer!],
    ] as const)
      expect((await agent.refused(code, 'recipients', ...args, ...WORDS)).code, args.join(' ')).toBe(name);
    expect((await agent.refused(2, 'recipients', 'add')).message).toContain('RECIPIENT');
    const secret = await agent.refused(2, 'recipients', 'add', operator, ...WORDS);
    expect(JSON.stringify(secret)).not.toMatch(new RegExp(operator.slice(20, 40), 'i'));
    expect(await kinds('list')).toEqual(['words', 'writer']);
  });
});
