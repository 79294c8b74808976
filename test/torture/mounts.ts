/** Small real file systems, which root may mount. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const mount = (...args: string[]) => spawnSync('mount', args, { encoding: 'utf8' });

/** A new file system in memory, at most so large, in the folder, which is made. */
export function mountSmall(folder: string, bytes: number): void {
  mkdirSync(folder, { recursive: true });
  const { status, stderr } = mount('-t', 'tmpfs', '-o', `size=${bytes},mode=755`, 'holdfast-torture', folder);
  if (status !== 0) throw new Error(`cannot mount a file system: ${stderr}`);
}

/** Such as `ro`, `rw` or `size=1000000`. */
export function remount(folder: string, option: string): void {
  const { status, stderr } = mount('-o', `remount,${option}`, folder);
  if (status !== 0) throw new Error(`cannot remount ${folder}: ${stderr}`);
}

export function unmountBelow(folder: string): void {
  const below = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .flatMap((line) => line.split(' ')[1] ?? [])
    .filter((place) => place.startsWith(`${folder}/`));
  for (const place of below.reverse()) spawnSync('umount', ['--lazy', place]);
}

/** Why nothing can be mounted here; undefined when it can. */
export function cannotMount(): string | undefined {
  if (process.platform !== 'linux') return 'it takes Linux';
  if (process.getuid?.() !== 0) return 'only root can mount file systems';
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-mount-'));
  const { status, stderr } = mount('-t', 'tmpfs', '-o', 'size=100k', 'holdfast-torture', folder);
  if (status === 0) spawnSync('umount', [folder]);
  rmdirSync(folder);
  return status === 0 ? undefined : `mount: ${stderr.trim()}`;
}
