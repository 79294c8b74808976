import { wordlist } from '@scure/bip39/wordlists/english.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sealAge, ageRecipientOf } from '../../src/crypto/age.ts';
import { hex } from '../../src/crypto/hash.ts';
import { SLIP39_WORDS } from '../../src/crypto/slip39-words.ts';
import { splitSecret } from '../../src/crypto/slip39.ts';
import { rowCheck, wordsOf } from '../../src/crypto/words.ts';
import { isHoldfastError, messageOf } from '../../src/errors.ts';
import { formatCode, type CodeType } from '../../src/identity/paper-code.ts';
import { parseRecoveryText } from '../../src/identity/recovery-text.ts';
import { formatWordsFile, newRoot, parseWordsText, recoveryKey, restoreIdentity } from '../../src/identity/root.ts';
import { everythingOf, failure, seededRandom } from '../crypto/support.ts';
import { wordsFromElsewhere } from './vocabulary.ts';

const random = seededRandom('recovery text');
const root = newRoot(random);
const words = wordsOf(root);
const other = newRoot(random);
const key = restoreIdentity(root, 'x25519');

const rowOf = (position: number) => Math.floor(position / 4) + 1;
const rowsOf = (phrase: readonly string[]) => Array.from({ length: 6 }, (_, i) => phrase.slice(i * 4, i * 4 + 4));
const checksOf = (phrase: readonly string[]) => rowsOf(phrase).map((row, i) => rowCheck(i + 1, row));
/** As printed: each row, then its check. */
const withChecks = (phrase: readonly string[], checks = checksOf(words)) =>
  rowsOf(phrase)
    .map((row, i) => `${row.join(' ')} ${checks[i]}`)
    .join('\n');
const swapped = (phrase: readonly string[], i: number) => phrase.with(i, phrase[i + 1]!).with(i + 1, phrase[i]!);
const rootIn = (...texts: string[]) => {
  const secret = parseRecoveryText(texts);
  return secret.kind === 'root' ? hex(secret.root) : secret.kind;
};
const problemOf = (text: string) => {
  try {
    return { root: parseWordsText(text) };
  } catch (error) {
    if (!isHoldfastError(error, 'bad_words')) throw error;
    return { problem: error.message };
  }
};

