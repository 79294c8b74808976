/**
 * The log that lies beside a database, while the database is replaced. The new one with the old log would be corrupt, and the old one without
 * its log lacks what was committed last. Both cannot change in one step, so:
 *
 * 1. a note in the staging folder says which database, and which file that is now; it is on the disk before anything else is done;
 * 2. the logs get names of their own in the same folder (which may lie on another file system than the staging folder);
 * 3. the new database takes its place;
 * 4. the logs are removed, and then the note.
 *
 * When 2 or 3 fails, the logs get their names back. Who is killed leaves the note: the next restore into this target, of whatever, first looks
 * which database is in place, and gives the old one its log back, or removes the log of the one that is gone.
 */
import {
  closeSync,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { joinRaw, parentOf, rawToFs, type RawPath } from '../raw-path.ts';
import { SQLITE_SIBLINGS } from './sqlite.ts';
import { isSystemError } from './system-error.ts';
import { leniently, refusedBySystem } from './refusals.ts';
import { CREATE, syncFolder } from './target-folder.ts';
import { RESTORE_READY, RESTORE_STAGING, absoluteIn, inTree } from './tree-path.ts';

interface Log {
  suffix: string;
  own: RawPath;
  aside: RawPath;
}

const logsOf = (base: RawPath, database: RawPath): Log[] =>
  SQLITE_SIBLINGS.map((suffix) => ({
    suffix,
    own: absoluteIn(base, (database + suffix) as RawPath),
    aside: absoluteIn(base, joinRaw(parentOf(database), RESTORE_READY + suffix)),
  }));

/** Whether something lies beside a database that SQLite would take for commits of it, or did so before a run was killed. */
export function hasLog(base: RawPath, database: RawPath): boolean {
  return logsOf(base, database)
    .filter(({ suffix }) => suffix !== '-shm')
    .some(({ own, aside }) => [own, aside].some((path) => isFilled(path)));
}

/**
 * Does `replace` to a database of the tree at `base` while its logs are out of the way, and removes them.
 * @param isOther which suffixes are those of files that are none of its logs, and stay.
 * @throws what `replace` throws, the logs being back; `io` when they are not.
 */
export function withLogsAside(
  base: RawPath,
  database: RawPath,
  isOther: (suffix: string) => boolean,
  replace: () => void,
): void {
  const logs = logsOf(base, database).filter(
    ({ suffix, own }) => !isOther(suffix) && statAt(own)?.isDirectory() === false,
  );
  if (logs.length === 0) return replace();
  const note = noteIn(base);
  writeNote(base, database);
  try {
    for (const { own, aside } of logs) renameSync(rawToFs(own), rawToFs(aside));
    replace();
  } catch (error) {
    try {
      putBack(logs);
    } catch (cause) {
      throw isSystemError(cause) ? refusedBySystem('the log of a database cannot get its name back', cause) : cause;
    }
    unlinkSync(note);
    throw error;
  }
  for (const { aside } of logs) unlinkSync(rawToFs(aside));
  unlinkSync(note);
}

/** Ends in the target at `base` what a killed run began. */
export function endLogsAside(base: RawPath): void {
  const note = noteIn(base);
  if (!lstatSync(note, { throwIfNoEntry: false })) return;
  const [inode, path, end] = readFileSync(note, 'latin1').split('\0') as (RawPath | undefined)[];
  // A note that is not whole was made by a run that did nothing more; and nothing is done through a link.
  if (path !== undefined && end === '' && isReal(absoluteIn(base, parentOf(path)))) {
    const logs = logsOf(base, path).filter(({ aside }) => statAt(aside));
    if (inode === inodeOf(base, path)) putBack(logs);
    else for (const { aside } of logs) unlinkSync(rawToFs(aside));
  }
  unlinkSync(note);
}

const noteIn = (base: RawPath) => inTree(base, joinRaw(RESTORE_STAGING, 'logs-aside'));

function writeNote(base: RawPath, database: RawPath): void {
  const fd = openSync(noteIn(base), CREATE, 0o600);
  try {
    writeSync(fd, Buffer.from(`${inodeOf(base, database)}\0${database}\0`, 'latin1'));
    leniently(() => fsyncSync(fd));
  } finally {
    closeSync(fd);
  }
  syncFolder(absoluteIn(base, RESTORE_STAGING));
}

/** A log that somebody has written since stays: the old one would be wrong beside it. */
function putBack(logs: readonly Log[]): void {
  for (const { own, aside } of logs) {
    if (!statAt(aside)) continue;
    if (isFilled(own)) unlinkSync(rawToFs(aside));
    else renameSync(rawToFs(aside), rawToFs(own));
  }
}

const statAt = (path: RawPath) => {
  try {
    return lstatSync(rawToFs(path), { throwIfNoEntry: false });
  } catch (error) {
    if (isSystemError(error)) return undefined; // a name that is too long
    throw error;
  }
};

const isFilled = (path: RawPath): boolean => {
  const now = statAt(path);
  return now?.isFile() === true && now.size > 0;
};

const inodeOf = (base: RawPath, path: RawPath): string => String(statAt(absoluteIn(base, path))?.ino ?? 'none');

function isReal(folder: RawPath): boolean {
  try {
    return realpathSync.native(rawToFs(folder), 'latin1') === folder;
  } catch (error) {
    if (isSystemError(error)) return false;
    throw error;
  }
}
