/** Trees with all that a file system can hold besides plain files, brought back and compared by tools that are not ours. */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  appendFileSync,
  closeSync,
  copyFileSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MARKER } from '../../src/operations/host/continuity.ts';
import { diff } from '../../src/operations/diff.ts';
import { seededRandom } from '../crypto/support.ts';
import { inventory } from '../state/trees.ts';
import {
  aclsIn,
  canMount,
  clearFlags,
  flagsIn,
  hasTool,
  isRoot,
  linksIn,
  mounted,
  sparseIn,
  specialsIn,
  xattrsIn,
} from '../state/tools.ts';
import { contentsOf, expectSameTree, makeAgent, type TestAgent } from './support.ts';

const noise = seededRandom('hostile trees');
const lacksTools = !['getfattr', 'getfacl', 'lsattr', 'chattr'].every(hasTool);
const MiB = 2 ** 20;
/** Of several chunks. */
const BIG = 700_000;

const run = (...[command = '', ...args]: string[]) => execFileSync(command, args);
/** Writes at offsets into a file of that size, and nothing in between. */
function makeSparse(path: string, size: number, written: Record<number, string | Uint8Array>): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  for (const [offset, bytes] of Object.entries(written))
    writeSync(fd, Buffer.from(bytes), 0, undefined, Number(offset));
  closeSync(fd);
}

function fillLinks(state: string): void {
  for (const folder of ['a', 'b']) mkdirSync(join(state, folder));
  writeFileSync(join(state, 'b/first'), noise.bytes(1000));
  linkSync(join(state, 'b/first'), join(state, 'a/second'));
  linkSync(join(state, 'b/first'), join(state, 'b/ß\n"third"'));
  writeFileSync(join(state, 'a/big'), noise.bytes(BIG));
  linkSync(join(state, 'a/big'), join(state, 'z'));
  writeFileSync(join(state, 'alone'), 'one name');
}

describe('hard links', () => {
  test('come back as names of one file, which was read and counted once', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill: fillLinks });
    const saved = await agent.backup();
    expect(saved).toMatchObject({ complete: true, warnings: [], files: { total: 6, new: 6 } });
    expect(saved.bytes.read).toBe(1000 + BIG + 8);
    const target = join(agent.folder, 'restored');
    const restored = await agent.restore(target);
    expect(restored).toMatchObject({ complete: true, warnings: [], files: 6, bytes: 3 * 1000 + 2 * BIG + 8 });
    expectSameTree(target, agent.state);
    expect(linksIn(target)).toEqual(linksIn(agent.state));
    expect(linksIn(target)).toHaveLength(2);
  });

  test('are known in later runs, whichever name is changed, moved or gone', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill: fillLinks });
    await agent.backup();
    expect(await agent.backup()).toMatchObject({ bytes: { read: 0 }, files: { unmodified: 6 } });
    let count = 0;
    const check = async () => {
      const saved = await agent.backup();
      expect(saved).toMatchObject({ complete: true, warnings: [] });
      const target = join(agent.folder, `restored-${count++}`);
      await agent.restore(target);
      expectSameTree(target, agent.state);
      expect(linksIn(target)).toEqual(linksIn(agent.state));
      await using repository = await agent.open();
      const snapshot = await repository.findSnapshot('latest');
      const { index } = await repository.loadIndex();
      const firsts = new Set<string>();
      for await (const entry of repository.entries(snapshot, repository.reader(index))) {
        if (entry.type !== 'file') continue;
        if (entry.hardlink === undefined) firsts.add(entry.path);
        else expect(firsts).toContain(entry.hardlink);
      }
      return saved;
    };
    // Another name comes first now, and no inode was touched: once one that is known, once one that is new.
    renameSync(join(agent.state, 'a'), join(agent.state, 'y'));
    expect((await check()).files).toMatchObject({ total: 6, new: 2, removed: 2 });
    renameSync(join(agent.state, 'b'), join(agent.state, '0'));
    expect((await check()).files).toMatchObject({ total: 6, new: 2, removed: 2 });
    appendFileSync(join(agent.state, 'z'), 'more');
    expect((await check()).files).toMatchObject({ changed: 2, unmodified: 4 });
    unlinkSync(join(agent.state, '0/first'));
    await check();
    // Two files that were one, as a copy over one of the names makes them.
    copyFileSync(join(agent.state, 'z'), join(agent.state, 'copy'));
    renameSync(join(agent.state, 'copy'), join(agent.state, 'z'));
    await check();
    expect(linksIn(agent.state)).toHaveLength(1);
  });

  test('of which a part is asked for are one file among themselves', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill: fillLinks });
    await agent.backup();
    const target = join(agent.folder, 'restored');
    expect(await agent.restore(target, { paths: ['b', 'z'] })).toMatchObject({
      complete: true,
      warnings: [],
      files: 3,
    });
    expect(linksIn(target)).toEqual(['2: ./b/first ./b/\xc3\x9f\n"third"']);
    expect(readFileSync(join(target, 'z'))).toEqual(readFileSync(join(agent.state, 'z')));
  });

  test('are lost together with the data that they share, and each is named', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill: fillLinks });
    await agent.backup();
    const [store] = agent.stores.values();
    const packs = [...(await contentsOf(agent)).values()].flatMap((content) => [...content]);
    const [largest] = packs.toSorted(([, one], [, other]) => other.length - one.length);
    await store?.delete?.(largest?.[0] ?? '');
    const result = await agent.restore(join(agent.folder, 'restored'));
    expect(result.complete).toBe(false);
    expect(result.lost.toSorted()).toContain('z');
    expect(result.lost.toSorted()).toContain('a/big');
  });
});

