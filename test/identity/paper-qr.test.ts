import { describe, expect, test } from 'vitest';
import { MODULE_MIN, qrFor } from '../../src/identity/paper-qr.ts';
import { lacks, seededRandom } from '../crypto/support.ts';
import type { CodePlace } from '../../src/identity/paper-pdf.ts';
import { BLOTS, blotted, DPI, zbarimg, type Scan } from './paper-scan.ts';

/** From the age key's code to one of an imported key's; several that would by their length be of a size in which only some texts are lost. */
const LENGTHS = [119, 137, 177, 194, 210, 220, 235, 240, 245, 250, 280, 310, 320, 325, 330, 335, 338, 382, 403, 439];
const QUIET = 4;

const texts = (seed: string) => {
  const random = seededRandom(seed);
  return LENGTHS.map((length) => Buffer.from(random.bytes(length)).toString('base64url').slice(0, length));
};

/** The code of a text as a page of its own, its modules as large as the smallest that are printed. */
function pageOf(text: string): { page: Scan; code: CodePlace } {
  const { rows, errorCorrection } = qrFor(text, 200);
  const pixels = Math.round((MODULE_MIN / 72) * DPI);
  const width = (rows.length + 2 * QUIET) * pixels;
  const page: Scan = { width, height: width, pixels: new Uint8Array(width * width).fill(255) };
  for (const [i, row] of rows.entries())
    for (const [j, black] of row.entries())
      for (let y = 0; black && y < pixels; y++) {
        const at = ((i + QUIET) * pixels + y) * width + (j + QUIET) * pixels;
        page.pixels.fill(0, at, at + pixels);
      }
  const x = QUIET * MODULE_MIN;
  const code = { page: 0, x, y: x, edge: rows.length * MODULE_MIN, modules: rows.length, errorCorrection };
  return { page, code };
}

test('is of the highest error correction that has room', () => {
  const text = 'x'.repeat(435);
  const levels = [200, 160, 140, 120].map((place) => qrFor(text, place).errorCorrection);
  expect(levels).toEqual(['high', 'quartile', 'medium', 'low']);
  expect(() => qrFor(text, 80)).toThrow('a code fits its place');
});

describe.skipIf(lacks('zbarimg', '--version'))('a code of any size', () => {
  // These two tell all sizes that the six tell.
  const seeds = ['one', 'five', 'two', 'three', 'four', 'six'];
  test.each(process.env['HOLDFAST_LONG'] === '1' ? seeds : seeds.slice(0, 2))(
    'is read with a tenth of it blotted out, texts %s',
    (seed) => {
      const expected = texts(seed);
      const drawn = expected.map(pageOf);
      for (const [where, blot] of Object.entries(BLOTS)) {
        const pages = drawn.flatMap(({ page, code }) => blotted([page], [code], blot));
        const read = zbarimg(pages).split('\n');
        expect(
          expected.filter((text) => !read.includes(`QR-Code:${text}`)).map(({ length }) => length),
          where,
        ).toEqual([]);
      }
    },
  );
});
