/** Going through the tree of a backup: what has changed is read and stored, and each entry gets its line in the manifest. */
import { resolve } from 'node:path';
import type { ChunkId, Entry, FileEntry, Warning } from '../entry.ts';
import { FILE_MAX_CHUNKS, READ_BUFFER_BYTES } from '../limits.ts';
import { rawForDisplay, rawFromText, type RawPath } from '../raw-path.ts';
import {
  ChunkStream,
  chunksInLine,
  entryLine,
  fileLineHead,
  type Repository,
  type SnapshotId,
  type SnapshotWriter,
} from '../repository/repository.ts';
import { attributesAt, canReadAttributes, type Attributes, type AttributesRead } from '../state/attributes.ts';
import { readFile, type ReadResult } from '../state/read-file.ts';
import { scan, type ScannedFile, type ScanItem, type ScanProblem } from '../state/scan.ts';
import { absoluteIn } from '../state/tree-path.ts';
import { MARKER } from './continuity.ts';
import { firstNameLine, HardLinks, otherNameLine } from './hard-links.ts';
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
  /** Whether FIFOs and devices are kept; default `skip`. */
  special?: 'skip' | 'keep' | undefined;
  /** Leave out what lies on other file systems than the root. */
  oneFileSystem?: boolean | undefined;
}

type ScannedItem = Exclude<ScanItem, ScanProblem>;
type OtherItem = Exclude<ScannedItem, ScannedFile>;

/** The part of a backup that goes through the tree, and what it counts on the way. */
export class TreeSaver {
  readonly files = { total: 0, new: 0, changed: 0, unmodified: 0, removed: 0 };
  readonly counts = { files: 0, folders: 0, symlinks: 0, bytes: 0 };
  readBytes = 0;
  /** Whether there are entries that an earlier reader does not know. */
  hasSpecials = false;
  readonly #links = new HardLinks();
  readonly #root: RawPath;
  readonly #options: SaveOptions;
  readonly #seams: Seams;
  readonly #repository: Repository;
  readonly #writer: SnapshotWriter;
  readonly #warnings: Warning[];
  readonly #cacheOut: ManifestCacheWriter;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);

