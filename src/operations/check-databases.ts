/** Databases after a restore: what came back is whole, and has as many rows as when it was saved. */
import type { FileEntry, Warning } from '../entry.ts';
import { systemErrorCode } from '../errors.ts';
import { rawForDisplay, type RawPath } from '../raw-path.ts';
import { exactTimes } from '../state/exact-times.ts';
import { Sqlite, type Contents } from '../state/sqlite.ts';
import { Refusal } from '../state/held-folder.ts';

/**
 * Checks the databases among `files`, as restored, and leaves them as they are.
 * @param at gives the absolute path of one, until it is asked for the next.
 * @throws HoldfastError `interrupted`
 */
export async function checkDatabases(
  at: (path: RawPath) => RawPath,
  files: readonly FileEntry[],
  signal: AbortSignal | undefined,
): Promise<Warning[]> {
  const warnings: Warning[] = [];
  await using sqlite = new Sqlite(undefined, signal);
  const times = exactTimes();
  for (const file of files) {
    if (!file.sqlite) continue;
    const path = placeOf(file.path, at);
    const found = path === undefined ? GONE : await sqlite.check(path);
    const fault = 'failure' in found ? `it cannot be read: ${found.failure}` : faultIn(found, file.sqlite.rows);
    const shown = rawForDisplay(file.path);
    if (fault !== undefined) {
      const message = `the restored database ${shown} is not as it should be: ${fault}; an older snapshot may have it whole`;
      warnings.push({ code: 'sqlite_damaged', path: shown, message, incomplete: true });
    }
    try {
      if (path === undefined) continue;
      times.ofPath(path, file.mtimeNs); // it was read: the time of access as well
    } catch (error) {
      if (systemErrorCode(error) === undefined) throw error;
    }
  }
  return warnings;
}

const GONE = { failure: 'it is not there any more' };

function placeOf(path: RawPath, at: (path: RawPath) => RawPath): RawPath | undefined {
  try {
    return at(path);
  } catch (error) {
    if (error instanceof Refusal || systemErrorCode(error) !== undefined) return undefined;
    throw error;
  }
}

function faultIn({ rows, damage }: Contents, recorded: Readonly<Record<string, number>>): string | undefined {
  if (damage !== undefined) return damage;
  for (const [table, count] of Object.entries(recorded)) {
    if (rows[table] !== count)
      return `table ${JSON.stringify(table)} has ${rows[table] ?? 'no'} rows, and had ${count} when it was saved`;
  }
  return undefined;
}
