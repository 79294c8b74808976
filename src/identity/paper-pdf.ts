/** Draws the recovery document as PDF: black on white, in fonts that every reader has. */
import { assert } from '../errors.ts';
import { printable, type PaperDocument } from './paper.ts';
import { qrFor, type ErrorCorrection } from './paper-qr.ts';
import { pagesOf, type CodeBox, type Fact, type PaperPage, type Steps, type WordGrid } from './paper-pages.ts';

export const PAPER_SIZES = ['a4', 'letter'] as const;
export type PaperSize = (typeof PAPER_SIZES)[number];

/** Points (1/72 inch). */
const PAGE: Readonly<Record<PaperSize, readonly [width: number, height: number]>> = {
  a4: [595.28, 841.89],
  letter: [612, 792],
};

/** Where a code was drawn: its black part, without the white around it, in points from the page's upper left corner. */
export interface CodePlace {
  /** From 0. */
  page: number;
  x: number;
  y: number;
  edge: number;
  modules: number;
  errorCorrection: ErrorCorrection;
}

export interface RenderedPaper {
  bytes: Uint8Array;
  pages: number;
  codes: CodePlace[];
}

type Doc = PDFKit.PDFDocument;

interface Block {
  height: number;
  draw(top: number): void;
}

/** What the drawing of a page shares. */
interface Pen {
  doc: Doc;
  left: number;
  width: number;
  text: { size: number; lead: number; base: number };
  /** Takes down where a code of this page was drawn. */
  note(place: Omit<CodePlace, 'page'>): void;
}

const MARGIN = { x: 42, top: 30, bottom: 28 };
/** Between the two columns of the page. */
const GUTTER = 18;
const GAP = { min: 6, comfortable: 11, max: 22 };
const REGULAR = 'Helvetica';
const BOLD = 'Helvetica-Bold';
const MONO = 'Courier';
const MONO_BOLD = 'Courier-Bold';
/** All characters of Courier have this width, in parts of the font size. */
const MONO_WIDTH = 0.6;
/** Of running text: the largest is taken with which a page has room. */
const TEXT_SIZES = [9.8, 9.4, 9, 8.6, 8.3] as const;
const LEAD = 1.22;
// `base`: of the base line, from the top of what is set. Notes and headings keep clear of the white around codes.
const FACT = { size: 7.5, lead: 11, base: 7, label: 58 };
const COMMAND = { size: 7.8, lead: 9.8, base: 7 };
const NOTE = { size: 7.2, base: 12.6, height: 14 };
const HEADING = { size: 10.5, height: 17, base: 7.8 };
/** Edges of the places for codes, with the white around them. */
const PLACE = { words: 150, share: 170, ageKey: 118 };
const RULE = 0.6;

/** The PDF of a document; the same document gives the same bytes. Secret, unless it is a sample. */
export async function renderPaper(document: PaperDocument, { size }: { size: PaperSize }): Promise<RenderedPaper> {
  const { default: PDFDocument } = await import('pdfkit'); // 100 ms that no other command should pay
  const [width, height] = PAGE[size];
  const doc = new PDFDocument({
    size: [width, height],
    margin: 0,
    autoFirstPage: false,
    lang: 'en',
    displayTitle: true,
    info: {
      Title: `holdfast recovery sheet of ${printable(document.handle)}`,
      Creator: printable(document.tool),
      CreationDate: new Date(document.time),
    },
  });
  const chunks: Uint8Array[] = [];
  const ended = new Promise<void>((resolve, reject) => {
    doc.on('data', (chunk: Uint8Array) => chunks.push(chunk));
    doc.once('end', resolve);
    doc.once('error', reject);
  });
  const pages = pagesOf(document);
  const codes: CodePlace[] = [];
  for (const [number, page] of pages.entries()) {
    doc.addPage().fillColor('black').strokeColor('black');
    drawPage(page, height, {
      doc,
      left: MARGIN.x,
      width: width - 2 * MARGIN.x,
      text: textOf(TEXT_SIZES[0]),
      note: (place) => codes.push({ page: number, ...place }),
    });
  }
  doc.end();
  await ended;
  return { bytes: Buffer.concat(chunks), pages: pages.length, codes };
}

