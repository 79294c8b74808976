/** `identity show`, `sign` and `verify` as a user sees them, beside the real ssh-keygen. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceId, didKey, fingerprint, parsePublicKey } from '../../src/identity/agent-key.ts';
import { lacks } from '../crypto/support.ts';
import { sshFixture } from '../identity/ssh-fixtures.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { PROGRAM, ROOT, type Ended } from './run.ts';
import { runWarm } from './warm.ts';

let home: string;
const at = (name: string) => join(home, name);
const env = () => ({ HOME: home, XDG_STATE_HOME: '', XDG_CACHE_HOME: '', XDG_CONFIG_HOME: '' });
const holdfast = (...args: string[]): Promise<Ended> => runWarm(args, { cwd: home, env: env() });
const fromStdin = (input: string | Buffer, ...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, PROGRAM), ...args], {
    cwd: home,
    env: { ...process.env, ...env() },
    input,
    encoding: 'utf8',
  });
  return { code: status, stdout, stderr };
};
const json = <T>({ stdout }: { stdout: string }): T => JSON.parse(stdout) as T;
const errorCode = (ended: { stdout: string }) => json<{ error: { code: string } }>(ended).error.code;
const PUBLIC = parsePublicKey(sshFixture('key.pub'));
const OTHER = `did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp`;
const seedDigits = /[0-9a-f]{64}/i;

beforeAll(() => {
  home = temporaryFolder();
  writeFileSync(at('agent.key'), sshFixture('key'), { mode: 0o600 });
  const config = { agent: { handle: 'ada', identity: 'agent.key', writerKey: 'writer.key' } };
  writeFileSync(at('holdfast.yaml'), JSON.stringify(config), { mode: 0o600 });
  writeFileSync(at('letter.txt'), sshFixture('message'));
  writeFileSync(at('changed.txt'), `${sshFixture('message')}\n`);
  writeFileSync(at('given.sig'), sshFixture('message.sig'));
});
afterAll(() => removeFolder(home));

describe('identity show', () => {
  it('tells every name of the public key', async () => {
    const shown = json<Record<string, string>>(await holdfast('identity', 'show', '--json'));
    expect(shown).toEqual({
      handle: 'ada',
      publicKey: Buffer.from(PUBLIC).toString('hex'),
      fingerprint: fingerprint(PUBLIC),
      ssh: sshFixture('key.pub').trim().replace('test only', 'ada'),
      did: didKey(PUBLIC),
      deviceId: deviceId(PUBLIC),
      file: at('agent.key'),
    });
    const { stdout } = await holdfast('identity', 'show');
    for (const name of Object.values(shown)) expect(stdout).toContain(name);
  });
});

describe('identity sign', () => {
  it('writes the signature that ssh-keygen makes beside the file, and replaces nothing', async () => {
    const signed = await holdfast('identity', 'sign', 'letter.txt');
    expect(signed).toMatchObject({ code: 0, stdout: `written: ${at('letter.txt.sig')}\n`, stderr: '' });
    expect(readFileSync(at('letter.txt.sig'), 'utf8')).toBe(sshFixture('message.sig'));
    expect(statSync(at('letter.txt.sig')).mode & 0o111).toBe(0);
    writeFileSync(at('letter.txt.sig'), 'mine');
    const again = await holdfast('identity', 'sign', 'letter.txt', '--json');
    expect([again.code, errorCode(again)]).toEqual([1, 'exists']);
    expect(readFileSync(at('letter.txt.sig'), 'utf8')).toBe('mine');
  });

  it('of stdin goes to stdout, or to --output', () => {
    for (const args of [[], ['-']]) {
      const signed = fromStdin(sshFixture('message'), 'identity', 'sign', ...args);
      expect(signed).toEqual({ code: 0, stdout: sshFixture('message.sig'), stderr: '' });
    }
    const signed = fromStdin('', 'identity', 'sign', '--output', 'empty.sig', '--json');
    const expected = { signature: sshFixture('empty.sig'), namespace: 'file', fingerprint: fingerprint(PUBLIC) };
    expect(json(signed)).toEqual({ ...expected, file: at('empty.sig') });
    expect(readFileSync(at('empty.sig'), 'utf8')).toBe(sshFixture('empty.sig'));
    const onStdout = fromStdin(sshFixture('message'), 'identity', 'sign', '--namespace', 'ünïcode', '--json');
    expect(json(onStdout)).toEqual({ ...expected, signature: sshFixture('message.unicode.sig'), namespace: 'ünïcode' });
  });

  it('of what cannot be read makes no signature', async () => {
    for (const [name, code] of [
      ['absent', 'not_found'],
      ['.', 'usage'],
    ] as const) {
      expect(errorCode(await holdfast('identity', 'sign', name, '--output', 'none.sig', '--json'))).toBe(code);
    }
    expect(errorCode(await holdfast('identity', 'sign', 'letter.txt', '--namespace', '', '--json'))).toBe('usage');
    expect(existsSync(at('none.sig'))).toBe(false);
  });

  it('with a key that others can read is refused, with what to do', async () => {
    chmodSync(at('agent.key'), 0o644);
    try {
      for (const args of [['sign', 'letter.txt', '--output', 'open.sig'], ['show']]) {
        const { code, stdout, stderr } = await holdfast('identity', ...args);
        expect({ code, stdout }).toEqual({ code: 12, stdout: '' });
        expect(stderr).toContain(`chmod 600 ${at('agent.key')}`);
        expect(stderr).not.toMatch(seedDigits);
      }
      expect(existsSync(at('open.sig'))).toBe(false);
    } finally {
      chmodSync(at('agent.key'), 0o600);
    }
  });
});

describe('identity verify', () => {
  const verify = (file: string, ...args: string[]) =>
    holdfast('identity', 'verify', file, '--signature', 'given.sig', ...args);

  it('accepts a signature of the agent, or of the key that is given', async () => {
    writeFileSync(at('ada.pub'), sshFixture('key.pub'));
    const own = await verify('letter.txt', '--json');
    expect(json(own)).toEqual({ file: 'letter.txt', namespace: 'file', fingerprint: fingerprint(PUBLIC) });
    expect(own.code).toBe(0);
    for (const key of [didKey(PUBLIC), 'ada.pub']) {
      const { code, stdout } = await verify('letter.txt', '--key', key, '--config', 'none-needed');
      expect([code, stdout.includes(fingerprint(PUBLIC))]).toEqual([0, true]);
    }
    expect(fromStdin(sshFixture('message'), 'identity', 'verify', '-', '--signature', 'given.sig').code).toBe(0);
  });

  it('tells by its exit code what does not hold', async () => {
    for (const [ended, code] of [
      [await verify('changed.txt'), 13],
      [await verify('letter.txt', '--namespace', 'other'), 13],
      [await holdfast('identity', 'verify', 'letter.txt', '--signature', 'letter.txt'), 13],
      [await verify('letter.txt', '--key', OTHER), 12],
      [await verify('absent'), 1],
      [await verify('letter.txt', '--key', 'agent.key'), 2],
    ] as const) {
      expect(ended).toMatchObject({ code, stdout: '' });
      expect(ended.stderr).toMatch(/^Error: .+\nHint: .+\n$/);
    }
  });
});

describe.skipIf(lacks('ssh-keygen', '-?'))('ssh-keygen', () => {
  it('accepts a signature over a large file, and holdfast one of ssh-keygen', async () => {
    writeFileSync(at('large'), Buffer.alloc(5_000_000, 'state'));
    expect(await holdfast('identity', 'sign', 'large', '--namespace', 'backup')).toMatchObject({ code: 0 });
    const { ssh } = json<{ ssh: string }>(await holdfast('identity', 'show', '--json'));
    writeFileSync(at('allowed'), `ada ${ssh}\n`);
    const input = readFileSync(at('large'));
    const args = ['-Y', 'verify', '-f', 'allowed', '-I', 'ada', '-n', 'backup', '-s', 'large.sig'];
    expect(spawnSync('ssh-keygen', args, { cwd: home, input }).status).toBe(0);
    const made = spawnSync('ssh-keygen', ['-q', '-Y', 'sign', '-f', 'agent.key', '-n', 'x'], { cwd: home, input });
    writeFileSync(at('made.sig'), made.stdout);
    const verified = await holdfast('identity', 'verify', 'large', '--signature', 'made.sig', '--namespace', 'x');
    expect(verified).toMatchObject({ code: 0 });
  });
});
