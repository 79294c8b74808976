/**
 * A folder on an SFTP server (protocol version 3 with OpenSSH's extensions where they are offered). An object is a file whose path is its key;
 * it is written to `tmp/` and gets its name when it is whole, as in directory.ts.
 */
import type { SFTPWrapper, Stats } from 'ssh2';
import type { Clock, Random } from '../clock.ts';
import { HoldfastError, throwIfAborted } from '../errors.ts';
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
import { inPieces, isEndOfFile, NO_SUCH_FILE, request, statusOf, type Start } from './sftp-request.ts';
import { openSession, type Session, type SftpLocation } from './sftp-session.ts';

interface SftpOptions {
  name: string;
  clock: Clock;
  random: Random;
  /** Make the folder when it is not there. */
  create?: boolean;
}

/** What the server offers besides the protocol. */
export type SftpCapabilities = {
  /** A link is made only where nothing is: of several writers of one key one wins. Else `rename` is relied on not to replace. */
  hardLinks: boolean;
  /** A file is on the disk before it gets its name. */
  fsync: boolean;
  /** An object can be replaced without a moment at which it is absent. */
  atomicReplace: boolean;
};

type Cancellable = { signal?: AbortSignal | undefined };

const FOLDERS_IN_FLIGHT = 16;
const TMP = 'tmp';
const ABANDONED_MS = 24 * 60 * 60 * 1000;
/** A connection from which nothing came for so long while a call was given up is taken for dead. */
const SILENT_MS = 5_000;
const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
const TYPE_BITS = 0o170000;
const FOLDER_BITS = 0o040000;
const FILE_BITS = 0o100000;

/** Connects, and looks for the folder. @throws `backend_unavailable` */
export async function openSftp(location: SftpLocation, options: SftpOptions): Promise<SftpBackend> {
  const backend = new SftpBackend(location, options);
  try {
    await backend.start(options.create ?? false);
  } catch (error) {
    await backend[Symbol.asyncDispose]();
    throw error;
  }
  return backend;
}

export class SftpBackend implements Backend {
  readonly place: string;
  readonly #location: SftpLocation;
  readonly #options: SftpOptions;
  #session: Promise<Session> | undefined;
  /** That of `#session`, once it is there. */
  #open: Session | undefined;
  readonly #folders = new Map<string, Promise<void>>();
  #isDisposed = false;

  constructor(location: SftpLocation, options: SftpOptions) {
    this.#location = location;
    this.#options = options;
    const { user, host, port, path } = location;
    this.place = `sftp:${user}@${host}:${port}/${path}`;
  }

  async start(create: boolean): Promise<void> {
    const { path } = this.#location;
    if (create) await this.#makeFolder(path, true);
    const found = await this.#stat(path);
    if (!found || (found.mode & TYPE_BITS) !== FOLDER_BITS) {
      throw new HoldfastError('backend_unavailable', `${this.#where}: its folder ${path} is not there`, {
        hint: 'Check the path and whether the storage is mounted on the server.',
      });
    }
    await this.#removeAbandoned();
  }

