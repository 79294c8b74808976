/** Reading chunks back: whole packs or ranges of them, every byte checked before it is handed out. */
import { HoldfastError, isHoldfastError } from '../errors.ts';
import type { ChunkId } from '../entry.ts';
import { blocksFor, openAge, openAgeHeader, type AgePayload } from '../crypto/age.ts';
import type { Mirror } from '../backend/mirror.ts';
import { checkContentName, packKey } from './format.ts';
import { openFrame } from './pack.ts';
import type { ChunkLocation, PackIndex, PackInfo } from './pack-index.ts';

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

export class ChunkReader {
  readonly #mirror: Mirror;
  readonly #index: PackIndex;
  readonly #identities: readonly string[];
  readonly #idOf: (bytes: Uint8Array) => ChunkId;
  readonly #prefer: string | undefined;

  constructor(options: {
    mirror: Mirror;
    index: PackIndex;
    identities: readonly string[];
    idOf: (bytes: Uint8Array) => ChunkId;
    /** Name of the backend to read from first. */
    prefer?: string | undefined;
  }) {
    this.#mirror = options.mirror;
    this.#index = options.index;
    this.#identities = options.identities;
    this.#idOf = options.idOf;
    this.#prefer = options.prefer;
  }

  /** @throws `damaged` when no index names the chunk. */
  locate(id: ChunkId): ChunkLocation {
    const location = this.#index.locate(id);
    if (!location) {
      throw new HoldfastError('damaged', `chunk ${id.slice(0, 16)}… is in no index`, {
        hint: 'An index object is lost. Run `holdfast verify --level listing`, and restore from another backend.',
      });
    }
    return location;
  }

