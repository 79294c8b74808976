/** Patterns in gitignore syntax, matched on paths of the tree. */
import ignore from 'ignore';
import { rawForDisplay, rawToText, type RawPath } from '../raw-path.ts';

/** `ignore` remembers its answer for every path it ever saw; a fresh one now and then keeps memory bounded. */
const MATCHER_MEMORY_PATHS = 1000;

/** Whether a path, or a folder above it, is meant. */
export type Matcher = (path: RawPath, isFolder: boolean) => boolean;

/**
 * @param patterns each one line, case-sensitive, relative to the root; a later one goes before an earlier one, and `!` takes back. They are matched on
 *   the text of a path; one that is no UTF-8 is matched in its displayed form (`\xNN`).
 */
export function matcher(patterns: readonly string[]): Matcher {
  if (patterns.length === 0) return () => false;
  const fresh = () => ignore({ ignorecase: false }).add(patterns);
  let rules = fresh();
  let asked = 0;
  return (path, isFolder) => {
    if (++asked % MATCHER_MEMORY_PATHS === 0) rules = fresh();
    const text = rawToText(path) ?? rawForDisplay(path);
    return rules.ignores(isFolder ? `${text}/` : text);
  };
}
