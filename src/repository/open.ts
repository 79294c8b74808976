/** An opened repository: what is read through it is verified, and what is written follows the order that keeps every earlier snapshot safe. */
import { HoldfastError, isHoldfastError, isSurvivable } from '../errors.ts';
import type { Clock, Random } from '../clock.ts';
import type { ChunkId, Entry } from '../entry.ts';
import type { Mirror } from '../backend/mirror.ts';
import { openAge } from '../crypto/age.ts';
import { chunkIdFunction, gearTable } from '../crypto/chunk-id.ts';
import { drain, inLanes } from '../drain.ts';
import { CHUNK_MAX_BYTES, INDEXES_IN_FLIGHT, RECORDS_IN_FLIGHT } from '../limits.ts';
import { makeCut, type Cut } from './packs/chunker.ts';
import { type KeysRecord, type RepositoryRecord } from './records/format.ts';
import {
  checkContentName,
  lostIfAbsent,
  parseKey,
  secretsKey,
  type AnnotationId,
  type PackId,
  type SnapshotId,
  type VerifiedId,
} from './records/object-name.ts';
import type { RawPath } from '../raw-path.ts';
import { openAnnotation, readAnnotations, whatIsSaid, type Annotation } from './records/annotation.ts';
import { openIndex } from './packs/index-object.ts';
import type { FileKeys } from './keys/grants.ts';
import type { KeyLog, KeyState } from './keys/key-log.ts';
import { openKeys, type Access, type OpenedKeys, type OpenOptions } from './keys/keys.ts';
import { readEntries } from './records/manifest.ts';
import { PackIndex } from './packs/pack-index.ts';
import { ChunkReader } from './packs/reader.ts';
import { selectSnapshot } from './records/select.ts';
import { openSnapshot, type Snapshot } from './records/snapshot.ts';
import { openVerified, type Verified } from './records/verified.ts';
import { SnapshotWriter } from './packs/writer.ts';

/** Opens the repository that the backends of the mirror hold; see `openKeys` for what happens to those that hold none or another. */
export async function openRepository(mirror: Mirror, access: Access, options: OpenOptions): Promise<Repository> {
  const opened = await openKeys(mirror, access, options);
  const { minBytes, averageBytes, maxBytes } = opened.repository.chunker;
  const sane =
    minBytes >= 64 &&
    minBytes % 2 === 0 &&
    minBytes < averageBytes &&
    averageBytes < maxBytes &&
    maxBytes <= CHUNK_MAX_BYTES &&
    maxBytes % 2 === 0;
  if (!sane || !Number.isInteger(Math.log2(averageBytes))) {
    throw new HoldfastError(
      'unsupported_format',
      'the repository has chunker parameters this holdfast does not support',
    );
  }
  return new Repository(mirror, opened, options.clock);
}

/** An object that cannot be read from any backend. */
export interface RepositoryProblem {
  key: string;
  error: HoldfastError;
}

/** What was listed and is gone, as far as those say that can be asked: whoever replaced it stored the new ones first, and a new look shows them. */
export const mayBeReplaced = ({ error }: RepositoryProblem): boolean =>
  isHoldfastError(error, 'not_found', 'not_enough_backends');

/** How often a listing is taken anew when what it named was replaced by others before it could be read. */
export const LOOKS_MAX = 4;

/** Snapshot objects by key, and the backends that list each. */
export type ListedSnapshots = Map<string, { id: SnapshotId; backends: string[] }>;

/** Takes in a key that a backend lists, unless it is no snapshot's. */
export function addListed(found: ListedSnapshots, key: string, backend: string): void {
  const parsed = parseKey(key);
  if (parsed?.kind !== 'snapshot') return;
  const entry = found.get(key);
  if (entry) entry.backends.push(backend);
  else found.set(key, { id: parsed.id, backends: [backend] });
}

export class Repository {
  readonly mirror: Mirror;
  readonly record: RepositoryRecord;
  /** The bytes of `holdfast.json`. */
  readonly plain: Uint8Array;
  /** The identity log, what holds of it now, and the key record in force. */
  readonly log: KeyLog;
  readonly state: KeyState;
  readonly keys: KeysRecord;
  /** Secret: goes into the writer key file of a new host and nowhere else. */
  readonly chunkIdKey: Uint8Array;
  /** Secret, as above. */
  readonly writerIdentity: string;
  /** Names a chunk. */
  readonly idOf: (bytes: Uint8Array) => ChunkId;
  readonly cut: Cut;
  readonly identities: readonly string[];
  readonly fileKeys: FileKeys;
  readonly #clock: Clock;

