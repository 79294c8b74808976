/**
 * Asking for the recovery words row by row, or for shares. What is typed is compared with what the paper says of itself (the check of a row, the
 * checksum of a share) as soon as it is there, and what is wrong is asked again; nothing is corrected.
 */
import { createInterface } from 'node:readline';
import { combineShares, SHARE_WORDS, shareWordsBeginning, type Share } from '../crypto/slip39.ts';
import { ROWS, WORDS, WORDS_A_ROW, wordsBeginning } from '../crypto/words.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { expandShareWord, readShare } from '../identity/recovery-text.ts';
import { parseWordsText } from '../identity/root.ts';
import { expandWord, rowProblem, rowsOf, SCANNER_PREFIX, tokensOf, type Row } from '../identity/words-text.ts';
import type { SecretTerminal } from './secrets.ts';

/** What a line led to: sentences for the person, and the texts of `parseRecoveryText` once all is there. */
interface Step {
  say: string[];
  done?: string[];
  /** Asks from now on. */
  next?: Asker;
}

/** Takes lines, one after another. No sentence of it holds what was typed. */
export interface Asker {
  prompt(): string;
  /** The words that begin so. */
  beginning(letters: string): string[];
  take(line: string): Step;
}

/**
 * Asks until words or shares are complete: the texts, for `parseRecoveryText`. Each line is wiped from the screen once it is read, so that the
 * words do not stay in the terminal's history. Throws `missing_key` at an empty line, `interrupted` at Ctrl-C, Ctrl-D and a signal.
 */
export async function promptForSecret({ stdin, stderr, signal }: SecretTerminal): Promise<string[]> {
  let asker = askForWords();
  const completer = (line: string): [string[], string] => {
    const letters = /[a-z]*$/i.exec(line)?.[0] ?? '';
    const whole = commonBeginning(asker.beginning(letters.toLowerCase()));
    // Never a list of candidates: it would stay on the screen.
    return whole.length > letters.length ? [[whole], letters] : [[], letters];
  };
  const reader = createInterface({ input: stdin, output: stderr, terminal: true, historySize: 0, completer });
  const say = (...sentences: string[]): void => void stderr.write(sentences.map((text) => `${text}\n`).join(''));
  const ask = (): void => {
    reader.setPrompt(asker.prompt());
    reader.prompt();
  };
  say(
    `Type the recovery words a row at a time: four words, then the row's check. Four letters of a word are enough, Tab completes it.`,
    'Nothing is shown once a row is read. For shares, type: shares. An empty line ends.',
  );
  try {
    return await new Promise((resolve, reject) => {
      const interrupt = (): void => reject(new HoldfastError('interrupted', 'interrupted while asking for the words'));
      const take = (line: string): void => {
        const width = widthOf(reader.getPrompt() + line);
        stderr.write('\x1b[1A\x1b[2K'.repeat(Math.ceil((width + 1) / (stderr.columns || 80))));
        if (line.trim() === '') {
          throw new HoldfastError('missing_key', 'the recovery words were not given to their end', {
            hint: 'Run it again, or give them as a file: --words-file FILE.',
          });
        }
        const step = asker.take(line);
        say(...step.say);
        asker = step.next ?? asker;
        if (step.done === undefined) return ask();
        resolve(step.done);
        reader.close(); // what was pasted beyond is not even shown
      };
      reader.on('line', (line) => {
        try {
          take(line);
        } catch (error) {
          reject(error instanceof Error ? error : new Error('unknown', { cause: error }));
          reader.close();
        }
      });
      reader.on('SIGINT', interrupt); // in raw mode the terminal sends no signal, only the key
      reader.on('close', interrupt);
      signal.addEventListener('abort', interrupt, { once: true });
      if (signal.aborted) interrupt();
      else ask();
    });
  } finally {
    // A line that was not ended is still on the screen.
    if (reader.line !== '') stderr.write(`${'\x1b[1A'.repeat(reader.getCursorPos().rows)}\r\x1b[0J`);
    reader.close();
  }
}

