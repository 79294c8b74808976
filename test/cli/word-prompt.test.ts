import fc from 'fast-check';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { askForShares, askForWords, promptForSecret, type Asker } from '../../src/cli/word-prompt.ts';
import { splitSecret } from '../../src/crypto/slip39.ts';
import { rowCheck, wordsOf } from '../../src/crypto/words.ts';
import { parseRecoveryText } from '../../src/identity/recovery-text.ts';
import { newRoot } from '../../src/identity/root.ts';
import { seededRandom } from '../crypto/support.ts';
import { wordsFromElsewhere } from '../identity/vocabulary.ts';
import { screenAfter } from './terminal.ts';

const random = seededRandom('prompt');
const root = newRoot(random);
const words = wordsOf(root);
const plainRows = Array.from({ length: 6 }, (_, i) => words.slice(i * 4, i * 4 + 4));
const checks = plainRows.map((row, i) => rowCheck(i + 1, row));
/** As they are printed. */
const rows = plainRows.map((row, i) => `${row.join(' ')} ${checks[i]}`);
const short = plainRows.map((row, i) => `${row.map((word) => word.slice(0, 4)).join(' ')} ${checks[i]}`);

/** Types lines; the sentences that were said, and what was prompted for before each line. */
function dialogue(asker: Asker, lines: readonly string[]) {
  const said: string[] = [];
  const prompts: string[] = [];
  let done: string[] | undefined;
  let current = asker;
  for (const line of lines) {
    expect(done, 'asked on').toBeUndefined();
    prompts.push(current.prompt());
    const step = current.take(line);
    said.push(...step.say);
    current = step.next ?? current;
    done = step.done;
  }
  for (const sentence of said) {
    for (const typed of lines.flatMap((line) => line.split(/[^a-z]+/i))) {
      if (typed.length > 5) expect(sentence).not.toContain(typed);
    }
  }
  return { said, prompts, done, prompt: done ? undefined : current.prompt() };
}
const rootOf = (texts: string[] | undefined) => {
  const secret = parseRecoveryText(texts ?? []);
  return secret.kind === 'root' ? secret.root : undefined;
};

