import { describe, expect, it } from 'vitest';
import { chunkIdFunction, gearTable, parseChunkId } from '../../src/crypto/chunk-id.ts';
import { sha256Hex, unhex } from '../../src/crypto/hash.ts';
import { failure, vectors } from './support.ts';

const { chunkId: vector } = vectors<{
  chunkId: { key: string; plaintext: string; id: string; gearFirst: number[]; gearLast: number; gearSha256: string };
}>('derivations');
const key = unhex(vector.key);

describe('chunk ids', () => {
  it('are HMAC-SHA-256 of the plaintext', () => {
    const idOf = chunkIdFunction(key);
    expect(idOf(unhex(vector.plaintext))).toBe(vector.id);
    expect(idOf(unhex(vector.plaintext))).toBe(vector.id);
    expect(chunkIdFunction(new Uint8Array(32))(unhex(vector.plaintext))).not.toBe(vector.id);
  });

  it('are parsed strictly', async () => {
    expect(parseChunkId(vector.id)).toBe(vector.id);
    for (const text of [
      '',
      vector.id.slice(1),
      `${vector.id}0`,
      vector.id.toUpperCase(),
      `${vector.id}\n`,
      `../${vector.id.slice(3)}`,
    ]) {
      await failure(() => parseChunkId(text), 'damaged');
    }
  });
});

describe('the gear table', () => {
  it('is the little-endian HKDF output that an independent implementation gives', () => {
    const table = gearTable(key);
    expect(table).toHaveLength(256);
    expect([table[0], table[1]]).toEqual(vector.gearFirst);
    expect(table[255]).toBe(vector.gearLast);
    expect(sha256Hex(new Uint8Array(table.buffer))).toBe(vector.gearSha256);
  });
});
