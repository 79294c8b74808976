/** Databases are captured as they are at one moment, whatever others do to them, and nothing is changed by it. */
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  cpSync,
  mkdirSync,
  readdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { rawFromBytes, rawFromText, rawToFs } from '../../src/raw-path.ts';
import { canHold, HeldFolder, isOpenTwice } from '../../src/state/held-folder.ts';
import { isSqlite, Sqlite } from '../../src/state/sqlite.ts';
import { absoluteIn } from '../../src/state/tree-path.ts';
import { sha256Hex } from '../../src/crypto/hash.ts';
import { removeFolder, temporaryFolder } from './trees.ts';

let folder: string;
let sqlite: Sqlite;
beforeEach(() => {
  folder = temporaryFolder();
  mkdirSync(join(folder, 'state'));
  sqlite = new Sqlite(join(folder, 'copies'));
});
afterEach(async () => {
  await sqlite[Symbol.asyncDispose]();
  removeFolder(folder);
});

const at = (name: string) => join(folder, 'state', name);
const make = (path: string, sql: string) => {
  const database = new DatabaseSync(path);
  database.exec(sql);
  return database;
};
/** Captures the database at `path`, which must succeed. */
async function capture(path: string | Uint8Array) {
  const captured = await sqlite.capture(typeof path === 'string' ? rawFromText(path) : rawFromBytes(path));
  if ('failure' in captured) throw new Error(captured.failure);
  const copy = join(captured.folder, captured.copy);
  return { ...captured, path: copy };
}
/** How many numbers a writer has committed; both tables must have each from 1 on, once. */
function commitsIn(copy: string): number {
  const database = new DatabaseSync(`file://${copy}?immutable=1`, { readOnly: true });
  const [one, two] = ['one', 'two'].map((table) =>
    database
      .prepare(
        `SELECT count(*) AS rows, count(DISTINCT n) AS numbers, min(n) AS first, max(n) AS last FROM ${table} NOT INDEXED`,
      )
      .get(),
  );
  database.close();
  const rows = Number(one?.['rows']);
  expect(one).toEqual({ rows, numbers: rows, first: 1, last: rows });
  expect(two).toEqual(one);
  return rows;
}
/** All that is there, with times and contents. */
const lookAt = () =>
  ['.', ...readdirSync(join(folder, 'state'))].map((name) => {
    const { mtimeNs, ctimeNs, size, mode, ino } = statSync(at(name), { bigint: true });
    return [name, mtimeNs, ctimeNs, size, mode, ino, name === '.' ? '' : sha256Hex(readFileSync(at(name)))];
  });

test('a database that nobody has open is captured byte for byte, also after its tables were changed', async () => {
  make(at('closed.db'), 'CREATE TABLE t (n); CREATE INDEX i ON t (n); INSERT INTO t VALUES (1)').close();
  for (const sql of ['UPDATE t SET n = 2', 'CREATE TABLE u (n)', 'VACUUM']) {
    make(at('closed.db'), sql).close();
    const { path } = await capture(at('closed.db'));
    expect(readFileSync(path).equals(readFileSync(at('closed.db'))), sql).toBe(true);
  }
});