describe('words', () => {
  it.each([
    ['as printed', rows],
    ['by four letters', short],
    [
      'in capitals, with an equals sign before the check',
      rows.map((row) => row.toUpperCase().replace(/\d{4}$/, '=$&')),
    ],
    ['with numbers', plainRows.map((row, i) => row.map((word, j) => `${i * 4 + j + 1}. ${word}`).join(' '))],
    ['without checks', plainRows.map((row) => row.join(' '))],
    ['two rows a line', [0, 2, 4].map((i) => `${rows[i]} ${rows[i + 1]}`)],
    ['the whole phrase in one line', [words.join(' ')]],
    ['the whole phrase with checks in one line', [rows.join(' ')]],
    ['a word a line', words],
    ['a pasted words file', ['# holdfast recovery words', ...plainRows.map((row) => row.join(' '))]],
    ['as a scanner printed them', [`QR-Code:${words.join(' ')}`]],
  ])('are taken %s', (_, lines) => {
    const { done } = dialogue(askForWords(), lines);
    expect(rootOf(done)).toEqual(root);
  });

  it('are asked for by the row', () => {
    expect(dialogue(askForWords(), rows).prompts).toEqual([1, 2, 3, 4, 5, 6].map((row) => `row ${row} of 6> `));
    expect(dialogue(askForWords(), [`${words[0]} ${words[1]}`]).prompt).toBe('row 1 of 6, word 3 of 4> ');
  });

  it('a wrong row is said at once, and it alone is asked for again', () => {
    const wrong = plainRows[1]!.with(2, words[20]!).join(' ');
    const { said, prompts, done } = dialogue(askForWords(), [rows[0]!, `${wrong} ${checks[1]}`, ...rows.slice(1)]);
    expect(said[1]).toMatch(/^checksum, row 2:.*Row 2 again:$/);
    expect(prompts.slice(1, 4)).toEqual(['row 2 of 6> ', 'row 2 of 6> ', 'row 3 of 6> ']);
    expect(rootOf(done)).toEqual(root);
  });

  it('an unknown word is pointed at', () => {
    const { said, prompts } = dialogue(askForWords(), [rows[0]!, `${words[4]} ${words[5]} xylofone`, rows[1]!]);
    expect(said[1]).toBe('word 7 is not in the BIP39 English word list. Row 2 again:');
    expect(prompts[2]).toBe('row 2 of 6> ');
    expect(dialogue(askForWords(), [`${words[0]} ${words[1]} ${checks[0]}`]).said).toEqual([
      'row 1 has 2 words before its check instead of four. Row 1 again:',
    ]);
    expect(dialogue(askForWords(), [`1. ${words[0]} 3. ${words[2]}`]).said[0]).toContain(
      'numbered 3 stands at position 2',
    );
  });

  it('of a pasted phrase, right rows are taken and wrong ones asked for again', () => {
    const pasted = rows.with(1, rows[1]!.replace(/^\S+/, words[0]!)).with(4, rows[4]!.replace(/^\S+/, 'xylofone'));
    const { said, prompts, done } = dialogue(askForWords(), [pasted.join(' '), rows[1]!, rows[4]!]);
    expect(said.filter((sentence) => sentence.includes('again'))).toHaveLength(2);
    expect(prompts).toEqual(['row 1 of 6> ', 'row 2 of 6> ', 'row 5 of 6> ']);
    expect(rootOf(done)).toEqual(root);
  });

  it('a line that is neither rows nor the whole is not taken in part', () => {
    const { said, prompt } = dialogue(askForWords(), [words.slice(0, 23).join(' ')]);
    expect(said).toEqual(['these are 23 words: type a row of 4, or all 24']);
    expect(prompt).toBe('row 1 of 6> ');
    expect(dialogue(askForWords(), [...rows.slice(0, 5), `${rows[4]} ${rows[5]}`]).said.at(-1)).toContain(
      'row 6 are asked for',
    );
  });

  it('when the checksum is wrong, rows without a check are asked for again, and no others', () => {
    const typed = rows.with(2, plainRows[2]!.toReversed().join(' ')).with(4, plainRows[4]!.join(' '));
    const { said, prompts, done } = dialogue(askForWords(), [...typed, rows[2]!, plainRows[4]!.join(' ')]);
    expect(said).toContain('row 3: taken, without its check');
    expect(said.find((sentence) => sentence.startsWith('checksum'))).toContain(
      'without a check: rows 3, 5. Once more:',
    );
    expect(prompts.slice(6)).toEqual(['row 3 of 6> ', 'row 5 of 6> ']);
    expect(rootOf(done)).toEqual(root);
  });

  it('a phrase of which every row fits its check, but not the whole, is asked for again', () => {
    const wrong = plainRows[5]!.with(0, words[0]!);
    const paper = rows.with(5, `${wrong.join(' ')} ${rowCheck(6, wrong)}`);
    const { said, prompt } = dialogue(askForWords(), paper);
    expect(said.at(-1)).toMatch(/^checksum: .*compare the checks/);
    expect(prompt).toBe('row 1 of 6> ');
  });
});

describe('shares', () => {
  const [shares = []] = splitSecret(root, [{ threshold: 2, count: 3 }], 1, random);
  const [one = '', two = '', three = ''] = shares;
  const linesOf = (share: string) => share.match(/(\S+ ?){1,4}/g) ?? [];

  it('are asked for once one says so, and are told what they are', () => {
    const { said, prompts, done } = dialogue(askForWords(), ['shares', three, ...linesOf(one)]);
    expect(said.slice(1)).toEqual(['group 1 of 1, share 3: right; 1 more needed', 'group 1 of 1, share 1: right']);
    expect(prompts.slice(0, 5)).toEqual([
      'row 1 of 6> ',
      'share 1> ',
      'share 2> ',
      'share 2, word 5 of 33> ',
      'share 2, word 9 of 33> ',
    ]);
    expect(rootOf(done)).toEqual(root);
  });

  it('wrong, foreign and repeated ones are named and asked for again', () => {
    const [[foreign = ''] = []] = splitSecret(root, [{ threshold: 2, count: 2 }], 1, random);
    const mistyped = two.split(' ').with(20, 'academic').join(' ');
    const { said, prompts, done } = dialogue(askForShares(), [
      one,
      'xylofone',
      mistyped,
      foreign,
      one,
      ...linesOf(two),
    ]);
    expect(said.slice(1, 5)).toEqual([
      'not in the SLIP-39 word list: word 1 of this share. This line again:',
      expect.stringMatching(/checksum.*This share again, from its first word:$/),
      expect.stringMatching(/of another set \(\d+\) than those before it \(\d+\)\. Another share:$/),
      expect.stringContaining('is there already. Another share:'),
    ]);
    expect(prompts.slice(1, 6)).toEqual(Array.from({ length: 5 }, () => 'share 2> '));
    expect(rootOf(done)).toEqual(root);
  });

  it('of several groups tell what lacks', () => {
    const groups = splitSecret(
      root,
      [
        { threshold: 2, count: 2 },
        { threshold: 1, count: 1 },
        { threshold: 2, count: 3 },
      ],
      2,
      random,
    );
    const { said, done } = dialogue(askForShares(), [groups[2]![1]!, groups[0]![0]!, groups[1]![0]!, groups[0]![1]!]);
    expect(said).toEqual([
      'group 3 of 3, share 2: right; 1 more of this group needed, and 1 more group',
      'group 1 of 3, share 1: right; 1 more of this group needed, and 1 more group',
      'group 2 of 3, share 1: right; this group is complete, and 1 more group',
      'group 1 of 3, share 2: right',
    ]);
    expect(rootOf(done)).toEqual(root);
  });
});