  /** The chunks one after the other, as a file or manifest lists them. */
  async *inOrder(ids: readonly ChunkId[], signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const frames = new Map<string, Uint8Array>();
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as ChunkId;
      const location = this.locate(id);
      const name = `${location.pack}:${location.frame}`;
      let tar = frames.get(name);
      if (!tar) {
        const wanted = new Set([location.frame]);
        for (const next of ids.slice(i + 1, i + LOOK_AHEAD_CHUNKS)) {
          const there = this.locate(next);
          if (there.pack === location.pack && !frames.has(`${there.pack}:${there.frame}`)) wanted.add(there.frame);
          if (wanted.size >= FRAMES_KEPT) break;
        }
        const loaded = await this.#loadFrames(location.pack, [...wanted], signal);
        for (const old of frames.keys()) {
          if (frames.size + loaded.size <= FRAMES_KEPT) break;
          frames.delete(old);
        }
        for (const [frame, bytes] of loaded) frames.set(`${location.pack}:${frame}`, bytes);
        tar = loaded.get(location.frame);
      }
      let bytes = this.#take(id, location, tar);
      if (!bytes) {
        const opened = await this.#openPack(location.pack, [location.frame], signal);
        await opened.distrust();
        tar = await opened.frame(location.frame);
        frames.set(name, tar);
        bytes = this.#take(id, location, tar);
      }
      yield bytes ?? mismatch(id);
    }
  }

  /**
   * Hands out chunks of one pack, fetching it once.
   * @param emit called for each wanted chunk, sorted by place; the bytes are valid during the call only.
   */
  async fromPack<T extends WantedChunk>(
    pack: number,
    wanted: readonly T[],
    emit: (chunk: T, bytes: Uint8Array) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const sorted = wanted.toSorted(
      (a, b) => a.location.frame - b.location.frame || a.location.offset - b.location.offset,
    );
    const opened = await this.#openPack(pack, [...new Set(sorted.map((chunk) => chunk.location.frame))], signal);
    let current = -1;
    let tar: Uint8Array | undefined;
    for (const chunk of sorted) {
      const { id, location } = chunk;
      if (location.frame !== current) tar = await opened.frame(location.frame);
      current = location.frame;
      let bytes = this.#take(id, location, tar);
      if (!bytes && (await opened.distrust())) {
        tar = await opened.frame(current);
        bytes = this.#take(id, location, tar);
      }
      emit(chunk, bytes ?? mismatch(id));
    }
  }

  /** Decompressed frames of one pack. */
  async #loadFrames(pack: number, frames: readonly number[], signal?: AbortSignal): Promise<Map<number, Uint8Array>> {
    const opened = await this.#openPack(pack, frames, signal);
    return new Map(await Promise.all(frames.map(async (frame) => [frame, await opened.frame(frame)] as const)));
  }

  /** Fetches and decrypts what the frames need. */
  async #openPack(pack: number, frames: readonly number[], signal: AbortSignal | undefined): Promise<OpenedPack> {
    const info = this.#index.packs[pack];
    if (!info) throw new HoldfastError('bug', 'a pack number out of range');
    const table = frames.map((frame) => {
      const entry = info.frames[frame];
      if (!entry)
        throw new HoldfastError('damaged', `the index of pack ${info.id.slice(0, 8)} names a frame it has not`);
      return entry;
    });
    const from = Math.min(...table.map((frame) => frame.offset));
    const to = Math.max(...table.map((frame) => frame.offset + frame.length));
    const whole = async () => ({ start: 0, isWhole: true, bytes: await this.#wholePack(info, signal) });
    const range = async () => ({
      start: from,
      isWhole: false,
      bytes: await this.#rangeOfPack(info, from, to - from, signal),
    });
    const isMost = to - from >= info.storedBytes * WHOLE_PACK_SHARE;
    let fetched = isMost ? await whole() : await range().catch((error: unknown) => orElse(error, whole));
    let again: ReturnType<typeof whole> | undefined;
    const distrust = async () => {
      if (fetched.isWhole) return false;
      fetched = await (again ??= whole());
      return true;
    };
    const frame = async (number: number): Promise<Uint8Array> => {
      const entry = info.frames[number];
      if (!entry) throw new HoldfastError('bug', 'a frame that was not asked for');
      const source = fetched;
      const offset = entry.offset - source.start;
      try {
        return await openFrame(source.bytes.subarray(offset, offset + entry.length), entry.tarBytes);
      } catch (error) {
        return orElse(error, async () => {
          if (source === fetched && !(await distrust())) throw error;
          return frame(number);
        });
      }
    };
    return { frame, distrust };
  }

  #wholePack(info: PackInfo, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const key = packKey(info.id);
    return this.#mirror.read(
      key,
      async (bytes) => {
        checkContentName(bytes, info.id, key);
        return openAge(bytes, this.#identities);
      },
      { signal, prefer: this.#prefer },
    );
  }

  async #rangeOfPack(
    info: PackInfo,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    const key = packKey(info.id);
    const payload: AgePayload = await this.#mirror.read(key, (head) => openAgeHeader(head, this.#identities), {
      range: { offset: 0, length: info.payloadOffset },
      signal,
      prefer: this.#prefer,
    });
    if (payload.payloadOffset !== info.payloadOffset)
      throw new HoldfastError('damaged', `pack ${info.id.slice(0, 8)} is not laid out as its index says`);
    const blocks = blocksFor({ offset, length }, info.payloadOffset, info.storedBytes);
    return this.#mirror.read(
      key,
      (bytes) => {
        if (bytes.length !== blocks.range.length) throw new HoldfastError('damaged', `${key} is truncated`);
        return payload.open(bytes, blocks.firstBlock, info.storedBytes).subarray(blocks.skip, blocks.skip + length);
      },
      { range: blocks.range, signal, prefer: this.#prefer },
    );
  }

  /** The chunk's bytes, or undefined when what is there is not the chunk. */
  #take(id: ChunkId, location: ChunkLocation, tar: Uint8Array | undefined): Uint8Array | undefined {
    const bytes = tar?.subarray(location.offset, location.offset + location.length);
    return bytes?.length === location.length && this.#idOf(bytes) === id ? bytes : undefined;
  }
}

/**
 * A pack that was fetched whole is what its name says. A range of one proves nothing: anybody can encrypt to the recipients, so another
 * pack of the same size in its place shows only when a frame or a chunk is not right.
 */
interface OpenedPack {
  /** Decompresses a frame that was asked for. */
  frame(number: number): Promise<Uint8Array>;
  /** A chunk was not right: fetches the whole pack, from the backend that has it as its name says. False when it was whole already. */
  distrust(): Promise<boolean>;
}

/** Damage has a second try; anything else is thrown on. */
function orElse<T>(error: unknown, retry: () => Promise<T>): Promise<T> {
  if (isHoldfastError(error, 'damaged')) return retry();
  throw error;
}

function mismatch(id: ChunkId): never {
  throw new HoldfastError('damaged', `chunk ${id.slice(0, 16)}… does not have the content its id promises`, {
    hint: 'It was forged or the index is wrong. Nothing of it was written.',
  });
}
