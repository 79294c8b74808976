/**
 * Writes a tree back: into a folder that is new or empty, never through a link, never over anything.
 *
 * Order of work, so that a restore killed at any instruction is recognisable and reaches nothing outside its target:
 * 1. the marker file is made, and is on disk before anything else is written;
 * 2. folders are made with mode 0700 and files with mode 0600, each below a folder made in the same run;
 * 3. a file gets owner, mode and times when it is closed, contents complete;
 * 4. `finish` makes the links (until then no link exists in the target), then gives folders, the deepest first, their owner, mode and times;
 * 5. everything is flushed to the disk, the marker is removed, and last the target gets its own owner, mode and times.
 *
 * The calls are synchronous: for many small files that is several times faster than one promise a call.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  symlinkSync,
  unlinkSync,
  writeSync,
  type BigIntStats,
} from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { FileEntry, SymlinkEntry, Warning } from '../entry.ts';
import { HoldfastError, assert, systemErrorCode } from '../errors.ts';
import { PATH_MAX_BYTES } from '../limits.ts';
import { ROOT, parentOf, rawForDisplay, rawFromText, rawToFs, type RawPath } from '../raw-path.ts';
import { exactTimes, type TimeSetter } from './exact-times.ts';
import { libc } from './libc.ts';
import { Losses, type Metadata } from './losses.ts';
import { isSystemError, reasonOf } from './system-error.ts';
import { RESTORE_MARKER, absoluteIn, checkEntryPath, inTree, isRaw } from './tree-path.ts';

export type FolderToWrite = Metadata;
export type FileToWrite = Metadata & Pick<FileEntry, 'size'>;
export type SymlinkToWrite = Metadata & Pick<SymlinkEntry, 'target'>;

/** A file being written, known by identity: from `createFile` until `closeFile` or `discardFile`. */
export interface FileRef {
  readonly file: FileToWrite;
}

export interface TargetOptions {
  /** How times are set; exactly, where possible, by default. */
  times?: TimeSetter;
}

/**
 * Makes `folder` (with its parents, mode 0700) or takes it if it is empty; a link to an empty folder is followed once, here. While the
 * restore runs, nobody but its owner can look into it.
 *
 * @throws HoldfastError `exists` when it holds anything, an unfinished restore included, or is no folder; `io` when the system refuses.
 */