  constructor(mirror: Mirror, opened: OpenedKeys, clock: Clock) {
    this.mirror = mirror;
    this.#clock = clock;
    this.record = opened.repository;
    this.plain = opened.plain;
    this.log = opened.log;
    this.state = opened.state;
    this.keys = opened.state.keys;
    this.chunkIdKey = opened.chunkIdKey;
    this.writerIdentity = opened.writerIdentity;
    this.identities = opened.identities;
    this.fileKeys = opened.fileKeys;
    this.idOf = chunkIdFunction(opened.chunkIdKey);
    this.cut = makeCut(gearTable(opened.chunkIdKey), opened.repository.chunker);
  }

  /** Objects that the key record in force names: without them somebody cannot recover. */
  get keyObjects(): string[] {
    const { secrets, grants = [] } = this.keys;
    return [secretsKey(secrets), this.state.entry.identityObject, ...grants.map(secretsKey)];
  }

  get id(): string {
    return this.record.id;
  }

  /** Which snapshot objects there are, by key, and the backends that list each. Nothing is read. */
  async listSnapshots(signal?: AbortSignal): Promise<ListedSnapshots> {
    const found: ListedSnapshots = new Map();
    await Promise.all(
      this.mirror.live().map(async ({ name, backend }) => {
        try {
          for await (const { key } of backend.list('snapshots/', { signal })) addListed(found, key, name);
        } catch (error) {
          if (!isSurvivable(error)) throw error;
          this.mirror.fail(name, error);
        }
      }),
    );
    return found;
  }

  /** Names of the backends that have every pack and index that any of them has. */
  async holdersOfAllData(signal?: AbortSignal): Promise<string[]> {
    const listings = await Promise.all(
      this.mirror.live().map(async ({ name, backend }) => {
        const keys = new Set<string>();
        for (const prefix of ['packs/', 'index/'])
          for await (const { key } of backend.list(prefix, { signal })) if (parseKey(key)) keys.add(key);
        return { name, keys };
      }),
    );
    const all = new Set(listings.flatMap(({ keys }) => [...keys]));
    return listings.filter(({ keys }) => keys.size === all.size).map(({ name }) => name);
  }

  /**
   * Every snapshot that can be opened and verified, oldest first, and the problems of those that cannot.
   */
  async snapshots(signal?: AbortSignal): Promise<{
    snapshots: (Snapshot & { backends: string[] })[];
    problems: RepositoryProblem[];
  }> {
    const snapshots: (Snapshot & { backends: string[] })[] = [];
    const problems: RepositoryProblem[] = [];
    const listed = [...(await this.listSnapshots(signal))];
    await drain(listed, RECORDS_IN_FLIGHT, async ([key, { id, backends }]) => {
      try {
        snapshots.push({ ...(await this.readSnapshot(id, key, signal)), backends });
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        problems.push({ key, error });
      }
    });
    problems.sort((a, b) => (a.key < b.key ? -1 : 1));
    snapshots.sort((a, b) => a.record.seq - b.record.seq || (a.record.time < b.record.time ? -1 : 1));
    return { snapshots, problems };
  }

  /**
   * The snapshot with the highest number, without opening those whose numbers the caller knows from an earlier look. (An id is the hash of
   * a signed record: what was right once stays right.) The newest itself is opened again.
   * @param listed what `listSnapshots` gave.
   * @returns also the numbers of all that could be opened, by id.
   */
  async newestSnapshot(
    known: ReadonlyMap<string, number>,
    listed: ListedSnapshots,
    signal?: AbortSignal,
  ): Promise<{ newest: Snapshot | undefined; numbers: Map<SnapshotId, number>; problems: RepositoryProblem[] }> {
    const problems: RepositoryProblem[] = [];
    // By key, not by id: storage may show one record under several names, of which one at most is its own.
    const candidates = [...listed].map(([key, { id }]) => ({
      key,
      id,
      number: known.get(id),
      snapshot: undefined as Snapshot | undefined,
    }));
    const open = async (candidate: (typeof candidates)[number]) => {
      candidate.number = undefined;
      try {
        candidate.snapshot = await this.readSnapshot(candidate.id, candidate.key, signal);
        candidate.number = candidate.snapshot.record.seq;
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        problems.push({ key: candidate.key, error });
      }
    };
    const unknown = candidates.filter(({ number }) => number === undefined);
    await inLanes(unknown, RECORDS_IN_FLIGHT, open);
    for (;;) {
      const good = candidates.flatMap((candidate) =>
        candidate.number === undefined ? [] : [{ candidate, number: candidate.number }],
      );
      const [first] = good.sort((a, b) => b.number - a.number || (a.candidate.key < b.candidate.key ? 1 : -1));
      if (first === undefined || first.candidate.snapshot) {
        const numbers = new Map(good.map(({ candidate: { id }, number }) => [id, number]));
        return { newest: first?.candidate.snapshot, numbers, problems };
      }
      await open(first.candidate); // which may show that it has another number, or is none
    }
  }

