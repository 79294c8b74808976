/** Databases through whole backups and restores. */
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { FileEntry } from '../../src/entry.ts';
import { rawFromText, type RawPath } from '../../src/raw-path.ts';
import { checkDatabases, DatabaseChecks } from '../../src/operations/restoring/check-databases.ts';
import { restore } from '../../src/operations/restore.ts';
import { DatabaseSaver } from '../../src/operations/saving/save-database.ts';
import type { ProgressEvent } from '../../src/progress.ts';
import { canHold } from '../../src/state/held-folder.ts';
import { scan, type ScannedFile } from '../../src/state/scan.ts';
import { absoluteIn } from '../../src/state/tree-path.ts';
import { clearFlags, hasTool, isRoot } from '../state/tools.ts';
import { inventory, removeFolder } from '../state/trees.ts';
import { makeAgent, type TestAgent } from './support.ts';

/** A database in WAL mode that stays open, so that its latest commits are in `-wal` alone. */
function openLive(path: string): DatabaseSync {
  const database = new DatabaseSync(path);
  database.exec('PRAGMA journal_mode=wal; CREATE TABLE t(n, filling); INSERT INTO t VALUES (1, 0)');
  return database;
}

const rowsIn = (path: string) => {
  const database = new DatabaseSync(`file://${path}?immutable=1`, { readOnly: true });
  const [row] = database.prepare('SELECT count(*) AS n FROM t').all();
  database.close();
  return row?.['n'];
};

async function entriesOf(agent: TestAgent): Promise<Map<string, FileEntry>> {
  await using repository = await agent.open();
  const { index } = await repository.loadIndex();
  const entries = new Map<string, FileEntry>();
  const snapshot = await repository.findSnapshot('latest');
  for await (const entry of repository.entries(snapshot, repository.reader(index)))
    if (entry.type === 'file') entries.set(entry.path, entry);
  return entries;
}

test('a live database stands in the snapshot as one file, with its rows counted and without what lies beside it', async () => {
  await using agent = await makeAgent();
  using live = openLive(join(agent.state, 'memory.db'));
  writeFileSync(join(agent.state, 'memory.db-notes'), 'is none of its own');
  mkdirSync(join(agent.state, 'memory.db-x'));
  writeFileSync(join(agent.state, 'other-wal'), 'lies beside no database');
  chmodSync(join(agent.state, 'memory.db'), 0o640);
  live.exec('INSERT INTO t VALUES (2, 0)');
  const times = statSync(join(agent.state, 'memory.db'), { bigint: true });
  expect(readdirSync(agent.state)).toContain('memory.db-wal');

  expect(await agent.backup()).toMatchObject({ complete: true, warnings: [], files: { total: 3 } });
  const entries = await entriesOf(agent);
  expect([...entries.keys()]).toEqual(['memory.db', 'memory.db-notes', 'other-wal']);
  expect(entries.get('memory.db')).toMatchObject({ mode: 0o640, mtimeNs: times.mtimeNs, sqlite: { rows: { t: 2 } } });
  expect(
    readdirSync(agent.folders.cache).filter((name) => !/^(manifest-|snapshots|history\.json$)/.test(name)),
  ).toEqual([]);

  const target = join(agent.folder, 'out');
  expect(await agent.restore(target)).toMatchObject({ complete: true, warnings: [], files: 3 });
  expect(readdirSync(target)).toEqual(['memory.db', 'memory.db-notes', 'memory.db-x', 'other-wal']);
  expect(rowsIn(join(target, 'memory.db'))).toBe(2);
  const restored = statSync(join(target, 'memory.db'), { bigint: true });
  expect({ mode: restored.mode, mtimeNs: restored.mtimeNs }).toEqual({ mode: times.mode, mtimeNs: times.mtimeNs });
});

test('a database is opened again when it or its log has changed, and only then', async () => {
  await using agent = await makeAgent({ fill: (state) => writeFileSync(join(state, 'plain'), 'x') });
  using live = openLive(join(agent.state, 'live.db'));
  const other = openLive(join(agent.state, 'closed.db'));
  other.close();
  await agent.backup();
  const unchanged = await agent.backup();
  expect(unchanged).toMatchObject({ complete: true, bytes: { read: 0, added: 0 }, files: { total: 3, unmodified: 3 } });
  expect((await entriesOf(agent)).has('live.db-wal')).toBe(false);

  live.exec('INSERT INTO t VALUES (2, 0)');
  expect(await agent.backup()).toMatchObject({ complete: true, files: { changed: 1, unmodified: 2 } });
  expect((await entriesOf(agent)).get('live.db')?.sqlite).toEqual({ rows: { t: 2 } });
});

