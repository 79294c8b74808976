import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineSplitter, splitLines } from '../src/lines.ts';
import { failure } from './crypto/support.ts';

async function* inPieces(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

describe('lines', () => {
  it('come whole, however the text is cut, with every separator but the line feed left in them', async () => {
    const line = fc.string({ unit: fc.constantFrom('a', 'é', '🙂', '\r', '\u2028', '\u0085', '\t', '') });
    await fc.assert(
      fc.asyncProperty(fc.array(line), fc.integer({ min: 1, max: 9 }), async (lines, length) => {
        const bytes = Buffer.from(lines.map((one) => `${one}\n`).join(''));
        const got: string[] = [];
        for await (const one of splitLines(inPieces(bytes, length), 1000)) got.push(one);
        expect(got).toEqual(lines);
      }),
    );
  });

  it('stay what they were when the reader uses its buffer again', () => {
    const splitter = new LineSplitter(100);
    const buffer = Buffer.from('one\ntw');
    expect(splitter.push(buffer)).toEqual(['one']);
    buffer.fill('o\nthre');
    expect(splitter.push(buffer)).toEqual(['two']);
  });

  it.each([
    ['a last line that is cut off', 'a\nb', 10],
    ['a line that is too long', `${'x'.repeat(15)}\n`, 10],
  ])('are not given for %s', async (_, text, max) => {
    await failure(async () => {
      for await (const line of splitLines(inPieces(Buffer.from(text), 4), max)) expect(line.length).toBeLessThan(15);
    }, 'damaged');
  });
});
