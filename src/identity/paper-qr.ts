/** QR codes that survive bad printers, creases and coffee. */
import { encodeQR } from 'qr';
import { assert } from '../errors.ts';

/** A module is a whole number of dots of a printer with 300 dots per inch, so that all come out alike … */
const DOT = 72 / 300;
/** … and at least six of them: 0.508 mm, which cheap printers and cameras still get right. */
export const MODULE_MIN = 6 * DOT;
/** Modules of white around a code (ISO/IEC 18004, 9.1). */
const QUIET_MODULES = 4;
/**
 * Sizes (versions) of codes that are passed over, since in them a blot over a tenth of the code, in its middle or in the middle of an edge, can do
 * more harm than its size says:
 * 13, 15, 18, 20: about as many Reed-Solomon blocks take turns as there are codewords in two columns. So a block's codewords lie side by side,
 * and the blot spends 70 to 100 % of what can be corrected in one block; elsewhere 40 to 60 %.
 * 15, 16, 18, 19, 20: the blot cuts through alignment patterns. A scanner (zbar) takes one of which a fifth to a half is hidden to lie a
 * little beside its place, and reads all modules around it wrongly; one that is whole, or hidden altogether, does no harm.
 */
const VERSIONS_PASSED_OVER: ReadonlySet<number> = new Set([13, 15, 16, 18, 19, 20]);
/** Best first: 30, 25, 15 and 7 % of a code can be read wrong or not at all. */
const ERROR_CORRECTION = ['high', 'quartile', 'medium', 'low'] as const;
export type ErrorCorrection = (typeof ERROR_CORRECTION)[number];

export interface QrCode {
  /** True is black; without the white around it. */
  rows: boolean[][];
  /** Edge of a module, in points. */
  module: number;
  errorCorrection: ErrorCorrection;
}

/** The code of a text at the highest error correction at which its modules are still large enough in a square of `place` points. */
export function qrFor(text: string, place: number): QrCode {
  for (const errorCorrection of ERROR_CORRECTION) {
    const rows = modulesOf(text, errorCorrection);
    const module = Math.floor(place / (rows.length + 2 * QUIET_MODULES) / DOT + 1e-9) * DOT;
    if (module >= MODULE_MIN - 1e-9) return { rows, module, errorCorrection };
  }
  assert(false, 'a code fits its place');
}

function modulesOf(text: string, ecc: ErrorCorrection): boolean[][] {
  // The package insists on white around the code, which is drawn here by leaving it out.
  const encode = (version?: number): boolean[][] =>
    encodeQR(text, 'raw', { ecc, border: 1, ...(version === undefined ? {} : { version }) })
      .slice(1, -1)
      .map((row) => row.slice(1, -1));
  const rows = encode();
  const smallest = (rows.length - 17) / 4;
  let version = smallest;
  while (VERSIONS_PASSED_OVER.has(version)) version++;
  return version === smallest ? rows : encode(version);
}
