/** Reading chunks back: whole packs or ranges of them, every chunk held against its id before it is handed out. */
import { HoldfastError, isHoldfastError } from '../../errors.ts';
import type { ChunkId } from '../../entry.ts';
import { blocksFor, openAgeHeader } from '../../crypto/age.ts';
import type { Mirror } from '../../backend/mirror.ts';
import { lostIfAbsent, packKey } from '../records/object-name.ts';
import { chunkIn, openPack, type NumberedFrame, type OpenedPack, type PackToOpen } from './open-pack.ts';
import { PackOpener } from './pack-opener.ts';
import type { ChunkLocation, PackIndex, PackInfo } from './pack-index.ts';
import { release } from '../../memory.ts';
import { openFrame } from './frame.ts';
import type { FileKeys } from '../keys/grants.ts';

/** From this share of a pack on, one request for the whole is cheaper than ranges. */
const WHOLE_PACK_SHARE = 0.5;
/** Frames kept while chunks are read in order. */
const FRAMES_KEPT = 12;
/** How far ahead a read in order looks for chunks of the same pack. */
const LOOK_AHEAD_CHUNKS = 256;

export interface WantedChunk {
  id: ChunkId;
  location: ChunkLocation;
}

export interface ReaderOptions {
  mirror: Mirror;
  index: PackIndex;
  identities: readonly string[];
  /** Of packs that the identities do not open. */
  fileKeys: FileKeys;
  idOf: (bytes: Uint8Array) => ChunkId;
  /** That of `idOf`. */
  chunkIdKey: Uint8Array;
  /** Name of the backend to read from first. */
  prefer?: string | undefined;
}

/**
 * Called with each frame that could be had, decompressed, which is its own from then on.
 * @param wrong chunks in it that are not what their ids promise; undefined when that is still to be seen.
 */
type TakeFrame = (frame: number, tar: Uint8Array, wrong?: ReadonlySet<ChunkId>) => void;

export class ChunkReader {
  readonly #options: ReaderOptions;

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /** @throws `damaged` when no index names the chunk. */
  locate(id: ChunkId): ChunkLocation {
    const location = this.#options.index.locate(id);
    if (!location) {
      throw new HoldfastError('damaged', `chunk ${id.slice(0, 16)}… is in no index`, {
        hint: 'An index object is lost. Run `holdfast verify --level listing`, and restore from another backend.',
      });
    }
    return location;
  }

  /** A thread for `fromPack`, where much is to be read: see PackOpener. */
  opener(): PackOpener {
    const { identities, chunkIdKey } = this.#options;
    return new PackOpener({ identities, chunkIdKey });
  }

  /** The other places of a chunk that is stored more than once. */
  elsewhere(id: ChunkId): readonly ChunkLocation[] {
    return this.#options.index.elsewhere(id);
  }

  /** The chunks one after the other, as a file or manifest lists them. @throws `damaged` at the first that no backend can give. */
  async *inOrder(ids: readonly ChunkId[], signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const frames = new Map<string, Uint8Array>();
    for (const [i, id] of ids.entries()) {
      const location = this.locate(id);
      const name = frameName(location);
      if (!frames.has(name)) {
        const wanted = [{ id, location }];
        const wantedFrames = new Set([location.frame]);
        for (const next of ids.slice(i + 1, i + LOOK_AHEAD_CHUNKS)) {
          const there = this.locate(next);
          if (there.pack !== location.pack || frames.has(frameName(there))) continue;
          if (wantedFrames.size >= FRAMES_KEPT && !wantedFrames.has(there.frame)) break;
          wantedFrames.add(there.frame);
          wanted.push({ id: next, location: there });
        }
        for (const old of frames.keys()) {
          if (frames.size + wantedFrames.size <= FRAMES_KEPT) break;
          frames.delete(old);
        }
        const error = await this.#fetch(location.pack, wanted, signal, (frame, opened) =>
          frames.set(frameName({ pack: location.pack, frame }), opened),
        );
        if (isHoldfastError(error, 'wrong_key')) throw error;
      }
      const tar = frames.get(name);
      const bytes = (tar && this.#take(id, location, tar)) ?? (await this.#fromElsewhere(id, signal));
      if (!bytes) throw mismatch(id);
      yield bytes;
    }
  }

