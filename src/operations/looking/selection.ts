/** Which entries of a snapshot were asked for: by their paths, or by globs over them. */
import { HoldfastError } from '../../errors.ts';
import { parentOf, rawForDisplay, rawFromText, rawToText, ROOT, type RawPath } from '../../raw-path.ts';

/** Whether one pattern means a path; the path as text where it is text, else its bytes. */
type Matcher = (path: string) => boolean;

const MAGIC = /[*?[\]{}()\\!]/;

/**
 * A glob over whole paths: `*` and `?` within a name, `**` over any number of folders, `[…]`, `{a,b}`; `\` before a character takes it as it is.
 * Names that begin with a dot are like others.
 * @param anywhere a pattern without a slash matches the last name of a path, in whatever folder it is.
 */
export async function globMatcher(pattern: string, { anywhere = false } = {}): Promise<(path: RawPath) => boolean> {
  const { Minimatch } = await import('minimatch'); // only when there is a pattern: a file that is named is brought back sooner
  const names = namesOf(pattern).join('/');
  const glob = new Minimatch(names, {
    dot: true,
    nocomment: true,
    nonegate: true,
    matchBase: anywhere,
    platform: 'linux',
  });
  const matches: Matcher = (path) => glob.match(path);
  return (path) => path !== ROOT && matches(rawToText(path) ?? path);
}

/** Entries at and below any of some paths; all entries when none is given. */
export class Selection {
  readonly #wanted: Wanted[];
  readonly #isSelected = new Map<RawPath, boolean>();

  /** @param patterns relative to the root of the state. One that is a path literally also means that path. @throws `usage` */
  static async of(patterns: readonly string[]): Promise<Selection> {
    return new Selection(
      await Promise.all(
        patterns.map(async (pattern) => ({
          raw: normalise(pattern),
          matches: MAGIC.test(pattern) ? await globMatcher(pattern) : () => false,
          found: false,
        })),
      ),
    );
  }

  private constructor(wanted: Wanted[]) {
    this.#wanted = wanted;
  }

  has(path: RawPath): boolean {
    if (this.#wanted.length === 0) return true;
    let selected = path !== ROOT && this.#has(parentOf(path));
    for (const wanted of this.#wanted) {
      if (wanted.found && selected) continue;
      if (wanted.raw !== path && !wanted.matches(path)) continue;
      wanted.found = true;
      selected = true;
    }
    return selected;
  }

  /**
   * @param hasMore that the snapshot keeps more apart.
   * @throws `not_found` for the first path that no entry was found for.
   */
  checkAllFound(hasMore = false): void {
    const absent = this.#wanted.find(({ found }) => !found);
    if (absent) {
      throw new HoldfastError('not_found', `the snapshot has no ${JSON.stringify(rawForDisplay(absent.raw))}`, {
        hint: `\`holdfast ls SNAPSHOT\` lists what it has${hasMore ? '; it may be among the secrets: --with-secrets' : ''}. Nothing was written.`,
      });
    }
  }

  /** Of a folder: remembered, for it is asked about everything it holds. */
  #has(folder: RawPath): boolean {
    let selected = this.#isSelected.get(folder);
    if (selected === undefined) this.#isSelected.set(folder, (selected = this.has(folder)));
    return selected;
  }
}

interface Wanted {
  raw: RawPath;
  matches: (path: RawPath) => boolean;
  found: boolean;
}

/** A path as a user types it: `./a/b/` is `a/b`. */
export function normalise(path: string): RawPath {
  return rawFromText(namesOf(path).join('/'));
}

function namesOf(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..'))
    throw new HoldfastError('usage', `the path ${JSON.stringify(path)} leads out of the state`, {
      hint: 'Give paths relative to the root of the state.',
    });
  return names;
}

/** True for `ancestor` itself and for all below it. */
export function isBelow(path: RawPath, ancestor: RawPath): boolean {
  return ancestor === ROOT || path === ancestor || path.startsWith(`${ancestor}/`);
}
