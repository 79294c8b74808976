/** Chunks that can still be had though their pack is damaged, or no index names it any more: they are stored again. */
import { zstdDecompressSync } from 'node:zlib';
import type { Clock, Random } from '../../clock.ts';
import type { ChunkId } from '../../entry.ts';
import { isSurvivable } from '../../errors.ts';
import { openAge } from '../../crypto/age.ts';
import { CHUNK_MAX_BYTES, PACK_TAR_MAX_BYTES } from '../../limits.ts';
import { checkContentName, packKey, parseKey, type PackId } from '../records/object-name.ts';
import type { Repository } from '../open.ts';
import type { PackKind } from '../packs/pack.ts';
import { PackIndex, type IndexedPack } from '../packs/pack-index.ts';
import type { SnapshotWriter } from '../packs/writer.ts';

export interface SalvageOptions {
  seams: { clock: Clock; random: Random; signal?: AbortSignal | undefined };
  /** Chunks of lists of files; the others are contents. */
  isManifest: (id: ChunkId) => boolean;
  /** Chunks that somebody needs and nobody has. */
  isWanted: (id: ChunkId) => boolean;
}

export interface Salvaged {
  chunks: number;
  bytes: number;
}

/**
 * Stores again the chunks that are wanted, out of damaged packs (whatever frames of them any backend gives), and out of packs that no index names.
 * @param index without the damaged packs; what is salvaged is added to it.
 * @returns once it is durable
 */
export async function salvage(
  repository: Repository,
  index: PackIndex,
  damaged: readonly IndexedPack[],
  options: SalvageOptions,
): Promise<Salvaged> {
  const { isManifest, isWanted, seams } = options;
  const writer = repository.writer(index, seams);
  const salvaged: Salvaged = { chunks: 0, bytes: 0 };
  const keep = (id: ChunkId, bytes: Uint8Array): void => {
    if (index.has(id) || !isWanted(id) || repository.idOf(bytes) !== id) return;
    const kind: PackKind = isManifest(id) ? 'manifest' : 'data';
    writer.add(bytes, kind);
    salvaged.chunks++;
    salvaged.bytes += bytes.length;
  };
  for (const pack of damaged) await fromDamaged(repository, pack, keep, writer, seams.signal);
  for (const id of await unindexed(repository, index, seams.signal)) {
    await writer.ready();
    await fromUnindexed(repository, id, keep, seams.signal);
  }
  await writer.flush();
  return salvaged;
}

/** A frame at a time: a copy may be whole where another is not. */
async function fromDamaged(
  repository: Repository,
  pack: IndexedPack,
  keep: (id: ChunkId, bytes: Uint8Array) => void,
  writer: SnapshotWriter,
  signal: AbortSignal | undefined,
): Promise<void> {
  const alone = new PackIndex();
  alone.addPack(pack);
  const reader = repository.reader(alone);
  const byFrame = Map.groupBy(pack.chunks, ({ frame }) => frame);
  for (const chunks of byFrame.values()) {
    await writer.ready();
    const wanted = chunks.map(({ id, frame, offset, length }) => ({
      id,
      location: { pack: 0, frame, offset, length },
    }));
    try {
      await reader.fromPack(0, wanted, ({ id }, bytes) => keep(id, bytes), signal);
    } catch (error) {
      if (!isSurvivable(error)) throw error;
    }
  }
}

async function unindexed(repository: Repository, index: PackIndex, signal: AbortSignal | undefined): Promise<PackId[]> {
  const named = new Set<PackId>(index.packs.map(({ id }) => id));
  const found: PackId[] = [];
  for await (const { key } of repository.mirror.list('packs/', { signal })) {
    const name = parseKey(key);
    if (name?.kind === 'pack' && !named.has(name.id)) found.push(name.id);
  }
  return found;
}

/** Its tar says where its chunks are, and their names what they are. */
async function fromUnindexed(
  repository: Repository,
  id: PackId,
  keep: (id: ChunkId, bytes: Uint8Array) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { mirror, identities, fileKeys } = repository;
  const key = packKey(id);
  try {
    const open = (bytes: Uint8Array) => {
      checkContentName(bytes, id, key);
      return openAge(bytes, identities, fileKeys.get(id));
    };
    const plain = await mirror.read(key, open, { signal, quiet: true });
    for (const [name, bytes] of membersOf(decompressAll(plain))) keep(name, bytes);
  } catch (error) {
    if (!isSurvivable(error)) throw error; // of that one nothing is to be had
  }
}

/** All frames, one after the other; up to the first that is none. */
function decompressAll(packed: Uint8Array): Buffer {
  const parts: Buffer[] = [];
  let total = 0;
  for (let at = 0; at < packed.length;) {
    try {
      const rest = packed.subarray(at);
      const maxOutputLength = PACK_TAR_MAX_BYTES - total + 1;
      const { buffer, engine } = zstdDecompressSync(rest, { info: true, maxOutputLength }) as unknown as {
        buffer: Buffer;
        engine: { bytesWritten: number };
      };
      parts.push(buffer);
      total += buffer.length;
      at += Math.max(1, engine.bytesWritten);
    } catch {
      break;
    }
  }
  return Buffer.concat(parts);
}

const BLOCK = 512;

function* membersOf(tar: Buffer): Generator<[ChunkId, Uint8Array]> {
  for (let at = 0; at + BLOCK <= tar.length;) {
    const name = tar.toString('latin1', at, at + 64);
    const size = Number.parseInt(tar.toString('latin1', at + 124, at + 136), 8);
    if (!/^[0-9a-f]{64}$/.test(name) || !(size >= 0 && size <= CHUNK_MAX_BYTES)) {
      at += BLOCK; // the end of one archive, or padding
      continue;
    }
    yield [name as ChunkId, tar.subarray(at + BLOCK, at + BLOCK + size)];
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
}
