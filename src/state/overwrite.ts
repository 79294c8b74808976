/**
 * Restoring into a folder that holds something. Nothing is ever written to a file that is there: all that is to come is written, checked and
 * flushed in a folder of its own inside the target, and then takes its place by a rename, one after the other. So a file is the old one or the
 * new one, whenever the run is killed, and a run that fails before the first rename leaves the target as it was.
 *
 * Order of work:
 * 1. the staging folder is made and locked, and what a killed run left in it is removed; the marker file is made;
 * 2. a `TreeWriter` writes what is created or replaced into the staging folder, and flushes it;
 * 3. `commit` renames: whole folders where they are new, else file by file (logs-aside.ts says how databases take their places); then metadata of
 *    what stays, the deepest folders first; then everything its flags, after which an immutable file can be neither moved nor changed any more;
 * 4. everything is flushed, staging folder and marker are removed, and last the target gets its own metadata.
 *
 * The target may belong to others, who go on changing it. So target and staging folder are held open, and so is the folder of each entry while
 * something is done in it, reached without following a link: whoever exchanges folders for links in mid-restore leads nothing elsewhere
 * (held-folder.ts).
 */
import {
  chmodSync,
  closeSync,
  constants,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  type BigIntStats,
} from 'node:fs';
import { resolve } from 'node:path';
import { HoldfastError, assert, systemErrorCode } from '../errors.ts';
import type { Entry, Warning } from '../entry.ts';
import { joinRaw, parentOf, rawForDisplay, rawToFs, rawToText, ROOT, type RawPath } from '../raw-path.ts';
import type { Change, Overwrite } from './compare-tree.ts';
import { clearFlags, makeSpecial } from './attributes.ts';
import { exactTimes } from './exact-times.ts';
import { closeToOthers, Held, HeldFolder, Refusal } from './held-folder.ts';
import { libc } from './libc.ts';
import { endLogsAside, withLogsAside } from './logs-aside.ts';
import { MetadataWriter } from './metadata.ts';
import { isSystemError, reasonOf } from './system-error.ts';
import { RESTORE_MARKER, RESTORE_READY, RESTORE_STAGING, absoluteIn, inTree } from './tree-path.ts';
import { leniently, refusedBySystem } from './refusals.ts';
import { CREATE, checkEmpty, namesInTarget, placeMarker, syncAll, syncFolder, writeAll } from './target-folder.ts';
import { openTarget, type TreeWriter } from './write-tree.ts';

/**
 * What a restore will find in `folder`: its absolute path when it holds something, undefined when it is empty or not there.
 * @throws `exists` as the restore would: when it holds something and `overwrite` is undefined; when files in it may be half written (an
 * unfinished restore into an empty folder) and would stay so.
 */
export function lookAtTarget(folder: string, overwrite: Overwrite | undefined): RawPath | undefined {
  const path = resolve(folder);
  try {
    const names = namesInTarget(path) ?? [];
    if (overwrite === undefined) checkEmpty(path, names);
    if (names.length === 0) return undefined;
    const base = realpathSync.native(path, 'latin1') as RawPath;
    if (overwrite === 'never' && names.includes(RESTORE_MARKER) && !isMarkedByUs(base)) checkEmpty(path, names);
    return base;
  } catch (error) {
    throw isSystemError(error) ? refusedBySystem('the target cannot be used', error) : error;
  }
}

const MARKER_TEXT = `A restore by holdfast is replacing files in this folder, or was killed while it did: some files are new, the others are
still the old ones, and none is half written. If no restore is running any more, run the same one again: it finishes.
`;

function isMarkedByUs(base: RawPath): boolean {
  const now = lstatSync(inTree(base, RESTORE_MARKER), { throwIfNoEntry: false });
  if (now?.isFile() !== true || now.size > MARKER_TEXT.length) return false;
  const text = readFileSync(inTree(base, RESTORE_MARKER), 'utf8');
  if (text === MARKER_TEXT) return true;
  // Killed when it had just made it, and the staging folder before.
  return (
    MARKER_TEXT.startsWith(text) && lstatSync(inTree(base, RESTORE_STAGING), { throwIfNoEntry: false }) !== undefined
  );
}

