/** The PDF as a printer and a scanner see it: pdftoppm makes the page, zbarimg reads it. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { openAge } from '../../src/crypto/age.ts';
import { hex } from '../../src/crypto/hash.ts';
import { rowCheck, wordsOf } from '../../src/crypto/words.ts';
import { paperOf, sampleOf, type PaperDocument, type PaperFacts } from '../../src/identity/paper.ts';
import { parseCodes } from '../../src/identity/paper-code.ts';
import { pagesOf } from '../../src/identity/paper-pages.ts';
import { PAPER_SIZES, renderPaper, type PaperSize, type RenderedPaper } from '../../src/identity/paper-pdf.ts';
import { MODULE_MIN } from '../../src/identity/paper-qr.ts';
import { parseRecoveryText } from '../../src/identity/recovery-text.ts';
import { agentKey, newRoot, restoreIdentity } from '../../src/identity/root.ts';
import { lacks, seededRandom } from '../crypto/support.ts';
import { blackness, BLOTS, blotted, DPI, drawnText, inflated, pdfText, scan, zbarimg } from './paper-scan.ts';
import { extreme, facts, imported, random, root } from './papers.ts';

const noScanner = lacks('pdftoppm', '-v') || lacks('pdftotext', '-v') || lacks('zbarimg', '--version');
const words = wordsOf(root);
const shares = { threshold: 2, count: 3 };

async function paper(
  over: Partial<PaperFacts> = {},
  size: PaperSize = 'a4',
  of = root,
): Promise<{ document: PaperDocument; rendered: RenderedPaper }> {
  const document = await paperOf(of, { ...facts, ...over }, seededRandom('document'));
  return { document, rendered: await renderPaper(document, { size }) };
}

/** What the codes of a document say, sorted. */
const contentsOf = (text: string) =>
  parseCodes(text)
    .codes.map(({ type, body }) => `${type} ${body}`)
    .sort();
const expectedOf = (document: PaperDocument) =>
  contentsOf(
    pagesOf(document)
      .flatMap(({ codes }) => codes)
      .map(({ text }) => text)
      .join('\n'),
  );

