/**
 * What a restore would do to a folder that holds something: decided for every entry before anything is written, so that a dry run tells
 * what a real run does. Nothing is changed here, and no link is followed.
 */
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  readSync,
  type BigIntStats,
} from 'node:fs';
import { throwIfAborted } from '../errors.ts';
import type { Entry, FileEntry, SymlinkEntry } from '../entry.ts';
import { parentOf, rawToFs, ROOT, type RawPath } from '../raw-path.ts';
import { packDevice } from './attributes.ts';
import { hasLog } from './logs-aside.ts';
import { isSafeToGive, metadataDiffers } from './metadata.ts';
import { isSystemError, reasonOf } from './system-error.ts';
import { absoluteIn, inTree } from './tree-path.ts';

/** `never`: what is there stays; `changed`: what differs is replaced; `always`: every file is replaced. */
export const OVERWRITE = ['never', 'changed', 'always'] as const;
export type Overwrite = (typeof OVERWRITE)[number];

/** `metadata`: contents are right; mode, time, owner or attributes are set. `refuse`: something that may not be replaced is in the way. */
export type ChangeKind = 'create' | 'replace' | 'metadata' | 'keep' | 'refuse';

export interface Change {
  kind: ChangeKind;
  entry: Entry;
  /** Of what is refused. */
  reason?: string;
}

/** One piece of a file as it should be. */
export interface Piece {
  length: number;
  isIt: (bytes: Uint8Array) => boolean;
}

export interface CompareOptions {
  /** Absolute path of the folder; undefined when it does not exist. */
  base: RawPath | undefined;
  overwrite: Overwrite;
  /** False for folders that only lead to what was asked for: they are made where they are missing, and else left alone. */
  isSelected: (path: RawPath) => boolean;
  /** The contents of a file, for files whose times alone differ. */
  piecesOf: (file: FileEntry) => Iterable<Piece>;
  signal?: AbortSignal | undefined;
}

/** @param entries in the order of a manifest. @returns a change for each, in that order, but for folders that only lead on and are there. */
export async function compareTree(entries: Iterable<Entry>, options: CompareOptions): Promise<Change[]> {
  const { base, signal } = options;
  const changes: Change[] = [];
  const folders = new Map<RawPath, FolderState>();
  if (base === undefined) folders.set(ROOT, 'new');
  const lookAt = new Looker(options, folders);
  let sinceRest = 0;
  for (const entry of entries) {
    if (sinceRest++ % 1000 === 0) await new Promise(setImmediate); // signals are heard
    throwIfAborted(signal);
    const change = lookAt.entry(entry);
    if (change) changes.push(change);
  }
  return changes;
}

/** What the target has where the snapshot has a folder. Below one that is refused nothing is looked at or told. */
type FolderState = 'there' | 'closed' | 'new' | 'refused';

class Looker {
  readonly #options: CompareOptions;
  readonly #folders: Map<RawPath, FolderState>;

  constructor(options: CompareOptions, folders: Map<RawPath, FolderState>) {
    this.#options = options;
    this.#folders = folders;
  }

  entry(entry: Entry): Change | undefined {
    const { path } = entry;
    const parent = path === ROOT ? undefined : this.#state(parentOf(path));
    if (parent === 'refused') {
      if (entry.type === 'folder') this.#folders.set(path, 'refused');
      return undefined;
    }
    const base = this.#options.base;
    if (parent === 'new' || base === undefined) {
      if (entry.type === 'folder') this.#folders.set(path, 'new');
      return { kind: 'create', entry };
    }
    const refuse = (reason: string): Change => {
      if (entry.type === 'folder') this.#folders.set(path, 'refused');
      return { kind: 'refuse', entry, reason };
    };
    try {
      return this.#compare(entry, parent, refuse);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      return refuse(reasonOf(error)); // it may be gone by now, too
    }
  }

  #compare(entry: Entry, parent: FolderState | undefined, refuse: (reason: string) => Change): Change | undefined {
    const { path } = entry;
    const now = lstatSync(inTree(this.#options.base ?? ROOT, path), { bigint: true, throwIfNoEntry: false });
    const denied = parent === 'closed' ? 'the folder it belongs in cannot be written to' : undefined;
    if (!now) {
      if (denied !== undefined) return refuse(denied);
      if (entry.type === 'folder') this.#folders.set(path, 'new');
      return { kind: 'create', entry };
    }
    if (entry.type === 'folder') return this.#folder(entry, now, refuse);
    const kind = this.#kind(entry, now);
    if (typeof kind !== 'string') return refuse(kind.reason);
    return kind === 'replace' && denied !== undefined ? refuse(denied) : { kind, entry };
  }

  #state(folder: RawPath): FolderState {
    let state = this.#folders.get(folder);
    if (state === undefined) this.#folders.set(folder, (state = this.#stateOf(folder)));
    return state;
  }

