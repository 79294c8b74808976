/** One run at a time on a host: a lock that dies with its process, whatever kills it. */
import { closeSync, constants, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { HoldfastError, messageOf } from '../../errors.ts';
import { linux } from '../../state/linux.ts';

/**
 * Takes the lock in `folder` (made if need be, mode 0700). It is an exclusive transaction on an empty SQLite database: the operating system
 * drops it when the process ends, so there is nothing stale to break.
 * @param name of which lock: runs that go on beside each other have one each
 * @throws `busy` when another process holds it; it says which.
 */
export function takeLock(folder: string, what: string, name = 'lock'): Disposable {
  const path = join(folder, `${name}.sqlite`);
  let database: DatabaseSync | undefined;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    database = new DatabaseSync(path, { timeout: 0 });
    database.exec('BEGIN EXCLUSIVE');
  } catch (cause) {
    database?.close();
    if (isBusy(cause)) throw busy(folder, what, name);
    throw new HoldfastError('io', `cannot lock ${path}: ${messageOf(cause)}`, {
      hint: "The folder for holdfast's own state must be writable.",
      cause,
    });
  }
  const held = database;
  noteHolder(folder, name);
  return { [Symbol.dispose]: () => held.close() };
}

/**
 * The same, and the same lock, in a folder of nobody else that is held open, by a path that begins at its descriptor: SQLite would look up what
 * name the folder has, and open what has that name by then.
 */
export function takeLockIn(folder: string, what: string): Disposable {
  const calls = linux();
  if (calls === undefined) return takeLock(folder, what);
  const fd = openSync(join(folder, 'lock.sqlite'), constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  try {
    if (!calls.lock(fd)) throw busy(folder, what);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  noteHolder(folder);
  return { [Symbol.dispose]: () => closeSync(fd) };
}

function busy(folder: string, what: string, name = 'lock'): HoldfastError {
  const who = holder(folder, name);
  const process_ = who === undefined ? '' : ` (process ${who})`;
  return new HoldfastError('busy', `another ${what} of this repository is running on this host${process_}`, {
    hint: 'Wait until it is done; there is no lock to remove.',
    retryable: true,
  });
}

function noteHolder(folder: string, name = 'lock'): void {
  try {
    writeFileSync(holderPath(folder, name), `${process.pid}\n`, { mode: 0o600 });
  } catch {
    // it only makes a message say more
  }
}

const holderPath = (folder: string, name: string): string => join(folder, `${name}.holder`);

/** The process that wrote last that it holds the lock: asked only when somebody holds it. */
function holder(folder: string, name: string): string | undefined {
  try {
    return /^\d{1,10}$/m.exec(readFileSync(holderPath(folder, name), 'utf8'))?.[0];
  } catch {
    return undefined;
  }
}

const SQLITE_BUSY = 5;

/** By its number: the message of another failure may name a folder called `locked`. */
function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY;
}
