/** Databases after a restore: what came back is whole, and has as many rows as when it was saved. */
import { resolve } from 'node:path';
import type { FileEntry, Warning } from '../entry.ts';
import { systemErrorCode } from '../errors.ts';
import { rawForDisplay, rawFromText, type RawPath } from '../raw-path.ts';
import { exactTimes } from '../state/exact-times.ts';
import { Sqlite, type Contents } from '../state/sqlite.ts';
import { absoluteIn } from '../state/tree-path.ts';

/** Checks restored databases in another thread, and leaves them as they are. */
export class DatabaseChecks implements AsyncDisposable {
  readonly #base: RawPath;
  readonly #sqlite: Sqlite;
  readonly #times = exactTimes();
  readonly #begun = new Map<FileEntry, Promise<Warning | undefined>>();

  constructor(target: string, signal: AbortSignal | undefined) {
    this.#base = rawFromText(resolve(target));
    this.#sqlite = new Sqlite(undefined, signal);
  }

  /** @param file of any kind, complete at its place in the target; nothing may be done to it before its check has ended. */
  begin(file: FileEntry): void {
    const { sqlite } = file;
    if (!sqlite || this.#begun.has(file)) return;
    const checking = this.#check(file, sqlite.rows);
    checking.catch(() => undefined); // is thrown to who asks for it
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
    await this.#sqlite[Symbol.asyncDispose]();
  }

  async #check(file: FileEntry, rows: Readonly<Record<string, number>>): Promise<Warning | undefined> {
    const path = absoluteIn(this.#base, file.path);
    const found = await this.#sqlite.check(path);
    const fault = 'failure' in found ? `it cannot be read: ${found.failure}` : faultIn(found, rows);
    try {
      this.#times.ofPath(path, file.mtimeNs); // it was read: the time of access as well
    } catch (error) {
      if (systemErrorCode(error) === undefined) throw error;
    }
    if (fault === undefined) return undefined;
    const shown = rawForDisplay(file.path);
    const message = `the restored database ${shown} is not as it should be: ${fault}; an older snapshot may have it whole`;
    return { code: 'sqlite_damaged', path: shown, message, incomplete: true };
  }
}

/**
 * Checks the databases among `files`, as restored into `target`.
 * @throws HoldfastError `interrupted`
 */
export async function checkDatabases(
  target: string,
  files: readonly FileEntry[],
  signal: AbortSignal | undefined,
): Promise<Warning[]> {
  await using checks = new DatabaseChecks(target, signal);
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
