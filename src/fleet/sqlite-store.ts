/** A state store in one SQLite file (WAL mode), which any number of processes of one host use at once. Not for network file systems. */
import {
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
  type Stats,
} from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import type { Clock, Random } from '../clock.ts';
import { HoldfastError, messageOf, systemErrorCode } from '../errors.ts';
import { checkEntry, checkKey, checkPrefix, watchByListing, type Entry, type StateStore } from './store.ts';

/** 'HFfs' in the header of the file. */
const APPLICATION_ID = 0x48466673;
const VERSION = 1;
/** How long a call waits for other processes. Each of them needs milliseconds, fsync included. */
const BUSY_MS = 10_000;
/** A file this small is looked through whenever it is opened, which takes a millisecond or two. */
const CHECKED_MAX_BYTES = 1024 * 1024;

const SCHEMA = `
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${VERSION};
  CREATE TABLE entries (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL, expires_ms INTEGER
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX expiring ON entries (expires_ms) WHERE expires_ms IS NOT NULL;
  CREATE TABLE sequence (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), last INTEGER NOT NULL) STRICT;
  INSERT INTO sequence VALUES (1, 0);
`;

/** Line 8 of the contract, in SQL. */
const THERE = '(expires_ms IS NULL OR expires_ms > :now)';

/**
 * Opens the store at `path`, an absolute path; makes it, and its folder, when there is none. The file is its owner's alone: it holds commands
 * that will be run.
 *
 * @throws `damaged` when the file is no database, not whole, or gone from beside its log; `config_invalid` when it is a database of something
 *   else; `unsupported_format`; `insecure_permissions` when others can read or write it; `busy`; `io`
 */
export function openSqliteStore(path: string, { clock, random }: { clock: Clock; random: Random }): StateStore {
  let database: DatabaseSync | undefined;
  try {
    if (!existsSync(path)) make(path, random);
    checkPermissions(path);
    database = new DatabaseSync(path, { timeout: BUSY_MS });
    check(database, path);
    // What is in a queue must outlive a loss of power.
    database.exec('PRAGMA synchronous = FULL');
    return storeIn(database, path, statSync(path), clock);
  } catch (error) {
    database?.close();
    throw refusal(error, path);
  }
}

/**
 * As a whole under another name, then linked to its own, which fails when another process was faster: whatever is at `path` has been a whole
 * store, and one that is empty or cut short is damaged.
 */
