import { constants, createZstdCompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { Parser, type ReadEntry } from 'tar';
import { describe, expect, test } from 'vitest';
import { ageRecipientOf, newAgeIdentity, openAge, sealAge } from '../../../src/crypto/age.ts';
import { chunkIdFunction } from '../../../src/crypto/chunk-id.ts';
import type { ChunkId } from '../../../src/entry.ts';
import {
  CHUNK_MAX_BYTES,
  FRAME_TAR_MAX_BYTES,
  FRAME_TAR_TARGET_BYTES,
  PACK_STORED_MAX_BYTES,
} from '../../../src/limits.ts';
import { FrameBuffers, PackBuilder, type PackPlain } from '../../../src/repository/packs/pack.ts';
import { compressFrame, openFrame } from '../../../src/repository/packs/frame.ts';
import { expectSame } from '../../backend-helpers.ts';
import { failure, lacks, run, seededRandom } from '../../crypto/support.ts';

const idOf = chunkIdFunction(new Uint8Array(32).fill(1));
const random = seededRandom('pack');
/** One long stretch of noise, of which chunks are views: cheaper than new noise for each. */
const noise = random.bytes(4 * 2 ** 20);
const chunkOf = (i: number, length: number) => {
  const from = (i * 7919) % (noise.length - length);
  return noise.subarray(from, from + length);
};

async function packed(chunks: Iterable<Uint8Array>): Promise<PackPlain & { ids: ChunkId[] }> {
  const builder = new PackBuilder('data', new FrameBuffers());
  const ids: ChunkId[] = [];
  for (const chunk of chunks) {
    if (!builder.fits(chunk.length)) break;
    const id = idOf(chunk);
    ids.push(id);
    builder.add(id, chunk);
  }
  return { ...(await builder.finish()), ids };
}

/** What the `tar` package reads in an archive. */
async function members(archive: Uint8Array): Promise<{ path: string; size: number; type: string; bytes: Buffer }[]> {
  const found: { path: string; size: number; type: string; bytes: Buffer }[] = [];
  const parser = new Parser({
    strict: true,
    onReadEntry: (entry: ReadEntry) => {
      const pieces: Buffer[] = [];
      entry.on('data', (piece: Buffer) => pieces.push(piece));
      entry.on('end', () =>
        found.push({ path: entry.path, size: entry.size, type: entry.type, bytes: Buffer.concat(pieces) }),
      );
    },
  });
  await new Promise<void>((resolve, reject) => {
    parser.on('end', resolve);
    parser.on('error', reject);
    parser.end(Buffer.from(archive));
  });
  return found;
}

/** Lengths around the block size of tar, and enough for several frames. */
const lengths = [1, 511, 512, 513, 16_384, 65_537, ...Array.from({ length: 60 }, (_, i) => 40_000 + i * 997), 262_144];

describe('a pack', () => {
  test('is read back by tar: names, sizes, contents, in order', async () => {
    const chunks = lengths.map((length, i) => chunkOf(i, length));
    const { frames, table, ids } = await packed(chunks);
    expect(table.length).toBeGreaterThan(2);
    // Node decompresses only the first of several frames; the `zstd` command (below) all of them.
    const archive = Buffer.concat(frames.map((frame) => zstdDecompressSync(frame)));
    const found = await members(archive);
    expect(found.map(({ path, size, type }) => ({ path, size, type }))).toEqual(
      ids.map((id, i) => ({ path: id, size: lengths[i], type: 'File' })),
    );
    found.forEach(({ bytes }, i) => expectSame(bytes, chunks[i]));
  });

  test.skipIf(lacks('zstd', '--version') || lacks('tar', '--version'))('is read back by zstd and tar', async () => {
    const { frames, ids } = await packed(lengths.map((length, i) => chunkOf(i, length)));
    const archive = run('zstd', ['-d', '-c'], Buffer.concat(frames));
    expect(run('tar', ['-t'], archive).toString().trim().split('\n')).toEqual(ids);
  });

  test('has frames that open alone, and chunks where it says', async () => {
    const chunks = lengths.map((length, i) => chunkOf(i, length));
    const { frames, table, chunks: places, ids } = await packed(chunks);
    const plain = Buffer.concat(frames);
    for (const [i, place] of places.entries()) {
      expect(place.id).toBe(ids[i]);
      const frame = table[place.frame];
      if (!frame) throw new Error('a frame is missing');
      expect(frame.tarBytes).toBeLessThanOrEqual(FRAME_TAR_MAX_BYTES);
      const tar = await openFrame(plain.subarray(frame.offset, frame.offset + frame.length), frame.tarBytes);
      expectSame(tar.subarray(place.offset, place.offset + place.length), chunks[i]);
    }
    for (const { tarBytes } of table.slice(0, -1)) expect(tarBytes).toBeGreaterThanOrEqual(FRAME_TAR_TARGET_BYTES);
  });

  test.each([
    ['the longest chunks', CHUNK_MAX_BYTES],
    ['chunks of 256 KiB', 262_144],
    ['chunks of one block and a byte', 513],
    ['chunks of one byte', 1],
  ])('full of noise stays below its largest size: %s', async (_, length) => {
    function* forever() {
      for (let i = 0; ; i++)
        yield length < 600 ? Buffer.from(`${i}`.padEnd(length)).subarray(0, length) : chunkOf(i, length);
    }
    const { frames, ids } = await packed(forever());
    expect(ids.length * length).toBeGreaterThan(length === 1 ? 10_000 : length === 513 ? 5_000_000 : 14 * 2 ** 20);
    const recipients = await Promise.all(
      Array.from({ length: 5 }, async () => ageRecipientOf(await newAgeIdentity(random))),
    );
    const { bytes } = await sealAge(frames, recipients, random);
    expect(bytes.length).toBeLessThanOrEqual(PACK_STORED_MAX_BYTES);
  });

  test('takes no chunk that does not fit', async () => {
    const builder = new PackBuilder('data', new FrameBuffers());
    while (builder.fits(CHUNK_MAX_BYTES)) builder.add(idOf(chunkOf(0, 10)), chunkOf(0, CHUNK_MAX_BYTES));
    expect(() => builder.add(idOf(chunkOf(0, 10)), chunkOf(0, CHUNK_MAX_BYTES))).toThrow('room');
    await builder.finish();
  });

  test('holds nothing but its chunks: no bytes of what the buffer held before', async () => {
    const buffers = new FrameBuffers();
    const dirty = buffers.take().fill(0xaa);
    await buffers.compress(dirty, 10);
    const builder = new PackBuilder('data', buffers);
    for (const length of [1, 600]) builder.add(idOf(chunkOf(0, length)), new Uint8Array(length));
    const { frames } = await builder.finish();
    expect(buffers.take().buffer).toBe(dirty.buffer);
    expect(zstdDecompressSync(Buffer.concat(frames)).includes(0xaa)).toBe(false);
  });

  test('gives its buffers back', async () => {
    const buffers = new FrameBuffers();
    const builder = new PackBuilder('data', buffers);
    for (const [i, length] of lengths.entries()) builder.add(idOf(chunkOf(i, length)), chunkOf(i, length));
    expect(buffers.inUse).toBeGreaterThan(0);
    await builder.finish();
    expect(buffers.inUse).toBe(0);
  });

  test('survives encryption', async () => {
    const identity = await newAgeIdentity(random);
    const { frames } = await packed([chunkOf(1, 70_000)]);
    const { bytes, payloadOffset } = await sealAge(frames, [await ageRecipientOf(identity)], random);
    expectSame(await openAge(bytes, [identity]), Buffer.concat(frames));
    expect(payloadOffset).toBeLessThan(bytes.length);
  });
});

/** RFC 8878, 3.1.1 */
const ZSTD_MAGIC = Buffer.from('28b52ffd', 'hex');

describe('a frame', () => {
  const tar = chunkOf(3, 300_000);
  const frame = zstdCompressSync(tar);

  test('opens when it is exactly as long as it is said to be', async () => {
    expectSame(await openFrame(frame, tar.length), tar);
  });

  test.each([
    ['text', Buffer.from('What is said twice is said twice. '.repeat(40_000))],
    ['noise', tar],
    ['a byte', tar.subarray(0, 1)],
  ])('of %s is one zstd frame that tells its length, and leaves no memory behind', async (_, bytes) => {
    const before = process.memoryUsage().arrayBuffers;
    const packed = [];
    for (let i = 0; i < 20; i++) packed.push(await compressFrame(bytes));
    const kept = packed.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(kept + bytes.length + 256 * 1024);
    for (const one of packed) {
      expect(one.buffer.byteLength).toBe(one.length);
      expect(Buffer.from(one).indexOf(ZSTD_MAGIC, 1)).toBe(-1);
      expect((one[4] ?? 0) & 0x20, 'single segment: the length is in the header').not.toBe(0);
      expectSame(await openFrame(one, bytes.length), bytes);
    }
  });

  test.each([
    ['shorter than said', tar.length + 1],
    ['longer than said', tar.length - 1],
    ['said to be empty', 0],
    ['of no possible length', -1],
    ['over the limit', FRAME_TAR_MAX_BYTES + 1],
    ['of absurd length', 2 ** 40],
  ])('is refused when it is %s', async (_, tarBytes) => {
    await failure(() => openFrame(frame, tarBytes), 'damaged');
  });

  test('is refused when it is no zstd, cut short, or damaged', async () => {
    await failure(() => openFrame(new Uint8Array(0), 10), 'damaged');
    await failure(() => openFrame(Buffer.from('no zstd at all'), 10), 'damaged');
    await failure(() => openFrame(frame.subarray(0, frame.length - 1), tar.length), 'damaged');
    await failure(() => openFrame(frame.subarray(0, 20), tar.length), 'damaged');
  });

  test('that asks for a large window is refused before it gets the memory', async () => {
    const params = { [constants.ZSTD_c_windowLog]: 27, [constants.ZSTD_c_compressionLevel]: 1 };
    const { promise, resolve } = Promise.withResolvers<Buffer>();
    // In a stream its length is not known, so the header has the window.
    const stream = createZstdCompress({ params }).on('readable', () => pieces.push(stream.read() as Buffer | null));
    const pieces: (Buffer | null)[] = [];
    stream.on('end', () => resolve(Buffer.concat(pieces.filter((piece) => piece !== null))));
    stream.end(tar);
    const greedy = await promise;
    expect(zstdDecompressSync(greedy).equals(tar)).toBe(true);
    await failure(() => openFrame(greedy, tar.length), 'damaged');
  });

  test.each([10, FRAME_TAR_MAX_BYTES])(
    'that decompresses to far more is refused without making it: %s said',
    async (said) => {
      const bomb = zstdCompressSync(new Uint8Array(256 * 2 ** 20));
      expect(bomb.length).toBeLessThan(64 * 1024);
      const before = process.memoryUsage().arrayBuffers;
      await failure(() => openFrame(bomb, said), 'damaged');
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(3 * FRAME_TAR_MAX_BYTES);
    },
  );
});
