/**
 * What holdfast keeps on the agent's host besides the keys: which snapshot was the last (to notice storage that was rolled back) and, as a cache, the
 * last manifest (to know without reading which files are unchanged). Losing the cache costs time only.
 */
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { MANIFEST_LINE_MAX_BYTES } from '../../limits.ts';
import { LineSplitter } from '../../lines.ts';
import { comparePaths, type RawPath } from '../../raw-path.ts';
import { glanceAtLine, type RunId, type SnapshotId } from '../../repository/repository.ts';
import type { Texture } from '../../state/texture.ts';

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
  /** The newest entry of the identity log that this host has seen. */
  keys?: SeenEntry | undefined;
  /** When the locks of all objects of a backend were last set anew, by its name; milliseconds since the Unix epoch. */
  locked?: Readonly<Record<string, number>> | undefined;
  /** The device that the root of the state lay on when the last snapshot was made. */
  device?: string | undefined;
  /** The last runs that this host has begun, oldest first: the next one says that they are over. */
  runs?: readonly RunId[] | undefined;
  /** The same of its prunes, which go on beside the others. */
  sweeps?: readonly RunId[] | undefined;
}

export interface SeenEntry {
  seq: number;
  id: string;
  weight: number;
}

/** What this host remembers; undefined when it has never made a snapshot, or its memory is lost. */
export function readLocalState(folders: LocalFolders): LocalState | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(join(folders.state, 'state.json'), 'utf8'));
    if (typeof value !== 'object' || value === null || !('last' in value) || !('backends' in value)) return undefined;
    const { last, backends } = value;
    if (!Array.isArray(backends) || !backends.every((name) => typeof name === 'string')) return undefined;
    const keys = 'keys' in value ? seenEntry(value.keys) : undefined;
    const locked = 'locked' in value ? timesIn(value.locked) : undefined;
    const device = 'device' in value && typeof value.device === 'string' ? value.device : undefined;
    const runs = 'runs' in value ? runIds(value.runs) : undefined;
    const sweeps = 'sweeps' in value ? runIds(value.sweeps) : undefined;
    const rest = { backends, keys, locked, device, runs, sweeps };
    if (last === null) return { last, ...rest };
    if (typeof last !== 'object' || !('id' in last) || !('seq' in last)) return undefined;
    const { id, seq } = last;
    if (typeof id !== 'string' || !/^[0-9a-f]{64}$/.test(id) || typeof seq !== 'number' || !Number.isSafeInteger(seq))
      return undefined;
    return { last: { id: id as SnapshotId, seq }, ...rest };
  } catch {
    return undefined; // then only what the backends say is known
  }
}

const condemnedPath = (folders: LocalFolders): string => join(folders.state, 'condemned.json');

/** When a prune of this host first saw each condemned record, by its key; milliseconds since the Unix epoch. */
export function readFirstSeen(folders: LocalFolders): Readonly<Record<string, number>> {
  try {
    return timesIn(JSON.parse(readFileSync(condemnedPath(folders), 'utf8'))) ?? {};
  } catch {
    return {};
  }
}

/** A file of its own, for a prune goes on beside the backups, which write the other. What cannot be written is seen for the first time again. */
export function writeFirstSeen(folders: LocalFolders, seen: ReadonlyMap<string, number>): void {
  try {
    mkdirSync(folders.state, { recursive: true, mode: 0o700 });
    replaceFile(condemnedPath(folders), `${JSON.stringify(Object.fromEntries(seen))}\n`, { durable: false });
  } catch {
    // the records' own times count then
  }
}

function timesIn(value: unknown): Record<string, number> | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
  );
}

function runIds(value: unknown): RunId[] {
  const isId = (one: unknown): one is RunId => typeof one === 'string' && /^[0-9a-f]{64}$/.test(one);
  return Array.isArray(value) ? value.filter(isId) : [];
}

function seenEntry(value: unknown): SeenEntry | undefined {
  if (typeof value !== 'object' || value === null || !('seq' in value) || !('id' in value) || !('weight' in value))
    return undefined;
  const { seq, id, weight } = value;
  return typeof seq === 'number' && typeof id === 'string' && typeof weight === 'number'
    ? { seq, id, weight }
    : undefined;
}

/** Remembers what is given, beside what is remembered. @returns false when it cannot be written: the snapshot is safe all the same, and only the next run's look back suffers. */
export function writeLocalState(folders: LocalFolders, changes: Partial<LocalState>): boolean {
  const state: LocalState = { last: null, backends: [], ...readLocalState(folders), ...changes };
  try {
    mkdirSync(folders.state, { recursive: true, mode: 0o700 });
    replaceFile(join(folders.state, 'state.json'), `${JSON.stringify(state)}\n`, { durable: true });
    return true;
  } catch {
    return false;
  }
}

export function replaceFile(path: string, text: string, { durable }: { durable: boolean }): void {
  const temporary = `${path}.new`;
  writeFileSync(temporary, text, { mode: 0o600, flush: durable });
  renameSync(temporary, path);
}

/** Without waiting for a writer, should a FIFO lie there. */
const READ_NOW = constants.O_RDONLY | constants.O_NONBLOCK;

const knownPath = (folders: LocalFolders): string => join(folders.cache, 'snapshots.json');

/** The numbers of snapshots that this host has opened and verified, by id. */
export function readKnownSnapshots(folders: LocalFolders): Map<string, number> {
  try {
    const value: unknown = JSON.parse(readFileSync(knownPath(folders), { encoding: 'utf8', flag: READ_NOW }));
    const known = Object.entries(typeof value === 'object' && value !== null ? value : {});
    return new Map(
      known.filter((entry): entry is [string, number] => Number.isSafeInteger(entry[1]) && Number(entry[1]) >= 0),
    );
  } catch {
    return new Map();
  }
}

