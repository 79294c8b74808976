/** Text for people, made of results. Whatever comes from files or storage passes `escapeForDisplay` on its way. */
import type { Warning } from '../entry.ts';
import { rowCheck, ROWS, WORDS_A_ROW } from '../crypto/words.ts';
import { escapeForDisplay } from '../raw-path.ts';
import { formatDuration } from '../units.ts';

/** One row a line, columns padded to the widest cell; columns named in `right` are aligned to the right. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  right: readonly string[] = [],
): string {
  const cells = [head, ...rows].map((row) => row.map(escapeForDisplay));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => widthOf(row[column] ?? ''))));
  return lines(
    ...cells.map((row) =>
      row
        .map((cell, column) => {
          const padding = ' '.repeat((widths[column] ?? 0) - widthOf(cell));
          return right.includes(head[column] ?? '') ? padding + cell : cell + padding;
        })
        .join('  ')
        .trimEnd(),
    ),
  );
}

/** `name: value` a line, the values aligned; pairs whose value is undefined are left out. */
export function facts(pairs: Readonly<Record<string, string | undefined>>): string {
  const present = Object.entries(pairs).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value] as const],
  );
  const width = Math.max(0, ...present.map(([name]) => widthOf(name)));
  return lines(
    ...present.map(([name, value]) => `${name}:${' '.repeat(width - widthOf(name))} ${escapeForDisplay(value)}`),
  );
}

/** A line a warning, at most `most` of them, then how many more there are. */
export function warningLines(warnings: readonly Warning[], most = 20): string {
  const shown = warnings.slice(0, most).map(({ message }) => `Warning: ${escapeForDisplay(message)}`);
  if (warnings.length > most) shown.push(`Warning: and ${warnings.length - most} more (see --json)`);
  return lines(...shown);
}

/** The recovery words in numbered rows of four with the check of each, as they are written on paper. */
export function wordGrid(words: readonly string[]): string {
  const cells = words.map((word, i) => `${String(i + 1).padStart(2)}. ${word.padEnd(9)}`);
  const rows = Array.from({ length: ROWS }, (_, row) => {
    const [from, to] = [row * WORDS_A_ROW, (row + 1) * WORDS_A_ROW];
    return `${cells.slice(from, to).join(' ')} = ${rowCheck(row + 1, words.slice(from, to))}`;
  });
  return lines(...rows);
}

/** Each argument with a line feed after it. */
export function lines(...texts: readonly string[]): string {
  return texts.map((text) => `${escapeForDisplay(text)}\n`).join('');
}

/** What became of the secrets of a snapshot that was restored; none when it has none. */
export function secretsLine({ files, restored }: { files: number; restored: number }, dryRun = false): string[] {
  if (files === 0) return [];
  if (restored === 0)
    return [
      `${count(files, 'secret file')} of the snapshot ${dryRun ? 'would NOT be' : 'NOT'} restored: give --with-secrets to have them`,
    ];
  return [
    `secret files: ${restored} of ${files} ${dryRun ? 'would be restored' : 'restored'}, as said by --with-secrets`,
  ];
}

/** A time for people and for sorting: '2026-01-31T09:05:00Z'. */
export function formatTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z');
}

/** What can be written for a snapshot, for the help of arguments. */
export const SNAPSHOT_FORMS =
  '`latest`, `latest~1`, an id or its beginning, `@TIME` (`@2h`, `@2026-01-31`), `tag:NAME`';

/** What the age of a snapshot means for who restores it. */
export function ageText(seconds: number): string {
  return seconds < 0
    ? `It is from the future by the clock of this host, which is ${formatDuration(-seconds * 1000)} behind at least.`
    : `It is ${formatDuration(seconds * 1000)} old; what was written since is not in it.`;
}

/** `1 file`, `2 files`. */
export function count(n: number, singular: string, plural = `${singular}s`): string {
  return `${n.toLocaleString('en')} ${n === 1 ? singular : plural}`;
}

function widthOf(text: string): number {
  return Array.from(text).length;
}
