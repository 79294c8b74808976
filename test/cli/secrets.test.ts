import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { namesRestoreSecret, readPassphrase, readRestoreSecret, type SecretTerminal } from '../../src/cli/secrets.ts';
import { newAgeIdentity } from '../../src/crypto/age.ts';
import { sealWithPassphrase } from '../../src/crypto/age-passphrase.ts';
import { wordsOf } from '../../src/crypto/words.ts';
import { systemRandom } from '../../src/clock.ts';
import { everythingOf, failure, seededRandom } from '../crypto/support.ts';
import { screenAfter } from './terminal.ts';

const WORDS = wordsOf(seededRandom('secrets').bytes(32));
let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'holdfast-secrets-'))));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A terminal (or, with `isTTY` false, pipes) that is typed on by the test. */
function terminal(isTTY: boolean) {
  const stdin = Object.assign(new PassThrough(), { isTTY });
  const stderr = Object.assign(new PassThrough(), { isTTY, columns: 80 });
  const abort = new AbortController();
  const io: SecretTerminal = { stdin, stderr, signal: abort.signal };
  return { io, stdin, screen: () => String(stderr.read() ?? ''), abort };
}
const nobody = terminal(false).io;

async function secretFile(name: string, content: string | Uint8Array, mode = 0o600): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content, { mode });
  return path;
}

describe('from files', () => {
  it('--words-file gives the text as it is, several their texts in order', async () => {
    const path = await secretFile('words', `# note\n${WORDS.join(' ')}\n`);
    const more = await secretFile('more', 'more');
    expect(await readRestoreSecret({ 'words-file': [path, more] }, {}, nobody)).toEqual({
      kind: 'texts',
      texts: [`# note\n${WORDS.join(' ')}\n`, 'more'],
      from: 'files',
    });
  });

  it('--words-file - reads stdin, once and up to a limit', async () => {
    const { io, stdin } = terminal(false);
    stdin.end(WORDS.join('\n'));
    const more = await secretFile('more', 'more');
    expect(await readRestoreSecret({ 'words-file': [more, '-'] }, {}, io)).toMatchObject({
      texts: ['more', WORDS.join('\n')],
    });
    const flood = terminal(false);
    flood.stdin.end('x'.repeat(100_000));
    await failure(() => readRestoreSecret({ 'words-file': ['-'] }, {}, flood.io), 'usage');
    await failure(() => readRestoreSecret({ 'words-file': ['-', '-'] }, {}, nobody), 'usage');
    await failure(() => readRestoreSecret({ 'words-file': ['-'], vault: '-' }, {}, nobody), 'usage');
  });

  it('a file descriptor is a file', async () => {
    await using file = await open(await secretFile('descriptor', 'text'));
    expect(await readRestoreSecret({ 'words-file': [`/dev/fd/${file.fd}`] }, {}, nobody)).toMatchObject({
      texts: ['text'],
    });
  });

  it('words in place of a name are refused, and not repeated', async () => {
    const error = await failure(() => readRestoreSecret({ 'words-file': [WORDS.join(' ')] }, {}, nobody), 'usage');
    expect(everythingOf(error)).not.toContain(WORDS[5]);
  });

  it('--identity-file, or the environment in its place, gives age identities', async () => {
    const identity = await newAgeIdentity(systemRandom);
    const path = await secretFile('age.key', `# created\n${identity}\n`);
    const expected = { kind: 'identities', identities: [identity] };
    expect(await readRestoreSecret({ 'identity-file': path }, {}, nobody)).toEqual(expected);
    const env = { HOLDFAST_RESTORE_IDENTITY_FILE: path };
    expect(await readRestoreSecret({}, env, nobody)).toEqual(expected);
    await failure(() => readRestoreSecret({ 'identity-file': '/no/such' }, env, nobody), 'missing_key');
  });

  it('a file that others can read is refused', async () => {
    const path = await secretFile('open', WORDS.join(' '), 0o644);
    await failure(() => readRestoreSecret({ 'words-file': [path] }, {}, nobody), 'insecure_permissions');
  });

  it('flags that name a secret are told from those that do not', () => {
    expect(namesRestoreSecret({ 'passphrase-file': 'x' })).toBe(false);
    for (const flags of [{ vault: 'x' }, { 'words-file': ['x'] }, { 'identity-file': 'x' }]) {
      expect(namesRestoreSecret(flags)).toBe(true);
    }
  });
});

