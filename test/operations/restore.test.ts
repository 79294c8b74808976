import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { catFile, listEntries, listSnapshots } from '../../src/operations/look.ts';
import { restore, type RestoreOptions } from '../../src/operations/restore.ts';
import type { ProgressEvent } from '../../src/progress.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import { contentsOf, expectSameTree, makeAgent, putBack } from './support.ts';

const noise = seededRandom('restore');
const agent = await makeAgent({
  seed: 'restore',
  fill: (state) => {
    mkdirSync(join(state, 'docs', 'deep', 'er'), { recursive: true });
    mkdirSync(join(state, 'empty'));
    for (const path of ['docs/a', 'docs/deep/b', 'docs/deep/er/c', 'docs.md', 'zoo'])
      writeFileSync(join(state, path), noise.bytes(2000));
    writeFileSync(join(state, 'ünï “x”\n'), 'odd');
    symlinkSync('deep/b', join(state, 'docs', 'link'));
    for (const path of ['docs/deep/er', 'docs/deep', 'docs', 'empty', '.'])
      utimesSync(join(state, path), 1_600_000_000, 1_600_000_000);
    chmodSync(join(state, 'docs', 'deep'), 0o750);
  },
});
afterAll(() => agent[Symbol.asyncDispose]());
const first = await agent.backup({ tags: ['one'] });
writeFileSync(join(agent.state, 'zoo'), 'changed');
const second = await agent.backup();
const pristine = await contentsOf(agent);
const secret = { kind: 'root', root: agent.root } as const;
const looking = { backends: agent.addresses, secret, snapshot: 'latest' };

let number = 0;
let target: string;
beforeEach(async () => {
  await putBack(agent, pristine);
  target = join(agent.folder, `target-${number++}`);
});

const filesIn = (folder: string) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8', withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .toSorted();

describe('a restore', () => {
  test('of some paths brings them, what lies below, and the folders that lead there as they were', async () => {
    const result = await agent.restore(target, { paths: ['docs/deep/er', './zoo'] });
    expect(result).toMatchObject({ files: 2, bytes: 2007, complete: true });
    expect(filesIn(target)).toEqual(['docs/deep/er/c', 'zoo']);
    for (const path of ['docs', 'docs/deep', 'docs/deep/er', '.']) {
      const [now, then] = [statSync(join(target, path)), statSync(join(agent.state, path))];
      expect([path, now.mode, now.mtimeMs]).toEqual([path, then.mode, then.mtimeMs]);
    }
  });

  test.each([
    [['docs'], ['docs/a', 'docs/deep/b', 'docs/deep/er/c', 'docs/link']],
    [['docs/'], ['docs/a', 'docs/deep/b', 'docs/deep/er/c', 'docs/link']],
    [['docs/link'], ['docs/link']],
    [['docs.md'], ['docs.md']],
    [
      ['docs/a', 'docs'],
      ['docs/a', 'docs/deep/b', 'docs/deep/er/c', 'docs/link'],
    ],
    [['ünï “x”\n'], ['ünï “x”\n']],
    [['empty'], []],
  ])('of %j brings %j', async (paths, files) => {
    await agent.restore(target, { paths });
    expect(filesIn(target)).toEqual(files);
  });

  test('of a path that is not there writes nothing', async () => {
    for (const path of ['nowhere', 'doc', 'docs/a/b', 'ZOO']) {
      const error = await failure(() => agent.restore(target, { paths: ['zoo', path] }), 'not_found');
      expect(error.message).toContain(JSON.stringify(path));
    }
    await failure(() => agent.restore(target, { paths: ['../zoo'] }), 'usage');
    await failure(() => agent.restore(target, { paths: ['docs/../../zoo'] }), 'usage');
    expect(existsSync(target)).toBe(false);
  });

  test('of everything asked for by the empty path brings everything', async () => {
    await agent.restore(target, { paths: ['.'] });
    expectSameTree(target, agent.state);
  });

  test('takes a snapshot by its id or the beginning of it', async () => {
    for (const snapshot of [first.snapshot.id, first.snapshot.id.slice(0, 12)]) {
      const into = `${target}-${snapshot.length}`;
      const result = await agent.restore(into, { snapshot });
      expect(result.snapshot).toMatchObject({ id: first.snapshot.id, seq: 0 });
      expect(readFileSync(join(into, 'zoo'))).toHaveLength(2000);
    }
    expect((await agent.restore(target)).snapshot.id).toBe(second.snapshot.id);
  });

  test.each([
    ['0000000000000000', 'not_found'],
    ['ab', 'usage'],
    ['newest', 'usage'],
    ['', 'usage'],
    ['../../x', 'usage'],
  ] as const)('of the snapshot %j is refused', async (snapshot, code) => {
    await failure(() => agent.restore(target, { snapshot }), code);
    expect(existsSync(target)).toBe(false);
  });

  test('never goes into a folder that holds something, nor over a file, nor into one that is unfinished', async () => {
    mkdirSync(target);
    writeFileSync(join(target, 'mine'), 'precious');
    await failure(() => agent.restore(target), 'exists');
    await failure(() => agent.restore(join(target, 'mine')), 'exists');
    expect(readdirSync(target)).toEqual(['mine']);
    expect(readFileSync(join(target, 'mine'), 'utf8')).toBe('precious');
    const unfinished = `${target}-unfinished`;
    const stopping = new AbortController();
    const progress = (event: ProgressEvent) => {
      if (event.type === 'phase' && event.name === 'restoring') stopping.abort();
    };
    const options: RestoreOptions = { ...looking, target: unfinished, paths: [] };
    await failure(() => restore(options, agent.seams({ signal: stopping.signal, progress })), 'interrupted');
    expect(readdirSync(unfinished)).toContain('.holdfast-restore-incomplete');
    await failure(() => agent.restore(unfinished), 'exists');
  });

  test('goes into an empty folder that is there', async () => {
    mkdirSync(target);
    await agent.restore(target);
    expectSameTree(target, agent.state);
  });

  test('reads from the backend that is asked for, and from others where it fails', async () => {
    for (const name of ['a', 'b']) {
      await putBack(agent, pristine);
      await agent.restore(`${target}-${name}`, { from: name });
      const packsRead = (of: string) =>
        agent.stores.get(of)?.operations.filter(({ operation, key }) => operation === 'get' && key.startsWith('packs/'))
          .length;
      expect(packsRead(name)).toBeGreaterThan(0);
      expect(packsRead(name === 'a' ? 'b' : 'a')).toBe(0);
    }
    agent.stores.get('b')?.plan({ effect: 'vanish', key: /^packs/, times: Infinity });
    const result = await agent.restore(target, { from: 'b' });
    expect(result).toMatchObject({ complete: true, lost: [] });
    expect(result.warnings).not.toEqual([]);
    expectSameTree(target, agent.state);
    await failure(() => agent.restore(`${target}-x`, { from: 'x' }), 'usage');
    expect(existsSync(`${target}-x`)).toBe(false);
  });

  test('of which every backend dies on the way is no success, and claims no damage', async () => {
    for (const store of agent.stores.values())
      store.plan({ effect: 'fail', on: 'get', key: /^packs/, nth: 2, times: Infinity });
    const result = await agent
      .restore(target)
      .catch((error: unknown) => failure(() => Promise.reject(error), 'not_enough_backends'));
    if ('lost' in result) expect(result.complete).toBe(false);
  });

  test('tells its progress: never backwards, and all at the end', async () => {
    const events: ProgressEvent[] = [];
    await restore({ ...looking, target, paths: [] }, agent.seams({ progress: (event) => events.push(event) }));
    const done = events.flatMap((event) => (event.type === 'progress' ? [event.done] : []));
    expect(done).toEqual(done.toSorted((a, b) => a - b));
    expect(events.at(-1)).toMatchObject({ type: 'progress', done: 8010, total: 8010, unit: 'bytes' });
  });

  test('changes nothing on any backend', async () => {
    await agent.restore(target);
    for (const store of agent.stores.values()) expect(store.count('mutating')).toBe(0);
  });
});

