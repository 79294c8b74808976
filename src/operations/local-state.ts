/**
 * What holdfast keeps on the agent's host besides the keys: which snapshot was the last (to notice storage that was rolled back) and, as a cache, the
 * last manifest (to know without reading which files are unchanged). Losing the cache costs time only.
 */
import {
  closeSync,
  createReadStream,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Entry } from '../entry.ts';
import { MANIFEST_LINE_MAX_BYTES } from '../limits.ts';
import { splitLines } from '../lines.ts';
import { comparePaths, type RawPath } from '../raw-path.ts';
import { parseEntryLine, type SnapshotId } from '../repository/repository.ts';

/** Where a repository's local files lie; both folders are of this repository alone. */
export interface LocalFolders {
  /** Small and kept: the last snapshot, the lock. */
  state: string;
  /** May be deleted at any time. */
  cache: string;
}

export interface LocalState {
  /** The last snapshot this host has made; null before the first. */
  last: { id: SnapshotId; seq: number } | null;
  /** Names of the backends that are known to have held the repository. */
  backends: string[];
}

/** What this host remembers; undefined when it has never made a snapshot, or its memory is lost. */
export function readLocalState(folders: LocalFolders): LocalState | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(join(folders.state, 'state.json'), 'utf8'));
    if (typeof value !== 'object' || value === null || !('last' in value) || !('backends' in value)) return undefined;
    const { last, backends } = value;
    if (!Array.isArray(backends) || !backends.every((name) => typeof name === 'string')) return undefined;
    if (last === null) return { last, backends };
    if (typeof last !== 'object' || !('id' in last) || !('seq' in last)) return undefined;
    const { id, seq } = last;
    if (typeof id !== 'string' || !/^[0-9a-f]{64}$/.test(id) || typeof seq !== 'number' || !Number.isSafeInteger(seq))
      return undefined;
    return { last: { id: id as SnapshotId, seq }, backends };
  } catch {
    return undefined; // then only what the backends say is known
  }
}

/** @returns false when it cannot be written: the snapshot is safe all the same, and only the next run's look back suffers. */
export function writeLocalState(folders: LocalFolders, state: LocalState): boolean {
  try {
    mkdirSync(folders.state, { recursive: true, mode: 0o700 });
    replaceFile(join(folders.state, 'state.json'), `${JSON.stringify(state)}\n`);
    return true;
  } catch {
    return false;
  }
}

function replaceFile(path: string, text: string): void {
  const temporary = `${path}.new`;
  writeFileSync(temporary, text, { mode: 0o600 });
  const fd = openSync(temporary, 'r');
  fsyncSync(fd);
  closeSync(fd);
  renameSync(temporary, path);
}

/** An entry of the last manifest with what tells whether the file was touched since. */
export interface CachedEntry {
  entry: Entry;
  ctimeNs: bigint;
  ino: bigint;
}

const CACHE_HEAD = /^holdfast-cache 1 (\d+)$/;
const CACHE_END = 'end';
/** Longer than the tick of any kernel's file times, with room for a clock that was set back a little. */
const CLOCK_TICK_NS = 2_000_000_000n;

const cachePath = (folders: LocalFolders, id: SnapshotId): string => join(folders.cache, `manifest-${id}`);

/**
 * The last manifest, read in step with a scan: both are in the same order, so one pass with one line in memory serves.
 */
export class ManifestCache implements AsyncDisposable {
  readonly #lines: AsyncGenerator<string>;
  /** Files touched at or after this moment are read again: a change within the clock's tick would not show in their times. */
  readonly trustedBeforeNs: bigint;
  #next: CachedEntry | undefined;
  /** Files of the last manifest that the scan has passed without meeting them. */
  removedFiles = 0;
  /** True once something was met that no backup writes: of what would follow nothing is known. */
  isDamaged = false;

  private constructor(lines: AsyncGenerator<string>, trustedBeforeNs: bigint) {
    this.#lines = lines;
    this.trustedBeforeNs = trustedBeforeNs;
  }

