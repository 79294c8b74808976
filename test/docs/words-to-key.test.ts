/** bin/holdfast-words-to-key.py: from the words to keys, with nothing but Python. Runs where it is installed; in CI it must be. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { afterAll, describe, expect, it } from 'vitest';
import { hex, unhex } from '../../src/crypto/hash.ts';
import { formatCode } from '../../src/identity/paper-code.ts';
import { parseRecoveryText } from '../../src/identity/recovery-text.ts';
import { formatWordsFile, recoveryKey, restoreIdentity, type Root } from '../../src/identity/root.ts';
import { rowCheck, wordsOf } from '../../src/crypto/words.ts';
import { lacks, seededRandom } from '../crypto/support.ts';

const WORDS_SCRIPT = fileURLToPath(new URL('../../bin/holdfast-words-to-key.py', import.meta.url));
const lackPython = lacks('python3', '--version');
const random = seededRandom('words to key');

describe.skipIf(lackPython)('holdfast-words-to-key.py', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-words-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const toKey = (input: string, ...args: string[]) => {
    const { status, stdout, stderr } = spawnSync('python3', [WORDS_SCRIPT, ...args], { input, encoding: 'utf8' });
    return { status, stdout, stderr };
  };

  it.each([0, 1, 2, 3])('makes the keys that holdfast derives (root %i)', (i) => {
    const root = (i === 0 ? unhex('00'.repeat(32)) : random.bytes(32)) as Root;
    const words = wordsOf(root);
    const text = `# my agent\n${words.map((word, at) => `${at + 1}. ${word}${at % 4 === 3 ? '\n' : ' '}`).join('')}`;
    for (const kind of ['x25519', 'hybrid'] as const) {
      const output = join(folder, `${kind}-${i}`);
      const more = kind === 'hybrid' ? ['--post-quantum'] : [];
      expect(toKey(text, '--output', output, '--recovery-public-key', ...more)).toMatchObject({
        status: 0,
        stdout: expect.stringContaining(hex(recoveryKey(root, 0).publicKey)) as string,
      });
      expect(readFileSync(output, 'utf8')).toBe(`${restoreIdentity(root, kind)}\n`);
    }
  });

  it('reads words as holdfast does: with checks, four letters, numbers, from a words file and from a scan of the paper', () => {
    const root = random.bytes(32) as Root;
    const words = wordsOf(root);
    const rows = Array.from({ length: 6 }, (_, i) => words.slice(4 * i, 4 * i + 4));
    const checked = rows.map((row, i) => `${row.join(' ')} ${rowCheck(i + 1, row)}`);
    const codes = [
      formatCode({ type: 'age-key', body: restoreIdentity(root, 'x25519') }, 2000),
      formatCode({ type: 'words', body: checked.join('\n') }, 2000),
      formatCode({ type: 'agent-key', body: 'A'.repeat(900) }, 500),
    ].flat();
    for (const text of [
      checked.join('\n'),
      checked.join(' ').replaceAll(/(\d{4})/g, '=$1'),
      words.map((word, i) => `${i + 1}.${word.slice(0, 4).toUpperCase()}`).join(' '),
      formatWordsFile(root, 'agent: ada'),
      `${codes.map((code) => `QR-Code:${code}\nEAN-13:4006381333931\n`).join('')}QR-Code:https://example.org\n`,
    ]) {
      expect(parseRecoveryText([text])).toMatchObject({ root });
      expect(toKey(text, '--recovery-public-key')).toMatchObject({
        status: 0,
        stdout: expect.stringContaining(hex(recoveryKey(root, 0).publicKey)) as string,
      });
    }
    const wrong = checked.with(3, [...rows[3]!.toReversed(), checked[3]!.slice(-4)].join(' '));
    for (const [text, message] of [
      [wrong.join('\n'), 'checksum, row 4'],
      [formatWordsFile(root).replace(rows[3]!.join(' '), rows[3]!.toReversed().join(' ')), 'checksum, row 4'],
      [checked.with(0, checked[0]!.replace(/^\S+/, '')).join('\n'), 'after 3 words'],
    ] as const) {
      expect(toKey(text, '--recovery-public-key')).toMatchObject({
        status: 1,
        stderr: expect.stringContaining(message) as string,
      });
    }
  });

  it('writes a file that only its owner reads, and replaces none', () => {
    const output = join(folder, 'mine');
    const words = wordsOf(random.bytes(32)).join(' ');
    expect(toKey(words, '--output', output).status).toBe(0);
    expect(spawnSync('stat', ['-c', '%a', output], { encoding: 'utf8' }).stdout).toBe('600\n');
    const before = readFileSync(output);
    expect(toKey(wordsOf(random.bytes(32)).join(' '), '--output', output).status).toBe(1);
    expect(readFileSync(output).equals(before)).toBe(true);
  });

  it('refuses words that cannot be right, without repeating one', () => {
    const words = wordsOf(random.bytes(32));
    const swapped = [...words];
    [swapped[0], swapped[1]] = [words[1] ?? '', words[0] ?? ''];
    for (const [wrong, message] of [
      [words.slice(1), 'expected 24 words, found 23'],
      [['secretword', ...words.slice(1)], 'positions [1]'],
      [swapped, 'checksum is wrong'],
    ] as const) {
      const outcome = toKey(wrong.join(' '), '--output', join(folder, 'none'));
      expect(outcome).toMatchObject({ status: 1, stderr: expect.stringContaining(message) as string });
      for (const word of wrong) expect(` ${outcome.stderr.replaceAll(message, '')} `).not.toContain(` ${word} `);
      expect(existsSync(join(folder, 'none'))).toBe(false);
    }
  });

  it('carries the word list of BIP 39', () => {
    const text = readFileSync(WORDS_SCRIPT, 'utf8');
    expect(/WORDS = """\n(.*?)\n"""/s.exec(text)?.[1]?.split(/\s+/)).toEqual(wordlist);
  });
});
