/** Paper as a scanner sees it: PDF pages as grey pixels, blots on them, and what zbarimg reads. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import type { CodePlace } from '../../src/identity/paper-pdf.ts';

export const DPI = 200;

/** A page as an 8-bit grey image (binary PGM). */
export interface Scan {
  width: number;
  height: number;
  /** A byte a pixel, row by row. */
  pixels: Uint8Array;
}

/** Runs `use` with a new folder, which is gone afterwards. */
export function inFolder<T>(use: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-paper-'));
  try {
    return use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The pages, as `pdftoppm -r 200 -gray` makes them. */
export function scan(pdf: Uint8Array): Scan[] {
  return inFolder((folder) => {
    writeFileSync(join(folder, 'paper.pdf'), pdf);
    execFileSync('pdftoppm', ['-r', `${DPI}`, '-gray', join(folder, 'paper.pdf'), join(folder, 'page')]);
    return readdirSync(folder)
      .filter((name) => name.endsWith('.pgm'))
      .sort()
      .map((name) => parsePgm(readFileSync(join(folder, name))));
  });
}

/** For QR codes alone; without them, every kind of code is looked for, which takes half as long again. */
const QR_CODES = ['-Sdisable', '-Sqrcode.enable'];

/** What zbarimg prints of the pages, its remarks aside. */
export function zbarimg(pages: readonly Scan[], flags: readonly string[] = QR_CODES): string {
  return inFolder((folder) => {
    const files = pages.map(({ width, height, pixels }, i) => {
      const file = join(folder, `${String(i).padStart(2, '0')}.pgm`);
      writeFileSync(file, Buffer.concat([Buffer.from(`P5\n${width} ${height}\n255\n`), pixels]));
      return file;
    });
    return spawnSync('zbarimg', ['-q', '--nodbus', ...flags, ...files], { encoding: 'utf8' }).stdout; // exit code 4: a page without codes
  });
}

/** The text of the PDF, laid out as on the page. */
export function pdfText(pdf: Uint8Array): string {
  return execFileSync('pdftotext', ['-layout', '-', '-'], { input: pdf, encoding: 'utf8' });
}

/** The bytes of the PDF and after them the contents of each compressed stream, as Latin-1 text. */
export function inflated(pdf: Uint8Array): string {
  const file = Buffer.from(pdf);
  const parts = [file.toString('latin1')];
  for (let at = file.indexOf('stream\n'); at >= 0; at = file.indexOf('stream\n', at + 1)) {
    if (file.subarray(at - 3, at).toString() === 'end') continue;
    const end = file.indexOf('\nendstream', at);
    parts.push(inflateSync(file.subarray(at + 'stream\n'.length, end)).toString('latin1'));
  }
  return parts.join('\n');
}

/** What text the streams of a PDF draw: the hexadecimal strings in them, read. */
export function drawnText(pdf: Uint8Array): string {
  return [...inflated(pdf).matchAll(/\[((?:<[0-9a-f]*>|[\s\d.-])*)\] TJ/g)]
    .map(([, parts = '']) =>
      [...parts.matchAll(/<([0-9a-f]*)>/g)].map(([, hex = '']) => Buffer.from(hex, 'hex').toString('latin1')).join(''),
    )
    .join('\n');
}

/** Where a blot lies on a code: its middle, in parts of the code's edge. None touches one of the three corners that say where the code is. */
export const BLOTS: Readonly<Record<string, readonly [x: number, y: number]>> = {
  'the middle': [0.5, 0.5],
  'the lower right': [0.83, 0.83],
  'the upper edge': [0.5, 0.17],
  'the left edge': [0.17, 0.5],
  'the right edge': [0.83, 0.5],
};

/** A copy of the pages with a white square over a tenth of each code. */
export function blotted(
  pages: readonly Scan[],
  codes: readonly CodePlace[],
  [x, y]: readonly [number, number],
): Scan[] {
  const copies = pages.map((page) => ({ ...page, pixels: page.pixels.slice() }));
  const pixelsAPoint = DPI / 72;
  for (const code of codes) {
    const page = copies[code.page];
    if (!page) throw new Error('a code lies on a page');
    const side = code.edge * Math.sqrt(0.1);
    const left = Math.round((code.x + x * code.edge - side / 2) * pixelsAPoint);
    const top = Math.round((code.y + y * code.edge - side / 2) * pixelsAPoint);
    const pixels = Math.ceil(side * pixelsAPoint);
    for (let row = top; row < top + pixels; row++)
      page.pixels.fill(255, row * page.width + left, row * page.width + left + pixels);
  }
  return copies;
}

/** How much of an area is black, from 0 to 1; in points from the page's upper left corner. */
export function blackness(page: Scan, x: number, y: number, width: number, height: number): number {
  const of = (points: number) => Math.round((points * DPI) / 72);
  let black = 0;
  for (let row = of(y); row < of(y + height); row++)
    for (let column = of(x); column < of(x + width); column++)
      if ((page.pixels[row * page.width + column] ?? 255) < 128) black++;
  return black / (of(width) * of(height));
}

function parsePgm(file: Buffer): Scan {
  const [head = '', width, height] = /^P5\s+(\d+)\s+(\d+)\s+255\s/.exec(file.subarray(0, 100).toString('latin1')) ?? [];
  return { width: Number(width), height: Number(height), pixels: new Uint8Array(file.subarray(head.length)) };
}
