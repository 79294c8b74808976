/**
 * Is a passphrase strong enough to stand between a stolen file and the identity in it? Judged by zxcvbn (Wheeler, USENIX Security 2016; the
 * @zxcvbn-ts packages), loaded when it is asked: its word lists take 0.2 s.
 */
import type { ZxcvbnFactory, ZxcvbnResult } from '@zxcvbn-ts/core';
import { HoldfastError } from '../errors.ts';

/**
 * The fewest guesses, as powers of ten. Who has the file can guess without being seen, for as long as he likes. One guess is scrypt with
 * N = 2^18: 256 MiB written and read, so that memory bandwidth sets the price: at 1 TB/s about 2,000 guesses a second for one good graphics
 * card, two million for a thousand of them. 10^12 guesses then take a thousand cards about six days.
 *
 * Files on storage are read by more people, and copies of them stay after they were deleted; a passphrase cannot be changed in a copy
 * that is out. 10^15 guesses take the thousand cards 16 years.
 */
export const MIN_GUESSES_LOG10 = { kept: 12, onStorage: 15 } as const;

/** Longer ones are judged by their start: time grows with the square of the length. */
const LOOKED_AT = 128;
/** What anybody would try first on a file of this program. */
const OBVIOUS = ['holdfast', 'openclaw', 'agent', 'identity', 'backup', 'recovery', 'restore', 'vault', 'passphrase'];

/** The estimator's finding, in our own words; none of them tells a part of the passphrase. */
const WHY: Readonly<Record<string, string>> = {
  straightRow: 'it follows keys that lie side by side',
  keyPattern: 'it follows keys that lie side by side',
  simpleRepeat: 'it repeats itself',
  extendedRepeat: 'it repeats itself',
  sequences: 'it is a sequence that everybody knows',
  recentYears: 'a year is a large part of it',
  dates: 'a date is a large part of it',
  topTen: 'it is one of the most used passwords',
  topHundred: 'it is one of the most used passwords',
  common: 'it is a password that many people use',
  similarToCommon: 'it is close to a password that many people use',
  wordByItself: 'a single word is most of it',
  namesByThemselves: 'a name is most of it',
  commonNames: 'a name is most of it',
  userInputs: 'it is made of what this program is about',
};
const TOO_SHORT = 'it is too short';

let estimator: Promise<ZxcvbnFactory> | undefined;

/**
 * Throws `usage` when guessing the passphrase takes fewer than 10^`minGuessesLog10` tries (the default is that of a file you keep), saying
 * what makes it weak and what is stronger, never a part of it. The judgement is by known passwords, words, names, dates and patterns; it
 * cannot know a quotation or what others know about you.
 */
export async function checkPassphrase(
  passphrase: string,
  { minGuessesLog10 = MIN_GUESSES_LOG10.kept }: { minGuessesLog10?: number } = {},
): Promise<void> {
  const { guessesLog10, feedback } = await estimate(passphrase.slice(0, LOOKED_AT));
  if (guessesLog10 >= minGuessesLog10) return;
  const why = WHY[feedback.warning ?? ''] ?? TOO_SHORT;
  const found = Math.max(0, Math.floor(guessesLog10));
  throw new HoldfastError(
    'usage',
    `the passphrase is too weak: ${why}. About 10^${found} guesses find it; it should take 10^${Math.ceil(minGuessesLog10)} or more`,
    {
      hint: 'Take six words at random (by dice or a password manager, not by heart), or at least 20 random characters.',
    },
  );
}

/**
 * The lower of two estimates, as it was typed and without what is between its words: a separator is counted as if it had to be guessed anew
 * at each place, which puts three random words at a thousand times what they are worth.
 */
async function estimate(passphrase: string): Promise<ZxcvbnResult> {
  const zxcvbn = await (estimator ??= makeEstimator());
  const results = [passphrase, passphrase.replace(/(?<=\p{L})[\s\p{Pd}_.,;]+(?=\p{L})/gu, '')].map((text) =>
    zxcvbn.check(text, OBVIOUS),
  );
  return results.reduce((lower, result) => (result.guessesLog10 < lower.guessesLog10 ? result : lower));
}

async function makeEstimator(): Promise<ZxcvbnFactory> {
  const [core, common, english] = await Promise.all([
    import('@zxcvbn-ts/core'),
    import('@zxcvbn-ts/language-common'),
    import('@zxcvbn-ts/language-en'),
  ]);
  return new core.ZxcvbnFactory({
    dictionary: { ...common.dictionary, ...english.dictionary },
    graphs: common.adjacencyGraphs,
    maxLength: LOOKED_AT,
  });
}
