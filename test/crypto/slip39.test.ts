/** fixtures/vectors/slip39.json is vectors.json of trezor/python-shamir-mnemonic, the reference implementation, unchanged. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { interpolate, multiply } from '../../src/crypto/gf256.ts';
import { hex, sha256Hex } from '../../src/crypto/hash.ts';
import { SLIP39_WORDS } from '../../src/crypto/slip39-words.ts';
import {
  combineShares,
  parseShare,
  SHARE_WORDS,
  shareWordsBeginning,
  splitSecret,
  type Share,
} from '../../src/crypto/slip39.ts';
import type { HoldfastError } from '../../src/errors.ts';
import { everythingOf, failure, seededRandom, vectors } from './support.ts';

const random = seededRandom('slip39');
const SECRET = random.bytes(32);
const [GROUP = []] = splitSecret(SECRET, [{ threshold: 2, count: 3 }], 1, random);
const [OTHER = []] = splitSecret(SECRET, [{ threshold: 2, count: 3 }], 1, random);

const read = (phrases: readonly string[]) => phrases.map((phrase, i) => parseShare(phrase.split(' '), i + 1));
const combine = (phrases: readonly string[], passphrase?: string) => combineShares(read(phrases), passphrase);
const refusal = (phrases: readonly string[]) => failure(() => combine(phrases), 'bad_words');

/** The words of our own sentences: of them one may be in a phrase by chance. */
const OURS = new Set(
  ['slip39', 'slip39-share'].flatMap(
    (name) => readFileSync(new URL(`../../src/crypto/${name}.ts`, import.meta.url), 'utf8').match(/[a-z]+/g) ?? [],
  ),
);

function expectNoWords(error: HoldfastError, ...phrases: readonly string[]): void {
  const shown = new Set(`${error.message} ${error.hint}`.toLowerCase().match(/[a-z]+/g));
  const words = phrases.flatMap((phrase) => phrase.split(' ')).filter((word) => !OURS.has(word));
  expect(
    words.filter((word) => shown.has(word)),
    error.message,
  ).toEqual([]);
  for (const phrase of phrases) expect(everythingOf(error)).not.toContain(phrase.slice(-30));
}

describe('the official SLIP-39 vectors', () => {
  const all = vectors<[title: string, phrases: string[], secret: string, xprv: string][]>('slip39');
  const REASONS: readonly [RegExp, RegExp][] = [
    [/invalid checksum/, /^share 1 .* wrong checksum: .* it is word (20|33)$/],
    [/invalid padding|greater group threshold/, /^share 1 .*contradicts itself/],
    [/^(5|24)\. Basic sharing/, /missing: 1 more share \(1 of the 2 needed given\)$/],
    [/different identifiers/, /not of one set: share 1 \(identifier \d+\); share 2 \(identifier \d+\)$/],
    [/different iteration exponents/, /not of one set: .*iteration exponent/],
    [/mismatching group thresholds/, /not of one set: shares 1 and 2 \(.*groups needed 2\); share 3 \(.* 1\)$/],
    [/mismatching group counts/, /not of one set: .*number of groups/],
    [/duplicate member indices/, /^shares 1 and 2 are both group 1, share 3 .* differ$/],
    [/mismatching member thresholds/, /^shares of group 1 differ in how many/],
    [/invalid digest/, /^shares 1 and 2 do not fit together: their digest is wrong$/],
    [/Insufficient number of groups/, /2 of 4 groups are needed; missing: shares of 1 more group$/],
    [/insufficient number of members/, /missing: 1 more share of group 4 \(1 of the 2 needed given\)$/],
    [/insufficient length/, /^share 1 has 19 words/],
    [/invalid master secret length/, /^share 1 has 21 words/],
  ];

  it('are all there, as they were published', () => {
    expect(all).toHaveLength(45);
    expect(all.filter(([, , secret]) => secret !== '')).toHaveLength(15);
    expect(sha256Hex(Buffer.from(`${JSON.stringify(all, undefined, 2)}\n`))).toBe(
      '2cec14895c4acdc29161545f7bf0895b3f835762fb6f8d5380fe48adc7fa3e56',
    );
  });

  it.each(all.filter(([, , secret]) => secret !== ''))('%s', (_, phrases, secret) => {
    expect(hex(combine(phrases, 'TREZOR'))).toBe(secret);
    expect(hex(combine(phrases.toReversed(), 'TREZOR'))).toBe(secret);
    expect(hex(combine(phrases))).not.toBe(secret);
  });

  it.each(all.filter(([, , secret]) => secret === ''))('%s is refused for that reason', async (title, phrases) => {
    const reason = REASONS.find(([titled]) => titled.test(title))?.[1];
    const error = await refusal(phrases);
    expect(error.message).toMatch(reason ?? /no reason is known/);
    expectNoWords(error, ...phrases);
  });
});

