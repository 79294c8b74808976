/**
 * The thread in which SQLite works, for `sqlite.ts`: `node:sqlite` is synchronous, and to check a database of a gigabyte takes seconds in which
 * nothing could be sent to a backend.
 *
 * The source is never opened for writing, for the last to close a database in WAL mode deletes its log.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import type { DatabaseSync, SQLOutputValue } from 'node:sqlite';
import { parentPort } from 'node:worker_threads';
import { systemErrorCode } from '../errors.ts';
import type { RawPath } from '../raw-path.ts';
import { isInTree, isOpenTwice } from './held-folder.ts';
import type { Answer, Contents, Request } from './sqlite.ts';
import { isGone, reasonOf } from './system-error.ts';

process.removeAllListeners('warning'); // of this thread alone: in older Nodes SQLite announces itself as experimental
const { DatabaseSync: Database, backup } = await import('node:sqlite');

/** All pages in one step: in smaller ones, each commit of another process starts the copy again. (0 would never end.) */
const ALL_PAGES = 2 ** 31 - 1;
/** How long a writer is waited for. */
const BUSY_MS = 5000;
/** Between two looks, a writer may have come or gone. */
const TRIES = 4;
const TABLES_MAX = 200;
const TABLE_NAME_MAX_CHARS = 1000;
const PIECE_BYTES = 1024 * 1024;
/** Where bytes are copied through. */
const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);

/** Primary result codes of SQLite: https://www.sqlite.org/rescode.html */
const CODES = { busy: 5, locked: 6, readOnly: 8, corrupt: 11, full: 13, cannotOpen: 14, notADatabase: 26 };
const MISSING_COLLATION = 257;

let turn: Promise<void> = Promise.resolve();
parentPort?.on('message', (request: Request) => {
  turn = turn.then(async () => parentPort?.postMessage(await answer(request)));
});

async function answer(request: Request): Promise<Answer> {
  try {
    tree = request.root === undefined ? undefined : { root: request.root as RawPath, database: request.path };
    if (request.copy === undefined) return { contents: contentsOf(request.path) };
    const { isCutOff } = await capture(request.path, request.copy);
    const { rows, damage } = contentsOf(request.copy);
    return { contents: { rows, damage: damage ?? (isCutOff ? CUT_OFF : undefined) } };
  } catch (error) {
    return { failure: wordsFor(error) };
  }
}

/** Of the capture that is being made. */
let tree: { root: RawPath; database: string } | undefined;

/** @throws for a file of the database that is reached through a link: it may be anybody's. */
function checkPlace(fd: number, path: string): void {
  if (!tree?.database || !path.startsWith(tree.database)) return;
  if (!isInTree(fd, tree.root, inTree(path))) throw new Error(EXCHANGED);
}

const inTree = (path: string): RawPath =>
  path.slice(tree?.root.endsWith('/') === true ? tree.root.length : (tree?.root.length ?? 0) + 1) as RawPath;

const EXCHANGED = 'it was exchanged while it was read';

function openSource(path: string): number {
  const fd = openSync(fs(path), READ);
  try {
    checkPlace(fd, path);
    return fd;
  } catch (error) {
    // One that was deleted meanwhile, as a journal is after each transaction, lies nowhere: it is gone, like one that could not be opened.
    const isDeleted = fstatSync(fd).nlink === 0;
    closeSync(fd);
    throw isDeleted ? Object.assign(new Error(EXCHANGED), { code: 'ENOENT' }) : error;
  }
}

const CUT_OFF = 'the file ends in the middle of a page';

async function capture(source: string, copy: string): Promise<{ isCutOff: boolean }> {
  let failure: unknown = new Error('it is written to all the time');
  let mustCopy = false;
  for (let i = 1; i <= TRIES; i++) {
    // A reader of a database in WAL mode that nobody has open would leave `-wal` and `-shm` beside it, and none but a writer can roll back.
    const isAtRest = isWal(source) ? !exists(`${source}-shm`) : hasJournal(source);
    if ((mustCopy || isAtRest) && i < TRIES) {
      if (copyAsIs(source, copy)) return { isCutOff: false }; // as the copy then is too
      mustCopy = false;
      continue;
    }
    try {
      const done = await copyLocked(source, copy);
      if (done) return done;
    } catch (error) {
      failure = error;
      mustCopy = mayCopyAfter(error, isWal(source));
      if (!mustCopy) break;
    }
  }
  throw failure;
}

/**
 * Whether SQLite cannot read the database for a reason that a copy has not: to do so it would have to write (to roll a transaction back, to make
 * `-shm`), or a program keeps it locked. Without WAL, locked files may be those of a transaction whose journal is in that program's memory.
 */
function mayCopyAfter(error: unknown, wal: boolean): boolean {
  const code = sqliteCode(error);
  return wal
    ? ![0, CODES.corrupt, CODES.full, CODES.notADatabase].includes(code)
    : [CODES.readOnly, CODES.cannotOpen].includes(code);
}

