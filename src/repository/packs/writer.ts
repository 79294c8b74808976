/**
 * Writing one snapshot. The order on each backend is fixed: packs, then the index that names them, then the snapshot (I1). Every object is
 * sealed once and the same bytes go to all backends.
 */
import { HoldfastError, throwIfAborted } from '../../errors.ts';
import type { Clock, Random } from '../../clock.ts';
import type { ChunkId } from '../../entry.ts';
import { sealAge } from '../../crypto/age.ts';
import { sha256Hex } from '../../crypto/hash.ts';
import type { Mirror } from '../../backend/mirror.ts';
import {
  INDEX_FLUSH_CHUNKS,
  INDEX_FLUSH_MS,
  INDEX_FLUSH_PACKS,
  PACK_STORED_MAX_BYTES,
  UPLOADS_IN_FLIGHT,
} from '../../limits.ts';
import { type Signer, type SnapshotRecord } from '../records/format.ts';
import { release } from '../../memory.ts';
import { indexKey, packKey, snapshotKey, type PackId } from '../records/object-name.ts';
import { sealIndex } from './index-object.ts';
import { FrameBuffers, PackBuilder, type PackKind } from './pack.ts';
import { FRAMES_IN_FLIGHT } from './frame.ts';
import type { IndexedPack, PackIndex } from './pack-index.ts';
import { sealSnapshot, type Snapshot } from '../records/snapshot.ts';

export interface WriterOptions {
  mirror: Mirror;
  index: PackIndex;
  repository: string;
  recipients: { restore: readonly string[]; writer: readonly string[] };
  chunkIdKey: Uint8Array;
  idOf: (bytes: Uint8Array) => ChunkId;
  clock: Clock;
  random: Random;
  signal?: AbortSignal | undefined;
}

/** What a run has added so far. */
export interface WriterTotals {
  packs: number;
  /** Bytes of chunks that were not there before. */
  addedBytes: number;
  /** Bytes of new objects on each backend. */
  storedBytes: number;
  /** Of these, chunks of files and the packs with them. */
  data: { addedBytes: number; storedBytes: number };
}

