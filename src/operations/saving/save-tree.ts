/** Going through the tree of a backup: what has changed is read and stored, and each entry gets its line in the manifest. */
import { resolve } from 'node:path';
import type { ChunkId, FileEntry, Warning } from '../../entry.ts';
import { FILE_MAX_CHUNKS } from '../../limits.ts';
import { HoldfastError } from '../../errors.ts';
import { rawForDisplay, rawFromText, type RawPath } from '../../raw-path.ts';
import {
  chunksInLine,
  entryLine,
  fileLineHead,
  type Repository,
  type SnapshotId,
  type SnapshotStatistics,
  type SnapshotWriter,
} from '../../repository/repository.ts';
import { attributesAt, canReadAttributes, type Attributes, type AttributesRead } from '../../state/attributes.ts';
import { bareEntry, scan, type OtherItem, type ScannedFile, type ScannedItem } from '../../state/scan.ts';
import { absoluteIn } from '../../state/tree-path.ts';
import type { Texture } from '../../state/texture.ts';
import { MARKER } from '../host/continuity.ts';
import { firstNameLine, HardLinks, otherNameLine } from './hard-links.ts';
import { SecretManifest, type SecretCount, type SecretOptions } from './secret-manifest.ts';
import {
  ManifestCache,
  ManifestCacheWriter,
  stampOf,
  type CachedLine,
  type LocalFolders,
} from '../host/local-state.ts';
import { InOrder } from './in-order.ts';
import { DatabaseSaver, type Capture } from './save-database.ts';
import { Logs } from './save-log.ts';
import { ManifestStream } from './manifest-stream.ts';
import { FileStore, type StoredFile } from './store-file.ts';
import type { Seams } from '../seams.ts';

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
  /** Whether FIFOs and devices are kept; default `skip`. */
  special?: 'skip' | 'keep' | undefined;
  /** Leave out what lies on other file systems than the root. */
  oneFileSystem?: boolean | undefined;
  /** Whether a file, at this path with these bytes, is a blank template and no more. Default: none is. */
  isScaffold?: ((path: RawPath, bytes: Uint8Array) => boolean) | undefined;
  /** Default: nothing is secret. */
  secret?: SecretOptions | undefined;
  /** The name of the profile that `secret` is of, for the record. */
  profile?: string | undefined;
}

interface SavedManifest {
  chunks: ChunkId[];
  bytes: number;
  entries: number;
}

interface SavedEntry extends Pick<CachedLine, 'line' | 'stamp' | 'texture' | 'isScaffold'> {
  item: ScannedItem;
  isApart: boolean;
}

interface ToCapture {
  item: ScannedFile;
  before: CachedLine | undefined;
  /** See `#lineOf`. */
  isBlind: boolean;
  isApart: boolean;
}

/** The part of a backup that goes through the tree, and what it counts on the way. */
export class TreeSaver {
  readonly files = { total: 0, new: 0, changed: 0, unmodified: 0, removed: 0 };
  /** Of the manifest, and of that of what is kept apart. */
  readonly counts = { files: 0, folders: 0, symlinks: 0, bytes: 0 };
  readonly #apart = { files: 0, folders: 0, symlinks: 0, bytes: 0 };
  /** Where the entry at hand is counted. */
  #counting = this.counts;
  readonly secret: SecretCount = { handling: 'apart', files: 0, bytes: 0 };
  /** Whether there are entries that an earlier reader does not know. */
  hasSpecials = false;
  readonly #links = new HardLinks();
  /** A manifest names no file of the other. */
  readonly #apartLinks = new HardLinks();
  readonly #root: RawPath;
  /** Files that were there before and are blank templates now, for display. */
  readonly scaffolds: string[] = [];
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
  readonly #databases: DatabaseSaver;
  readonly #logs: Logs;
  readonly #files: FileStore;

