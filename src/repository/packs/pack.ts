/**
 * Packs: many chunks in one object. The plaintext is a tar archive whose members are chunks, cut into frames; each frame is
 * an independent zstd frame, so `zstd -d | tar t` reads the whole and a ranged read opens just one.
 */
import { Header } from 'tar/header';
import { assert } from '../../errors.ts';
import type { ChunkId } from '../../entry.ts';
import { CHUNK_MAX_BYTES, FRAME_TAR_TARGET_BYTES, PACK_TAR_MAX_BYTES } from '../../limits.ts';
import { compressFrame } from './frame.ts';

const BLOCK_BYTES = 512;
const END_OF_ARCHIVE_BYTES = 2 * BLOCK_BYTES;
/** A frame one byte short of its target, one more chunk of the longest kind with header and padding, and the end of the archive. */
const BUFFER_BYTES = FRAME_TAR_TARGET_BYTES + CHUNK_MAX_BYTES + 4 * BLOCK_BYTES;

/** Data of files and of manifests live in different packs: a listing of the tree fetches no file data. */
export type PackKind = 'data' | 'manifest';

/** Where a frame lies: bytes `[offset, offset + length)` of the age plaintext; `tarBytes` when decompressed. */
export interface Frame {
  offset: number;
  length: number;
  tarBytes: number;
}

/** A chunk's bytes: `[offset, offset + length)` of the decompressed frame. */
export interface PackedChunk {
  id: ChunkId;
  frame: number;
  offset: number;
  length: number;
}

export interface PackPlain {
  /** The compressed frames, in order; their concatenation is the plaintext of the age file. */
  frames: Uint8Array[];
  table: Frame[];
  chunks: PackedChunk[];
}

/** Bytes that a chunk takes in the tar: header, data, padding. */
function memberBytes(length: number): number {
  return BLOCK_BYTES + Math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES;
}

/** Collects chunks into one pack. Full frames are compressed at once, in other threads. */
export class PackBuilder {
  readonly kind: PackKind;
  readonly #buffers: FrameBuffers;
  readonly #chunks: PackedChunk[] = [];
  readonly #compressed: Promise<Uint8Array>[] = [];
  readonly #tarLengths: number[] = [];
  #frame: Buffer | undefined;
  #used = 0;
  #tarBytes = 0;

  constructor(kind: PackKind, buffers: FrameBuffers) {
    this.kind = kind;
    this.#buffers = buffers;
  }

  get isEmpty(): boolean {
    return this.#chunks.length === 0;
  }

  /** True when a chunk of this length still fits below `PACK_TAR_MAX_BYTES`. */
  fits(length: number): boolean {
    return this.#tarBytes + this.#used + memberBytes(length) + END_OF_ARCHIVE_BYTES <= PACK_TAR_MAX_BYTES;
  }

  /** Copies a chunk in and returns its place. */
  add(id: ChunkId, bytes: Uint8Array): PackedChunk {
    assert(this.fits(bytes.length), 'a chunk goes only into a pack with room for it');
    const frame = (this.#frame ??= this.#buffers.take());
    const data = this.#used + BLOCK_BYTES;
    writeHeader(frame, this.#used, id, bytes.length);
    frame.set(bytes, data);
    const end = this.#used + memberBytes(bytes.length);
    frame.fill(0, data + bytes.length, end);
    const chunk = { id, frame: this.#compressed.length, offset: data, length: bytes.length };
    this.#chunks.push(chunk);
    this.#used = end;
    if (end >= FRAME_TAR_TARGET_BYTES) this.#closeFrame();
    return chunk;
  }

  /** Ends the archive and waits for the compression of every frame. */
  async finish(): Promise<PackPlain> {
    const frame = (this.#frame ??= this.#buffers.take());
    frame.fill(0, this.#used, this.#used + END_OF_ARCHIVE_BYTES);
    this.#used += END_OF_ARCHIVE_BYTES;
    this.#closeFrame();
    const frames = await Promise.all(this.#compressed);
    let offset = 0;
    const table = frames.map((bytes, i) => {
      const entry = { offset, length: bytes.length, tarBytes: this.#tarLengths[i] ?? 0 };
      offset += bytes.length;
      return entry;
    });
    return { frames, table, chunks: this.#chunks };
  }

  #closeFrame(): void {
    const frame = this.#frame;
    assert(frame, 'a frame is open');
    this.#tarLengths.push(this.#used);
    this.#tarBytes += this.#used;
    const job = this.#buffers.compress(frame, this.#used);
    job.catch(() => undefined); // reported by finish(); never as an unhandled rejection before it
    this.#compressed.push(job);
    this.#frame = undefined;
    this.#used = 0;
  }
}

const NAME_AT = 0;
const SIZE_AT = 124;
const SIZE_DIGITS = 10;
const SUM_AT = 148;
const SUM_DIGITS = 6;

/** The header of a member without a name or data, as the tar package writes it, and the sum of its bytes. */
const blank = (() => {
  const block = Buffer.alloc(BLOCK_BYTES);
  new Header({ path: '', size: 0, mode: 0o600, type: 'File', mtime: new Date(0), uid: 0, gid: 0 }).encode(block);
  const sum = Number.parseInt(block.toString('latin1', SUM_AT, SUM_AT + SUM_DIGITS), 8);
  return { block, sum };
})();

/** Fills in what differs from member to member: the package takes 20 µs for each header, this takes one. */
function writeHeader(block: Buffer, at: number, id: ChunkId, length: number): void {
  block.set(blank.block, at);
  block.write(id, at + NAME_AT, 'latin1');
  const size = length.toString(8).padStart(SIZE_DIGITS, '0');
  block.write(size, at + SIZE_AT, 'latin1');
  let sum = blank.sum - SIZE_DIGITS * 0x30;
  for (let i = 0; i < id.length; i++) sum += id.charCodeAt(i);
  for (let i = 0; i < SIZE_DIGITS; i++) sum += size.charCodeAt(i);
  block.write(sum.toString(8).padStart(SUM_DIGITS, '0'), at + SUM_AT, 'latin1');
}

/** Frame-sized buffers that are used again and again, so that memory stays flat however much is packed. */
export class FrameBuffers {
  readonly #free: Buffer[] = [];
  #inUse = 0;
  #waiting: (() => void)[] = [];

  /** Buffers being filled or compressed. */
  get inUse(): number {
    return this.#inUse;
  }

  take(): Buffer {
    this.#inUse++;
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
  }

  /** Compresses the first `tarBytes` of a buffer that was taken; the buffer is not the caller's from here on. */
  async compress(buffer: Buffer, tarBytes: number): Promise<Uint8Array> {
    try {
      const packed = await compressFrame(buffer.subarray(0, tarBytes));
      this.#free.push(buffer);
      return packed;
    } finally {
      this.#inUse--;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const wake of waiting) wake();
    }
  }

  /** Resolves when a buffer has come back. */
  given(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
