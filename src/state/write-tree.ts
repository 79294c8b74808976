/**
 * Writes a tree back: into a folder that is new or empty, never through a link, never over anything.
 *
 * The target is held open and closed to all others until it is complete, so that nobody can exchange what is in it, and whoever exchanges the target
 * itself gets nothing.
 *
 * Order of work, so that a restore killed at any instruction is recognisable and reaches nothing outside its target:
 * 1. the marker file is made, and is on disk before anything else is written;
 * 2. folders are made with mode 0700 and files with mode 0600, each below a folder made in the same run;
 * 3. a file gets owner, mode and times when it is closed, contents complete;
 * 4. `finish` makes the links (until then no link exists in the target), then gives folders, the deepest first, their owner, mode and times,
 *    and then everything its flags, after which an immutable file cannot be changed any more;
 * 5. everything is flushed to the disk, the marker is removed, and last the target gets its own owner, mode, times and flags.
 *
 * The calls are synchronous: for many small files that is several times faster than one promise a call.
 */
import {
  closeSync,
  constants,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  symlinkSync,
  unlinkSync,
  type BigIntStats,
} from 'node:fs';
import { resolve } from 'node:path';
import type { Device, Entry, FileEntry, SymlinkEntry, Warning } from '../entry.ts';
import { HoldfastError, assert, systemErrorCode } from '../errors.ts';
import { PATH_MAX_BYTES } from '../limits.ts';
import { ROOT, parentOf, rawForDisplay, rawFromText, rawToFs, type RawPath } from '../raw-path.ts';
import { dropInheritedAcls, makeSpecial } from './attributes.ts';
import { exactTimes, type TimeSetter } from './exact-times.ts';
import { closeToOthers, HeldFolder, Refusal, reopen } from './held-folder.ts';
import type { Metadata } from './losses.ts';
import { MetadataWriter } from './metadata.ts';
import { CANNOT_HOLD, CANNOT_LINK, damagedEntry, refusedBySystem } from './refusals.ts';
import { isSystemError, reasonOf } from './system-error.ts';
import {
  CREATE,
  hasName,
  checkEmpty,
  namesInTarget,
  placeMarker,
  syncAll,
  syncFolder,
  writeAll,
  writeAround,
} from './target-folder.ts';
import { RESTORE_MARKER, absoluteIn, checkEntryPath, inTree, isRaw } from './tree-path.ts';

export type FolderToWrite = Metadata;
export type FileToWrite = Metadata & Pick<FileEntry, 'size' | 'holes'>;
export type SymlinkToWrite = Metadata & Pick<SymlinkEntry, 'target'>;
export type SpecialToWrite = Metadata & ({ type: 'fifo' } | { type: 'device'; device: Device });

/** A file being written, known by identity: from `createFile` until `closeFile` or `discardFile`. */
export interface FileRef {
  readonly file: FileToWrite;
}

export interface TargetOptions {
  /** How times are set; exactly, where possible, by default. */
  times?: TimeSetter;
  /** That the entries are to be moved elsewhere: they get no flags, which would forbid it. */
  isStaged?: boolean;
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
  let held: HeldFolder | undefined;
  try {
    const existing = namesInTarget(path);
    checkEmpty(path, existing ?? []);
    held = HeldFolder.reach(path, { isNew: existing === undefined });
    const before = held.stat();
    closeToOthers(held, shown);
    checkEmpty(path, namesInTarget(held.path) ?? []);
    placeMarker(held.path);
    dropInheritedAcls(held.path, { own: existing === undefined });
    return new TreeWriter(held, before, { times: exactTimes(), isStaged: false, ...options });
  } catch (error) {
    held?.[Symbol.dispose]();
    const code = systemErrorCode(error);
    if (code === 'EEXIST') throw refuse('is being restored into by another run', 'Name another folder.');
    throw isSystemError(error) ? refusedBySystem(`the target ${shown} cannot be used`, error) : error;
  }
}

const REOPEN = constants.O_WRONLY | constants.O_NOFOLLOW;

/** Descriptors kept open; the rest of the files being written are opened again when their turn comes. */
const OPEN_FILES_MAX = 128;

/** What is written before the disk is told to take it. */
const FLUSH_BYTES = 64 * 1024 * 1024;

/** Entries that are named, of those that the target cannot hold; of the rest the number is told. */
const LEFT_OUT_NAMED_MAX = 1000;

const ALREADY_THERE = { code: 'EEXIST', errno: -17 };

/**
 * The target of one restore. Entries come in any order in which folders precede what they hold (manifest order does); contents come at any
 * offset, to any number of files at once. Nothing is complete before `finish`. Disposal without it closes what is open and leaves the marker.
 *
 * Every method throws `damaged` for an entry that no real tree could hold (see `checkEntryPath`; below a link or below no folder; twice the
 * same), before anything is done for it, and `io` when the system refuses to go on (disk full, …).
 */