describe('no sentence repeats what was typed', () => {
  it('whatever it is', () => {
    const said: string[] = [];
    let finished = 0;
    const shares = splitSecret(root, [{ threshold: 2, count: 3 }], 1, random).flat();
    const line = fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...rows, ...short, ...plainRows.map((row) => row.join(' ')), ...shares) },
      fc.constantFrom('shares', '# note', 'QR-Code:', '1234', words.join(' '), rows.join(' ')),
      fc
        .array(fc.constantFrom(...words, ...shares[0]!.split(' '), ...checks, 'hunter2', 'passwort', '3.', '7:'), {
          maxLength: 30,
        })
        .map((parts) => parts.join(' ')),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 30 }), (lines) => {
        let asker = askForWords();
        for (const text of lines) {
          const step = asker.take(text);
          said.push(asker.prompt(), ...step.say);
          if (step.done) {
            finished += 1;
            break;
          }
          asker = step.next ?? asker;
        }
      }),
      { numRuns: 500, seed: 24 },
    );
    expect(finished).toBeGreaterThan(3);
    expect(wordsFromElsewhere(said)).toEqual([]);
  });
});

/** A terminal of streams that is typed on by the test. */
function terminal(columns = 80) {
  const stdin = Object.assign(new PassThrough(), { isTTY: true });
  const stderr = Object.assign(new PassThrough(), { isTTY: true, columns });
  const abort = new AbortController();
  let output = '';
  stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
  return { io: { stdin, stderr, signal: abort.signal }, stdin, output: () => output, abort };
}
const settled = () => new Promise((resolve) => setImmediate(resolve));
const withoutWords = (lines: readonly string[]) => {
  const text = lines.join('\n');
  for (const word of words) if (word.length > 5) expect(text).not.toContain(word);
  return text;
};

describe('the prompt', () => {
  it('shows what is typed, and wipes it once it is read, also lines that wrap', async () => {
    for (const columns of [80, 30, 0]) {
      const { io, stdin, output } = terminal(columns);
      const texts = promptForSecret(io);
      stdin.write(rows[0]!);
      await settled();
      const shown = screenAfter(output(), columns || 80).join('');
      for (const word of plainRows[0]!) expect(shown).toContain(word);
      stdin.write(`\n${rows[1]!.replaceAll(' ', '\t')}\n${rows.slice(2).join('\n')}\n`);
      expect(rootOf(await texts)).toEqual(root);
      await settled();
      expect(withoutWords(screenAfter(output(), columns || 80))).toContain('row 6: right');
    }
  });

  it('Tab completes a word, and lists no candidates', async () => {
    const { io, stdin, output } = terminal();
    // Key by key: what comes at once is a paste, in which a tab is white space.
    const type = (text: string) => {
      for (const key of text) stdin.write(key);
    };
    const texts = promptForSecret(io);
    type('ab\t\t\t \tabou\t');
    await settled();
    expect(screenAfter(output()).at(-1)).toBe('row 1 of 6> ab about ');
    type('\x15');
    for (const row of plainRows) {
      for (const word of row) type(`${word.slice(0, 4)}${word.length > 3 ? '\t' : ' '}`);
      type('\n');
    }
    expect(rootOf(await texts)).toEqual(root);
    await settled();
    withoutWords(screenAfter(output()));
  });

  it('an empty line ends it, Ctrl-C, Ctrl-D and a signal interrupt it; nothing typed stays', async () => {
    for (const [typed, code] of [
      ['\n', 'missing_key'],
      ['\x04', 'interrupted'],
      [`${words[0]} ${words[1]}\x03`, 'interrupted'],
      [words.slice(4, 20).join(' '), 'interrupted'],
    ] as const) {
      const { io, stdin, output, abort } = terminal();
      const refused = expect(promptForSecret(io)).rejects.toMatchObject({ code });
      stdin.write(`${rows[0]}\n${typed}`);
      await settled();
      if (!/[\n\x03\x04]/.test(typed)) abort.abort();
      await refused;
      await settled();
      withoutWords(screenAfter(output()));
    }
  });
});
