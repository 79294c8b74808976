/** One share of SLIP-39 (SLIP-0039, satoshilabs/slips) and its words. */
import { assert, HoldfastError } from '../errors.ts';
import { checksumHolds, checksumOf, CHECKSUM_WORDS, wrongWord } from './rs1024.ts';
import { SLIP39_WORDS } from './slip39-words.ts';

/** Words of a share of a 32-byte secret. */
export const SHARE_WORDS = 33;
/** The shortest secret, and so the shortest share. */
export const SECRET_MIN_BYTES = 16;

const WORD_BITS = 10;
/** The first four words: who the share is (see `headerOf`). */
const HEADER_WORDS = 4;

const NUMBER_OF: ReadonlyMap<string, number> = new Map(SLIP39_WORDS.map((word, i) => [word, i]));

/** A share whose checksum holds. Everything but `value` is public. */
export interface Share {
  /** 15 bits, the same for all shares of a set. */
  identifier: number;
  /** When set, the identifier is no part of the encryption, so that one secret may have several sets. */
  extendable: boolean;
  /** 0 to 15: decrypting takes 10,000 × 2^this iterations of PBKDF2. */
  iterationExponent: number;
  /** Which group, from 0. */
  group: number;
  /** How many groups are needed. */
  groupThreshold: number;
  /** How many groups there are. */
  groups: number;
  /** Which share of the group, from 0. */
  index: number;
  /** How many shares of the group are needed. */
  threshold: number;
  /** The secret part, as long as the secret. */
  value: Uint8Array;
}

/** The words that begin so, in order. */
export function shareWordsBeginning(prefix: string): string[] {
  return SLIP39_WORDS.filter((word) => word.startsWith(prefix));
}

/**
 * A share from its words, in any letter case. `place` is its place in what was given, from 1, for the errors. Throws `bad_words` for a wrong
 * number of words, words that are not in the list (naming positions), a wrong checksum (naming the position when one wrong word explains
 * it) and fields that no share has. No message holds a word.
 */
export function parseShare(words: readonly string[], place?: number): Share {
  const name = place === undefined ? 'the share' : `share ${place}`;
  const numbers = words.map((word) => NUMBER_OF.get(word.normalize('NFKD').toLowerCase()));
  const valueWords = words.length - HEADER_WORDS - CHECKSUM_WORDS;
  const paddingBits = (valueWords * WORD_BITS) % 16;
  const bytes = (valueWords * WORD_BITS - paddingBits) / 8;
  if (paddingBits > 8 || bytes < SECRET_MIN_BYTES) {
    throw new HoldfastError('bad_words', `${name} has ${words.length} words; no share has that many`, {
      hint: `A share made by holdfast has ${SHARE_WORDS} words: compare with the paper, in the order in which they are numbered.`,
    });
  }
  const unknown = numbers.flatMap((number, i) => (number === undefined ? [i + 1] : []));
  if (unknown.length > 0) {
    const which = unknown.length === 1 ? `word ${unknown[0]} is` : `words ${unknown.join(', ')} are`;
    throw new HoldfastError('bad_words', `${name}: ${which} not in the SLIP-39 word list`, {
      hint: 'Compare the words at these positions with the paper; the first four letters identify a word.',
    });
  }
  const known = numbers.filter((number) => number !== undefined);
  const share = fieldsOf(known, paddingBits, bytes);
  if (!checksumHolds(customization(share.extendable), known)) throw wrongChecksum(name, share, known);
  if (share.padding !== 0 || share.groupThreshold > share.groups) {
    throw new HoldfastError(
      'bad_words',
      `${name} (${whichOf(share)}) contradicts itself: no program makes such a share`,
      {
        hint: 'Its checksum holds, so that it was read as it was written: use other shares of the set.',
      },
    );
  }
  const { padding: _, ...rest } = share;
  return rest;
}

/** The fields of the first four words, with their widths in bits. */
function headerOf(share: Omit<Share, 'value'>): [number, number][] {
  return [
    [share.identifier, 15],
    [share.extendable ? 1 : 0, 1],
    [share.iterationExponent, 4],
    [share.group, 4],
    [share.groupThreshold - 1, 4],
    [share.groups - 1, 4],
    [share.index, 4],
    [share.threshold - 1, 4],
  ];
}

/** The words of a share, joined by one space. */
export function formatShare(share: Share): string {
  const padding = (WORD_BITS - ((share.value.length * 8) % WORD_BITS)) % WORD_BITS;
  const value = Array.from(share.value, (byte): [number, number] => [byte, 8]);
  const data = bitsToWords([...headerOf(share), [0, padding], ...value]);
  const numbers = [...data, ...checksumOf(customization(share.extendable), data)];
  return numbers.map((number) => SLIP39_WORDS[number]!).join(' ');
}

/** What the words say, checked by nobody. */
function fieldsOf(words: readonly number[], paddingBits: number, bytes: number): Share & { padding: number } {
  const take = bitReader(words);
  return {
    identifier: take(15),
    extendable: take(1) === 1,
    iterationExponent: take(4),
    group: take(4),
    groupThreshold: take(4) + 1,
    groups: take(4) + 1,
    index: take(4),
    threshold: take(4) + 1,
    padding: take(paddingBits),
    value: Uint8Array.from({ length: bytes }, () => take(8)),
  };
}

/** Fields (value, width in bits), most significant bit first, as words of ten bits. */
function bitsToWords(fields: readonly (readonly [number, number])[]): number[] {
  const words: number[] = [];
  let held = 0;
  let bits = 0;
  for (const [value, width] of fields) {
    held = (held << width) | value;
    for (bits += width; bits >= WORD_BITS; held &= (1 << bits) - 1) {
      bits -= WORD_BITS;
      words.push(held >> bits);
    }
  }
  assert(bits === 0, 'a share fills its words');
  return words;
}

/** Takes fields of at most 16 bits from words of ten bits. */
function bitReader(words: readonly number[]): (width: number) => number {
  let next = 0;
  let held = 0;
  let bits = 0;
  return (width) => {
    for (; bits < width; bits += WORD_BITS) held = (held << WORD_BITS) | (words[next++] ?? 0);
    bits -= width;
    const value = held >> bits;
    held &= (1 << bits) - 1;
    return value;
  };
}

/** What the checksum begins with: a flipped flag is a wrong checksum too. */
function customization(extendable: boolean): string {
  return extendable ? 'shamir_extendable' : 'shamir';
}

function wrongChecksum(name: string, share: Share, words: readonly number[]): HoldfastError {
  // The flag itself is in word 2: when that word is the wrong one, the other customization is the right one.
  const position =
    wrongWord(customization(share.extendable), words) ??
    [wrongWord(customization(!share.extendable), words)].find((other) => other === 2);
  const where =
    position === undefined
      ? 'more than one word is not the one on the paper, or words stand in the wrong order'
      : `if one word only is wrong, it is word ${position}`;
  return new HoldfastError('bad_words', `${name} (it reads as ${whichOf(share)}) has a wrong checksum: ${where}`, {
    hint: `Compare its words and their order with the paper.${words.length === SHARE_WORDS ? '' : ` It has ${words.length} words; one made by holdfast has ${SHARE_WORDS}.`}`,
  });
}

/** Group and number of a share in words, from 1 as on paper. */
export function whichOf(share: Pick<Share, 'group' | 'index'>): string {
  return `group ${share.group + 1}, share ${share.index + 1}`;
}
