/** The root: 32 random bytes that are the 24 words on paper, and every key that derives from them. */
import type { Random } from '../clock.ts';
import { ageIdentityFromSeed, type AgeKind } from '../crypto/age.ts';
import { publicKeyOf } from '../crypto/ed25519.ts';
import { hkdf } from '../crypto/hash.ts';
import { ROOT_BYTES, rootFromWordList, WORDS, wordsOf } from '../crypto/words.ts';
import { assert, HoldfastError } from '../errors.ts';
import type { SigningKey } from './agent-key.ts';

declare const brand: unique symbol;
/** 32 bytes. Made only by `newRoot` and by parsing words; never stored on the agent's host after set-up. */
export type Root = Uint8Array & { readonly [brand]: 'Root' };

const WORDS_A_ROW = 4;
/** What zbarimg and the like print before the content of a QR code. */
const SCANNER_PREFIX = /^\s*QR-Code:/i;
/** A word's number, standing alone or before its word: `7.`, `7:`, `7)` or `7`. */
const NUMBERED = /^(\d{1,3})[.:)]?(.*)$/s;

export function newRoot(random: Random): Root {
  return random.bytes(ROOT_BYTES) as Root;
}

/**
 * The root in the text of a words file or of a scanned QR code: words with white space between; lines starting with `#`
 * are ignored; a number may stand before a word and must then be its position. Throws `bad_words`; a message never
 * holds a word.
 */
export function parseWordsText(text: string): Root {
  const words: string[] = [];
  let numbered: number | undefined;
  for (const line of text.replace(/^\ufeff/, '').split(/\r\n|\r|\n/)) {
    if (line.trimStart().startsWith('#')) continue;
    for (const token of line.replace(SCANNER_PREFIX, '').split(/\s+/)) {
      const [, number, rest] = NUMBERED.exec(token) ?? [undefined, undefined, token];
      if (number !== undefined) numbered = Number(number);
      if (rest === undefined || rest === '') continue;
      words.push(rest);
      if (numbered !== undefined && numbered !== words.length) throw misplaced(numbered, words.length);
      numbered = undefined;
    }
  }
  return rootFromWordList(words) as Root;
}

/**
 * A words file: `notes` (the fingerprint of the agent's key and the like) as comment lines, then the words, four a row.
 */
export function formatWordsFile(root: Root, ...notes: string[]): string {
  const comments = [
    `holdfast recovery words: all ${WORDS}, in this order, row by row.`,
    "Whoever has them can read every snapshot and act as the agent. Keep them on paper, away from the agent's host,",
    'and delete this file once they are there.',
    ...notes,
  ];
  const words = wordsOf(root);
  const rows: string[] = [];
  for (let i = 0; i < words.length; i += WORDS_A_ROW) rows.push(words.slice(i, i + WORDS_A_ROW).join(' '));
  return [...comments.flatMap((note) => note.split(/[\r\n]+/)).map((line) => `# ${line}`), ...rows, ''].join('\n');
}

/** The age identity that opens everything of the repository: label `restore`. */
export function restoreIdentity(root: Root, kind: AgeKind): string {
  return ageIdentityFromSeed(hkdf(root, 'restore'), kind);
}

/** The agent's signing key of a generation (0, 1, …): label `identity/<n>`. */
export function agentKey(root: Root, generation: number): SigningKey {
  return signingKey(root, 'identity', generation);
}

/** The key of a generation (0, 1, …) that may replace a lost agent key: label `recovery/<n>`. */
export function recoveryKey(root: Root, generation: number): SigningKey {
  return signingKey(root, 'recovery', generation);
}

function signingKey(root: Root, label: string, generation: number): SigningKey {
  assert(
    Number.isSafeInteger(generation) && generation >= 0,
    `a key generation is a whole number from 0, got ${generation}`,
  );
  const seed = hkdf(root, `${label}/${generation}`);
  return { seed, publicKey: publicKeyOf(seed) };
}

function misplaced(number: number, position: number): HoldfastError {
  return new HoldfastError('bad_words', `the word numbered ${number} stands at position ${position}`, {
    hint: `Give the words in the order of their numbers, 1 to ${WORDS}, leaving none out.`,
  });
}