/**
 * @param lock takes the staging folder for this process alone, or throws.
 * @throws `exists` when something else has the name of the staging folder, `io`
 */
export async function openOverwriter(folder: string, lock: (folder: string) => Disposable): Promise<Overwriter> {
  const taken: Disposable[] = [];
  const take = <T extends Disposable>(one: T): T => {
    taken.unshift(one);
    return one;
  };
  try {
    const held = take(HeldFolder.reach(resolve(folder)));
    const base = held.path;
    const before = held.stat();
    const staging = take(openStaging(base));
    take(lock(asText(staging.path)));
    const isMarked = lstatSync(inTree(base, RESTORE_MARKER), { throwIfNoEntry: false }) !== undefined;
    if (!isMarked) placeMarker(base, MARKER_TEXT);
    endLogsAside(held, staging.path);
    removeTree(joinRaw(staging.path, TREE));
    const writer = await openTarget(asText(joinRaw(staging.path, TREE)), { isStaged: true });
    return new Overwriter({ held, staging, before, isMarked: !isMarked, writer, taken });
  } catch (error) {
    for (const one of taken) one[Symbol.dispose]();
    throw isSystemError(error) ? refusedBySystem('the target cannot be used', error) : error;
  }
}

const asText = (path: RawPath): string => rawToText(path) ?? path;

/** Of this user, and closed to others: what is in it is what this user has put there. */
function openStaging(base: RawPath): HeldFolder {
  const path = absoluteIn(base, RESTORE_STAGING);
  const refuse = (what: string, hint: string) =>
    new HoldfastError('exists', `${RESTORE_STAGING} in the target ${what}`, { hint });
  const there = lstatSync(rawToFs(path), { throwIfNoEntry: false });
  if (there && !there.isDirectory()) throw refuse('is no folder', 'Remove it.');
  if (!there) mkdirSync(rawToFs(path), 0o700);
  const staging = HeldFolder.open(path, 'no-follow');
  try {
    const isOurs = Number(staging.stat().uid) === (process.geteuid?.() ?? 0);
    const isTheirs = () => readdirSync(rawToFs(staging.path)).length > 0; // exchanged since it was made
    if (!there || isOurs) closeToOthers(staging, rawForDisplay(RESTORE_STAGING));
    if (!isOurs && (there || isTheirs()))
      throw refuse('belongs to another user', 'If no restore by that user is running, remove it, and restore again.');
    return staging;
  } catch (error) {
    staging[Symbol.dispose]();
    throw error;
  }
}

/** In the staging folder, beside the lock. */
const TREE = 'tree';

/** What the system says when nothing more can be written at all. */
const FATAL = ['ENOSPC', 'EDQUOT', 'EIO', 'EROFS'];

/** A restore into one folder that holds something. Disposed of before `commit` it leaves the folder as it was. */
export class Overwriter implements AsyncDisposable {
  /** What is created or replaced is written here; `commit` finishes it. */
  readonly writer: TreeWriter;
  readonly #held: HeldFolder;
  readonly #staging: HeldFolder;
  readonly #base: RawPath;
  readonly #before: BigIntStats;
  /** To be given back in this order. */
  readonly #taken: readonly Disposable[];
  readonly #marked: boolean;
  readonly #times = exactTimes();
  readonly #metadata = new MetadataWriter(this.#times);
  #restored: ReadonlySet<RawPath> = new Set();
  #state: 'writing' | 'committing' | 'done' = 'writing';

  /** Use `openOverwriter`. */
  constructor(parts: {
    held: HeldFolder;
    staging: HeldFolder;
    before: BigIntStats;
    isMarked: boolean;
    writer: TreeWriter;
    taken: readonly Disposable[];
  }) {
    this.#held = parts.held;
    this.#staging = parts.staging;
    this.#base = parts.held.path;
    this.#before = parts.before;
    this.writer = parts.writer;
    this.#taken = parts.taken;
    this.#marked = parts.isMarked;
  }

