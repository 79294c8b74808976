/** `diff`: what is told between snapshots, against the live tree, and when something cannot be read. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { diff, type DiffOptions, type DiffResult } from '../../src/operations/diff.ts';
import { takeLock } from '../../src/operations/host/lock.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { contentOf, makeAgent, packKeysOf, storeOf, type TestAgent } from './support.ts';

let agent: TestAgent;
const at = (...names: string[]) => join(agent.state, ...names);
const put = (name: string, content: string | Uint8Array) => writeFileSync(at(name), content);
const noise = seededRandom('diff').bytes(600_000);
const ids: string[] = [];

/** In short: `changed notes.md content,size,mtime`. */
const short = ({ changes }: DiffResult) =>
  changes.map(({ kind, path, what, oldPath }) =>
    [kind, oldPath === undefined ? path : `${oldPath} -> ${path}`, what.join()].filter(Boolean).join(' '),
  );
const compare = (over: Partial<DiffOptions> = {}, of = agent) =>
  diff(
    {
      backends: of.addresses,
      secret: { kind: 'root', root: of.root },
      from: 'latest',
      to: { root: of.state, exclude: [], keepOut: [] },
      foldersOf: () => of.folders,
      ...over,
    },
    of.seams(),
  );

beforeAll(async () => {
  agent = await makeAgent({
    fill: (state) => {
      for (const name of ['memory', 'old']) mkdirSync(join(state, name));
      writeFileSync(join(state, 'memory', 'notes.md'), 'one\ntwo\nthree\n');
      writeFileSync(join(state, 'same'), 'same');
      writeFileSync(join(state, 'touched'), 'touched');
      writeFileSync(join(state, 'mode'), 'mode');
      writeFileSync(join(state, 'big'), noise);
      writeFileSync(join(state, 'empty'), '');
      writeFileSync(join(state, 'old', 'gone'), 'gone');
      symlinkSync('same', join(state, 'link'));
      for (const name of ['touched', 'mode']) utimesSync(join(state, name), 1_700_000_000, 1_700_000_000);
    },
  });
  ids.push((await agent.backup()).snapshot.id);
  put('memory/notes.md', 'one\n2\nthree\n');
  utimesSync(at('touched'), 1_700_000_001, 1_700_000_001);
  chmodSync(at('mode'), 0o640);
  renameSync(at('big'), at('memory', 'moved'));
  rmSync(at('old'), { recursive: true });
  rmSync(at('link'));
  symlinkSync('touched', at('link'));
  rmSync(at('empty'));
  put('new-empty', '');
  put('new', 'new\n');
});
afterAll(() => agent[Symbol.asyncDispose]());

const EXPECTED = [
  'removed empty',
  'changed link target,mtime',
  'renamed big -> memory/moved',
  'changed memory/notes.md content,size,mtime',
  'changed mode mode',
  'added new',
  'added new-empty',
  'removed old',
  'removed old/gone',
  'changed touched mtime',
];

describe('against the live tree', () => {
  it('tells each kind of change, and folders only when more than their time changed', async () => {
    const result = await compare();
    expect(short(result)).toEqual(EXPECTED);
    expect(result).toMatchObject({
      complete: true,
      warnings: [],
      from: { kind: 'snapshot', id: ids[0] },
      to: { kind: 'live', root: agent.state },
      summary: { added: 2, removed: 3, changed: 4, renamed: 1, unchanged: 3, bytes: { added: 4, removed: 6 } },
    });
    const [link] = result.changes.filter(({ path }) => path === 'link');
    expect(link).toMatchObject({ before: { target: 'same' }, after: { target: 'touched' } });
  });

  it('takes a file whose size and time are what they were for unchanged, and reads one that was only touched', async () => {
    const text = await compare({ path: 'touched', text: true });
    expect(short(text)).toEqual(['changed touched mtime']);
    expect(text.changes[0]).not.toHaveProperty('text');
    put('touched', 'TOUCHED');
    expect(short(await compare({ path: 'touched' }))).toEqual(['changed touched content,mtime']);
    utimesSync(at('touched'), 1_700_000_000, 1_700_000_000);
    expect(short(await compare({ path: 'touched' }))).toEqual([]);
    put('touched', 'touched');
    utimesSync(at('touched'), 1_700_000_001, 1_700_000_001);
  });

  it('leaves out what the config leaves out, and what it keeps apart', async () => {
    const to = { root: agent.state, exclude: ['new*'], keepOut: [at('mode')] };
    const result = await compare({ to });
    expect(short(result)).toContain('removed mode');
    expect(short(result).filter((line) => line.includes('new'))).toEqual([]);
  });

  it('shows text line by line, and says where there is none', async () => {
    put('binary', Uint8Array.of(0, 1, 2));
    try {
      const { changes } = await compare({ text: true });
      const of = (path: string) => changes.find((change) => change.path === path);
      expect(of('memory/notes.md')?.text).toBe(
        '--- a/memory/notes.md\n+++ b/memory/notes.md\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n',
      );
      expect(of('new')?.text).toBe('--- /dev/null\n+++ b/new\n@@ -0,0 +1,1 @@\n+new\n');
      expect(of('old/gone')?.text).toContain('\n-gone\n\\ No newline at end of file\n');
      expect(of('binary')?.noText).toBe('the file is no text');
      expect(of('memory/moved')).not.toHaveProperty('text');
    } finally {
      rmSync(at('binary'));
    }
  });
});

