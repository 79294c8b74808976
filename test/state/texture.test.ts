import { gzipSync } from 'node:zlib';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { TextureSampler } from '../../src/state/texture.ts';
import { seededRandom } from '../crypto/support.ts';

const random = seededRandom('texture');
const textureOf = (...pieces: Uint8Array[]) => {
  const sampler = new TextureSampler();
  for (const piece of pieces) sampler.see(piece);
  return sampler.texture;
};
const source = readFileSync(new URL('../../docs/format.md', import.meta.url));
const LENGTHS = [32, 64, 200, 1000, 50_000];

describe('the texture of', () => {
  test.each(LENGTHS)('%i random bytes is that of encrypted data, nearly always', (length) => {
    const found = Array.from({ length: 200 }, () => textureOf(random.bytes(length)));
    expect(found.filter((one) => one === 'incompressible').length).toBeGreaterThan(180);
  });

  test.each(LENGTHS)('%i bytes of text, hexadecimal digits or Base64 never is', (length) => {
    for (let i = 0; i < 100; i++) {
      const raw = Buffer.from(random.bytes(length));
      const at = (i * 37) % (source.length - 200);
      const texts = [raw.toString('hex'), raw.toString('base64'), source.subarray(at, at + length)];
      for (const text of texts) expect(textureOf(Buffer.from(text).subarray(0, length))).toBe('compressible');
    }
  });

  test('texts in other scripts, and of a database full of zeros, is not', () => {
    const texts = ['Память агента хранится здесь. ', '代理的记忆保存在这里。', 'η μνήμη του πράκτορα '];
    for (const text of texts) expect(textureOf(Buffer.from(text.repeat(3))), text).toBe('compressible');
    expect(textureOf(Buffer.concat([Buffer.alloc(3000), random.bytes(1000)]))).toBe('compressible');
  });

  test('a compressed file is', () => {
    expect(textureOf(gzipSync(source))).toBe('incompressible');
  });

  test('a large file is that of most of it, and of next to nothing is unknown', () => {
    const [noise, text] = [random.bytes(300_000), Buffer.alloc(300_000, source)];
    expect(textureOf(noise, noise, text)).toBe('incompressible');
    expect(textureOf(noise, text, text)).toBe('compressible');
    expect(textureOf(random.bytes(15))).toBeUndefined();
    expect(textureOf()).toBeUndefined();
  });
});
