/**
 * Which pack holds which chunk. In memory a table of 56 bytes a chunk, and up to twice that while there is room to grow; in the repository, index objects that list whole packs.
 */
import { assert, HoldfastError } from '../../errors.ts';
import type { ChunkId } from '../../entry.ts';
import type { Frame, PackedChunk, PackKind } from './pack.ts';
import type { PackId } from '../records/object-name.ts';
import { objectIn } from '../../json.ts';

/** A pack as an index object describes it. */
export interface IndexedPack {
  id: PackId;
  kind: PackKind;
  /** Bytes of the object as stored. */
  storedBytes: number;
  /** Where the encrypted payload begins, after age's header and nonce. */
  payloadOffset: number;
  frames: Frame[];
  chunks: PackedChunk[];
}

/** What stays in memory of a pack. */
export type PackInfo = Omit<IndexedPack, 'chunks'>;

export interface ChunkLocation {
  /** Position in `packs`. */
  pack: number;
  frame: number;
  offset: number;
  length: number;
}

const ID_BYTES = 32;
const ID_WORDS = ID_BYTES / 4;
const PENDING = 0xffff_ffff;

/** The same memory, which `Buffer.alloc` aligns, by 32 bits: compared word by word, without a call. */
const wordsOf = (bytes: Buffer): Uint32Array => new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);

/**
 * Chunk id -> location: open addressing over typed arrays. Ids are outputs of a MAC, so their first bytes serve as the hash.
 */
export class PackIndex {
  readonly packs: PackInfo[] = [];
  readonly #packNumbers = new Map<PackId, number>();
  /** Of the few chunks that are stored more than once: by runs side by side, or again because a pack was lost. */
  readonly #others = new Map<ChunkId, ChunkLocation[]>();
  #ids = Buffer.alloc(1024 * ID_BYTES);
  #places = new Uint32Array(1024 * 4); // pack, frame, offset, length
  #slots = new Uint32Array(2048); // chunk number + 1; 0 is free
  #count = 0;
  #idWords = wordsOf(this.#ids);
  readonly #probe = Buffer.alloc(ID_BYTES);
  readonly #probeWords = wordsOf(this.#probe);

  /** Number of distinct chunks. */
  get size(): number {
    return this.#count;
  }

  has(id: ChunkId): boolean {
    return this.#find(id) >= 0;
  }

  /** Bytes of a known chunk, or undefined. */
  lengthOf(id: ChunkId): number | undefined {
    const number = this.#find(id);
    return number < 0 ? undefined : this.#places[number * 4 + 3];
  }

  /** Where a chunk is; undefined when it is unknown or its pack is not sealed yet. */
  locate(id: ChunkId): ChunkLocation | undefined {
    const number = this.#find(id);
    if (number < 0) return undefined;
    const [pack, frame, offset, length] = this.#places.subarray(number * 4, number * 4 + 4);
    assert(
      pack !== undefined && frame !== undefined && offset !== undefined && length !== undefined,
      'a chunk has a place',
    );
    return pack === PENDING ? undefined : { pack, frame, offset, length };
  }

  /** Notes a chunk that goes into a pack not sealed yet, so that it is stored once. */
  addPending(id: ChunkId, length: number): void {
    this.#put(id, PENDING, 0, 0, length);
  }

  /** The other places of a chunk that lies in several packs: for when its first cannot be read. */
  elsewhere(id: ChunkId): readonly ChunkLocation[] {
    return this.#others.get(id) ?? [];
  }

  /** The chunk's number, from 0 in the order in which chunks became known; -1 of one that is unknown. It stays what it is. */
  numberOf(id: ChunkId): number {
    return this.#find(id);
  }

  /** The chunk of this number, and all places where it lies in sealed packs. */
  chunkAt(number: number): { id: ChunkId; places: ChunkLocation[] } {
    const id = this.#ids.toString('hex', number * ID_BYTES, (number + 1) * ID_BYTES) as ChunkId;
    return { id, places: [this.locate(id) ?? [], ...this.elsewhere(id)].flat() };
  }