  readSnapshot(id: SnapshotId, key: string, signal?: AbortSignal): Promise<Snapshot> {
    return this.mirror.read(key, (bytes) => this.checkSnapshot(id, key, bytes), { signal });
  }

  async checkSnapshot(id: SnapshotId, key: string, bytes: Uint8Array): Promise<Snapshot> {
    try {
      const { generations } = this.state;
      return await openSnapshot(bytes, { id, key, generations, repository: this.id }, this.identities);
    } catch (error) {
      // The key is right, or the repository would not be open: the header is damaged, or somebody else's. (The name is no hash of the bytes.)
      if (!isHoldfastError(error, 'wrong_key')) throw error;
      throw new HoldfastError('damaged', `${key} does not open with the keys of this repository`, { cause: error });
    }
  }

  async checkAnnotation(id: AnnotationId, key: string, bytes: Uint8Array): Promise<Annotation> {
    try {
      const { generations } = this.state;
      return await openAnnotation(bytes, { id, key, generations, repository: this.id }, this.identities);
    } catch (error) {
      if (!isHoldfastError(error, 'wrong_key')) throw error; // see checkSnapshot
      throw new HoldfastError('damaged', `${key} does not open with the keys of this repository`, { cause: error });
    }
  }

  async checkVerified(id: VerifiedId, key: string, bytes: Uint8Array): Promise<Verified> {
    try {
      const { generations } = this.state;
      return await openVerified(bytes, { id, key, generations, repository: this.id }, this.identities);
    } catch (error) {
      if (!isHoldfastError(error, 'wrong_key')) throw error; // see checkSnapshot
      throw new HoldfastError('damaged', `${key} does not open with the keys of this repository`, { cause: error });
    }
  }