  /** Adds a folder that is there already to the staging folder, so that others can be written below it. */
  addScaffold(path: RawPath): void {
    const [uid = 0, gid = 0] = [process.geteuid?.(), process.getegid?.()];
    this.writer.addFolder({ path, mode: 0o700, mtimeNs: 0n, uid, gid });
  }

  /**
   * Puts everything in its place.
   * @param changes all of them, in the order of a manifest.
   * @returns what became of them: those that could not be done are now `refuse`, and to be told, but for those with the reason `NOT_HAD`.
   */
  async commit(changes: readonly Change[], overwrite: Overwrite): Promise<{ changes: Change[]; warnings: Warning[] }> {
    try {
      return await this.#commit(changes, overwrite);
    } catch (error) {
      throw isSystemError(error) ? refusedBySystem('cannot write to the target', error) : error;
    }
  }

  async #commit(changes: readonly Change[], overwrite: Overwrite): Promise<{ changes: Change[]; warnings: Warning[] }> {
    assert(this.#state === 'writing', 'a restore is committed twice');
    const warnings = await this.writer.finish();
    if (!libc()?.syncfs) this.#syncEach(changes);
    this.#state = 'committing';
    this.#restored = new Set(changes.map(({ entry }) => entry.path));
    const done: Change[] = [];
    const toSeal: Entry[] = [];
    const touched = this.#sweep(changes);
    const moved = new Set<RawPath>();
    for (const change of changes) {
      const { kind, entry } = change;
      const parent = entry.path === ROOT ? undefined : parentOf(entry.path);
      try {
        if (kind === 'create' || kind === 'replace') {
          const came = parent === undefined || moved.has(parent);
          if (came) this.#checkThere(entry);
          const isWhole = came || this.#place(change);
          if (parent !== undefined && !came) touched.add(parent);
          if (entry.type === 'folder' && isWhole) moved.add(entry.path);
          if (!isWhole) toSeal.push(entry);
        } else if (kind === 'metadata' && entry.type !== 'folder') this.#setMetadata(entry);
        done.push(change);
      } catch (error) {
        const reason = error instanceof Refusal ? error.message : isSystemError(error) ? reasonOf(error) : undefined;
        if (reason === undefined) throw error;
        if (FATAL.includes(systemErrorCode(error) ?? ''))
          throw refusedBySystem(`cannot write ${rawForDisplay(entry.path)}`, error);
        done.push({ kind: 'refuse', entry, reason });
      }
    }
    if (overwrite !== 'never')
      toSeal.push(
        ...done.flatMap(({ kind, entry }) =>
          entry.type === 'folder' && (kind === 'metadata' || (kind === 'keep' && touched.has(entry.path)))
            ? [entry]
            : [],
        ),
      );
    const root = toSeal.find(({ path }) => path === ROOT);
    for (const folder of toSeal.toSorted((a, b) => b.path.length - a.path.length))
      if (folder.path !== ROOT) this.#sealFolder(folder);
    this.#setFlags(done);
    await syncAll(this.#base);
    this.#clear();
    if (root) {
      this.#sealFolder(root);
      this.#metadata.setFlags(this.#base, root);
    } else if (!touched.has(ROOT)) this.#putTimeBack();
    this.#state = 'done';
    return { changes: done, warnings: [...warnings, ...this.#metadata.losses.warnings()] };
  }

  /** The absolute path of an entry that is in its place, until it is asked for the next. @throws Refusal, or a system error */
  at(path: RawPath): RawPath {
    return this.#held.at(path);
  }

  /** After a failure on the way of `commit` the marker stays: the run is to be done again. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.writer[Symbol.asyncDispose]();
    try {
      if (this.#state === 'writing') {
        this.#clear();
        this.#putTimeBack();
      }
    } catch (error) {
      if (!isSystemError(error)) throw error; // else the marker says it, and why the run failed is the better answer
    } finally {
      for (const one of this.#taken) one[Symbol.dispose]();
    }
  }

  #clear(): void {
    // The staging folder goes first: what marks the target is the marker.
    for (const name of readdirSync(rawToFs(this.#staging.path), 'latin1'))
      removeTree(joinRaw(this.#staging.path, name));
    rmdirSync(inTree(this.#base, RESTORE_STAGING));
    if (this.#state !== 'writing' || this.#marked) unlinkSync(inTree(this.#base, RESTORE_MARKER));
    syncFolder(this.#base);
  }

  /** Of a target of which nothing was changed. */
  #putTimeBack(): void {
    leniently(() => this.#times.ofPath(this.#base, this.#before.mtimeNs));
  }

  #staged(path: RawPath): RawPath {
    return absoluteIn(this.#staging.path, `${TREE}/${path}` as RawPath);
  }

  /** @returns false when a folder was made instead of moved, so that what it holds is still to be placed. */
  #place({ kind, entry }: Change): boolean {
    const from = this.#staged(entry.path);
    if (!lstatSync(rawToFs(from), { throwIfNoEntry: false })) throw new Refusal(NOT_HAD);
    const to = this.#held.at(entry.path);
    const there = lstatSync(rawToFs(to), { throwIfNoEntry: false });
    if (there && (kind === 'create' || there.isDirectory())) throw new Refusal('something else came there meanwhile');
    if (entry.type !== 'file' || !entry.sqlite) return this.#move(from, to, entry);
    const isOther = (suffix: string) => this.#restored.has((entry.path + suffix) as RawPath);
    withLogsAside(
      this.#staging.path,
      { database: entry.path, at: to },
      isOther,
      () => void this.#move(from, to, entry),
    );
    return true;
  }

  /** @returns as `#place` */
  #move(from: RawPath, to: RawPath, entry: Entry): boolean {
    try {
      if (entry.type === 'folder') this.#moveFolder(from, to, entry);
      else renameSync(rawToFs(from), rawToFs(to));
      return true;
    } catch (error) {
      if (systemErrorCode(error) !== 'EXDEV') throw error;
    }
    if (entry.type === 'folder') {
      mkdirSync(rawToFs(to), 0o700);
      return false;
    }
    this.#copyOver(from, to, entry);
    return true;
  }

  /** Only a folder that one may write to can be moved into another. */
  #moveFolder(from: RawPath, to: RawPath, { mode }: Entry): void {
    const isClosed = (mode & 0o200) === 0;
    using held = new Held(from, 'folder');
    if (isClosed) held.chmod(mode | 0o700);
    renameSync(rawToFs(from), rawToFs(to));
    if (isClosed) held.chmod(mode);
  }