/**
 * Where it cannot be written, the next run opens them all again.
 * @param before what `readKnownSnapshots` gave: the same is not written again.
 */
export function writeKnownSnapshots(
  folders: LocalFolders,
  known: ReadonlyMap<string, number>,
  before: ReadonlyMap<string, number>,
): void {
  if (before.size === known.size && [...known].every(([id, number]) => before.get(id) === number)) return;
  try {
    mkdirSync(folders.cache, { recursive: true, mode: 0o700 });
    replaceFile(knownPath(folders), JSON.stringify(Object.fromEntries(known)), { durable: false });
  } catch {
    // only time is lost
  }
}

/** A line of the last manifest with what tells whether the file was touched since. */
export interface CachedLine {
  path: RawPath;
  isFile: boolean;
  /** As in the manifest. */
  line: string;
  /** See `stampOf`. */
  stamp: string;
  /** Of a file, where it could be told. */
  texture?: Texture | undefined;
  /** That it is a blank template of its profile. */
  isScaffold?: boolean;
}

/** What changes with every change of a file, besides what the manifest has. */
export function stampOf({ ctimeNs, ino }: { ctimeNs: bigint; ino: bigint }): string {
  return `${ctimeNs}\t${ino}`;
}

/** 2: lines have what the file system knows of an entry besides. The cache of an earlier version is not trusted. */
const CACHE_HEAD = /^holdfast-cache 2 (\d+)$/;
const CACHE_END = 'end';
/** As they stand at the end of a line. */
const TEXTURES: Readonly<Record<string, Texture>> = { c: 'compressible', i: 'incompressible' };
const SCAFFOLD = 's';
const CACHE_PIECE_BYTES = 256 * 1024;
/** Longer than the tick of any kernel's file times, with room for a clock that was set back a little. */
const CLOCK_TICK_NS = 2_000_000_000n;

const cachePath = (folders: LocalFolders, id: SnapshotId): string => join(folders.cache, `manifest-${id}`);

/**
 * The last manifest, read in step with a scan: both are in the same order, so one pass with one piece in memory serves.
 */
export class ManifestCache implements Disposable {
  readonly #fd: number;
  readonly #splitter = new LineSplitter(MANIFEST_LINE_MAX_BYTES);
  readonly #buffer = Buffer.allocUnsafe(CACHE_PIECE_BYTES);
  #lines: string[] = [];
  #at = 0;
  #next: CachedLine | undefined;
  /** Files touched at or after this moment are read again: a change within the clock's tick would not show in their times. */
  readonly trustedBeforeNs: bigint;
  /** Files of the last manifest that the scan has passed without meeting them. */
  removedFiles = 0;
  /** True once something was met that no backup writes: of what would follow nothing is known. */
  isDamaged = false;

  private constructor(fd: number) {
    this.#fd = fd;
    this.trustedBeforeNs = BigInt(CACHE_HEAD.exec(this.#line())?.[1] ?? 0);
    this.#advance();
  }

  /** Undefined when there is none of this snapshot. */
  static open(folders: LocalFolders, of: SnapshotId): ManifestCache | undefined {
    let fd: number | undefined;
    try {
      fd = openSync(cachePath(folders, of), READ_NOW);
      return new ManifestCache(fd);
    } catch {
      if (fd !== undefined) closeSync(fd);
      return undefined;
    }
  }

  /** The line of `path`, or undefined. Paths must be asked for in ascending order. */
  at(path: RawPath): CachedLine | undefined {
    while (this.#next && comparePaths(this.#next.path, path) < 0) this.#skip();
    if (this.#next?.path !== path) return undefined;
    const found = this.#next;
    this.#advance();
    return found;
  }

  /** Counts what is left as removed. */
  end(): void {
    while (this.#next) this.#skip();
  }

  #skip(): void {
    if (this.#next?.isFile) this.removedFiles++;
    this.#advance();
  }

  #advance(): void {
    this.#next = undefined;
    try {
      const cached = this.#line();
      if (cached === CACHE_END) return;
      const second = cached.indexOf('\t', cached.indexOf('\t') + 1);
      const third = cached.indexOf('\t', second + 1); // JSON has no tab of its own
      if (third < 0) throw new Error('of a version that kept less');
      const line = cached.slice(second + 1, third);
      const kind = cached.slice(third + 1);
      const what = { texture: TEXTURES[kind.charAt(0)], isScaffold: kind.endsWith(SCAFFOLD) };
      this.#next = { ...glanceAtLine(line), line, stamp: cached.slice(0, second), ...what };
    } catch {
      this.isDamaged = true; // the rest is read anew
    }
  }

  #line(): string {
    while (this.#at >= this.#lines.length) {
      const length = readSync(this.#fd, this.#buffer);
      if (length === 0) throw new Error('no end');
      this.#lines = this.#splitter.push(this.#buffer.subarray(0, length));
      this.#at = 0;
    }
    return this.#lines[this.#at++] ?? '';
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
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
    this.#write(`holdfast-cache 2 ${BigInt(Math.trunc(startedMs)) * 1_000_000n - CLOCK_TICK_NS}\n`);
  }

  add(line: string, stamp: string, { texture, isScaffold }: Pick<CachedLine, 'texture' | 'isScaffold'> = {}): void {
    this.#write(`${stamp}\t${line}\t${texture?.charAt(0) ?? ''}${isScaffold ? SCAFFOLD : ''}\n`);
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
    try {
      rmSync(this.#temporary, { force: true });
    } catch {
      // the next run tries again
    }
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
    if (this.#fd === undefined) return;
    try {
      closeSync(this.#fd);
    } catch {
      // what a disk says late concerns the cache only
    }
    this.#fd = undefined;
  }
}