  /**
   * Hands out chunks of one pack, fetching it once.
   * @param emit called for each wanted chunk that could be had, sorted by place; the bytes are valid during the call only.
   * @param opener the thread in which whole packs are opened; none: here.
   * @returns the chunks that no backend could give from this pack.
   */
  async fromPack<T extends WantedChunk>(
    pack: number,
    wanted: readonly T[],
    emit: (chunk: T, bytes: Uint8Array) => void,
    signal?: AbortSignal,
    opener?: PackOpener,
  ): Promise<T[]> {
    const missing = new Map<number, T[]>();
    for (const chunk of wanted.toSorted((a, b) => a.location.offset - b.location.offset)) {
      const inFrame = missing.get(chunk.location.frame);
      if (inFrame) inFrame.push(chunk);
      else missing.set(chunk.location.frame, [chunk]);
    }
    const failed: T[] = [];
    const take: TakeFrame = (frame, tar, wrong) => {
      for (const chunk of missing.get(frame) ?? []) {
        const { offset, length } = chunk.location;
        const isRight = wrong ? !wrong.has(chunk.id) : this.#take(chunk.id, chunk.location, tar) !== undefined;
        if (isRight) emit(chunk, tar.subarray(offset, offset + length));
        else failed.push(chunk);
      }
      missing.delete(frame);
      release(tar);
    };
    await this.#fetch(pack, wanted, signal, take, opener);
    return [...failed, ...[...missing.values()].flat()];
  }