function drawPage(page: PaperPage, pageHeight: number, pen: Pen): void {
  const room = pageHeight - MARGIN.top - MARGIN.bottom;
  for (const size of TEXT_SIZES) {
    const blocks = blocksOf(page, { ...pen, text: textOf(size) });
    const free = room - blocks.reduce((sum, block) => sum + block.height, 0);
    const gap = Math.min(GAP.max, free / Math.max(1, blocks.length - 1));
    const isLast = size === TEXT_SIZES.at(-1);
    if (gap < (isLast ? GAP.min : GAP.comfortable)) continue;
    let top = MARGIN.top;
    for (const block of blocks) {
      block.draw(top);
      top += block.height + gap;
    }
    return;
  }
  assert(false, `the ${page.kind} page has room for what is on it`);
}

function textOf(size: number): Pen['text'] {
  return { size, lead: size * LEAD, base: size * 0.85 };
}

function blocksOf(page: PaperPage, pen: Pen): Block[] {
  const { grid, facts, codes, steps, notes, byHand } = page;
  const [first, second] = codes;
  const blocks = [header(page, pen)];
  if (grid && first) {
    const place = page.kind === 'share' ? PLACE.share : PLACE.words;
    blocks.push(besideCode(place, first, pen, (column, codeHeight) => wordGrid(grid, column, codeHeight)));
  } else blocks.push(...codeRows(codes, pen));
  if (facts) {
    if (grid && second) blocks.push(besideCode(PLACE.ageKey, second, pen, (column) => factList(facts, column)));
    else blocks.push(factList(facts, pen));
  }
  if (steps.length > 0)
    blocks.push(
      columns(
        steps.map((list) => (column) => stepList(list, column)),
        pen,
      ),
    );
  if (notes.length > 0)
    blocks.push(
      columns(
        notes.map((note) => (column) => paragraph(note, column)),
        pen,
      ),
    );
  if (byHand.length > 0) blocks.push(handLines(byHand, pen));
  return blocks;
}

function header({ heading, handle, corner, warning }: PaperPage, pen: Pen): Block {
  const { doc, left, width } = pen;
  const aside = 90;
  const place = width - aside - GUTTER;
  let size = 23;
  while (size > 8 && doc.font(BOLD).fontSize(size).widthOfString(handle) > place) size -= 0.5;
  const [headingHeight, titleHeight, ruleSpace] = [14, 27, 7];
  doc.font(BOLD).fontSize(9.2);
  const warningHeight = doc.heightOfString(warning, { width, lineGap: 1.5 });
  return {
    height: headingHeight + titleHeight + ruleSpace + warningHeight,
    draw: (top) => {
      line(doc.font(REGULAR).fontSize(10.5), `holdfast  -  ${heading}`.replace('-', '\u2013'), left, top + 9);
      // On one base line, whatever its size.
      line(doc.font(BOLD).fontSize(size), handle, left, top + headingHeight + 18.5);
      for (const [i, text] of corner.entries()) {
        doc.font(i === 0 ? BOLD : REGULAR).fontSize(8.7);
        line(doc, text, left + width - doc.widthOfString(text), top + 9 + i * 11.5);
      }
      const rule = top + headingHeight + titleHeight;
      doc
        .lineWidth(1.8)
        .moveTo(left, rule)
        .lineTo(left + width, rule)
        .stroke();
      doc
        .font(BOLD)
        .fontSize(9.2)
        .text(warning, left, rule + ruleSpace, { width, lineGap: 1.5 });
    },
  };
}

/** A column of text and, at its right, a code whose black part ends at the margin. */
function besideCode(place: number, box: CodeBox, pen: Pen, make: (column: Pen, codeHeight: number) => Block): Block {
  const code = makeCode(box, place);
  const { doc, left, width } = pen;
  // At the right the white around the code lies in the margin, above and below in the gaps and the heading.
  const edge = code.edge;
  const column = { ...pen, width: width - edge - GUTTER };
  const block = make(column, edge);
  return {
    height: Math.max(block.height, HEADING.height + edge + NOTE.height),
    draw: (top) => {
      block.draw(top);
      const x = left + width - edge;
      line(doc.font(BOLD).fontSize(HEADING.size), box.heading, x, top + HEADING.base);
      code.draw(x, top + HEADING.height, pen);
      line(doc.font(REGULAR).fontSize(NOTE.size), box.note, x, top + HEADING.height + edge + NOTE.base);
    },
  };
}