describe('under a writer in another process', () => {
  let captures = 0;
  let commits = 0;
  afterAll(() => console.log(`${captures} captures of a database under a writer (${commits} commits): none torn`));

  test.each([
    ['wal', 80],
    ['delete', 60],
    ['truncate', 20],
    ['reopen', 40],
  ])('(%s) each capture has what was committed to a moment, and nothing after', async (mode, count) => {
    const writer = spawn(
      process.execPath,
      [fileURLToPath(new URL('sqlite-writer.ts', import.meta.url)), at('db'), mode],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const ended = new Promise((done) => writer.once('exit', done));
    try {
      await new Promise((done, fail) => {
        writer.stdout.once('data', done);
        writer.once('exit', fail);
      });
      let [first, last] = [0, 0];
      for (let i = 0; i < count; i++) {
        const { path, rows, damage } = await capture(at('db'));
        const now = commitsIn(path);
        expect(damage).toBeUndefined();
        expect(rows).toEqual({ one: now, two: now });
        expect(now).toBeGreaterThanOrEqual(last);
        first ||= now;
        last = now;
        captures++;
      }
      expect(last).toBeGreaterThan(first); // the writer did write
      commits += last;
    } finally {
      writer.stdin.end();
      await ended;
    }
  });
});

describe('a capture', () => {
  test('of a database that nobody has open leaves no trace in its folder', async () => {
    make(at('wal.db'), 'PRAGMA journal_mode=wal; CREATE TABLE t(n); INSERT INTO t VALUES (1)').close();
    make(at('plain.db'), 'CREATE TABLE t(n); INSERT INTO t VALUES (1)').close();
    expect(readdirSync(join(folder, 'state'))).toEqual(['plain.db', 'wal.db']);
    const before = lookAt();
    for (const name of ['wal.db', 'plain.db']) {
      const { path, rows } = await capture(at(name));
      expect(rows).toEqual({ t: 1 });
      expect(readFileSync(path).equals(readFileSync(at(name)))).toBe(true);
    }
    expect(lookAt()).toEqual(before);
  });

  test('of what a killed program left has all that it committed, and nothing that it did not', async () => {
    const killed = (sql: string, path: string) =>
      spawnSync(process.execPath, [
        '-e',
        `const {DatabaseSync} = require('node:sqlite'); new DatabaseSync(process.argv[1]).exec(process.argv[2]); process.kill(process.pid, 'SIGKILL')`,
        path,
        sql,
      ]);
    const fill = 'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 500)';
    killed(`PRAGMA journal_mode=wal; CREATE TABLE t(n); INSERT INTO t VALUES (1)`, at('wal.db'));
    killed(
      `PRAGMA cache_size=5; CREATE TABLE t(n, b); ${fill} INSERT INTO t SELECT 1, zeroblob(500) FROM c; BEGIN; UPDATE t SET n = 2, b = randomblob(500)`,
      at('hot.db'),
    );
    rmSync(at('wal.db-shm')); // as after the machine was restarted from a copy
    expect(readdirSync(join(folder, 'state'))).toEqual(['hot.db', 'hot.db-journal', 'wal.db', 'wal.db-wal']);
    const before = lookAt();
    const wal = await capture(at('wal.db'));
    expect(wal).toMatchObject({ rows: { t: 1 }, damage: undefined });
    const hot = await capture(at('hot.db'));
    expect(hot).toMatchObject({ rows: { t: 500 }, damage: undefined });
    const copy = new DatabaseSync(hot.path);
    expect(copy.prepare('SELECT DISTINCT n FROM t').all()).toEqual([{ n: 1 }]);
    copy.close();
    expect(lookAt()).toEqual(before);
  });

  test('does not delete the log of a program that has just been closed or is still open', async () => {
    const database = make(at('db'), 'PRAGMA journal_mode=wal; CREATE TABLE t(n); INSERT INTO t VALUES (1)');
    const wal = readFileSync(at('db-wal'));
    expect((await capture(at('db'))).rows).toEqual({ t: 1 });
    expect(readFileSync(at('db-wal')).equals(wal)).toBe(true);
    database.exec('INSERT INTO t VALUES (2)');
    expect((await capture(at('db'))).rows).toEqual({ t: 2 });
    database.close();
  });

  test('of a database in WAL mode that a program keeps for itself succeeds while that one is idle', async () => {
    const holder = make(
      at('db'),
      'PRAGMA locking_mode=exclusive; PRAGMA journal_mode=wal; CREATE TABLE t(n); INSERT INTO t VALUES (1)',
    );
    expect(readdirSync(join(folder, 'state'))).not.toContain('db-shm');
    expect((await capture(at('db'))).rows).toEqual({ t: 1 });
    holder.close();
  });

  test('is private, and gone in the end; what a killed run left is gone at the start', async () => {
    make(at('db'), 'CREATE TABLE t(n)').close();
    chmodSync(at('db'), 0o644);
    mkdirSync(join(folder, 'left'));
    writeFileSync(join(folder, 'left', 'copy'), 'of a killed run');
    const later = new Sqlite(join(folder, 'left'));
    expect(readdirSync(folder)).not.toContain('left');
    await later[Symbol.asyncDispose]();
    const { path } = await capture(at('db'));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(folder, 'copies')).mode & 0o777).toBe(0o700);
    await sqlite[Symbol.asyncDispose]();
    expect(readdirSync(folder)).toEqual(['state']);
  });

  test('takes any name that a file can have, of the database and of its tables', async () => {
    const name = Buffer.from('odd % ? # & \xff\n.db', 'latin1');
    make(
      at('db'),
      `PRAGMA journal_mode=wal; CREATE TABLE "__proto__"(n); CREATE TABLE "a""b;--"(n); INSERT INTO "__proto__" VALUES (1); CREATE VIEW v AS SELECT 1;
       CREATE VIRTUAL TABLE words USING fts5(text); CREATE TABLE sqliteish(n)`,
    ).close();
    const path = Buffer.concat([Buffer.from(`${folder}/state/`), name]);
    cpSync(at('db'), at('other'));
    spawnSync('mv', [at('db'), '-t', folder]);
    writeFileSync(path, readFileSync(join(folder, 'db')));
    const { rows } = await capture(path);
    expect(Object.entries(rows).filter(([table]) => !table.startsWith('words'))).toEqual([
      ['__proto__', 1],
      ['a"b;--', 0],
      ['sqliteish', 0],
    ]);
    expect(statSync(rawToFs(rawFromBytes(path))).isFile()).toBe(true);
  });

  test('counts the rows of two hundred tables and no more', async () => {
    make(
      at('db'),
      `BEGIN; ${Array.from({ length: 250 }, (_, i) => `CREATE TABLE t${i}(n)`).join(';')}; COMMIT`,
    ).close();
    expect(Object.keys((await capture(at('db'))).rows)).toHaveLength(200);
  });

  test('needs nothing that only the program has whose database it is', async () => {
    const database = new DatabaseSync(at('db'), { defensive: false });
    database.function('mine', { deterministic: true }, (x) => x);
    database.exec(
      `CREATE TABLE t(n CHECK (mine(n) > 0)); CREATE INDEX i ON t(mine(n)); INSERT INTO t VALUES (1); CREATE TABLE other(n);
       PRAGMA writable_schema=1; INSERT INTO sqlite_schema VALUES ('table', 'vectors', 'vectors', 0, 'CREATE VIRTUAL TABLE vectors USING vec0(a)')`,
    );
    database.close();
    expect(await capture(at('db'))).toMatchObject({ rows: { t: 1, other: 0 }, damage: undefined });
  });

  test('of a damaged database tells the damage; of what only looks like one, that it cannot be had', async () => {
    make(
      at('db'),
      `CREATE TABLE t(n); CREATE INDEX i ON t(n);
       WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 5000) INSERT INTO t SELECT x FROM c`,
    ).close();
    const bytes = readFileSync(at('db'));
    writeFileSync(at('hit'), Buffer.from(bytes).fill(0x55, 8192, 12288));
    expect((await capture(at('hit'))).damage).toMatch(/\w/);
    writeFileSync(at('cut'), bytes.subarray(0, bytes.length - 100));
    expect((await capture(at('cut'))).damage).toMatch(/\w/);
    for (const [name, content] of [
      ['head', bytes.subarray(0, 16)],
      ['noise', Buffer.from(bytes).fill(0x55, 16, 4096)],
    ] as const) {
      writeFileSync(at(name), content);
      expect(await sqlite.capture(rawFromText(at(name))), name).toMatchObject({ failure: expect.any(String) });
    }
    expect(await sqlite.capture(rawFromText(at('absent')))).toMatchObject({ failure: expect.any(String) });
  });

  test('ends when the run is cancelled', async () => {
    make(at('db'), 'CREATE TABLE t(n)').close();
    const stop = new AbortController();
    await using cancelled = new Sqlite(join(folder, 'cancelled'), stop.signal);
    const capturing = cancelled.capture(rawFromText(at('db')));
    stop.abort();
    await expect(capturing).rejects.toMatchObject({ code: 'interrupted' });
  });
});

