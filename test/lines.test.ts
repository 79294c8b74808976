import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineSplitter } from '../src/lines.ts';
import { failure } from './crypto/support.ts';

function linesOf(bytes: Uint8Array, pieceBytes: number, maxBytes: number): string[] {
  const splitter = new LineSplitter(maxBytes);
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes)
    lines.push(...splitter.push(bytes.subarray(at, at + pieceBytes)));
  splitter.end();
  return lines;
}

describe('lines', () => {
  it('come whole, however the text is cut, with every separator but the line feed left in them', () => {
    const line = fc.string({ unit: fc.constantFrom('a', 'é', '🙂', '\r', '\u2028', '\u0085', '\t', '') });
    fc.assert(
      fc.property(fc.array(line), fc.integer({ min: 1, max: 9 }), (lines, length) => {
        const bytes = Buffer.from(lines.map((one) => `${one}\n`).join(''));
        expect(linesOf(bytes, length, 1000)).toEqual(lines);
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
    await failure(() => linesOf(Buffer.from(text), 4, max), 'damaged');
  });
});
