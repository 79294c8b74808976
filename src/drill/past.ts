/** The repository as it is seen in the world of a drill, opened with the secret: the snapshots there are, their lists of files, contents. */
import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync } from 'node:fs';
import type { Entry, FileEntry, Warning } from '../entry.ts';
import { isHoldfastError, throwIfAborted } from '../errors.ts';
import { rawForDisplay, rawFromText, rawToFs, type RawPath } from '../raw-path.ts';
import { blocksFor } from '../crypto/age.ts';
import type { Mirror } from '../backend/mirror.ts';
import { packKey, type ChunkReader, type PackIndex, type Repository } from '../repository/repository.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from '../operations/access.ts';
import { openMirror } from '../operations/backends.ts';
import { manifestName, readSnapshots, type SeenSnapshot } from '../operations/looking/open-look.ts';
import { inTree } from '../state/tree-path.ts';
import type { View } from './world.ts';

/** So many snapshots with other contents before one tell how things were. */
const HISTORY = 8;
/** From a snapshot with this tag on the history counts: what was before it is no measure any more. */
export const BASELINE = 'baseline';

/** Where a chunk can be had: in any of these packs. */
export interface Need {
  packs: readonly { key: string; bytes: number }[];
}

export class Past implements AsyncDisposable {
  readonly repository: Repository;
  readonly #mirror: Mirror;
  readonly #signal: AbortSignal | undefined;
  readonly #needs = new Map<string, Promise<Need[]>>();
  readonly #packsOf = new Map<string, string[]>();
  #index!: PackIndex;
  #reader!: ChunkReader;
  /** Those that verify, oldest first. */
  snapshots: readonly SeenSnapshot[] = [];
  /** What could not be read. */
  warnings: readonly Warning[] = [];

  private constructor(repository: Repository, mirror: Mirror, signal: AbortSignal | undefined) {
    this.repository = repository;
    this.#mirror = mirror;
    this.#signal = signal;
  }

  /** @throws `wrong_key`, `no_repository`, `not_enough_backends`, … */
  static async open(
    { addresses, seams }: Pick<View, 'addresses' | 'seams'>,
    secret: RestoreSecret,
    expected: ExpectedRepository | undefined,
  ): Promise<Past> {
    const mirror = await openMirror(addresses, seams);
    try {
      const past = new Past(await openForRestore(mirror, secret, expected, seams), mirror, seams.signal);
      const { snapshots, warnings } = await readSnapshots(past.repository, seams.signal);
      const { index, problems } = await past.repository.loadIndex(seams.signal);
      past.snapshots = snapshots;
      past.warnings = [
        ...warnings,
        ...problems.map(({ key, error }) => ({ code: 'index_lost', message: `${key}: ${error.message}` })),
      ];
      past.#index = index;
      past.#reader = past.repository.reader(index);
      return past;
    } catch (error) {
      await mirror[Symbol.asyncDispose]();
      throw error;
    }
  }

  get newest(): SeenSnapshot | undefined {
    return this.snapshots.at(-1);
  }

  /** Somebody has said that the state is right as it is there. */
  isStart({ said }: SeenSnapshot): boolean {
    return said.isAcknowledged || said.tags.includes(BASELINE);
  }

  /**
   * Those before a snapshot that are a measure for it, newest first, one of each contents: back to the one that somebody has called right, by
   * acknowledging it or with the tag `baseline`. None when that is the snapshot itself.
   */
  before(snapshot: SeenSnapshot): SeenSnapshot[] {
    const found: SeenSnapshot[] = [];
    if (this.isStart(snapshot)) return found;
    const seen = new Set([contentName(snapshot)]);
    const older = this.snapshots.filter(({ record }) => record.seq < snapshot.record.seq).toReversed();
    for (const one of older) {
      if (found.length >= HISTORY) break;
      if (!seen.has(contentName(one))) found.push(one);
      seen.add(contentName(one));
      if (this.isStart(one)) break;
    }
    return found;
  }

