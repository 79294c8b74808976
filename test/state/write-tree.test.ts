import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { RawPath } from '../../src/raw-path.ts';
import { nodeTimes } from '../../src/state/exact-times.ts';
import { scan } from '../../src/state/scan.ts';
import { openTarget } from '../../src/state/write-tree.ts';
import {
  contentDifference,
  copyTree,
  inventory,
  makeNastyTree,
  removeFolder,
  temporaryFolder,
  touch,
} from './trees.ts';

const temporary = temporaryFolder();
afterAll(() => removeFolder(temporary));
const freshFolder = () => mkdtempSync(join(temporary, 'tree-'));
const newPath = () => join(freshFolder(), 'target');
const MARKER = '.holdfast-restore-incomplete';

const uid = process.geteuid?.() ?? 0;
const gid = process.getegid?.() ?? 0;
const common = (path: string) => ({
  path: path as RawPath,
  mode: 0o644,
  mtimeNs: 1_000_000_000_000_000_001n,
  uid,
  gid,
});
const folder = (path: string) => ({ ...common(path), mode: 0o755 });
const file = (path: string, size: number) => ({ ...common(path), size });
const link = (path: string, target: string) => ({ ...common(path), target: target as RawPath });
const exists = (what: string) =>
  expect.objectContaining({
    code: 'exists',
    message: expect.stringContaining(what) as string,
    hint: expect.any(String) as string,
  });
const damaged = (what: string) =>
  expect.objectContaining({ code: 'damaged', message: expect.stringContaining(what) as string });

describe('a restored tree', () => {
  it('equals the original in contents, modes, times, links and owners', async () => {
    const source = freshFolder();
    makeNastyTree(source);
    const target = newPath();
    const { items, warnings } = await copyTree(source, target);
    expect(warnings).toEqual([]);
    expect(items.length).toBeGreaterThan(150);
    expect(inventory(target)).toEqual(inventory(source));
    expect(contentDifference(source, target)).toBe('');
  });

  it('has every mode there is, whatever the umask', async () => {
    // In a process of its own, because a worker thread has no umask.
    const target = newPath();
    const script = `
      process.umask(0o077);
      const { openTarget } = await import(${JSON.stringify(new URL('../../src/state/write-tree.ts', import.meta.url).href)});
      const writer = await openTarget(${JSON.stringify(target)});
      const meta = { mtimeNs: 0n, uid: process.geteuid(), gid: process.getegid() };
      for (let mode = 0; mode <= 0o7777; mode++) {
        writer.writeFile({ ...meta, path: 'file-' + mode.toString(8), mode, size: 0 }, []);
        if (mode % 8 === 5) writer.addFolder({ ...meta, path: 'folder-' + mode.toString(8), mode });
      }
      console.log(JSON.stringify(await writer.finish()));`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect({ stdout, stderr }).toEqual({ stdout: '[]\n', stderr: expect.any(String) as string });
    const names = readdirSync(target);
    expect(names).toHaveLength(4096 + 512);
    const wrong = names.filter(
      (name) => (lstatSync(join(target, name)).mode & 0o7777).toString(8) !== name.split('-')[1],
    );
    expect(wrong).toEqual([]);
  });

  it('gets its root back with its mode and time, also where the target existed', async () => {
    const target = freshFolder();
    chmodSync(target, 0o755);
    const writer = await openTarget(target);
    expect(statSync(target).mode & 0o777).toBe(0o700);
    writer.addFolder({ ...folder(''), mode: 0o2751 });
    writer.addFolder(folder('a'));
    expect(await writer.finish()).toEqual([]);
    expect(statSync(target, { bigint: true })).toMatchObject({ mode: 0o42751n, mtimeNs: 1_000_000_000_000_000_001n });
  });

  it('without an entry for its root leaves an existing target the mode it had', async () => {
    const target = freshFolder();
    chmodSync(target, 0o755);
    const writer = await openTarget(target);
    await writer.finish();
    expect(statSync(target).mode & 0o777).toBe(0o755);
  });

  it('is written from many files at once with few descriptors', async () => {
    const target = newPath();
    const writer = await openTarget(target);
    const before = readdirSync('/proc/self/fd').length;
    const refs = Array.from({ length: 300 }, (_, index) => writer.createFile(file(`f${index}`, 9)));
    let most = 0;
    for (const offset of [6, 0, 3]) {
      refs.forEach((ref, index) => writer.write(ref, offset, Buffer.from(`${index + 100}`)));
      most = Math.max(most, readdirSync('/proc/self/fd').length - before);
    }
    expect(most).toBe(128);
    for (const ref of refs.slice(1)) writer.closeFile(ref);
    expect(() => writer.closeFile(refs[5]!)).toThrow(expect.objectContaining({ code: 'bug' }));
    writer.discardFile(refs[0]!);
    expect(await writer.finish()).toEqual([]);
    expect(readdirSync(target)).toHaveLength(299);
    for (let index = 1; index < 300; index++)
      expect(readFileSync(join(target, `f${index}`), 'utf8')).toBe(`${index + 100}`.repeat(3));
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });

  it('has times rounded, with one warning, where the C library cannot be called', async () => {
    const source = freshFolder();
    for (const name of ['a', 'b', 'exact']) writeFileSync(join(source, name), 'x');
    symlinkSync('x', join(source, 'link'));
    for (const name of ['a', 'b', 'link']) touch(join(source, name), '2026-01-02 03:04:05.123456789');
    for (const name of ['exact', '.']) touch(join(source, name), '2026-01-02 03:04:05.5');
    const target = newPath();
    const { warnings } = await copyTree(source, target, { times: nodeTimes });
    expect(warnings).toMatchObject([
      { code: 'times_rounded', path: 'a', incomplete: false, message: expect.stringContaining('3 ') as string },
    ]);
    const [wanted, now] = [source, target].map((root) => lstatSync(join(root, 'a'), { bigint: true }).mtimeNs);
    expect(Math.abs(Number(wanted! - now!))).toBeLessThan(1000);
  });

  it('lacks what the file system cannot hold, and says so', async () => {
    const target = join(newPath(), 'b'.repeat(200));
    const writer = await openTarget(target);
    let path = '';
    for (let depth = 0; depth < 16; depth++) writer.addFolder(folder((path += `${path && '/'}${'d'.repeat(250)}`)));
    const ref = writer.createFile(file(`${path}/file`, 1));
    writer.write(ref, 0, Buffer.from('x'));
    writer.closeFile(ref);
    writer.writeFile(file(`${path}/other`, 1), [Buffer.from('x')]);
    writer.addSymlink(link(`${path}/link`, 'x'));
    writer.addSymlink(link('long-target', 'x'.repeat(4096)));
    const warnings = await writer.finish();
    expect(warnings).toMatchObject([
      { code: 'not_restored', path, incomplete: true, message: expect.stringContaining('all it holds') as string },
      { code: 'not_restored', path: 'long-target', incomplete: true },
    ]);
    expect(existsSync(join(target, MARKER))).toBe(false);
  });
});

