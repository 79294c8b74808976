/**
 * Shamir shares as words: SLIP-39 (SLIP-0039, satoshilabs/slips). A secret becomes groups of shares; enough shares of enough groups give it
 * back, fewer say nothing about it. Multiplication in the field takes no secret-dependent branch or table look-up.
 */
import { createHmac, pbkdf2Sync } from 'node:crypto';
import type { Random } from '../clock.ts';
import { assert, HoldfastError } from '../errors.ts';
import { interpolate, type Point } from './gf256.ts';
import { equalBytes } from './hash.ts';
import { formatShare, parseShare, SECRET_MIN_BYTES, whichOf, type Share } from './slip39-share.ts';

export { parseShare, SHARE_WORDS, shareWordsBeginning, type Share } from './slip39-share.ts';

/** The most groups, and the most shares of a group. */
export const SHARES_MAX = 16;

/** Where on the polynomials the secret and its digest lie; shares lie at 0 to 15. */
const SECRET_X = 255;
const DIGEST_X = 254;
const DIGEST_BYTES = 4;
const FEISTEL_ROUNDS = 4;
const ROUND_ITERATIONS = 2500;

/** How many shares of a group are needed, and how many it has. */
export interface ShareGroup {
  threshold: number;
  count: number;
}

/**
 * Shares of a secret of at least 16 bytes and an even number of them: for each group its shares, each as words joined by one space. Made
 * with the extendable flag and without a passphrase. Every share has been read and combined with others before this returns: a difference
 * throws `bug`, so that bad memory does not become paper. Throws `usage` for numbers that make no quorum.
 */
export function splitSecret(
  secret: Uint8Array,
  groups: readonly ShareGroup[],
  groupThreshold: number,
  random: Random,
): string[][] {
  assert(secret.length >= SECRET_MIN_BYTES && secret.length % 2 === 0, 'a secret of a length that SLIP-39 can share');
  checkQuorum(groups, groupThreshold);
  const [high = 0, low = 0] = random.bytes(2);
  const common = {
    identifier: ((high & 0x7f) << 8) | low,
    extendable: true,
    // Stretching is for passphrases. The secret is full of entropy and has none, so that more iterations would only cost time.
    iterationExponent: 0,
    groupThreshold,
    groups: groups.length,
  };
  const encrypted = encrypt(secret, new Uint8Array(0), common);
  const groupValues = splitValue(encrypted, { threshold: groupThreshold, count: groups.length }, random);
  const phrases = groups.map((members, group) =>
    splitValue(groupValues[group]!, members, random).map((value, index) =>
      formatShare({ ...common, group, index, threshold: members.threshold, value }),
    ),
  );
  checkPhrases(phrases, groups, groupThreshold, secret);
  return phrases;
}

/**
 * The secret of a valid set of shares, of which `passphrase` (printable ASCII) was part when they were made; a wrong one gives another
 * secret, not an error. More shares than needed are welcome and checked too; groups short of their threshold do not count. Throws
 * `bad_words`, naming shares by their places in the list (from 1): mixed sets, two different shares of one number, too few, shares that do not
 * fit together. Throws `usage` for a passphrase of other characters.
 */
export function combineShares(shares: readonly Share[], passphrase = ''): Uint8Array {
  if (!/^[\x20-\x7e]*$/.test(passphrase)) {
    throw new HoldfastError('usage', 'a passphrase of SLIP-39 shares has printable ASCII characters only');
  }
  const first = shares[0];
  if (!first) throw new HoldfastError('bad_words', 'no share was given', { hint: 'Give the words of the shares.' });
  const given = shares.map((share, i) => ({ share, place: i + 1 }));
  checkOneSet(given);
  const groups = groupsOf(given);
  const complete = groups.filter(({ members, threshold }) => members.length >= threshold);
  if (complete.length < first.groupThreshold) throw tooFew(given, groups);

  const groupPoints = complete.map(({ group, threshold, members }) => {
    const points = members.map(({ share, place }) => ({ x: share.index, y: share.value, place }));
    return { x: group, y: joinValues(points, threshold), place: group + 1 };
  });
  const encrypted = joinValues(groupPoints, first.groupThreshold, 'groups');
  return decrypt(encrypted, new TextEncoder().encode(passphrase), first);
}

interface Given {
  share: Share;
  place: number;
}

interface GivenGroup {
  group: number;
  threshold: number;
  /** Different shares. */
  members: Given[];
}

/** The fields that all shares of a set have in common, as they are called in messages. */
const COMMON: readonly [string, (share: Share) => string | number][] = [
  ['identifier', (share) => share.identifier],
  ['iteration exponent', (share) => share.iterationExponent],
  ['extendable flag', (share) => (share.extendable ? 'set' : 'not set')],
  ['number of groups', (share) => share.groups],
  ['number of groups needed', (share) => share.groupThreshold],
  ['bytes of secret', (share) => share.value.length],
];