describe.skipIf(noScanner)('what zbarimg reads of the pages at 200 dpi in grey', () => {
  // zbarimg misreads one in some hundreds of codes: they are the same ones each time, also where the age library wraps the key.
  beforeEach(() => {
    const { bytes } = seededRandom('codes');
    const fill = <T extends ArrayBufferView | null>(array: T): T => {
      if (array) new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(bytes(array.byteLength));
      return array;
    };
    vi.spyOn(globalThis.crypto, 'getRandomValues').mockImplementation(fill);
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  const kinds: [string, Partial<PaperFacts>, codes: number][] = [
    ['words', {}, 2],
    ['words and an imported key', imported, 5],
    ['words and an imported key, post-quantum', { ...imported, kind: 'hybrid' }, 9],
    ['shares and an imported key', { ...imported, shares }, 6],
  ];
  test.each(kinds.flatMap(([name, over, codes]) => PAPER_SIZES.map((size) => ({ name, size, over, codes }))))(
    'is all of it: $name, $size',
    async ({ over, size, codes }) => {
      const { document, rendered } = await paper(over, size);
      expect(rendered.codes).toHaveLength(codes);
      expect(contentsOf(zbarimg(scan(rendered.bytes), []))).toEqual(expectedOf(document));
    },
  );

  const others = ['one', 'two', 'three'].map((seed) => {
    const other = newRoot(seededRandom(seed));
    return { name: `words ${seed}`, of: other, over: { agentPublicKey: hex(agentKey(other, 0).publicKey) } };
  });
  const papers = [
    { name: 'words and an imported key', of: root, over: imported },
    { name: 'shares', of: root, over: { shares } },
    ...others,
  ];
  const blots = Object.entries(BLOTS);
  // paper-qr.test.ts has every blot on many codes; here each paper gets another, or with HOLDFAST_LONG=1 all.
  test.each(
    papers.map((one, i) => ({
      ...one,
      some: process.env['HOLDFAST_LONG'] === '1' ? blots : blots.slice(i, i + 1),
    })),
  )('is all of it with a tenth of each code blotted out: $name', async ({ of, over, some }) => {
    const { document, rendered } = await paper(over, 'a4', of);
    const pages = scan(rendered.bytes);
    expect(some.length).toBeGreaterThan(0);
    for (const [where, blot] of some)
      expect(contentsOf(zbarimg(blotted(pages, rendered.codes, blot))), where).toEqual(expectedOf(document));
  });

  test('is all of it with the middle of each of the densest codes blotted out', async () => {
    const { document, rendered } = await paper({ ...imported, kind: 'hybrid' }, 'letter');
    expect(contentsOf(zbarimg(blotted(scan(rendered.bytes), rendered.codes, [0.5, 0.5])))).toEqual(
      expectedOf(document),
    );
  });

  test('recovers: root and wrapped key of the words page, root of any two pages of shares', async () => {
    const plain = await paper(imported);
    const secret = parseRecoveryText([zbarimg(scan(plain.rendered.bytes))]);
    expect(secret).toMatchObject({ kind: 'root', root });
    const file = await openAge(secret.wrappedAgentKey ?? new Uint8Array(), [restoreIdentity(root, 'x25519')]);
    expect(Buffer.from(file)).toEqual(imported.agentKeyFile);
    const [first, , third] = scan((await paper({ shares })).rendered.bytes);
    const read = [first, third].map((page) => zbarimg(page ? [page] : []));
    expect(parseRecoveryText(read)).toMatchObject({ kind: 'root', root });
  });
});

describe('a code', () => {
  test.each(PAPER_SIZES)(
    'is printed at the highest error correction, its modules no smaller than half a millimetre (%s)',
    async (size) => {
      expect((MODULE_MIN / 72) * 25.4).toBeGreaterThan(0.5);
      for (const over of [{}, imported, { ...imported, kind: 'hybrid' as const }, { shares }]) {
        for (const { edge, modules, errorCorrection } of (await paper(over, size)).rendered.codes) {
          expect(errorCorrection).toBe('high');
          expect(edge / modules).toBeGreaterThanOrEqual(MODULE_MIN - 1e-9);
          expect(((edge / modules) * 300) / 72).toBeCloseTo(Math.round(((edge / modules) * 300) / 72), 6);
        }
      }
    },
  );

  test.skipIf(noScanner)('has four modules of white around it', async () => {
    for (const over of [imported, { shares }]) {
      const { rendered } = await paper(over, 'letter');
      const pages = scan(rendered.bytes);
      for (const { page: number, x, y, edge, modules } of rendered.codes) {
        const page = pages[number];
        const white = (4 * edge) / modules - 72 / DPI;
        const wide = edge + 2 * white;
        if (!page) throw new Error('a page');
        expect(blackness(page, x - white, y - white - 0.5, wide, white)).toBe(0);
        expect(blackness(page, x - white, y + edge + 0.5, wide, white)).toBe(0);
        expect(blackness(page, x - white - 0.5, y, white, edge)).toBe(0);
        expect(blackness(page, x + edge + 0.5, y, white, edge)).toBe(0);
        expect(blackness(page, x, y, edge, edge)).toBeGreaterThan(0.3);
      }
    }
  });
});

describe.skipIf(noScanner)('the text of a page', () => {
  test('has the words in order, row by row, with their numbers and checks', async () => {
    const lines = pdfText((await paper()).rendered.bytes)
      .split('\n')
      .map((line) => line.trim().split(/\s+/).join(' '));
    for (let row = 0; row < 6; row++) {
      const four = words.slice(4 * row, 4 * row + 4);
      const cells = four.map((word, i) => `${4 * row + i + 1} ${word}`).join(' ');
      expect(
        lines.some((line) => line.startsWith(`${cells} ${rowCheck(row + 1, four)}`)),
        `row ${row + 1}`,
      ).toBe(true);
    }
  });

  test('has the words of a share in order, three a row', async () => {
    const { document, rendered } = await paper({ shares }, 'letter');
    const { secret } = document;
    if (secret.kind !== 'shares') throw new Error('expected shares');
    const pages = pdfText(rendered.bytes).split('\f');
    for (const [i, share] of secret.shares.entries()) {
      const text = (pages[i] ?? '').split(/\s+/).join(' ');
      expect(text).toContain(
        share
          .slice(0, 3)
          .map((word, n) => `${n + 1} ${word}`)
          .join(' '),
      );
      expect(text).toContain(
        share
          .slice(30)
          .map((word, n) => `${n + 31} ${word}`)
          .join(' '),
      );
      expect(text).not.toContain('AGE-SECRET-KEY');
    }
  });
});

describe('the longest that can come', () => {
  const longest = { ...facts, ...extreme };
  /** No phrase has only such words, but each place of one may have them. */
  const wide: Partial<PaperDocument> = {
    secret: {
      kind: 'words',
      words: Array.from({ length: 24 }, () => 'mushroom'),
      ageIdentity: restoreIdentity(root, 'hybrid'),
    },
  };

  test.each(PAPER_SIZES)('has room on its pages (%s)', async (size) => {
    for (const over of [{}, { shares: { threshold: 16, count: 16 } }, { ...imported, kind: 'hybrid' as const }]) {
      const document = await paperOf(root, { ...longest, ...over }, random);
      await renderPaper(document, { size });
      const { secret } = document;
      // One share has room where the others have.
      const less = secret.kind === 'shares' ? { secret: { ...secret, shares: secret.shares.slice(-1) } } : wide;
      for (const handle of [longest.handle, 'W'.repeat(64), '\u00c5'.repeat(64)])
        await renderPaper({ ...document, ...less, handle }, { size });
    }
  });

  test.skipIf(noScanner)('leaves the margins of the pages white, and is read by the scanner', async () => {
    const document = { ...(await paperOf(root, longest, random)), ...wide };
    for (const size of PAPER_SIZES) {
      const { bytes, codes } = await renderPaper(document, { size });
      const [first, ...more] = scan(bytes);
      if (!first) throw new Error('a page');
      expect(contentsOf(zbarimg([first]))).toEqual(expectedOf(document));
      expect(codes).toHaveLength(2);
      for (const page of [first, ...more]) {
        const [width, height] = [(page.width * 72) / DPI, (page.height * 72) / DPI];
        for (const [x, y, w, h] of [
          [0, 0, width, 28],
          [0, height - 26, width, 26],
          [0, 0, 40, height],
          [width - 40, 0, 40, height],
        ] as const)
          expect(blackness(page, x, y, w, h)).toBe(0);
      }
    }
  });
});

describe('the file', () => {
  test('is the same for the same document', async () => {
    const { document, rendered } = await paper(imported);
    const again = await renderPaper(document, { size: 'a4' });
    expect(Buffer.from(again.bytes).equals(rendered.bytes)).toBe(true);
  });

  test('says in its metadata when it was made and nothing secret', async () => {
    const { rendered } = await paper();
    const file = Buffer.from(rendered.bytes).toString('latin1');
    expect(file).toContain('(holdfast recovery sheet of ada)');
    expect(file).toContain('(D:20261121123000Z)');
    const objects = file.replace(/stream\n[\s\S]*?\nendstream/g, '');
    for (const secret of [...words, 'AGE-SECRET-KEY']) expect(objects).not.toMatch(new RegExp(`\\b${secret}\\b`));
  });

  test('is black and white', async () => {
    const { rendered } = await paper({ ...imported, shares });
    const drawn = inflated(rendered.bytes);
    const colours = [...drawn.matchAll(/^(?:\/\w+ cs\s+)?([\d. ]+) (scn|SCN|rg|RG|g|G|k|K)$/gm)].map(
      ([, colour]) => colour,
    );
    expect(colours.length).toBeGreaterThan(0);
    expect(new Set(colours)).toEqual(new Set(['0 0 0']));
  });

  test('of a sample holds nothing of the secrets, in no stream of it', async () => {
    for (const over of [{}, imported, { ...imported, shares }, { ...imported, kind: 'hybrid' as const }]) {
      const real = await paperOf(root, { ...facts, ...over }, random);
      const { agentKeyFile: _, ...known } = { ...facts, agentKeyFile: undefined, ...over };
      const { bytes, codes } = await renderPaper(sampleOf({ ...known, recovery: real.recovery }), { size: 'a4' });
      const text = drawnText(bytes);
      expect(text).toContain('SAMPLE');
      expect(text).toContain(real.agent.fingerprint); // or the reader of the streams reads nothing
      const all = `${text}\n${inflated(bytes)}`;
      const theirs =
        real.secret.kind === 'shares' ? real.secret.shares.map((share) => share.slice(0, 3).join('\n')) : [];
      const gridded = words.filter((word) => word.length > 5).map((word) => `\n${word}\n`);
      for (const secret of [...gridded, ...theirs, restoreIdentity(root, 'x25519'), Buffer.from(root).toString('hex')])
        expect(all.includes(secret)).toBe(false);
      if (!noScanner) {
        const read = zbarimg(scan(bytes));
        expect(parseCodes(read).codes.every(({ type, body }) => type === 'agent-key' || body.includes('SAMPLE'))).toBe(
          true,
        );
        expect(read.match(/QR-Code/g)).toHaveLength(codes.length);
      }
    }
    // The same search finds them in the real one.
    const text = drawnText((await paper()).rendered.bytes);
    for (const word of words) expect(text).toContain(`\n${word}\n`);
  });
});
