import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sha256Hex } from '../../../src/crypto/hash.ts';
import {
  ChunkStream,
  DEFAULT_CHUNKER,
  makeCut,
  type ChunkerParameters,
  type Cut,
} from '../../../src/repository/packs/chunker.ts';
import { seededRandom } from '../../crypto/support.ts';

const KiB = 1024;
const SMALL: ChunkerParameters = { algorithm: 'gear32', minBytes: 64, averageBytes: 256, maxBytes: 1024 };

/** 256 words of 32 bits, the same on every machine. */
function gearOf(seed: string): Uint32Array {
  const bytes = Buffer.from(seededRandom(seed).bytes(1024));
  return Uint32Array.from({ length: 256 }, (_, i) => bytes.readUInt32LE(4 * i));
}

const gear = gearOf('gear');
const streamOf = (seed: string, length: number) => seededRandom(seed).bytes(length);

function cutAll(cut: Cut, bytes: Uint8Array): number[] {
  const lengths: number[] = [];
  for (let at = 0; at < bytes.length; at += lengths.at(-1) ?? 0) lengths.push(cut(bytes, at, bytes.length));
  return lengths;
}

/** The rule as it is written down: one byte a step, in numbers that cannot overflow. */
function naiveCut(table: Uint32Array, { minBytes, averageBytes, maxBytes }: ChunkerParameters): Cut {
  const bits = Math.log2(averageBytes);
  const hitsMask = (hash: bigint, ones: number) => ((hash >> BigInt(31 - ones)) & ((1n << BigInt(ones)) - 1n)) === 0n;
  return (bytes, start, end) => {
    let hash = 0n;
    for (let length = minBytes; length < Math.min(end - start, maxBytes); length++) {
      hash = ((hash << 1n) + BigInt(table[bytes[start + length] ?? 0] ?? 0)) & 0xffff_ffffn;
      if (hitsMask(hash, length < averageBytes ? bits + 2 : bits - 2)) return length + 1;
    }
    return Math.min(end - start, maxBytes);
  };
}

function streamCuts(bytes: Uint8Array, pieces: Iterable<number>, lastAtEnd: boolean): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  const stream = new ChunkStream(makeCut(gear, SMALL), SMALL, (chunk) => chunks.push(chunk.slice()));
  let at = 0;
  for (const length of pieces) {
    // A piece is valid only during the call: what the stream keeps of it must be its own.
    const piece = Uint8Array.from(bytes.subarray(at, at + length));
    at += length;
    stream.push(piece, lastAtEnd && at >= bytes.length);
    piece.fill(0xee);
  }
  if (at < bytes.length) stream.push(bytes.subarray(at), lastAtEnd);
  stream.end();
  return chunks;
}

/** Streams with stretches that never hit a mask (all alike) as well as random ones. */
const anyStream = fc
  .array(
    fc.oneof(
      fc.record({ seed: fc.integer({ min: 0, max: 1000 }), length: fc.integer({ min: 0, max: 3000 }) }),
      fc.record({ fill: fc.integer({ min: 0, max: 255 }), length: fc.integer({ min: 0, max: 3000 }) }),
    ),
    { maxLength: 4 },
  )
  .map((parts) =>
    Buffer.concat(
      parts.map((p) => ('seed' in p ? streamOf(`s${p.seed}`, p.length) : new Uint8Array(p.length).fill(p.fill))),
    ),
  );

describe('the cuts of version 1 never move', () => {
  test('of random bytes', () => {
    const bytes = streamOf('golden', 1500 * KiB);
    expect(sha256Hex(bytes)).toBe('7676bc11ac5b1efc2242127692e9c2b076092caf6c91f30e18c05ed026ab8404');
    expect(cutAll(makeCut(gear, DEFAULT_CHUNKER), bytes)).toEqual([
      86794, 126648, 86750, 77868, 79233, 65570, 71726, 71120, 69300, 64749, 24391, 112895, 38214, 103310, 76474, 69261,
      77360, 80584, 80595, 33587, 39571,
    ]);
  });

  test('of text', () => {
    const line = (i: number) =>
      `${JSON.stringify({ id: i, role: i % 2 ? 'agent' : 'user', text: `message ${i * 7919}` })}\n`;
    const bytes = Buffer.from(Array.from({ length: 15_000 }, (_, i) => line(i)).join(''));
    expect(cutAll(makeCut(gear, DEFAULT_CHUNKER), bytes)).toEqual([
      66989, 68897, 73388, 68418, 20530, 66567, 77713, 74100, 85487, 95775, 94490,
    ]);
  });

  test('of bytes all alike: the longest chunks', () => {
    expect(cutAll(makeCut(gear, DEFAULT_CHUNKER), new Uint8Array(600 * KiB))).toEqual(
      [256, 256, 88].map((n) => n * KiB),
    );
  });

  test('with short chunks', () => {
    expect(cutAll(makeCut(gear, SMALL), streamOf('small', 6000))).toEqual([
      278, 318, 409, 305, 294, 257, 82, 261, 283, 324, 75, 290, 317, 364, 262, 441, 298, 278, 340, 339, 185,
    ]);
  });
});

