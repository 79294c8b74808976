/** Databases after a restore: what came back is whole, and has as many rows as when it was saved. */
import { resolve } from 'node:path';
import type { FileEntry, Warning } from '../entry.ts';
import { systemErrorCode } from '../errors.ts';
import { rawForDisplay, rawFromText } from '../raw-path.ts';
import { exactTimes } from '../state/exact-times.ts';
import { Sqlite, type Contents } from '../state/sqlite.ts';
import { absoluteIn } from '../state/tree-path.ts';

/**
 * Checks the databases among `files`, as restored into `target`, and leaves them as they are.
 * @throws HoldfastError `interrupted`
 */
export async function checkDatabases(
  target: string,
  files: readonly FileEntry[],
  signal: AbortSignal | undefined,
): Promise<Warning[]> {
  const warnings: Warning[] = [];
  const base = rawFromText(resolve(target));
  await using sqlite = new Sqlite(undefined, signal);
  const times = exactTimes();
  for (const file of files) {
    if (!file.sqlite) continue;
    const path = absoluteIn(base, file.path);
    const found = await sqlite.check(path);
    const fault = 'failure' in found ? `it cannot be read: ${found.failure}` : faultIn(found, file.sqlite.rows);
    const shown = rawForDisplay(file.path);
    if (fault !== undefined) {
      const message = `the restored database ${shown} is not as it should be: ${fault}; an older snapshot may have it whole`;
      warnings.push({ code: 'sqlite_damaged', path: shown, message, incomplete: true });
    }
    try {
      times.ofPath(path, file.mtimeNs); // it was read: the time of access as well
    } catch (error) {
      if (systemErrorCode(error) === undefined) throw error;
    }
  }
  return warnings;
}

function faultIn({ rows, damage }: Contents, recorded: Readonly<Record<string, number>>): string | undefined {
  if (damage !== undefined) return damage;
  for (const [table, count] of Object.entries(recorded)) {
    if (rows[table] !== count)
      return `table ${JSON.stringify(table)} has ${rows[table] ?? 'no'} rows, and had ${count} when it was saved`;
  }
  return undefined;
}