export async function openTarget(folder: string, options: TargetOptions = {}): Promise<TreeWriter> {
  const path = resolve(folder);
  const shown = rawForDisplay(rawFromText(path));
  const refuse = (what: string, hint: string) => new HoldfastError('exists', `the target ${shown} ${what}`, { hint });
  try {
    const existing = namesInTarget(path);
    checkEmpty(path, existing ?? []);
    if (existing === undefined) makeFolders(path);
    const base = realpathSync.native(path, 'latin1') as RawPath;
    const before = statOf(base);
    placeMarker(base);
    if (existing !== undefined) leniently(() => chmodSync(rawToFs(base), 0o700));
    return new TreeWriter(base, before, options.times ?? exactTimes());
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'EEXIST') throw refuse('is being restored into by another run', 'Name another folder.');
    throw isSystemError(error) ? refusedBySystem(`the target ${shown} cannot be used`, error) : error;
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

/** By hand: Node's recursive form never ends where a parent is there and nothing can be made in it (`/proc`). */
function makeFolders(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const parent = dirname(path);
    if (systemErrorCode(error) !== 'ENOENT' || existsSync(parent)) throw error;
    makeFolders(parent);
    mkdirSync(path, { mode: 0o700 });
  }
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

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const REOPEN = constants.O_WRONLY | constants.O_NOFOLLOW;

/** Descriptors kept open; the rest of the files being written are opened again when their turn comes. */
const OPEN_FILES_MAX = 128;

const SETUID_SETGID = 0o6000;

/**
 * The target of one restore. Entries come in any order in which folders precede what they hold (manifest order does); contents come at any
 * offset, to any number of files at once. Nothing is complete before `finish`. Disposal without it closes what is open and leaves the marker.
 *
 * Every method throws `damaged` for an entry that no real tree could hold (see `checkEntryPath`; below a link or below no folder; twice the
 * same), before anything is done for it, and `io` when the system refuses to go on (disk full, …).
 */
export class TreeWriter implements AsyncDisposable {
  readonly #base: RawPath;
  readonly #before: BigIntStats;
  readonly #times: TimeSetter;
  readonly #user = { uid: process.geteuid?.(), gid: process.getegid?.() };
  /** In the order they were added; undefined for one that could not be made, so that what it holds is left out. */
  readonly #folders = new Map<RawPath, FolderToWrite | undefined>();
  readonly #symlinks = new Map<RawPath, SymlinkToWrite>();
  #root: FolderToWrite | undefined;
  /** Least recently used first. */
  readonly #open = new Map<FileRef, number>();
  readonly #parked = new Set<FileRef>();
  readonly #leftOut = new Set<FileRef>();
  readonly #warnings: Warning[] = [];
  readonly #losses = new Losses();
  #finished = false;

  /** Use `openTarget`. */
  constructor(base: RawPath, before: BigIntStats, times: TimeSetter) {
    this.#base = base;
    this.#before = before;
    this.#times = times;
  }

  /** The root's own entry (path '') gives the target its mode and times; without it they stay what they were. */
  addFolder(folder: FolderToWrite): void {
    const { path } = folder;
    if (path === ROOT) {
      if (this.#root) throw damagedEntry(path, 'is in the snapshot twice');
      this.#root = folder;
      return;
    }
    const made = this.#place(path) && this.#make(path, () => mkdirSync(this.#at(path), 0o700), 'and all it holds ');
    this.#folders.set(path, made ? folder : undefined);
  }

  /** Only remembered: made by `finish`, so that no write can ever go through it. */
  addSymlink(symlink: SymlinkToWrite): void {
    const { path, target } = symlink;
    if (target === '' || target.length > PATH_MAX_BYTES || !isRaw(target)) {
      throw damagedEntry(path, 'is a link that no system could hold');
    }
    const wanted =
      this.#place(path) &&
      this.#make(path, () => {
        if (lstatSync(this.#at(path), { throwIfNoEntry: false })) throw damagedEntry(path, 'is in the snapshot twice');
      });
    if (wanted) this.#symlinks.set(path, symlink);
  }

  /** Makes the file, empty. One that this file system cannot hold is reported by `finish`, and writes to it do nothing. */
  createFile(file: FileToWrite): FileRef {
    const ref = { file };
    const fd = this.#create(file);
    if (fd === undefined) this.#leftOut.add(ref);
    else this.#keepOpen(ref, fd);
    return ref;
  }

  write(ref: FileRef, offset: number, bytes: Uint8Array): void {
    if (this.#leftOut.has(ref)) return;
    assert(offset >= 0 && offset + bytes.length <= ref.file.size, 'a restore wrote past the end of a file');
    this.#writing(ref.file.path, () => writeAll(this.#descriptor(ref), offset, bytes));
  }

  /** The contents are complete: gives the file its owner, mode and times. */
  closeFile(ref: FileRef): void {
    if (this.#leftOut.delete(ref)) return;
    const fd = this.#descriptor(ref);
    this.#open.delete(ref);
    this.#seal(fd, ref.file);
  }

  /** The contents cannot be had: removes the file. Telling so is up to the caller, who knows why. */
  discardFile(ref: FileRef): void {
    if (this.#leftOut.delete(ref)) return;
    const fd = this.#open.get(ref);
    assert(fd !== undefined || this.#parked.has(ref), 'a file is discarded that is not being written');
    if (fd !== undefined) closeSync(fd);
    this.#open.delete(ref);
    this.#parked.delete(ref);
    this.#writing(ref.file.path, () => unlinkSync(this.#at(ref.file.path)));
  }

  /** `createFile`, `write` and `closeFile` in one, for contents at hand: the pieces in order. */
  writeFile(file: FileToWrite, pieces: readonly Uint8Array[]): void {
    const fd = this.#create(file);
    if (fd === undefined) return;
    let offset = 0;
    try {
      for (const piece of pieces) {
        this.#writing(file.path, () => writeAll(fd, offset, piece));
        offset += piece.length;
      }
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    this.#seal(fd, file);
  }

  /**
   * Completes the tree; every file must have been closed or discarded. Resolves to what could not be put back:
   * `not_restored` (incomplete; an entry this file system cannot hold), `owner_not_restored`, `mode_not_restored`, `times_rounded`.
   */
  async finish(): Promise<Warning[]> {
    assert(!this.#finished, 'a restore is finished twice');
    assert(
      this.#open.size + this.#parked.size + this.#leftOut.size === 0,
      'a restore is finished with a file still being written',
    );
    for (const symlink of this.#symlinks.values()) this.#makeSymlink(symlink);
    const folders = [...this.#folders.values()].reverse();
    for (const folder of folders) if (folder) this.#sealPath(folder);

    await this.#flush();
    this.#writing(RESTORE_MARKER, () => unlinkSync(this.#at(RESTORE_MARKER)));
    this.#finished = true;
    syncFolder(this.#base);
    if (this.#root) this.#sealPath(this.#root);
    else leniently(() => chmodSync(this.#at(ROOT), Number(this.#before.mode) & 0o7777));
    return [...this.#warnings, ...this.#losses.warnings()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const fd of this.#open.values()) closeSync(fd);
    this.#open.clear();
  }

  #at(path: RawPath): string | Buffer {
    return inTree(this.#base, path);
  }

  /** Throws for an entry that must not be; false for one whose folder could not be made. */
  #place(path: RawPath): boolean {
    assert(!this.#finished, 'an entry is added to a finished restore');
    checkEntryPath(path);
    if (path === RESTORE_MARKER) throw damagedEntry(path, 'has the name that marks an unfinished restore');
    if (this.#symlinks.has(path) || this.#folders.has(path)) throw damagedEntry(path, 'is in the snapshot twice');
    const parent = parentOf(path);
    if (parent === ROOT) return true;
    if (this.#symlinks.has(parent)) throw damagedEntry(path, 'lies below a symbolic link');
    if (!this.#folders.has(parent)) throw damagedEntry(path, 'lies in a folder that is not in the snapshot');
    return this.#folders.get(parent) !== undefined;
  }

  /** Runs `make`; false when this file system cannot hold such an entry, which is then reported. */
  #make(path: RawPath, make: () => void, withIt = ''): boolean {
    try {
      make();
      return true;
    } catch (error) {
      const code = systemErrorCode(error) ?? '';
      if (code === 'EEXIST')
        throw damagedEntry(path, 'is in the snapshot twice, or the target takes two of its names for one');
      if (!isSystemError(error)) throw error;
      if (!CANNOT_HOLD.includes(code)) throw refusedBySystem(`cannot restore ${rawForDisplay(path)}`, error);
      const shown = rawForDisplay(path);
      const message = `${shown} ${withIt}could not be restored: ${reasonOf(error)}`;
      this.#warnings.push({ code: 'not_restored', path: shown, message, incomplete: true });
      return false;
    }
  }

  #writing(path: RawPath, action: () => void): void {
    try {
      action();
    } catch (error) {
      throw isSystemError(error) ? refusedBySystem(`cannot write ${rawForDisplay(path)}`, error) : error;
    }
  }

  #create(file: FileToWrite): number | undefined {
    let fd: number | undefined;
    if (this.#place(file.path)) this.#make(file.path, () => (fd = openSync(this.#at(file.path), CREATE, 0o600)));
    return fd;
  }

  #descriptor(ref: FileRef): number {
    let fd = this.#open.get(ref);
    if (fd === undefined) {
      assert(this.#parked.delete(ref), 'a file is used that is not being written');
      this.#writing(ref.file.path, () => (fd = openSync(this.#at(ref.file.path), REOPEN)));
    }
    this.#keepOpen(ref, fd as number);
    return fd as number;
  }

  #keepOpen(ref: FileRef, fd: number): void {
    this.#open.delete(ref);
    this.#open.set(ref, fd);
    if (this.#open.size <= OPEN_FILES_MAX) return;
    for (const [oldest, its] of this.#open) {
      this.#open.delete(oldest);
      this.#parked.add(oldest);
      closeSync(its);
      return;
    }
  }

  /** Owner before mode, as changing the owner clears setuid; times last. */
  #seal(fd: number, file: FileToWrite): void {
    this.#writing(file.path, () => {
      try {
        const owned = this.#setOwner(file, () => fchownSync(fd, file.uid, file.gid));
        leniently(() => fchmodSync(fd, owned ? file.mode : file.mode & ~SETUID_SETGID));
        leniently(() => this.#times.ofFile(fd, file.mtimeNs));
        const now = fstatSync(fd, { bigint: true });
        assert(Number(now.size) === file.size, 'a restored file does not have its size');
        this.#losses.compare(file, now);
      } finally {
        closeSync(fd);
      }
    });
  }

  #sealPath(folder: FolderToWrite): void {
    const path = this.#at(folder.path);
    this.#writing(folder.path, () => {
      this.#setOwner(folder, () => chownSync(path, folder.uid, folder.gid));
      leniently(() => chmodSync(path, folder.mode));
      leniently(() => this.#times.ofPath(absoluteIn(this.#base, folder.path), folder.mtimeNs));
      this.#losses.compare(folder, statOf(absoluteIn(this.#base, folder.path)));
    });
  }

  #makeSymlink(symlink: SymlinkToWrite): void {
    const { path } = symlink;
    if (!this.#make(path, () => symlinkSync(rawToFs(symlink.target), this.#at(path)))) return;
    this.#writing(path, () => {
      this.#setOwner(symlink, () => lchownSync(this.#at(path), symlink.uid, symlink.gid));
      leniently(() => this.#times.ofPath(absoluteIn(this.#base, path), symlink.mtimeNs));
      this.#losses.compare(symlink, statOf(absoluteIn(this.#base, path)));
    });
  }

  /**
   * Only root may give things away. False when the owner is not the recorded one: then setuid and setgid of a file are left out, for they
   * would lend another user's rights than they were meant to.
   */
  #setOwner(wanted: Metadata, change: () => void): boolean {
    if (this.#user.uid !== 0) return wanted.uid === this.#user.uid && wanted.gid === this.#user.gid;
    return leniently(change);
  }

  /** Where the C library cannot be called this does nothing: a power failure within the next half minute may then cost contents. */
  async #flush(): Promise<void> {
    const fd = openSync(this.#at(ROOT), constants.O_RDONLY);
    try {
      const result = (await libc()?.syncfs?.(fd)) ?? 0;
      if (result !== 0) {
        throw new HoldfastError('io', 'the disk did not take all that was restored', {
          hint: 'Check the disk, and restore to another one.',
        });
      }
    } finally {
      closeSync(fd);
    }
  }
}

/** What the system says when the entry, and not the disk, is the problem: path too long, a name or a kind that this file system lacks. */
const CANNOT_HOLD = ['ENAMETOOLONG', 'EILSEQ', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'EPERM'];

/** Metadata that a file system (FAT, a network share) or a container refuses is no reason to stop; the comparison afterwards tells. */
export function leniently(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (['EPERM', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(systemErrorCode(error) ?? '')) return false;
    throw error;
  }
}

function writeAll(fd: number, offset: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
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

function damagedEntry(path: RawPath, what: string): HoldfastError {
  return new HoldfastError('damaged', `the entry ${path === ROOT ? '.' : rawForDisplay(path)} ${what}`, {
    hint: 'The restore stopped before it. Restore another snapshot, and find out who could have written this one.',
  });
}

export function refusedBySystem(what: string, error: unknown): HoldfastError {
  const full = ['ENOSPC', 'EDQUOT'].includes(systemErrorCode(error) ?? '');
  return new HoldfastError('io', `${what}: ${reasonOf(error)}`, {
    hint: full ? 'Free some space or choose another disk, and restore again.' : 'Check the target and its permissions.',
    cause: error,
  });
}
