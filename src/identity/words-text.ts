/**
 * Recovery words as people and scanners write them: with numbers, with the check of each row, with the first letters of a word in place of
 * the whole. Nothing is guessed: a word is the one that its letters name, or it is refused by its position.
 */
import { rootFromWordList, rowCheck, ROWS, WORDS, WORDS_A_ROW, wordsBeginning } from '../crypto/words.ts';
import { HoldfastError } from '../errors.ts';

/** Of the comment line that a words file has: the checks of all rows. */
const ROW_CHECKS = /^\s*#\s*row checks:(.*)$/i;
/** What zbarimg and the like print before the content of a QR code. */
export const SCANNER_PREFIX = /^\s*QR-Code:/i;
/** The check of a row, as it is printed; the sign may be left out. */
const CHECK = /^=?(\d{4})$/;
/** A word's number, standing alone or before its word: `7.`, `7:`, `7)` or `7`. */
const NUMBERED = /^(\d{1,3})[.:)]?(.*)$/s;
/** So many letters tell every word of the list from the others, also of that of SLIP-39. */
export const LETTERS_ENOUGH = 4;

const BY_BEGINNING: ReadonlyMap<string, string> = new Map(
  wordsBeginning('').map((word) => [word.slice(0, LETTERS_ENOUGH), word]),
);

/** A word with the number that stood before it, or the check of a row (four digits). */
export type Token = { word: string; number?: number | undefined } | { check: string };

/** Up to four words, and the check that stood behind them. */
export interface Row {
  words: { word: string; number?: number | undefined }[];
  check?: string | undefined;
}

/** What stands in a text without comments. */
export function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  let number: number | undefined;
  for (const part of text.split(/\s+/)) {
    const check = CHECK.exec(part)?.[1];
    if (check !== undefined) {
      tokens.push({ check });
      continue;
    }
    const [, digits, rest] = NUMBERED.exec(part) ?? [undefined, undefined, part];
    if (digits !== undefined) number = Number(digits);
    if (rest === undefined || rest === '') continue;
    tokens.push({ word: rest, number });
    number = undefined;
  }
  return tokens;
}

/**
 * The word of the list: itself, or the only one that begins with these four or more letters, in any letter case and Unicode form.
 * undefined when there is none.
 */
export function expandWord(text: string): string | undefined {
  const letters = text.normalize('NFKD').toLowerCase();
  const word = BY_BEGINNING.get(letters.slice(0, LETTERS_ENOUGH));
  if (word === undefined) return undefined;
  return word === letters || (letters.length >= LETTERS_ENOUGH && word.startsWith(letters)) ? word : undefined;
}

/**
 * Tokens as rows of four words. The last has fewer when the words end there; one that a check ends before it has four, or a check without
 * words, is given as it stands.
 */
export function rowsOf(tokens: readonly Token[]): Row[] {
  const rows: Row[] = [];
  let row: Row | undefined;
  for (const token of tokens) {
    if ('check' in token) {
      row ??= { words: [] };
      row.check = token.check;
      if (!rows.includes(row)) rows.push(row);
      row = undefined;
    } else {
      if (row === undefined || row.words.length === WORDS_A_ROW) rows.push((row = { words: [] }));
      row.words.push(token);
    }
  }
  return rows;
}

/** What is wrong with a row (its number from 1), or with the beginning of one, in a clause without a word of it. */
export function rowProblem(number: number, { words, check }: Row): string | undefined {
  if (check !== undefined && words.length < WORDS_A_ROW) return shortRow(number, words.length);
  const first = (number - 1) * WORDS_A_ROW + 1;
  const misplaced = words.findIndex((token, i) => token.number !== undefined && token.number !== first + i);
  if (misplaced >= 0) return misplacedWord(words[misplaced]?.number ?? 0, first + misplaced);
  const known = words.flatMap(({ word }) => expandWord(word) ?? []);
  if (known.length < words.length) {
    return unknownWords(words.flatMap(({ word }, i) => (expandWord(word) === undefined ? [first + i] : [])));
  }
  return check === undefined || check === rowCheck(number, known) ? undefined : wrongRows([number]);
}