describe('between two snapshots', () => {
  beforeAll(async () => {
    ids.push((await agent.backup()).snapshot.id);
  });

  it('tells the same as against the tree that the second one is of, and nothing against that tree', async () => {
    expect(short(await compare({ from: ids[0] ?? '', to: ids[1] ?? '' }))).toEqual(EXPECTED);
    const same = await compare();
    expect(same).toMatchObject({ changes: [], complete: true, summary: { added: 0, changed: 0 } });
  });

  it('reads no content for it', async () => {
    const data = new Set(await packKeysOf(agent, 'data'));
    const read: string[] = [];
    for (const name of ['a', 'b']) {
      const store = storeOf(agent, name);
      const get = store.get.bind(store);
      store.get = (key, options) => {
        read.push(key);
        return get(key, options);
      };
    }
    await compare({ from: ids[0] ?? '', to: 'latest' });
    expect(read.some((key) => key.startsWith('packs/'))).toBe(true);
    expect(read.filter((key) => data.has(key))).toEqual([]);
  });

  it('turns around: what was added is removed', async () => {
    const { summary } = await compare({ from: ids[1] ?? '', to: ids[0] ?? '' });
    expect(summary).toMatchObject({ added: 3, removed: 2, changed: 4, renamed: 1, bytes: { added: 6, removed: 4 } });
  });

  it('with a path, compares what lies there; a path that neither side has is an error', async () => {
    const within = await compare({ from: ids[0] ?? '', to: 'latest', path: './memory/' });
    expect(short(within)).toEqual(['added memory/moved', 'changed memory/notes.md content,size,mtime']);
    expect((await failure(() => compare({ path: 'memry' }), 'not_found')).message).toContain('memry');
    await failure(() => compare({ path: '../etc' }), 'usage');
  });

  it('needs the secret that restores', async () => {
    const secret = { kind: 'identities', identities: [agent.writerKey.ageIdentity] } as const;
    await failure(() => compare({ secret }), 'wrong_key');
  });

  it('says that it is incomplete when a file cannot be read for the text', async () => {
    const damaged = new Set(await packKeysOf(agent, 'data'));
    const whole = new Map<string, Uint8Array>();
    for (const name of ['a', 'b']) {
      const { inner } = storeOf(agent, name);
      for (const [key, bytes] of await contentOf(inner)) {
        if (!damaged.has(key)) continue;
        whole.set(`${name} ${key}`, bytes);
        await inner.delete(key);
      }
    }
    try {
      const result = await compare({ from: ids[0] ?? '', to: 'latest', text: true });
      expect(short(result)).toEqual(EXPECTED);
      expect(result.complete).toBe(false);
      expect(result.warnings.map(({ code }) => code)).toContain('lost');
    } finally {
      for (const [place, bytes] of whole) {
        const [name = '', key = ''] = place.split(' ');
        await storeOf(agent, name).inner.put(key, bytes);
      }
    }
  });
});

