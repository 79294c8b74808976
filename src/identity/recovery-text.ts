/**
 * What a person or a scanner gives to restore from: words, SLIP-39 shares, age keys, and the QR codes of the paper with any of them. No message
 * holds anything of it.
 */
import { parseAgeIdentityFile } from '../crypto/age.ts';
import { equalBytes } from '../crypto/hash.ts';
import { combineShares, parseShare, SHARE_WORDS, shareWordsBeginning, type Share } from '../crypto/slip39.ts';
import { WORDS } from '../crypto/words.ts';
import { assert, HoldfastError, isHoldfastError } from '../errors.ts';
import { parseCodes, type PaperCode } from './paper-code.ts';
import { parseWordsText, restoreIdentity, rootFromShares, type Root } from './root.ts';
import { LETTERS_ENOUGH, tokensOf } from './words-text.ts';

/** What the secret was read from. */
export type RecoverySource = 'words' | 'shares' | 'age-key';

export type RecoverySecret = (
  | { kind: 'root'; root: Root }
  /** `AGE-SECRET-KEY-…`, at least one. */
  | { kind: 'identities'; identities: readonly string[] }
) & {
  source: RecoverySource;
  /** An age file with the agent's key, of the QR code of that name. */
  wrappedAgentKey?: Uint8Array;
};

/** What zbarimg prints of other codes (a product's bar code on the desk), and its summary: lines that end a code and are none. */
const SCANNER_NOISE =
  /^[ \t]*((EAN-\d+|UPC-[AE]|ISBN-1[03]|CODE-\d+|Codabar|DataBar(-Exp)?|I2\/5|PDF417|SQ-Code|COMPOSITE):|scanned \d+ barcode symbols? from).*$/gim;
/** White space within a line, and never twice in a row: else a text of line feeds takes for ever. */
const SECRET_CODE =
  /^[^\S\r\n\u2028\u2029]*(?:QR-Code:[^\S\r\n\u2028\u2029]*)?# holdfast\/\d+ (words|share|age-key) /im;
const AGE_KEY = /^\s*AGE-SECRET-KEY-/i;
const AGE_FILE = /^\s*(age-encryption\.org\/|-----BEGIN AGE ENCRYPTED FILE)/;
/** Midway between the words of a phrase and those of a share: more are a share, be it with a word too few or too many. */
const PHRASE_AT_MOST = Math.floor((WORDS + SHARE_WORDS) / 2);

/** What texts hold, by kind. */
interface Found {
  words: string[];
  shares: string[][];
  identities: string[];
  agentKeys: string[];
}

/**
 * The secret in one text or several: each a words file (see `parseWordsText`), an age key file, shares (a line each, or 33 words in any
 * lines), or what a scanner printed of the paper; the parts of a code may lie in different texts. Words count before shares, shares before
 * age keys; what is given besides must belong to the same root. Throws `bad_words`, `wrong_key` for an age key that cannot be one,
 * `missing_key` when there is neither words nor shares nor age key, `usage` for a file that a passphrase opens.
 */
export function parseRecoveryText(texts: readonly string[]): RecoverySecret {
  const { words, shares, identities, agentKeys } = findIn(texts);
  const roots = words.map(parseWordsText);
  const [wrapped, ...others] = new Set(agentKeys);
  if (others.length > 0) throw contradiction('QR codes "agent-key" of two different keys were given');
  const more = wrapped === undefined ? {} : { wrappedAgentKey: Buffer.from(wrapped, 'base64') };

  const [first] = roots;
  if (first === undefined && shares.length === 0) {
    if (identities.length > 0) return { kind: 'identities', identities, source: 'age-key', ...more };
    throw new HoldfastError('missing_key', 'the QR code of the agent key is there, but nothing that opens it', {
      hint: 'Give the recovery words, the shares or the age key too.',
    });
  }
  if (shares.length > 0) roots.push(...rootsOf(shares, first !== undefined));
  const [root, ...rest] = roots;
  assert(root !== undefined, 'shares give a root or an error');
  if (rest.some((other) => !equalBytes(other, root)))
    throw contradiction('words or shares of two different agents were given');
  const derived = identities.length === 0 ? [] : [restoreIdentity(root, 'x25519'), restoreIdentity(root, 'hybrid')];
  const what = first === undefined ? 'shares' : 'words';
  if (identities.some((identity) => !derived.includes(identity))) {
    throw contradiction(`the ${what} and the age key that were given are not of the same agent`);
  }
  return { kind: 'root', root, source: what, ...more };
}