describe('owners', () => {
  it.runIf(uid === 0)('are put back by root before modes, so that setuid survives', async () => {
    const bystander = join(freshFolder(), 'file');
    writeFileSync(bystander, 'x');
    const target = newPath();
    const writer = await openTarget(target);
    const other = { uid: 4_000_000_000, gid: 12_345 };
    writer.addFolder({ ...folder('d'), ...other });
    writer.writeFile({ ...file('d/f', 1), ...other, mode: 0o6755 }, [Buffer.from('x')]);
    writer.addSymlink({ ...link('d/l', bystander), ...other });
    expect(await writer.finish()).toEqual([]);
    for (const name of ['d', 'd/f', 'd/l']) expect(lstatSync(join(target, name))).toMatchObject(other);
    expect(statSync(join(target, 'd/f')).mode & 0o7777).toBe(0o6755);
    expect(statSync(bystander).uid).toBe(0);
  });
});

describe('a target that is refused', () => {
  const refusal = (target: string, error: unknown) => expect(openTarget(target)).rejects.toThrow(error);

  it('holds anything, and is left as it was', async () => {
    const target = freshFolder();
    writeFileSync(join(target, '.hidden'), 'mine');
    chmodSync(target, 0o755);
    await refusal(target, exists('is not empty'));
    expect(readdirSync(target)).toEqual(['.hidden']);
    expect(statSync(target).mode & 0o777).toBe(0o755);
  });

  it('lies where nothing can be made, which is said and not tried for ever', async () => {
    await expect(openTarget('/proc/none/of/these')).rejects.toMatchObject({ code: 'io' });
  });

  it('is a file, lies below one, or is a link that leads nowhere', async () => {
    const parent = freshFolder();
    writeFileSync(join(parent, 'file'), 'mine');
    symlinkSync('nowhere', join(parent, 'link'));
    await refusal(join(parent, 'file'), exists('is not a folder'));
    await refusal(join(parent, 'file', 'below'), exists('is not a folder'));
    await refusal(join(parent, 'link'), exists('is not a folder'));
    expect(readFileSync(join(parent, 'file'), 'utf8')).toBe('mine');
    expect(readdirSync(parent)).toEqual(['file', 'link']);
  });

  it('holds a restore that did not finish', async () => {
    const target = newPath();
    {
      const writer = await openTarget(target);
      writer.createFile(file('a', 5));
      expect(readFileSync(join(target, MARKER), 'utf8')).toContain('restore');
      await refusal(target, exists('unfinished restore'));
    }
    await refusal(target, exists('unfinished restore'));
    expect([...scan(target)].at(-2)).toMatchObject({ warning: { code: 'unfinished_restore' } });
  });

  it('holds what a killed process wrote', async () => {
    const target = newPath();
    const script = `
      const { openTarget } = await import(${JSON.stringify(new URL('../../src/state/write-tree.ts', import.meta.url).href)});
      const writer = await openTarget(${JSON.stringify(target)});
      writer.writeFile({ path: 'a', mode: 0o666, mtimeNs: 0n, uid: 0, gid: 0, size: 1 }, [Buffer.from('x')]);
      process.kill(process.pid, 'SIGKILL');`;
    expect(spawnSync(process.execPath, ['--input-type=module', '-e', script]).signal).toBe('SIGKILL');
    expect(readdirSync(target).sort()).toEqual([MARKER, 'a']);
    await refusal(target, exists('unfinished restore'));
  });
});