  /**
   * Finds the one snapshot that is meant; for what can be written see `selectSnapshot`. `passedOver` are those that cannot be read and may
   * have been meant, and annotations that cannot be read and may have said so. @throws `not_found`, `usage`, …
   */
  async findSnapshot(
    selector: string,
    signal?: AbortSignal,
  ): Promise<Snapshot & { backends: string[]; passedOver: { key: string; error: HoldfastError }[] }> {
    const { snapshots, problems } = await this.snapshots(signal);
    // Only then, for there may be many annotations.
    const said = selector.startsWith('tag:') ? await readAnnotations(this, undefined, signal) : undefined;
    const candidates = snapshots.map((whole) => {
      const { id, key, record } = whole;
      const { tags } = said ? whatIsSaid(whole, said.annotations) : record;
      return { whole, id, key, record: { time: record.time, tags } };
    });
    const { snapshot, passedOver } = selectSnapshot(selector, candidates, problems, this.#clock.now());
    return { ...snapshot.whole, passedOver: [...passedOver, ...(said?.problems ?? [])] };
  }

  /** Reads every index object into memory. An index that cannot be read from any backend is skipped and reported. */
  async loadIndex(signal?: AbortSignal): Promise<{ index: PackIndex; problems: RepositoryProblem[] }> {
    const look = () => this.renewIndex(new PackIndex(), signal);
    let seen = await look();
    for (let looks = 1; looks < LOOKS_MAX && seen.problems.some(mayBeReplaced); looks++) seen = await look();
    const { index, problems } = seen;
    return { index, problems };
  }

  /** Adds what indexes name now: what lay in packs that a prune has rewritten since the index was loaded has another place there. */
  async renewIndex(
    into: PackIndex,
    signal?: AbortSignal,
  ): Promise<{ index: PackIndex; problems: RepositoryProblem[] }> {
    const keys: string[] = [];
    for await (const { key } of this.mirror.list('index/', { signal })) keys.push(key);
    return this.readIndexes(keys, { into, signal });
  }

  /** Reads those of the keys that are of index objects, with `packsOnly` without the chunks, which are most of the memory; so also those of the packs in `without`. `packsOf`: for each index that could be read, by its key, the packs it names. */
  async readIndexes(
    keys: Iterable<string>,
    {
      packsOnly = false,
      without,
      into: index = new PackIndex(),
      ...options
    }: {
      packsOnly?: boolean;
      without?: ReadonlySet<PackId>;
      into?: PackIndex;
      signal?: AbortSignal | undefined;
      quiet?: boolean;
    },
  ): Promise<{ index: PackIndex; packsOf: Map<string, PackId[]>; problems: RepositoryProblem[] }> {
    const packsOf = new Map<string, PackId[]>();
    const problems: RepositoryProblem[] = [];
    await drain([...keys], INDEXES_IN_FLIGHT, async (key) => {
      const name = parseKey(key);
      if (name?.kind !== 'index') return;
      try {
        const packs = await this.mirror.read(key, (bytes) => this.checkIndex(name.id, bytes), options);
        for (const pack of packs) {
          if (packsOnly) index.addPack({ ...pack, chunks: [], frames: [] });
          else index.addPack(without?.has(pack.id) ? { ...pack, chunks: [] } : pack);
        }
        packsOf.set(
          key,
          packs.map(({ id }) => id),
        );
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        problems.push({ key, error });
      }
    });
    return { index, packsOf, problems };
  }

  checkIndex(id: string, bytes: Uint8Array) {
    return openIndex(bytes, id, { repository: this.id, chunkIdKey: this.chunkIdKey, identities: this.identities });
  }

  /** @param prefer name of the backend to read from first. */
  reader(index: PackIndex, prefer?: string): ChunkReader {
    const { mirror, identities, fileKeys, idOf, chunkIdKey } = this;
    return new ChunkReader({ mirror, index, identities, fileKeys, idOf, chunkIdKey, prefer });
  }

  writer(index: PackIndex, seams: { clock: Clock; random: Random; signal?: AbortSignal | undefined }): SnapshotWriter {
    return new SnapshotWriter({
      mirror: this.mirror,
      index,
      repository: this.id,
      recipients: this.keys.recipients,
      chunkIdKey: this.chunkIdKey,
      idOf: this.idOf,
      ...seams,
    });
  }

  /** The entries of a snapshot, in order, each checked; see `readEntries`. */
  entries(
    snapshot: Snapshot,
    reader: Pick<ChunkReader, 'inOrder'>,
    signal?: AbortSignal,
    isWanted?: (path: RawPath) => boolean,
  ): AsyncGenerator<Entry> {
    return readEntries(reader.inOrder(snapshot.record.manifest.chunks, signal), isWanted);
  }

  /** The same of what is kept apart, with the folders that lead there; nothing where the snapshot has no secrets. */
  async *secretEntries(
    snapshot: Snapshot,
    reader: ChunkReader,
    signal?: AbortSignal,
    isWanted?: (path: RawPath) => boolean,
  ): AsyncGenerator<Entry> {
    const { secrets } = snapshot.record;
    if (secrets) yield* readEntries(reader.inOrder(secrets.chunks, signal), isWanted);
  }

  /** Those of both manifests, one after the other: all that the snapshot needs. */
  async *allEntries(snapshot: Snapshot, reader: ChunkReader, signal?: AbortSignal): AsyncGenerator<Entry> {
    yield* this.entries(snapshot, reader, signal);
    yield* this.secretEntries(snapshot, reader, signal);
  }

  /** The agent's key file, as `init` wrapped it. Secret; needs restore access. */
  agentKeyFile(signal?: AbortSignal): Promise<Uint8Array> {
    const key = this.state.entry.identityObject;
    const open = (bytes: Uint8Array) => {
      checkContentName(bytes, this.keys.identity, key);
      return openAge(bytes, this.identities);
    };
    return this.mirror.read(key, open, { signal }).catch(lostIfAbsent);
  }
}