describe('holes', () => {
  test('are not read, stay holes, and cost nothing in a file that has none', async () => {
    await using agent = await makeAgent({
      backends: ['a'],
      fill: (state) => {
        makeSparse(join(state, 'in the middle'), 40 * MiB, {
          0: 'start',
          [20 * MiB + 5]: noise.bytes(9000),
          [40 * MiB - 3]: 'end',
        });
        makeSparse(join(state, 'at the end'), 9 * MiB + 7, { 0: noise.bytes(5000) });
        makeSparse(join(state, 'nothing else'), 5 * MiB + 1, {});
        makeSparse(join(state, 'small'), 3, {});
        writeFileSync(join(state, 'written zeros'), Buffer.alloc(MiB));
        linkSync(join(state, 'at the end'), join(state, 'z link'));
      },
    });
    const saved = await agent.backup();
    expect(saved).toMatchObject({ complete: true, warnings: [] });
    expect(saved.bytes.read).toBeLessThan(MiB + 100_000);
    const target = join(agent.folder, 'restored');
    expect(await agent.restore(target)).toMatchObject({ complete: true, warnings: [] });
    expectSameTree(target, agent.state);
    expect(sparseIn(target)).toEqual(sparseIn(agent.state));
    expect(sparseIn(target)).toHaveLength(5);
    expect(statSync(join(target, 'written zeros')).blocks).toBeGreaterThanOrEqual(2048);
    expect(await agent.backup()).toMatchObject({ bytes: { read: 0 }, files: { unmodified: 6 } });
  });
});