describe('words', () => {
  it.each([
    ['with checks behind the rows', withChecks(words)],
    [
      'with checks behind an equals sign',
      withChecks(
        words,
        checksOf(words).map((check) => `=${check}`),
      ),
    ],
    [
      'with numbers and checks',
      rowsOf(words)
        .map((row, i) => `${row.map((word, j) => `${i * 4 + j + 1}. ${word}`).join('  ')}   ${checksOf(words)[i]}`)
        .join('\n'),
    ],
    [
      'with the checks of some rows',
      withChecks(words).replaceAll(/\d{4}$/gm, (check) => (Number(check) % 2 ? check : '')),
    ],
    ['with all on one line', withChecks(words).replaceAll('\n', ' ')],
    ['with four letters of each word', words.map((word) => word.slice(0, 4)).join(' ')],
    ['with six letters of each word, in capitals', words.map((word) => word.slice(0, 6).toUpperCase()).join(' ')],
    ['in a words file', formatWordsFile(root, 'agent: ada')],
    ['in a words file for Windows', `\ufeff${formatWordsFile(root).replaceAll('\n', '\r\n')}`],
  ])('are read %s', (_, text) => {
    expect(rootIn(text)).toBe(hex(root));
  });

  it('are known by four letters, each of the list, and by no fewer unless they are shorter', () => {
    for (const word of wordlist) {
      const row = [word, word, word, word];
      const phrase = (text: string) =>
        `${[text, text, text, text].join(' ')} ${rowCheck(1, row)} ${words.slice(4).join(' ')}`;
      const accepted = (text: string) => !/not in|row 1/.test(problemOf(phrase(text)).problem ?? '');
      expect(accepted(word.slice(0, 4))).toBe(true);
      const three = word.slice(0, 3);
      if (word.length > 3) expect(accepted(three)).toBe(false);
    }
  });

  it('that go on differently after four letters are not put right', () => {
    const wrong = words.with(10, `${words[10]!.slice(0, 4)}zzzz`);
    expect(problemOf(wrong.join(' '))).toEqual({ problem: expect.stringContaining('word 11 is not in') });
    expect(problemOf(words.with(3, `${words[3]}s`).join(' ')).problem).toContain('word 4 is not in');
  });

  it('EVERY one of which is exchanged for ANY other is told by its row', () => {
    const checks = checksOf(words);
    for (let i = 0; i < 24; i++) {
      for (const word of wordlist) {
        if (word === words[i]) continue;
        const { problem } = problemOf(withChecks(words.with(i, word), checks));
        if (!problem?.startsWith(`checksum, row ${rowOf(i)}:`)) expect.fail(`word ${i + 1}: ${problem}`);
      }
    }
  });

  it('EVERY two neighbours of which are exchanged are told by their rows', () => {
    for (let n = 0; n < 50; n++) {
      const phrase = wordsOf(newRoot(random));
      for (let i = 0; i < 23; i++) {
        if (phrase[i] === phrase[i + 1]) continue;
        const rows = rowOf(i) === rowOf(i + 1) ? `row ${rowOf(i)}:` : `rows ${rowOf(i)}, ${rowOf(i + 1)}:`;
        const { problem } = problemOf(withChecks(swapped(phrase, i), checksOf(phrase)));
        if (!problem?.startsWith(`checksum, ${rows}`)) expect.fail(`words ${i + 1} and ${i + 2}: ${problem}`);
      }
    }
  });

  it('of which one is wrong are told by the comment line of a words file too', () => {
    const file = formatWordsFile(root);
    for (let i = 0; i < 24; i++) {
      const lines = file.split('\n');
      const line = lines.length - 8 + rowOf(i);
      expect(lines[line]!.split(' ')).toHaveLength(4);
      lines[line] = lines[line]!.split(' ')
        .with(
          i % 4,
          wordlist.find((word) => word !== words[i])!,
        )
        .join(' ');
      expect(problemOf(lines.join('\n')).problem).toMatch(new RegExp(`^checksum, row ${rowOf(i)}:`));
    }
  });

  it('without checks: an exchanged word (thousands), and EVERY two exchanged neighbours, give no root or another recovery key', () => {
    const ours = hex(recoveryKey(root, 0).publicKey);
    let accepted = 0;
    const check = (phrase: readonly string[]) => {
      const { root: found, problem } = problemOf(phrase.join(' '));
      if (found) {
        accepted++;
        expect(hex(recoveryKey(found, 0).publicKey)).not.toBe(ours);
      } else if (!problem?.includes('checksum is wrong')) expect.fail(problem ?? '');
    };
    for (let i = 0; i < 24; i++) {
      for (let j = i % 8; j < 2048; j += 8) if (wordlist[j] !== words[i]) check(words.with(i, wordlist[j]!));
    }
    for (let i = 0; i < 23; i++) if (words[i] !== words[i + 1]) check(swapped(words, i));
    expect(accepted).toBeLessThan((24 * 2048) / 8 / 128); // one in 256 has a right checksum
  });

  it('of which one is missing or too many are told by the row, where rows have checks', () => {
    const rows = withChecks(words).split('\n');
    for (const [i, row] of rows.entries()) {
      const short = rows.with(i, row.replace(/^\S+ /, '')).join('\n');
      expect(problemOf(short).problem).toContain(`row ${i + 1} has 3 words`);
      expect(problemOf(rows.with(i, `zoo ${row}`).join('\n')).problem).toContain(`row ${i + 1} has 5 words`);
      expect(problemOf(rows.with(i, row.slice(-4)).join('\n')).problem).toContain(`row ${i + 1} has 0 words`);
    }
    expect(problemOf(words.slice(1).join(' ')).problem).toContain('expected 24 recovery words, found 23');
    expect(problemOf(`${words.slice(0, 13).join(' ')} 0001 ${words.slice(13).join(' ')}`).problem).toContain(
      'rows 1 to 4',
    );
  });

  it('with a line of row checks that is not whole are refused', () => {
    expect(problemOf(`# row checks: 0001 0002\n${words.join(' ')}`).problem).toContain('row checks');
  });

  it('that are unknown are told by their positions, whatever else is wrong', () => {
    const wrong = words.with(6, 'xylofone').with(12, 'ab');
    expect(problemOf(withChecks(wrong)).problem).toContain('words 7, 13 are not in');
  });
});

const code = (type: CodeType, body: string, chars = 2000) => formatCode({ type, body }, chars);
const scanned = (...texts: string[]) => texts.map((text) => `QR-Code:${text}\n`).join('');
const NOISE = 'EAN-13:4006381333931\n';