describe('the SLIP-39 word list', () => {
  it('is the one that SLIP-0039 publishes', () => {
    expect(SLIP39_WORDS).toHaveLength(1024);
    expect(sha256Hex(Buffer.from(`${SLIP39_WORDS.join('\n')}\n`))).toBe(
      'bcc4555340332d169718aed8bf31dd9d5248cb7da6e5d355140ef4f1e601eec3',
    );
  });

  it('has one word for every four letters', () => {
    for (const word of SLIP39_WORDS) expect(shareWordsBeginning(word.slice(0, 4))).toEqual([word]);
    expect(shareWordsBeginning('zz')).toEqual([]);
    expect(shareWordsBeginning('')).toHaveLength(1024);
  });
});

describe('GF(256)', () => {
  it('multiplies as FIPS 197 has it, and interpolation gives back its points', () => {
    expect(multiply(0x57, 0x83)).toBe(0xc1);
    expect(multiply(0x57, 0x13)).toBe(0xfe);
    const points = [0, 7, 254, 255].map((x) => ({ x, y: random.bytes(4) }));
    for (const { x, y } of points) expect(interpolate(points, x)).toEqual(y);
  });
});

/** A group as 1 of 1, or at least 2 of at most 5. */
const group = fc
  .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 2 }))
  .map(([threshold, more]) => ({ threshold, count: threshold === 1 ? 1 : threshold + more }));
const layout = fc
  .array(group, { minLength: 1, maxLength: 4 })
  .chain((groups) => fc.record({ groups: fc.constant(groups), needed: fc.integer({ min: 1, max: groups.length }) }));
const secrets = fc.uint8Array({ minLength: 8, maxLength: 16 }).map((half) => new Uint8Array([...half, ...half]));

