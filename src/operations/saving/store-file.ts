/** Files into chunks: what is read is cut, and what of it the repository has not is stored. */
import type { ChunkId } from '../../entry.ts';
import { READ_BUFFER_BYTES } from '../../limits.ts';
import type { RawPath } from '../../raw-path.ts';
import { ChunkStream, type Repository, type SnapshotWriter } from '../../repository/repository.ts';
import { readFile, type ReadResult } from '../../state/read-file.ts';
import { isSqlite } from '../../state/sqlite.ts';
import { TextureSampler, type Texture } from '../../state/texture.ts';
import type { LogWatch } from './save-log.ts';

export interface StoredFile {
  read: ReadResult;
  chunks: ChunkId[];
  /** Whether the repository lacked any of its chunks. */
  isNew: boolean;
  /** Whether it is a blank template of its profile, as far as that can be told. */
  isScaffold: boolean;
  texture: Texture | undefined;
}

export interface StoreOptions {
  isScaffold: ((path: RawPath, bytes: Uint8Array) => boolean) | undefined;
  signal: AbortSignal | undefined;
  /** For logs, wall clock in milliseconds. */
  now: number;
}

export class FileStore {
  /** Read from the disk so far; holes are not. */
  readBytes = 0;
  readonly #repository: Repository;
  readonly #writer: SnapshotWriter;
  readonly #options: StoreOptions;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
  #turnAtBytes = TURN_BYTES;

  constructor(repository: Repository, writer: SnapshotWriter, options: StoreOptions) {
    this.#repository = repository;
    this.#writer = writer;
    this.#options = options;
  }

  /**
   * Reads and stores the file at `path` in the folder `root`, of `size` bytes as far as is known. Undefined when it is a database, and is not to be
   * stored as it lies there: then nothing of it is.
   */
  async store(
    root: string,
    { path, size }: { path: RawPath; size: number },
    { log, isCopy = false }: { log?: LogWatch | undefined; isCopy?: boolean },
  ): Promise<StoredFile | undefined> {
    const chunks: ChunkId[] = [];
    let [isNew, isScaffold] = [false, false];
    const texture = new TextureSampler();
    const stream = new ChunkStream(this.#repository.cut, this.#repository.record.chunker, (bytes) => {
      const before = this.#writer.totals.addedBytes;
      const id = this.#writer.add(bytes, 'data');
      chunks.push(id);
      log?.chunk(id, bytes);
      if (this.#writer.totals.addedBytes !== before) isNew = true;
    });
    const { signal, now } = this.#options;
    const pieces = readFile(root, path, { buffer: this.#buffer, signal, logAtMs: log && now });
    let seen = 0;
    for (;;) {
      const step = pieces.next();
      if (step.done) {
        stream.end();
        if ('extras' in step.value) for (const { length } of step.value.extras.holes ?? []) this.readBytes -= length;
        return { read: step.value, chunks, isNew, isScaffold, texture: texture.texture };
      }
      if (seen === 0 && !isCopy && isSqlite(step.value)) {
        pieces.return({ outcome: 'vanished', reason: 'is a database' }); // closes the file
        return undefined;
      }
      if (seen === 0 && step.value.length === size) isScaffold = this.#options.isScaffold?.(path, step.value) ?? false;
      seen += step.value.length;
      this.readBytes += step.value.length;
      texture.see(step.value);
      stream.push(step.value, seen === size);
      await this.#writer.ready();
      if (this.readBytes >= this.#turnAtBytes) await this.#takeTurn();
    }
  }

  /** Answers of other threads wait until this one is idle, and those threads for their next work. */
  async #takeTurn(): Promise<void> {
    this.#turnAtBytes = this.readBytes + TURN_BYTES;
    await new Promise(setImmediate);
  }
}

const TURN_BYTES = 512 * 1024;
