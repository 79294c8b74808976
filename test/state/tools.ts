/** What tools that are not ours see of a tree: attributes, ACLs, flags, names of one file, room on the disk. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const isRoot = process.geteuid?.() === 0;

export const hasTool = (tool: string): boolean => spawnSync(tool, ['--version']).error === undefined;

const inFolder = (root: string, tool: string, ...args: string[]): string =>
  execFileSync(tool, args, { cwd: root, maxBuffer: 2 ** 28, stdio: ['ignore', 'pipe', 'ignore'] }).toString('latin1');

const blocks = (text: string): string[] => text.split('\n\n').filter(Boolean).sort();

/** Extended attributes of every entry that has any, the links' own too, ACLs among them. */
export const xattrsIn = (root: string): string[] =>
  blocks(inFolder(root, 'getfattr', '-R', '-h', '-P', '-d', '-m', '-', '.'));

export const aclsIn = (root: string): string[] => blocks(inFolder(root, 'getfacl', '-R', '-P', '-n', '.'));

/** Of files and folders those flags that can be kept, and which have any. */
export function flagsIn(root: string): string[] {
  const seen = new Set(inFolder(root, 'lsattr', '-R', '-a', '.').split('\n'));
  for (const line of inFolder(root, 'lsattr', '-d', '.').split('\n')) seen.add(line);
  return [...seen]
    .flatMap((line) => {
      const [letters = '', path = ''] = line.split(/ (.*)/s);
      const kept = letters.replace(/[^aid]/g, '');
      return /^[-a-zA-Z]+$/.test(letters) && kept !== '' && !/\/\.\.?$/.test(path) ? [`${path} ${kept}`] : [];
    })
    .toSorted();
}

/** The groups of names that are one file, and room on the disk: `path path 8`, in blocks of 512 bytes, of what takes less than its size. */
export function linksIn(root: string): string[] {
  const groups = new Map<string, string[]>();
  for (const record of inFolder(root, 'find', '.', '-type', 'f', '-links', '+1', '-printf', '%i %n %p\\0').split(
    '\0',
  )) {
    const [inode = '', links = '', path] = record.split(/ (\d+) (.*)/s);
    if (path !== undefined) groups.set(`${inode} ${links}`, [...(groups.get(`${inode} ${links}`) ?? []), path]);
  }
  return [...groups].map(([key, paths]) => `${key.split(' ')[1]}: ${paths.toSorted().join(' ')}`).toSorted();
}

/** Path, size and blocks of 512 bytes of the files that take less room than their size. */
export const sparseIn = (root: string): string[] =>
  inFolder(root, 'find', '.', '-type', 'f', '-printf', '%p %s %b\\0')
    .split('\0')
    .filter((record) => {
      const [, size = 0, taken = 0] = / (\d+) (\d+)$/.exec(record) ?? [];
      return Number(taken) * 512 < Number(size);
    })
    .toSorted();

/** Type, numbers, mode, owner and time of FIFOs and devices. */
export const specialsIn = (root: string): string[] =>
  inFolder(
    root,
    'find',
    '.',
    '(',
    '-type',
    'p',
    '-o',
    '-type',
    'b',
    '-o',
    '-type',
    'c',
    ')',
    '-exec',
    'stat',
    '-c',
    '%n %F %t:%T %a %u:%g %.9Y',
    '{}',
    '+',
  )
    .split('\n')
    .filter(Boolean)
    .toSorted();

/** So that it can be removed. */
export function clearFlags(root: string): void {
  spawnSync('chattr', ['-R', '-f', '-i', '-a', root]);
}

/** Whether this machine lets a test mount, and why it may not: containers mostly do not. */
export function canMount(): boolean {
  if (!isRoot) return false;
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-mount-'));
  try {
    mkdirSync(join(folder, 'x'));
    return spawnSync('mount', ['-t', 'tmpfs', 'none', join(folder, 'x')]).status === 0;
  } finally {
    spawnSync('umount', [join(folder, 'x')]);
    rmSync(folder, { recursive: true });
  }
}

/** Mounts until disposal. */
export function mounted(place: string, ...args: string[]): Disposable {
  execFileSync('mount', [...args, place]);
  return { [Symbol.dispose]: () => void execFileSync('umount', ['--lazy', place]) };
}
