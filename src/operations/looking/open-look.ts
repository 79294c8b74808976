/** A repository that stays open for looking: the index is loaded once, and the trees that were looked at last are kept. */
import type { ChunkId, Entry, FileEntry, Warning } from '../../entry.ts';
import { HoldfastError } from '../../errors.ts';
import { comparePaths, parentOf, rawForDisplay, type RawPath } from '../../raw-path.ts';
import {
  checkChain,
  forgottenIn,
  goneIn,
  knownLosses,
  readAnnotations,
  whatIsSaid,
  type ChunkReader,
  type Repository,
  type Said,
  type Snapshot,
} from '../../repository/repository.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from '../access.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from '../backends.ts';
import type { LocalFolders } from '../host/local-state.ts';
import { missedHere } from '../host/rollback.ts';
import type { Seams } from '../seams.ts';
import { isBelow } from './selection.ts';

export interface OpenLookOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  expected?: ExpectedRepository | undefined;
}

export interface SeenSnapshot extends Snapshot {
  backends: string[];
  /** Tags and note as they are now, and whether what is suspicious was acknowledged. */
  said: Said;
  /** What of the chain of snapshots does not hold here. */
  problem: string | undefined;
}

/**
 * Those that verify, oldest first, with what was said of them; what cannot be read is a warning.
 * @param folders what this host remembers; that its last snapshot is not shown is a warning then
 */
export async function readSnapshots(
  repository: Repository,
  signal: AbortSignal | undefined,
  folders?: LocalFolders,
): Promise<{ snapshots: SeenSnapshot[]; warnings: Warning[] }> {
  const { snapshots, problems } = await repository.snapshots(signal);
  const { annotations, problems: unsaid } = await readAnnotations(repository, undefined, signal);
  const chain = new Map(
    checkChain(snapshots, forgottenIn(annotations), goneIn(knownLosses(annotations))).map(({ snapshot, problem }) => [
      snapshot.id,
      problem,
    ]),
  );
  const seen = snapshots.map((snapshot) => {
    return { ...snapshot, said: whatIsSaid(snapshot, annotations), problem: chain.get(snapshot.id) };
  });
  const warnings = [...unreadable('snapshot_damaged', problems), ...unreadable('annotation_damaged', unsaid)];
  const missing = missedHere(snapshots, annotations, folders);
  if (missing !== undefined) {
    const message = `${missing}: storage was rolled back, has lost it, or is out of reach; see \`holdfast verify\``;
    warnings.push({ code: 'rolled_back', message, incomplete: true });
  }
  return { snapshots: seen, warnings };
}

export function unreadable(code: string, problems: readonly { key: string; error: HoldfastError }[]): Warning[] {
  return problems.map(({ key, error }) => ({ code, message: `${key}: ${error.message}`, incomplete: true }));
}

/** Of lists of files, decrypted: those of neighbouring snapshots have most of their chunks in common. */
const KEPT_MANIFEST_BYTES = 64 * 1024 * 1024;
/** Entries in all trees that are kept; half a kilobyte each. */
const KEPT_ENTRIES_MAX = 300_000;

/** @throws `wrong_key`, `no_repository`, … The caller disposes of it. */
export async function openLook(options: OpenLookOptions, seams: Seams): Promise<Look> {
  const mirror = await openMirror(options.backends, seams);
  try {
    const repository = await openForRestore(mirror, options.secret, options.expected, seams);
    const look = new Look(repository, seams);
    await look.refresh();
    return look;
  } catch (error) {
    await mirror[Symbol.asyncDispose]();
    throw error;
  }
}

export class Look implements AsyncDisposable {
  readonly #repository: Repository;
  readonly #seams: Seams;
  #reader!: ChunkReader;
  /** The keys of the snapshots and annotations that were seen: by these it is known that there are others. */
  #keys = '';
  #snapshots: readonly SeenSnapshot[] = [];
  #warnings: readonly Warning[] = [];
  readonly #trees = new Map<string, Promise<Tree>>();
  readonly #manifests = new ChunkCache(KEPT_MANIFEST_BYTES);

  constructor(repository: Repository, seams: Seams) {
    this.#repository = repository;
    this.#seams = seams;
  }

  get signal(): AbortSignal | undefined {
    return this.#seams.signal;
  }

  get agent(): string {
    return this.#repository.keys.agent.handle;
  }

  /** Those that verify, oldest first, as they were at the last `refresh`. */
  get snapshots(): readonly SeenSnapshot[] {
    return this.#snapshots;
  }