  /** To another file system that is mounted in the target. */
  #copyOver(from: RawPath, to: RawPath, entry: Entry): void {
    const ready = absoluteIn(parentOf(to), RESTORE_READY);
    removeFile(ready); // of a run that was killed
    try {
      if (entry.type === 'file') this.#copyFile(from, ready, entry);
      else {
        if (entry.type === 'fifo' || entry.type === 'device') makeSpecial(ready, entry);
        else if (entry.type === 'symlink') symlinkSync(rawToFs(entry.target), rawToFs(ready));
        this.#metadata.toPath(ready, entry, entry.type, { isOld: true });
      }
      renameSync(rawToFs(ready), rawToFs(to));
    } catch (error) {
      removeFile(ready);
      throw error;
    }
  }

  #copyFile(from: RawPath, to: RawPath, entry: Entry): void {
    const source = openSync(rawToFs(from), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const target = openSync(rawToFs(to), CREATE, 0o600);
      try {
        const piece = Buffer.allocUnsafe(COPY_BYTES);
        for (let done = 0, length = 0; (length = readSync(source, piece, 0, piece.length, done)) > 0; done += length)
          writeAll(target, done, piece.subarray(0, length));
        leniently(() => fsyncSync(target));
        this.#metadata.toFile(target, entry, { isIn: true });
      } finally {
        closeSync(target);
      }
    } finally {
      closeSync(source);
    }
  }

  /** Of what came with its folder. */
  #checkThere({ path }: Entry): void {
    if (!lstatSync(rawToFs(this.#held.at(path)), { throwIfNoEntry: false })) throw new Refusal(NOT_HAD);
  }

  #setMetadata(entry: Entry): void {
    this.#metadata.toPath(this.#held.at(entry.path), entry, entry.type, { isOld: true });
  }

  #sealFolder(folder: Entry): void {
    try {
      this.#metadata.toPath(this.#held.at(folder.path), folder, 'folder', { isOld: true });
    } catch (error) {
      if (!(error instanceof Refusal) && !isSystemError(error)) throw error;
      const now = this.#look(folder.path);
      if (now) this.#metadata.losses.compare(folder, now);
    }
  }

  /** Undefined when it cannot be reached. */
  #look(path: RawPath): BigIntStats | undefined {
    try {
      return lstatSync(rawToFs(this.#held.at(path)), { bigint: true, throwIfNoEntry: false });
    } catch (error) {
      if (!(error instanceof Refusal) && !isSystemError(error)) throw error;
      return undefined;
    }
  }

  /** Of all but the target itself. */
  #setFlags(done: readonly Change[]): void {
    for (const { kind, entry } of done) {
      if (!entry.flags || entry.path === ROOT || kind === 'keep' || kind === 'refuse') continue;
      try {
        this.#metadata.setFlags(this.#held.at(entry.path), entry);
      } catch (error) {
        if (!(error instanceof Refusal) && !isSystemError(error)) throw error;
        this.#metadata.losses.count('flags_not_restored', entry.path);
      }
    }
  }

  /** Removes what runs that were killed left in folders of other file systems. @returns those folders. */
  #sweep(changes: readonly Change[]): Set<RawPath> {
    const folders = new Set(changes.map(({ entry }) => (entry.type === 'folder' ? entry.path : parentOf(entry.path))));
    for (const folder of folders) {
      try {
        const ready = this.#held.at(joinRaw(folder, RESTORE_READY));
        const isThere = lstatSync(rawToFs(ready), { throwIfNoEntry: false }) !== undefined;
        if (isThere) removeFile(ready);
        else folders.delete(folder);
      } catch (error) {
        if (!(error instanceof Refusal) && !isSystemError(error)) throw error; // a backup goes on naming it
        folders.delete(folder);
      }
    }
    return folders;
  }

  #syncEach(changes: readonly Change[]): void {
    for (const { kind, entry } of changes)
      if (entry.type === 'file' && (kind === 'create' || kind === 'replace')) {
        const path = this.#staged(entry.path);
        if (lstatSync(rawToFs(path), { throwIfNoEntry: false })) syncFile(path);
      }
  }
}