describe.skipIf(lacksTools)('what a file system knows besides', () => {
  let agent: TestAgent;
  beforeAll(async () => {
    agent = await makeAgent({
      backends: ['a'],
      fill: (state) => {
        for (const folder of ['folder', 'folder/inner', 'plain']) mkdirSync(join(state, folder));
        for (const name of ['file', 'acl', 'folder/file', 'plain/file', 'mode 000', 'kept'])
          writeFileSync(join(state, name), name);
        symlinkSync('file', join(state, 'link'));
        run('setfattr', '-n', 'user.tag', '-v', 'blue', join(state, 'file'));
        run('setfattr', '-n', 'user.empty', join(state, 'file'));
        run(
          'setfattr',
          '-n',
          'user.größe',
          '-v',
          `0x${Buffer.from(noise.bytes(2000)).toString('hex')}`,
          join(state, 'folder/file'),
        );
        run('setfattr', '-n', 'user.on a folder', '-v', 'x', join(state, 'folder'));
        run('setfattr', '-n', 'user.on the root', '-v', 'x', state);
        run('setfacl', '-m', 'u:4711:rw,g:4712:r,m::rw', join(state, 'acl'));
        run('setfacl', '-m', 'd:u:4711:rwx,d:o::-', join(state, 'folder'));
        run('chmod', '000', join(state, 'mode 000'));
        run('chattr', '+d', join(state, 'kept'));
        if (!isRoot) return;
        run('setfattr', '-h', '-n', 'trusted.of-link', '-v', 'x', join(state, 'link'));
        run(
          'setfattr',
          '-n',
          'security.capability',
          '-v',
          '0x0100000200000000000000000000000000000000',
          join(state, 'plain/file'),
        );
        run('chmod', '4755', join(state, 'plain/file'));
        run('chattr', '+i', join(state, 'folder/inner'));
        run('chattr', '+a', join(state, 'plain'));
        linkSync(join(state, 'acl'), join(state, 'z acl'));
        run('chattr', '+i', join(state, 'acl'));
        run('chattr', '+d', state);
      },
    });
  });
  afterAll(async () => {
    clearFlags(agent.folder);
    await agent[Symbol.asyncDispose]();
  });

  test('comes back: attributes, ACLs, flags', async () => {
    expect(await agent.backup()).toMatchObject({ complete: true, warnings: [] });
    const target = join(agent.folder, 'restored');
    expect(await agent.restore(target)).toMatchObject({ complete: true, warnings: [] });
    expect(inventory(target)).toEqual(inventory(agent.state));
    for (const see of [xattrsIn, aclsIn, flagsIn, linksIn]) expect(see(target)).toEqual(see(agent.state));
    expect(xattrsIn(target).length).toBeGreaterThanOrEqual(6);
    expect(flagsIn(target)).toHaveLength(isRoot ? 6 : 1);
  });

  test('is not asked for again where nothing was touched, and seen where only it has changed', async () => {
    expect(await agent.backup()).toMatchObject({
      bytes: { read: 0 },
      files: { changed: 0, unmodified: isRoot ? 7 : 6 },
    });
    run('setfattr', '-n', 'user.tag', '-v', 'red', join(agent.state, 'file'));
    run('setfacl', '-m', 'd:u:4711:r', join(agent.state, 'folder'));
    expect((await agent.backup()).files).toMatchObject({ changed: 1 });
    const target = join(agent.folder, 'restored again');
    await agent.restore(target);
    for (const see of [xattrsIn, aclsIn, flagsIn]) expect(see(target)).toEqual(see(agent.state));
  });

  test('of the folder that a target lies in is not taken over', async () => {
    const parent = join(agent.folder, 'with a default ACL');
    mkdirSync(parent);
    run('setfacl', '-m', 'd:u:9999:rwx', parent);
    const target = join(parent, 'restored');
    await agent.restore(target);
    expect(aclsIn(target)).toEqual(aclsIn(agent.state));
  });

  test.skipIf(!canMount())('is named, and not put back, by a target that has no such thing', async () => {
    const place = join(agent.folder, 'no attributes');
    mkdirSync(place);
    // ramfs knows neither attributes nor flags.
    using _mount = mounted(place, '-t', 'ramfs', 'none');
    const result = await agent.restore(join(place, 'restored'));
    expect(result.complete).toBe(false);
    const codes = result.warnings.map(({ code, incomplete }) => `${code}${incomplete ? '!' : ''}`);
    expect(codes).toEqual(['xattrs_not_restored!', 'labels_not_restored', 'flags_not_restored!']);
    expect(result.warnings[0]?.message).toContain(': 5 entries, the first being');
    expect(inventory(join(place, 'restored'))).toEqual(inventory(agent.state));
  });
});

test.runIf(isRoot && !lacksTools)(
  'a root that is immutable is recovered whole, with the note to the agent, and immutable again',
  async () => {
    await using agent = await makeAgent({ backends: ['a'], fill: (state) => writeFileSync(join(state, 'file'), 'x') });
    run('chattr', '+i', agent.state);
    await agent.backup();
    const home = join(agent.folder, 'home');
    mkdirSync(home);
    try {
      const recovered = await agent.recover(home);
      expect(recovered).toMatchObject({ markerFile: join(home, 'state', MARKER), warnings: [] });
      expect(existsSync(join(home, 'state', MARKER))).toBe(true);
      expect(flagsIn(join(home, 'state'))).toEqual(['. i']);
      expect(readFileSync(join(home, 'state/file'), 'utf8')).toBe('x');
    } finally {
      clearFlags(agent.folder);
    }
  },
);