export class TreeWriter implements AsyncDisposable {
  readonly #held: HeldFolder;
  readonly #base: RawPath;
  readonly #before: BigIntStats;
  readonly #metadata: MetadataWriter;
  readonly #isStaged: boolean;
  /** In the order they were added; undefined for one that could not be made, so that what it holds is left out. */
  readonly #folders = new Map<RawPath, FolderToWrite | undefined>();
  readonly #symlinks = new Map<RawPath, SymlinkToWrite>();
  #root: FolderToWrite | undefined;
  /** Least recently used first. */
  readonly #open = new Map<FileRef, number>();
  readonly #parked = new Set<FileRef>();
  readonly #leftOut = new Set<FileRef>();
  readonly #warnings: Warning[] = [];
  /** Those that get flags when all is done. */
  readonly #flagged: Metadata[] = [];
  #leftOutEntries = 0;
  #unflushedBytes = 0;
  #flushing: Promise<unknown> | undefined;
  #flushFailure: unknown;
  #finished = false;

  /** Use `openTarget`. */
  constructor(held: HeldFolder, before: BigIntStats, { times, isStaged }: Required<TargetOptions>) {
    this.#held = held;
    this.#base = held.path;
    this.#before = before;
    this.#metadata = new MetadataWriter(times);
    this.#isStaged = isStaged;
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
        if (lstatSync(this.#at(path), { throwIfNoEntry: false })) throw Object.assign(new Error(), ALREADY_THERE);
      });
    if (wanted) this.#symlinks.set(path, symlink);
  }

