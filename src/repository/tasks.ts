/**
 * The work on bytes that any thread can do: compressing frames, sealing packs, opening packs. Functions of their arguments alone, which
 * can be copied or moved to another thread; threads.ts decides where they run.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Random } from '../clock.ts';
import type { ChunkId } from '../entry.ts';
import { openAge, sealAge } from '../crypto/age.ts';
import { chunkIdFunction } from '../crypto/chunk-id.ts';
import { sha256Hex } from '../crypto/hash.ts';
import { HoldfastError } from '../errors.ts';
import { FRAME_TAR_MAX_BYTES } from '../limits.ts';
import { checkContentName } from './object-name.ts';

const ZSTD_LEVEL = 3;

/** What can be asked for, and what comes back. */
export interface Tasks {
  /** `tar` lies in shared memory, and must not change until the answer is there. */
  compress: { ask: { tar: Uint8Array }; answer: Uint8Array };
  seal: { ask: { frames: readonly Uint8Array[]; recipients: readonly string[] }; answer: SealedPack };
  open: { ask: PackToOpen; answer: OpenedPack };
}

export interface SealedPack {
  bytes: Uint8Array;
  /** SHA-256 of the bytes. */
  id: string;
  payloadOffset: number;
}

export interface PackToOpen {
  key: string;
  /** The hash in the key. */
  id: string;
  /** As stored. */
  bytes: Uint8Array;
  identities: readonly string[];
  /** The frames that are wanted: their places in the plaintext. */
  frames: readonly { frame: number; offset: number; length: number; tarBytes: number }[];
  /** The chunks in them to be held against their ids, with the key of the ids. */
  chunks: readonly { id: ChunkId; frame: number; offset: number; length: number }[];
  chunkIdKey: Uint8Array;
  /** False when the frames themselves are not needed. */
  keep: boolean;
}

export interface OpenedPack {
  /** The decompressed frames, by number; empty without `keep`. */
  frames: Map<number, Uint8Array>;
  /** Chunks that are not what their id says. */
  wrong: ChunkId[];
}

/** Does a task here and now. */
export const perform: { [K in keyof Tasks]: (ask: Tasks[K]['ask'], random: Random) => Promise<Tasks[K]['answer']> } = {
  compress: ({ tar }) => Promise.resolve(compressFrame(tar)),
  async seal({ frames, recipients }, random) {
    const { bytes, payloadOffset } = await sealAge(frames, recipients, random);
    return { bytes, payloadOffset, id: sha256Hex(bytes) };
  },
  async open({ key, id, bytes, identities, frames, chunks, chunkIdKey, keep }) {
    checkContentName(bytes, id, key);
    const plain = await openAge(bytes, identities);
    const idOf = chunkIdFunction(chunkIdKey);
    const opened = new Map<number, Uint8Array>();
    const wrong: ChunkId[] = [];
    for (const { frame, offset, length, tarBytes } of frames) {
      const tar = openFrame(plain.subarray(offset, offset + length), tarBytes);
      for (const chunk of chunks) {
        if (chunk.frame !== frame) continue;
        const data = tar.subarray(chunk.offset, chunk.offset + chunk.length);
        if (data.length !== chunk.length || idOf(data) !== chunk.id) wrong.push(chunk.id);
      }
      if (keep) opened.set(frame, tar);
    }
    return { frames: opened, wrong };
  },
};

/** The memory of an answer, which moves to the thread that asked. All of it belongs to the answer alone. */
export function memoryOf(answer: Tasks[keyof Tasks]['answer']): ArrayBuffer[] {
  const arrays =
    answer instanceof Uint8Array ? [answer] : 'bytes' in answer ? [answer.bytes] : [...answer.frames.values()];
  return arrays.map((bytes) => bytes.buffer as ArrayBuffer);
}

/** Compresses a frame, opens the result again and compares: bad memory is caught before it becomes a backup (I10). */
export function compressFrame(tar: Uint8Array): Uint8Array {
  const packed = zstdCompressSync(tar, {
    params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL },
    chunkSize: Math.max(MIN_CHUNK_SIZE, Math.ceil(tar.length / 4)),
  });
  if (Buffer.compare(openFrame(packed, tar.length), tar) !== 0) {
    throw new HoldfastError('bug', 'compressed data did not decompress to what it was made from', {
      hint: 'Nothing was stored. Test the memory of this machine.',
    });
  }
  return new Uint8Array(packed); // its own memory, no larger than need be
}

/** zlib's least. Output comes in pieces of this option's size, each allocated whole, and another after a full one: one piece with a little room is the fastest. */
const MIN_CHUNK_SIZE = 64;

/**
 * Decompresses one frame, into memory of its own.
 * @throws `damaged` when it is no zstd frame or not exactly `tarBytes` long, without ever allocating more than that.
 */
export function openFrame(compressed: Uint8Array, tarBytes: number): Uint8Array {
  if (tarBytes < 0 || tarBytes > FRAME_TAR_MAX_BYTES) {
    throw new HoldfastError('damaged', `a frame of ${tarBytes} bytes is over the limit`);
  }
  let tar: Buffer;
  try {
    tar = zstdDecompressSync(compressed, {
      maxOutputLength: Math.max(1, tarBytes),
      chunkSize: tarBytes + MIN_CHUNK_SIZE,
    });
  } catch (cause) {
    throw new HoldfastError('damaged', 'a frame of the pack does not decompress', { cause });
  }
  if (tar.length !== tarBytes) {
    throw new HoldfastError('damaged', `a frame has ${tar.length} bytes where the index says ${tarBytes}`);
  }
  return tar.buffer.byteLength === tarBytes + MIN_CHUNK_SIZE ? tar : new Uint8Array(tar);
}