/** Codes on their own, three in a row. */
function codeRows(boxes: readonly CodeBox[], pen: Pen): Block[] {
  const { doc, left, width } = pen;
  const across = 3;
  const step = (width + GUTTER) / across;
  const rows = Array.from({ length: Math.ceil(boxes.length / across) }, (_, row) =>
    boxes.slice(row * across, (row + 1) * across).map((box) => ({ box, code: makeCode(box, step) })),
  );
  return rows.map((row) => {
    const edge = Math.max(...row.map(({ code }) => code.edge));
    return {
      height: HEADING.height + edge,
      draw: (top) => {
        for (const [i, { box, code }] of row.entries()) {
          const x = left + i * step;
          line(doc.font(BOLD).fontSize(9), box.heading, x, top + HEADING.base);
          code.draw(x, top + HEADING.height, pen);
        }
      },
    };
  });
}

function wordGrid({ heading, note, columns: across, rows }: WordGrid, pen: Pen, codeHeight: number): Block {
  const { doc, left, width } = pen;
  const checkWidth = rows.some(({ check }) => check !== undefined) ? 42 : 0;
  const cell = (width - checkWidth) / across;
  const rowHeight = Math.max(codeHeight / rows.length, 14.2);
  const size = rowHeight > 18 ? 11.5 : 10.2;
  return {
    height: HEADING.height + rowHeight * rows.length,
    draw: (top) => {
      headingLine(doc, heading, note, left, top);
      if (checkWidth > 0) {
        doc.font(REGULAR).fontSize(NOTE.size);
        line(doc, 'check', left + width - doc.widthOfString('check') - 4, top + HEADING.base);
      }
      const first = top + HEADING.height;
      for (const [i, row] of rows.entries()) {
        const y = first + i * rowHeight;
        doc
          .lineWidth(RULE)
          .moveTo(left, y)
          .lineTo(left + width, y)
          .stroke();
        const base = y + rowHeight / 2 + size * 0.29;
        for (const [j, word] of row.words.entries()) {
          const number = `${row.first + j}`;
          doc.font(REGULAR).fontSize(8);
          line(doc, number, left + j * cell + 13 - doc.widthOfString(number), base);
          line(doc.font(MONO_BOLD).fontSize(size), word, left + j * cell + 18, base);
        }
        if (row.check !== undefined) {
          doc.font(MONO).fontSize(10.5);
          line(doc, row.check, left + width - doc.widthOfString(row.check) - 4, base);
        }
      }
      const end = first + rows.length * rowHeight;
      doc
        .lineWidth(RULE)
        .moveTo(left, end)
        .lineTo(left + width, end)
        .stroke();
      if (checkWidth > 0)
        doc
          .moveTo(left + width - checkWidth, first)
          .lineTo(left + width - checkWidth, end)
          .stroke();
    },
  };
}

function factList({ heading, note, rows }: { heading: string; note?: string; rows: readonly Fact[] }, pen: Pen): Block {
  const { doc, left, width } = pen;
  const lines = rows.reduce((sum, row) => sum + row.lines.length, 0);
  return {
    height: HEADING.height + lines * FACT.lead,
    draw: (top) => {
      headingLine(doc, heading, note ?? '', left, top);
      let y = top + HEADING.height;
      for (const row of rows) {
        line(doc.font(BOLD).fontSize(FACT.size), row.name, left, y + FACT.base);
        for (const text of row.lines) {
          assert(text.length * MONO_WIDTH * FACT.size <= width - FACT.label + 0.01, 'a line of a fact fits');
          line(doc.font(MONO).fontSize(FACT.size), text, left + FACT.label, y + FACT.base);
          y += FACT.lead;
        }
      }
    },
  };
}

function stepList({ heading, intro, steps }: Steps, pen: Pen): Block {
  const { doc, left, width } = pen;
  const indent = 13;
  const chars = Math.floor((width - indent) / (MONO_WIDTH * COMMAND.size));
  const measured = steps.map((step) => {
    const command = step.command === undefined ? [] : wrapCommand(step.command, chars);
    return { ...step, command, textHeight: textHeight(pen, step.text, width - indent) };
  });
  const introHeight = intro === '' ? 0 : textHeight(pen, intro, width) + 2;
  const between = 2;
  const height = measured.reduce(
    (sum, step) => sum + step.textHeight + step.command.length * COMMAND.lead + between,
    0,
  );
  return {
    height: HEADING.height + introHeight + height - between,
    draw: (top) => {
      headingLine(doc, heading, '', left, top);
      let y = top + HEADING.height;
      if (intro !== '') text(pen, intro, left, y, width);
      y += introHeight;
      for (const [i, step] of measured.entries()) {
        line(doc.font(BOLD).fontSize(pen.text.size), `${i + 1}`, left, y + pen.text.base);
        text(pen, step.text, left + indent, y, width - indent);
        y += step.textHeight;
        for (const part of step.command) {
          line(doc.font(MONO).fontSize(COMMAND.size), part, left + indent, y + COMMAND.base);
          y += COMMAND.lead;
        }
        y += between;
      }
    },
  };
}

