/** Databases in a backup: each is captured with SQLite's means, and stands in the snapshot as one file without those beside it. */
import { lstatSync, type BigIntStats } from 'node:fs';
import { join, resolve } from 'node:path';
import type { FileEntry, Warning } from '../../entry.ts';
import { assert } from '../../errors.ts';
import { rawForDisplay, rawFromText, type RawPath } from '../../raw-path.ts';
import type { ScannedFile } from '../../state/scan.ts';
import { isDatabase, Sqlite, SQLITE_SIBLINGS } from '../../state/sqlite.ts';
import { inTree, absoluteIn } from '../../state/tree-path.ts';
import type { LocalFolders } from '../host/local-state.ts';

export interface CapturedDatabase {
  /** Where the copy lies until it is released. */
  folder: string;
  copy: RawPath;
  sqlite: NonNullable<FileEntry['sqlite']>;
  /** What tells that nothing beside the database was touched, see `stampOf`; undefined when the next run must look again. */
  stamp: string | undefined;
}

/** A database that is being captured, or waits to be read. */
export interface Capture {
  item: ScannedFile;
  /** Of its copy. */
  slot: number;
  isReady: boolean;
  /** Undefined when it cannot be had, which is told: a copy of the file as it lies there might be worth nothing. */
  captured: Promise<CapturedDatabase | undefined>;
}

/** One that is read, one that is ready, one that is made. */
const CAPTURES_AHEAD = 3;
/** More than one while they are not larger together. */
const AHEAD_MAX_BYTES = 64 * 1024 * 1024;

export class DatabaseSaver implements AsyncDisposable {
  readonly #root: RawPath;
  readonly #sqlite: Sqlite;
  readonly #warnings: Warning[];
  readonly #underWay: Capture[] = [];

  constructor(root: string, folders: LocalFolders, warnings: Warning[], signal: AbortSignal | undefined) {
    this.#root = rawFromText(resolve(root));
    this.#sqlite = new Sqlite(join(folders.cache, 'database'), signal);
    this.#warnings = warnings;
  }

  /** Whether captures wait to be released. */
  get isBusy(): boolean {
    return this.#underWay.length > 0;
  }

  /** Whether a capture of `item` may begin now, in time and in room for its copy. */
  hasRoomFor({ size }: ScannedFile): boolean {
    const others = this.#underWay.reduce((sum, { item }) => sum + item.size, 0);
    return !this.isBusy || (this.#underWay.length < CAPTURES_AHEAD && others + size <= AHEAD_MAX_BYTES);
  }

  /** Whether the file is being captured, by whatever name: then nobody here may open it, which would give up the locks on it. */
  isCapturing({ dev, ino }: ScannedFile): boolean {
    return this.#underWay.some(({ item }) => item.ino === ino && item.dev === dev);
  }

  /** Begins to capture a database, in another thread. To be released when the copy was read. */
  begin(item: ScannedFile): Capture {
    // The first that is free, so that large ones take the room of each other.
    const slot = [...Array(CAPTURES_AHEAD).keys()].find((one) => !this.#underWay.some((other) => other.slot === one));
    assert(slot !== undefined, 'a capture begins when there is room for it');
    const capture: Capture = { item, slot, isReady: false, captured: this.#capture(item, slot) };
    const ready = () => (capture.isReady = true);
    capture.captured.then(ready, ready);
    this.#underWay.push(capture);
    return capture;
  }

  release(capture: Capture): void {
    this.#underWay.splice(this.#underWay.indexOf(capture), 1);
  }

  async #capture(item: ScannedFile, slot: number): Promise<CapturedDatabase | undefined> {
    const stamp = this.stampOf(item.path);
    const captured = await this.#sqlite.capture(absoluteIn(this.#root, item.path), { root: this.#root, slot });
    const path = rawForDisplay(item.path);
    const tell = (code: string, message: string) => this.#warnings.push({ code, path, message, incomplete: true });
    if ('failure' in captured) {
      tell(
        'sqlite_not_captured',
        `the database ${path} could not be captured: ${captured.failure}; it is not in the snapshot`,
      );
      return undefined;
    }
    const { folder, copy, rows, damage } = captured;
    if (damage !== undefined) tell('sqlite_damaged', `the database ${path} is saved, and is damaged: ${damage}`);
    return { folder, copy, sqlite: { rows }, stamp: damage === undefined ? stamp.text : undefined };
  }

  /**
   * True for what lies beside a database and is part of it, whatever becomes of that: what is in the copy of one is not wanted twice, and a part of
   * one that is left out, or that could not be captured, would be as secret, or as useless, as the whole.
   */
  isPartOfOne(path: RawPath): boolean | Promise<boolean> {
    const suffix = SQLITE_SIBLINGS.find((one) => path.endsWith(one));
    if (suffix === undefined) return false;
    const of = path.slice(0, -suffix.length) as RawPath;
    if (this.#underWay.some(({ item }) => item.path === of)) return true;
    const look = () => isDatabase(absoluteIn(this.#root, of));
    // It may be another name of one.
    return this.isBusy ? Promise.allSettled(this.#underWay.map(({ captured }) => captured)).then(look) : look();
  }

  /**
   * What changes with every commit beside the database itself. (`-shm` changes with every reader. The time of change as well, when root is the
   * reader: SQLite then sets the owner of the log anew.)
   */
  stampOf(path: RawPath): { text: string; newestNs: bigint } {
    let newestNs = 0n;
    const texts = ['-wal', '-journal'].map((suffix) => {
      const stats = this.#look((path + suffix) as RawPath);
      if (!stats) return '';
      if (stats.mtimeNs > newestNs) newestNs = stats.mtimeNs;
      return [stats.size, stats.mtimeNs, stats.ino].join('.');
    });
    return { text: texts.join(), newestNs };
  }

  #look(path: RawPath): BigIntStats | undefined {
    try {
      return lstatSync(inTree(this.#root, path), { bigint: true, throwIfNoEntry: false });
    } catch {
      return undefined; // such a name is too long to be there
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sqlite[Symbol.asyncDispose]();
  }
}
