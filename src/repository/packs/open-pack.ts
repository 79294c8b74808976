/** From the bytes of a pack to its chunks: the same here and in a thread of its own (pack-opener.ts). */
import type { ChunkId } from '../../entry.ts';
import { openAge } from '../../crypto/age.ts';
import { isHoldfastError } from '../../errors.ts';
import { release } from '../../memory.ts';
import { openFrame } from './frame.ts';
import { checkContentName, packKey, type PackId } from '../records/object-name.ts';
import type { Frame, PackedChunk } from './pack.ts';

export interface NumberedFrame extends Frame {
  frame: number;
}

/** A pack, and what of it is wanted. */
export interface PackToOpen {
  id: PackId;
  /** For who cannot open its header; secret. */
  fileKey: Uint8Array | undefined;
  frames: readonly NumberedFrame[];
  chunks: readonly PackedChunk[];
}

/** What opens packs; secret. */
export interface PackKeys {
  identities: readonly string[];
  idOf: (bytes: Uint8Array) => ChunkId;
}

export interface OpenedFrame {
  frame: number;
  /** The caller's own; undefined when it does not decompress. */
  tar: Uint8Array | undefined;
  /** Chunks in it that are not what their ids promise. */
  wrong: ReadonlySet<ChunkId>;
}

/** The frames of a pack, one after the other. */
export type OpenedPack = AsyncIterable<OpenedFrame>;

/**
 * @param bytes the whole pack; not the caller's from here on.
 * @throws `damaged`, `wrong_key`; then nothing of it is to be trusted
 */
export async function openPack(bytes: Uint8Array, pack: PackToOpen, keys: PackKeys): Promise<OpenedPack> {
  checkContentName(bytes, pack.id, packKey(pack.id));
  const plain = await openAge(bytes, keys.identities, pack.fileKey);
  release(bytes);
  return checkedFrames(plain, pack, keys.idOf);
}

async function* checkedFrames(
  plain: Uint8Array,
  { frames, chunks }: PackToOpen,
  idOf: PackKeys['idOf'],
): AsyncGenerator<OpenedFrame> {
  const byFrame = Map.groupBy(chunks, ({ frame }) => frame);
  for await (const { frame, tar } of openFrames(plain, frames)) {
    const wrong = (byFrame.get(frame) ?? []).filter((chunk) => tar && !chunkIn(tar, chunk, idOf));
    yield { frame, tar, wrong: new Set(wrong.map(({ id }) => id)) };
  }
}

/** A chunk's bytes, or undefined when what is there is not the chunk. */
export function chunkIn(
  tar: Uint8Array,
  { id, offset, length }: Pick<PackedChunk, 'id' | 'offset' | 'length'>,
  idOf: PackKeys['idOf'],
): Uint8Array | undefined {
  const bytes = tar.subarray(offset, offset + length);
  return bytes.length === length && idOf(bytes) === id ? bytes : undefined;
}

/**
 * The frames of a decrypted pack, one after the other, the next being opened while one is looked at; undefined for one that does not open.
 * They are the caller's own; `plain` is given back at the end.
 */
export async function* openFrames(
  plain: Uint8Array,
  frames: readonly NumberedFrame[],
): AsyncGenerator<{ frame: number; tar: Uint8Array | undefined }> {
  const open = (entry: NumberedFrame | undefined) =>
    entry && unlessBad(openFrame(plain.subarray(entry.offset, entry.offset + entry.length), entry.tarBytes));
  let next = open(frames[0]);
  for (const [i, { frame }] of frames.entries()) {
    const tar = await next;
    next = open(frames[i + 1]);
    yield { frame, tar };
  }
  release(plain);
}

async function unlessBad<T>(opening: Promise<T>): Promise<T | undefined> {
  try {
    return await opening;
  } catch (error) {
    if (isHoldfastError(error, 'damaged')) return undefined;
    throw error;
  }
}
