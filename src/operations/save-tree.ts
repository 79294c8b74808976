/** Going through the tree of a backup: what has changed is read and stored, and each entry gets its line in the manifest. */
import type { ChunkId, FileEntry, Warning } from '../entry.ts';
import { FILE_MAX_CHUNKS, READ_BUFFER_BYTES } from '../limits.ts';
import { HoldfastError } from '../errors.ts';
import { rawForDisplay, type RawPath } from '../raw-path.ts';
import {
  ChunkStream,
  chunksInLine,
  entryLine,
  fileLineHead,
  type Repository,
  type SnapshotId,
  type SnapshotWriter,
} from '../repository/repository.ts';
import { readFile, type ReadResult } from '../state/read-file.ts';
import { isSqlite } from '../state/sqlite.ts';
import { scan, type ScannedFile, type ScanItem, type ScanProblem } from '../state/scan.ts';
import { MARKER } from './continuity.ts';
import { ManifestCache, ManifestCacheWriter, stampOf, type CachedLine, type LocalFolders } from './local-state.ts';
import { DatabaseSaver } from './save-database.ts';
import { Logs, type LogWatch } from './save-log.ts';
import type { Seams } from './seams.ts';

/** What of a backup's options concerns the tree. */
export interface SaveOptions {
  state: StateOptions;
  folders: LocalFolders;
}

export interface StateOptions {
  root: string;
  exclude: readonly string[];
  /** Files and folders that are never taken: keys, backends. */
  keepOut: readonly string[];
  /** Logs that are only ever appended to, as patterns of `exclude`. Default: `*.jsonl`. */
  appendOnly?: readonly string[] | undefined;
}

type ScannedItem = Exclude<ScanItem, ScanProblem>;

/** The part of a backup that goes through the tree, and what it counts on the way. */
export class TreeSaver {
  readonly files = { total: 0, new: 0, changed: 0, unmodified: 0, removed: 0 };
  readonly counts = { files: 0, folders: 0, symlinks: 0, bytes: 0 };
  readBytes = 0;
  readonly #options: SaveOptions;
  readonly #seams: Seams;
  readonly #repository: Repository;
  readonly #writer: SnapshotWriter;
  readonly #warnings: Warning[];
  readonly #cacheOut: ManifestCacheWriter;
  readonly #databases: DatabaseSaver;
  readonly #logs: Logs;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);

  constructor(options: SaveOptions, seams: Seams, repository: Repository, writer: SnapshotWriter, warnings: Warning[]) {
    this.#options = options;
    this.#seams = seams;
    this.#repository = repository;
    this.#writer = writer;
    this.#warnings = warnings;
    const now = seams.clock.now();
    this.#cacheOut = new ManifestCacheWriter(options.folders, now);
    this.#databases = new DatabaseSaver(options.state.root, options.folders, warnings, seams.signal);
    this.#logs = new Logs({ patterns: options.state.appendOnly, now, idOf: repository.idOf, writer });
  }

