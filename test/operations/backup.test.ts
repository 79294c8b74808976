import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import type { BackupResult } from '../../src/operations/backup.ts';
import { failure, seededNoise } from '../crypto/support.ts';
import { contentDifference, makeNastyTree } from '../state/trees.ts';
import { contentOf, expectSameTree, makeAgent, packKeysOf, type TestAgent } from './support.ts';

const noise = seededNoise('backup');
const countsOf = ({ files, bytes }: BackupResult) => ({ ...files, read: bytes.read, added: bytes.added });

/** Ten files of 1,000 bytes each, and what lies around them. */
function fillTen(state: string): void {
  mkdirSync(join(state, 'folder'));
  for (let i = 0; i < 10; i++) writeFileSync(join(state, i % 2 ? 'folder' : '.', `file-${i}`), noise.bytes(1000));
  symlinkSync('file-0', join(state, 'link'));
}

const keysOf = async (agent: TestAgent, name = 'a') => {
  const store = agent.stores.get(name);
  return store ? [...(await contentOf(store.inner)).keys()] : [];
};

describe('a backup', () => {
  test('of a real tree to two folders comes back whole; the backends hold the same bytes', async () => {
    await using agent = await makeAgent({ storage: 'folders', fill: makeNastyTree });
    const first = await agent.backup();
    expect(first).toMatchObject({ complete: true, warnings: [] });
    const target = join(agent.folder, 'out');
    expect(await agent.restore(target)).toMatchObject({ complete: true, warnings: [], lost: [] });
    expectSameTree(target, agent.state);

    writeFileSync(join(agent.state, 'added'), 'later');
    const second = await agent.backup();
    expect(second.files).toMatchObject({ new: 1, changed: 0, removed: 0 });
    expect(contentDifference(join(agent.folder, 'a'), join(agent.folder, 'b'))).toBe('');
    expect(readdirSync(join(agent.folder, 'a', 'tmp'))).toEqual([]);
    const both = [join(agent.folder, 'first'), join(agent.folder, 'second')] as const;
    await agent.restore(both[0], { snapshot: first.snapshot.id });
    await agent.restore(both[1], { snapshot: second.snapshot.id.slice(0, 8) });
    expectSameTree(both[0], target);
    expectSameTree(both[1], agent.state);
    expect(await agent.verify('chunks')).toMatchObject({ damaged: [], warnings: [], complete: true });
  });

  test('says what the snapshot is, and follows the one before', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    const first = await agent.backup({ tags: ['nightly'] });
    expect(first.snapshot).toMatchObject({ seq: 0, parent: null });
    expect(countsOf(first)).toMatchObject({ total: 10, new: 10, changed: 0, unmodified: 0, removed: 0, read: 10_000 });
    const second = await agent.backup();
    expect(second.snapshot).toMatchObject({ seq: 1, parent: first.snapshot.id });
    const repository = await agent.open();
    const { snapshots } = await repository.snapshots();
    expect(snapshots.map(({ id, backends }) => ({ id, backends }))).toEqual([
      { id: first.snapshot.id, backends: ['a', 'b'] },
      { id: second.snapshot.id, backends: ['a', 'b'] },
    ]);
    expect(snapshots[0]?.record).toMatchObject({
      tags: ['nightly'],
      host: 'test-host',
      tool: 'holdfast/test',
      config: 'agent: {handle: ada}\n',
      counts: { files: 10, folders: 2, symlinks: 1, bytes: 10_000 },
      manifest: { entries: 13 },
    });
  });

  test('with nothing changed reads nothing, and adds a snapshot and no more', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    await agent.backup();
    const before = await keysOf(agent);
    const second = await agent.backup();
    expect(countsOf(second)).toEqual({ total: 10, new: 0, changed: 0, unmodified: 10, removed: 0, read: 0, added: 0 });
    const added = (await keysOf(agent)).filter((key) => !before.includes(key));
    expect(added.map((key) => key.split('/')[0]).toSorted()).toEqual(['runs', 'snapshots']);
    expect(added.filter((key) => key.includes(second.snapshot.id))).toHaveLength(1);
  });

  test('of an empty state is a snapshot too', async () => {
    await using agent = await makeAgent();
    expect(await agent.backup()).toMatchObject({ files: { total: 0 }, complete: true });
    const target = join(agent.folder, 'out');
    expect(await agent.restore(target)).toMatchObject({ files: 0, bytes: 0, complete: true });
    expectSameTree(target, agent.state);
  });

  test('stores what is twice in the tree once', async () => {
    const same = noise.bytes(300_000);
    await using agent = await makeAgent({
      fill: (state) => {
        for (const name of ['one', 'two', 'three']) writeFileSync(join(state, name), same);
      },
    });
    const { bytes } = await agent.backup();
    expect(bytes.read).toBe(900_000);
    expect(bytes.added).toBeLessThan(310_000);
  });

  test('after a line was appended to a large file stores the end of it only', async () => {
    await using agent = await makeAgent({
      fill: (state) => writeFileSync(join(state, 'log'), noise.bytes(3 * 2 ** 20)),
    });
    await agent.backup();
    appendFileSync(join(agent.state, 'log'), 'one line more\n');
    const { bytes, files } = await agent.backup();
    expect(files).toMatchObject({ changed: 1 });
    expect(bytes.added).toBeLessThan(600_000);
    const target = join(agent.folder, 'out');
    await agent.restore(target);
    expectSameTree(target, agent.state);
  });

  test('never puts data and manifests into one pack', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    await agent.backup();
    expect(await packKeysOf(agent, 'data')).toHaveLength(1);
    expect(await packKeysOf(agent, 'manifest')).toHaveLength(1);
  });

  test('leaves out what is excluded', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    const state = { root: agent.state, exclude: ['file-*', '!file-4'], keepOut: [] };
    const { files, warnings, complete } = await agent.backup({ state });
    expect({ total: files.total, warnings, complete }).toEqual({ total: 1, warnings: [], complete: true });
  });

  test('takes neither keys nor backends along, even inside the state, and says so', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    mkdirSync(join(agent.state, 'keys'));
    writeFileSync(join(agent.state, 'keys', 'secret.key'), 'secret');
    const keepOut = [join(agent.state, 'keys', 'secret.key'), join(agent.state, 'folder')];
    const { files, warnings } = await agent.backup({ state: { root: agent.state, exclude: [], keepOut } });
    expect(files.total).toBe(5);
    expect(warnings.map(({ code, path }) => `${code} ${path}`)).toEqual([
      'kept_apart folder',
      'kept_apart keys/secret.key',
    ]);
  });

  test('of a folder that is not there changes nothing', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    const before = await keysOf(agent);
    renameSync(agent.state, `${agent.state}-away`);
    await failure(() => agent.backup(), 'source_unreadable');
    expect(await keysOf(agent)).toEqual(before);
    renameSync(`${agent.state}-away`, agent.state);
    expect((await agent.backup()).snapshot.seq).toBe(0);
  });

  test('that is cancelled leaves no snapshot, and nothing in the way of the next run', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    const stopping = new AbortController();
    const progress = () => stopping.abort();
    await failure(() => agent.backup({}, { signal: stopping.signal, progress }), 'interrupted');
    expect((await keysOf(agent)).filter((key) => key.startsWith('snapshots/'))).toEqual([]);
    expect(await agent.backup()).toMatchObject({ complete: true, snapshot: { seq: 0 }, files: { new: 10 } });
    expect((await agent.verify('chunks')).damaged).toEqual([]);
  });
});