describe('from a vault', async () => {
  const passphrase = 'correct horse battery staple';
  const words = `# words\n${WORDS.join(' ')}\n`;
  const sealed = await sealWithPassphrase(Buffer.from(words), passphrase, seededRandom('vault'));
  const armored = `-----BEGIN AGE ENCRYPTED FILE-----\n${Buffer.from(sealed)
    .toString('base64')
    .replaceAll(/.{64}/g, '$&\n')}\n-----END AGE ENCRYPTED FILE-----\n`;

  it('gives the words, also when others can read it, and from stdin in its text form', async () => {
    const vault = await secretFile('vault.age', sealed, 0o644);
    const file = await secretFile('passphrase', `${passphrase}\nnot this\n`);
    const expected = { kind: 'texts', texts: [words], from: 'vault' };
    expect(await readRestoreSecret({ vault, 'passphrase-file': file }, {}, nobody)).toEqual(expected);
    const { io, stdin } = terminal(false);
    stdin.end(armored);
    expect(await readRestoreSecret({ vault: '-', 'passphrase-file': file }, {}, io)).toEqual(expected);
  });

  it('with a wrong passphrase is refused, and neither is told', async () => {
    const vault = await secretFile('vault.age', sealed);
    const file = await secretFile('wrong', 'Correct Horse\n');
    const error = await failure(() => readRestoreSecret({ vault, 'passphrase-file': file }, {}, nobody), 'wrong_key');
    expect(everythingOf(error)).not.toMatch(/horse/i);
  });

  it('given as a words file is recognised; a words file is no vault', async () => {
    for (const [content, mode] of [
      [sealed, 0o600],
      [sealed, 0o644],
      [armored, 0o600],
    ] as const) {
      const path = await secretFile(`mistaken-${mode}`, content, mode);
      const error = await failure(() => readRestoreSecret({ 'words-file': [path] }, {}, nobody), 'usage');
      expect(error.hint).toContain('--vault');
    }
    const plain = await secretFile('plain', words);
    const error = await failure(() => readRestoreSecret({ vault: plain }, {}, nobody), 'usage');
    expect(error.hint).toContain('--words-file');
    await failure(() => readRestoreSecret({ vault: join(folder, 'none') }, {}, nobody), 'missing_key');
    await failure(() => readRestoreSecret({ vault: folder }, {}, nobody), 'io');
  });
});

describe('without a file', () => {
  it('nothing is asked where stdin is no terminal', async () => {
    const { io, screen } = terminal(false);
    const error = await failure(() => readRestoreSecret({}, {}, io), 'missing_key');
    expect(error.hint).toContain('--words-file');
    expect(screen()).toBe('');
  });

  it('the words are asked for (see word-prompt.test.ts)', async () => {
    const { io, stdin, screen } = terminal(true);
    const secret = readRestoreSecret({}, {}, io);
    stdin.write(`${WORDS.join(' ')}\n`);
    const given = await secret;
    expect(given).toMatchObject({ kind: 'texts', from: 'prompt' });
    expect('texts' in given && given.texts.join(' ').split(/\s+/)).toEqual(WORDS);
    expect(screenAfter(screen()).join('\n')).toContain('row 6: taken');
  });

  it('a signal ends the reading of stdin', async () => {
    const piped = terminal(false);
    const byPipe = readRestoreSecret({ 'words-file': ['-'] }, {}, piped.io);
    piped.abort.abort();
    await expect(byPipe).rejects.toMatchObject({ name: 'AbortError' }); // which the frame reports as interrupted
  });
});

describe('a passphrase', () => {
  const once = { what: 'the vault', confirm: false };
  const read = (env: Record<string, string>, flags = {}, io = nobody) =>
    readPassphrase(flags, { PATH: process.env['PATH'], ...env }, io, once);

  it('is the first line of a file, byte for byte', async () => {
    const file = await secretFile('pass', ' a  b \u0065\u0301\r\nsecond');
    expect(await read({ HOLDFAST_PASSPHRASE_COMMAND: 'echo no' }, { 'passphrase-file': file })).toBe(
      ' a  b \u0065\u0301',
    );
    await failure(async () => read({}, { 'passphrase-file': await secretFile('none', '\nsecond') }), 'usage');
    await failure(
      async () => read({}, { 'passphrase-file': await secretFile('seen', 'x', 0o640) }),
      'insecure_permissions',
    );
  });

  it('is the first line that a command prints', async () => {
    expect(await read({ HOLDFAST_PASSPHRASE_COMMAND: `printf 'from %s\\nmore' "$NAME"`, NAME: 'a  manager' })).toBe(
      'from a  manager',
    );
  });

  it('of a command that fails is told by its exit code, never by its output', async () => {
    const error = await failure(() => read({ HOLDFAST_PASSPHRASE_COMMAND: 'echo hunter2; exit 7' }), 'missing_key');
    expect(error.message).toContain('exit code 7');
    expect(everythingOf(error)).not.toContain('hunter2');
    const killed = await failure(() => read({ HOLDFAST_PASSPHRASE_COMMAND: 'kill -9 $$' }), 'missing_key');
    expect(killed.message).toContain('SIGKILL');
    await failure(() => read({ HOLDFAST_PASSPHRASE_COMMAND: 'true' }), 'usage');
    await failure(() => read({ HOLDFAST_PASSPHRASE_COMMAND: 'yes 2>/dev/null' }), 'usage');
  });

  it('is asked for on a terminal without showing it', async () => {
    const { io, stdin, screen } = terminal(true);
    const asked = read({}, {}, io);
    stdin.write('hunter2\x7f3\n');
    expect(await asked).toBe('hunter3');
    expect(screen()).toBe('Passphrase of the vault: \n');
  });

  it('that is new is asked for twice, until both are the same', async () => {
    const { io, stdin, screen } = terminal(true);
    const asked = readPassphrase({}, {}, io, { what: 'the vault', confirm: true });
    for (const line of ['one', 'two', 'three', 'three']) {
      await new Promise((resolve) => setImmediate(resolve));
      stdin.write(`${line}\n`);
    }
    expect(await asked).toBe('three');
    expect(screen()).toContain('two different passphrases');
  });

  it('is not waited for where nobody can type it; Ctrl-C and Ctrl-D interrupt', async () => {
    await failure(() => read({}), 'missing_key');
    for (const key of ['\x03', '\x04']) {
      const { io, stdin } = terminal(true);
      const refused = expect(read({}, {}, io)).rejects.toMatchObject({ code: 'interrupted' });
      stdin.write(key);
      await refused;
    }
  });
});
