/** Taking a whole tree away, also one that was restored with modes and flags that forbid it. */
import { chmodSync, lstatSync, readdirSync, rmSync } from 'node:fs';
import { HoldfastError, messageOf } from '../errors.ts';
import { joinRaw, rawFromText, rawToFs, type RawPath } from '../raw-path.ts';
import { clearFlags } from './attributes.ts';
import { leniently } from './refusals.ts';

/** What is not there is no error; no link is followed. @throws HoldfastError `io` */
export function removeTree(path: string): void {
  const remove = () => rmSync(path, { recursive: true, force: true });
  try {
    remove();
  } catch {
    try {
      free(rawFromText(path));
      remove();
    } catch (cause) {
      throw new HoldfastError('io', `${path} cannot be removed: ${messageOf(cause)}`, {
        hint: 'Remove it by hand: it holds what was restored, secrets among it.',
        cause,
      });
    }
  }
}

/** Flags off everything, and the owner may change every folder. */
function free(path: RawPath): void {
  const stat = lstatSync(rawToFs(path), { throwIfNoEntry: false });
  if (!stat || stat.isSymbolicLink()) return;
  clearFlags(path);
  if (!stat.isDirectory()) return;
  leniently(() => chmodSync(rawToFs(path), 0o700));
  clearFlags(path); // of a folder that could not be opened before
  for (const name of readdirSync(rawToFs(path), 'latin1')) free(joinRaw(path, name));
}