  /** Undefined when there is none of this snapshot. */
  static async open(folders: LocalFolders, of: SnapshotId): Promise<ManifestCache | undefined> {
    const stream = createReadStream(cachePath(folders, of), { highWaterMark: 1024 * 1024 });
    const lines = splitLines(stream, MANIFEST_LINE_MAX_BYTES);
    const head = await lines.next().catch(() => undefined);
    const match = head?.done === false ? CACHE_HEAD.exec(head.value) : null;
    if (!match) {
      stream.destroy();
      return undefined;
    }
    const cache = new ManifestCache(lines, BigInt(match[1] ?? 0));
    await cache.#advance();
    return cache;
  }

  /** The entry at `path`, or undefined. Paths must be asked for in ascending order. */
  async at(path: RawPath): Promise<CachedEntry | undefined> {
    while (this.#next && comparePaths(this.#next.entry.path, path) < 0) await this.#skip();
    if (this.#next?.entry.path !== path) return undefined;
    const found = this.#next;
    await this.#advance();
    return found;
  }

  /** Counts what is left as removed. */
  async end(): Promise<void> {
    while (this.#next) await this.#skip();
  }

  async #skip(): Promise<void> {
    if (this.#next?.entry.type === 'file') this.removedFiles++;
    await this.#advance();
  }

  async #advance(): Promise<void> {
    this.#next = undefined;
    try {
      const line = await this.#lines.next();
      if (!line.done && line.value === CACHE_END) return;
      if (line.done) throw new Error('no end');
      const first = line.value.indexOf('\t');
      const second = line.value.indexOf('\t', first + 1);
      this.#next = {
        ctimeNs: BigInt(line.value.slice(0, first)),
        ino: BigInt(line.value.slice(first + 1, second)),
        entry: parseEntryLine(line.value.slice(second + 1)),
      };
    } catch {
      this.isDamaged = true; // the rest is read anew
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lines.return(undefined);
  }
}

/** Writes the cache beside a backup; it takes effect with `commit`, when the snapshot exists. A cache that cannot be written costs time only. */
export class ManifestCacheWriter {
  readonly #folders: LocalFolders;
  readonly #temporary: string;
  #fd: number | undefined;
  #pending: string[] = [];
  #pendingChars = 0;

  /** @param startedMs wall clock at the start of the scan. */
  constructor(folders: LocalFolders, startedMs: number) {
    this.#folders = folders;
    this.#temporary = join(folders.cache, 'manifest.new');
    try {
      mkdirSync(folders.cache, { recursive: true, mode: 0o700 });
      rmSync(this.#temporary, { force: true });
      this.#fd = openSync(this.#temporary, 'wx', 0o600);
    } catch {
      // no cache then
    }
    this.#write(`holdfast-cache 1 ${BigInt(Math.trunc(startedMs)) * 1_000_000n - CLOCK_TICK_NS}\n`);
  }

  add(line: string, item: { ctimeNs: bigint; ino: bigint }): void {
    this.#write(`${item.ctimeNs}\t${item.ino}\t${line}\n`);
  }

  commit(id: SnapshotId): void {
    this.#write(`${CACHE_END}\n`);
    this.#flush();
    if (this.#fd === undefined) return;
    try {
      renameSync(this.#temporary, cachePath(this.#folders, id));
      const kept = `manifest-${id}`;
      for (const name of readdirSync(this.#folders.cache)) {
        if (name.startsWith('manifest-') && name !== kept) rmSync(join(this.#folders.cache, name), { force: true });
      }
    } catch {
      this.discard();
    }
    this.#close();
  }

  discard(): void {
    this.#close();
    rmSync(this.#temporary, { force: true });
  }

  #write(text: string): void {
    this.#pending.push(text);
    this.#pendingChars += text.length;
    if (this.#pendingChars > 1024 * 1024) this.#flush();
  }

  #flush(): void {
    const text = this.#pending.join('');
    this.#pending = [];
    this.#pendingChars = 0;
    if (this.#fd === undefined) return;
    try {
      writeFileSync(this.#fd, text);
    } catch {
      this.discard();
    }
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
