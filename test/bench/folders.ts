/** Folders to work in, and what is in them. */
import { spawnSync } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Makes a folder to work in. ext4 keeps a folder's files near it, and when it makes a file it looks past each one that was removed near
 * there in the last minutes: in a place where a tree was just removed, making a file takes twenty times as long. So here new
 * folders are spread over the disk (`chattr +T`, where there is such a thing), and no restore pays for the removal of the one before.
 */
export function workFolder(path: string): string {
  mkdirSync(path, { recursive: true });
  spawnSync('chattr', ['+T', path]);
  return path;
}

/** An empty folder in a `workFolder`. Its name was never used before: ext4 chooses the place by the name. */
export function freshFolder(work: string, name: string): string {
  return mkdtempSync(join(work, `${name}-`));
}

/** Writes what waits to be written, so that no command pays for the one before it. */
export function settle(): void {
  spawnSync('sync');
}

/** Only root can empty the page cache. */
export const canForget = (): boolean => process.getuid?.() === 0;

/** Empties the page cache. */
export function forget(): void {
  settle();
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

/** Reads everything below the folders, so that it is in the page cache where it fits. */
export function warm(...folders: readonly string[]): void {
  const cat = spawnSync('find', [...folders, '-type', 'f', '-exec', 'cat', '{}', '+'], {
    stdio: ['ignore', 'ignore', 2],
  });
  if (cat.status !== 0) throw new Error(`cannot read ${folders.join(' and ')}`);
}

/** The files of the tree (not the folders) and their bytes. */
export function sizeOf(tree: string): { files: number; bytes: number } {
  const sizes = sizesBelow(tree);
  return { files: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

/** The bytes of all files below. */
export function bytesBelow(folder: string): number {
  return sizesBelow(folder).reduce((sum, size) => sum + size, 0);
}

function sizesBelow(folder: string): number[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => lstatSync(join(entry.parentPath, entry.name)).size);
}

/**
 * A benchmark of a wrong restore is worth nothing: contents, modes and times (to 1 ms) have to be those that were saved.
 *
 * @throws Error with what differs.
 */
export function assertSame(source: string, restored: string, { name }: { name: string }): void {
  const { status, stdout, stderr } = spawnSync('diff', ['-rq', '--no-dereference', source, restored], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(`${name} restored something else:\n${`${stdout}${stderr}`.slice(0, 2000)}`);
  const names = lstatSync(source).isDirectory() ? readdirSync(source, { recursive: true, encoding: 'utf8' }) : [''];
  for (const path of names) {
    const [was, is] = [lstatSync(join(source, path)), lstatSync(join(restored, path))];
    if (was.mode !== is.mode || Math.abs(was.mtimeMs - is.mtimeMs) > 1)
      throw new Error(`${name} restored ${path} with another mode or time`);
  }
}