test('of a database in which one row has changed, less than one hundredth is stored anew', async () => {
  await using agent = await makeAgent({ backends: ['a'] });
  using live = openLive(join(agent.state, 'db'));
  live.exec(`WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100000)
    INSERT INTO t SELECT x, printf('%0400d', x) FROM c; CREATE INDEX i ON t(n)`);
  const first = await agent.backup();
  live.exec(`UPDATE t SET filling = 'another' WHERE n = 50000`);
  const second = await agent.backup();
  expect(first.bytes.added).toBeGreaterThan(40_000_000);
  expect(second.bytes.added).toBeGreaterThan(0);
  expect(second.bytes.added / first.bytes.added).toBeLessThan(0.01);
});

test.each(['wal', 'delete'])('whole backups under a writer (%s) hold what was committed to a moment', async (mode) => {
  await using agent = await makeAgent({ backends: ['a'] });
  const program = fileURLToPath(new URL('../state/sqlite-writer.ts', import.meta.url));
  const writer = spawn(process.execPath, [program, join(agent.state, 'db'), mode], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = new Promise((done) => writer.once('exit', done));
  try {
    await new Promise((done) => writer.stdout.once('data', done));
    for (let i = 0; i < 2; i++) {
      expect(await agent.backup()).toMatchObject({ complete: true, warnings: [] });
      const target = join(agent.folder, `out-${i}`);
      expect(await agent.restore(target)).toMatchObject({ complete: true, warnings: [] });
      using copy = new DatabaseSync(join(target, 'db'));
      expect(copy.prepare('SELECT count(*) - max(n) AS one FROM one').get()).toEqual({ one: 0 });
      expect(
        copy.prepare('SELECT (SELECT max(n) FROM one) - max(n) AS two, count(*) - max(n) AS all_ FROM two').get(),
      ).toEqual({ two: 0, all_: 0 });
    }
  } finally {
    writer.stdin.end();
    await ended;
  }
});

test('a database that cannot be captured makes the backup incomplete, each time, and is never copied as it lies there', async () => {
  await using agent = await makeAgent({
    fill: (state) => {
      writeFileSync(join(state, 'torn.db'), Buffer.concat([Buffer.from('SQLite format 3\0'), Buffer.alloc(4080, 7)]));
      writeFileSync(join(state, 'encrypted.db'), Buffer.alloc(4096, 9));
      writeFileSync(join(state, 'empty.db'), '');
    },
  });
  for (let run = 0; run < 2; run++) {
    const result = await agent.backup();
    expect(result).toMatchObject({ complete: false, files: { total: 2 } });
    expect(result.warnings).toMatchObject([{ code: 'sqlite_not_captured', path: 'torn.db', incomplete: true }]);
    expect([...(await entriesOf(agent)).keys()]).toEqual(['empty.db', 'encrypted.db']);
  }
});

test('a damaged database is saved, said at each backup, and said again when it comes back', async () => {
  await using agent = await makeAgent();
  const live = openLive(join(agent.state, 'db'));
  live.exec('CREATE INDEX i ON t(n); PRAGMA journal_mode=delete');
  live.close();
  const bytes = readFileSync(join(agent.state, 'db'));
  writeFileSync(join(agent.state, 'db'), bytes.fill(0x55, 4096, 5000));
  for (let run = 0; run < 2; run++) {
    const result = await agent.backup();
    expect(result).toMatchObject({ complete: false, files: { total: 1 } });
    expect(result.warnings).toMatchObject([{ code: 'sqlite_damaged', path: 'db', incomplete: true }]);
  }
  const target = join(agent.folder, 'out');
  const result = await agent.restore(target);
  expect(result).toMatchObject({ complete: false, files: 1 });
  expect(result.warnings).toMatchObject([{ code: 'sqlite_damaged', path: 'db' }]);
  expect(inventory(target)).toEqual(inventory(agent.state));
  expect(readFileSync(join(target, 'db')).subarray(4096).equals(bytes.subarray(4096))).toBe(true);
  // It is what it should be, and yet not well.
  const kept = await agent.restore(target, { overwrite: 'changed' });
  expect(kept).toMatchObject({ complete: false, files: 0, changes: { keep: { paths: ['.', 'db'] } } });
  expect(kept.warnings).toMatchObject([{ code: 'sqlite_damaged', path: 'db' }]);
});

test('without its rows a restored database is no success', async () => {
  await using agent = await makeAgent();
  openLive(join(agent.state, 'db')).close();
  const at = (path: RawPath) => absoluteIn(rawFromText(agent.state), path);
  const entry = {
    path: 'db' as RawPath,
    mtimeNs: 1_000_000_000n,
    sqlite: { rows: { t: 1, gone: 3 } },
  } as unknown as FileEntry;
  expect(await checkDatabases(at, [entry], undefined)).toMatchObject([
    {
      code: 'sqlite_damaged',
      path: 'db',
      incomplete: true,
      message: expect.stringContaining('"gone" has no rows, and had 3'),
    },
  ]);
  entry.sqlite = { rows: { t: 2 } };
  expect(await checkDatabases(at, [entry], undefined)).toHaveLength(1);
  entry.sqlite = { rows: { t: 1 } };
  expect(await checkDatabases(at, [entry], undefined)).toEqual([]);
  expect(readdirSync(agent.state)).toEqual(['db']);
});

test('checks that are given up ask for no place any more, and have let go of the last', async () => {
  await using agent = await makeAgent();
  const asked: RawPath[] = [];
  const place = (path: RawPath) => {
    asked.push(path);
    return absoluteIn(rawFromText(agent.state), path);
  };
  const entries = ['a', 'b', 'c'].map((path) => {
    openLive(join(agent.state, path)).close();
    return { path, mtimeNs: 1_000_000_000n, sqlite: { rows: { t: 1 } } } as unknown as FileEntry;
  });
  {
    await using checks = new DatabaseChecks(place, undefined);
    for (const entry of entries) checks.begin(entry);
    await Promise.resolve();
    expect(asked).toEqual(['a']);
  }
  await new Promise(setImmediate);
  expect(asked).toEqual(['a']);
});

test.runIf(canHold())(
  'databases are checked where they were written, whatever takes the name of the target',
  async () => {
    await using agent = await makeAgent({ backends: ['a'] });
    for (const name of ['a.db', 'b.db']) openLive(join(agent.state, name)).close();
    writeFileSync(join(agent.state, 'c'), 'the rest');
    await agent.backup();
    const target = join(agent.folder, 'home/target');
    let isAway = false;
    const progress = ({ type }: ProgressEvent) => {
      if (type !== 'progress' || isAway || !existsSync(target)) return;
      isAway = true;
      renameSync(target, `${target}.aside`);
      mkdirSync(target);
      for (const name of ['a.db', 'b.db']) writeFileSync(join(target, name), 'SQLite format 3\0 of another');
    };
    const result = await restore(
      { backends: agent.addresses, secret: { kind: 'root', root: agent.root }, snapshot: 'latest', target, paths: [] },
      agent.seams({ progress }),
    );
    expect(isAway).toBe(true);
    expect(result).toMatchObject({ complete: true, warnings: [] });
    expect(inventory(`${target}.aside`)).toEqual(inventory(agent.state));
  },
);

describe('restored over', () => {
  /** An agent whose snapshot has three rows, and whose database has none any more: what took them away is in `-wal` alone. */
  async function withEmptied(mtime?: 'sooner'): Promise<{ agent: TestAgent; database: string } & Disposable> {
    const agent = await makeAgent({ backends: ['a'] });
    const database = join(agent.state, 'm.db');
    const live = openLive(database);
    live.exec('INSERT INTO t VALUES (2, 0), (3, 0); PRAGMA wal_checkpoint(TRUNCATE)');
    if (mtime) utimesSync(database, 1_600_000_000, 1_600_000_000);
    await agent.backup();
    live.exec('DELETE FROM t');
    const target = join(agent.folder, 'target');
    mkdirSync(target);
    for (const suffix of ['', '-wal'])
      cpSync(database + suffix, join(target, `m.db${suffix}`), { preserveTimestamps: true });
    live.close();
    return { agent, database: join(target, 'm.db'), [Symbol.dispose]: () => removeFolder(agent.folder) };
  }
  /** As a program that opens it sees it; the files stay as they are. */
  const seenIn = (path: string) => {
    const folder = mkdtempSync(join(path, '..', '..', 'seen-'));
    for (const suffix of ['', '-wal'])
      if (existsSync(path + suffix)) cpSync(path + suffix, join(folder, `db${suffix}`));
    using database = new DatabaseSync(join(folder, 'db'));
    return database.prepare('SELECT count(*) AS n FROM t').get()?.['n'];
  };
  const over = (agent: TestAgent, database: string, paths: string[] = []) =>
    agent.restore(join(database, '..'), { overwrite: 'changed', paths });

  test('a database whose commits are in its log alone is replaced, and its log goes with it', async () => {
    using it = await withEmptied();
    expect(seenIn(it.database)).toBe(0);
    writeFileSync(`${it.database}-notes`, 'none of its own');
    mkdirSync(`${it.database}-journal`);
    const result = await over(it.agent, it.database);
    expect(result).toMatchObject({ complete: true, warnings: [], changes: { replace: { paths: ['m.db'] } } });
    expect(readdirSync(join(it.database, '..'))).toEqual(['m.db', 'm.db-journal', 'm.db-notes']);
    expect(seenIn(it.database)).toBe(3);
    expect((await over(it.agent, it.database)).changes).toMatchObject({ keep: { paths: ['.', 'm.db'] } });
  });

  test('a database that lost its log is compared by its contents', async () => {
    using it = await withEmptied('sooner');
    rmSync(`${it.database}-wal`);
    const bytes = readFileSync(it.database);
    const time = statSync(it.database);
    const page = Buffer.from(bytes);
    writeFileSync(it.database, page.fill(0x55, 4096, 5000));
    utimesSync(it.database, time.atime, time.mtime);
    const result = await over(it.agent, it.database);
    expect(result).toMatchObject({ complete: true, changes: { replace: { paths: ['m.db'] } } });
    expect(seenIn(it.database)).toBe(3);
  });

  test.runIf(isRoot && hasTool('chattr'))('one that cannot be replaced keeps its log', async () => {
    using it = await withEmptied();
    execFileSync('chattr', ['+i', it.database]);
    try {
      const result = await over(it.agent, it.database);
      expect(result).toMatchObject({ complete: false, files: 0, bytes: 0, changes: { refuse: { paths: ['m.db'] } } });
      expect(result.warnings.map(({ code }) => code)).toEqual(['not_restored']);
      expect(readdirSync(join(it.database, '..'))).toEqual(['m.db', 'm.db-wal']);
      expect(seenIn(it.database)).toBe(0);
    } finally {
      clearFlags(it.agent.folder);
    }
  });
});

test('a cancelled backup leaves no copy of a database, and what a killed one left goes with the next', async () => {
  await using agent = await makeAgent();
  openLive(join(agent.state, 'db')).close();
  const copies = join(agent.folders.cache, 'database');
  const stop = new AbortController();
  const { signal } = stop;
  let seen: string[] = [];
  const progress = () => {
    seen = existsSync(copies) ? readdirSync(copies) : [];
    if (seen.includes('copy')) stop.abort();
  };
  await expect(agent.backup({}, { signal, progress })).rejects.toMatchObject({ code: 'interrupted' });
  expect(seen).toEqual(['copy']);
  expect(existsSync(copies)).toBe(false);

  mkdirSync(copies, { recursive: true });
  writeFileSync(join(copies, 'copy'), 'of a killed run');
  rmSync(join(agent.state, 'db'));
  await agent.backup();
  expect(existsSync(copies)).toBe(false);
});

test.each([
  ['excluded', { exclude: ['vault.db'] }],
  ['a secret that is left', { exclude: [], secret: { patterns: ['vault.db'], handling: 'leave' as const } }],
])('nothing of a database that is %s is in the snapshot, its log least of all', async (_, options) => {
  await using agent = await makeAgent();
  using live = openLive(join(agent.state, 'vault.db'));
  live.exec("INSERT INTO t VALUES (2, 'a token in the log')");
  expect(readdirSync(agent.state)).toContain('vault.db-wal');
  await agent.backup({ state: { root: agent.state, keepOut: [], ...options } });
  expect([...(await entriesOf(agent)).keys()]).toEqual([]);
});

test('nothing of a database that cannot be captured is in the snapshot: its log alone would harm another', async () => {
  await using agent = await makeAgent();
  writeFileSync(join(agent.state, 'torn.db'), Buffer.concat([Buffer.from('SQLite format 3\0'), Buffer.alloc(5000, 7)]));
  writeFileSync(join(agent.state, 'torn.db-wal'), 'a log');
  const { complete, warnings } = await agent.backup();
  expect([complete, warnings.map(({ code }) => code)]).toEqual([false, ['sqlite_not_captured']]);
  expect([...(await entriesOf(agent)).keys()]).toEqual([]);
});

test('of a database with two names each is what is found under it: its log goes by its name', async () => {
  await using agent = await makeAgent();
  using live = openLive(join(agent.state, 'state.db'));
  live.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  linkSync(join(agent.state, 'state.db'), join(agent.state, 'a-link.db'));
  for (let n = 2; n <= 51; n++) live.exec(`INSERT INTO t VALUES (${n}, 0)`);
  await agent.backup();
  const target = join(agent.folder, 'out');
  await agent.restore(target);
  expect(rowsIn(join(target, 'state.db'))).toBe(51);
});

test('what comes after a database is saved while that is captured, and stands after it all the same', async () => {
  await using agent = await makeAgent({ backends: ['a'] });
  const folders = ['a', 'b', 'c'].map((name) => join(agent.state, name));
  for (const folder of folders) {
    mkdirSync(folder);
    for (let i = 0; i < 4; i++) {
      openLive(join(folder, `m${i}.db`)).close();
      writeFileSync(join(folder, `m${i}.db-wal`), ''); // of no program
      writeFileSync(join(folder, `m${i}.md`), `note ${i}`);
      writeFileSync(join(folder, `m${i}.token`), `secret ${i}`);
    }
    writeFileSync(join(folder, 'm1.db'), 'SQLite format 3\0 it says, and is none');
  }
  const state = {
    root: agent.state,
    exclude: [],
    keepOut: [],
    secret: { patterns: ['*.token', 'b'], handling: 'apart' as const },
  };
  const first = await agent.backup({ state });
  expect(first.files).toMatchObject({ total: 33, new: 33 });
  expect(first.warnings.map(({ code, path }) => [code, path])).toEqual(
    ['a', 'b', 'c'].map((name) => ['sqlite_not_captured', `${name}/m1.db`]),
  );
  const names = ['m0.db', 'm0.md', 'm1.md', 'm2.db', 'm2.md', 'm3.db', 'm3.md'];
  expect([...(await entriesOf(agent)).keys()]).toEqual(
    ['a', 'c'].flatMap((name) => names.map((one) => `${name}/${one}`)),
  );
  const target = join(agent.folder, 'out');
  expect(await agent.restore(target, { withSecrets: true })).toMatchObject({ complete: true, warnings: [], files: 33 });
  for (const folder of ['a', 'b', 'c']) expect(rowsIn(join(target, folder, 'm3.db'))).toBe(1);

  const again = await agent.backup({ state });
  expect(again).toMatchObject({ bytes: { added: 0 }, files: { total: 33, unmodified: 33, removed: 0 } });
});

test('a database that is being captured is opened nowhere else, by none of its names: that would give up its locks', async () => {
  await using agent = await makeAgent();
  openLive(join(agent.state, 'm.db')).close();
  linkSync(join(agent.state, 'm.db'), join(agent.state, 'other.db'));
  const items = [...scan(agent.state)].filter((item) => item.kind === 'file');
  const [item, other] = items as [ScannedFile, ScannedFile];
  await using databases = new DatabaseSaver(agent.state, agent.folders, [], undefined);
  const capture = databases.begin(item);
  expect(databases.isCapturing(other)).toBe(true);
  expect(databases.isPartOfOne('m.db-wal' as RawPath)).toBe(true);
  const isPart = databases.isPartOfOne('other.db-wal' as RawPath);
  expect(capture.isReady).toBe(false);
  expect(await isPart).toBe(true);
  expect(capture.isReady).toBe(true);
  databases.release(capture);
  expect(databases.isCapturing(other)).toBe(false);
});
