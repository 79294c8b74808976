import { wordlist } from '@scure/bip39/wordlists/english.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hex, sha256Hex, unhex } from '../../src/crypto/hash.ts';
import { rootFromWordList, wordsOf } from '../../src/crypto/words.ts';
import { isHoldfastError } from '../../src/errors.ts';
import { everythingOf, failure, vectors } from './support.ts';

const { vectors: cases } = vectors<{ vectors: { entropy: string; words: string }[] }>('bip39-english-256');
const PHRASE = cases[6]!.words.split(' ');

/** No word of the list, and not this one, may be quoted; words that the sentences themselves use do not count. */
function expectNoWord(shown: string, ...words: string[]): void {
  for (const word of words) expect(shown).not.toMatch(new RegExp(`\\b${word}\\b`, 'i'));
}

describe('BIP39', () => {
  it('has eight official English vectors of 24 words', () => expect(cases).toHaveLength(8));

  it.each(cases)('$entropy', ({ entropy, words }) => {
    expect(wordsOf(unhex(entropy)).join(' ')).toBe(words);
    expect(hex(rootFromWordList(words.split(' ')))).toBe(entropy);
  });

  it('has the English word list that BIP 39 publishes', () => {
    expect(sha256Hex(Buffer.from(`${wordlist.join('\n')}\n`))).toBe(
      '2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda',
    );
  });
});

describe('recovery words', () => {
  it('give back any root', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (root) => {
        const words = wordsOf(root);
        expect(words).toHaveLength(24);
        expect(rootFromWordList(words)).toEqual(root);
      }),
    );
  });

  it('count in any letter case and Unicode form', () => {
    const fullWidth = (word: string) => word.replace(/[a-z]/g, (c) => String.fromCodePoint(c.charCodeAt(0) + 0xfee0));
    expect(rootFromWordList(PHRASE.map((word) => word.toUpperCase()))).toEqual(rootFromWordList(PHRASE));
    expect(rootFromWordList(PHRASE.map(fullWidth))).toEqual(rootFromWordList(PHRASE));
  });

  it.each([0, 1, 12, 23, 25])('are refused when there are %i of them, saying so', async (count) => {
    const words = [...PHRASE, 'zoo'].slice(0, count);
    const error = await failure(() => rootFromWordList(words), 'bad_words');
    expect(error.message).toContain(`found ${count}`);
    expect(error.message).toContain('24');
  });

  it('that are not in the list are named by position, never quoted', async () => {
    const words = [...PHRASE];
    words[2] = 'xylofone';
    const one = await failure(() => rootFromWordList(words), 'bad_words');
    expect(one.message).toContain('word 3 is');
    words[23] = 'qwertz';
    const two = await failure(() => rootFromWordList(words), 'bad_words');
    expect(two.message).toContain('words 3, 24 are');
    for (const error of [one, two]) expectNoWord(everythingOf(error), 'xylofone', 'qwertz');
  });

  it('with a wrong checksum get a sentence of their own, without a word in it', async () => {
    const words = Array.from({ length: 24 }, () => 'zoo');
    const error = await failure(() => rootFromWordList(words), 'bad_words');
    expect(error.message).toContain('checksum');
    expectNoWord(everythingOf(error), 'zoo');
  });

  it('of which one is replaced never give the same root: refused, but for about one in 256', () => {
    const root = hex(rootFromWordList(PHRASE));
    let tried = 0;
    let accepted = 0;
    for (let position = 0; position < 24; position++) {
      for (let i = position; i < 2048; i += 40) {
        if (wordlist[i] === PHRASE[position]) continue;
        const words = [...PHRASE];
        words[position] = wordlist[i]!;
        tried++;
        try {
          expect(hex(rootFromWordList(words))).not.toBe(root);
          accepted++;
        } catch (error) {
          if (!isHoldfastError(error, 'bad_words')) throw error;
        }
      }
    }
    expect(tried).toBeGreaterThan(1200);
    expect(accepted).toBeLessThan(tried / 64);
  });

  it('of which two neighbours are exchanged never give the same root', () => {
    const root = hex(rootFromWordList(PHRASE));
    for (let i = 1; i < 24; i++) {
      const words = [...PHRASE];
      [words[i - 1], words[i]] = [words[i]!, words[i - 1]!];
      let found: string | undefined;
      try {
        found = hex(rootFromWordList(words));
      } catch (error) {
        if (!isHoldfastError(error, 'bad_words')) throw error;
      }
      expect(found).not.toBe(root);
    }
  });
});
