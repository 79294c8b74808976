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
import { closeSync, fsyncSync, lstatSync, openSync, readFileSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { parentOf, rawToFs, type RawPath } from '../raw-path.ts';
import { Refusal, type HeldFolder } from './held-folder.ts';
import { SQLITE_SIBLINGS } from './sqlite.ts';
import { isSystemError } from './system-error.ts';
import { leniently, refusedBySystem } from './refusals.ts';
import { CREATE, syncFolder } from './target-folder.ts';
import { RESTORE_READY, absoluteIn, inTree } from './tree-path.ts';

interface Log {
  suffix: string;
  own: RawPath;
  aside: RawPath;
}

/** @param at its absolute path. */
const logsOf = (at: RawPath): Log[] =>
  SQLITE_SIBLINGS.map((suffix) => ({
    suffix,
    own: (at + suffix) as RawPath,
    aside: absoluteIn(parentOf(at), (RESTORE_READY + suffix) as RawPath),
  }));

/** Whether something lies beside a database that SQLite would take for commits of it, or did so before a run was killed. */
export function hasLog(base: RawPath, database: RawPath): boolean {
  return logsOf(absoluteIn(base, database))
    .filter(({ suffix }) => suffix !== '-shm')
    .some(({ own, aside }) => [own, aside].some((path) => isFilled(path)));
}

/**
 * Does `replace` to a database while its logs are out of the way, and removes them.
 * @param database its path in the target, and the absolute path it has while its folder is held.
 * @param isOther which suffixes are those of files that are none of its logs, and stay.
 * @throws what `replace` throws, the logs being back; `io` when they are not.
 */
export function withLogsAside(
  staging: RawPath,
  { database, at }: { database: RawPath; at: RawPath },
  isOther: (suffix: string) => boolean,
  replace: () => void,
): void {
  const logs = logsOf(at).filter(({ suffix, own }) => !isOther(suffix) && statAt(own)?.isDirectory() === false);
  if (logs.length === 0) return replace();
  const note = noteIn(staging);
  writeNote(staging, database, inodeOf(at));
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

/** Ends in the target what a killed run began. */
export function endLogsAside(target: HeldFolder, staging: RawPath): void {
  const note = noteIn(staging);
  if (!lstatSync(note, { throwIfNoEntry: false })) return;
  const [inode, path, end] = readFileSync(note, 'latin1').split('\0') as (RawPath | undefined)[];
  // A note that is not whole was made by a run that did nothing more; and nothing is done through a link.
  const at = path !== undefined && end === '' ? placeOf(target, path) : undefined;
  if (at !== undefined) {
    const logs = logsOf(at).filter(({ aside }) => statAt(aside));
    if (inode === inodeOf(at)) putBack(logs);
    else for (const { aside } of logs) unlinkSync(rawToFs(aside));
  }
  unlinkSync(note);
}

const noteIn = (staging: RawPath) => inTree(staging, 'logs-aside' as RawPath);

function writeNote(staging: RawPath, database: RawPath, inode: string): void {
  const fd = openSync(noteIn(staging), CREATE, 0o600);
  try {
    writeSync(fd, Buffer.from(`${inode}\0${database}\0`, 'latin1'));
    leniently(() => fsyncSync(fd));
  } finally {
    closeSync(fd);
  }
  syncFolder(staging);
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

const inodeOf = (path: RawPath): string => String(statAt(path)?.ino ?? 'none');

function placeOf(target: HeldFolder, path: RawPath): RawPath | undefined {
  try {
    return target.at(path);
  } catch (error) {
    if (error instanceof Refusal || isSystemError(error)) return undefined;
    throw error;
  }
}