/** Its contents are lost, or the file system cannot hold it; which of them is told already. */
export const NOT_HAD = 'it could not be written';

const COPY_BYTES = 1024 * 1024;

function syncFile(path: RawPath): void {
  const fd = openSync(rawToFs(path), constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    leniently(() => fsyncSync(fd));
  } finally {
    closeSync(fd);
  }
}

/** What is no folder, if anything is there. A link is removed, not followed. */
function removeFile(path: RawPath): void {
  const now = lstatSync(rawToFs(path), { throwIfNoEntry: false });
  if (!now) return;
  try {
    unlinkSync(rawToFs(path));
  } catch (error) {
    if (systemErrorCode(error) !== 'EPERM') throw error;
    clearFlags(path);
    unlinkSync(rawToFs(path));
  }
}

/**
 * By hand, for names of any bytes, folders that are closed to their owner, and what is immutable. Links are removed, not followed. Only for
 * what others cannot reach.
 */
function removeTree(path: RawPath): void {
  const now = lstatSync(rawToFs(path), { throwIfNoEntry: false });
  if (!now) return;
  if (!now.isDirectory()) return removeFile(path);
  clearFlags(path);
  if ((now.mode & 0o700) !== 0o700) chmodSync(rawToFs(path), 0o700);
  for (const name of readdirSync(rawToFs(path), 'latin1')) removeTree(joinRaw(path, name));
  rmdirSync(rawToFs(path));
}