  constructor(options: SaveOptions, seams: Seams, repository: Repository, writer: SnapshotWriter, warnings: Warning[]) {
    this.#options = options;
    this.#root = rawFromText(resolve(options.state.root));
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
      special: state.special,
      oneFileSystem: state.oneFileSystem,
      signal: this.#seams.signal,
    })) {
      if (item.kind === 'problem') {
        this.#warnings.push(item.warning);
        continue;
      }
      const before = cache?.at(item.path);
      const first = item.kind === 'file' && item.links > 1 ? this.#links.firstOf(item) : undefined;
      const stamp = first?.stamp ?? stampOf(item);
      const isKnown = before?.stamp === stamp && item.ctimeNs < (cache?.trustedBeforeNs ?? 0n);
      const isBlind = parent !== undefined && (!cache || cache.isDamaged);
      const line = first
        ? this.#otherName(item as ScannedFile, first.line, before, isBlind)
        : ((isKnown ? this.#untouched(item, before.line) : undefined) ?? (await this.#lineOf(item, before, isBlind)));
      if (line === undefined) continue;
      if (item.kind === 'file' && !first && !this.#wasReplaced) this.#links.add(item, { line, stamp });
      manifest.add(line);
      this.#cacheOut.add(line, stamp);
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

  /** The line of a file whose size, times and inode are as at the last snapshot, when every chunk is still known to the repository. */
  #untouched(item: ScannedItem, before: string): string | undefined {
    this.#wasReplaced = false;
    if (item.kind !== 'file') {
      const bare = entryLine(bareEntry(item));
      if (before !== bare && !before.startsWith(`${bare.slice(0, -1)},`)) return undefined;
      this.#countOther(item);
      return before;
    }
    const head = fileLineHead(item);
    const chunks = before.startsWith(head) ? chunksInLine(before, head) : undefined;
    let size = 0;
    for (const id of chunks ?? []) size += this.#writer.lengthOf(id) ?? Number.NaN;
    if (!chunks || size !== item.size) return undefined;
    this.files.unmodified++;
    this.#counted(item);
    return item.links > 1 ? firstNameLine(before) : before;
  }

  /** Contents, attributes and all are those that were saved under the first name. */
  #otherName(item: ScannedFile, firstLine: string, before: CachedLine | undefined, isBlind: boolean): string {
    const line = otherNameLine(item, firstLine);
    this.#lastFileWasNew = false;
    this.#compare(line, before, isBlind);
    this.#counted(item);
    return line;
  }

  /** Set when what was read is another file than the one that was scanned: it was replaced in between. */
  #wasReplaced = false;

  /** @param blind that nothing is known about what was there before. */
  async #lineOf(item: ScannedItem, before: CachedLine | undefined, blind: boolean): Promise<string | undefined> {
    if (item.kind !== 'file') {
      this.#countOther(item);
      const kind = item.kind === 'folder' ? 'folder' : 'other';
      const attributes = this.#told(item.path, attributesAt(absoluteIn(this.#root, item.path), kind));
      return entryLine({ ...bareEntry(item), ...attributes });
    }
    const entry = await this.#save(item);
    if (!entry) return undefined;
    const line = entryLine(entry);
    this.#compare(line, before, blind);
    this.#counted(entry);
    return line;
  }

  #countOther(item: OtherItem): void {
    if (item.kind === 'folder') this.counts.folders++;
    else if (item.kind === 'symlink') this.counts.symlinks++;
    else this.hasSpecials = true;
  }

  #wasTold = false;

  /** Warns of attributes that could not be read, and once where none can be. */
  #told(path: RawPath, { problem, ...attributes }: AttributesRead): Attributes {
    if (!this.#wasTold && !canReadAttributes()) {
      const message =
        'extended attributes, ACLs, flags and holes are not saved: this needs Linux and the optional package koffi';
      this.#warnings.push({ code: 'attributes_not_saved', message });
      this.#wasTold = true;
    }
    if (problem !== undefined) {
      const shown = path === '' ? '.' : rawForDisplay(path);
      const message = `${shown}: attributes that cannot be read are not in the snapshot: ${problem}`;
      this.#warnings.push({ code: 'attributes_unreadable', path: shown, message, incomplete: true });
    }
    return attributes;
  }

  #counted({ size }: { size: number }): void {
    this.counts.files++;
    this.counts.bytes += size;
    this.#seams.progress({ type: 'progress', phase: 'saving', done: this.counts.bytes, unit: 'bytes' });
  }

  #lastFileWasNew = false;

  /** Without a cache what was there before is unknown: then a file counts as unmodified when all its chunks were known. */
  #compare(line: string, before: CachedLine | undefined, blind: boolean): void {
    if (before?.isFile) this.files[before.line === line ? 'unmodified' : 'changed']++;
    else if (blind) this.files[this.#lastFileWasNew ? 'changed' : 'unmodified']++;
    else this.files.new++;
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
    const { mode, mtimeNs, uid, gid, size, ino, dev } = read.file;
    this.#wasReplaced = ino !== item.ino || dev !== item.dev;
    const { holes, ...found } = read.extras;
    const attributes = this.#told(item.path, found);
    const extras = holes ? { ...attributes, holes } : attributes;
    return { path: item.path, type: 'file', mode, mtimeNs, uid, gid, size, chunks, ...extras };
  }

  async #read(item: ScannedFile): Promise<{ read: ReadResult; chunks: ChunkId[] }> {
    const chunks: ChunkId[] = [];
    this.#lastFileWasNew = false;
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
        if ('extras' in step.value) for (const { length } of step.value.extras.holes ?? []) this.readBytes -= length;
        return { read: step.value, chunks };
      }
      seen += step.value.length;
      this.readBytes += step.value.length;
      stream.push(step.value, seen === item.size);
      await this.#writer.ready();
    }
  }
}

function bareEntry(item: OtherItem): Exclude<Entry, FileEntry> {
  const { path, mode, mtimeNs, uid, gid } = item;
  const common = { path, mode, mtimeNs, uid, gid };
  switch (item.kind) {
    case 'folder':
    case 'fifo':
      return { ...common, type: item.kind };
    case 'symlink':
      return { ...common, type: item.kind, target: item.target };
    case 'device':
      return { ...common, type: item.kind, device: item.device };
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
