/** Paths of a tree: which are allowed, where they are on this machine, and the one that is never an entry. */
import { HoldfastError } from '../errors.ts';
import { NAME_MAX_BYTES, PATH_MAX_BYTES } from '../limits.ts';
import { rawForDisplay, rawToFs, type RawPath } from '../raw-path.ts';

/**
 * Lies in the target while a restore into it runs, and is removed last: a folder that has it does not hold everything. Never part of a
 * backup.
 */
export const RESTORE_MARKER = '.holdfast-restore-incomplete' as RawPath;

/** Beside the marker while a restore replaces files: in it they are written, each complete before it takes its place. Never part of a backup. */
export const RESTORE_STAGING = '.holdfast-restore-staging' as RawPath;

/** In any folder that lies on another file system than the target: the one file that is about to take its place there. */
export const RESTORE_READY = '.holdfast-restore-file' as RawPath;

/** That name, or the one of a log that is out of the way while its database is replaced; see `logs-aside.ts`. */
const READY_OR_ASIDE = /(?:^|\/)\.holdfast-restore-file(?:-wal|-journal|-shm)?$/;

/** What a restore puts into its target for the time it runs. */
export const isRestoreOwn = (path: RawPath): boolean =>
  path === RESTORE_MARKER || path === RESTORE_STAGING || READY_OR_ASIDE.test(path);

/** The absolute path of an entry of the tree at `base`, in the form `node:fs` takes. */
export function inTree(base: RawPath, path: RawPath): string | Buffer {
  return rawToFs(absoluteIn(base, path));
}

/** The absolute path of an entry of the tree at the absolute path `base`. */
export function absoluteIn(base: RawPath, path: RawPath): RawPath {
  return (path === '' ? base : base.endsWith('/') ? base + path : `${base}/${path}`) as RawPath;
}

/**
 * Throws `damaged` unless the path can only name something below the folder it is taken relative to: names of 1 to 255 bytes other than
 * `.` and `..` with single slashes between them, no NUL, 4,096 bytes at most. (The root's own '' is refused too.)
 */
export function checkEntryPath(path: RawPath): void {
  const fault = faultOf(path);
  if (fault === undefined) return;
  const shown = path.length > 200 ? `${rawForDisplay(path.slice(0, 200) as RawPath)}…` : rawForDisplay(path);
  throw new HoldfastError('damaged', `the snapshot has an entry whose path ${fault}: ${shown}`, {
    hint: 'Nothing was written for it. Restore another snapshot, and find out who could have written this one.',
  });
}

/** True when each character is a byte other than NUL, as in everything the kernel takes for a path. */
export function isRaw(text: string): boolean {
  return !/[^\x01-\xff]/.test(text);
}

function faultOf(path: string): string | undefined {
  if (path.length > PATH_MAX_BYTES) return `is longer than ${PATH_MAX_BYTES} bytes`;
  if (path.startsWith('/')) return 'is absolute';
  if (!isRaw(path)) return 'holds a NUL, or characters that are no bytes';
  for (const name of path.split('/')) {
    if (name === '') return 'is empty, or has an empty name in it';
    if (name === '.' || name === '..') return `has the name "${name}" in it`;
    if (name.length > NAME_MAX_BYTES) return `has a name longer than ${NAME_MAX_BYTES} bytes`;
  }
  return undefined;
}