describe('the rule', () => {
  test.each([
    ['short chunks', SMALL],
    ['the narrowest parameters', { ...SMALL, minBytes: 254, maxBytes: 258 }],
    ['a long average', { ...SMALL, averageBytes: 2048, maxBytes: 2050 }],
  ])('cuts where one byte a step would: %s', (_, parameters) => {
    const cut = makeCut(gear, parameters);
    const naive = naiveCut(gear, parameters);
    fc.assert(
      fc.property(anyStream, fc.nat(50), (bytes, start) => {
        const rest = bytes.subarray(start);
        expect(cutAll(cut, rest)).toEqual(cutAll(naive, rest));
      }),
      { seed: 1, numRuns: 150 },
    );
  });

  test('cuts the default lengths where one byte a step would', () => {
    const bytes = streamOf('default', 700 * KiB + 13);
    expect(cutAll(makeCut(gear, DEFAULT_CHUNKER), bytes)).toEqual(cutAll(naiveCut(gear, DEFAULT_CHUNKER), bytes));
  });

  test('depends on the table: another repository cuts elsewhere', () => {
    const bytes = streamOf('keyed', 500 * KiB);
    expect(cutAll(makeCut(gearOf('other'), DEFAULT_CHUNKER), bytes)).not.toEqual(
      cutAll(makeCut(gear, DEFAULT_CHUNKER), bytes),
    );
  });

  test('keeps the bounds, and comes near the average', () => {
    const lengths = cutAll(makeCut(gear, DEFAULT_CHUNKER), streamOf('bounds', 4 * 1024 * KiB));
    const whole = lengths.slice(0, -1);
    for (const length of whole) expect(length).toBeGreaterThan(DEFAULT_CHUNKER.minBytes);
    for (const length of lengths) expect(length).toBeLessThanOrEqual(DEFAULT_CHUNKER.maxBytes);
    const mean = whole.reduce((sum, length) => sum + length, 0) / whole.length;
    expect(mean).toBeGreaterThan(DEFAULT_CHUNKER.averageBytes * 0.75);
    expect(mean).toBeLessThan(DEFAULT_CHUNKER.averageBytes * 1.5);
  });

  test('takes a stream no longer than the minimum as one chunk', () => {
    const cut = makeCut(gear, SMALL);
    for (const length of [1, 2, 63, 64]) expect(cutAll(cut, streamOf('short', length))).toEqual([length]);
  });

  test('refuses parameters it cannot keep', () => {
    for (const wrong of [
      { averageBytes: 300 },
      { averageBytes: 64 },
      { minBytes: 63 },
      { maxBytes: 256 },
      { minBytes: 256 },
    ])
      expect(() => makeCut(gear, { ...SMALL, ...wrong }), JSON.stringify(wrong)).toThrow('internal error');
    expect(() => makeCut(gear.subarray(1), SMALL)).toThrow('internal error');
  });

  test('moves only the cuts near an insertion', () => {
    const cut = makeCut(gear, DEFAULT_CHUNKER);
    const bytes = streamOf('insert', 3 * 1024 * KiB);
    const endsOf = (stream: Uint8Array) => {
      let at = 0;
      return new Set(cutAll(cut, stream).map((length) => (at += length)));
    };
    const before = endsOf(bytes);
    for (const at of [0, 1, 100 * KiB + 1, 1500 * KiB]) {
      const inserted = Buffer.concat([bytes.subarray(0, at), Buffer.from('a new line\n'), bytes.subarray(at)]);
      const after = endsOf(inserted);
      const moved = [...before].filter((end) => !after.has(end < at ? end : end + 11));
      // Two masks need not fall back into step at the first cut, but do so within a few.
      expect(moved.length, `inserted at ${at}`).toBeLessThanOrEqual(4);
      for (const end of moved) expect(Math.abs(end - at)).toBeLessThan(1024 * KiB);
    }
  });
});

describe('a stream', () => {
  test('is cut alike whatever the pieces it comes in', () => {
    fc.assert(
      fc.property(
        anyStream,
        fc.array(fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 3000 })), { maxLength: 30 }),
        fc.boolean(),
        (bytes, pieces, lastAtEnd) => {
          const chunks = streamCuts(bytes, pieces, lastAtEnd);
          expect(chunks.map(({ length }) => length)).toEqual(cutAll(makeCut(gear, SMALL), bytes));
          expect(Buffer.compare(Buffer.concat(chunks), bytes)).toBe(0);
        },
      ),
      { seed: 2, numRuns: 150 },
    );
  });

  test('of nothing has no chunk', () => {
    expect(streamCuts(new Uint8Array(0), [0, 0], false)).toEqual([]);
  });

  test('goes on after a piece that was said to be the last', () => {
    // A file that grew while it was read: cuts may differ, bytes may not.
    const chunks: Uint8Array[] = [];
    const stream = new ChunkStream(makeCut(gear, SMALL), SMALL, (chunk) => chunks.push(chunk.slice()));
    const bytes = streamOf('grown', 5000);
    stream.push(bytes.subarray(0, 3000), true);
    stream.push(bytes.subarray(3000));
    stream.end();
    expect(Buffer.compare(Buffer.concat(chunks), bytes)).toBe(0);
  });
});
