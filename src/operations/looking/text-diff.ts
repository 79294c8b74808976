/** The difference between two texts, line by line. */
import { structuredPatch } from 'diff';
import { decodeText } from './text.ts';

/** A stretch of changed lines with three lines around it, as in a unified diff. */
export interface Hunk {
  /** Lines, counted from 1 (0 where the side has none). */
  beforeStart: number;
  beforeLines: number;
  afterStart: number;
  afterLines: number;
  /** Each begins with ' ', '-', '+', or '\' for a remark; without line feed. */
  lines: string[];
}

export type TextDiff = { hunks: Hunk[] } | { unable: string };

/** Of each side. */
export const TEXT_DIFF_MAX_BYTES = 1024 * 1024;
/** Lines added and removed; the time that it takes grows with their square. */
const MAX_EDITS = 4000;

/** @param before or `after`: undefined when a side is too long to be looked at, empty when there is no file. */
export function diffTexts(before: Uint8Array | undefined, after: Uint8Array | undefined): TextDiff {
  if (!before || !after) return { unable: 'the file is too long for a comparison by line' };
  const [old, now] = [decodeText(before), decodeText(after)];
  if (old === undefined || now === undefined) return { unable: 'the file is no text' };
  const patch = structuredPatch('', '', old, now, '', '', { context: 3, maxEditLength: MAX_EDITS });
  if (!patch) return { unable: 'too many lines differ' };
  return {
    hunks: patch.hunks.map(({ oldStart, oldLines, newStart, newLines, lines }) => ({
      // Where a side has no line, the one before is named.
      beforeStart: oldLines === 0 ? oldStart - 1 : oldStart,
      beforeLines: oldLines,
      afterStart: newLines === 0 ? newStart - 1 : newStart,
      afterLines: newLines,
      lines,
    })),
  };
}

/** As `diff -u` writes it. */
export function unified(hunks: readonly Hunk[], before: string, after: string): string {
  const head = ({ beforeStart, beforeLines, afterStart, afterLines }: Hunk) =>
    `@@ -${beforeStart},${beforeLines} +${afterStart},${afterLines} @@`;
  const lines = hunks.flatMap((hunk) => [head(hunk), ...hunk.lines]);
  return [`--- ${before}`, `+++ ${after}`, ...lines, ''].join('\n');
}
