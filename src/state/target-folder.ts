/** The folder that a restore goes into: making it, marking it, and bytes on the disk. */
import {
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  writeSync,
  type BigIntStats,
} from 'node:fs';
import { dirname } from 'node:path';
import type { Hole } from '../entry.ts';
import { HoldfastError, systemErrorCode } from '../errors.ts';
import { parentOf, rawForDisplay, rawFromText, rawToFs, rawToText, type RawPath } from '../raw-path.ts';
import { libc } from './libc.ts';
import { leniently } from './refusals.ts';
import { RESTORE_MARKER, inTree } from './tree-path.ts';

/** By hand: Node's recursive form never ends where a parent is there and nothing can be made in it (`/proc`). */
export function makeFolders(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const parent = dirname(path);
    if (systemErrorCode(error) !== 'ENOENT' || existsSync(parent)) throw error;
    makeFolders(parent);
    mkdirSync(path, { mode: 0o700 });
  }
}

/** @throws `exists` when a target that holds these names is not empty. */
export function checkEmpty(path: string, names: readonly string[]): void {
  if (names.length === 0) return;
  const isUnfinished = names.includes(RESTORE_MARKER);
  const what = isUnfinished ? 'holds an unfinished restore' : 'is not empty';
  throw new HoldfastError('exists', `the target ${rawForDisplay(rawFromText(path))} ${what}`, {
    hint: isUnfinished
      ? '`--overwrite changed` finishes it; or name another folder.'
      : 'Name a folder that is empty or does not exist yet, or say with --overwrite what becomes of what is there.',
  });
}

/** Undefined when there is nothing. @throws `exists` when it is no folder, or a link that leads nowhere */
export function namesInTarget(path: string): string[] | undefined {
  try {
    return readdirSync(path, 'latin1');
  } catch (error) {
    const isNothing = systemErrorCode(error) === 'ENOENT' && !lstatSync(path, { throwIfNoEntry: false });
    if (isNothing) return undefined;
    if (!['ENOENT', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) throw error;
    throw new HoldfastError('exists', `the target ${rawForDisplay(rawFromText(path))} is not a folder`, {
      hint: 'Name a folder that is empty or does not exist yet.',
    });
  }
}

const MARKER_TEXT = `A restore by holdfast into this folder has not ended, so not everything is here.
If none is running any more, remove the whole folder and restore again.
`;

export function placeMarker(base: RawPath, text = MARKER_TEXT): void {
  const fd = openSync(inTree(base, RESTORE_MARKER), CREATE, 0o600);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  syncFolder(base);
}

export const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export function writeAll(fd: number, offset: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}

/**
 * The same, but zeros in a hole are not written: there the file stays without any. (What a manifest calls a hole and is none, is written.)
 * @param holes ascending.
 */
export function writeAround(fd: number, holes: readonly Hole[], offset: number, bytes: Uint8Array): void {
  const end = offset + bytes.length;
  let at = offset;
  for (let i = firstEndingAfter(holes, offset); i < holes.length; i++) {
    const hole = holes[i] as Hole;
    if (hole.offset >= end) break;
    const [from, to] = [Math.max(hole.offset, offset), Math.min(hole.offset + hole.length, end)];
    if (!isZero(bytes.subarray(from - offset, to - offset))) continue;
    if (from > at) writeAll(fd, at, bytes.subarray(at - offset, from - offset));
    at = to;
  }
  if (end > at) writeAll(fd, at, bytes.subarray(at - offset));
}

function firstEndingAfter(holes: readonly Hole[], offset: number): number {
  let [low, high] = [0, holes.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const hole = holes[middle] as Hole;
    if (hole.offset + hole.length > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}

const ZEROS = Buffer.alloc(64 * 1024);

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const piece = bytes.subarray(at, at + ZEROS.length);
    if (ZEROS.compare(piece, 0, piece.length, 0, piece.length) !== 0) return false;
  }
  return true;
}

/** Whether the folder lists the very name of `path`: where two names count as one (case, Unicode), what is there may have the other. */
export function hasName(base: RawPath, path: RawPath): boolean {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const text = rawToText(name as RawPath) ?? '';
  if (text.normalize('NFC') !== text.normalize('NFD')) return false; // some systems list it in the form that they like
  return readdirSync(inTree(base, parentOf(path)), 'latin1').includes(name);
}

export function statOf(path: RawPath): BigIntStats {
  return lstatSync(rawToFs(path), { bigint: true });
}

export function syncFolder(path: RawPath): void {
  const fd = openSync(rawToFs(path), constants.O_RDONLY);
  try {
    leniently(() => fsyncSync(fd));
  } finally {
    closeSync(fd);
  }
}

/**
 * Resolves when all that was written to the file system of the folder is on the disk. Where the C library cannot be called this does nothing: a
 * power failure within the next half minute may then cost contents.
 * @throws `io` when the disk did not take it.
 */
export async function syncAll(folder: RawPath): Promise<void> {
  const fd = openSync(rawToFs(folder), constants.O_RDONLY);
  try {
    if (((await libc()?.syncfs?.(fd)) ?? 0) === 0) return;
  } finally {
    closeSync(fd);
  }
  throw new HoldfastError('io', 'the disk did not take all that was restored', {
    hint: 'Check the disk, and restore to another one.',
  });
}