/**
 * A copy of one moment, beside writers in other processes. Without WAL none of them may write to the file while this one reads, so it is copied as it
 * lies there; in WAL mode SQLite knows what belongs to the moment. Undefined when the file was touched all the same.
 */
async function copyLocked(source: string, copy: string): Promise<{ isCutOff: boolean } | undefined> {
  closeSync(fresh(copy));
  const database = open(source, 'mode=ro');
  let file: number | undefined;
  try {
    // Held to the end, the copy is of this moment, and no lock can come in its way.
    database.exec('BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1');
    file = openSource(source);
    if (!isOpenTwice(file)) throw new Error(EXCHANGED);
    const pages = numberOf(database, 'PRAGMA page_count');
    const pageBytes = numberOf(database, 'PRAGMA page_size');
    const wal = saysWal(file);
    const before = fstatSync(file, { bigint: true });
    const isShort = Number(before.size) < pages * pageBytes;
    if (wal || isShort) await backup(database, uriOf(copy, 'mode=rw'), { rate: ALL_PAGES });
    else copyBytes(file, copy, pages * pageBytes);
    // What an unfinished backup leaves is an empty database, to which nothing can be objected.
    if (pages === 0 || statSync(fs(copy)).size !== pages * pageBytes) throw new Error('its copy is not whole');
    if (wal) return { isCutOff: false }; // somebody may be at making it longer
    // A lock is gone when its process closes the file elsewhere (https://www.sqlite.org/howtocorrupt.html), which nothing here does.
    const { mtimeNs, size } = fstatSync(file, { bigint: true });
    if (mtimeNs !== before.mtimeNs || size !== before.size) return undefined;
    return { isCutOff: Number(size) % pageBytes !== 0 };
  } finally {
    database.close();
    if (file !== undefined) closeSync(file); // not before: it would give up the lock
  }
}

/**
 * Copies the files of a database, and lets SQLite do with the copy what it would do after a crash at this moment. False when they were written to
 * meanwhile: all are read twice, one after the other, so bytes that are the same both times were all there at the moment between.
 */
function copyAsIs(source: string, copy: string): boolean {
  const files = ['', '-wal', '-journal'];
  for (const suffix of files) copyFile(source + suffix, copy + suffix);
  if (!files.every((suffix) => isSame(source + suffix, copy + suffix))) return false;
  const database = open(copy, 'mode=rw');
  try {
    // What becomes of the copy when the machine stops is of no interest.
    database.exec('PRAGMA synchronous = OFF; SELECT 1 FROM sqlite_schema LIMIT 1; PRAGMA wal_checkpoint(TRUNCATE)');
    if (numberOf(database, 'PRAGMA page_count') === 0) throw new Error('it has no pages');
  } finally {
    database.close();
  }
  return true;
}

/**
 * Of a database that nobody writes to, and without leaving anything beside it. SQLite makes a name of its own of every path, and opens that, so what
 * it has is compared with what lies at the path.
 */
function contentsOf(path: string): Contents {
  const file = openSource(path);
  let database: DatabaseSync | undefined;
  try {
    if (!fstatSync(file).isFile()) throw new Error('it is no file');
    database = open(path, 'immutable=1');
    if (!isOpenTwice(file)) throw new Error(EXCHANGED);
    let damage = damageOf(database);
    if (fstatSync(file).size % numberOf(database, 'PRAGMA page_size') !== 0) damage ??= CUT_OFF;
    const rows: Record<string, number> = {};
    try {
      for (const name of tablesOf(database).slice(0, TABLES_MAX)) countRows(database, name, rows);
    } catch (error) {
      damage ??= wordsFor(error);
    }
    return { rows, damage };
  } finally {
    database?.close();
    closeSync(file);
  }
}

/** Of a table that cannot be counted here, nothing is recorded. */
function countRows(database: DatabaseSync, table: string, rows: Record<string, number>): void {
  try {
    const value = numberOf(database, `SELECT count(*) FROM ${quoted(table)}`);
    Object.defineProperty(rows, table, { value, enumerable: true }); // it may be called `__proto__`
  } catch (error) {
    if (!lacksWhatTheProgramAdds(error)) throw error;
  }
}

function damageOf(database: DatabaseSync): string | undefined {
  const check = (of: string) => {
    const [first] = database.prepare(`PRAGMA integrity_check(${of})`).all();
    const said = textOf(first?.['integrity_check']);
    return said === 'ok' ? undefined : said.replace(/\s+/g, ' ');
  };
  try {
    return check('1');
  } catch (error) {
    if (!lacksWhatTheProgramAdds(error)) return wordsFor(error);
  }
  // Then all that can be checked without it.
  for (const name of tablesOf(database)) {
    try {
      const damage = check(quoted(name));
      if (damage !== undefined) return damage;
    } catch (error) {
      if (!lacksWhatTheProgramAdds(error)) return wordsFor(error);
    }
  }
  return undefined;
}