  async put(
    key: string,
    bytes: Uint8Array,
    { ifAbsent = false, signal }: PutOptions = {},
  ): Promise<'created' | 'exists'> {
    checkObject(key, bytes);
    return this.#until(signal, async () => {
      try {
        return await this.#put(key, bytes, ifAbsent, signal);
      } catch (error) {
        if (statusOf(error) !== NO_SUCH_FILE || this.#folders.size === 0) throw error;
        this.#folders.clear(); // somebody took one away
        return this.#put(key, bytes, ifAbsent, signal);
      }
    });
  }

  async #put(
    key: string,
    bytes: Uint8Array,
    ifAbsent: boolean,
    signal: AbortSignal | undefined,
  ): Promise<'created' | 'exists'> {
    const path = this.#path(key);
    if (ifAbsent && (await this.#stat(path))) return 'exists';
    await this.#makeFolder(this.#path(TMP), false);
    await this.#makeFolder(path.slice(0, path.lastIndexOf('/')), false);
    const name = Buffer.from(this.#options.random.bytes(12)).toString('hex');
    const temporary = this.#path(`${TMP}/${name}`);
    try {
      await this.#write(temporary, bytes, signal);
      throwIfAborted(signal);
      return ifAbsent ? await this.#publish(temporary, path) : await this.#replace(temporary, path);
    } finally {
      await this.#remove(temporary).catch(() => undefined); // abandoned, and cleaned away some day
    }
  }

  async get(key: string, range?: ByteRange, { signal }: Cancellable = {}): Promise<Uint8Array> {
    checkKey(key);
    throwIfAborted(signal);
    if (range !== undefined) clampRange(range, 0, key, this.#where); // before anything is done
    return this.#until(signal, () => this.#get(key, range, signal));
  }

  async #get(key: string, range: ByteRange | undefined, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const { sftp } = await this.#connected();
    const handle = await this.#call<Buffer>(sftp, `read ${key}`, (done) => sftp.open(this.#path(key), 'r', done)).catch(
      async (error: unknown) => {
        if (statusOf(error) !== NO_SUCH_FILE) throw error;
        await this.#requireFolder();
        throw objectNotFound(key, this.#where);
      },
    );
    try {
      const { size, mode } = await this.#call<Stats>(sftp, `read ${key}`, (done) => sftp.fstat(handle, done));
      if ((mode & TYPE_BITS) !== FILE_BITS) throw objectNotFound(key, this.#where);
      const { offset, length } = clampRange(range, size, key, this.#where);
      const bytes = Buffer.allocUnsafeSlow(length);
      await inPieces(length, async (at, end) => {
        for (let from = at; from < end;) {
          throwIfAborted(signal);
          const read = await this.#read(sftp, handle, bytes, from, end - from, offset + from, key);
          if (read === 0) throw this.#brokeOff(key, from, length);
          from += read;
        }
      });
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    } finally {
      sftp.close(handle, ignore);
    }
  }

  async head(key: string, { signal }: Cancellable = {}): Promise<{ size: number } | undefined> {
    checkKey(key);
    const found = await this.#until(signal, async () => {
      const found = await this.#stat(this.#path(key));
      if (!found) await this.#requireFolder();
      return found;
    });
    return found && (found.mode & TYPE_BITS) === FILE_BITS ? { size: found.size } : undefined;
  }

  async *list(prefix: string, { signal }: Cancellable = {}): AsyncGenerator<ObjectInfo> {
    await this.#until(signal, () => this.#requireFolder());
    const slash = prefix.lastIndexOf('/');
    const folders = [slash < 0 ? '' : prefix.slice(0, slash + 1)];
    if (folders[0] !== '' && !isKey(`${folders[0]}x`)) return;
    while (folders.length > 0) {
      const next = folders.splice(0, FOLDERS_IN_FLIGHT);
      const pages = await this.#until(signal, () => Promise.all(next.map((folder) => this.#entries(folder))));
      for (const { folder, entries } of pages) {
        for (const { filename, attrs } of entries) {
          throwIfAborted(signal);
          const key = folder + filename;
          const type = attrs.mode & TYPE_BITS;
          if (type === FILE_BITS && key.startsWith(prefix) && isKey(key)) yield { key, size: attrs.size };
          const below = `${key}/`;
          if (type === FOLDER_BITS && isKey(`${below}x`) && (below.startsWith(prefix) || prefix.startsWith(below)))
            folders.push(below);
        }
      }
    }
  }

  async delete(key: string, { signal }: Cancellable = {}): Promise<void> {
    checkKey(key);
    const path = this.#path(key);
    await this.#until(signal, async () => {
      try {
        if (!(await this.#remove(path))) await this.#requireFolder();
      } catch (error) {
        const found = await this.#stat(path);
        if (!found || (found.mode & TYPE_BITS) === FILE_BITS) throw error; // a folder is no object
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDisposed = true;
    const session = await this.#session?.catch(() => undefined);
    session?.end();
  }

  /** What the server offers; connects where that was not done yet. */
  async capabilities(): Promise<SftpCapabilities> {
    const { sftp } = await this.#connected();
    const extensions = '_extensions' in sftp ? (sftp._extensions as Record<string, string | undefined>) : {};
    return {
      hardLinks: extensions['hardlink@openssh.com'] === '1',
      fsync: extensions['fsync@openssh.com'] === '1',
      atomicReplace: extensions['posix-rename@openssh.com'] === '1',
    };
  }

  async #write(path: string, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const { sftp } = await this.#connected();
    const doing = `write ${path}`;
    const handle = await this.#call<Buffer>(sftp, doing, (done) => sftp.open(path, 'wx', { mode: FILE_MODE }, done));
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    try {
      await inPieces(bytes.length, async (at, end) => {
        throwIfAborted(signal);
        await this.#call<void>(sftp, doing, (done) => sftp.write(handle, buffer, at, end - at, at, done));
      });
      if ((await this.capabilities()).fsync)
        await this.#call<void>(sftp, doing, (done) => sftp.ext_openssh_fsync(handle, done));
    } catch (error) {
      await this.#call<void>(sftp, doing, (done) => sftp.close(handle, done)).catch(ignore);
      throw error;
    }
    // Where the disk is full, or its quota, some servers say so only here.
    await this.#call<void>(sftp, doing, (done) => sftp.close(handle, done));
  }

  /** Gives the finished file its name, which must be free. */
  async #publish(temporary: string, path: string): Promise<'created' | 'exists'> {
    const { sftp } = await this.#connected();
    const doing = `store ${path}`;
    const ways = [(done: (error?: Error | null) => void) => sftp.rename(temporary, path, done)];
    // There are file systems without links below servers that offer them: then by renaming after all.
    if ((await this.capabilities()).hardLinks) ways.unshift((done) => sftp.ext_openssh_hardlink(temporary, path, done));
    for (const way of ways) {
      try {
        await this.#call<void>(sftp, doing, way);
        return 'created';
      } catch (error) {
        if (statusOf(error) === undefined) throw error; // no answer: it may be our own that is there now
        // Version 3 has no status of its own for "there already".
        if (await this.#stat(path)) return 'exists';
        if (way === ways.at(-1)) throw error;
      }
    }
    throw new HoldfastError('bug', `${this.#where}: there is always a way to ${doing}`);
  }

  async #replace(temporary: string, path: string): Promise<'created'> {
    const { sftp } = await this.#connected();
    const { atomicReplace } = await this.capabilities();
    if (!atomicReplace) await this.#remove(path);
    await this.#call<void>(sftp, `store ${path}`, (done) =>
      atomicReplace ? sftp.ext_openssh_rename(temporary, path, done) : sftp.rename(temporary, path, done),
    );
    return 'created';
  }

  #read(
    sftp: SFTPWrapper,
    handle: Buffer,
    into: Buffer,
    at: number,
    length: number,
    position: number,
    key: string,
  ): Promise<number> {
    return this.#call<number>(sftp, `read ${key}`, (done) =>
      sftp.read(handle, into, at, length, position, (error, bytesRead) =>
        done(isEndOfFile(error) ? undefined : error, isEndOfFile(error) ? 0 : bytesRead),
      ),
    );
  }

  async #entries(folder: string) {
    const { sftp } = await this.#connected();
    const path = folder === '' ? this.#location.path : this.#path(folder.slice(0, -1));
    try {
      return {
        folder,
        entries: await this.#call<{ filename: string; attrs: Stats }[]>(sftp, `list ${path}`, (done) =>
          sftp.readdir(path, done),
        ),
      };
    } catch (error) {
      if (statusOf(error) === NO_SUCH_FILE) return { folder, entries: [] };
      throw error;
    }
  }

  async #stat(path: string): Promise<Stats | undefined> {
    const { sftp } = await this.#connected();
    try {
      return await this.#call<Stats>(sftp, `look for ${path}`, (done) => sftp.stat(path, done));
    } catch (error) {
      if (statusOf(error) === NO_SUCH_FILE) return undefined;
      throw error;
    }
  }

  /** An absent object is one thing, an absent backend another. */
  async #requireFolder(): Promise<void> {
    if (await this.#stat(this.#location.path)) return;
    throw new HoldfastError(
      'backend_unavailable',
      `${this.#where}: its folder ${this.#location.path} is not there any more`,
      {
        hint: 'Check whether the storage is mounted on the server.',
      },
    );
  }

  /** Resolves to false where there is no such file. */
  async #remove(path: string): Promise<boolean> {
    const { sftp } = await this.#connected();
    try {
      await this.#call<void>(sftp, `delete ${path}`, (done) => sftp.unlink(path, done));
      return true;
    } catch (error) {
      if (statusOf(error) !== NO_SUCH_FILE) throw error;
      return false;
    }
  }

  /** Makes a folder, and those above it: all of them, or down from the backend's own, which must be there. */
  #makeFolder(path: string, withBase: boolean): Promise<void> {
    const base = this.#location.path;
    if (!withBase && path === base) return Promise.resolve();
    const made = this.#folders.get(path);
    if (made) return made;
    const making = (async () => {
      if (await this.#stat(path)) return;
      const above = path.slice(0, Math.max(0, path.lastIndexOf('/')));
      if (above !== '') await this.#makeFolder(above, withBase);
      const { sftp } = await this.#connected();
      try {
        await this.#call<void>(sftp, `make the folder ${path}`, (done) =>
          sftp.mkdir(path, { mode: FOLDER_MODE }, done),
        );
      } catch (error) {
        if (!(await this.#stat(path))) throw error; // another one made it at the same moment
      }
    })();
    this.#folders.set(path, making);
    making.catch(() => this.#folders.delete(path));
    return making;
  }

  async #removeAbandoned(): Promise<void> {
    const { entries } = await this.#entries(`${TMP}/`);
    const before = this.#options.clock.now() - ABANDONED_MS;
    for (const { filename, attrs } of entries)
      if (attrs.mtime * 1000 < before) await this.#remove(this.#path(`${TMP}/${filename}`));
  }

  /** Work that ends with the signal, also when the server answers no more. What it began goes on to its own end, unheard. */
  async #until<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    throwIfAborted(signal);
    if (!signal) return work();
    const { clock } = this.#options;
    const began = clock.monotonic();
    const session = this.#open;
    const heard = session?.heard();
    let giveUp = (): void => undefined;
    const aborted = new Promise<never>((_, reject) => {
      giveUp = () => {
        if (session?.heard() === heard && clock.monotonic() - began >= SILENT_MS) session?.end();
        reject(new HoldfastError('interrupted', 'interrupted', { cause: signal.reason }));
      };
      signal.addEventListener('abort', giveUp, { once: true });
    });
    try {
      return await Promise.race([work(), aborted]);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  /** The session that is open, or a new one. */
  #connected(): Promise<Session> {
    if (this.#isDisposed) return Promise.reject(new HoldfastError('bug', `${this.#where} is closed`));
    if (this.#session && !this.#open?.isClosed) return this.#session;
    this.#open = undefined;
    const opening = openSession(this.#location, this.#where);
    this.#session = opening;
    opening.then(
      (session) => {
        if (this.#isDisposed) session.end();
        else if (this.#session === opening) this.#open = session;
      },
      () => {
        if (this.#session === opening) this.#session = undefined;
      },
    );
    return opening;
  }

  #call<T>(sftp: SFTPWrapper, doing: string, start: Start<T>): Promise<T> {
    return request(sftp, start, `${this.#where} cannot ${doing}`);
  }

  #brokeOff(key: string, at: number, length: number): HoldfastError {
    return new HoldfastError('backend_unavailable', `${this.#where}: ${key} ended after ${at} of ${length} bytes`, {
      hint: 'Try again.',
      retryable: true,
    });
  }

  get #where(): string {
    return `backend ${this.#options.name}`;
  }

  #path(key: string): string {
    const { path } = this.#location;
    return path === '' ? key : `${path}/${key}`;
  }
}

function ignore(): void {
  // what is closed is closed
}