  addSpecial(special: SpecialToWrite): void {
    const { path } = special;
    const at = absoluteIn(this.#base, path);
    if (this.#place(path) && this.#make(path, () => makeSpecial(at, special))) this.#sealPath(special, special.type);
  }

  /**
   * Makes `file` another name of the file at `first`, which is complete. False when this cannot be and the file is to be written on its
   * own; true also when the target cannot hold it at all, which `finish` reports.
   */
  addHardlink(file: FileToWrite, first: RawPath): boolean {
    const { path } = file;
    let isLinked = true;
    if (!this.#place(path)) return true;
    this.#make(path, () => {
      try {
        linkSync(this.#at(first), this.#at(path));
      } catch (error) {
        if (!CANNOT_LINK.includes(systemErrorCode(error) ?? '')) throw error;
        isLinked = false;
      }
    });
    if (!isLinked) this.#metadata.losses.count('hardlinks_not_restored', path);
    return isLinked;
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
    const fd = this.#descriptor(ref);
    this.#wrote(bytes);
    if (this.#fits(ref.file, () => write(fd, ref.file, offset, bytes))) return;
    this.discardFile(ref);
    this.#leftOut.add(ref);
  }

  /** The contents are complete: gives the file its owner, mode and times. */
  closeFile(ref: FileRef): void {
    if (this.#leftOut.delete(ref)) return;
    const fd = this.#descriptor(ref);
    this.#open.delete(ref);
    if (!this.#fits(ref.file, () => setLength(fd, ref.file))) this.#remove(fd, ref.file);
    else this.#seal(fd, ref.file);
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
      const fits = this.#fits(file, () => {
        for (const piece of pieces) {
          write(fd, file, offset, piece);
          this.#wrote(piece);
          offset += piece.length;
        }
        setLength(fd, file);
      });
      if (!fits) {
        this.#remove(fd, file);
        return;
      }
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    this.#seal(fd, file);
  }

  /**
   * Completes the tree; every file must have been closed or discarded. Resolves to what could not be put back:
   * `not_restored` (incomplete; an entry this file system cannot hold), and what losses.ts names.
   * @param inspect is called when all is there, before others can reach it; with an absolute path that leads to the target, and what is known to lack.
   */
  async finish(inspect?: (base: RawPath, soFar: readonly Warning[]) => Promise<void>): Promise<Warning[]> {
    assert(!this.#finished, 'a restore is finished twice');
    assert(
      this.#open.size + this.#parked.size + this.#leftOut.size === 0,
      'a restore is finished with a file still being written',
    );
    for (const symlink of this.#symlinks.values()) this.#makeSymlink(symlink);
    const folders = [...this.#folders.values()].reverse();
    for (const folder of folders) if (folder) this.#sealPath(folder, 'folder');

    for (const entry of this.#flagged) this.#metadata.setFlags(absoluteIn(this.#base, entry.path), entry);

    await this.#flush();
    this.#writing(RESTORE_MARKER, () => {
      syncFolder(this.#base);
      unlinkSync(this.#at(RESTORE_MARKER));
    });
    this.#finished = true;
    try {
      syncFolder(this.#base);
    } catch {
      // At worst the marker is there again after a power failure.
    }
    try {
      await inspect?.(this.#base, this.#warnings);
    } finally {
      this.#openToOthers();
    }
    const more = this.#leftOutEntries - this.#warnings.length;
    if (more > 0) {
      const message = `${more} entries more could not be restored, for reasons of the same kinds`;
      this.#warnings.push({ code: 'not_restored', message, incomplete: true });
    }
    return [...this.#warnings, ...this.#metadata.losses.warnings()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flushing;
    for (const fd of this.#open.values()) closeSync(fd);
    this.#open.clear();
    this.#held[Symbol.dispose]();
  }

  /** Gives the target its own owner, mode, time and flags, or those that it had. */
  #openToOthers(): void {
    if (this.#root) {
      this.#sealPath(this.#root, 'folder');
      if (!this.#isStaged) this.#metadata.setFlags(this.#base, this.#root);
    } else reopen(this.#held, this.#before);
  }

  /** The absolute path of an entry, for those who read it, until the writer is disposed of. */
  at(path: RawPath): RawPath {
    return absoluteIn(this.#base, path);
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
      this.#held.checkLength(path);
      make();
      return true;
    } catch (error) {
      const code = systemErrorCode(error) ?? '';
      if (code === 'EEXIST') {
        let isThere = true;
        this.#writing(path, () => (isThere = hasName(this.#base, path)));
        if (isThere) throw damagedEntry(path, 'is in the snapshot twice');
        this.#leaveOut(path, withIt, 'the target takes its name for that of another entry, which is there');
        return false;
      }
      if (!isSystemError(error)) throw error;
      if (!CANNOT_HOLD.includes(code)) throw refusedBySystem(`cannot restore ${rawForDisplay(path)}`, error);
      this.#leaveOut(path, withIt, reasonOf(error));
      return false;
    }
  }

  #leaveOut(path: RawPath, withIt: string, why: string): void {
    if (++this.#leftOutEntries > LEFT_OUT_NAMED_MAX) return;
    const shown = rawForDisplay(path);
    const message = `${shown} ${withIt}could not be restored: ${why}`;
    this.#warnings.push({ code: 'not_restored', path: shown, message, incomplete: true });
  }

  /** Runs `action`; false when this file system cannot hold a file of that size, which is then reported. */
  #fits({ path }: FileToWrite, action: () => void): boolean {
    try {
      action();
      return true;
    } catch (error) {
      if (!isSystemError(error)) throw error;
      if (systemErrorCode(error) !== 'EFBIG') throw refusedBySystem(`cannot write ${rawForDisplay(path)}`, error);
      this.#leaveOut(path, '', reasonOf(error));
      return false;
    }
  }

  #remove(fd: number, { path }: FileToWrite): void {
    closeSync(fd);
    this.#writing(path, () => unlinkSync(this.#at(path)));
  }

  #writing(path: RawPath, action: () => void): void {
    try {
      action();
    } catch (error) {
      if (error instanceof Refusal) throw exchanged(path, error);
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

  /** Has the disk take what was written while the rest is restored: at the end less is waited for. */
  #wrote({ length }: Uint8Array): void {
    this.#unflushedBytes += length;
    if (this.#unflushedBytes < FLUSH_BYTES || this.#flushing) return;
    this.#unflushedBytes = 0;
    this.#flushing = syncAll(this.#base)
      .catch((error: unknown) => (this.#flushFailure ??= error)) // the system tells it once
      .finally(() => (this.#flushing = undefined));
  }

  async #flush(): Promise<void> {
    try {
      await this.#flushing;
      if (this.#flushFailure !== undefined) throw this.#flushFailure;
      await syncAll(this.#base);
    } catch (error) {
      throw isSystemError(error) ? refusedBySystem('cannot write', error) : error;
    }
  }

  #seal(fd: number, file: FileToWrite): void {
    this.#writing(file.path, () => {
      try {
        const now = this.#metadata.toFile(fd, file);
        assert(Number(now.size) === file.size, 'a restored file does not have its size');
      } finally {
        closeSync(fd);
      }
    });
    this.#noteFlags(file);
  }

  /** Of what is no file: not through a link, as there is none yet. */
  #sealPath(entry: Metadata, type: Entry['type']): void {
    this.#writing(entry.path, () => this.#metadata.toPath(absoluteIn(this.#base, entry.path), entry, type));
    this.#noteFlags(entry);
  }

  #makeSymlink(symlink: SymlinkToWrite): void {
    const made = this.#make(symlink.path, () => symlinkSync(rawToFs(symlink.target), this.#at(symlink.path)));
    if (made) this.#sealPath(symlink, 'symlink');
  }

  #noteFlags({ path, mode, mtimeNs, uid, gid, flags }: Metadata): void {
    if (flags && path !== ROOT && !this.#isStaged) this.#flagged.push({ path, mode, mtimeNs, uid, gid, flags });
  }
}

/** Only a user with the same rights, or one of a system without `/proc`, can have done it. */
const exchanged = (path: RawPath, cause: Refusal): HoldfastError =>
  new HoldfastError('io', `cannot write ${rawForDisplay(path)}: ${cause.message}`, {
    hint: 'Something else changes the target: find out what, and restore into another folder.',
    cause,
  });

function write(fd: number, { size, holes }: FileToWrite, offset: number, bytes: Uint8Array): void {
  assert(offset + bytes.length <= size || !holes, 'a restore wrote past the end of a file');
  if (holes) writeAround(fd, holes, offset, bytes);
  else writeAll(fd, offset, bytes);
}

/** A hole at the end is what no write reaches. */
function setLength(fd: number, { size, holes }: FileToWrite): void {
  if (holes) ftruncateSync(fd, size);
}