  async #fromElsewhere(id: ChunkId, signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
    for (const location of this.elsewhere(id)) {
      let bytes: Uint8Array | undefined;
      await this.#fetch(location.pack, [{ id, location }], signal, (_, tar) => {
        bytes = this.#take(id, location, tar);
      });
      if (bytes) return bytes;
    }
    return undefined;
  }

  /**
   * The frames that hold the chunks. A range of a pack is taken at first when little of it is needed; where that shows anything wrong, and for most
   * of a pack, the whole is taken from a backend that has it as its name says; where none has, frame by frame what can still be had.
   * @returns why the whole could not be had, where only a part or nothing was.
   */
  async #fetch(
    pack: number,
    chunks: readonly WantedChunk[],
    signal: AbortSignal | undefined,
    take: TakeFrame,
    opener?: PackOpener,
  ): Promise<HoldfastError | undefined> {
    const { index, mirror, fileKeys, prefer } = this.#options;
    const info = index.packs[pack];
    if (!info) throw new HoldfastError('bug', 'a pack number out of range');
    const numbers = [...new Set(chunks.map(({ location }) => location.frame))].toSorted((a, b) => a - b);
    const table = numbers.map((frame) => ({ frame, ...info.frames[frame] })) as NumberedFrame[];
    const [first, last] = [table[0], table.at(-1)];
    if (!first || !last) return undefined;
    const span = last.offset + last.length - first.offset;
    if (span < info.storedBytes * WHOLE_PACK_SHARE) {
      const range = await unlessBad(this.#range(info, table, chunks, signal));
      for (const [frame, tar] of range ?? []) take(frame, tar);
      if (range) return undefined;
    }
    const key = packKey(info.id);
    const toOpen: PackToOpen = {
      id: info.id,
      fileKey: fileKeys.get(info.id),
      frames: table,
      chunks: opener ? chunks.map(({ id, location }) => ({ id, ...location })) : [],
    };
    const open = (bytes: Uint8Array): Promise<OpenedPack> =>
      opener ? opener.open(bytes, toOpen) : openPack(bytes, toOpen, this.#options);
    let opened: OpenedPack;
    try {
      opened = await mirror.read(key, open, { signal, prefer }).catch(lostIfAbsent);
    } catch (error) {
      if (mirror.live().length === 0) throw error; // out of reach is not lost
      const failure = survivable(error);
      for (const frame of table) {
        const inFrame = chunks.filter(({ location }) => location.frame === frame.frame);
        const one = await unlessBad(this.#range(info, [frame], inFrame, signal));
        for (const [number, tar] of one ?? []) take(number, tar);
      }
      return failure;
    }
    // Bytes that are what their name says are the same everywhere: a frame that does not open now opens nowhere.
    for await (const { frame, tar, wrong } of opened) if (tar) take(frame, tar, opener && wrong);
    return undefined;
  }

  /**
   * A range proves nothing by itself: anybody can encrypt to the recipients, so another pack in its place shows only when a frame or a chunk is not
   * right. So all chunks are checked before the bytes of a backend are accepted.
   */
  async #range(
    info: PackInfo,
    table: readonly NumberedFrame[],
    chunks: readonly WantedChunk[],
    signal: AbortSignal | undefined,
  ): Promise<Map<number, Uint8Array>> {
    const { mirror, identities, fileKeys, prefer } = this.#options;
    const key = packKey(info.id);
    const [first, last] = [table[0], table.at(-1)];
    if (!first || !last) throw new HoldfastError('bug', 'a range of no frames');
    const head = { offset: 0, length: info.payloadOffset };
    const payload = await mirror
      .read(key, (bytes) => openAgeHeader(bytes, identities, fileKeys.get(info.id)), { range: head, signal, prefer })
      .catch(lostIfAbsent);
    if (payload.payloadOffset !== info.payloadOffset)
      throw new HoldfastError('damaged', `${key} is not laid out as its index says`);
    const length = last.offset + last.length - first.offset;
    const blocks = blocksFor({ offset: first.offset, length }, info.payloadOffset, info.storedBytes);
    const accept = async (bytes: Uint8Array): Promise<Map<number, Uint8Array>> => {
      if (bytes.length !== blocks.range.length) throw new HoldfastError('damaged', `${key} is truncated`);
      const plain = payload
        .open(bytes, blocks.firstBlock, info.storedBytes)
        .subarray(blocks.skip, blocks.skip + length);
      const frames = new Map<number, Uint8Array>();
      for (const { frame, offset, length: stored, tarBytes } of table) {
        const at = offset - first.offset;
        frames.set(frame, await openFrame(plain.subarray(at, at + stored), tarBytes));
      }
      for (const { id, location } of chunks) {
        const tar = frames.get(location.frame);
        if (!tar || !this.#take(id, location, tar)) throw mismatch(id);
      }
      return frames;
    };
    return mirror.read(key, accept, { range: blocks.range, signal, prefer });
  }

  /** The chunk's bytes, or undefined when what is there is not the chunk. */
  #take(id: ChunkId, { offset, length }: ChunkLocation, tar: Uint8Array): Uint8Array | undefined {
    return chunkIn(tar, { id, offset, length }, this.#options.idOf);
  }
}

const frameName = ({ pack, frame }: Pick<ChunkLocation, 'pack' | 'frame'>): string => `${pack}:${frame}`;

/** The error of a read that is no good on any backend that could be asked; anything else is thrown on. */
function survivable(error: unknown): HoldfastError {
  if (isHoldfastError(error, 'damaged', 'forged', 'wrong_key', 'not_found', 'not_enough_backends')) return error;
  throw error;
}

/** Undefined when what was read is no good. */
async function unlessBad<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    survivable(error);
    return undefined;
  }
}

function mismatch(id: ChunkId): HoldfastError {
  return new HoldfastError('damaged', `chunk ${id.slice(0, 16)}… cannot be had with the content its id promises`, {
    hint: 'Its pack is damaged, or an index is forged. Run `holdfast verify --level chunks`.',
  });
}