/** `parseShare` of words of which four letters are enough each. */
export function readShare(words: readonly string[], place?: number): Share {
  return parseShare(
    words.map((word) => expandShareWord(word) ?? word),
    place,
  );
}

/** As `expandWord`, of the list of SLIP-39. */
export function expandShareWord(text: string): string | undefined {
  const letters = text.normalize('NFKD').toLowerCase();
  const [word, second] = letters.length < LETTERS_ENOUGH ? [] : shareWordsBeginning(letters);
  return second === undefined || word === letters ? word : undefined;
}

/** The root of the shares. Those that lie beside words may be too few to give one: then there is nothing to compare. */
function rootsOf(shares: readonly string[][], besideWords: boolean): Root[] {
  const read = shares.map((words, i) => readShare(words, i + 1));
  try {
    return [rootFromShares(combineShares(read))];
  } catch (error) {
    if (besideWords && isHoldfastError(error, 'bad_words')) return [];
    throw error;
  }
}

function findIn(texts: readonly string[]): Found {
  const found: Found = { words: [], shares: [], identities: [], agentKeys: [] };
  // As if one scanner had printed them all. The mark, which ends a code like any other line of a scanner, tells the texts apart again.
  const plain = texts.map((text) =>
    text
      .replace(/^\ufeff/, '')
      .replaceAll('\f', '\n')
      .replaceAll(SCANNER_NOISE, 'QR-Code:'),
  );
  const { codes, rest } = parseCodes(plain.map((text) => `QR-Code:\f\n${text}`).join('\n'));
  for (const code of codes) sort(code, found);
  const rests = rest.join('\n').split('\f\n').slice(1);
  for (const [i, text] of plain.entries()) {
    // Beside the codes of the paper, the rest of what a scanner saw is none of ours.
    if (!SECRET_CODE.test(text)) readPlain(rests[i] ?? '', codes.length > 0, found);
  }
  return found;
}

function sort({ type, body }: PaperCode, found: Found): void {
  switch (type) {
    case 'words':
      found.words.push(body);
      break;
    case 'share':
      found.shares.push(wordsIn(body));
      break;
    case 'age-key':
      addIdentities(body, found);
      break;
    case 'agent-key':
      if (!/^[A-Za-z0-9+/]+={0,2}$/.test(body)) throw contradiction('the QR code "agent-key" is not base64');
      found.agentKeys.push(body);
      break;
  }
}

/** A text without codes: age keys by the line, and else shares or words. */
function readPlain(text: string, mayBeEmpty: boolean, found: Found): void {
  if (AGE_FILE.test(text)) {
    throw new HoldfastError('usage', 'this is an encrypted age file, not recovery words', {
      hint: 'If a passphrase opens it, give it as --vault FILE.',
    });
  }
  const lines = text.split(/\r\n|\r|\n/);
  const keys = lines.filter((line) => AGE_KEY.test(line));
  if (keys.length > 0) addIdentities(keys.join('\n'), found);
  const others = lines.filter((line) => !AGE_KEY.test(line));
  const lists = others
    .filter((line) => !line.trimStart().startsWith('#'))
    .map(wordsIn)
    .filter(({ length }) => length > 0);
  const all = lists.flat();
  if (all.length === 0 && (mayBeEmpty || keys.length > 0)) return;
  if (all.length <= PHRASE_AT_MOST) found.words.push(others.join('\n'));
  else if (lists.every(({ length }) => length > PHRASE_AT_MOST)) found.shares.push(...lists);
  else if (all.length % SHARE_WORDS === 0) {
    for (let i = 0; i < all.length; i += SHARE_WORDS) found.shares.push(all.slice(i, i + SHARE_WORDS));
  } else {
    throw new HoldfastError(
      'bad_words',
      `expected ${WORDS} recovery words, or shares of ${SHARE_WORDS} words each; found ${all.length} words`,
      {
        hint: 'Give all words in the order in which they are numbered on the paper, and each share on a line of its own.',
      },
    );
  }
}

/** The words of a text without comments; numbers before them are their places on the paper. */
function wordsIn(text: string): string[] {
  return tokensOf(text).flatMap((token) => ('word' in token ? [token.word] : []));
}

function addIdentities(text: string, found: Found): void {
  for (const identity of parseAgeIdentityFile(text)) {
    if (!found.identities.includes(identity)) found.identities.push(identity);
  }
}

function contradiction(problem: string): HoldfastError {
  return new HoldfastError('bad_words', problem, { hint: 'Give what is on the paper of one agent, and nothing else.' });
}