describe('what a scanner printed', async () => {
  const wrapped = Buffer.from((await sealAge(Buffer.from('the key file'), [await ageRecipientOf(key)], random)).bytes);
  const agentKey = code('agent-key', wrapped.toString('base64'), 150);
  const codes = [...code('words', withChecks(words)), ...code('age-key', key), ...agentKey];

  it('gives the words and the wrapped key, in any order, with other codes between', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(codes, { minLength: codes.length }), (order) => {
        const text = `${NOISE}QR-Code:https://example.org/menu\n${scanned(...order)}${NOISE}scanned 9 barcode symbols from 1 images in 0.4 seconds\n`;
        const secret = parseRecoveryText([text]);
        expect(secret).toEqual({ kind: 'root', root, source: 'words', wrappedAgentKey: wrapped });
      }),
      { numRuns: 20 },
    );
  });

  it('may come in several texts, also parts of one code', () => {
    const [first = '', ...rest] = agentKey;
    expect(rest.length).toBeGreaterThan(0);
    const secret = parseRecoveryText([first, ...code('words', words.join(' ')), rest.join('\n')]);
    expect(secret).toEqual({ kind: 'root', root, source: 'words', wrappedAgentKey: wrapped });
    expect(parseRecoveryText([scanned(...agentKey), `${words.join('\n')}\n`])).toEqual(secret);
  });

  it('gives an age key where there is nothing better', () => {
    expect(parseRecoveryText([scanned(...code('age-key', key))])).toEqual({
      kind: 'identities',
      identities: [key],
      source: 'age-key',
    });
  });

  it('that is not whole is refused, and an agent key alone opens nothing', async () => {
    await failure(() => parseRecoveryText([scanned(...codes).replace(words[5]!, words[6]!)]), 'bad_words');
    await failure(() => parseRecoveryText([scanned(...codes.slice(0, -1))]), 'bad_words');
    await failure(() => parseRecoveryText([scanned(...agentKey)]), 'missing_key');
    await failure(() => parseRecoveryText([scanned(...code('agent-key', 'no base64!'))]), 'bad_words');
    await failure(() => parseRecoveryText([scanned(...codes, ...code('agent-key', 'AAAA'))]), 'bad_words');
  });
});

describe('several secrets', () => {
  it('must be of one root', async () => {
    const phrase = words.join(' ');
    expect(rootIn(phrase, key)).toBe(hex(root));
    expect(rootIn(`# key\n${restoreIdentity(root, 'hybrid')}\n${phrase}`)).toBe(hex(root));
    expect(rootIn(phrase, withChecks(words))).toBe(hex(root));
    for (const texts of [
      [phrase, restoreIdentity(other, 'x25519')],
      [restoreIdentity(other, 'hybrid'), phrase],
      [phrase, wordsOf(other).join(' ')],
      [scanned(...code('words', phrase), ...code('age-key', restoreIdentity(other, 'x25519')))],
      [phrase, ...splitSecret(other, [{ threshold: 2, count: 2 }], 1, random).flat()],
    ]) {
      await failure(() => parseRecoveryText(texts), 'bad_words');
    }
  });

  it('an age key file is read as one, and a damaged one refused', async () => {
    const keys = [restoreIdentity(other, 'x25519'), key];
    expect(parseRecoveryText([`# created\n${keys.join('\n')}\n`])).toEqual({
      kind: 'identities',
      identities: keys,
      source: 'age-key',
    });
    const error = await failure(
      () => parseRecoveryText([key.replace(/.$/, (last) => (last === 'Q' ? 'P' : 'Q'))]),
      'wrong_key',
    );
    expect(everythingOf(error)).not.toContain(key.slice(20, 30));
  });

  it('an encrypted file is told from words', async () => {
    const error = await failure(() => parseRecoveryText(['-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n']), 'usage');
    expect(error.hint).toContain('--vault');
  });
});

describe('shares', () => {
  const [shares = []] = splitSecret(root, [{ threshold: 2, count: 3 }], 1, random);
  const [one = '', two = '', three = ''] = shares;
  const numbered = (share: string) =>
    share
      .split(' ')
      .map((word, i) => `${i + 1}. ${word}${i % 4 === 3 ? '\n' : ' '}`)
      .join('');

  it.each([
    ['a text each', [two, one]],
    ['a line each', [`# mine\n${three}\n\n${one}\n`]],
    ['in numbered rows', [`${numbered(one)}\n# next\n${numbered(three)}`]],
    ['by four letters of each word', [one, two].map((share) => share.replaceAll(/(\w{4})\w*/g, '$1').toUpperCase())],
    ['as codes', [scanned(...code('share', one), ...code('share', numbered(two).trim().replaceAll(' \n', '\n')))]],
    ['as a code and typed', [scanned(...code('share', one)), three]],
    ['more than needed, and one twice', [one, two, three, one]],
  ])('give the root: %s', (_, texts) => {
    expect(parseRecoveryText(texts)).toMatchObject({ kind: 'root', root, source: 'shares' });
  });

  it('too few, mixed and mistyped ones are refused by place', async () => {
    expect((await failure(() => parseRecoveryText([one, one]), 'bad_words')).message).toContain('1 more share');
    const [[foreign = ''] = []] = splitSecret(other, [{ threshold: 2, count: 2 }], 1, random);
    expect((await failure(() => parseRecoveryText([one, foreign]), 'bad_words')).message).toContain('not of one set');
    const mistyped = two.split(' ').with(20, 'academic').with(21, 'xylofone').join(' ');
    expect((await failure(() => parseRecoveryText([one, mistyped]), 'bad_words')).message).toMatch(
      /share 2\b.*word 22 is/,
    );
    const short = two.split(' ').slice(1).join(' ');
    expect((await failure(() => parseRecoveryText([one, short]), 'bad_words')).message).toMatch(/share 2\b.*32 words/);
    const words31 = one.split(' ').slice(2).join('\n');
    expect((await failure(() => parseRecoveryText([words31]), 'bad_words')).message).toContain('found 31 words');
  });

  it('of something that is no root are refused', async () => {
    const [[small = ''] = []] = splitSecret(random.bytes(16), [{ threshold: 1, count: 1 }], 1, random);
    await failure(() => parseRecoveryText([`# of 20 words\n${scanned(...code('share', small))}`]), 'bad_words');
  });

  it('that are too few beside words do not stand in their way', () => {
    expect(parseRecoveryText([words.join(' '), one])).toMatchObject({ kind: 'root', root, source: 'words' });
  });
});