  /** The list of files, with what is kept apart; see `Repository.entries`. @throws `damaged` */
  async *entries(
    snapshot: SeenSnapshot,
    isWanted?: (path: RawPath) => boolean,
  ): AsyncGenerator<Entry & { isApart: boolean }> {
    const folders = new Set<RawPath>();
    for await (const entry of this.repository.entries(snapshot, this.#reader, this.#signal, isWanted)) {
      if (entry.type === 'folder') folders.add(entry.path);
      yield { ...entry, isApart: false };
    }
    for await (const entry of this.repository.secretEntries(snapshot, this.#reader, this.#signal, isWanted))
      // Folders that lead to secrets may be in both lists.
      if (!folders.has(entry.path)) yield { ...entry, isApart: true };
  }

  /** True for the errors of what no backend can give. */
  isUnreadable(error: unknown): boolean {
    return isHoldfastError(error, 'damaged', 'not_enough_backends', 'not_found', 'forged');
  }

  /** The content of a file; undefined when it has more than `mostBytes`, or no backend can give it. */
  async content(file: FileEntry, mostBytes: number): Promise<Buffer | undefined> {
    if (file.size > mostBytes) return undefined;
    const pieces: Uint8Array[] = [];
    try {
      for await (const piece of this.#reader.inOrder(file.chunks, this.#signal)) pieces.push(piece.slice());
    } catch (error) {
      if (!this.isUnreadable(error)) throw error;
      return undefined;
    }
    return Buffer.concat(pieces);
  }

  /** What of the content of the entry is not on the disk as the list of files has it, read back; undefined when it is all right. */
  difference(root: string, entry: Entry): string | undefined {
    throwIfAborted(this.#signal);
    const at = inTree(rawFromText(root), entry.path);
    const found = lstatSync(at, { throwIfNoEntry: false });
    if (!found) return 'is not there';
    switch (entry.type) {
      case 'folder':
        return found.isDirectory() ? undefined : 'is no folder';
      case 'symlink': {
        if (!found.isSymbolicLink()) return 'is no symbolic link';
        const target = readlinkSync(at, 'latin1');
        return target === entry.target ? undefined : `points to ${rawForDisplay(target as RawPath)}`;
      }
      case 'file':
        if (!found.isFile()) return 'is no file';
        if (found.size !== entry.size) return `has ${found.size} bytes instead of ${entry.size}`;
        return this.#hasContents(at, entry) ? undefined : 'has another content than the snapshot';
      case 'fifo':
        return found.isFIFO() ? undefined : 'is no FIFO';
      case 'device':
        return found.isBlockDevice() || found.isCharacterDevice() ? undefined : 'is no device';
    }
  }

  /** What all chunks of the snapshot need, each combination of packs once. @throws `damaged` when an index is lost */
  needsOf(snapshot: SeenSnapshot): Promise<Need[]> {
    const known = this.#needs.get(snapshot.id) ?? this.#findNeeds(snapshot);
    this.#needs.set(snapshot.id, known);
    return known;
  }

  /** The keys of the packs that these indexes name; of other keys nothing is asked. */
  async packsIndexedBy(keys: readonly string[]): Promise<Set<string>> {
    const unknown = keys.filter((key) => key.startsWith('index/') && !this.#packsOf.has(key));
    const { packsOf } = await this.repository.readIndexes(unknown, { packsOnly: true, signal: this.#signal });
    for (const [key, packs] of packsOf) this.#packsOf.set(key, packs.map(packKey));
    return new Set(keys.flatMap((key) => this.#packsOf.get(key) ?? []));
  }

  /** Keys of the indexes that name any of these packs. */
  async indexesOf(packs: ReadonlySet<string>): Promise<string[]> {
    const keys: string[] = [];
    for await (const { key } of this.#mirror.list('index/', { signal: this.#signal })) keys.push(key);
    await this.packsIndexedBy(keys);
    return keys.filter((key) => this.#packsOf.get(key)?.some((pack) => packs.has(pack))).toSorted();
  }

  /**
   * A byte of a pack that a recovery of the snapshot reads there, and a file that needs it; without `path` the list of files does. Undefined when
   * nothing is read there.
   */
  async placeIn(snapshot: SeenSnapshot, pack: string): Promise<{ at: number; path?: RawPath } | undefined> {
    const find = (ids: FileEntry['chunks']) => ids.map((id) => this.#offsetIn(pack, id)).find((at) => at !== undefined);
    for await (const entry of this.entries(snapshot)) {
      const at = entry.type === 'file' ? find(entry.chunks) : undefined;
      if (at !== undefined) return { at, path: entry.path };
    }
    const { manifest, secrets } = snapshot.record;
    const at = find(manifest.chunks) ?? find(secrets?.chunks ?? []);
    return at === undefined ? undefined : { at };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#mirror[Symbol.asyncDispose]();
  }

  #placesOf(id: FileEntry['chunks'][number]): { key: string; bytes: number }[] {
    const places = [this.#reader.locate(id), ...this.#reader.elsewhere(id)];
    return places.flatMap(({ pack }) => {
      const info = this.#index.packs[pack];
      return info ? [{ key: packKey(info.id), bytes: info.storedBytes }] : [];
    });
  }

  /** Where in the stored object the frame of a chunk begins; undefined for a chunk that is read elsewhere. */
  #offsetIn(pack: string, id: FileEntry['chunks'][number]): number | undefined {
    const location = this.#reader.locate(id);
    const info = this.#index.packs[location.pack];
    const frame = info?.frames[location.frame];
    if (!info || !frame || packKey(info.id) !== pack) return undefined;
    return blocksFor(frame, info.payloadOffset, info.storedBytes).range.offset;
  }

  async #findNeeds(snapshot: SeenSnapshot): Promise<Need[]> {
    const needs = new Map<string, Need>();
    const add = (ids: FileEntry['chunks']) => {
      for (const id of ids) {
        const packs = this.#placesOf(id);
        needs.set(packs.map(({ key }) => key).join(), { packs });
      }
    };
    add(snapshot.record.manifest.chunks);
    add(snapshot.record.secrets?.chunks ?? []);
    for await (const entry of this.entries(snapshot)) if (entry.type === 'file') add(entry.chunks);
    return [...needs.values()];
  }

  #hasContents(at: string | Buffer, { chunks }: FileEntry): boolean {
    const fd = openSync(at, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      if (!fstatSync(fd).isFile()) return false;
      for (const id of chunks) {
        throwIfAborted(this.#signal);
        const bytes = Buffer.allocUnsafe(this.#index.lengthOf(id) ?? 0);
        let filled = 0;
        for (let got = -1; filled < bytes.length && got !== 0; filled += got)
          got = readSync(fd, bytes, filled, bytes.length - filled, null);
        if (filled < bytes.length || this.repository.idOf(bytes) !== id) return false;
      }
      return readSync(fd, Buffer.alloc(1)) === 0;
    } finally {
      closeSync(fd);
    }
  }
}

const contentName = (snapshot: SeenSnapshot): string =>
  `${manifestName(snapshot)}/${snapshot.record.secrets?.chunks.join() ?? ''}`;

/** At most `mostBytes` of a file below a folder, which nobody may have turned into a link; undefined when it cannot be read, or is longer. */
export function readSmall(root: string, path: RawPath, mostBytes: number): Buffer | undefined {
  let fd: number | undefined;
  try {
    const at = rawToFs(`${rawFromText(root)}/${path}` as RawPath);
    fd = openSync(at, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const { size } = fstatSync(fd);
    if (!fstatSync(fd).isFile() || size > mostBytes) return undefined;
    const bytes = Buffer.alloc(size);
    let filled = 0;
    for (let got = -1; filled < size && got !== 0; filled += got)
      got = readSync(fd, bytes, filled, size - filled, null);
    return bytes.subarray(0, filled);
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
