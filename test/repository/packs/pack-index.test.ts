import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ChunkId } from '../../../src/entry.ts';
import { sha256Hex } from '../../../src/crypto/hash.ts';
import { isHoldfastError } from '../../../src/errors.ts';
import type { PackId } from '../../../src/repository/records/object-name.ts';
import {
  indexLine,
  PackIndex,
  parseIndexLine,
  type ChunkLocation,
  type IndexedPack,
} from '../../../src/repository/packs/pack-index.ts';
import { failure } from '../../crypto/support.ts';

const idOf = (text: string) => sha256Hex(Buffer.from(text)) as ChunkId;
const packIdOf = (text: string) => sha256Hex(Buffer.from(`pack ${text}`)) as PackId;

/** A pack of `count` chunks of which each is `length` long, 50 a frame. */
function packOf(name: string, ids: readonly ChunkId[], length = 100): IndexedPack {
  const frames = Math.ceil(ids.length / 50);
  return {
    id: packIdOf(name),
    kind: 'data',
    storedBytes: 1000 + ids.length,
    payloadOffset: 300,
    frames: Array.from({ length: frames }, (_, i) => ({ offset: i * 999, length: 999, tarBytes: 50 * length })),
    chunks: ids.map((id, i) => ({ id, frame: Math.floor(i / 50), offset: (i % 50) * length, length })),
  };
}

describe('the index in memory', () => {
  test('finds each of tens of thousands of chunks, and no other', () => {
    const index = new PackIndex();
    const model = new Map<ChunkId, ChunkLocation>();
    for (let number = 0; number < 60; number++) {
      const ids = Array.from({ length: 1000 }, (_, i) => idOf(`${number}/${i}`));
      const pack = packOf(`${number}`, ids);
      index.addPack(pack);
      for (const { id, frame, offset, length } of pack.chunks) model.set(id, { pack: number, frame, offset, length });
    }
    expect(index.size).toBe(60_000);
    let wrong = 0;
    for (const [id, location] of model) {
      const found = index.locate(id);
      if (!found || found.pack !== location.pack || found.frame !== location.frame) wrong++;
      else if (found.offset !== location.offset || found.length !== location.length) wrong++;
    }
    expect(wrong).toBe(0);
    for (let i = 0; i < 10_000; i++) if (index.has(idOf(`absent ${i}`))) wrong++;
    expect(wrong).toBe(0);
  });

  test('without lost packs, finds what lies in another one too, and nothing else of them', () => {
    const index = new PackIndex();
    const ids = Array.from({ length: 3000 }, (_, i) => idOf(`${i}`));
    index.addPack(packOf('a', ids.slice(0, 2000)));
    index.addPack(packOf('b', ids.slice(1000)));
    index.addPack(packOf('c', ids.slice(1500, 1600)));
    const kept = index.without(new Set([packIdOf('a')]));
    expect(ids.slice(0, 1000).some((id) => kept.has(id))).toBe(false);
    for (const [i, id] of ids.entries()) {
      if (i < 1000) continue;
      expect(kept.locate(id)).toEqual({
        pack: 1,
        frame: Math.floor((i - 1000) / 50),
        offset: (i % 50) * 100,
        length: 100,
      });
      expect(kept.elsewhere(id).map(({ pack }) => pack)).toEqual(i >= 1500 && i < 1600 ? [2] : []);
    }
    expect(index.without(new Set()).size).toBe(3000);
  });

  test('does as a map does', () => {
    // Ids that share their first bytes meet in one place of the table.
    const anyId = fc
      .integer({ min: 0, max: 60 })
      .map((n) => `${'00'.repeat(28)}${n.toString(16).padStart(8, '0')}` as ChunkId);
    const anyStep = fc.oneof(
      fc.record({ pending: anyId, length: fc.integer({ min: 1, max: 5000 }) }),
      fc.record({ pack: fc.integer({ min: 0, max: 8 }), ids: fc.uniqueArray(anyId, { minLength: 1, maxLength: 20 }) }),
    );
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 30 }), (steps) => {
        const index = new PackIndex();
        const known = new Map<ChunkId, { length: number; pack?: PackId }>();
        const packs: PackId[] = [];
        for (const step of steps) {
          if ('pending' in step) {
            index.addPending(step.pending, step.length);
            // A second notice before the pack is sealed may say another length; nothing does so.
            if (!known.get(step.pending)?.pack) known.set(step.pending, { length: step.length });
          } else {
            const pack = packOf(`${step.pack}`, step.ids);
            index.addPack(pack);
            if (packs.includes(pack.id)) continue;
            packs.push(pack.id);
            for (const id of step.ids) if (!known.get(id)?.pack) known.set(id, { length: 100, pack: pack.id });
          }
        }
        expect(index.size).toBe(known.size);
        expect(index.packs.map(({ id }) => id)).toEqual(packs);
        for (let n = 0; n <= 60; n++) {
          const id = `${'00'.repeat(28)}${n.toString(16).padStart(8, '0')}` as ChunkId;
          const wanted = known.get(id);
          const location = index.locate(id);
          expect(index.has(id)).toBe(wanted !== undefined);
          expect(index.lengthOf(id)).toBe(wanted?.length);
          expect(location && index.packs[location.pack]?.id).toBe(wanted?.pack);
        }
      }),
      { seed: 3, numRuns: 300 },
    );
  });

  test('knows packs by id, and takes one once', () => {
    const index = new PackIndex();
    const pack = packOf('one', [idOf('a'), idOf('b')]);
    index.addPack(pack);
    index.addPack(pack);
    expect(index.packs).toHaveLength(1);
  });

  test('has a pending chunk, but no place for it', () => {
    const index = new PackIndex();
    index.addPending(idOf('a'), 7);
    expect(index.has(idOf('a'))).toBe(true);
    expect(index.lengthOf(idOf('a'))).toBe(7);
    expect(index.locate(idOf('a'))).toBeUndefined();
  });
});