/** Rows of four words and their checks, in order; the word `shares` at the start leads to `askForShares`. */
export function askForWords(): Asker {
  const everyRow = Array.from({ length: ROWS }, (_, i) => i + 1);
  const taken = new Map<number, Row>();
  /** Numbers of the rows that lack. */
  let wanted = everyRow;
  /** The beginning of a row, when it comes in several lines. */
  let begun = '';

  const finish = (): Step => {
    const text = everyRow.map((row) => textOf(taken.get(row))).join('\n');
    try {
      parseWordsText(text);
      return { say: [], done: [text] };
    } catch (error) {
      if (!isHoldfastError(error, 'bad_words')) throw error;
      const unchecked = everyRow.filter((row) => taken.get(row)?.check === undefined);
      wanted = unchecked.length > 0 ? unchecked : everyRow;
      for (const row of wanted) taken.delete(row);
      const where =
        unchecked.length > 0
          ? `the mistake is in what was typed without a check: ${rowsNamed(unchecked)}`
          : 'though each row fits its check: compare the checks with the paper too';
      return {
        say: [`checksum: a word is not the one on the paper, or two stand in the wrong order; ${where}. Once more:`],
      };
    }
  };

  return {
    prompt: () => {
      const words = tokensOf(begun).length;
      return `row ${wanted[0]} of ${ROWS}${words > 0 ? `, word ${words + 1} of ${WORDS_A_ROW}` : ''}> `;
    },
    beginning: wordsBeginning,
    take(line) {
      const text = line.replace(SCANNER_PREFIX, '').trim();
      if (text.startsWith('#')) return { say: [] };
      if (taken.size === 0 && begun === '' && /^shares?$/i.test(text)) {
        return { say: [`Type a share: ${SHARE_WORDS} words, in one line or several.`], next: askForShares() };
      }
      const whole = `${begun} ${text}`;
      const rows = rowsOf(tokensOf(whole));
      begun = '';
      const words = rows.reduce((sum, row) => sum + row.words.length, 0);
      if (words === WORDS) {
        wanted = everyRow; // the whole phrase, whatever was asked for
        taken.clear();
      }
      const [first] = wanted;
      const last = rows.at(-1);
      if (first === undefined || last === undefined) return { say: [] };
      if (last.check === undefined && last.words.length < WORDS_A_ROW) {
        if (rows.length > 1)
          return { say: [`these are ${words} words: type a row of ${WORDS_A_ROW}, or all ${WORDS}`] };
        const problem = rowProblem(first, last);
        if (problem === undefined) begun = whole;
        return { say: problem === undefined ? [] : [`${problem}. Row ${first} again:`] };
      }
      if (rows.length > wanted.length)
        return { say: [`these are ${words} words, and ${rowsNamed(wanted)} are asked for`] };
      const say: string[] = [];
      for (const [i, row] of rows.entries()) {
        const number = wanted[i] ?? 0;
        const problem = rowProblem(number, row);
        if (problem === undefined) taken.set(number, row);
        say.push(
          problem === undefined
            ? `row ${number}: ${row.check === undefined ? 'taken, without its check' : 'right'}`
            : `${problem}. Row ${number} again:`,
        );
      }
      wanted = wanted.filter((row) => !taken.has(row));
      if (wanted.length > 0) return { say };
      const end = finish();
      return { ...end, say: [...say, ...end.say] };
    },
  };
}

