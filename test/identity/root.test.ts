import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hex } from '../../src/crypto/hash.ts';
import { wordsOf } from '../../src/crypto/words.ts';
import { fingerprint } from '../../src/identity/agent-key.ts';
import {
  agentKey,
  formatWordsFile,
  newRoot,
  parseWordsText,
  recoveryKey,
  restoreIdentity,
} from '../../src/identity/root.ts';
import { everythingOf, failure, seededRandom, vectors } from '../crypto/support.ts';

const derived = vectors<{
  root: string;
  restore: { x25519: string; hybrid: string };
  keys: { label: string; seed: string; publicKey: string; fingerprint: string }[];
}>('derivations');
const phrase = vectors<{ vectors: { entropy: string; words: string }[] }>('bip39-english-256').vectors.find(
  ({ entropy }) => entropy === derived.root,
)!.words;
const words = phrase.split(' ');
const root = parseWordsText(phrase);

describe('derivations', () => {
  it('are those of an independent implementation', () => {
    expect(hex(root)).toBe(derived.root);
    expect(restoreIdentity(root, 'x25519')).toBe(derived.restore.x25519);
    expect(restoreIdentity(root, 'hybrid')).toBe(derived.restore.hybrid);
    const keys = [agentKey(root, 0), agentKey(root, 1), recoveryKey(root, 0)].map(({ seed, publicKey }, i) => ({
      label: ['identity/0', 'identity/1', 'recovery/0'][i],
      seed: hex(seed),
      publicKey: hex(publicKey),
      fingerprint: fingerprint(publicKey),
    }));
    expect(keys).toEqual(derived.keys);
  });

  it('need a whole number for the generation', async () => {
    for (const generation of [-1, 0.5, NaN]) await failure(() => agentKey(root, generation), 'bug');
  });

  it('of a new root come from its own random bytes', () => {
    const random = seededRandom('root');
    expect(hex(newRoot(random))).not.toBe(hex(newRoot(random)));
    expect(newRoot(random)).toHaveLength(32);
  });
});

describe('a words file', () => {
  it('gives back any root', () => {
    fc.assert(
      fc.property(fc.string(), fc.array(fc.string({ unit: 'binary' })), (seed, notes) => {
        const made = newRoot(seededRandom(seed));
        expect(hex(parseWordsText(formatWordsFile(made, ...notes)))).toBe(hex(made));
      }),
    );
  });

  it('has the notes as comments and the words four a row', () => {
    const lines = formatWordsFile(root, 'agent: SHA256:x', 'two\nlines').split('\n');
    expect(lines).toContain('# agent: SHA256:x');
    expect(lines.slice(-9)).toEqual([
      '# lines',
      expect.stringMatching(/^# row checks:( \d{4}){6}$/),
      ...rows(words, 4),
      '',
    ]);
  });

  it.each([
    ['one word a line', words.join('\n')],
    ['rows with Windows line ends and a byte order mark', `\ufeff${rows(words, 6).join('\r\n')}\r\n`],
    [
      'comments between, also indented',
      `# a\n${words.slice(0, 12).join(' ')}\n   # b\n${words.slice(12).join('\t')}\n`,
    ],
    ['capitals', phrase.toUpperCase()],
    ['numbers with a point', words.map((word, i) => `${i + 1}. ${word}`).join('\n')],
    ['numbers with a colon, attached', words.map((word, i) => `${i + 1}:${word}`).join('  ')],
    ['numbers alone, with zeros', words.map((word, i) => `${String(i + 1).padStart(2, '0')} ${word}`).join('\n')],
    [
      'a number before each row',
      rows(words, 4)
        .map((row, i) => `${4 * i + 1}. ${row}`)
        .join('\n'),
    ],
    ['a scanned QR code', `QR-Code:${phrase}\n`],
    ['a QR code in two parts', `QR-Code:${words.slice(0, 12).join(' ')}\nQR-Code:${words.slice(12).join(' ')}\n`],
  ])('is read with %s', (_, text) => {
    expect(hex(parseWordsText(text))).toBe(derived.root);
  });

  it('whose numbers contradict the order is refused', async () => {
    const columns = Array.from({ length: 12 }, (_, i) => `${i + 1}. ${words[i]}  ${i + 13}. ${words[i + 12]}`).join(
      '\n',
    );
    const error = await failure(() => parseWordsText(columns), 'bad_words');
    expect(error.message).toContain('numbered 13 stands at position 2');
    await failure(() => parseWordsText(words.map((word, i) => `${i}. ${word}`).join('\n')), 'bad_words');
  });

  it('that lacks a word, has one too many or none, or a wrong one is refused without showing it', async () => {
    const wrong = words.with(4, 'passwort');
    for (const text of [
      '',
      '# nothing\n',
      words.slice(1).join(' '),
      `${phrase} zoo`,
      wrong.join(' '),
      `Hello ${phrase}`,
    ]) {
      const error = await failure(() => parseWordsText(text), 'bad_words');
      expect(everythingOf(error)).not.toMatch(/passwort|\bzoo\b|Hello/);
    }
    expect((await failure(() => parseWordsText(wrong.join(' ')), 'bad_words')).message).toContain('word 5 is');
  });

  it('holds the words and nothing derived from them', () => {
    const text = formatWordsFile(root);
    expect(text).not.toContain(hex(root));
    expect(text).not.toContain(restoreIdentity(root, 'x25519'));
    expect(wordsOf(root)).toEqual(words);
  });
});

function rows(all: readonly string[], width: number): string[] {
  return Array.from({ length: all.length / width }, (_, i) => all.slice(width * i, width * (i + 1)).join(' '));
}