describe('a line of the index', () => {
  const anyPack: fc.Arbitrary<IndexedPack> = fc
    .record({
      name: fc.string(),
      kind: fc.constantFrom('data' as const, 'manifest' as const),
      storedBytes: fc.nat(0xffff_ffff),
      payloadOffset: fc.nat(0xffff_ffff),
      frames: fc.array(
        fc.record({ offset: fc.nat(), length: fc.nat(), tarBytes: fc.integer({ min: 1000, max: 2 ** 21 }) }),
        {
          minLength: 1,
          maxLength: 5,
        },
      ),
      chunks: fc.array(fc.record({ name: fc.string(), frame: fc.nat(4), offset: fc.nat(500), length: fc.nat(500) })),
    })
    .map(({ name, chunks, frames, ...rest }) => ({
      id: packIdOf(name),
      ...rest,
      frames,
      chunks: chunks.map(({ name: of, frame, ...place }) => ({ id: idOf(of), frame: frame % frames.length, ...place })),
    }));

  test('comes back as it was', () => {
    fc.assert(
      fc.property(anyPack, (pack) => {
        expect(parseIndexLine(indexLine(pack))).toEqual(pack);
      }),
      { seed: 4, numRuns: 200 },
    );
  });

  const good = indexLine(packOf('good', [idOf('a'), idOf('b')]));
  const change = (edit: (fields: Record<string, unknown>) => unknown) => {
    const fields = JSON.parse(good) as Record<string, unknown>;
    return JSON.stringify(edit(fields) ?? fields);
  };
  const a = idOf('a');
  test.each([
    ['empty', ''],
    ['no JSON', 'pack'],
    ['no object', '[]'],
    ['null', 'null'],
    ['without a pack', change((f) => ({ ...f, pack: undefined }))],
    ['with a pack id in capitals', change((f) => ({ ...f, pack: 'A'.repeat(64) }))],
    ['with a pack id that is a path', change((f) => ({ ...f, pack: `../${'a'.repeat(61)}` }))],
    ['with another kind', change((f) => ({ ...f, kind: 'other' }))],
    ['with a size that is none', change((f) => ({ ...f, size: -1 }))],
    ['with a size that is a text', change((f) => ({ ...f, size: '10' }))],
    ['with a size beyond all bounds', change((f) => ({ ...f, size: 2 ** 32 }))],
    ['with a broken number', change((f) => ({ ...f, payload: 1.5 }))],
    ['with frames that are no list', change((f) => ({ ...f, frames: {} }))],
    ['with a frame of four numbers', change((f) => ({ ...f, frames: [[0, 1, 2, 3]] }))],
    ['with a frame that is none', change((f) => ({ ...f, frames: [null] }))],
    ['with a chunk in no frame', change((f) => ({ ...f, chunks: [[a, 1, 0, 1]] }))],
    ['with a chunk before its frame', change((f) => ({ ...f, chunks: [[a, 0, -1, 1]] }))],
    ['with a chunk past its frame', change((f) => ({ ...f, chunks: [[a, 0, 4999, 2]] }))],
    ['with a chunk id too short', change((f) => ({ ...f, chunks: [[a.slice(1), 0, 0, 1]] }))],
    ['with a chunk that is a number', change((f) => ({ ...f, chunks: [7] }))],
  ])('is refused %s', async (_, line) => {
    await failure(() => parseIndexLine(line), 'damaged');
  });

  test('changed anywhere is read as something else or refused as damaged, never otherwise', () => {
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.string({ maxLength: 3 }), fc.nat(3), (at, put, drop) => {
        try {
          parseIndexLine(good.slice(0, at) + put + good.slice(at + drop));
        } catch (error) {
          if (!isHoldfastError(error, 'damaged')) throw error;
        }
      }),
      { seed: 5, numRuns: 2000 },
    );
    fc.assert(
      fc.property(fc.json(), (text) => {
        try {
          parseIndexLine(text);
        } catch (error) {
          if (!isHoldfastError(error, 'damaged')) throw error;
        }
      }),
      { seed: 6, numRuns: 500 },
    );
  });
});
