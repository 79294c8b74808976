/**
 * A backend in a folder: a local disk, a USB stick, a mounted NAS. Each object is one ordinary file whose path under the root is
 * its key.
 *
 * An object is written to `tmp/` under the root, synced, and only then linked or renamed to its name; the folder that holds the
 * name, and the folders above it where they are new, are synced too. A process that dies in between leaves at most a file in
 * `tmp/`, which is never listed and is removed by an open a day later.
 *
 * A symlink is never an object, and neither is a folder or anything else that is no regular file: `get` and `head` do not find it,
 * `list` passes it over, and `put` refuses to take it for an existing object. What else lies in the folder under names that are no
 * keys (dot-files among them) is left alone.
 *
 * On a file system without hard links (FAT, some network shares) two processes that `put` with `ifAbsent` at the same instant may both
 * be told 'created'; within one process line 3 of the contract holds there too.
 */
import {
  close as closeCallback,
  constants,
  fstat as fstatCallback,
  lstatSync,
  open as openCallback,
  renameSync,
} from 'node:fs';
import { link, lstat, mkdir, open, opendir, readdir, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { getSystemErrorMessage, promisify } from 'node:util';
import type { Clock, Random } from '../clock.ts';
import { HoldfastError, systemErrorCode, throwIfAborted } from '../errors.ts';
import { escapeForDisplay } from '../raw-path.ts';
import {
  checkKey,
  checkObject,
  clampRange,
  isKey,
  objectNotFound,
  type Backend,
  type ByteRange,
  type ObjectInfo,
  type PutOptions,
} from './backend.ts';

export interface DirectoryOptions {
  /** What errors call this backend: its name in the config. */
  name: string;
  clock: Clock;
  random: Random;
}

type Cancellable = { signal?: AbortSignal | undefined };

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;
const TEMP_FOLDER = 'tmp';
const TEMP_NAME = /^[0-9a-f]{32}$/;
const TEMP_MAX_AGE_MS = 24 * 3600 * 1000;
const LIST_FOLDERS_AT_ONCE = 64;
const LIST_FILES_AT_ONCE = 256;
/** What a file system without hard links answers to `link`. */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK', 'ENOSYS']);
/** What a file system that cannot sync a folder answers; there is nothing more to be done on it. */
const NO_FOLDER_SYNC = new Set(['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

// Plain descriptors, not `FileHandle`s: a backend that nobody disposed of must not make Node warn at a garbage collection.
const openDescriptor = promisify(openCallback);
const statDescriptor = promisify(fstatCallback);
const closeDescriptor = promisify(closeCallback);

/**
 * Opens the folder, which must exist: it is never made here, so that a disk that is not mounted cannot be taken for an empty
 * backend. Removes files in `tmp/` that have not changed for 24 hours by `clock`. A folder that can only be read can be opened.
 *
 * The folder itself is held open until the backend is disposed of: a disk cannot be unmounted unnoticed meanwhile, and one that
 * went away all the same, or another folder in its place, is recognised.
 *
 * @throws HoldfastError `backend_unavailable` when the folder is not there, is no folder or may not be read.
 */
export async function openDirectory(folder: string, options: DirectoryOptions): Promise<Backend> {
  const root = resolve(folder);
  let descriptor: number | undefined;
  try {
    descriptor = await openDescriptor(root, O_RDONLY | O_DIRECTORY);
    const { dev, ino } = await statDescriptor(descriptor, { bigint: true });
    await removeOldTemps(join(root, TEMP_FOLDER), options.clock);
    return new DirectoryBackend(root, { descriptor, dev, ino }, options);
  } catch (error) {
    if (descriptor !== undefined) await closeDescriptor(descriptor);
    if (systemErrorCode(error) === 'ENOENT') throw rootMissing(options.name, root, error);
    throw unavailable(options.name, root, 'open', error);
  }
}

/**
 * Makes the folder and those above it where they are missing (mode 0700), durably, and opens it.
 *
 * @throws HoldfastError `backend_unavailable` when it cannot be made or opened.
 */
export async function createDirectory(folder: string, options: DirectoryOptions): Promise<Backend> {
  const root = resolve(folder);
  try {
    const first = await mkdir(root, { recursive: true, mode: 0o700 });
    if (first !== undefined) {
      for (let made = root; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made));
    }
  } catch (error) {
    throw unavailable(options.name, root, 'make', error);
  }
  return openDirectory(root, options);
}

/** The root folder as it was opened, to know it again. */
interface HeldFolder {
  descriptor: number;
  dev: bigint;
  ino: bigint;
}

class DirectoryBackend implements Backend {
  readonly #root: string;
  readonly #name: string;
  readonly #random: Random;
  #held: HeldFolder;
  /** Folders made, or found, whose way from the root was synced by this process; by their path under the root. */
  readonly #folders = new Map<string, Promise<void>>();

  constructor(root: string, held: HeldFolder, options: DirectoryOptions) {
    this.#root = root;
    this.#held = held;
    this.#name = options.name;
    this.#random = options.random;
  }

  /** Two paths of one folder (a link, another spelling, a mount) lead to the same inode. */
  get place(): string {
    return `folder ${this.#held.dev}:${this.#held.ino}`;
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<'created' | 'exists'> {
    checkObject(key, bytes);
    throwIfAborted(options.signal);
    return this.#guard(`store ${key}`, async () => {
      try {
        return await this.#store(key, bytes, options);
      } catch (error) {
        if (systemErrorCode(error) !== 'ENOENT') throw error;
        // A folder was taken away behind our back: make it again, once, unless it is the root.
        await this.#checkRoot();
        this.#folders.clear();
        return this.#store(key, bytes, options);
      }
    });
  }

  async get(key: string, range?: ByteRange, { signal }: Cancellable = {}): Promise<Uint8Array> {
    checkKey(key);
    throwIfAborted(signal);
    return this.#guard(`read ${key}`, async () => {
      // O_NONBLOCK: opening a FIFO that lies there must not hang.
      const handle = await absentAsUndefined(open(this.#path(key), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
      if (handle === undefined) {
        await this.#checkRoot();
        throw objectNotFound(key, this.#name);
      }
      try {
        const stats = await handle.stat();
        if (!stats.isFile()) throw objectNotFound(key, this.#name);
        const { offset, length } = clampRange(range, stats.size, key, this.#name);
        const bytes = new Uint8Array(length);
        let filled = 0;
        while (filled < length) {
          throwIfAborted(signal);
          const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled);
          if (bytesRead === 0) break;
          filled += bytesRead;
        }
        return filled === length ? bytes : bytes.slice(0, filled);
      } finally {
        await handle.close();
      }
    });
  }

  async head(key: string, { signal }: Cancellable = {}): Promise<{ size: number } | undefined> {
    checkKey(key);
    throwIfAborted(signal);
    return this.#guard(`look for ${key}`, async () => {
      const stats = await absentAsUndefined(lstat(this.#path(key)));
      if (stats?.isFile()) return { size: stats.size };
      await this.#checkRoot();
      return undefined;
    });
  }

  async *list(prefix: string, { signal }: Cancellable = {}): AsyncGenerator<ObjectInfo> {
    throwIfAborted(signal);
    const folder = prefix.slice(0, Math.max(0, prefix.lastIndexOf('/')));
    if (prefix.includes('/') && !isKey(folder)) return;
    try {
      await this.#checkRoot();
      const stats = await absentAsUndefined(lstat(this.#path(folder)));
      if (stats === undefined) return;
      if (folder !== '' && !stats.isDirectory()) throw this.#inTheWay(folder, 'folder');
      yield* this.#walk([folder], prefix, signal);
    } catch (error) {
      throw unavailable(this.#name, this.#root, 'list objects in', error);
    }
  }

  async delete(key: string, { signal }: Cancellable = {}): Promise<void> {
    checkKey(key);
    throwIfAborted(signal);
    await this.#guard(`delete ${key}`, async () => {
      try {
        await unlink(this.#path(key));
      } catch (error) {
        const code = systemErrorCode(error);
        if (code !== 'ENOENT' && code !== 'EISDIR') throw error;
        await this.#checkRoot();
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { descriptor } = this.#held;
    if (descriptor < 0) return;
    this.#held = { ...this.#held, descriptor: -1 };
    await closeDescriptor(descriptor);
  }

  async #store(
    key: string,
    bytes: Uint8Array,
    { ifAbsent = false, signal }: PutOptions,
  ): Promise<'created' | 'exists'> {
    const folder = parentKey(key);
    await this.#makeFolder(folder);
    let created = false;
    if (!ifAbsent || !(await this.#holds(key))) {
      await this.#makeFolder(TEMP_FOLDER);
      const temp = join(this.#root, TEMP_FOLDER, Buffer.from(this.#random.bytes(16)).toString('hex'));
      try {
        await writeFileDurably(temp, bytes, signal);
        throwIfAborted(signal);
        created = await this.#giveName(temp, key, ifAbsent);
      } finally {
        await unlink(temp).catch(() => undefined); // Not there after a rename; else a later open removes it.
      }
    }
    // Also where the object was there: whoever put it may not have come as far as this yet, or may have died before it.
    await syncFolder(this.#path(folder));
    return created ? 'created' : 'exists';
  }

  /** Gives the finished file its name. False when `ifAbsent` and the name is taken. */
  async #giveName(temp: string, key: string, ifAbsent: boolean): Promise<boolean> {
    const target = this.#path(key);
    if (!ifAbsent) {
      await rename(temp, target);
      return true;
    }
    try {
      await link(temp, target);
      return true;
    } catch (error) {
      const code = systemErrorCode(error) ?? '';
      if (code === 'EEXIST') {
        // NFS may answer so when it repeats a link that it has made already: then the file has two names.
        if ((await lstat(temp)).nlink > 1) return true;
      } else {
        if (!NO_LINKS.has(code)) throw error;
        // Without a pause between the two calls no other `put` of this process can come in between.
        if (lstatSync(target, { throwIfNoEntry: false }) === undefined) {
          renameSync(temp, target);
          return true;
        }
      }
      await this.#holds(key); // For what it throws when the name is taken by something that is no object.
      return false;
    }
  }

  /** True when the key is an object's, false when nothing is there. */
  async #holds(key: string): Promise<boolean> {
    const stats = await absentAsUndefined(lstat(this.#path(key)));
    if (stats && !stats.isFile()) throw this.#inTheWay(key, 'regular file');
    return stats !== undefined;
  }

  /**
   * Makes a folder and those above it, and syncs the folder above each, once: also above one that is there already, since whoever made
   * it may have died before its own sync.
   */
  #makeFolder(folder: string): Promise<void> {
    if (folder === '') return Promise.resolve();
    let made = this.#folders.get(folder);
    if (made === undefined) {
      made = this.#makeFolderNow(folder);
      this.#folders.set(folder, made);
      made.catch(() => this.#folders.delete(folder));
    }
    return made;
  }

  async #makeFolderNow(folder: string): Promise<void> {
    await this.#makeFolder(parentKey(folder));
    try {
      await mkdir(this.#path(folder), { mode: 0o700 });
    } catch (error) {
      if (systemErrorCode(error) !== 'EEXIST') throw error;
      if (!(await lstat(this.#path(folder))).isDirectory()) throw this.#inTheWay(folder, 'folder');
    }
    await syncFolder(this.#path(parentKey(folder)));
  }

  /** Folders are read many at once, files asked for their sizes many at once: on a network share each answer takes a round trip. */
  async *#walk(
    folders: readonly string[],
    prefix: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ObjectInfo> {
    for (let at = 0; at < folders.length; at += LIST_FOLDERS_AT_ONCE) {
      const batch = folders.slice(at, at + LIST_FOLDERS_AT_ONCE);
      const listings = await Promise.all(
        batch.map((folder) => absentAsUndefined(readdir(this.#path(folder), { withFileTypes: true }))),
      );
      throwIfAborted(signal);
      const below: string[] = [];
      const files: string[] = [];
      for (const [i, folder] of batch.entries()) {
        for (const entry of listings[i] ?? []) {
          const key = folder === '' ? entry.name : `${folder}/${entry.name}`;
          if (!key.startsWith(prefix) || !isKey(key)) continue;
          if (entry.isDirectory()) below.push(key);
          else if (entry.isFile()) files.push(key);
        }
      }
      for (let file = 0; file < files.length; file += LIST_FILES_AT_ONCE)
        yield* this.#sizes(files.slice(file, file + LIST_FILES_AT_ONCE), signal);
      yield* this.#walk(below, prefix, signal);
    }
  }

  async *#sizes(keys: readonly string[], signal: AbortSignal | undefined): AsyncGenerator<ObjectInfo> {
    const stats = await Promise.all(keys.map((key) => absentAsUndefined(lstat(this.#path(key)))));
    for (const [i, key] of keys.entries()) {
      throwIfAborted(signal);
      if (stats[i]?.isFile()) yield { key, size: stats[i].size };
    }
  }

  #path(key: string): string {
    return key === '' ? this.#root : `${this.#root}/${key}`;
  }

  /** Throws `backend_unavailable` when the root is gone or is another folder now: what is not found then may well exist. */
  async #checkRoot(): Promise<void> {
    const now = await stat(this.#root, { bigint: true }).catch((error: unknown) => {
      throw systemErrorCode(error) === 'ENOENT' ? rootMissing(this.#name, this.#root, error) : error;
    });
    if (now.dev === this.#held.dev && now.ino === this.#held.ino) return;
    throw new HoldfastError(
      'backend_unavailable',
      `backend ${this.#name}: ${shown(this.#root)} is not the folder it was at the start`,
      {
        hint: 'Was the storage unmounted meanwhile? Mount it again and repeat.',
        retryable: true,
      },
    );
  }

  #inTheWay(key: string, expected: string): HoldfastError {
    return new HoldfastError(
      'backend_unavailable',
      `backend ${this.#name}: ${shown(this.#path(key))} is no ${expected}`,
      {
        hint: 'Something else stands where holdfast keeps its objects: look at it, and move it away.',
      },
    );
  }

  async #guard<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw unavailable(this.#name, this.#root, `${doing} in`, error);
    }
  }
}

/** The key up to the last `/`; '' for the root. */
function parentKey(key: string): string {
  return key.slice(0, Math.max(0, key.lastIndexOf('/')));
}

/** Undefined where the name does not exist, or is a symlink or socket that was to be opened. */
async function absentAsUndefined<T>(result: Promise<T>): Promise<T | undefined> {
  try {
    return await result;
  } catch (error) {
    if (['ENOENT', 'ELOOP', 'ENXIO'].includes(systemErrorCode(error) ?? '')) return undefined;
    throw error;
  }
}

async function writeFileDurably(path: string, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
  const handle = await open(path, 'wx', 0o600);
  try {
    for (let written = 0; written < bytes.length;) {
      throwIfAborted(signal);
      written += (await handle.write(bytes, written, bytes.length - written)).bytesWritten;
    }
    throwIfAborted(signal);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, O_RDONLY | O_DIRECTORY);
  try {
    await handle.sync();
  } catch (error) {
    if (!NO_FOLDER_SYNC.has(systemErrorCode(error) ?? '')) throw error;
  } finally {
    await handle.close();
  }
}

/** Best effort: on a folder that can only be read, or that another process is cleaning too, what cannot be removed stays. */
async function removeOldTemps(folder: string, clock: Clock): Promise<void> {
  try {
    if (!(await lstat(folder)).isDirectory()) return;
    for await (const entry of await opendir(folder)) {
      if (!TEMP_NAME.test(entry.name)) continue;
      const path = join(folder, entry.name);
      const { mtimeMs } = await lstat(path);
      if (clock.now() - mtimeMs > TEMP_MAX_AGE_MS) await unlink(path);
    }
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
  }
}

function shown(path: string): string {
  return escapeForDisplay(path);
}

function rootMissing(name: string, root: string, cause: unknown): HoldfastError {
  return new HoldfastError('backend_unavailable', `backend ${name}: its folder ${shown(root)} is not there (ENOENT)`, {
    hint: 'Is the storage plugged in and mounted? A new backend is made by init.',
    retryable: true,
    cause,
  });
}

const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'Free space there, or choose a larger disk.',
  EDQUOT: 'Free space there, or raise the quota.',
  EFBIG: 'The file system or a limit of this process allows no file of that size.',
  EACCES: 'Look at the owner and the mode of the folder.',
  EPERM: 'Look at the owner and the mode of the folder.',
  EROFS: 'Mount the storage so that it can be written.',
  ENOTDIR: 'A file stands where a folder should be: look at it, and move it away.',
};

/** An error of the file system as `backend_unavailable`; any other as it is. */
function unavailable(name: string, root: string, doing: string, error: unknown): unknown {
  const code = systemErrorCode(error);
  if (error instanceof HoldfastError || code === undefined || !(error instanceof Error) || !('errno' in error))
    return error;
  const reason = getSystemErrorMessage(Number(error.errno));
  const isRefused = doing.startsWith('delete') && (code === 'EACCES' || code === 'EPERM');
  const hint = isRefused
    ? `${HINTS[code]} It may be meant to be append-only (chattr +a): then leave deleting to a machine that may.`
    : HINTS[code];
  return new HoldfastError(
    'backend_unavailable',
    `backend ${name} cannot ${doing} the folder ${shown(root)}: ${reason} (${code})`,
    {
      hint: hint ?? 'Is the storage mounted and in order?',
      retryable: hint === undefined,
      cause: error,
    },
  );
}
