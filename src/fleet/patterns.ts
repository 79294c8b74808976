/** Regular expressions of a config over what a stranger wrote: one that backtracks for ever must not stop this process. */
import { createContext, Script } from 'node:vm';

/** V8 ends a search only for a script that has a time limit. A fitting pattern takes some milliseconds for what is read at most. */
const LIMIT_MS = 500;

interface Room {
  pattern: RegExp;
  texts: readonly string[];
}

let room: Room | undefined;
const TESTS = new Script('texts.map((text) => text.search(pattern) >= 0)');
const MATCHES = new Script('texts.map((text) => [...text.matchAll(pattern)].map((match) => [...match]))');

/** Which of the texts it is found in. @throws an `Error` that says so when it takes too long */
export function foundIn(pattern: RegExp, texts: readonly string[]): boolean[] {
  return run(TESTS, pattern, texts);
}

/** Each match in the text, with its groups. @throws as `foundIn` */
export function matchesOf(pattern: RegExp, text: string): (string | undefined)[][] {
  const all = pattern.global ? pattern : new RegExp(pattern.source, `${pattern.flags}g`);
  return run<(string | undefined)[][]>(MATCHES, all, [text])[0] ?? [];
}

function run<T>(script: Script, pattern: RegExp, texts: readonly string[]): T[] {
  room ??= createContext({ pattern, texts }) as unknown as Room;
  Object.assign(room, { pattern, texts });
  try {
    return script.runInContext(room, { timeout: LIMIT_MS }) as T[];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
    throw new Error(
      `the pattern ${pattern.source} takes too long on it: it backtracks; write it without nested repetition`,
      {
        cause: error,
      },
    );
  } finally {
    Object.assign(room, { texts: [] });
  }
}