describe('shares', () => {
  it('of 32 bytes have 33 words and say who they are', () => {
    GROUP.forEach((phrase, index) => {
      const words = phrase.split(' ');
      expect(words).toHaveLength(SHARE_WORDS);
      const share = parseShare(words);
      expect(share).toMatchObject({ group: 0, groups: 1, groupThreshold: 1, index, threshold: 2 });
      expect(share).toMatchObject({ extendable: true, iterationExponent: 0 });
      expect(parseShare(words.map((word) => word.toUpperCase()))).toEqual(share);
    });
  });

  it('of any quorum give back the secret, in any order, and one fewer never does', () => {
    const seeds = fc.string({ minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(secrets, layout, seeds, fc.infiniteStream(fc.nat()), (secret, { groups, needed }, seed, picks) => {
        /** `count` items in an order of chance. */
        const some = <T>(items: readonly T[], count: number): T[] =>
          items
            .map((item) => ({ item, at: picks.next().value as number }))
            .sort((a, b) => a.at - b.at)
            .slice(0, count)
            .map(({ item }) => item);
        const phrases = splitSecret(secret, groups, needed, seededRandom(seed));
        expect(phrases.map((members) => members.length)).toEqual(groups.map(({ count }) => count));
        const chosen = some([...phrases.keys()], needed).map((g) => some(phrases[g]!, groups[g]!.threshold));
        expect(combine(some(chosen.flat(), 100))).toEqual(secret);
        expect(combine(some(phrases.flat(), 100))).toEqual(secret);
        const short = chosen.flat();
        short.splice((picks.next().value as number) % short.length, 1);
        expect(() => combine(short)).toThrow(short.length === 0 ? /no share/ : /too few shares/);
      }),
      { numRuns: 60 },
    );
  });

  it('of which one word is another are refused, naming share and word', () => {
    const others = fc.integer({ min: 1, max: 1023 });
    fc.assert(
      fc.property(fc.nat(2), fc.nat(SHARE_WORDS - 1), others, (which, position, change) => {
        const words = GROUP[which]!.split(' ');
        const number = SLIP39_WORDS.indexOf(words[position]!);
        words[position] = SLIP39_WORDS[(number + change) % 1024]!;
        expect(() => parseShare(words, which + 1)).toThrow(
          new RegExp(`^share ${which + 1} .*wrong checksum: if one word only is wrong, it is word ${position + 1}$`),
        );
      }),
      { numRuns: 3000 },
    );
  });

  it('of which two or three words are others are refused', () => {
    const changes = fc.uniqueArray(fc.tuple(fc.nat(SHARE_WORDS - 1), fc.integer({ min: 1, max: 1023 })), {
      minLength: 2,
      maxLength: 3,
      selector: ([position]) => position,
    });
    fc.assert(
      fc.property(changes, (list) => {
        const words = GROUP[0]!.split(' ');
        for (const [position, change] of list) {
          words[position] = SLIP39_WORDS[(SLIP39_WORDS.indexOf(words[position]!) + change) % 1024]!;
        }
        expect(() => parseShare(words, 1)).toThrow(/^share 1 .*wrong checksum/);
      }),
      { numRuns: 1000 },
    );
  });

  it('of which two neighbours are exchanged are refused', async () => {
    for (const phrase of [...GROUP, ...OTHER]) {
      for (let i = 1; i < SHARE_WORDS; i++) {
        const words = phrase.split(' ');
        if (words[i] === words[i - 1]) continue;
        [words[i - 1], words[i]] = [words[i]!, words[i - 1]!];
        const error = await failure(() => parseShare(words, 4), 'bad_words');
        expect(error.message).toMatch(/^share 4 .*wrong checksum/);
        expectNoWords(error, phrase);
      }
    }
  });

  it('with words that are not in the list are refused, naming their places', async () => {
    const words = GROUP[0]!.split(' ').with(2, 'qwertz').with(8, 'xylofone');
    const error = await failure(() => parseShare(words, 2), 'bad_words');
    expect(error.message).toBe('share 2: words 3, 9 are not in the SLIP-39 word list');
    expect(everythingOf(error)).not.toMatch(/qwertz|xylofone/);
  });

  it.each([0, 1, 24, 32, 34])('of %i words are refused, saying so', async (count) => {
    const words = `${GROUP[0]} academic`.split(' ').slice(0, count);
    const error = await failure(() => parseShare(words), 'bad_words');
    expect(`${error.message} ${error.hint}`).toMatch(new RegExp(`${count} words[^]*33 words`));
  });

  it('of two sets are sorted by identifier', async () => {
    const [a, b] = [parseShare(GROUP[0]!.split(' ')), parseShare(OTHER[1]!.split(' '))];
    const error = await refusal([GROUP[0]!, OTHER[1]!, GROUP[2]!]);
    expect(error.message).toContain(
      `shares 1 and 3 (identifier ${a.identifier}); share 2 (identifier ${b.identifier})`,
    );
    expectNoWords(error, ...GROUP, ...OTHER);
  });

  it('given twice count once', async () => {
    const error = await refusal([GROUP[0]!, GROUP[0]!]);
    expect(error.message).toContain('1 more share (1 of the 2 needed given)');
    expect(error.hint).toContain('counts once');
    expect(combine([GROUP[0]!, GROUP[0]!, GROUP[2]!])).toEqual(SECRET);
  });

  it('of two sets that happen to have one identifier are refused: never another secret', async () => {
    const asOf = (share: Share, place: number) => ({ ...share, identifier: read(GROUP)[place]!.identifier });
    const [first, second, third] = read(GROUP) as [Share, Share, Share];
    const foreign = read(OTHER).map(asOf);
    const refused = async (...shares: Share[]) => (await failure(() => combineShares(shares), 'bad_words')).message;
    expect(await refused(first, foreign[0]!)).toContain('shares 1 and 2 are both group 1, share 1');
    expect(await refused(first, foreign[1]!)).toContain('shares 1 and 2 do not fit together');
    expect(await refused(first, second, foreign[2]!)).toContain('share 3 does not fit to shares 1 and 2');
    expect(combineShares([first, second, third])).toEqual(SECRET);
  });

  it('are not made for what is no quorum', async () => {
    const cases: [{ threshold: number; count: number }[], number][] = [
      [[{ threshold: 3, count: 2 }], 1],
      [[{ threshold: 0, count: 2 }], 1],
      [[{ threshold: 1, count: 2 }], 1],
      [[{ threshold: 2, count: 17 }], 1],
      [[{ threshold: 1.5, count: 3 }], 1],
      [[{ threshold: 2, count: 3 }], 2],
      [[], 0],
    ];
    for (const [groups, needed] of cases) await failure(() => splitSecret(SECRET, groups, needed, random), 'usage');
    const [largest] = splitSecret(SECRET, [{ threshold: 16, count: 16 }], 1, random);
    expect(combine(largest!)).toEqual(SECRET);
  });

  it('that do not give back the secret are not handed out', async () => {
    const secret = SECRET.slice();
    // The secret's memory changes while shares are made of it.
    const failing = { bytes: (length: number) => (length > 2 && (secret[5]! ^= 1), random.bytes(length)) };
    await failure(() => splitSecret(secret, [{ threshold: 2, count: 3 }], 1, failing), 'bug');
  });

  it('take printable ASCII passphrases only', async () => {
    await failure(() => combine(GROUP, 'pässe'), 'usage');
  });
});