describe('the thread that is left', () => {
  test('while it is still asked something gives the next no answers of that', async () => {
    make(at('old'), 'CREATE TABLE old(n)').close();
    make(at('new'), 'CREATE TABLE new(n)').close();
    for (let i = 0; i < 3; i++) {
      const left = new Sqlite(undefined);
      if (i > 0) await left.check(rawFromText(at('old')));
      void left.check(rawFromText(at('old')));
      await left[Symbol.asyncDispose]();
      await using next = new Sqlite(undefined);
      expect(await next.check(rawFromText(at('new')))).toEqual({ rows: { new: 0 }, damage: undefined });
    }
  });

  test('serves the next, also two at once, and keeps no process running', () => {
    make(at('db'), 'CREATE TABLE t(n); INSERT INTO t VALUES (1)').close();
    const script = join(folder, 'script.mjs');
    const text = `
      import { Sqlite } from ${JSON.stringify(new URL('../../src/state/sqlite.ts', import.meta.url).href)};
      const rows = async () => {
        await using sqlite = new Sqlite(undefined);
        return (await sqlite.check(process.argv[2])).rows.t;
      };
      console.log(await rows(), ...(await Promise.all([rows(), rows()])), await rows());`;
    writeFileSync(script, text);
    const how = { encoding: 'utf8', timeout: 60_000 } as const;
    const { stdout, stderr, status } = spawnSync(process.execPath, [script, at('db')], how);
    expect({ stdout, stderr, status }).toEqual({ stdout: '1 1 1 1\n', stderr: '', status: 0 });
  });
});

