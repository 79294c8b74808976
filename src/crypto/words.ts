/**
 * BIP39 English phrases of 24 words. The words are the 32 bytes (plus 8 check bits); there is no stretching and no
 * passphrase.
 */
import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { assert, HoldfastError } from '../errors.ts';

export const WORDS = 24;
export const ROOT_BYTES = 32;
/** On paper and in words files. */
export const WORDS_A_ROW = 4;
export const ROWS = WORDS / WORDS_A_ROW;

const NUMBER_OF: ReadonlyMap<string, number> = new Map(wordlist.map((word, i) => [word, i]));

/** The smallest prime above the 2,048 words: modulo it, no place's weight is a zero or the weight of another place. */
const CHECK_MODULUS = 2053;

/**
 * The check of a row (from 1) of four words: the sum of each word's number in the list (from 0) times its place in the phrase (from 1),
 * modulo 2053, as four digits. Any one wrong word of the row, and any two of it that are exchanged, change it. `words` must be in the list.
 */
export function rowCheck(row: number, words: readonly string[]): string {
  assert(words.length === WORDS_A_ROW && row >= 1 && row <= ROWS, 'a row of four words');
  const sum = words.reduce((total, word, i) => {
    const number = NUMBER_OF.get(word);
    assert(number !== undefined, 'a word of the list');
    return total + number * ((row - 1) * WORDS_A_ROW + i + 1);
  }, 0);
  return String(sum % CHECK_MODULUS).padStart(4, '0');
}

/** The words of the list that begin so, in order. */
export function wordsBeginning(prefix: string): string[] {
  return wordlist.filter((word) => word.startsWith(prefix));
}

/** The 24 words of 32 bytes. */
export function wordsOf(root: Uint8Array): string[] {
  assert(root.length === ROOT_BYTES, `a root has ${ROOT_BYTES} bytes, got ${root.length}`);
  return entropyToMnemonic(root, wordlist).split(' ');
}

/**
 * The 32 bytes of 24 words, in any letter case and Unicode form. Throws `bad_words` for a wrong number of words, for
 * words that are not in the list (naming their positions, from 1) and for a wrong checksum; a message never holds a
 * word.
 */
export function rootFromWordList(words: readonly string[]): Uint8Array {
  const normal = words.map((word) => word.normalize('NFKD').toLowerCase());
  if (normal.length !== WORDS) {
    throw new HoldfastError('bad_words', `expected ${WORDS} recovery words, found ${normal.length}`, {
      hint: 'Give all words in the order in which they are numbered on the paper.',
    });
  }
  const unknown = normal.flatMap((word, i) => (NUMBER_OF.has(word) ? [] : [i + 1]));
  if (unknown.length > 0) {
    const which = unknown.length === 1 ? `word ${unknown[0]} is` : `words ${unknown.join(', ')} are`;
    throw new HoldfastError('bad_words', `${which} not in the BIP39 English word list`, {
      hint: 'Compare the words at these positions with the paper; the first four letters identify a word.',
    });
  }
  try {
    return mnemonicToEntropy(normal.join(' '), wordlist);
  } catch {
    // The library's error is not passed on: its text may quote the phrase.
    throw new HoldfastError(
      'bad_words',
      'all 24 words are in the list but their checksum is wrong: a word is not the one on the paper, or two stand in the wrong order',
      {
        hint: 'Compare every word and the order with the paper.',
      },
    );
  }
}