  /** Stores the tree and its manifest; what was before is compared with the cache of `parent`. */
  async save(parent: { id: SnapshotId } | undefined): Promise<{ chunks: ChunkId[]; bytes: number; entries: number }> {
    const { state, folders } = this.#options;
    await using _databases = this.#databases;
    using cache = parent && ManifestCache.open(folders, parent.id);
    const manifest = new ManifestStream(this.#repository, this.#writer);
    for (const item of scan(state.root, {
      exclude: [...state.exclude, `/${MARKER}`],
      keepOut: state.keepOut,
      signal: this.#seams.signal,
    })) {
      if (item.kind === 'problem') {
        this.#warnings.push(item.warning);
        continue;
      }
      if (item.kind === 'file' && this.#databases.isPartOfOne(item.path)) continue;
      const before = cache?.at(item.path);
      const stamp = stampOf(item);
      const isKnown = before && isStamped(before, stamp) && item.ctimeNs < (cache?.trustedBeforeNs ?? 0n);
      const known = isKnown ? this.#untouched(item, before, before.stamp.slice(stamp.length), cache) : undefined;
      this.#stampTail = '';
      const line = known ?? (await this.#lineOf(item, before, parent !== undefined && (!cache || cache.isDamaged)));
      if (line === undefined) continue;
      manifest.add(line);
      this.#cacheOut.add(line, known === undefined ? stamp + this.#stampTail : (before?.stamp ?? stamp));
      const full = this.#writer.ready();
      if (full) await full;
    }
    cache?.end();
    this.files.total = this.counts.files;
    this.files.removed = cache?.removedFiles ?? 0;
    return manifest.end();
  }

  commitCache(id: SnapshotId): void {
    this.#cacheOut.commit(id);
  }

  discard(): void {
    this.#cacheOut.discard();
  }

  /**
   * The line of a file whose size, times and inode are as at the last snapshot, when every chunk is still known to the repository.
   * @param tail of its stamp; see `#stampTail`
   */
  #untouched(
    item: ScannedItem,
    { line: before }: CachedLine,
    tail: string,
    cache: ManifestCache | undefined,
  ): string | undefined {
    if (item.kind !== 'file') return undefined; // as cheap to make anew
    let file = item;
    if (tail !== '') {
      if (!this.#isCaptureUntouched(item, tail, cache?.trustedBeforeNs ?? 0n)) return undefined;
      file = { ...item, size: Number(/"size":(\d+),"chunks":/.exec(before)?.[1]) };
    }
    const head = fileLineHead(file);
    const chunks = before.startsWith(head) ? chunksInLine(before, head) : undefined;
    let size = 0;
    for (const id of chunks ?? []) size += this.#writer.lengthOf(id) ?? Number.NaN;
    if (!chunks || size !== file.size) return undefined;
    if (tail.startsWith(DATABASE)) this.#databases.has(item.path);
    this.files.unmodified++;
    this.#counted(file);
    return before;
  }

  /** Of a file that is not stored as it lies there. */
  #isCaptureUntouched(item: ScannedFile, tail: string, trustedBeforeNs: bigint): boolean {
    if (tail === `${PART_LINE}${item.size}`) return !this.#logs.isFinished(item);
    const { text, newestNs } = this.#databases.stampOf(item.path);
    return tail === `${DATABASE}${item.size}:${text}` && newestNs < trustedBeforeNs;
  }

  /** @param blind that nothing is known about what was there before. */
  async #lineOf(item: ScannedItem, before: CachedLine | undefined, blind: boolean): Promise<string | undefined> {
    const { path, mode, mtimeNs, uid, gid } = item;
    const common = { path, mode, mtimeNs, uid, gid };
    switch (item.kind) {
      case 'folder':
        this.counts.folders++;
        return entryLine({ ...common, type: 'folder' });
      case 'symlink':
        this.counts.symlinks++;
        return entryLine({ ...common, type: 'symlink', target: item.target });
      case 'file': {
        const entry = await this.#save(item, before);
        if (!entry) return undefined;
        const line = entryLine(entry);
        this.#compare(line, before, blind);
        this.#counted(entry);
        return line;
      }
    }
  }

  #counted({ size }: { size: number }): void {
    this.counts.files++;
    this.counts.bytes += size;
    this.#seams.progress({ type: 'progress', phase: 'saving', done: this.counts.bytes, unit: 'bytes' });
  }

  #lastFileWasNew = false;
  /** What the cache's stamp of a file has besides when another size is stored than the file has: that size, and what else must be as it was. */
  #stampTail = '';

  /** Without a cache what was there before is unknown: then a file counts as unmodified when all its chunks were known. */
  #compare(line: string, before: CachedLine | undefined, blind: boolean): void {
    if (before?.isFile) this.files[before.line === line ? 'unmodified' : 'changed']++;
    else if (blind) this.files[this.#lastFileWasNew ? 'changed' : 'unmodified']++;
    else this.files.new++;
  }

