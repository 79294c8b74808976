/** Going through the tree of a backup: what has changed is read and stored, and each entry gets its line in the manifest. */
import type { ChunkId, FileEntry, Warning } from '../entry.ts';
import { FILE_MAX_CHUNKS, READ_BUFFER_BYTES } from '../limits.ts';
import { rawForDisplay } from '../raw-path.ts';
import {
  ChunkStream,
  chunksInLine,
  entryLine,
  fileLineHead,
  type Repository,
  type SnapshotId,
  type SnapshotStatistics,
  type SnapshotWriter,
} from '../repository/repository.ts';
import { readFile, type ReadResult } from '../state/read-file.ts';
import { scan, type ScannedFile, type ScanItem, type ScanProblem } from '../state/scan.ts';
import { TextureSampler, type Texture } from '../state/texture.ts';
import { MARKER } from './continuity.ts';
import { ManifestCache, ManifestCacheWriter, stampOf, type CachedLine, type LocalFolders } from './local-state.ts';
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
}

type ScannedItem = Exclude<ScanItem, ScanProblem>;

/** The part of a backup that goes through the tree, and what it counts on the way. */
export class TreeSaver {
  readonly files = { total: 0, new: 0, changed: 0, unmodified: 0, removed: 0 };
  readonly counts = { files: 0, folders: 0, symlinks: 0, bytes: 0 };
  readBytes = 0;
  /** Of the root, once the walk has begun. */
  device: string | undefined;
  readonly #textures = { compressible: { files: 0, bytes: 0 }, incompressible: { files: 0, bytes: 0 } };
  #changedBytes = 0;
  /** Files with contents that the repository had not: under a name that was there before, and under one that was not. */
  readonly #fresh = { old: 0, new: 0 };
  readonly #options: SaveOptions;
  readonly #seams: Seams;
  readonly #repository: Repository;
  readonly #writer: SnapshotWriter;
  readonly #warnings: Warning[];
  readonly #cacheOut: ManifestCacheWriter;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);

  constructor(options: SaveOptions, seams: Seams, repository: Repository, writer: SnapshotWriter, warnings: Warning[]) {
    this.#options = options;
    this.#seams = seams;
    this.#repository = repository;
    this.#writer = writer;
    this.#warnings = warnings;
    this.#cacheOut = new ManifestCacheWriter(options.folders, seams.clock.now());
  }

  /** Stores the tree and its manifest; what was before is compared with the cache of `parent`. */
  async save(parent: { id: SnapshotId } | undefined): Promise<{ chunks: ChunkId[]; bytes: number; entries: number }> {
    const { state, folders } = this.#options;
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
      this.device ??= String(item.dev);
      const before = cache?.at(item.path);
      this.#texture = before?.texture;
      const stamp = stampOf(item);
      const isKnown = before?.stamp === stamp && item.ctimeNs < (cache?.trustedBeforeNs ?? 0n);
      const line =
        (isKnown ? this.#untouched(item, before.line) : undefined) ??
        (await this.#lineOf(item, before, parent !== undefined && (!cache || cache.isDamaged)));
      if (line === undefined) continue;
      manifest.add(line);
      this.#cacheOut.add(line, stamp, item.kind === 'file' ? this.#texture : undefined);
      const full = this.#writer.ready();
      if (full) await full;
    }
    cache?.end();
    this.files.total = this.counts.files;
    this.files.removed = cache?.removedFiles ?? 0;
    return manifest.end();
  }

  /** To be asked after `save`. */
  get statistics(): Omit<SnapshotStatistics, 'addedBytes' | 'storedBytes'> {
    return {
      new: this.files.new,
      changed: this.files.changed,
      removed: this.files.removed,
      rewritten: this.#fresh.old + Math.min(this.#fresh.new, this.files.removed),
      changedBytes: this.#changedBytes,
      ...this.#textures,
    };
  }

  commitCache(id: SnapshotId): void {
    this.#cacheOut.commit(id);
  }

  discard(): void {
    this.#cacheOut.discard();
  }

  /** The line of a file whose size, times and inode are as at the last snapshot, when every chunk is still known to the repository. */
  #untouched(item: ScannedItem, before: string): string | undefined {
    if (item.kind !== 'file') return undefined; // as cheap to make anew
    const head = fileLineHead(item);
    const chunks = before.startsWith(head) ? chunksInLine(before, head) : undefined;
    let size = 0;
    for (const id of chunks ?? []) size += this.#writer.lengthOf(id) ?? Number.NaN;
    if (!chunks || size !== item.size) return undefined;
    this.files.unmodified++;
    this.#counted(item);
    return before;
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
        const entry = await this.#save(item);
        if (!entry) return undefined;
        const line = entryLine(entry);
        if (this.#compare(line, before, blind) !== 'unmodified') this.#changedBytes += entry.size;
        this.#counted(entry);
        return line;
      }
    }
  }

  #counted({ size }: { size: number }): void {
    this.counts.files++;
    this.counts.bytes += size;
    if (this.#texture) {
      this.#textures[this.#texture].files++;
      this.#textures[this.#texture].bytes += size;
    }
    this.#seams.progress({ type: 'progress', phase: 'saving', done: this.counts.bytes, unit: 'bytes' });
  }

  #lastFileWasNew = false;
  /** Of the file that the walk is at. */
  #texture: Texture | undefined;

  /** Without a cache what was there before is unknown: then a file counts as unmodified when all its chunks were known. */
  #compare(line: string, before: CachedLine | undefined, blind: boolean): 'new' | 'changed' | 'unmodified' {
    const isOld = before?.isFile ?? blind;
    const isSame = before?.isFile ? before.line === line : !this.#lastFileWasNew;
    const how = !isOld ? 'new' : isSame ? 'unmodified' : 'changed';
    this.files[how]++;
    if (this.#lastFileWasNew) this.#fresh[isOld ? 'old' : 'new']++;
    return how;
  }

  async #save(item: ScannedFile): Promise<FileEntry | undefined> {
    let result = await this.#read(item);
    if (result.read.outcome === 'changed') result = await this.#read(item);
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
    if (chunks.length > FILE_MAX_CHUNKS) {
      this.#warnings.push({
        code: 'too_large',
        path,
        message: `${path} is larger than one file can be; it is not in the snapshot`,
        incomplete: true,
      });
      return undefined;
    }
    const { mode, mtimeNs, uid, gid, size } = read.file;
    return { path: item.path, type: 'file', mode, mtimeNs, uid, gid, size, chunks };
  }

  async #read(item: ScannedFile): Promise<{ read: ReadResult; chunks: ChunkId[] }> {
    const chunks: ChunkId[] = [];
    this.#lastFileWasNew = false;
    const texture = new TextureSampler();
    const stream = new ChunkStream(this.#repository.cut, this.#repository.record.chunker, (bytes) => {
      const before = this.#writer.totals.addedBytes;
      chunks.push(this.#writer.add(bytes, 'data'));
      if (this.#writer.totals.addedBytes !== before) this.#lastFileWasNew = true;
    });
    const pieces = readFile(this.#options.state.root, item.path, { buffer: this.#buffer, signal: this.#seams.signal });
    let seen = 0;
    for (;;) {
      const step = pieces.next();
      if (step.done) {
        stream.end();
        this.#texture = texture.texture;
        return { read: step.value, chunks };
      }
      seen += step.value.length;
      this.readBytes += step.value.length;
      texture.see(step.value);
      stream.push(step.value, seen === item.size);
      await this.#writer.ready();
    }
  }
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