it('compares up to where a list of files breaks off, and says that it is incomplete', async () => {
  const many = await makeAgent({
    seed: 'many',
    fill: (state) => {
      for (let i = 0; i < 1500; i++) writeFileSync(join(state, `file ${String(i).padStart(4, '0')}`), `${i}`);
    },
  });
  try {
    const first = (await many.backup()).snapshot.id;
    writeFileSync(join(many.state, 'file 0000 more'), 'early');
    for (let i = 1000; i < 1500; i++) writeFileSync(join(many.state, `file ${i}`), `changed ${i}`);
    await many.backup();
    const kept = new Set(await packKeysOf(many, 'manifest'));
    for (let i = 1400; i < 1500; i++) writeFileSync(join(many.state, `file ${i}`), `and again ${i}`);
    const second = (await many.backup()).snapshot.id;
    const [last = '', ...others] = (await packKeysOf(many, 'manifest')).filter((key) => !kept.has(key));
    expect(others).toEqual([]);
    for (const name of ['a', 'b']) await storeOf(many, name).inner.delete(last);
    const result = await diff(
      {
        backends: many.addresses,
        secret: { kind: 'root', root: many.root },
        from: first,
        to: second,
        foldersOf: () => many.folders,
      },
      many.seams(),
    );
    expect(result.complete).toBe(false);
    expect(result.warnings.find(({ code }) => code === 'snapshot_damaged')?.message).toMatch(/cannot be read after/);
    expect(short(result)[0]).toBe('added file 0000 more');
    expect(result.summary.removed).toBe(0);
    expect(result.summary.changed).toBeLessThan(500);
  } finally {
    await many[Symbol.asyncDispose]();
  }
});

it('tells nothing of a live tree that is as it was saved: databases in use, attributes, secrets, FIFOs', async () => {
  await using own = await makeAgent();
  const place = (name: string) => join(own.state, name);
  using database = new DatabaseSync(place('memory.db'));
  database.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (n); INSERT INTO t VALUES (1)');
  writeFileSync(place('note.md'), 'note');
  writeFileSync(place('token.pem'), 'secret');
  spawnSync('setfattr', ['-n', 'user.origin', '-v', 'here', place('note.md')]);
  spawnSync('mkfifo', [place('pipe')]);
  const secret = { patterns: ['*.pem'], handling: 'apart' } as const;
  const state = { root: own.state, exclude: [], keepOut: [], special: 'keep', secret } as const;
  await own.backup({ state });
  const now = () => compare({ to: state }, own);
  expect(await now()).toMatchObject({ changes: [], complete: true, warnings: [] });
  writeFileSync(place('token.pem'), 'another');
  writeFileSync(place('note.md'), 'another');
  expect(short(await now())).toEqual(['changed note.md content,size,mtime']);
});

describe('a database of the live tree', () => {
  const withDatabase = async (work: (own: TestAgent, database: DatabaseSync) => Promise<void>) => {
    await using own = await makeAgent({ seed: 'database' });
    using database = new DatabaseSync(join(own.state, 'memory.db'));
    database.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (n)');
    const insert = database.prepare('INSERT INTO t VALUES (?)');
    for (let i = 0; i < 100; i++) insert.run(`memory ${i}`.padEnd(1000));
    await own.backup();
    await work(own, database);
    expect(existsSync(join(own.folders.cache, 'diff', 'database'))).toBe(false);
  };

  it('has changed when a commit lies beside it only, with the size that its copy has', () =>
    withDatabase(async (own, database) => {
      const old = statSync(join(own.state, 'memory.db'), { bigint: true });
      database.exec('DELETE FROM t');
      expect(statSync(join(own.state, 'memory.db'), { bigint: true }).mtimeNs).toBe(old.mtimeNs);
      const deleted = await compare({}, own);
      expect(short(deleted)).toEqual(['changed memory.db content']);
      expect(deleted).toMatchObject({ complete: true, warnings: [], summary: { changed: 1 } });
      database.exec('VACUUM');
      const [change] = (await compare({}, own)).changes;
      expect(change?.what).toEqual(['content', 'size']);
      expect(change?.after?.size).toBeLessThan(change?.before?.size ?? 0);
    }));

  it('has not changed when only its log was written back', () =>
    withDatabase(async (own, database) => {
      database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
      expect(short(await compare({}, own))).toEqual(['changed memory.db mtime']);
    }));

  it('is not compared, which is told, when it cannot be captured', () =>
    withDatabase(async (own, database) => {
      database.exec('DELETE FROM t');
      writeFileSync(join(own.folder, 'no folder'), '');
      const foldersOf = () => ({ ...own.folders, cache: join(own.folder, 'no folder') });
      const result = await compare({ foldersOf }, own);
      expect(result).toMatchObject({ complete: false, warnings: [{ code: 'sqlite_not_captured', path: 'memory.db' }] });
      expect(result.warnings[0]?.message).toContain('its content is not compared');
    }));

  it('that is none any more is compared as the file that it is', () =>
    withDatabase(async (own, database) => {
      database.close();
      writeFileSync(join(own.state, 'memory.db'), 'overwritten');
      expect(short(await compare({}, own))).toEqual(['changed memory.db content,size,mtime']);
    }));

  it('is copied by one diff at a time', () =>
    withDatabase(async (own) => {
      using _lock = takeLock(join(own.folders.cache, 'diff'), 'diff');
      await failure(() => compare({}, own), 'busy');
    }));
});