  /** What could not be read, and which backends dropped out, up to now. */
  get warnings(): Warning[] {
    const { mirror } = this.#repository;
    return [...this.#warnings, ...mishapWarnings(mirror), ...failedBackendWarnings(mirror)];
  }

  /** Looks whether there are snapshots, or was something said of them, that was not there before. */
  async refresh(): Promise<void> {
    const { signal } = this.#seams;
    const listed = [...(await this.#repository.listSnapshots(signal)).keys()];
    for await (const { key } of this.#repository.mirror.list('annotations/', { signal })) listed.push(key);
    const keys = listed.toSorted().join();
    if (keys === this.#keys && this.#reader) return;
    const { snapshots, warnings } = await readSnapshots(this.#repository, signal);
    const { index, problems } = await this.#repository.loadIndex(signal);
    this.#snapshots = snapshots;
    this.#warnings = [...warnings, ...unreadable('index_lost', problems)];
    this.#reader = this.#repository.reader(index);
    this.#keys = keys;
  }

  /** @throws `not_found` */
  snapshot(id: string): SeenSnapshot {
    const snapshot = this.#snapshots.find((one) => one.id === id);
    if (snapshot) return snapshot;
    throw new HoldfastError('not_found', 'there is no such snapshot', { hint: 'Look at the list of snapshots.' });
  }

  /** @throws `damaged` when the manifest cannot be read from any backend */
  tree(snapshot: Snapshot): Promise<Tree> {
    const name = manifestName(snapshot);
    const known = this.#trees.get(name);
    const tree = known ?? this.#readTree(snapshot);
    this.#trees.delete(name);
    this.#trees.set(name, tree); // the one used last comes last
    if (!known) {
      tree.then(
        () => this.#forget(),
        () => this.#trees.delete(name),
      );
    }
    return tree;
  }

  /** The folders and links of a snapshot and the files that are wanted, in order, without keeping them. @throws as `tree` */
  async *some(snapshot: Snapshot, isWanted: (path: RawPath) => boolean): AsyncGenerator<Entry> {
    const tree = await this.#trees.get(manifestName(snapshot));
    yield* tree ? tree.entries : this.#entries(snapshot, isWanted);
  }

  /** The content of a file, each piece verified. @throws `damaged` at the first that no backend can give */
  content({ chunks }: FileEntry): AsyncGenerator<Uint8Array> {
    return this.#reader.inOrder(chunks, this.#seams.signal);
  }

  /** The first `most` bytes of a file. */
  async beginning(file: FileEntry, most: number): Promise<Buffer> {
    const pieces: Uint8Array[] = [];
    let length = 0;
    for await (const piece of this.content(file)) {
      pieces.push(piece.slice(0, most - length));
      length += piece.length;
      if (length >= most) break;
    }
    return Buffer.concat(pieces);
  }

  /** @throws `damaged` when a part of a file is in no index, before anything is sent of it. */
  checkIsThere(file: FileEntry): void {
    for (const id of file.chunks) this.#reader.locate(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#repository.mirror[Symbol.asyncDispose]();
  }

  async #readTree(snapshot: Snapshot): Promise<Tree> {
    const entries: Entry[] = [];
    for await (const entry of this.#entries(snapshot)) entries.push(entry);
    return new Tree(entries);
  }

  #entries(snapshot: Snapshot, isWanted?: (path: RawPath) => boolean): AsyncGenerator<Entry> {
    const reader = { inOrder: (ids: readonly ChunkId[]) => this.#manifests.through(ids, this.#reader, this.signal) };
    return this.#repository.entries(snapshot, reader, this.signal, isWanted);
  }

  async #forget(): Promise<void> {
    let held = 0;
    for (const [name, tree] of [...this.#trees].toReversed()) {
      held += (await tree.catch(() => undefined))?.entries.length ?? 0;
      if (held > KEPT_ENTRIES_MAX && name !== [...this.#trees.keys()].at(-1)) this.#trees.delete(name);
    }
  }
}

/** Snapshots between which nothing changed have one manifest. */
export const manifestName = ({ record }: Snapshot): string => record.manifest.chunks.join();

/** Chunks that are likely to be wanted again; those used last are kept. */
class ChunkCache {
  readonly #chunks = new Map<ChunkId, Uint8Array>();
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The chunks in order; those that are not here come from the reader. */
  async *through(
    ids: readonly ChunkId[],
    reader: ChunkReader,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    const held = new Map<ChunkId, Uint8Array>();
    for (const id of ids) {
      const bytes = this.#chunks.get(id);
      if (bytes) held.set(id, bytes);
    }
    const missing = reader.inOrder(
      [...new Set(ids)].filter((id) => !held.has(id)),
      signal,
    );
    try {
      for (const id of ids) {
        let bytes = held.get(id);
        if (!bytes) {
          const step = await missing.next();
          if (step.done === true) return;
          bytes = step.value.slice();
          held.set(id, bytes);
        }
        this.#keep(id, bytes);
        yield bytes;
      }
    } finally {
      await missing.return(undefined);
    }
  }

  #keep(id: ChunkId, bytes: Uint8Array): void {
    if (!this.#chunks.delete(id)) this.#bytes += bytes.length;
    this.#chunks.set(id, bytes);
    for (const [old, { length }] of this.#chunks) {
      if (this.#bytes <= this.#maxBytes) return;
      this.#chunks.delete(old);
      this.#bytes -= length;
    }
  }
}

/** All entries of a snapshot, in the order of the manifest. */
export class Tree {
  readonly entries: readonly Entry[];

  constructor(entries: readonly Entry[]) {
    this.entries = entries;
  }

  get(path: RawPath): Entry | undefined {
    const entry = this.entries[this.#at(path)];
    return entry?.path === path ? entry : undefined;
  }

  /** @throws `not_found` */
  require(path: RawPath): Entry {
    const entry = this.get(path);
    if (entry) return entry;
    throw new HoldfastError('not_found', `this snapshot has no ${JSON.stringify(rawForDisplay(path))}`, {
      hint: 'Another one may have it: look for its name in all snapshots.',
    });
  }

  /** The entry itself and all below it. */
  *below(path: RawPath): Generator<Entry> {
    for (let i = this.#at(path); i < this.entries.length; i++) {
      const entry = this.entries[i];
      if (!entry || !isBelow(entry.path, path)) return;
      yield entry;
    }
  }

  /** What a folder holds: folders first, each group in the order of bytes. */
  children(folder: RawPath): Entry[] {
    const found = [...this.below(folder)].filter(({ path }) => path !== folder && parentOf(path) === folder);
    const rank = ({ type }: Entry) => (type === 'folder' ? 0 : 1);
    return found.toSorted((a, b) => rank(a) - rank(b));
  }

  /** Where the path is, or would be. */
  #at(path: RawPath): number {
    let [from, to] = [0, this.entries.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      const entry = this.entries[middle];
      if (entry && comparePaths(entry.path, path) < 0) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}
