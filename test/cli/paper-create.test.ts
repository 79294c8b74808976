/** `paper create` as a user sees it. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { wordsOf } from '../../src/crypto/words.ts';
import { parseWordsText } from '../../src/identity/root.ts';
import { lacks } from '../crypto/support.ts';
import { drawnText, scan, zbarimg } from '../identity/paper-scan.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { initArgs } from './agent-home.ts';
import type { Ended } from './run.ts';
import { runWarm } from './warm.ts';

const noScanner = lacks('pdftoppm', '-v') || lacks('zbarimg', '--version');
let home: string;
let words: string[];
const at = (name: string) => join(home, name);
const holdfast = (...args: string[]): Promise<Ended> =>
  runWarm(args, { cwd: home, env: { HOME: home, XDG_STATE_HOME: '', XDG_CACHE_HOME: '', XDG_CONFIG_HOME: '' } });

beforeAll(async () => {
  home = temporaryFolder();
  mkdirSync(at('state'));
  const made = await holdfast(...initArgs(at, ['nas']), '--words-file', 'words.txt');
  expect(made.stderr).toBe('');
  words = wordsOf(parseWordsText(readFileSync(at('words.txt'), 'utf8')));
});
afterAll(() => removeFolder(home));

it.skipIf(noScanner)('writes the document, which a scanner reads and `paper verify` accepts', async () => {
  const made = await holdfast('paper', 'create', '--output', 'sheet.pdf', '--words-file', 'words.txt');
  expect(made).toMatchObject({ code: 0, stderr: '' });
  for (const told of [at('sheet.pdf'), '1 page (A4), 2 QR codes', 'holdfast paper verify', 'delete the file'])
    expect(made.stdout).toContain(told);
  expect(made.stdout).not.toContain(words.slice(0, 2).join(' '));
  expect(statSync(at('sheet.pdf')).mode & 0o777).toBe(0o600);
  writeFileSync(at('scanned.txt'), zbarimg(scan(readFileSync(at('sheet.pdf')))), { mode: 0o600 });
  expect((await holdfast('paper', 'verify', '--words-file', 'scanned.txt')).code).toBe(0);
});

it('writes shares instead of the words, and says so as JSON', async () => {
  const args = ['--size', 'letter', '--shares', '2of3', '--words-file', 'words.txt', '--json'];
  const made = await holdfast('paper', 'create', '--output', 'shares.pdf', ...args);
  expect(JSON.parse(made.stdout)).toEqual({
    file: at('shares.pdf'),
    pages: 3,
    size: 'letter',
    shares: { threshold: 2, count: 3, identifier: expect.any(Number) as number },
    fingerprint: expect.stringMatching(/^SHA256:/) as string,
    codes: 3,
    sample: false,
  });
  const again = await holdfast('paper', 'create', '--output', 'shares.pdf', ...args);
  expect(JSON.parse(again.stdout)).toMatchObject({ error: { code: 'exists' } });
});

it('makes a sample without any secret', async () => {
  const made = await holdfast('paper', 'create', '--output', 'sample.pdf', '--redact', '--json');
  expect(JSON.parse(made.stdout)).toMatchObject({ pages: 1, codes: 2, sample: true });
  const text = drawnText(readFileSync(at('sample.pdf')));
  expect(text).toContain('SAMPLE');
  // `check` and `result` are the sheet's own labels: no other word of the list may stand in it.
  const own = new Set(text.split('\n').filter((line) => wordlist.includes(line)));
  expect(own).toEqual(new Set(['check', 'result']));
});

it.each([
  ['a scheme that is none', ['--shares', '1of3', '--words-file', 'words.txt'], 2, 'usage'],
  ['no words and nobody to ask', [], 12, 'missing_key'],
  ['words that are none', ['--words-file', 'holdfast.yaml'], 12, 'bad_words'],
])('refuses %s, and writes nothing', async (_, args, code, name) => {
  const before = readdirSync(home);
  const made = await holdfast('paper', 'create', '--output', 'no.pdf', '--json', ...args);
  expect(made.code).toBe(code);
  expect(JSON.parse(made.stdout)).toMatchObject({ error: { code: name } });
  expect(existsSync(at('no.pdf'))).toBe(false);
  expect(readdirSync(home)).toEqual(before);
});