  /** Adds a pack with its chunks. A chunk that is known already keeps its first place, and has one more. */
  addPack(pack: IndexedPack): void {
    if (this.#packNumbers.has(pack.id)) return;
    const { chunks, ...info } = pack;
    const number = this.packs.push(info) - 1;
    this.#packNumbers.set(pack.id, number);
    for (const { id, frame, offset, length } of chunks) {
      const isNew = this.#put(id, number, frame, offset, length);
      if (!isNew) this.#others.set(id, [...this.elsewhere(id), { pack: number, frame, offset, length }]);
    }
  }

  /** The same without the chunks of these packs, but for those that lie in another one too. The packs themselves keep their numbers. */
  without(lost: ReadonlySet<PackId>): PackIndex {
    const kept = new PackIndex();
    for (const info of this.packs) kept.#packNumbers.set(info.id, kept.packs.push(info) - 1);
    for (let number = 0; number < this.#count; number++) {
      const { id, places } = this.chunkAt(number);
      const [first, ...others] = places.filter(({ pack }) => !lost.has(this.packs[pack]?.id as PackId));
      if (!first) continue;
      kept.#put(id, first.pack, first.frame, first.offset, first.length);
      if (others.length > 0) kept.#others.set(id, others);
    }
    return kept;
  }

  /** False when the chunk has a place already. */
  #put(id: ChunkId, pack: number, frame: number, offset: number, length: number): boolean {
    let number = this.#find(id);
    if (number >= 0 && this.#places[number * 4] !== PENDING) return false;
    if (number < 0) {
      number = this.#count++;
      if (number * ID_BYTES >= this.#ids.length) this.#grow();
      this.#ids.set(this.#probe, number * ID_BYTES);
      this.#insertSlot(number);
    }
    const at = number * 4;
    const places = this.#places;
    places[at] = pack;
    places[at + 1] = frame;
    places[at + 2] = offset;
    places[at + 3] = length;
    return true;
  }

  /** The number of the chunk, or -1; leaves the bytes of the id in `#probe`. */
  #find(id: ChunkId): number {
    if (this.#probe.write(id, 0, 'hex') !== ID_BYTES) return -1;
    const [ids, probe, mask] = [this.#idWords, this.#probeWords, this.#slots.length - 1];
    const first = probe[0] as number;
    for (let slot = first & mask; ; slot = (slot + 1) & mask) {
      const found = this.#slots[slot];
      if (found === undefined || found === 0) return -1;
      const at = (found - 1) * ID_WORDS;
      let word = 0;
      while (word < ID_WORDS && ids[at + word] === probe[word]) word++;
      if (word === ID_WORDS) return found - 1;
    }
  }

  #insertSlot(number: number): void {
    const mask = this.#slots.length - 1;
    let slot = (this.#idWords[number * ID_WORDS] as number) & mask;
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
    this.#slots[slot] = number + 1;
  }

  #grow(): void {
    const ids = Buffer.alloc(this.#ids.length * 2);
    ids.set(this.#ids);
    this.#ids = ids;
    this.#idWords = wordsOf(ids);
    const places = new Uint32Array(this.#places.length * 2);
    places.set(this.#places);
    this.#places = places;
    this.#slots = new Uint32Array(this.#slots.length * 2);
    for (let number = 0; number < this.#count - 1; number++) this.#insertSlot(number);
  }
}

/** One line of an index object. */
export function indexLine(pack: IndexedPack): string {
  return JSON.stringify({
    pack: pack.id,
    kind: pack.kind,
    size: pack.storedBytes,
    payload: pack.payloadOffset,
    frames: pack.frames.map((frame) => [frame.offset, frame.length, frame.tarBytes]),
    chunks: pack.chunks.map((chunk) => [chunk.id, chunk.frame, chunk.offset, chunk.length]),
  });
}

/**
 * Reads a line of an index object. Checked by hand, not by a schema: there is one row for each chunk of the repository.
 * @throws `damaged` when anything is not as `indexLine` writes it.
 */
export function parseIndexLine(line: string): IndexedPack {
  const value = objectIn(line);
  if (!value) throw malformed('not a JSON object');
  const { pack, kind, size, payload, frames, chunks } = value;
  if (typeof pack !== 'string' || !HEX64.test(pack)) throw malformed('pack');
  if (kind !== 'data' && kind !== 'manifest') throw malformed('kind');
  if (!isCount(size) || !isCount(payload)) throw malformed('size');
  if (!Array.isArray(frames) || !Array.isArray(chunks)) throw malformed('frames or chunks');
  const table = frames.map((row: unknown): Frame => {
    if (!Array.isArray(row) || row.length !== 3) throw malformed('frame');
    const [offset, length, tarBytes]: unknown[] = row;
    if (!isCount(offset) || !isCount(length) || !isCount(tarBytes)) throw malformed('frame');
    return { offset, length, tarBytes };
  });
  const rows = chunks.map((row: unknown): PackedChunk => {
    if (!Array.isArray(row) || row.length !== 4) throw malformed('chunk');
    const [id, frame, offset, length]: unknown[] = row;
    if (typeof id !== 'string' || !HEX64.test(id) || !isCount(frame) || !isCount(offset) || !isCount(length))
      throw malformed('chunk');
    const holder = table[frame];
    if (!holder || offset + length > holder.tarBytes) throw malformed('chunk outside its frame');
    return { id: id as ChunkId, frame, offset, length };
  });
  return { id: pack as PackId, kind, storedBytes: size, payloadOffset: payload, frames: table, chunks: rows };
}

const HEX64 = /^[0-9a-f]{64}$/;

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff;
}

function malformed(what: string): HoldfastError {
  return new HoldfastError('damaged', `a line of the index is malformed (${what})`);
}