function make(path: string, random: Random): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  if (existsSync(`${path}-wal`) && !existsSync(path)) {
    throw new HoldfastError('damaged', `${path} is gone, and its log ${path}-wal is there`, {
      hint: 'Bring the file back; or, if breakers and queue may begin anew, move the log away.',
    });
  }
  const temporary = `${path}.${Buffer.from(random.bytes(8)).toString('hex')}.new`;
  try {
    closeSync(openSync(temporary, 'wx', 0o600));
    const database = new DatabaseSync(temporary);
    try {
      database.exec('PRAGMA journal_mode = WAL');
      database.exec(`BEGIN; ${SCHEMA} COMMIT;`);
    } finally {
      database.close(); // takes the log away: all is in the file
    }
    linkSync(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
  } finally {
    for (const suffix of ['', '-wal', '-shm']) rmSync(temporary + suffix, { force: true });
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function checkPermissions(path: string): void {
  const isOurs = ({ uid }: Stats) => uid === 0 || uid === process.getuid?.();
  const file = statSync(path);
  const folder = statSync(dirname(path));
  // In a folder with the sticky bit, such as /tmp, nobody replaces what is another's.
  const replaceable = (folder.mode & 0o022) !== 0 && (folder.mode & 0o1000) === 0;
  if (isOurs(file) && (file.mode & 0o077) === 0 && !replaceable) return;
  throw new HoldfastError('insecure_permissions', `others can read, write or replace ${path}`, {
    hint: 'Commands that wait in it are run by whoever runs the queue. Look through it, then: chmod 600 for the file, chmod go-w for its folder.',
  });
}

function check(database: DatabaseSync, path: string): void {
  const pragma = (name: string): unknown => Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0];
  const [id, version] = [pragma('application_id'), pragma('user_version')];
  if (id !== APPLICATION_ID) {
    if (statSync(path).size === 0) throw damaged(path, 'it is empty');
    throw new HoldfastError('config_invalid', `${path} is a database of something else`, {
      hint: 'Name another file in `fleet.store`.',
    });
  }
  if (version !== VERSION)
    throw new HoldfastError(
      'unsupported_format',
      `${path} has version ${String(version)}, and this holdfast knows ${VERSION}`,
    );
  if (statSync(path).size > CHECKED_MAX_BYTES) return;
  const found = pragma('quick_check(1)');
  if (found !== 'ok') throw damaged(path, String(found));
}

function damaged(path: string, what: string, cause?: unknown): HoldfastError {
  return new HoldfastError('damaged', `the state store ${path} is damaged: ${messageOf(what)}`, {
    hint: `Nothing was changed. Bring it back from a copy; or move it away (with -wal and -shm) if breakers and queue may begin anew.`,
    cause,
  });
}

/** By number, of the low byte: the rest says which kind. https://sqlite.org/rescode.html */
const SQLITE = { ERROR: 1, BUSY: 5, LOCKED: 6, CORRUPT: 11, NOTADB: 26 };
const SQLITE_IOERR_SHORT_READ = 522;

function refusal(error: unknown, path: string): unknown {
  if (error instanceof HoldfastError) return error;
  const errcode = error instanceof Error && 'errcode' in error ? Number(error.errcode) : undefined;
  const kind = errcode === undefined ? undefined : errcode & 0xff;
  // What we say to it is right: when SQLite does not understand it, a table is not what it was.
  const isDamage = kind === SQLITE.CORRUPT || kind === SQLITE.NOTADB || kind === SQLITE.ERROR;
  if (isDamage || errcode === SQLITE_IOERR_SHORT_READ) return damaged(path, messageOf(error), error);
  if (kind === SQLITE.BUSY || kind === SQLITE.LOCKED)
    return new HoldfastError('busy', `other processes have held the state store ${path} for ${BUSY_MS / 1000} s`, {
      hint: 'Try again. If it stays so, one of them hangs: `fuser` tells which have the file open.',
      retryable: true,
      cause: error,
    });
  if (errcode === undefined && systemErrorCode(error) === undefined) return error;
  return new HoldfastError('io', `cannot use the state store ${path}: ${messageOf(error)}`, {
    hint: 'The file and its folder must be writable, and on a disk of this host that has room.',
    cause: error,
  });
}

/** What is written to a file that was removed or replaced nobody else sees: two would each have the same right. @throws `damaged` */
function checkInPlace(path: string, { dev, ino }: Stats): void {
  const now = statSync(path, { throwIfNoEntry: false });
  if (now?.dev === dev && now.ino === ino) return;
  throw new HoldfastError(
    'damaged',
    `the state store ${path} was ${now ? 'replaced' : 'removed'} while it was in use`,
    {
      hint: 'Start the program again; what was in the store is gone unless it is brought back from a copy.',
    },
  );
}

/** @param file what is at the path */
function storeIn(database: DatabaseSync, path: string, file: Stats, clock: Clock): StateStore {
  const statements = {
    get: database.prepare(`SELECT value, revision FROM entries WHERE key = :key AND ${THERE}`),
    list: database.prepare(
      `SELECT key, value, revision, expires_ms FROM entries WHERE key >= :from AND key < :to AND ${THERE} ORDER BY key`,
    ),
    next: database.prepare('UPDATE sequence SET last = last + 1 RETURNING last'),
    forget: database.prepare('DELETE FROM entries WHERE expires_ms <= :now'),
    create: database.prepare('INSERT INTO entries VALUES (:key, :value, :revision, :expires) ON CONFLICT DO NOTHING'),
    update: database.prepare(
      `UPDATE entries SET value = :value, revision = :next, expires_ms = :expires WHERE key = :key AND revision = :revision AND ${THERE}`,
    ),
    delete: database.prepare(`DELETE FROM entries WHERE key = :key AND revision = :revision AND ${THERE}`),
    version: database.prepare('PRAGMA data_version'),
  };
  let ownWrites = 0;

  /** What goes wrong becomes an error of ours; a promise rejects with it. */
  const asked = async <T>(work: () => T): Promise<T> => {
    try {
      checkInPlace(path, file);
      return work();
    } catch (error) {
      throw refusal(error, path);
    }
  };
  /** All that `work` writes, or nothing where it says false. Immediate: one that began with reading could not become a writer beside another. */
  const written = (work: () => boolean): boolean => {
    database.exec('BEGIN IMMEDIATE');
    try {
      const isDone = work();
      database.exec(isDone ? 'COMMIT' : 'ROLLBACK');
      if (isDone) ownWrites++;
      return isDone;
    } catch (error) {
      if (database.isTransaction) database.exec('ROLLBACK');
      throw error;
    }
  };
  const next = (): number => {
    const last = statements.next.get()?.['last'];
    if (typeof last !== 'number') throw damaged(path, 'it has lost count of its revisions');
    return last;
  };
  const list = (prefix: string): { entries: Entry[]; nextExpiryMs: number } => {
    // '/' comes right after '.'; no key has a character above 'z'.
    const range = prefix === '' ? { from: '', to: '~' } : { from: prefix, to: `${prefix.slice(0, -1)}/` };
    const rows = statements.list.all({ ...range, now: clock.now() }) as unknown as (Entry & {
      expires_ms: number | null;
    })[];
    const entries = rows.map(({ key, value, revision }) => ({ key, value, revision }));
    return { entries, nextExpiryMs: rows.reduce((first, row) => Math.min(first, row.expires_ms ?? first), Infinity) };
  };
  const expiry = (ms: number | undefined): SQLInputValue => (ms === undefined ? null : Math.ceil(ms));

  return {
    get: (key) =>
      asked(() => {
        checkKey(key);
        const row = statements.get.get({ key, now: clock.now() }) as Omit<Entry, 'key'> | undefined;
        return row && { key, value: row.value, revision: row.revision };
      }),
    create: (key, value, { expiresMs } = {}) =>
      asked(() => {
        checkEntry(key, value);
        let revision = 0;
        const isDone = written(() => {
          statements.forget.run({ now: clock.now() });
          revision = next();
          return statements.create.run({ key, value, revision, expires: expiry(expiresMs) }).changes === 1;
        });
        return isDone ? revision : undefined;
      }),
    update: (key, value, revision, { expiresMs } = {}) =>
      asked(() => {
        checkEntry(key, value);
        let replaced = 0;
        const isDone = written(() => {
          replaced = next();
          const row = { key, value, revision, next: replaced, expires: expiry(expiresMs), now: clock.now() };
          return statements.update.run(row).changes === 1;
        });
        return isDone ? replaced : undefined;
      }),
    delete: (key, revision) =>
      asked(() => {
        checkKey(key);
        return written(() => statements.delete.run({ key, revision, now: clock.now() }).changes === 1);
      }),
    list: (prefix) =>
      asked(() => {
        checkPrefix(prefix);
        return list(prefix).entries;
      }),
    async *watch(prefix, signal) {
      checkPrefix(prefix);
      // The version of SQLite changes with the writes of others only.
      const stamp = () => `${String(statements.version.get()?.['data_version'])} ${ownWrites}`;
      try {
        yield* watchByListing({ stamp, list: () => list(prefix) }, clock, signal);
      } catch (error) {
        throw refusal(error, path);
      }
    },
    async [Symbol.asyncDispose]() {
      database.close();
    },
  };
}
