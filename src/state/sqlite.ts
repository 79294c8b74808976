/**
 * SQLite databases: a file under a writer is copied with its own means, so that the copy is one state of it (https://www.sqlite.org/backup.html).
 * Its pages keep their places: where one row has changed, nearly all chunks are known.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, readSync, rmSync } from 'node:fs';
import { extname, join, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { HoldfastError, messageOf, throwIfAborted } from '../errors.ts';
import { escapeForDisplay, rawFromText, rawToFs, type RawPath } from '../raw-path.ts';
import { isSystemError } from './system-error.ts';

/** What lies beside a database, and belongs to it. */
export const SQLITE_SIBLINGS = ['-wal', '-journal', '-shm'] as const;

const HEADER = Buffer.from('SQLite format 3\0', 'latin1');

/** @param head the first bytes of a file. An encrypted database is no database here. */
export function isSqlite(head: Uint8Array): boolean {
  return head.length >= HEADER.length && HEADER.equals(head.subarray(0, HEADER.length));
}

/** Whether a database lies at an absolute path. Not to be asked of one that is being captured: closing a file gives up the locks on it. */
export function isDatabase(path: RawPath): boolean {
  let fd: number | undefined;
  try {
    fd = openSync(rawToFs(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const head = Buffer.alloc(HEADER.length);
    return fstatSync(fd).isFile() && isSqlite(head.subarray(0, readSync(fd, head)));
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return false;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** What a database holds. */
export interface Contents {
  /** Number of rows of each table that has rows of its own; of 200 tables at most. */
  rows: Record<string, number>;
  /** The first thing that SQLite's integrity check says; undefined when all is well. For display. */
  damage: string | undefined;
}

/** To the thread. Paths are raw, and absolute. */
export interface Request {
  path: string;
  /** Where to copy it to; without, `path` itself is checked. */
  copy: string | undefined;
  /** The folder that it has to lie in, with no link on the way. */
  root?: string | undefined;
}

export type Answer = { contents: Contents } | { failure: string };

interface Captured extends Contents {
  folder: string;
  copy: RawPath;
}

/** A thread that is asked nothing any more, and waits for who needs one: to start one takes 50 ms of processor time. It keeps no process running. */
let idle: Worker | undefined;

/**
 * Captures and checks databases, one after the other, in a thread that is started, or found idle, when there is the first.
 *
 * The folder for copies is emptied at once, for a run that was killed may have left one, and removed on disposal.
 */
export class Sqlite implements AsyncDisposable {
  readonly #folder: string | undefined;
  readonly #signal: AbortSignal | undefined;
  #thread: Worker | undefined;
  #hasFolder = false;
  /** What the thread was asked, in the order of its answers. */
  readonly #asked: ((answer: Answer) => void)[] = [];

  /** @param folder of nobody else; not needed for checks. */
  constructor(folder: string | undefined, signal?: AbortSignal) {
    this.#folder = folder;
    this.#signal = signal;
    this.#removeFolder();
  }

  /**
   * A copy of the database at an absolute path, as it is at one moment, complete in one file: at `copy` in `folder`, until the next is made in the same
   * `slot` (from 0). The database is opened for reading only. Where another process has it open in WAL mode, SQLite notes its reader in `-shm`;
   * only a database that comes to be opened by others in the midst of it may get an empty `-wal` and a `-shm` by it.
   *
   * Until it resolves, nothing in this process may open and close the file, by whatever name: that would give up the locks on it
   * (https://www.sqlite.org/howtocorrupt.html).
   *
   * @param root when given, the database is taken only if it lies in that folder, reached through no link.
   * `failure`, for display, when it cannot be had: locked for long, no database, no space, …
   * @throws HoldfastError `interrupted`
   */
  async capture(
    path: RawPath,
    { root, slot = 0 }: { root?: RawPath; slot?: number } = {},
  ): Promise<Captured | { failure: string }> {
    const folder = resolve(this.#folder ?? '');
    const copy = rawFromText(slot === 0 ? 'copy' : `copy-${slot}`);
    if (!this.#makeFolder(folder))
      return { failure: 'the cache folder, where its copy would be made, cannot be written' };
    const answer = await this.#ask({ path, copy: rawFromText(join(folder, copy)), root });
    return 'contents' in answer ? { ...answer.contents, folder, copy } : answer;
  }

  /**
   * What a database at an absolute path holds to which nobody writes. It may only have been read, also by its times, but for that of access.
   * @param path may lead through folders that are held; what lies there is no link, or is refused.
   * @throws HoldfastError `interrupted`
   */
  async check(path: RawPath): Promise<Contents | { failure: string }> {
    const answer = await this.#ask({ path, copy: undefined });
    return 'contents' in answer ? answer.contents : answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const thread = this.#thread;
    this.#thread = undefined;
    if (thread && (idle || this.#asked.length > 0)) await thread.terminate();
    else if (thread) {
      thread.removeAllListeners().unref();
      const drop = () => void (idle = undefined);
      idle = thread.on('error', drop).on('exit', drop);
    }
    this.#removeFolder();
  }

  #makeFolder(folder: string): boolean {
    try {
      if (!this.#hasFolder) mkdirSync(folder, { recursive: true, mode: 0o700 });
      this.#hasFolder = true;
    } catch {
      // told as a failure, each time
    }
    return this.#hasFolder;
  }

  #removeFolder(): void {
    if (this.#folder === undefined) return;
    try {
      rmSync(this.#folder, { recursive: true, force: true });
    } catch {
      // then no copy can be made in it either, which is told
    }
  }

  async #ask(request: Request): Promise<Answer> {
    throwIfAborted(this.#signal);
    const { promise, resolve: settle, reject } = Promise.withResolvers<Answer>();
    const stop = () => reject(new HoldfastError('interrupted', 'interrupted', { cause: this.#signal?.reason }));
    this.#signal?.addEventListener('abort', stop, { once: true });
    try {
      this.#asked.push(settle);
      (this.#thread ??= this.#start()).postMessage(request);
      const answer = await promise;
      return 'failure' in answer ? { failure: shortened(answer.failure) } : answer;
    } finally {
      this.#signal?.removeEventListener('abort', stop);
    }
  }

  #start(): Worker {
    // Beside this file, and like it TypeScript or what became of it.
    const program = new URL(`./sqlite-thread${extname(import.meta.url)}`, import.meta.url);
    const thread = idle ?? new Worker(program, { resourceLimits: { maxOldGenerationSizeMb: 64 } });
    idle = undefined;
    thread.removeAllListeners().ref();
    const end = (why: unknown) => {
      if (this.#thread === thread) this.#thread = undefined;
      const failure = `the thread that reads databases ended: ${messageOf(why)}`;
      for (const settle of this.#asked.splice(0)) settle({ failure });
    };
    thread.on('message', (answer: Answer) => this.#asked.shift()?.(answer));
    thread.on('error', end).on('exit', end);
    return thread;
  }
}

const shortened = (text: string): string => escapeForDisplay(text.slice(0, 200));
