/** Do JSON and JSON lines parse? */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { isHoldfastError } from '../../errors.ts';
import { LineSplitter } from '../../lines.ts';

const LINE_MAX_BYTES = 64 * 1024 * 1024;
const PIECE_BYTES = 1024 * 1024;

/** Why the text is no JSON; undefined when it is. Comments and a comma too many, which configs have, do not count. */
export function jsonFault(text: string): string | undefined {
  if (text.trim() === '') return 'is empty, and should be JSON';
  const bare = text.replace(/^\ufeff/, '');
  if (parses(bare) || parses(withoutExtras(bare))) return undefined;
  return 'does not parse as JSON';
}

/** The first line of the file that is no JSON. Each line ends with a line feed. */
export function jsonLinesFault(file: string | Buffer): string | undefined {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK); // opening a pipe would wait for its writer
  try {
    if (!fstatSync(fd).isFile()) return undefined; // that it is none is told by another check
    const splitter = new LineSplitter(LINE_MAX_BYTES);
    const buffer = Buffer.allocUnsafe(PIECE_BYTES);
    let number = 0;
    for (;;) {
      const length = readSync(fd, buffer);
      if (length === 0) break;
      for (const line of splitter.push(buffer.subarray(0, length))) {
        number++;
        if (line.trim() !== '' && !parses(line)) return `does not parse as JSON in line ${number}`;
      }
    }
    splitter.end();
    return undefined;
  } catch (error) {
    if (!isHoldfastError(error, 'damaged')) throw error;
    return `is no JSON lines: ${error.message}`;
  } finally {
    closeSync(fd);
  }
}

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function withoutExtras(text: string): string {
  const outsideStrings = (in_: string, what: string, by: string) =>
    in_.replace(new RegExp(`"(?:[^"\\\\\\n]|\\\\.)*"|${what}`, 'g'), (found) => (found.startsWith('"') ? found : by));
  const bare = outsideStrings(text, String.raw`//[^\n]*|/\*[\s\S]*?\*/`, ' ');
  return outsideStrings(bare, String.raw`,(?=\s*[}\]])`, '');
}
