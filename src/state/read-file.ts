/** Reads one scanned file, in pieces, and says whether what was read is one state of the file. */
import { closeSync, constants, fstatSync, openSync, readSync, type BigIntStats } from 'node:fs';
import { resolve } from 'node:path';
import { systemErrorCode, throwIfAborted } from '../errors.ts';
import { READ_BUFFER_BYTES } from '../limits.ts';
import { rawFromText, type RawPath } from '../raw-path.ts';
import { isFinished, wholeLinesBytes } from './log-end.ts';
import type { Hole } from '../entry.ts';
import { attributesOfFile, holesOf, type AttributesRead } from './attributes.ts';
import { isInTree, Refusal } from './held-folder.ts';
import { describe, type ScannedFile } from './scan.ts';
import { isGone, isSystemError, reasonOf } from './system-error.ts';
import { inTree } from './tree-path.ts';

/** What goes with the contents; see `FileEntry`. */
export interface Extras extends AttributesRead {
  holes?: readonly Hole[];
}

export type ReadResult =
  /**
   * The pieces are the file, and `file` is what it was like when it was opened (it may be newer than the scan's view). Of a log, `file.size` is how many
   * bytes were read, and `partLineBytes` how many were left out.
   */
  | { outcome: 'ok'; file: ScannedFile; extras: Extras; partLineBytes: number }
  /**
   * The file was written, cut, renamed or otherwise touched while it was read: the pieces may mix old and new. `file.size` is how many
   * bytes were read, and its times are those from before the reading, so that a later scan sees a difference and reads again.
   */
  | { outcome: 'changed'; file: ScannedFile; extras: Extras; reason: string }
  /** Nothing is there any more, or something that is no regular file. */
  | { outcome: 'vanished'; reason: string }
  /** Any pieces that were given are a part of the file only. */
  | { outcome: 'unreadable'; reason: string };

export interface ReadOptions {
  /** Where pieces are read into, and so their largest size; one for many files saves making it anew. By default up to 4 MiB are made. */
  buffer?: Uint8Array;
  signal?: AbortSignal | undefined;
  /** It is a log that is only ever appended to, read by this clock (milliseconds): a last line that may not be whole yet is left out, and it may grow. */
  logAtMs?: number | undefined;
}

/**
 * Yields the contents of the regular file at `path` under `root` piece by piece; the result is what the generator returns. A piece
 * is valid only until the next is asked for. A caller that stops early calls `return()` (as `for…of` does), which closes the file.
 *
 * A generator and not a stream: it costs next to nothing for small files, and the caller may await whatever it likes between two pieces.
 *
 * Holes are not read from the disk: their zeros are made here. Extended attributes and flags are looked at before the contents, so that
 * a change of them shows as one of the file.
 *
 * At most as many bytes are read as the file had when opened, so a log that grows without end still ends here (as `changed`).
 * The file is opened without following a link, its own or one in the place of a folder on the way (see `held-folder.ts`), without blocking on a FIFO and, where allowed, without touching its access time.
 * A caller that gets `changed` simply calls again; nothing but the path is taken from the scan.
 *
 * Limits: a write within the kernel's clock tick (some milliseconds before Linux 6.13) of the write before it leaves the times as they were;
 * so does one through a shared mapping (mmap) until it is written back, which on tmpfs is never.
 *
 * @throws HoldfastError `interrupted`
 */
