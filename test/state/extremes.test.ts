/** Trees at the edge of what systems hold: long paths, long names, many names, times far away. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { unpackDevice, packDevice } from '../../src/state/attributes.ts';
import { loadLinux } from '../../src/state/linux.ts';
import { scan } from '../../src/state/scan.ts';
import { contentDifference, copyTree, inventory, removeFolder, temporaryFolder, touch } from './trees.ts';

const temporary = temporaryFolder();
afterAll(() => removeFolder(temporary));
const freshFolder = () => mkdtempSync(join(temporary, 'tree-'));

/** Makes folders with names of `length` bytes, one in the other, so that the innermost has a path of as many bytes as can be asked for. */
function deepFolders(root: string, pathBytes: number): string {
  let path = root;
  while (path.length + 1 + 255 + 1 + 1 <= pathBytes) mkdirSync((path = join(path, 'd'.repeat(255))));
  return path;
}

describe('paths', () => {
  // The system takes 4,095 bytes and a NUL.
  it('of 4,095 bytes are kept, and brought back to a place that is no longer', async () => {
    const [source, target] = [join(temporary, 'source'), join(temporary, 'target')];
    mkdirSync(source);
    const folder = deepFolders(source, 4095);
    writeFileSync(`${folder}/${'f'.repeat(4095 - folder.length - 1)}`, 'deep');
    const { items, warnings } = await copyTree(source, target);
    expect(warnings).toEqual([]);
    expect(Math.max(...items.map((item) => ('path' in item ? `${source}/${item.path}`.length : 0)))).toBe(4095);
    expect(inventory(target)).toEqual(inventory(source));
    expect(contentDifference(source, target)).toBe('');
  });

  it('beyond are reported one by one, and what lies before them is kept', () => {
    const root = freshFolder();
    const folder = deepFolders(root, 4095);
    const names = ['a'.repeat(4095 - folder.length - 1), 'b'.repeat(4096 - folder.length - 1), 'c'.repeat(255)];
    execFileSync('bash', ['-c', 'cd -P "$1" && shift && for name; do echo x >"$name"; done', '-', folder, ...names]);
    const items = [...scan(root)];
    expect(items.filter(({ kind }) => kind === 'file')).toHaveLength(1);
    expect(items.filter(({ kind }) => kind === 'problem')).toMatchObject([
      { warning: { code: 'unreadable', incomplete: true, message: expect.stringContaining('ENAMETOOLONG') as string } },
      { warning: { code: 'unreadable', incomplete: true } },
    ]);
  });

  it('that are brought back to a place where they are too long are listed', async () => {
    const source = freshFolder();
    const folder = deepFolders(source, 4000);
    writeFileSync(join(folder, 'file'), 'x');
    const { warnings } = await copyTree(source, join(freshFolder(), 'b'.repeat(250), 'b'.repeat(250)));
    expect(warnings).toMatchObject([{ code: 'not_restored', incomplete: true }]);
    expect(warnings[0]?.message).toContain('all it holds');
  });
});

describe('names', () => {
  it('of 255 bytes, as a letter or as a folder, are kept', async () => {
    const [source, target] = [freshFolder(), join(freshFolder(), 'target')];
    for (const letter of ['x', 'é', '名']) {
      const name = letter.repeat(Math.floor(255 / Buffer.byteLength(letter)));
      mkdirSync(join(source, name));
      writeFileSync(join(source, name, name), name);
    }
    expect((await copyTree(source, target)).warnings).toEqual([]);
    expect(inventory(target)).toEqual(inventory(source));
  });

  it('that differ in case or form of a letter only are kept where the system tells them apart', async () => {
    const [source, target] = [freshFolder(), join(freshFolder(), 'target')];
    for (const name of ['Notes', 'notes', 'NOTES', 'é', 'é'.normalize('NFD'), 'ﬁle', 'file', 'İ', 'i̇'])
      writeFileSync(join(source, name), name);
    expect((await copyTree(source, target)).warnings).toEqual([]);
    expect(inventory(target)).toEqual(inventory(source));
    expect(contentDifference(source, target)).toBe('');
  });

  it('a hundred thousand in one folder are all seen', () => {
    // In memory, where there is such a place: what is tried is the walk, not the disk.
    const root = existsSync('/dev/shm') ? mkdtempSync('/dev/shm/holdfast-many-') : freshFolder();
    execFileSync('bash', ['-c', 'cd "$1" && seq -f "n%06g" 100000 | xargs touch', '-', root]);
    let [count, last] = [0, ''];
    for (const item of scan(root)) {
      if (item.kind !== 'file' || item.path <= last) continue;
      last = item.path;
      count++;
    }
    removeFolder(root);
    expect([count, last]).toEqual([100_000, 'n100000']);
  });
});

describe('times', () => {
  it('before 1970 and after 2106 are kept to the nanosecond', async () => {
    const [source, target] = [freshFolder(), join(freshFolder(), 'target')];
    const times = [
      '1901-12-13 20:45:52.000000001', // the first that 32 bits hold
      '1969-12-31 23:59:59.999999999',
      '2038-01-19 03:14:08.5', // after the last
      '2106-02-07 06:28:16.000000001', // after the last of 32 bits without a sign
      '2446-05-10 22:38:55.999999999', // the last of ext4
    ];
    times.forEach((time, index) => {
      writeFileSync(join(source, `f${index}`), time);
      touch(join(source, `f${index}`), time);
    });
    expect((await copyTree(source, target)).warnings).toEqual([]);
    expect(inventory(target)).toEqual(inventory(source));
  });
});

describe('devices', () => {
  it.each([
    [0, 0],
    [1, 5],
    [8, 17],
    [4095, 1_048_575],
    [2 ** 32 - 1, 2 ** 32 - 1],
  ])('have their numbers packed as the kernel does: %d, %d', (major, minor) => {
    expect(unpackDevice(packDevice(major, minor))).toEqual({ major, minor });
  });

  it('have those that stat sees', () => {
    const [device] = [...scan('/dev', { special: 'keep', exclude: ['*', '!/null'] })].filter(
      ({ kind }) => kind === 'device',
    );
    expect(device).toMatchObject({ path: 'null', device: { kind: 'character', major: 1, minor: 3 } });
  });
});

describe('the calls of Linux', () => {
  it('are done without where koffi is missing', () => {
    expect(
      loadLinux(() => {
        throw new Error('not installed');
      }),
    ).toBeUndefined();
  });
});