function checkOneSet(given: readonly Given[]): void {
  const differing = COMMON.filter(([, read]) => new Set(given.map(({ share }) => read(share))).size > 1);
  if (differing.length === 0) return;
  const sets = Map.groupBy(given, ({ share }) => differing.map(([name, read]) => `${name} ${read(share)}`).join(', '));
  const list = [...sets].map(([fields, members]) => `${placesOf(members)} (${fields})`).join('; ');
  throw new HoldfastError('bad_words', `the shares are not of one set: ${list}`, {
    hint: 'Shares that were made together have the same identifier; leave the others out.',
  });
}

/** By group; a share that was given twice counts once. Throws `bad_words` when two shares cannot both be right. */
function groupsOf(given: readonly Given[]): GivenGroup[] {
  return [...Map.groupBy(given, ({ share }) => share.group)].map(([group, all]) => {
    const thresholds = Map.groupBy(all, ({ share }) => share.threshold);
    const [threshold, ...others] = thresholds.keys();
    if (threshold === undefined || others.length > 0) {
      const list = [...thresholds].map(([needed, members]) => `${placesOf(members)}: ${needed}`).join('; ');
      throw new HoldfastError('bad_words', `shares of group ${group + 1} differ in how many are needed (${list})`, {
        hint: 'They were not made together; leave out those of another set.',
      });
    }
    const members: Given[] = [];
    for (const one of all) {
      const same = members.find(({ share }) => share.index === one.share.index);
      if (same && !equalBytes(same.share.value, one.share.value)) {
        throw new HoldfastError(
          'bad_words',
          `shares ${same.place} and ${one.place} are both ${whichOf(one.share)} of identifier ${one.share.identifier}, but they differ`,
          {
            hint: 'They are of two sets that happen to have one identifier, or one was forged; leave one of them out.',
          },
        );
      }
      if (!same) members.push(one);
    }
    return { group, threshold, members };
  });
}

function tooFew(given: readonly Given[], groups: readonly GivenGroup[]): HoldfastError {
  const { groupThreshold, groups: total, identifier } = given[0]!.share;
  const short = groups.filter(({ members, threshold }) => members.length < threshold);
  const state = short.map(({ group, members, threshold }) => {
    const missing = threshold - members.length;
    const of = total === 1 ? '' : ` of group ${group + 1}`;
    return `${missing} more ${missing === 1 ? 'share' : 'shares'}${of} (${members.length} of the ${threshold} needed given)`;
  });
  const absent = groupThreshold - groups.length;
  if (absent > 0) state.push(`shares of ${absent} more ${absent === 1 ? 'group' : 'groups'}`);
  const whole = total === 1 ? '' : `${groupThreshold} of ${total} groups are needed; `;
  const twice = groups.reduce((left, { members }) => left - members.length, given.length);
  const repeated = twice === 0 ? '' : ' A share that was given twice counts once.';
  return new HoldfastError('bad_words', `too few shares: ${whole}missing: ${state.join('; ')}`, {
    hint: `Give more shares with the identifier ${identifier}.${repeated}`,
  });
}

/**
 * What lies at `SECRET_X`, from the first `threshold` points, and checked by its digest; the points beyond are held against it. Places are
 * those of shares in the list, or numbers of groups.
 */
function joinValues(points: readonly (Point & { place: number })[], threshold: number, what = 'shares'): Uint8Array {
  const quorum = points.slice(0, threshold);
  const value = interpolate(quorum, SECRET_X);
  if (threshold > 1 && !digestHolds(interpolate(quorum, DIGEST_X), value)) {
    throw new HoldfastError('bad_words', `${listOf(what, quorum)} do not fit together: their digest is wrong`, {
      hint: 'The checksum of each holds, so that none was mistyped: one is of another set or was forged. Try other shares of the set.',
    });
  }
  for (const point of points.slice(threshold)) {
    if (equalBytes(interpolate(quorum, point.x), point.y)) continue;
    throw new HoldfastError('bad_words', `${listOf(what, [point])} does not fit to ${listOf(what, quorum)}`, {
      hint: 'It is of another set or was forged; the others are enough without it.',
    });
  }
  return value;
}

function digestHolds(stored: Uint8Array, value: Uint8Array): boolean {
  return equalBytes(digestOf(stored.subarray(DIGEST_BYTES), value), stored.subarray(0, DIGEST_BYTES));
}

function digestOf(key: Uint8Array, value: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update(value).digest().subarray(0, DIGEST_BYTES);
}