describe('what is kept apart', () => {
  const secret = { patterns: ['*.pem', '/keys/'], handling: 'apart' } as const;
  const withSecrets = async (
    work: (own: TestAgent, made: string[], to: Exclude<DiffOptions['to'], string>) => Promise<void>,
  ) => {
    await using own = await makeAgent({
      seed: 'apart',
      fill: (state) => {
        for (const name of ['deep', 'keys', 'other']) mkdirSync(join(state, name));
        writeFileSync(join(state, 'note.md'), 'note');
      },
    });
    const place = (name: string) => join(own.state, name);
    const state = { root: own.state, exclude: [], keepOut: [], secret };
    const made = [(await own.backup({ state })).snapshot.id as string];
    for (const name of ['keys/one', 'deep/token.pem']) writeFileSync(place(name), 'secret');
    made.push((await own.backup({ state })).snapshot.id);
    writeFileSync(place('deep/token.pem'), 'another secret');
    renameSync(place('keys/one'), place('keys/two'));
    writeFileSync(place('other/more.pem'), 'more');
    writeFileSync(place('note.md'), 'another note');
    await work(own, made, state);
  };
  const [EARLIER, NOW] = [
    ['added deep/token.pem', 'added keys/one'],
    ['changed deep/token.pem content,size,mtime', 'renamed keys/one -> keys/two', 'added other/more.pem'],
  ];

  it('is compared instead of the state when it is asked for, and counted on each side either way', () =>
    withSecrets(async (own, made, to) => {
      const [from = '', second = ''] = made;
      const earlier = await compare({ from, to: second, secrets: true }, own);
      expect(short(earlier)).toEqual(EARLIER);
      expect(earlier).toMatchObject({ compared: 'secrets', from: { secrets: 0 }, to: { secrets: 2 } });
      const now = await compare({ to, secrets: true }, own);
      expect(short(now)).toEqual(NOW);
      expect(now).toMatchObject({ from: { secrets: 2 }, to: { kind: 'live', secrets: 3 } });
      made.push((await own.backup({ state: to })).snapshot.id);
      expect(short(await compare({ from: second, to: made[2] ?? '', secrets: true }, own))).toEqual(NOW);
      const state = await compare({ from: second, to: made[2] ?? '' }, own);
      expect(short(state)).toEqual(['changed note.md content,size,mtime']);
      expect(state).toMatchObject({ compared: 'state', from: { secrets: 2 }, to: { secrets: 3 } });
      expect(short(await compare({ to, secrets: true }, own))).toEqual([]);
    }));

  it('is not shown line by line', () =>
    withSecrets(async (own, _made, to) => {
      const { hint } = await failure(() => compare({ to, secrets: true, text: true }, own), 'usage');
      expect(hint).toContain('cat --secrets');
      const text = JSON.stringify(await compare({ to, text: true }, own));
      expect(text).toContain('another note');
      expect(text).not.toContain('another secret');
    }));

  it('may be nothing at all', async () => {
    await using own = await makeAgent();
    await own.backup();
    expect(await compare({ secrets: true }, own)).toMatchObject({ changes: [], complete: true, to: { secrets: 0 } });
  });
});