export class SnapshotWriter {
  readonly totals: WriterTotals = {
    packs: 0,
    addedBytes: 0,
    storedBytes: 0,
    data: { addedBytes: 0, storedBytes: 0 },
  };
  readonly #options: WriterOptions;
  readonly #buffers = new FrameBuffers();
  readonly #builders = new Map<PackKind, PackBuilder>();
  readonly #jobs = new Set<Promise<void>>();
  #sealed: Promise<unknown> = Promise.resolve();
  #unindexed: IndexedPack[] = [];
  #indexing: Promise<void> = Promise.resolve();
  #lastIndexAt: number;
  #failure: unknown;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#lastIndexAt = options.clock.monotonic();
  }

  /** Bytes of a chunk that the repository (or this run) has already, or undefined. */
  lengthOf(id: ChunkId): number | undefined {
    return this.#options.index.lengthOf(id);
  }

  /** Stores a chunk unless it is there. The bytes are copied; await `ready()` now and then. */
  add(bytes: Uint8Array, kind: PackKind): ChunkId {
    const { index, idOf } = this.#options;
    const id = idOf(bytes);
    if (index.has(id)) return id;
    index.addPending(id, bytes.length);
    let builder = this.#builders.get(kind);
    if (builder && !builder.fits(bytes.length)) {
      this.#close(builder);
      builder = undefined;
    }
    if (!builder) this.#builders.set(kind, (builder = new PackBuilder(kind, this.#buffers)));
    builder.add(id, bytes);
    this.totals.addedBytes += bytes.length;
    if (kind === 'data') this.totals.data.addedBytes += bytes.length;
    return id;
  }

  /** Back-pressure: undefined when more may be added at once, else resolves when memory allows. Throws what went wrong in the background. */
  ready(): Promise<void> | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    throwIfAborted(this.#options.signal);
    if (this.#jobs.size < UPLOADS_IN_FLIGHT && this.#buffers.inUse <= FRAMES_IN_FLIGHT) return undefined;
    return this.#settle();
  }

  /** Seals what is open and waits until all packs and their index are durable. */
  async flush(): Promise<void> {
    for (const builder of this.#builders.values()) this.#close(builder);
    await this.#finishJobs();
    if (this.#failure !== undefined) throw this.#failure;
    this.#flushIndex();
    await this.#options.mirror.hurry(this.#indexing, 1);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** After an error or a signal: keeps the packs that are stored already by writing their index (I5). Never throws. */
  async salvage(): Promise<void> {
    await this.#finishJobs();
    await this.#indexing;
    if (this.#unindexed.length === 0) return;
    await this.#writeIndex(this.#takeUnindexed(), undefined).catch(() => undefined);
  }

  /** Writes the snapshot, last of all. `flush` must have succeeded. */
  async commit(record: SnapshotRecord, signer: Signer): Promise<Snapshot> {
    const { mirror, recipients, random, signal } = this.#options;
    const { id, bytes } = await sealSnapshot(record, signer, [...recipients.restore, ...recipients.writer], random);
    const key = snapshotKey(Date.parse(record.time), id);
    await mirror.hurry(mirror.put(key, bytes, { ifAbsent: true, signal }), 1);
    this.totals.storedBytes += bytes.length;
    return { id, record, key };
  }

  #close(builder: PackBuilder): void {
    this.#builders.delete(builder.kind);
    if (builder.isEmpty) return;
    const job = this.#store(builder)
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#jobs.delete(job));
    this.#jobs.add(job);
  }

  async #store(builder: PackBuilder): Promise<void> {
    const { mirror, signal, index, clock } = this.#options;
    const sealing = this.#seal(builder, this.#sealed);
    this.#sealed = sealing.catch(() => undefined);
    const { plain, bytes, payloadOffset } = await sealing;
    if (bytes.length > PACK_STORED_MAX_BYTES)
      throw new HoldfastError('bug', `a pack came out as ${bytes.length} bytes`);
    const id = sha256Hex(bytes) as PackId;
    const storedBytes = bytes.length;
    await mirror.put(packKey(id), bytes, { ifAbsent: true, signal });
    release(bytes);
    const pack: IndexedPack = {
      id,
      kind: builder.kind,
      storedBytes,
      payloadOffset,
      frames: plain.table,
      chunks: plain.chunks,
    };
    index.addPack(pack);
    this.totals.packs++;
    this.totals.storedBytes += storedBytes;
    if (builder.kind === 'data') this.totals.data.storedBytes += storedBytes;
    this.#unindexed.push(pack);
    const due = clock.monotonic() - this.#lastIndexAt >= INDEX_FLUSH_MS;
    const chunks = this.#unindexed.reduce((sum, one) => sum + one.chunks.length, 0);
    if (this.#unindexed.length >= INDEX_FLUSH_PACKS || chunks >= INDEX_FLUSH_CHUNKS || due) this.#flushIndex();
  }

  /** Packs are sealed in the order in which they were closed, whichever frames were ready first. */
  async #seal(builder: PackBuilder, before: Promise<unknown>) {
    const plain = await builder.finish();
    await before;
    const { recipients, random } = this.#options;
    const sealed = await sealAge(plain.frames, recipients.restore, random);
    for (const frame of plain.frames) release(frame);
    return { plain, ...sealed };
  }

  #takeUnindexed(): IndexedPack[] {
    const packs = this.#unindexed;
    this.#unindexed = [];
    return packs;
  }

  #flushIndex(): void {
    if (this.#unindexed.length === 0) return;
    const packs = this.#takeUnindexed();
    this.#lastIndexAt = this.#options.clock.monotonic();
    this.#indexing = this.#indexing
      .then(() => this.#writeIndex(packs, this.#options.signal))
      .catch((error: unknown) => {
        this.#failure ??= error;
        this.#unindexed.push(...packs); // for salvage
      });
  }

  async #writeIndex(packs: readonly IndexedPack[], signal: AbortSignal | undefined): Promise<void> {
    const { mirror, repository, recipients, chunkIdKey, random } = this.#options;
    const bytes = await sealIndex(packs, {
      repository,
      chunkIdKey,
      recipients: [...recipients.restore, ...recipients.writer],
      random,
    });
    await mirror.put(indexKey(sha256Hex(bytes)), bytes, { ifAbsent: true, signal });
    this.totals.storedBytes += bytes.length;
  }

  async #settle(): Promise<void> {
    while (
      this.#failure === undefined &&
      (this.#jobs.size >= UPLOADS_IN_FLIGHT || this.#buffers.inUse > FRAMES_IN_FLIGHT)
    ) {
      throwIfAborted(this.#options.signal);
      const next = Promise.race([...this.#jobs, this.#buffers.given()]);
      await this.#options.mirror.hurry(next, this.#jobs.size);
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #finishJobs(): Promise<void> {
    while (this.#jobs.size > 0) await this.#options.mirror.hurry(Promise.race(this.#jobs), this.#jobs.size);
  }
}