function paragraph({ heading, text: words }: { heading: string; text: string }, pen: Pen): Block {
  const { doc, left, width } = pen;
  return {
    height: HEADING.height + textHeight(pen, words, width),
    draw: (top) => {
      headingLine(doc, heading, '', left, top);
      text(pen, words, left, top + HEADING.height, width);
    },
  };
}

/** Blocks side by side. */
function columns(makers: readonly ((column: Pen) => Block)[], pen: Pen): Block {
  const width = (pen.width - GUTTER * (makers.length - 1)) / makers.length;
  const blocks = makers.map((make, i) => make({ ...pen, left: pen.left + i * (width + GUTTER), width }));
  return {
    height: Math.max(...blocks.map(({ height }) => height)),
    draw: (top) => {
      for (const block of blocks) block.draw(top);
    },
  };
}

function handLines(rows: PaperPage['byHand'], { doc, left, width }: Pen): Block {
  const pitch = 18;
  return {
    height: pitch * rows.length,
    draw: (top) => {
      for (const [i, labels] of rows.entries()) {
        const base = top + (i + 1) * pitch - 2;
        const part = width / labels.length;
        for (const [j, label] of labels.entries()) {
          const x = left + j * part;
          doc.font(REGULAR).fontSize(8.7);
          line(doc, label, x, base);
          const end = j === labels.length - 1 ? left + width : x + part - 8;
          doc
            .lineWidth(RULE)
            .moveTo(x + doc.widthOfString(label) + 4, base)
            .lineTo(end, base)
            .stroke();
        }
      }
    },
  };
}

interface DrawnCode {
  /** Of the black part. */
  edge: number;
  draw(x: number, y: number, pen: Pen): void;
}

function makeCode({ text: content }: CodeBox, place: number): DrawnCode {
  const { rows, module, errorCorrection } = qrFor(content, place);
  const modules = rows.length;
  const edge = module * modules;
  return {
    edge,
    draw: (x, y, { doc, note }) => {
      // One path: adjoining shapes that are filled one by one leave hair lines between them.
      for (const [i, row] of rows.entries()) {
        for (let from = row.indexOf(true); from >= 0;) {
          const end = row.indexOf(false, from);
          const to = end < 0 ? modules : end;
          doc.rect(x + from * module, y + i * module, (to - from) * module, module);
          from = row.indexOf(true, to);
        }
      }
      doc.fill('black');
      note({ x, y, edge, modules, errorCorrection });
    },
  };
}

function headingLine(doc: Doc, heading: string, note: string, left: number, top: number): void {
  doc.font(BOLD).fontSize(HEADING.size);
  const width = doc.widthOfString(heading);
  line(doc, heading, left, top + HEADING.base);
  if (note !== '') line(doc.font(REGULAR).fontSize(8), note, left + width + 7, top + HEADING.base);
}

/** One line, never broken, that stands on the base line `y`. */
function line(doc: Doc, words: string, x: number, y: number): void {
  doc.text(words, x, y, { lineBreak: false, baseline: 'alphabetic' });
}

/** A paragraph whose first line begins at `y`. */
function text({ doc, text: { size, lead, base } }: Pen, words: string, x: number, y: number, width: number): void {
  doc.font(REGULAR).fontSize(size);
  // The library moves each line down by the height of its own; the base line of the first is set here.
  const lineGap = lead - doc.currentLineHeight();
  doc.text(words, x, y + base, { width, lineGap, baseline: 'alphabetic' });
}

function textHeight({ doc, text: { size, lead } }: Pen, words: string, width: number): number {
  doc.font(REGULAR).fontSize(size);
  return doc.heightOfString(words, { width, lineGap: lead - doc.currentLineHeight() });
}

/** A command in lines of at most `chars`, broken at spaces as a shell takes it. */
function wrapCommand(command: string, chars: number): string[] {
  const [indent, mark] = ['  ', ' \\'];
  const lines: string[] = [];
  for (let rest = command; ;) {
    if (rest.length <= chars) return [...lines, rest];
    const end = rest.lastIndexOf(' ', chars - mark.length);
    assert(end > indent.length, 'a command has spaces at which it can be broken');
    lines.push(rest.slice(0, end) + mark);
    rest = indent + rest.slice(end + 1);
  }
}
