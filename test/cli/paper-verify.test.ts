/** `paper verify` as a person and a script use it. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { splitSecret } from '../../src/crypto/slip39.ts';
import { rowCheck, wordsOf } from '../../src/crypto/words.ts';
import { formatCode } from '../../src/identity/paper-code.ts';
import { newRoot, parseWordsText, restoreIdentity } from '../../src/identity/root.ts';
import { seededRandom } from '../crypto/support.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { PROGRAM } from './run.ts';
import { runWarm } from './warm.ts';
import { onTerminal, screenAfter } from './terminal.ts';

const home = temporaryFolder();
const at = (name: string) => join(home, name);
const env = { HOME: home, XDG_STATE_HOME: at('s'), XDG_CACHE_HOME: at('c'), NO_COLOR: '1' };
const repository = `file://${at('nas')}`;
const random = seededRandom('paper verify');
let words = '';
let rows: string[] = [];
beforeAll(async () => {
  mkdirSync(at('state'));
  const args = ['--handle', 'ada', '--state', 'state', '--backend', `nas=${repository}`, '--words-file', 'w.txt'];
  expect(await runWarm(['init', ...args], { cwd: home, env })).toMatchObject({ code: 0 });
  words = readFileSync(at('w.txt'), 'utf8');
  rows = words.split('\n').filter((line) => /^[a-z]/.test(line));
});
afterAll(() => removeFolder(home));

const secret = (name: string, text: string) => {
  writeFileSync(at(name), text, { mode: 0o600 });
  return name;
};
const verify = (...args: string[]) => runWarm(['paper', 'verify', ...args, '--json'], { cwd: home, env });

describe('paper verify', () => {
  it('tells what it compared, and writes nothing but the date, for `doctor`', async () => {
    const files = () =>
      readdirSync(home, { recursive: true, encoding: 'utf8' })
        .filter((path) => !/(^|\/)holdfast(\/runs(\/[0-9a-f]{32}\.json)?)?$/.test(path))
        .toSorted();
    const before = files();
    const { code, stdout, stderr } = await verify('--words-file', 'w.txt');
    expect(code).toBe(0);
    const [, agentKey] = /# agent key: (\S+)/.exec(words) ?? [];
    const [, recoveryKey] = /# recovery key: (\S+)/.exec(words) ?? [];
    expect(JSON.parse(stdout)).toEqual({
      ok: true,
      kind: 'words',
      fingerprint: recoveryKey,
      agent: { handle: 'ada', fingerprint: agentKey },
      repository: expect.stringMatching(/^[0-9a-f]{32}$/),
      backends: ['nas'],
      warnings: [],
    });
    for (const row of rows) expect(stdout + stderr).not.toContain(row);
    expect(files()).toEqual(before);
  });

  it('takes shares and what a scanner printed', async () => {
    const [[one = '', , three = ''] = []] = splitSecret(parseWordsText(words), [{ threshold: 2, count: 3 }], 1, random);
    const files = [secret('one', one), secret('three', three)].flatMap((name) => ['--words-file', name]);
    expect(JSON.parse((await verify(...files)).stdout)).toMatchObject({ ok: true, kind: 'shares' });
    const [code = ''] = formatCode({ type: 'age-key', body: restoreIdentity(parseWordsText(words), 'x25519') }, 2000);
    const scanned = await verify('--from', repository, '--words-file', secret('scan', `EAN-13:1\nQR-Code:${code}\n`));
    expect(scanned.code).toBe(0);
    expect(JSON.parse(scanned.stdout)).toMatchObject({ kind: 'age-key', warnings: [{ code: 'identity_not_proved' }] });
  });

  it('words of another agent, and a wrong word, end with exit code 12', async () => {
    const phrase = wordsOf(newRoot(random));
    for (const from of [[], ['--from', repository]]) {
      const foreign = await verify(...from, '--words-file', secret('foreign', phrase.join(' ')));
      expect(foreign.code).toBe(12);
      expect(JSON.parse(foreign.stdout)).toMatchObject({ error: { code: 'wrong_key' } });
      for (const [i, word] of phrase.entries()) {
        if (i > 0) expect(foreign.stdout + foreign.stderr).not.toContain(`${phrase[i - 1]} ${word}`);
      }
    }
    const wrong = words.replace(rows[2] ?? '', phrase.slice(0, 4).join(' '));
    const mistyped = await verify('--words-file', secret('mistyped', wrong));
    expect(mistyped.code).toBe(12);
    expect(JSON.parse(mistyped.stdout)).toMatchObject({
      error: { code: 'bad_words', message: expect.stringContaining('checksum, row 3') },
    });
  });

  it('looks at paper, not at the key file of this host', async () => {
    const key = secret('key', restoreIdentity(parseWordsText(words), 'x25519'));
    const more = { ...env, HOLDFAST_RESTORE_IDENTITY_FILE: at(key) };
    const { code, stdout } = await runWarm(['paper', 'verify', '--json'], { cwd: home, env: more });
    expect(code).toBe(12);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'missing_key' } });
  });
});

describe('on a real terminal', () => {
  it('`paper verify` asks row by row, names a wrong one, and leaves no word on the screen', async () => {
    const right = rows.map((row, i) => `${row} ${rowCheck(i + 1, row.split(' '))}`);
    const answers = [right[0]!, right[1]!.replace(/\d{4}/, '9999'), ...right.slice(1)];
    const { code, output, unsaid } = await onTerminal(
      PROGRAM,
      ['paper', 'verify', '--from', repository],
      answers.map((answer, i) => [`row ${i < 2 ? i + 1 : i} of 6> `, `${answer}\r`] as const),
      { env, cwd: home },
    );
    expect(unsaid).toEqual([]);
    expect(code).toBe(0);
    const screen = screenAfter(output);
    expect(screen.join('\n')).toContain('checksum, row 2:');
    expect(screen.join('\n')).toContain('belong together');
    for (const row of rows)
      for (const word of row.split(' ')) {
        expect(output).toContain(word); // it was shown
        if (word.length > 5) expect(screen.filter((line) => line.split(/\W+/).includes(word))).toEqual([]);
      }
  });

  it('Ctrl-C ends it with the exit code of an interruption', async () => {
    const { code, output } = await onTerminal(
      PROGRAM,
      ['paper', 'verify', '--from', repository],
      [['row 1 of 6> ', 'abandon\x03']],
      { env, cwd: home },
    );
    expect(code).toBe(130);
    expect(screenAfter(output).join('\n')).not.toContain('abandon');
  });
});
