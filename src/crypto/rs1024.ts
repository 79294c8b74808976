/**
 * RS1024, the checksum of SLIP-39: a Reed-Solomon code over GF(1024). Any one, two or three wrong words are found; of more, all but one in 10^9.
 * Words are numbers of ten bits; the customization is ASCII and goes before them.
 */

export const CHECKSUM_WORDS = 3;

const WORD_BITS = 10;
const WORD_MASK = 0x3ff;
const REST_BITS = 20;
const REST_MASK = 0xfffff;
/** What each bit that is shifted out adds to the remainder: multiples of the generator polynomial. */
const GENERATOR = [
  0xe0e040, 0x1c1c080, 0x3838100, 0x7070200, 0xe0e0009, 0x1c0c2412, 0x38086c24, 0x3090fc48, 0x21b1f890, 0x3f3f120,
];

/** The three words that make `data` valid. */
export function checksumOf(customization: string, data: readonly number[]): number[] {
  const rest = remainder(customization, [...data, 0, 0, 0]) ^ 1;
  return [rest >> REST_BITS, (rest >> WORD_BITS) & WORD_MASK, rest & WORD_MASK];
}

/** Whether words that end in their checksum are as they were made. */
export function checksumHolds(customization: string, words: readonly number[]): boolean {
  return remainder(customization, words) === 1;
}

/**
 * The place (from 1) of the one word that, if it were another, would make the checksum hold: undefined when there is none. What the word
 * should be is not looked for: a guess that happens to fit must not replace what is on the paper.
 */
export function wrongWord(customization: string, words: readonly number[]): number | undefined {
  // The code is linear: an error in the last word is itself the difference, and one further to the front was multiplied on its way. So
  // the difference is divided back word by word until it is a single word.
  let difference = remainder(customization, words) ^ 1;
  if (difference === 0) return undefined;
  const shiftedOut = new Map(Array.from({ length: WORD_MASK + 1 }, (_, word) => [reduction(word) & WORD_MASK, word]));
  for (let place = words.length; place >= 1; place--) {
    if (difference <= WORD_MASK) return place;
    const word = shiftedOut.get(difference & WORD_MASK) ?? 0;
    difference = ((difference ^ reduction(word)) >>> WORD_BITS) | (word << REST_BITS);
  }
  return undefined;
}

function remainder(customization: string, words: readonly number[]): number {
  let rest = 1;
  for (const value of [...new TextEncoder().encode(customization), ...words]) {
    rest = ((rest & REST_MASK) << WORD_BITS) ^ value ^ reduction(rest >> REST_BITS);
  }
  return rest;
}

function reduction(word: number): number {
  return GENERATOR.reduce((sum, term, bit) => sum ^ (term & -((word >> bit) & 1)), 0);
}
