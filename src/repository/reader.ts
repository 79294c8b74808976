/** Reading chunks back: whole packs or ranges of them, every chunk held against its id before it is handed out. */
import { HoldfastError, isHoldfastError } from '../errors.ts';
import type { ChunkId } from '../entry.ts';
import { blocksFor, openAgeHeader } from '../crypto/age.ts';
import type { Mirror } from '../backend/mirror.ts';
import { lostIfAbsent, packKey } from './object-name.ts';
import type { ChunkLocation, PackIndex, PackInfo } from './pack-index.ts';
import { openFrame } from './tasks.ts';
import type { Threads } from './threads.ts';

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
  chunkIdKey: Uint8Array;
  idOf: (bytes: Uint8Array) => ChunkId;
  threads: Threads;
  /** Name of the backend to read from first. */
  prefer?: string | undefined;
}

/** Decompressed frames by number, and the chunks that are not what their id says. */
interface Fetched {
  frames: Map<number, Uint8Array>;
  wrong: Set<ChunkId>;
  /** Why the whole could not be had, where only a part or nothing was. */
  error?: HoldfastError;
}

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
        const { frames: loaded, error } = await this.#fetch(location.pack, wanted, signal);
        if (isHoldfastError(error, 'wrong_key')) throw error;
        for (const old of frames.keys()) {
          if (frames.size + loaded.size <= FRAMES_KEPT) break;
          frames.delete(old);
        }
        for (const [frame, tar] of loaded) frames.set(frameName({ pack: location.pack, frame }), tar);
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
   * @returns the chunks that no backend could give from this pack.
   */
  async fromPack<T extends WantedChunk>(
    pack: number,
    wanted: readonly T[],
    emit: (chunk: T, bytes: Uint8Array) => void,
    signal?: AbortSignal,
  ): Promise<T[]> {
    const { frames, wrong } = await this.#fetch(pack, wanted, signal);
    const failed: T[] = [];
    for (const chunk of wanted.toSorted(
      (a, b) => a.location.frame - b.location.frame || a.location.offset - b.location.offset,
    )) {
      const { frame, offset, length } = chunk.location;
      const tar = frames.get(frame);
      if (tar && !wrong.has(chunk.id)) emit(chunk, tar.subarray(offset, offset + length));
      else failed.push(chunk);
    }
    return failed;
  }

  async #fromElsewhere(id: ChunkId, signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
    for (const location of this.elsewhere(id)) {
      const { frames } = await this.#fetch(location.pack, [{ id, location }], signal);
      const tar = frames.get(location.frame);
      const bytes = tar && this.#take(id, location, tar);
      if (bytes) return bytes;
    }
    return undefined;
  }

  /**
   * The frames that hold the chunks. A range of a pack is taken at first when little of it is needed; where that shows anything wrong, and for most
   * of a pack, the whole is taken from a backend that has it as its name says; where none has, frame by frame what can still be had.
   */
  async #fetch(pack: number, chunks: readonly WantedChunk[], signal: AbortSignal | undefined): Promise<Fetched> {
    const info = this.#options.index.packs[pack];
    if (!info) throw new HoldfastError('bug', 'a pack number out of range');
    const numbers = [...new Set(chunks.map(({ location }) => location.frame))].toSorted((a, b) => a - b);
    const table = numbers.map((frame) => ({ frame, ...info.frames[frame] })) as (PackInfo['frames'][number] & {
      frame: number;
    })[];
    const [first, last] = [table[0], table.at(-1)];
    if (!first || !last) return { frames: new Map(), wrong: new Set() };
    const span = last.offset + last.length - first.offset;
    if (span < info.storedBytes * WHOLE_PACK_SHARE) {
      const range = await unlessBad(this.#range(info, table, chunks, signal));
      if (range) return range;
    }
    const salvaged: Fetched = { frames: new Map(), wrong: new Set() };
    try {
      return await this.#whole(info, table, chunks, signal);
    } catch (error) {
      salvaged.error = survivable(error);
      if (this.#options.mirror.live().length === 0) throw error; // out of reach is not lost
    }
    for (const frame of table) {
      const one = await unlessBad(
        this.#range(
          info,
          [frame],
          chunks.filter(({ location }) => location.frame === frame.frame),
          signal,
        ),
      );
      for (const [number, tar] of one?.frames ?? []) salvaged.frames.set(number, tar);
    }
    return salvaged;
  }

  async #whole(
    info: PackInfo,
    table: readonly (PackInfo['frames'][number] & { frame: number })[],
    chunks: readonly WantedChunk[],
    signal: AbortSignal | undefined,
  ): Promise<Fetched> {
    const { mirror, threads, identities, chunkIdKey, prefer } = this.#options;
    const key = packKey(info.id);
    const wanted = chunks.map(({ id, location: { frame, offset, length } }) => ({ id, frame, offset, length }));
    const accept = (bytes: Uint8Array) =>
      threads.run(
        'open',
        { key, id: info.id, bytes, identities, frames: table, chunks: wanted, chunkIdKey, keep: true },
        [bytes],
      );
    const { frames, wrong } = await mirror.read(key, accept, { signal, prefer }).catch(lostIfAbsent);
    return { frames, wrong: new Set(wrong) };
  }

  /**
   * A range proves nothing by itself: anybody can encrypt to the recipients, so another pack in its place shows only when a frame or a chunk is not
   * right. So all chunks are checked before the bytes of a backend are accepted.
   */
  async #range(
    info: PackInfo,
    table: readonly (PackInfo['frames'][number] & { frame: number })[],
    chunks: readonly WantedChunk[],
    signal: AbortSignal | undefined,
  ): Promise<Fetched> {
    const { mirror, identities, prefer } = this.#options;
    const key = packKey(info.id);
    const [first, last] = [table[0], table.at(-1)];
    if (!first || !last) throw new HoldfastError('bug', 'a range of no frames');
    const head = { offset: 0, length: info.payloadOffset };
    const payload = await mirror
      .read(key, (bytes) => openAgeHeader(bytes, identities), { range: head, signal, prefer })
      .catch(lostIfAbsent);
    if (payload.payloadOffset !== info.payloadOffset)
      throw new HoldfastError('damaged', `${key} is not laid out as its index says`);
    const length = last.offset + last.length - first.offset;
    const blocks = blocksFor({ offset: first.offset, length }, info.payloadOffset, info.storedBytes);
    const accept = (bytes: Uint8Array): Fetched => {
      if (bytes.length !== blocks.range.length) throw new HoldfastError('damaged', `${key} is truncated`);
      const plain = payload
        .open(bytes, blocks.firstBlock, info.storedBytes)
        .subarray(blocks.skip, blocks.skip + length);
      const frames = new Map<number, Uint8Array>();
      for (const { frame, offset, length: stored, tarBytes } of table) {
        const at = offset - first.offset;
        frames.set(frame, openFrame(plain.subarray(at, at + stored), tarBytes));
      }
      for (const { id, location } of chunks) {
        const tar = frames.get(location.frame);
        if (!tar || !this.#take(id, location, tar)) throw mismatch(id);
      }
      return { frames, wrong: new Set() };
    };
    return mirror.read(key, accept, { range: blocks.range, signal, prefer });
  }

  /** The chunk's bytes, or undefined when what is there is not the chunk. */
  #take(id: ChunkId, { offset, length }: ChunkLocation, tar: Uint8Array): Uint8Array | undefined {
    const bytes = tar.subarray(offset, offset + length);
    return bytes.length === length && this.#options.idOf(bytes) === id ? bytes : undefined;
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