  async #save(item: ScannedFile, before: CachedLine | undefined): Promise<FileEntry | undefined> {
    let log = this.#logs.watch(item.path, before);
    let result = await this.#read(item, { log });
    if (result?.read.outcome === 'changed') {
      log &&= this.#logs.watch(item.path, before);
      result = await this.#read(item, { log });
    }
    if (!result) return this.#saveDatabase(item);
    const path = rawForDisplay(item.path);
    const { read, chunks } = result;
    switch (read.outcome) {
      case 'ok':
        break;
      case 'changed':
        this.#warnings.push({
          code: 'changed',
          path,
          message: `${path} ${read.reason}, twice; what was read last is saved`,
          incomplete: true,
        });
        break;
      case 'vanished':
        this.#warnings.push({
          code: 'vanished',
          path,
          message: `${path} ${read.reason}; it is not in the snapshot`,
          incomplete: true,
        });
        return undefined;
      case 'unreadable':
        this.#warnings.push({
          code: 'unreadable',
          path,
          message: `${path} ${read.reason}; it is not in the snapshot`,
          incomplete: true,
        });
        return undefined;
    }
    if (this.#isTooLarge(path, chunks)) return undefined;
    const { mode, mtimeNs, uid, gid, size } = read.file;
    if (log && read.outcome === 'ok') {
      const fileBytes = size + (read.partLineBytes ?? 0);
      if (fileBytes !== size) this.#stampTail = `${PART_LINE}${fileBytes}`;
      const warning = log.warning(size, fileBytes);
      if (warning) this.#warnings.push(warning);
    }
    return { path: item.path, type: 'file', mode, mtimeNs, uid, gid, size, chunks };
  }

  async #saveDatabase(item: ScannedFile): Promise<FileEntry | undefined> {
    const captured = await this.#databases.capture(item);
    if (!captured) return undefined;
    const { folder, copy, sqlite, stamp } = captured;
    const result = await this.#read({ path: copy, size: Number.NaN }, { copyIn: folder });
    if (result?.read.outcome !== 'ok') {
      throw new HoldfastError('io', `the copy of a database in ${folder} was touched by somebody else`, {
        hint: 'Leave the cache folder to holdfast alone, and run the backup again.',
      });
    }
    if (this.#isTooLarge(rawForDisplay(item.path), result.chunks)) return undefined;
    this.#stampTail = stamp === undefined ? LOOK_AGAIN : `${DATABASE}${item.size}:${stamp}`;
    const { path, mode, mtimeNs, uid, gid } = item;
    return { path, type: 'file', mode, mtimeNs, uid, gid, size: result.read.file.size, chunks: result.chunks, sqlite };
  }

  #isTooLarge(path: string, chunks: readonly ChunkId[]): boolean {
    if (chunks.length <= FILE_MAX_CHUNKS) return false;
    this.#warnings.push({
      code: 'too_large',
      path,
      message: `${path} is larger than one file can be; it is not in the snapshot`,
      incomplete: true,
    });
    return true;
  }

  /** Undefined when it is a database, and no copy of one: then nothing of it is stored. */
  async #read(
    { path, size }: { path: RawPath; size: number },
    { log, copyIn }: { log?: LogWatch | undefined; copyIn?: string },
  ): Promise<{ read: ReadResult; chunks: ChunkId[] } | undefined> {
    const chunks: ChunkId[] = [];
    this.#lastFileWasNew = false;
    const stream = new ChunkStream(this.#repository.cut, this.#repository.record.chunker, (bytes) => {
      const before = this.#writer.totals.addedBytes;
      const id = this.#writer.add(bytes, 'data');
      chunks.push(id);
      log?.chunk(id, bytes);
      if (this.#writer.totals.addedBytes !== before) this.#lastFileWasNew = true;
    });
    const pieces = readFile(copyIn ?? this.#options.state.root, path, {
      buffer: this.#buffer,
      signal: this.#seams.signal,
      logAtMs: log && this.#logs.now,
    });
    let seen = 0;
    for (;;) {
      const step = pieces.next();
      if (step.done) {
        stream.end();
        return { read: step.value, chunks };
      }
      if (seen === 0 && copyIn === undefined && isSqlite(step.value)) {
        pieces.return({ outcome: 'vanished', reason: 'is a database' }); // closes the file
        return undefined;
      }
      seen += step.value.length;
      this.readBytes += step.value.length;
      stream.push(step.value, seen === size);
      await this.#writer.ready();
    }
  }
}

/** Beginnings of `#stampTail`. */
const PART_LINE = ':log:';
const DATABASE = ':database:';
/** Nothing that is ever found so. */
const LOOK_AGAIN = ':again';

function isStamped({ stamp }: CachedLine, as: string): boolean {
  return stamp === as || stamp.startsWith(`${as}:`);
}

/** The manifest on its way into chunks. */
class ManifestStream {
  readonly #writer: SnapshotWriter;
  readonly #stream: ChunkStream;
  readonly #chunks: ChunkId[] = [];
  #lines: string[] = [];
  #pending = 0;
  #bytes = 0;
  #entries = 0;

  constructor(repository: Repository, writer: SnapshotWriter) {
    this.#writer = writer;
    this.#stream = new ChunkStream(repository.cut, repository.record.chunker, (bytes) => {
      this.#chunks.push(this.#writer.add(bytes, 'manifest'));
    });
  }

  add(line: string): void {
    this.#lines.push(line, '\n');
    this.#pending += line.length;
    this.#entries++;
    if (this.#pending >= 256 * 1024) this.#flush();
  }

  end(): { chunks: ChunkId[]; bytes: number; entries: number } {
    this.#flush();
    this.#stream.end();
    return { chunks: this.#chunks, bytes: this.#bytes, entries: this.#entries };
  }

  #flush(): void {
    const bytes = Buffer.from(this.#lines.join(''));
    this.#bytes += bytes.length;
    this.#stream.push(bytes);
    this.#lines = [];
    this.#pending = 0;
  }
}
