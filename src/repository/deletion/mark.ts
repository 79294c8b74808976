/**
 * Marking what snapshots need. Manifests are read as text, each distinct chunk of them once: whatever in it looks like the id of a chunk counts as
 * one, so that no misreading can make a needed chunk look needless, and snapshots that share their manifests cost next to nothing.
 */
import type { ChunkId } from '../../entry.ts';
import type { PackIndex } from '../packs/pack-index.ts';
import type { ChunkReader } from '../packs/reader.ts';
import type { Snapshot } from '../records/snapshot.ts';

/** An id as JSON has it. */
const ID_TEXT = /"([0-9a-f]{64})"/g;
/** Of an id that two chunks of a manifest share, one has at most so many characters. */
const EDGE_CHARS = 65;

/** What is kept of a chunk of a manifest that was read: its number, and its ends. */
interface Scanned {
  number: number;
  head: string;
  tail: string;
  /** All of it is in `head`. */
  isShort: boolean;
}

export class Marks {
  readonly #index: PackIndex;
  readonly #scanned = new Map<ChunkId, Scanned>();
  /** Neighbours whose common edge was looked at, by their numbers. */
  readonly #joints = new Set<string>();
  readonly #snapshots = new Set<string>();
  /** By the number that the index gives a chunk. */
  #needed = new Uint8Array(1024);
  /** Ids in no index so far: another listing may show the index. */
  readonly #unknown = new Set<ChunkId>();

  /** @param index what the packs hold; it may grow */
  constructor(index: PackIndex) {
    this.#index = index;
  }

  /** Marks what the snapshot needs; one that was marked before costs nothing. @throws `damaged` when a chunk of its manifests cannot be had */
  async add(snapshot: Pick<Snapshot, 'id' | 'record'>, reader: ChunkReader, signal?: AbortSignal): Promise<void> {
    if (this.#snapshots.has(snapshot.id)) return;
    const { manifest, secrets } = snapshot.record;
    for (const { chunks } of [manifest, secrets ?? { chunks: [] }]) await this.#addManifest(chunks, reader, signal);
    this.#snapshots.add(snapshot.id);
  }

  /** Looks again for the chunks that were in no index. */
  resolve(): void {
    for (const id of this.#unknown) if (this.#mark(id)) this.#unknown.delete(id);
  }

  /** Whether a snapshot needs the chunk of this number of the index. */
  isNeeded(number: number): boolean {
    return this.#needed[number] === 1;
  }

  async #addManifest(chunks: readonly ChunkId[], reader: ChunkReader, signal?: AbortSignal): Promise<void> {
    for (const id of chunks) if (!this.#mark(id)) this.#unknown.add(id);
    const fresh = [...new Set(chunks)].filter((id) => !this.#scanned.has(id));
    let at = 0;
    for await (const bytes of reader.inOrder(fresh, signal)) {
      const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
      this.#take(text);
      this.#scanned.set(fresh[at++] as ChunkId, {
        number: this.#scanned.size,
        head: text.slice(0, EDGE_CHARS),
        tail: text.slice(-EDGE_CHARS),
        isShort: text.length <= EDGE_CHARS,
      });
    }
    let before = '';
    let last: Scanned | undefined;
    for (const id of chunks) {
      const one = this.#scanned.get(id);
      if (!one) continue;
      // Behind a chunk that is shorter than an id, the one before it counts too.
      const joint = last?.isShort ? undefined : `${last?.number} ${one.number}`;
      if (joint === undefined || !this.#joints.has(joint)) this.#take(before + one.head);
      if (joint !== undefined) this.#joints.add(joint);
      before = one.isShort ? (before + one.head).slice(-EDGE_CHARS) : one.tail;
      last = one;
    }
  }

  #take(text: string): void {
    for (const [, id] of text.matchAll(ID_TEXT)) if (!this.#mark(id as ChunkId)) this.#unknown.add(id as ChunkId);
  }

  /** @returns false when no index names it */
  #mark(id: ChunkId): boolean {
    const number = this.#index.numberOf(id);
    if (number < 0) return false;
    if (number >= this.#needed.length) {
      const grown = new Uint8Array(Math.max(number + 1, this.#needed.length * 2));
      grown.set(this.#needed);
      this.#needed = grown;
    }
    this.#needed[number] = 1;
    return true;
  }
}