/** An index may need functions or an order of text that only the program has whose database it is. */
function lacksWhatTheProgramAdds(error: unknown): boolean {
  return (
    error instanceof Error &&
    (('errcode' in error && error.errcode === MISSING_COLLATION) || /(?:unknown|no such) function/.test(error.message))
  );
}

/** Tables with rows of their own: no view, and no virtual table, whose module may be missing here. */
function tablesOf(database: DatabaseSync): string[] {
  const tables = database.prepare(
    String.raw`SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`,
  );
  return tables
    .all()
    .map(({ name }) => textOf(name))
    .filter((name) => name.length <= TABLE_NAME_MAX_CHARS);
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

const textOf = (value: SQLOutputValue | undefined): string => (typeof value === 'string' ? value : '');

function numberOf(database: DatabaseSync, query: string): number {
  const [value] = Object.values(database.prepare(query).get() ?? {});
  if (typeof value !== 'number') throw new Error('SQLite gave no number');
  return value;
}

type How = 'mode=ro' | 'mode=rw' | 'immutable=1';

function open(path: string, how: How): DatabaseSync {
  return new Database(uriOf(path, how), { readOnly: how !== 'mode=rw', timeout: BUSY_MS });
}

/** So a path may have any bytes. */
function uriOf(path: string, how: How): string {
  return `file://${fs(path).toString('hex').replace(/../g, '%$&').replaceAll('%2f', '/')}?${how}`;
}

const fs = (path: string): Buffer => Buffer.from(path, 'latin1');

function exists(path: string): boolean {
  const fd = openIfThere(path);
  if (fd !== undefined) closeSync(fd);
  return fd !== undefined;
}

function isWal(path: string): boolean {
  const fd = openSource(path);
  try {
    return saysWal(fd);
  } finally {
    closeSync(fd);
  }
}

/** Whether the header says that the database is in WAL mode. */
function saysWal(fd: number): boolean {
  const header = Buffer.alloc(20);
  return readSync(fd, header, 0, header.length, 0) === header.length && header[18] === 2;
}

/** Whether a transaction has begun, by a program that may still run or not. (A journal that is kept when it is done has zeros for a head.) */
function hasJournal(path: string): boolean {
  const fd = openIfThere(`${path}-journal`);
  if (fd === undefined) return false;
  try {
    const head = Buffer.alloc(JOURNAL_HEAD.length);
    return readSync(fd, head) === head.length && head.equals(JOURNAL_HEAD);
  } finally {
    closeSync(fd);
  }
}

/** https://www.sqlite.org/fileformat2.html#the_rollback_journal */
const JOURNAL_HEAD = Buffer.from('d9d505f920a163d7', 'hex');

const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** A new, empty file in place of what an earlier try left. */
function fresh(path: string): number {
  for (const suffix of ['', '-wal', '-shm', '-journal']) {
    const old = fs(path + suffix);
    if (lstatSync(old, { throwIfNoEntry: false })) unlinkSync(old);
  }
  return openSync(fs(path), 'wx', 0o600);
}

/** Nothing where there is nothing. */
function copyFile(from: string, to: string): void {
  const source = openIfThere(from);
  if (source === undefined) return;
  try {
    closeSync(fresh(to));
    copyBytes(source, to, Infinity);
  } finally {
    closeSync(source);
  }
}

/** The first `length` bytes of an open file, or all where it has fewer, into one that is there. */
function copyBytes(source: number, to: string, length: number): void {
  const target = openSync(fs(to), 'r+');
  try {
    for (let at = 0; at < length;) {
      const read = readSync(source, piece, 0, Math.min(piece.length, length - at), at);
      if (read === 0) return;
      for (let done = 0; done < read;) done += writeSync(target, piece, done, read - done);
      at += read;
    }
  } finally {
    closeSync(target);
  }
}

function isSame(one: string, other: string): boolean {
  const [a, b] = [openIfThere(one), openIfThere(other)];
  try {
    if (a === undefined || b === undefined) return a === b;
    if (fstatSync(a).size !== fstatSync(b).size) return false;
    const [x, y] = [Buffer.allocUnsafe(PIECE_BYTES), Buffer.allocUnsafe(PIECE_BYTES)];
    for (;;) {
      const length = readSync(a, x);
      if (length !== readSync(b, y, 0, Math.max(length, 1), null)) return false;
      if (length === 0) return true;
      if (!x.subarray(0, length).equals(y.subarray(0, length))) return false;
    }
  } finally {
    for (const fd of [a, b]) if (fd !== undefined) closeSync(fd);
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSource(path);
  } catch (error) {
    if (isGone(error) || systemErrorCode(error) === 'ENAMETOOLONG') return undefined;
    throw error;
  }
}

/** 0 for what is no error of SQLite. */
function sqliteCode(error: unknown): number {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & 0xff : 0;
}

function wordsFor(error: unknown): string {
  switch (sqliteCode(error)) {
    case CODES.busy:
    case CODES.locked:
      return 'a program holds it locked';
    case CODES.full:
      return 'no space is left for its copy in the cache folder';
    default:
      return reasonOf(error);
  }
}