  #stateOf(folder: RawPath): FolderState {
    try {
      accessSync(inTree(this.#options.base ?? ROOT, folder), constants.W_OK | constants.X_OK);
      return 'there';
    } catch {
      return 'closed';
    }
  }

  #folder(entry: Entry, now: BigIntStats, refuse: (reason: string) => Change): Change | undefined {
    if (!now.isDirectory()) return refuse(`${nameOf(now)} is in the way of a folder`);
    if (!this.#options.isSelected(entry.path)) return undefined;
    const path = absoluteIn(this.#options.base ?? ROOT, entry.path);
    const differs = this.#options.overwrite !== 'never' && metadataDiffers(entry, path, now);
    return { kind: differs ? 'metadata' : 'keep', entry };
  }

  #kind(entry: Exclude<Entry, { type: 'folder' }>, now: BigIntStats): ChangeKind | { reason: string } {
    const { overwrite, base = ROOT } = this.#options;
    if (now.isDirectory()) return { reason: `a folder is in the way of a ${entry.type}` };
    const path = absoluteIn(base, entry.path);
    const settled = () => {
      if (overwrite === 'never' || !metadataDiffers(entry, path, now)) return 'keep';
      const isGivenByRoot = entry.type === 'file' && process.geteuid?.() === 0;
      return isGivenByRoot && !isSafeToGive(entry, now) ? 'replace' : 'metadata';
    };
    const isSpecial = !now.isFile() && !now.isSymbolicLink();
    if (isSpecial && isSameSpecial(entry, now)) return settled();
    if (isSpecial) return { reason: `${nameOf(now)} is in the way of a ${entry.type}` };
    if (overwrite === 'never') return 'keep';
    if (overwrite === 'always' || entry.type === 'fifo' || entry.type === 'device') return 'replace';
    if (now.isFile() !== (entry.type === 'file')) return 'replace';
    return this.#hasContents(entry, path, now) ? settled() : 'replace';
  }

  /**
   * As the size and the time say, where both are right; else by a look at the contents. Of a database neither says anything: its commits go to
   * a log beside it, while the snapshot has both in one.
   */
  #hasContents(entry: FileEntry | SymlinkEntry, path: RawPath, now: BigIntStats): boolean {
    if (entry.type === 'symlink') return readlinkSync(rawToFs(path), 'latin1') === entry.target;
    if (Number(now.size) !== entry.size) return false;
    if (entry.sqlite && hasLog(this.#options.base ?? ROOT, entry.path)) return false;
    if (!entry.sqlite && now.mtimeNs === entry.mtimeNs) return true;
    return hasPieces(path, this.#options.piecesOf(entry), this.#options.signal);
  }
}

function isSameSpecial(entry: Entry, now: BigIntStats): boolean {
  if (entry.type === 'fifo') return now.isFIFO();
  if (entry.type !== 'device') return false;
  const { kind, major, minor } = entry.device;
  const isKind = kind === 'block' ? now.isBlockDevice() : now.isCharacterDevice();
  return isKind && now.rdev === packDevice(major, minor);
}

const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Whether the file begins with these pieces. False also for a file that cannot be read, or is none any more. */
export function hasPieces(path: RawPath, pieces: Iterable<Piece>, signal: AbortSignal | undefined): boolean {
  let fd: number | undefined;
  try {
    fd = openSync(rawToFs(path), READ);
    if (!fstatSync(fd).isFile()) return false;
    for (const { length, isIt } of pieces) {
      throwIfAborted(signal);
      const bytes = Buffer.allocUnsafe(length);
      let filled = 0;
      while (filled < length) {
        const got = readSync(fd, bytes, filled, length - filled, null);
        if (got === 0) return false;
        filled += got;
      }
      if (!isIt(bytes)) return false;
    }
    return true;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return false;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function nameOf(now: BigIntStats): string {
  if (now.isSymbolicLink()) return 'a link';
  return now.isFile() ? 'a file' : now.isDirectory() ? 'a folder' : 'something that is no file';
}
