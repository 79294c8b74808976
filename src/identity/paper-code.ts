/**
 * What the QR codes on paper say. Each code is a text that its tool reads as it stands (a words file, an age key file), under a comment
 * line that tells what it is, which part of how many, to which set the parts belong, and its own hash:
 *
 *     # holdfast/1 <type> <part>/<parts> <set> <hash>
 *     <body>
 *
 * `<set>` is the first 8 hexadecimal digits of the SHA-256 of the whole body, `<hash>` those of the SHA-256 of
 * `<type> <part>/<parts> <set>`, a line feed, and this part's body.
 */
import { sha256Hex } from '../crypto/hash.ts';
import { assert, HoldfastError } from '../errors.ts';
import { SCANNER_PREFIX } from './words-text.ts';

/**
 * `words`: the 24 words. `share`: one SLIP-39 share of the root. `age-key`: the identity that restores. `agent-key`: the agent's
 * key, encrypted to the restore recipients, as base64.
 */
const CODE_TYPES = ['words', 'share', 'age-key', 'agent-key'] as const;
export type CodeType = (typeof CODE_TYPES)[number];

export interface PaperCode {
  type: CodeType;
  /** Whole: of all parts. */
  body: string;
}

/** More would not be printed by anybody; it bounds what a forged tag can make a reader wait for. */
const PARTS_MAX = 64;
const HASH_DIGITS = 8;
const TAG = /^# holdfast\/(\d+) ([a-z-]+) (\d{1,2})\/(\d{1,2}) ([0-9a-f]{8}) ([0-9a-f]{8})$/;

/** The texts of the QR codes for a body (without white space around it), in parts of at most `partChars` characters. */
export function formatCode({ type, body }: PaperCode, partChars: number): string[] {
  const parts = Math.max(1, Math.ceil(body.length / partChars));
  assert(parts === 1 || !/\s/.test(body), 'a body in parts has no white space, which a reader might lose at a cut');
  const set = shortHash(body);
  const length = Math.ceil(body.length / parts);
  return Array.from({ length: parts }, (_, i) => {
    const head = `${type} ${i + 1}/${parts} ${set}`;
    const part = body.slice(i * length, (i + 1) * length);
    return `# holdfast/1 ${head} ${shortHash(`${head}\n${part}`)}\n${part}`;
  });
}

/**
 * The codes in what a scanner printed, each once, and the lines that belong to none. Throws `bad_words` for one that was not read whole, that
 * is of a newer version, or of which parts are missing; no message holds what a code says.
 */
export function parseCodes(text: string): { codes: PaperCode[]; rest: string[] } {
  const rest: string[] = [];
  const read: { tag: RegExpExecArray; lines: string[] }[] = [];
  let current: string[] = rest;
  for (const raw of text.replace(/^\ufeff/, '').split(/\r\n|\r|\n/)) {
    const line = raw.replace(SCANNER_PREFIX, '');
    if (line !== raw) current = rest;
    const tag = TAG.exec(line.trim());
    if (tag) {
      current = [];
      read.push({ tag, lines: current });
    } else current.push(line);
  }
  const sets = new Map<string, { type: CodeType; set: string; parts: (string | undefined)[] }>();
  for (const { tag, lines } of read) {
    const [, version, name = '', part, parts, set = '', hash] = tag;
    if (version !== '1') throw bad(`a QR code is of version ${version}, and this holdfast reads version 1`);
    const type = CODE_TYPES.find((known) => known === name);
    const number = Number(part);
    const count = Number(parts);
    const body = lines
      .map((line) => line.trim())
      .join('\n')
      .trim();
    const isWhole = shortHash(`${name} ${number}/${count} ${set}\n${body}`) === hash;
    if (type === undefined || number < 1 || number > count || count > PARTS_MAX || !isWhole) {
      throw bad(
        `${type === undefined ? 'a QR code' : `the QR code "${type}", part ${number} of ${count},`} was not read whole`,
      );
    }
    const key = `${type} ${set} ${count}`;
    const known = sets.get(key) ?? { type, set, parts: Array.from({ length: count }, () => undefined) };
    known.parts[number - 1] = body;
    sets.set(key, known);
  }
  const codes = [...sets.values()].map(({ type, set, parts }): PaperCode => {
    const missing = parts.flatMap((part, i) => (part === undefined ? [i + 1] : []));
    if (missing.length > 0)
      throw bad(`of the QR code "${type}" part ${missing.join(', ')} of ${parts.length} is missing`);
    const body = parts.join('');
    if (shortHash(body) !== set) throw bad(`the parts of the QR code "${type}" do not belong together`);
    return { type, body };
  });
  return { codes, rest };
}

function shortHash(text: string): string {
  return sha256Hex(Buffer.from(text)).slice(0, HASH_DIGITS);
}

function bad(problem: string): HoldfastError {
  return new HoldfastError('bad_words', problem, {
    hint: 'Scan it again, flat and in good light, or type the words instead.',
  });
}