test('a check leaves nothing behind, and changes no time of the file but that of access', async () => {
  make(at('db'), 'PRAGMA journal_mode=wal; CREATE TABLE t(n); INSERT INTO t VALUES (1)').close();
  utimesSync(at('db'), 1, 1);
  const before = lookAt();
  expect(await sqlite.check(rawFromText(at('db')))).toEqual({ rows: { t: 1 }, damage: undefined });
  expect(lookAt()).toEqual(before);
  truncateSync(at('db'), 5000);
  expect(await sqlite.check(rawFromText(at('db')))).toMatchObject({ damage: expect.stringContaining('page') });
});

test.runIf(canHold())(
  'a check goes where a folder is held, whatever has taken its name, and through no link',
  async () => {
    make(at('db'), 'CREATE TABLE ours(n)').close();
    using held = HeldFolder.open(join(folder, 'state'), 'no-follow');
    renameSync(join(folder, 'state'), join(folder, 'aside'));
    mkdirSync(join(folder, 'state'));
    make(at('db'), 'CREATE TABLE theirs(n)').close();
    symlinkSync(at('db'), join(folder, 'aside/link'));
    spawnSync('mkfifo', [join(folder, 'aside/pipe')]);
    const check = (name: string) => sqlite.check(absoluteIn(held.path, rawFromText(name)));
    expect(await check('db')).toEqual({ rows: { ours: 0 }, damage: undefined });
    for (const name of ['link', 'pipe', 'absent'])
      expect(await check(name), name).toEqual({ failure: expect.any(String) });
  },
);

test.runIf(canHold())('whether SQLite has the file that is meant is told by a second descriptor of it', () => {
  for (const name of ['one', 'other']) writeFileSync(at(name), '');
  const [one, other] = [openSync(at('one'), 'r'), openSync(at('other'), 'r')];
  expect(isOpenTwice(one)).toBe(false);
  const again = openSync(at('one'), 'r');
  expect([one, other, again].map(isOpenTwice)).toEqual([true, false, true]);
  for (const fd of [one, other, again]) closeSync(fd);
});

test('a database is known by its header alone', () => {
  expect(isSqlite(Buffer.from('SQLite format 3\0and more'))).toBe(true);
  for (const other of ['', 'SQLite format 3', 'SQLite format 4\0', 'sqlite format 3\0'])
    expect(isSqlite(Buffer.from(other)), other).toBe(false);
});