describe('the counts of a backup', () => {
  function change(state: string): void {
    writeFileSync(join(state, 'file-0'), 'other content');
    chmodSync(join(state, 'folder', 'file-1'), 0o600);
    unlinkSync(join(state, 'file-2'));
    unlinkSync(join(state, 'file-4'));
    writeFileSync(join(state, 'folder', 'new'), 'n');
  }
  const COUNTS = { total: 9, new: 1, changed: 2, unmodified: 6, removed: 2 };

  test('tell new, changed, unmodified and removed files', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    await agent.backup();
    change(agent.state);
    const result = await agent.backup();
    expect(result.files).toEqual(COUNTS);
    // The changed, the new, and the one of which only the mode changed, which costs no new data.
    expect(result.bytes.read).toBe(13 + 1 + 1000);
    expect(await agent.backup()).toMatchObject({ files: { ...COUNTS, new: 0, changed: 0, unmodified: 9, removed: 0 } });
  });

  test('tell a content that changed under the same size and time', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    await agent.backup();
    const path = join(agent.state, 'file-0');
    const { atime, mtime } = statSync(path);
    writeFileSync(path, noise.bytes(1000));
    utimesSync(path, atime, mtime);
    expect((await agent.backup()).files).toMatchObject({ changed: 1 });
    const target = join(agent.folder, 'out');
    await agent.restore(target);
    expectSameTree(target, agent.state);
  });

  test('tell a folder that was replaced by a file, and the other way round', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    await agent.backup();
    rmSync(join(agent.state, 'folder'), { recursive: true });
    writeFileSync(join(agent.state, 'folder'), 'a file now');
    unlinkSync(join(agent.state, 'link'));
    mkdirSync(join(agent.state, 'link'));
    expect((await agent.backup()).files).toEqual({ total: 6, new: 1, changed: 0, unmodified: 5, removed: 5 });
    const target = join(agent.folder, 'out');
    await agent.restore(target);
    expectSameTree(target, agent.state);
  });

  test('without the cache of the last manifest: what is known already counts as unmodified', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    await agent.backup();
    rmSync(agent.folders.cache, { recursive: true });
    writeFileSync(join(agent.state, 'file-0'), 'other content');
    const result = await agent.backup();
    expect(result.files).toMatchObject({ total: 10, new: 0, changed: 1, unmodified: 9 });
    expect(result.bytes.read).toBe(9013);
    expect(result.bytes.added).toBeLessThan(9000);
  });

  const cacheOf = (agent: TestAgent) => {
    const [name = ''] = readdirSync(agent.folders.cache).filter((one) => one.startsWith('manifest-'));
    return join(agent.folders.cache, name);
  };
  test.each<[string, (path: string) => void]>([
    ['emptied', (path) => truncateSync(path, 0)],
    ['cut off in its head', (path) => truncateSync(path, 10)],
    ['cut off in the middle', (path) => truncateSync(path, statSync(path).size >> 1)],
    ['full of zeros', (path) => writeFileSync(path, new Uint8Array(statSync(path).size))],
    [
      'of zeros in the middle',
      (path) => {
        const bytes = readFileSync(path);
        writeFileSync(path, bytes.fill(0, 500, 900));
      },
    ],
    [
      'of another form',
      (path) => writeFileSync(path, readFileSync(path, 'utf8').replace('holdfast-cache 2', 'holdfast-cache 3')),
    ],
    [
      'a folder',
      (path) => {
        rmSync(path);
        mkdirSync(path);
      },
    ],
  ])('with a cache that is %s are right about what changed, and the snapshot is whole', async (_, harm) => {
    await using agent = await makeAgent({ fill: fillTen });
    await agent.backup();
    harm(cacheOf(agent));
    writeFileSync(join(agent.state, 'file-8'), 'other content');
    const { files, complete } = await agent.backup();
    expect(complete).toBe(true);
    expect(files).toMatchObject({ total: 10, new: 0, changed: 1, unmodified: 9, removed: 0 });
    const target = join(agent.folder, 'out');
    await agent.restore(target);
    expectSameTree(target, agent.state);
  });

  test('with any single digit of the cache changed, the snapshot is what the tree is', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill: fillTen });
    await agent.backup();
    const path = cacheOf(agent);
    const good = readFileSync(path);
    const target = join(agent.folder, 'out');
    for (let at = 40; at < good.length; at += 149) {
      const changed = Buffer.from(good);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const name = cacheOf(agent);
      writeFileSync(name, changed);
      await agent.backup();
    }
    await agent.restore(target);
    expectSameTree(target, agent.state);
    expect((await agent.verify('chunks')).damaged).toEqual([]);
  });

  test('trust nothing that was touched at about the time of the last run', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    await agent.backup({}, { clock: systemClock });
    // The cache says when that run began; these files were made within two seconds of it.
    expect((await agent.backup({}, { clock: systemClock })).bytes.read).toBe(10_000);
  });
});