export function* readFile(
  root: string,
  path: RawPath,
  options: ReadOptions = {},
): Generator<Uint8Array, ReadResult, void> {
  throwIfAborted(options.signal);
  let fd: number | undefined;
  try {
    fd = openIn(rawFromText(resolve(root)), path);
    const before = fstatSync(fd, { bigint: true });
    if (!before.isFile()) return { outcome: 'vanished', reason: 'is no regular file any more' };
    let file = describe(path, before) as ScannedFile;
    const { logAtMs } = options;
    if (logAtMs !== undefined && !isFinished(file.mtimeNs, logAtMs))
      file = { ...file, size: wholeLinesBytes(fd, file.size) };
    const partLineBytes = Number(before.size) - file.size;
    const buffer = options.buffer ?? Buffer.allocUnsafeSlow(Math.min(file.size, READ_BUFFER_BYTES));
    const extras: Extras = attributesOfFile(fd);
    const holes = file.allocated < file.size ? holesOf(fd, file.size) : [];
    let size = 0;
    let next = 0;
    let isZeroed = false;
    while (size < file.size) {
      throwIfAborted(options.signal);
      const hole = holes[next];
      const isInHole = hole !== undefined && size >= hole.offset;
      const end = hole === undefined ? file.size : isInHole ? hole.offset + hole.length : hole.offset;
      const wanted = Math.min(buffer.length, end - size);
      if (isInHole && !isZeroed) buffer.fill(0);
      isZeroed = isInHole;
      const length = isInHole ? wanted : readSync(fd, buffer, 0, wanted, size);
      if (length === 0) break;
      size += length;
      if (isInHole && size === end) next++;
      yield buffer.subarray(0, length);
    }
    const kept = within(holes, size);
    if (kept.length > 0) extras.holes = kept;
    const change =
      difference(before, fstatSync(fd, { bigint: true }), logAtMs !== undefined) ??
      (size < file.size ? 'became shorter' : undefined);
    return change === undefined
      ? { outcome: 'ok', file, extras, partLineBytes }
      : { outcome: 'changed', file: { ...file, size }, extras, reason: `${change} while it was read` };
  } catch (error) {
    if (error instanceof Refusal) return { outcome: 'unreadable', reason: `cannot be read: ${error.message}` };
    if (!isSystemError(error)) throw error;
    // Opened with O_NOFOLLOW, a link gives ELOOP; a socket gives ENXIO.
    if (isGone(error)) return { outcome: 'vanished', reason: 'is not there any more' };
    if (['ELOOP', 'ENXIO'].includes(systemErrorCode(error) ?? ''))
      return { outcome: 'vanished', reason: 'is no regular file any more' };
    return { outcome: 'unreadable', reason: `cannot be read: ${reasonOf(error)}` };
  } finally {
    if (fd !== undefined) closeQuietly(fd);
  }
}

/** What a disk says when a file that was only read is closed changes nothing. */
function closeQuietly(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // nothing is lost
  }
}

/** Of a file that became shorter, what is left of its holes. */
function within(holes: readonly Hole[], size: number): Hole[] {
  return holes
    .filter(({ offset }) => offset < size)
    .map(({ offset, length }) => ({ offset, length: Math.min(length, size - offset) }));
}

const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** How often one that is exchanged for another just then is tried again. */
const TRIES = 5;

/** Opened by name, and then found to be what has that name in the tree: a folder on the way may have been exchanged for a link. */
function openIn(root: RawPath, path: RawPath): number {
  for (let i = 1; ; i++) {
    const fd = open(inTree(root, path));
    try {
      // What is no regular file is found out by the caller.
      if (!fstatSync(fd).isFile() || isInTree(fd, root, path)) return fd;
      if (i === TRIES) throw new Refusal('it is exchanged again and again');
    } catch (error) {
      closeQuietly(fd);
      throw error;
    }
    closeQuietly(fd);
  }
}

/** O_NOATIME exists on Linux only, and only the owner and root may use it. */
function open(path: string | Buffer): number {
  try {
    return openSync(path, FLAGS | (constants.O_NOATIME ?? 0));
  } catch (error) {
    if (systemErrorCode(error) !== 'EPERM') throw error;
    return openSync(path, FLAGS);
  }
}

function difference(before: BigIntStats, after: BigIntStats, mayGrow: boolean): string | undefined {
  if (mayGrow && after.size > before.size) return undefined;
  if (after.size !== before.size) return after.size > before.size ? 'grew' : 'became shorter';
  if (after.mtimeNs !== before.mtimeNs) return 'was written to';
  if (after.ctimeNs !== before.ctimeNs) return 'was touched';
  return undefined;
}