/**
 * The 32 bytes of a words text: words with white space between; numbers before words, which must be their positions; after each four words
 * the check of the row (four digits, or `=` and four digits); lines starting with `#` are ignored, but for `# row checks:`, which gives all
 * six. Throws `bad_words`, naming positions and rows; a message never holds a word.
 */
export function rootBytesOf(text: string): Uint8Array {
  const plain: string[] = [];
  let listed: readonly string[] = [];
  for (const line of text.replace(/^\ufeff/, '').split(/\r\n|\r|\n/)) {
    const checks = ROW_CHECKS.exec(line)?.[1];
    if (checks !== undefined) listed = checksIn(checks);
    else if (!/^\s*(QR-Code:\s*)?#/i.test(line)) plain.push(line.replace(SCANNER_PREFIX, ''));
  }
  const tokens = tokensOf(plain.join('\n'));
  const words = tokens.flatMap((token) => ('check' in token ? [] : [token]));
  const misplaced = words.findIndex(({ number }, i) => number !== undefined && number !== i + 1);
  const checks = checksAmong(tokens);
  if (misplaced >= 0) {
    throw bad(
      misplacedWord(words[misplaced]?.number ?? 0, misplaced + 1),
      `Give the words in the order of their numbers, 1 to ${WORDS}, leaving none out.`,
    );
  }
  const expanded = words.map(({ word }) => expandWord(word));
  if (words.length === WORDS && expanded.every((word) => word !== undefined)) {
    const wrong = Array.from({ length: ROWS }, (_, i) => i + 1).filter((row) => {
      const right = rowCheck(row, expanded.slice((row - 1) * WORDS_A_ROW, row * WORDS_A_ROW));
      return [checks.get(row), listed[row - 1]].some((given) => given !== undefined && given !== right);
    });
    if (wrong.length > 0)
      throw bad(wrongRows(wrong), 'Compare these rows with the paper, word by word, and their checks too.');
  }
  return rootFromWordList(expanded.map((word, i) => word ?? words[i]?.word ?? ''));
}

/** The check of each row (from 1) that has one behind its four words. Throws `bad_words` for one that stands elsewhere. */
function checksAmong(tokens: readonly Token[]): Map<number, string> {
  const checks = new Map<number, string>();
  let words = 0;
  let checkedWords = 0;
  for (const token of tokens) {
    if (!('check' in token)) words += 1;
    else {
      const since = words - checkedWords;
      if (since === 0 || since % WORDS_A_ROW !== 0) {
        // Where rows before this one have no check, the missing word may be in any of them.
        const first = checkedWords / WORDS_A_ROW + 1;
        const last = first + Math.floor(Math.max(0, since - 1) / WORDS_A_ROW);
        const problem =
          since < 2 * WORDS_A_ROW
            ? shortRow(first, since)
            : `a word is missing or too many in the rows ${first} to ${last}`;
        throw bad(
          problem,
          'Compare it with the paper: each row is four words and then its check, a number of four digits.',
        );
      }
      checks.set(words / WORDS_A_ROW, token.check);
      checkedWords = words;
    }
  }
  return checks;
}

function checksIn(text: string): string[] {
  const checks = text.trim().split(/\s+/);
  if (checks.length === ROWS && checks.every((check) => CHECK.test(check)))
    return checks.map((check) => check.slice(-4));
  throw bad(`the line "row checks" is not ${ROWS} numbers of four digits`, 'Put it right, or take the line out.');
}

function shortRow(row: number, words: number): string {
  return `row ${row} has ${words} word${words === 1 ? '' : 's'} before its check instead of four`;
}

function wrongRows(rows: readonly number[]): string {
  const which = rows.length === 1 ? `row ${rows[0]}` : `rows ${rows.join(', ')}`;
  return `checksum, ${which}: a word there is not the one on the paper, or two stand in the wrong order, or the check is not as printed`;
}

function unknownWords(positions: readonly number[]): string {
  return positions.length === 1
    ? `word ${positions[0]} is not in the BIP39 English word list`
    : `words ${positions.join(', ')} are not in the BIP39 English word list`;
}

function misplacedWord(number: number, position: number): string {
  return `the word numbered ${number} stands at position ${position}`;
}

function bad(problem: string, hint: string): HoldfastError {
  return new HoldfastError('bad_words', problem, { hint });
}
