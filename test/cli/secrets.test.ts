import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readRestoreSecret, type SecretTerminal } from '../../src/cli/secrets.ts';
import { newAgeIdentity } from '../../src/crypto/age.ts';
import { systemRandom } from '../../src/clock.ts';

const WORDS = Array.from({ length: 24 }, (_, i) => `word${String.fromCharCode(97 + i)}`);
let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'holdfast-secrets-'))));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A terminal (or, with `isTTY` false, pipes) that is typed on by the test. */
function terminal(isTTY: boolean, columns = 80) {
  const stdin = Object.assign(new PassThrough(), { isTTY });
  const stderr = Object.assign(new PassThrough(), { isTTY, columns });
  const abort = new AbortController();
  const io: SecretTerminal = { stdin, stderr, signal: abort.signal };
  return { io, stdin, screen: () => String(stderr.read() ?? ''), abort };
}

async function secretFile(name: string, text: string, mode = 0o600): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text, { mode });
  return path;
}

describe('from files', () => {
  it('--words-file gives the text as it is', async () => {
    const path = await secretFile('words', `# note\n${WORDS.join(' ')}\n`);
    const secret = await readRestoreSecret({ 'words-file': path }, {}, terminal(false).io);
    expect(secret).toEqual({ kind: 'words', text: `# note\n${WORDS.join(' ')}\n` });
  });

  it('--words-file - reads stdin, up to a limit', async () => {
    const { io, stdin } = terminal(false);
    stdin.end(WORDS.join('\n'));
    expect(await readRestoreSecret({ 'words-file': '-' }, {}, io)).toEqual({ kind: 'words', text: WORDS.join('\n') });
    const flood = terminal(false);
    flood.stdin.end('x'.repeat(100_000));
    await expect(readRestoreSecret({ 'words-file': '-' }, {}, flood.io)).rejects.toMatchObject({ code: 'usage' });
  });

  it('--identity-file, or the environment in its place, gives age identities', async () => {
    const identity = await newAgeIdentity(systemRandom);
    const path = await secretFile('age.key', `# created\n${identity}\n`);
    const expected = { kind: 'identities', identities: [identity] };
    expect(await readRestoreSecret({ 'identity-file': path }, {}, terminal(false).io)).toEqual(expected);
    const env = { HOLDFAST_RESTORE_IDENTITY_FILE: path };
    expect(await readRestoreSecret({}, env, terminal(false).io)).toEqual(expected);
    await expect(readRestoreSecret({ 'identity-file': '/no/such' }, env, terminal(false).io)).rejects.toMatchObject({
      code: 'missing_key',
    });
  });

  it('a file that others can read is refused', async () => {
    const path = await secretFile('open', WORDS.join(' '), 0o644);
    await expect(readRestoreSecret({ 'words-file': path }, {}, terminal(false).io)).rejects.toMatchObject({
      code: 'insecure_permissions',
    });
  });
});

describe('without a file', () => {
  it('nothing is asked where stdin is no terminal', async () => {
    const { io, screen } = terminal(false);
    await expect(readRestoreSecret({}, {}, io)).rejects.toMatchObject({
      code: 'missing_key',
      hint: expect.stringContaining('--words-file'),
    });
    expect(screen()).toBe('');
  });

  it('the words are asked for until 24 are there, over several lines, and wiped from the screen', async () => {
    const { io, stdin, screen } = terminal(true);
    const secret = readRestoreSecret({}, {}, io);
    for (let i = 0; i < 24; i += 8)
      stdin.write(
        `${WORDS.slice(i, i + 8)
          .map((word, j) => `${i + j + 1}. ${word}`)
          .join(' ')}\n`,
      );
    const { kind, ...rest } = await secret;
    expect(kind).toBe('words');
    expect('text' in rest && rest.text.split(/\s+/).filter((part) => part.startsWith('word'))).toEqual(WORDS);
    const seen = screen();
    expect(seen).toContain('8 of 24> ');
    expect(seen).toContain('16 of 24> ');
    // Three lines of more than 80 columns each: both rows of each are erased.
    expect(seen.split('\x1b[1A\x1b[2K')).toHaveLength(1 + 3 * 2);
  });

  it('an empty line ends the prompt', async () => {
    const { io, stdin } = terminal(true, 0); // as a terminal does that does not know its size
    stdin.write('one two\n\n');
    expect(await readRestoreSecret({}, {}, io)).toEqual({ kind: 'words', text: 'one two\n' });
  });

  it('Ctrl-C, the end of input and a signal interrupt it', async () => {
    const key = terminal(true);
    const byKey = readRestoreSecret({}, {}, key.io);
    key.stdin.write('\x03');
    await expect(byKey).rejects.toMatchObject({ code: 'interrupted' });
    const ended = terminal(true);
    const byEnd = readRestoreSecret({}, {}, ended.io);
    ended.stdin.end();
    await expect(byEnd).rejects.toMatchObject({ code: 'interrupted' });
    const signalled = terminal(true);
    const bySignal = readRestoreSecret({}, {}, signalled.io);
    signalled.abort.abort();
    await expect(bySignal).rejects.toMatchObject({ code: 'interrupted' });
    const piped = terminal(false);
    const byPipe = readRestoreSecret({ 'words-file': '-' }, {}, piped.io);
    piped.abort.abort();
    await expect(byPipe).rejects.toMatchObject({ name: 'AbortError' }); // which the frame reports as interrupted
  });
});