describe('a target that is taken', () => {
  it('is made with its parents, for its owner only', async () => {
    const target = join(freshFolder(), 'a/b/c');
    const writer = await openTarget(target);
    await writer.finish();
    for (const part of [target, join(target, '..'), join(target, '../..')])
      expect(statSync(part).mode & 0o777).toBe(0o700);
    expect(readdirSync(target)).toEqual([]);
  });

  it('may be a link to an empty folder, resolved once', async () => {
    const parent = freshFolder();
    mkdirSync(join(parent, 'real'));
    symlinkSync('real', join(parent, 'link'));
    const writer = await openTarget(join(parent, 'link'));
    writer.writeFile(file('a', 0), []);
    await writer.finish();
    expect(readdirSync(join(parent, 'real'))).toEqual(['a']);
    expect(readlinkSync(join(parent, 'link'))).toBe('real');
  });

  it('keeps what is being restored from other users until it is complete', async () => {
    const target = newPath();
    const writer = await openTarget(target);
    writer.addFolder({ ...folder('d'), mode: 0o777 });
    const ref = writer.createFile({ ...file('d/f', 0), mode: 0o666 });
    expect(statSync(join(target, 'd')).mode & 0o777).toBe(0o700);
    expect(statSync(join(target, 'd/f')).mode & 0o777).toBe(0o600);
    writer.closeFile(ref);
    await writer.finish();
    expect(statSync(join(target, 'd')).mode & 0o777).toBe(0o777);
  });
});

describe('entries that no real tree has', () => {
  const outside = freshFolder();

  it.each([
    ['a path that escapes', '../x', '".."'],
    ['an absolute path', '/tmp/x', 'absolute'],
    ['the name of the marker', MARKER, 'marks an unfinished restore'],
    ['a folder that was never added', 'missing/x', 'not in the snapshot'],
    ['a file as folder', 'file/x', 'not in the snapshot'],
    ['a link as folder', 'link/x', 'below a symbolic link'],
    ['a file twice', 'file', 'twice'],
    ['a link twice', 'link', 'twice'],
    ['a folder twice', 'folder', 'twice'],
  ])('are refused before anything is written: %s', async (_, path, why) => {
    const target = newPath();
    const writer = await openTarget(target);
    writer.writeFile(file('file', 1), [Buffer.from('x')]);
    writer.addSymlink(link('link', outside));
    writer.addFolder(folder('folder'));
    const before = inventory(target);
    expect(() => writer.addFolder(folder(path))).toThrow(damaged(why));
    expect(() => writer.addSymlink(link(path, 'x'))).toThrow(damaged(why));
    expect(() => writer.createFile(file(path, 1))).toThrow(damaged(why));
    expect(() => writer.writeFile(file(path, 1), [Buffer.from('y')])).toThrow(damaged(why));
    expect(inventory(target)).toEqual(before);
    expect(readdirSync(outside)).toEqual([]);
    await writer.finish();
    expect(readFileSync(join(target, 'file'), 'utf8')).toBe('x');
  });

  it('are refused: the root twice, links to nothing', async () => {
    const writer = await openTarget(newPath());
    writer.addFolder(folder(''));
    expect(() => writer.addFolder(folder(''))).toThrow(damaged('twice'));
    expect(() => writer.createFile(file('', 0))).toThrow(damaged('empty'));
    for (const target of ['', 'a\0b', '\u0100', 'x'.repeat(5000)])
      expect(() => writer.addSymlink(link('l', target))).toThrow(damaged('link'));
  });

  it('never make a write go through a link that was added before', async () => {
    const target = newPath();
    const writer = await openTarget(target);
    writer.addSymlink(link('d', outside));
    expect(() => writer.addFolder(folder('d'))).toThrow(damaged('twice'));
    expect(existsSync(join(target, 'd'))).toBe(false);
    await writer.finish();
    expect(readlinkSync(join(target, 'd'))).toBe(outside);
  });
});

describe('a caller that is wrong', () => {
  const bug = expect.objectContaining({ code: 'bug' });

  it('is told when contents do not have the size of the entry', async () => {
    const writer = await openTarget(newPath());
    expect(() => writer.writeFile(file('short', 2), [Buffer.from('x')])).toThrow(bug);
    const ref = writer.createFile(file('long', 2));
    expect(() => writer.write(ref, 1, Buffer.from('xx'))).toThrow(bug);
    expect(() => writer.closeFile(ref)).toThrow(bug);
  });

  it('is told when it finishes with a file open, or twice, or goes on afterwards', async () => {
    const writer = await openTarget(newPath());
    const ref = writer.createFile(file('a', 0));
    await expect(writer.finish()).rejects.toThrow(bug);
    writer.closeFile(ref);
    await writer.finish();
    await expect(writer.finish()).rejects.toThrow(bug);
    expect(() => writer.addFolder(folder('b'))).toThrow(bug);
  });
});