  constructor(options: SaveOptions, seams: Seams, repository: Repository, writer: SnapshotWriter, warnings: Warning[]) {
    this.#options = options;
    this.#root = rawFromText(resolve(options.state.root));
    if (options.state.secret) this.secret.handling = options.state.secret.handling;
    this.#seams = seams;
    this.#repository = repository;
    this.#writer = writer;
    this.#warnings = warnings;
    const now = seams.clock.now();
    this.#cacheOut = new ManifestCacheWriter(options.folders, now);
    this.#databases = new DatabaseSaver(options.state.root, options.folders, warnings, seams.signal);
    const { isScaffold } = options.state;
    this.#files = new FileStore(repository, writer, { isScaffold, signal: seams.signal, now });
    this.#logs = new Logs({ patterns: options.state.appendOnly, now, idOf: repository.idOf, writer });
  }

  /** Stores the tree and its manifest; what was before is compared with the cache of `parent`. */
  async save(
    parent: { id: SnapshotId } | undefined,
  ): Promise<{ manifest: SavedManifest; secrets: (SavedManifest & { files: number }) | undefined }> {
    const { state, folders } = this.#options;
    await using _databases = this.#databases;
    using cache = parent && ManifestCache.open(folders, parent.id);
    const manifest = new ManifestStream(this.#repository, this.#writer);
    const apart = new SecretManifest(() => new ManifestStream(this.#repository, this.#writer));
    const { handling } = this.secret;
    const order = new InOrder<SavedEntry>(({ item, isApart, line, stamp, ...kind }) => {
      if (item.secret) this.#countSecret(item);
      if (isApart) apart.add(item.path, line, item.kind === 'folder');
      else {
        manifest.add(line);
        if (item.kind === 'folder') apart.passFolder(item.path, line);
      }
      this.#cacheOut.add(line, stamp, item.kind === 'file' ? kind : undefined);
    });
    for (const item of scan(state.root, {
      exclude: [...state.exclude, `/${MARKER}`],
      secret: state.secret?.patterns ?? [],
      keepOut: state.keepOut,
      special: state.special,
      oneFileSystem: state.oneFileSystem,
      signal: this.#seams.signal,
    })) {
      if (item.kind === 'problem') {
        this.#warnings.push(item.warning);
        continue;
      }
      this.device ??= String(item.dev);
      if (item.kind === 'file') {
        if (await this.#databases.isPartOfOne(item.path)) continue;
        while (this.#databases.isCapturing(item)) await order.next();
      }
      if (item.secret && handling === 'leave') {
        this.#countSecret(item);
        continue;
      }
      const isApart = item.secret === true && handling === 'apart';
      this.#counting = isApart ? this.#apart : this.counts;
      const before = cache?.at(item.path);
      this.#texture = before?.texture;
      this.#isScaffold = before?.isScaffold ?? false;
      const links = isApart ? this.#apartLinks : this.#links;
      const first = item.kind === 'file' && item.links > 1 ? links.firstOf(item) : undefined;
      const isBlind = parent !== undefined && (!cache || cache.isDamaged);
      let stamp = first?.stamp ?? stampOf(item);
      if (first) this.#texture = first.texture;
      let line = first && this.#otherName(item as ScannedFile, first.line, before, isBlind);
      if (!first) {
        const isKnown = before && isStamped(before, stamp) && item.ctimeNs < (cache?.trustedBeforeNs ?? 0n);
        line = isKnown ? this.#untouched(item, before, before.stamp.slice(stamp.length), cache) : undefined;
        if (line !== undefined) stamp = before?.stamp ?? stamp;
        else {
          this.#stampTail = '';
          const made = await this.#lineOf(item, before, isBlind);
          if (made === DATABASE_MET) {
            await this.#captureLater({ item: item as ScannedFile, before, isBlind, isApart }, order);
            continue;
          }
          line = made;
          stamp += this.#stampTail;
        }
      }
      if (line === undefined) continue;
      // The log of a database goes by its name: what was captured under one name is not what another has.
      const isShared = !first && !this.#wasReplaced && !line.includes(DATABASE_MEMBER);
      if (item.kind === 'file' && isShared) links.add(item, { line, stamp, texture: this.#texture });
      order.add({ item, isApart, line, stamp, texture: this.#texture, isScaffold: this.#isScaffold });
      if (order.isReady || order.behind >= BEHIND_MAX) await order.next();
      const full = this.#writer.ready();
      if (full) await full;
    }
    while (!order.isEmpty) await order.next();
    cache?.end();
    const secrets = apart.end();
    this.files.removed = cache?.removedFiles ?? 0;
    this.files.total = this.counts.files + this.#apart.files;
    return { manifest: manifest.end(), secrets: secrets && { ...secrets, files: this.#apart.files } };
  }

  #countSecret(item: ScannedItem): void {
    if (item.kind !== 'file') return;
    this.secret.files++;
    this.secret.bytes += item.size;
  }

  get readBytes(): number {
    return this.#files.readBytes;
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

  /**
   * The line of what has size, times and inode as at the last snapshot, when every chunk is still known to the repository.
   * @param tail of its stamp; see `#stampTail`
   */
  #untouched(
    item: ScannedItem,
    { line: before }: CachedLine,
    tail: string,
    cache: ManifestCache | undefined,
  ): string | undefined {
    this.#wasReplaced = false;
    if (item.kind !== 'file') {
      const bare = entryLine(bareEntry(item));
      if (before !== bare && !before.startsWith(`${bare.slice(0, -1)},`)) return undefined;
      this.#countOther(item);
      return before;
    }
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
    this.files.unmodified++;
    this.#counted(file);
    return item.links > 1 ? firstNameLine(before) : before;
  }

  /** Of a file that is not stored as it lies there. */
  #isCaptureUntouched(item: ScannedFile, tail: string, trustedBeforeNs: bigint): boolean {
    if (tail === `${PART_LINE}${item.size}`) return !this.#logs.isFinished(item);
    const { text, newestNs } = this.#databases.stampOf(item.path);
    return tail === `${DATABASE}${item.size}:${text}` && newestNs < trustedBeforeNs;
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

  /** Has a database captured while what comes after it is saved. */
  async #captureLater({ item, before, isBlind, isApart }: ToCapture, order: InOrder<SavedEntry>): Promise<void> {
    while (!this.#databases.hasRoomFor(item)) await order.next();
    const capture = this.#databases.begin(item);
    const finish = async () => {
      this.#counting = isApart ? this.#apart : this.counts;
      this.#stampTail = '';
      const entry = await this.#saveDatabase(capture);
      this.#databases.release(capture);
      if (!entry) return undefined;
      const line = this.#lineOfFile(entry, before, isBlind);
      const stamp = stampOf(item) + this.#stampTail;
      return { item, isApart, line, stamp, texture: this.#texture, isScaffold: false };
    };
    order.addLater({ isReady: () => capture.isReady, finish });
  }

  /** @param blind that nothing is known about what was there before. */
  async #lineOf(
    item: ScannedItem,
    before: CachedLine | undefined,
    blind: boolean,
  ): Promise<string | typeof DATABASE_MET | undefined> {
    if (item.kind !== 'file') {
      this.#countOther(item);
      const kind = item.kind === 'folder' ? 'folder' : 'other';
      const attributes = this.#told(item.path, attributesAt(absoluteIn(this.#root, item.path), kind));
      return entryLine({ ...bareEntry(item), ...attributes });
    }
    const entry = await this.#save(item, before);
    return entry && entry !== DATABASE_MET ? this.#lineOfFile(entry, before, blind) : entry;
  }

  #lineOfFile(entry: FileEntry, before: CachedLine | undefined, blind: boolean): string {
    const line = entryLine(entry);
    const how = this.#compare(line, before, blind);
    if (how !== 'unmodified') this.#changedBytes += entry.size;
    if (how === 'changed' && this.#isScaffold && !before?.isScaffold) this.scaffolds.push(rawForDisplay(entry.path));
    this.#counted(entry);
    return line;
  }

  #countOther(item: OtherItem): void {
    if (item.kind === 'folder') this.#counting.folders++;
    else if (item.kind === 'symlink') this.#counting.symlinks++;
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
    this.#counting.files++;
    this.#counting.bytes += size;
    if (this.#texture) {
      this.#textures[this.#texture].files++;
      this.#textures[this.#texture].bytes += size;
    }
    const done = this.counts.bytes + this.#apart.bytes;
    this.#seams.progress({ type: 'progress', phase: 'saving', done, unit: 'bytes' });
  }

  #lastFileWasNew = false;
  /** What the cache's stamp of a file has besides when another size is stored than the file has: that size, and what else must be as it was. */
  #stampTail = '';
  /** Of the file that the walk is at: whether it is a blank template, */
  #isScaffold = false;
  /** and what its bytes are like. */
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

  async #save(item: ScannedFile, before: CachedLine | undefined): Promise<FileEntry | typeof DATABASE_MET | undefined> {
    const { root } = this.#options.state;
    let log = this.#logs.watch(item.path, before);
    let result = await this.#read(root, item, { log });
    if (result?.read.outcome === 'changed') {
      log &&= this.#logs.watch(item.path, before);
      result = await this.#read(root, item, { log });
    }
    if (!result) return DATABASE_MET;
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
      case 'unreadable':
        this.#warnings.push({
          code: read.outcome,
          path,
          message: `${path} ${read.reason}; it is not in the snapshot`,
          incomplete: true,
        });
        return undefined;
    }
    if (this.#isTooLarge(path, chunks)) return undefined;
    const { mode, mtimeNs, uid, gid, size, ino, dev } = read.file;
    this.#wasReplaced = ino !== item.ino || dev !== item.dev;
    if (log && read.outcome === 'ok') {
      const fileBytes = size + read.partLineBytes;
      if (fileBytes !== size) this.#stampTail = `${PART_LINE}${fileBytes}`;
      const warning = log.warning(size, fileBytes);
      if (warning) this.#warnings.push(warning);
    }
    const { holes, ...found } = read.extras;
    const attributes = this.#told(item.path, found);
    const extras = holes ? { ...attributes, holes } : attributes;
    return { path: item.path, type: 'file', mode, mtimeNs, uid, gid, size, chunks, ...extras };
  }

  async #saveDatabase({ item, captured: capturing }: Capture): Promise<FileEntry | undefined> {
    const captured = await capturing;
    if (!captured) return undefined;
    const { folder, copy, sqlite, stamp } = captured;
    const result = await this.#read(folder, { path: copy, size: Number.NaN }, { isCopy: true });
    if (result?.read.outcome !== 'ok') {
      throw new HoldfastError('io', `the copy of a database in ${folder} was touched by somebody else`, {
        hint: 'Leave the cache folder to holdfast alone, and run the backup again.',
      });
    }
    if (this.#isTooLarge(rawForDisplay(item.path), result.chunks)) return undefined;
    this.#stampTail = stamp === undefined ? LOOK_AGAIN : `${DATABASE}${item.size}:${stamp}`;
    const { path, mode, mtimeNs, uid, gid } = item;
    const { size } = result.read.file;
    const attributes = this.#told(path, attributesAt(absoluteIn(this.#root, path), 'file'));
    this.#wasReplaced = false;
    return { path, type: 'file', mode, mtimeNs, uid, gid, size, chunks: result.chunks, sqlite, ...attributes };
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

  async #read(
    root: string,
    file: { path: RawPath; size: number },
    how: Parameters<FileStore['store']>[2],
  ): Promise<StoredFile | undefined> {
    const stored = await this.#files.store(root, file, how);
    this.#lastFileWasNew = stored?.isNew ?? false;
    this.#isScaffold = stored?.isScaffold ?? false;
    this.#texture = stored?.texture;
    return stored;
  }
}

/** Instead of an entry: the file is a database, and has to be captured. */
const DATABASE_MET = Symbol('database');
/** Entries that may wait for a database before them. */
const BEHIND_MAX = 10_000;

/** In no other line: a quote in a name is escaped. */
const DATABASE_MEMBER = ',"sqlite":{';
/** Beginnings of `#stampTail`. */
const PART_LINE = ':log:';
const DATABASE = ':database:';
/** Nothing that is ever found so. */
const LOOK_AGAIN = ':again';

function isStamped({ stamp }: CachedLine, as: string): boolean {
  return stamp === as || stamp.startsWith(`${as}:`);
}