/** Shares, until they are a quorum. */
export function askForShares(): Asker {
  let shares: { share: Share; words: string[] }[] = [];
  /** Of the share that is being typed. */
  let begun: string[] = [];

  const groupOf = (group: number) => shares.filter(({ share }) => share.group === group);
  const fullGroups = () =>
    [...new Set(shares.map(({ share }) => share.group))].filter(
      (group) => groupOf(group).length >= (groupOf(group)[0]?.share.threshold ?? Infinity),
    );

  /** Why a share does not go with those that are there. */
  const objection = (share: Share): string | undefined => {
    const [first] = shares;
    if (
      first &&
      (share.identifier !== first.share.identifier ||
        share.groupThreshold !== first.share.groupThreshold ||
        share.groups !== first.share.groups)
    ) {
      return `this share is of another set (${share.identifier}) than those before it (${first.share.identifier})`;
    }
    if (groupOf(share.group).some((other) => other.share.index === share.index))
      return 'a share with this number is there already';
    const [sister] = groupOf(share.group);
    if (sister && sister.share.threshold !== share.threshold) return 'this share does not fit those of its group';
    return fullGroups().includes(share.group) ? 'this group is complete already' : undefined;
  };

  const lacking = ({ share }: { share: Share }): string => {
    const inGroup = Math.max(0, share.threshold - groupOf(share.group).length);
    if (share.groups === 1) return `${inGroup} more needed`;
    const groups = share.groupThreshold - fullGroups().length - (inGroup > 0 ? 1 : 0);
    const ofGroup = inGroup > 0 ? `${inGroup} more of this group needed` : 'this group is complete';
    return groups > 0 ? `${ofGroup}, and ${groups} more ${groups === 1 ? 'group' : 'groups'}` : ofGroup;
  };

  const finish = (): Step => {
    try {
      combineShares(shares.map(({ share }) => share));
      return { say: [], done: shares.map(({ words }) => words.join(' ')) };
    } catch (error) {
      if (!isHoldfastError(error, 'bad_words')) throw error;
      shares = [];
      return { say: [`${error.message}. All shares once more:`] };
    }
  };

  return {
    prompt: () =>
      `share ${shares.length + 1}${begun.length > 0 ? `, word ${begun.length + 1} of ${SHARE_WORDS}` : ''}> `,
    beginning: shareWordsBeginning,
    take(line) {
      const text = line.replace(SCANNER_PREFIX, '').trim();
      if (text.startsWith('#')) return { say: [] };
      const typed = tokensOf(text).flatMap((token) => ('word' in token ? [token.word] : []));
      const unknown = typed.flatMap((word, i) => (expandShareWord(word) === undefined ? [begun.length + i + 1] : []));
      if (unknown.length > 0) {
        return { say: [`not in the SLIP-39 word list: word ${unknown.join(', ')} of this share. This line again:`] };
      }
      const words = [...begun, ...typed.flatMap((word) => expandShareWord(word) ?? [])];
      begun = words.length < SHARE_WORDS ? words : [];
      if (words.length < SHARE_WORDS) return { say: [] };
      let share: Share;
      try {
        share = readShare(words);
      } catch (error) {
        if (!isHoldfastError(error, 'bad_words')) throw error;
        return { say: [`${error.message}. This share again, from its first word:`] };
      }
      const problem = objection(share);
      const what = `group ${share.group + 1} of ${share.groups}, share ${share.index + 1}`;
      if (problem !== undefined) return { say: [`${what}: ${problem}. Another share:`] };
      const entry = { share, words };
      shares.push(entry);
      if (fullGroups().length < share.groupThreshold) return { say: [`${what}: right; ${lacking(entry)}`] };
      const end = finish();
      return { ...end, say: [`${what}: right`, ...end.say] };
    },
  };
}

function textOf(row: Row | undefined): string {
  const words = (row?.words ?? []).map(({ word }) => expandWord(word) ?? word);
  return [...words, ...(row?.check === undefined ? [] : [row.check])].join(' ');
}

function rowsNamed(rows: readonly number[]): string {
  return `${rows.length === 1 ? 'row' : 'rows'} ${rows.join(', ')}`;
}

/** The letters that all words begin with; the whole word, and a space, when there is one. */
function commonBeginning(words: readonly string[]): string {
  const [first, ...others] = words;
  if (first === undefined) return '';
  if (others.length === 0) return `${first} `;
  let length = first.length;
  for (const other of others) while (!other.startsWith(first.slice(0, length))) length -= 1;
  return first.slice(0, length);
}

/** Columns of a line on a terminal; in what is pasted, tabs stay tabs. */
function widthOf(text: string): number {
  let width = 0;
  for (const character of text) width += character === '\t' ? 8 - (width % 8) : 1;
  return width;
}