describe('a look into the repository', () => {
  test('lists the snapshots, the newest last', async () => {
    const { snapshots, warnings } = await listSnapshots(
      { backends: agent.addresses, access: agent.access.writer },
      agent.seams(),
    );
    expect(warnings).toEqual([]);
    expect(snapshots).toMatchObject([
      { id: first.snapshot.id, seq: 0, parent: null, agent: 'ada', files: 6, tags: ['one'], backends: ['a', 'b'] },
      {
        id: second.snapshot.id,
        seq: 1,
        parent: first.snapshot.id,
        files: 6,
        bytes: 8010,
        tags: [],
        backends: ['a', 'b'],
      },
    ]);
  });

  test('lists the entries of a snapshot, and those below a path', async () => {
    const { entries, snapshot } = await listEntries({ ...looking, path: '' }, agent.seams());
    expect(snapshot).toBe(second.snapshot.id);
    expect(entries.map(({ path }) => path)).toEqual([
      '.',
      'docs',
      'docs/a',
      'docs/deep',
      'docs/deep/b',
      'docs/deep/er',
      'docs/deep/er/c',
      'docs/link',
      'docs.md',
      'empty',
      'zoo',
      'ünï “x”\\n',
    ]);
    expect(entries.find(({ path }) => path === 'docs/deep')).toMatchObject({
      type: 'folder',
      mode: '0750',
      mtime: '2020-09-13T12:26:40.000000000Z',
    });
    expect(entries.find(({ path }) => path === 'docs/link')).toMatchObject({ type: 'symlink', target: 'deep/b' });
    const below = await listEntries({ ...looking, path: 'docs/deep' }, agent.seams());
    expect(below.entries.map(({ path }) => path)).toEqual([
      'docs/deep',
      'docs/deep/b',
      'docs/deep/er',
      'docs/deep/er/c',
    ]);
    await failure(() => listEntries({ ...looking, path: 'nowhere' }, agent.seams()), 'not_found');
  });

  test('gives the content of one file', async () => {
    const pieces: Uint8Array[] = [];
    const write = async (bytes: Uint8Array) => void pieces.push(Uint8Array.from(bytes));
    expect(await catFile({ ...looking, path: 'docs/deep/b', write }, agent.seams())).toMatchObject({ bytes: 2000 });
    expect(Buffer.concat(pieces).equals(readFileSync(join(agent.state, 'docs/deep/b')))).toBe(true);
    await failure(() => catFile({ ...looking, path: 'docs', write }, agent.seams()), 'usage');
    await failure(() => catFile({ ...looking, path: 'docs/link', write }, agent.seams()), 'usage');
    await failure(() => catFile({ ...looking, path: 'nowhere', write }, agent.seams()), 'not_found');
    expect(pieces).toHaveLength(1);
  });

  test('needs one backend only, and says which failed', async () => {
    agent.stores.set(
      'a',
      new FaultyBackend(agent.stores.get('a')?.inner as FaultyBackend['inner'], { name: 'a' }).plan({
        effect: 'fail',
        times: Infinity,
      }),
    );
    const { snapshots, warnings } = await listSnapshots(
      { backends: agent.addresses, access: agent.access.writer },
      agent.seams(),
    );
    expect(snapshots.map(({ backends }) => backends)).toEqual([['b'], ['b']]);
    expect(warnings).toMatchObject([{ code: 'backend_failed', message: expect.stringContaining('backend a') }]);
  });
});