function splitValue(value: Uint8Array, { threshold, count }: ShareGroup, random: Random): Uint8Array[] {
  if (threshold === 1) return Array.from({ length: count }, () => value);
  const key = random.bytes(value.length - DIGEST_BYTES);
  const chosen = Array.from({ length: threshold - 2 }, (_, x): Point => ({ x, y: random.bytes(value.length) }));
  const digest = new Uint8Array([...digestOf(key, value), ...key]);
  const points = [...chosen, { x: DIGEST_X, y: digest }, { x: SECRET_X, y: value }];
  return Array.from({ length: count }, (_, x) => interpolate(points, x));
}

function checkQuorum(groups: readonly ShareGroup[], groupThreshold: number): void {
  const fits = (needed: number, of: number) =>
    Number.isInteger(needed) && Number.isInteger(of) && needed >= 1 && needed <= of && of <= SHARES_MAX;
  const wrong = groups.find(({ threshold, count }) => !fits(threshold, count) || (threshold === 1 && count > 1));
  if (fits(groupThreshold, groups.length) && !wrong) return;
  const [needed, of] = wrong ? [wrong.threshold, wrong.count] : [groupThreshold, groups.length];
  throw new HoldfastError('usage', `${needed} of ${of} ${wrong ? 'shares' : 'groups'} cannot be made into a quorum`, {
    hint: `Need at least 2 of at most ${SHARES_MAX} shares (or 1 of 1: one share of which each copy is enough).`,
  });
}

/** Each share takes part in one combination at least, read from the text that is to be printed. */
function checkPhrases(
  phrases: readonly string[][],
  groups: readonly ShareGroup[],
  groupThreshold: number,
  secret: Uint8Array,
): void {
  const shares = phrases.map((members) => members.map((phrase) => parseShare(phrase.split(' '))));
  shares.forEach((members, g) => {
    members.forEach((_, m) => {
      const quorum = fromOn(shares, g, groupThreshold).flatMap((group) =>
        fromOn(group, m, groups[group[0]!.group]!.threshold),
      );
      assert(equalBytes(combineShares(quorum), secret), 'new shares do not give back the secret');
    });
  });
}

/** `count` items from number `start` on, going round. */
function fromOn<T>(items: readonly T[], start: number, count: number): T[] {
  return Array.from({ length: count }, (_, i) => items[(start + i) % items.length]!);
}

type Encryption = Pick<Share, 'identifier' | 'extendable' | 'iterationExponent'>;

function encrypt(secret: Uint8Array, passphrase: Uint8Array, how: Encryption): Uint8Array {
  return feistel(secret, passphrase, how, [0, 1, 2, 3]);
}

function decrypt(encrypted: Uint8Array, passphrase: Uint8Array, how: Encryption): Uint8Array {
  return feistel(encrypted, passphrase, how, [3, 2, 1, 0]);
}

/** At 10 it takes two seconds, at 15 a minute in which nothing else happens: a forged share must not cost that. */
const ITERATION_EXPONENT_MAX = 10;

/** The four rounds of Luby and Rackoff, with PBKDF2 as their function. */
function feistel(block: Uint8Array, passphrase: Uint8Array, how: Encryption, rounds: readonly number[]): Uint8Array {
  assert(rounds.length === FEISTEL_ROUNDS, 'four rounds');
  if (how.iterationExponent > ITERATION_EXPONENT_MAX) {
    throw new HoldfastError(
      'bad_words',
      `the shares ask for ${ROUND_ITERATIONS} * 2^${how.iterationExponent} iterations, more than any are made with`,
      {
        hint: 'They are not shares that holdfast made. If they are right, put them together with the program that made them.',
      },
    );
  }
  const half = block.length / 2;
  const salt = how.extendable
    ? []
    : [...new TextEncoder().encode('shamir'), how.identifier >> 8, how.identifier & 0xff];
  const iterations = ROUND_ITERATIONS * 2 ** how.iterationExponent;
  let left = block.slice(0, half);
  let right = block.slice(half);
  for (const round of rounds) {
    const password = new Uint8Array([round, ...passphrase]);
    const mask = pbkdf2Sync(password, new Uint8Array([...salt, ...right]), iterations, half, 'sha256');
    [left, right] = [right, left.map((byte, i) => byte ^ mask[i]!)];
  }
  return new Uint8Array([...right, ...left]);
}

function placesOf(given: readonly Given[]): string {
  return listOf('shares', given);
}

function listOf(what: string, items: readonly { place: number }[]): string {
  const places = items.map(({ place }) => place);
  if (places.length === 1) return `${what.slice(0, -1)} ${places[0]}`;
  return `${what} ${places.slice(0, -1).join(', ')} and ${places.at(-1)}`;
}