describe('no error tells a secret', () => {
  it('whatever is damaged', () => {
    const said = new Set<string>();
    const parse = (texts: readonly string[]) => {
      try {
        parseRecoveryText(texts);
      } catch (error) {
        if (!isHoldfastError(error, 'bad_words', 'wrong_key', 'missing_key', 'usage')) throw error;
        // What kind of code it is, the tag of a code says, which is no secret.
        said.add(`${messageOf(error)} ${error.hint ?? ''}`.replaceAll(/\d+/g, '').replaceAll(/QR code "[a-z-]+"/g, ''));
      }
    };
    const secret = (seed: string): string[] => {
      const own = newRoot(seededRandom(seed));
      const shares = splitSecret(own, [{ threshold: 2, count: 2 }], 1, seededRandom(seed)).flat();
      const phrase = wordsOf(own);
      return [
        withChecks(phrase, checksOf(phrase)),
        formatWordsFile(own),
        restoreIdentity(own, 'x25519'),
        shares.join('\n'),
        scanned(...code('words', phrase.join(' ')), ...code('age-key', restoreIdentity(own, 'hybrid'))),
        scanned(...shares.flatMap((share) => code('share', share))),
      ];
    };
    const base = ['a', 'b', 'c', 'd'].map(secret);
    const strange = [
      'passwort',
      'hunter2',
      '\ud83d\ude00',
      '0',
      '1234',
      '=12',
      '#',
      'QR-Code:',
      'constructor',
      ...wordlist.slice(0, 3),
      ...SLIP39_WORDS.slice(0, 3),
    ];
    const damage = fc.record({
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      how: fc.constantFrom('drop', 'replace', 'insert', 'cut', 'letter', 'join'),
      what: fc.oneof(fc.constantFrom(...strange), fc.string()),
    });
    fc.assert(
      fc.property(
        fc.nat(3),
        fc.nat(5),
        fc.nat(5),
        fc.array(damage, { minLength: 1, maxLength: 4 }),
        (n, a, b, damages) => {
          let text = base[n]![a]!;
          for (const { at, how, what } of damages) {
            const parts = text.split(/(?<=\s)/);
            const i = Math.floor(at * parts.length);
            const j = Math.floor(at * text.length);
            if (how === 'cut') text = text.slice(0, j);
            else if (how === 'letter') text = `${text.slice(0, j)}${what}${text.slice(j + 1)}`;
            else if (how === 'join') text = `${text}\n${base[n]![b]!}`;
            else parts.splice(i, how === 'insert' ? 0 : 1, ...(how === 'drop' ? [] : [`${what} `]));
            if (!['cut', 'letter', 'join'].includes(how)) text = parts.join('');
          }
          parse([text]);
          parse([text, base[n]![b]!]);
        },
      ),
      { numRuns: 1500, seed: 24 },
    );
    expect(said.size).toBeGreaterThan(12);
    expect(wordsFromElsewhere(said)).toEqual([]);
  });
});

describe('words in a long text', () => {
  it.each(['\r\n', '\n', ' ', '\t\n'])('are read at once, however much of %j is in them', async (blank) => {
    const blanks = blank.repeat(20_000 / blank.length);
    expect(parseRecoveryText([`${blanks}${words.join(' ')}${blanks}`])).toMatchObject({ kind: 'root' });
    await failure(() => parseRecoveryText([`${blanks}x`]), 'bad_words');
  });
});