describe('special files', () => {
  const fill = (state: string) => {
    run('mkfifo', '-m', '640', join(state, 'fifo'));
    if (!isRoot) return;
    run('mknod', join(state, 'zero'), 'c', '1', '5');
    run('mknod', '-m', '604', join(state, 'block'), 'b', '4095', '1048575');
    run('chown', '12:34', join(state, 'zero'));
  };

  test('are left out by rule, and said', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill });
    const saved = await agent.backup();
    expect(saved.complete).toBe(true);
    expect(saved.warnings.map(({ code }) => code)).toEqual(Array(isRoot ? 3 : 1).fill('special_skipped'));
  });

  test('are kept where that is the rule, but for sockets, and named in the snapshot for readers that know nothing of them', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill });
    const state = { root: agent.state, exclude: [], keepOut: [], special: 'keep' as const };
    const server = createServer();
    await new Promise<void>((done) => server.listen(join(agent.state, 'socket'), done));
    const saved = await agent.backup({ state });
    await new Promise((done) => server.close(done));
    expect(saved).toMatchObject({ complete: true, warnings: [{ code: 'special_skipped', path: 'socket' }] });
    const target = join(agent.folder, 'restored');
    expect(await agent.restore(target)).toMatchObject({ complete: true, warnings: [] });
    expect(inventory(target).filter((line) => !line.startsWith('\0'))).toEqual(
      inventory(agent.state).filter((line) => !line.startsWith('\0')),
    );
    expect(specialsIn(target)).toEqual(specialsIn(agent.state));
    expect(specialsIn(target)).toHaveLength(isRoot ? 3 : 1);
    {
      await using repository = await agent.open();
      expect((await repository.findSnapshot('latest')).record.critical).toEqual(['special-files']);
    }
    rmSync(join(agent.state, 'fifo'));
    if (isRoot) for (const name of ['zero', 'block']) rmSync(join(agent.state, name));
    await agent.backup({ state });
    await using repository = await agent.open();
    expect((await repository.findSnapshot('latest')).record.critical).toEqual([]);
  });
});

describe.skipIf(!canMount())('mounts', () => {
  test('are entered, or with oneFileSystem kept as empty folders and said', async () => {
    await using agent = await makeAgent({ backends: ['a'] });
    mkdirSync(join(agent.state, 'mount'));
    writeFileSync(join(agent.state, 'here'), 'x');
    using _mount = mounted(join(agent.state, 'mount'), '-t', 'tmpfs', 'none');
    writeFileSync(join(agent.state, 'mount/there'), 'x');
    const state = { root: agent.state, exclude: [], keepOut: [] };
    expect(await agent.backup({ state })).toMatchObject({ complete: true, warnings: [], files: { total: 2 } });
    const saved = await agent.backup({ state: { ...state, oneFileSystem: true } });
    expect(saved).toMatchObject({ complete: true, files: { total: 1, removed: 1 } });
    expect(saved.warnings).toMatchObject([{ code: 'other_file_system', path: 'mount', incomplete: false }]);
    const changed = async (oneFileSystem: boolean) => {
      const { addresses: backends, folders, root } = agent;
      const secret = { kind: 'root', root } as const;
      const options = { backends, secret, from: 'latest', to: { ...state, oneFileSystem }, foldersOf: () => folders };
      const { changes, complete } = await diff(options, agent.seams());
      expect(complete).toBe(true);
      return changes.filter(({ kind }) => kind === 'added').map(({ path }) => path);
    };
    expect(await changed(true)).toEqual([]);
    expect(await changed(false)).toEqual(['mount/there']);
    await agent.restore(join(agent.folder, 'restored'));
    expect(inventory(join(agent.folder, 'restored')).map((line) => line.split('\0')[0])).toEqual(['', 'here', 'mount']);
  });

  test('of a folder below itself are not entered, and make the snapshot incomplete', async () => {
    await using agent = await makeAgent({ backends: ['a'] });
    mkdirSync(join(agent.state, 'deep/loop'), { recursive: true });
    writeFileSync(join(agent.state, 'file'), 'x');
    using _mount = mounted(join(agent.state, 'deep/loop'), '--bind', agent.state);
    const saved = await agent.backup();
    expect(saved).toMatchObject({ complete: false, files: { total: 1 } });
    expect(saved.warnings).toMatchObject([{ code: 'loop', path: 'deep/loop', incomplete: true }]);
  });

  test('of one folder in two places are two folders', async () => {
    await using agent = await makeAgent({ backends: ['a'] });
    for (const name of ['one', 'two']) mkdirSync(join(agent.state, name));
    writeFileSync(join(agent.state, 'one/file'), 'x');
    using _mount = mounted(join(agent.state, 'two'), '--bind', join(agent.state, 'one'));
    expect(await agent.backup()).toMatchObject({ complete: true, warnings: [], files: { total: 2 } });
  });
});
