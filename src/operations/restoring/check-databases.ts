/** Databases after a restore: what came back is whole, and has as many rows as when it was saved. */
import type { FileEntry, Warning } from '../../entry.ts';
import { systemErrorCode } from '../../errors.ts';
import { rawForDisplay, type RawPath } from '../../raw-path.ts';
import { exactTimes } from '../../state/exact-times.ts';
import { Refusal } from '../../state/held-folder.ts';
import { Sqlite, type Contents } from '../../state/sqlite.ts';

/** Gives the absolute path of an entry, until it is asked for the next. */
export type PlaceOf = (path: RawPath) => RawPath;

/**
 * Checks restored databases in another thread, one after the other, and leaves them as they are. Disposed of, it has let go of all of them: what
 * holds the target is to be disposed of after it.
 */
export class DatabaseChecks implements AsyncDisposable {
  readonly #at: PlaceOf;
  readonly #sqlite: Sqlite;
  readonly #times = exactTimes();
  readonly #begun = new Map<FileEntry, Promise<Warning | undefined>>();
  #last: Promise<unknown> = Promise.resolve();
  #isOver = false;

  constructor(at: PlaceOf, signal: AbortSignal | undefined) {
    this.#at = at;
    this.#sqlite = new Sqlite(undefined, signal);
  }

  /** @param file of any kind, complete at its place in the target; nothing may be done to it before its check has ended. */
  begin(file: FileEntry): void {
    const { sqlite } = file;
    if (!sqlite || this.#begun.has(file)) return;
    const checking = this.#last.then(() => (this.#isOver ? undefined : this.#check(file, sqlite.rows)));
    this.#last = checking.catch(() => undefined); // is thrown to who asks for it
    this.#begun.set(file, checking);
  }

  /**
   * Begins those that were not, and waits for all of them.
   * @throws HoldfastError `interrupted`
   */
  async warnings(files: readonly FileEntry[]): Promise<Warning[]> {
    for (const file of files) this.begin(file);
    const warnings: Warning[] = [];
    for (const file of files) {
      const warning = await this.#begun.get(file);
      if (warning) warnings.push(warning);
    }
    return warnings;
  }

  /** Resolves when nothing more is done to the files whose checks have begun. @throws HoldfastError `interrupted` */
  async settled(): Promise<void> {
    await Promise.all(this.#begun.values());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#sqlite[Symbol.asyncDispose]();
    await this.#last;
  }

  async #check(file: FileEntry, rows: Readonly<Record<string, number>>): Promise<Warning | undefined> {
    const path = this.#placeOf(file.path);
    const found = path === undefined ? GONE : await this.#sqlite.check(path);
    const fault = 'failure' in found ? `it cannot be read: ${found.failure}` : faultIn(found, rows);
    try {
      if (path !== undefined) this.#times.ofPath(path, file.mtimeNs); // it was read: the time of access as well
    } catch (error) {
      if (systemErrorCode(error) === undefined) throw error;
    }
    if (fault === undefined) return undefined;
    const shown = rawForDisplay(file.path);
    const message = `the restored database ${shown} is not as it should be: ${fault}; an older snapshot may have it whole`;
    return { code: 'sqlite_damaged', path: shown, message, incomplete: true };
  }

  #placeOf(path: RawPath): RawPath | undefined {
    try {
      return this.#at(path);
    } catch (error) {
      if (error instanceof Refusal || systemErrorCode(error) !== undefined) return undefined;
      throw error;
    }
  }
}

const GONE = { failure: 'it is not there any more' };

/**
 * Checks the databases among `files`, as restored.
 * @throws HoldfastError `interrupted`
 */
export async function checkDatabases(
  at: PlaceOf,
  files: readonly FileEntry[],
  signal: AbortSignal | undefined,
): Promise<Warning[]> {
  await using checks = new DatabaseChecks(at, signal);
  return await checks.warnings(files);
}

function faultIn({ rows, damage }: Contents, recorded: Readonly<Record<string, number>>): string | undefined {
  if (damage !== undefined) return damage;
  for (const [table, count] of Object.entries(recorded)) {
    if (rows[table] !== count)
      return `table ${JSON.stringify(table)} has ${rows[table] ?? 'no'} rows, and had ${count} when it was saved`;
  }
  return undefined;
}
