/** What stays of the snapshots, and why, as a calendar of 71 columns and a list. */
import type { ForgetResult } from '../operations/forget.ts';
import { dayOf, localTime, type Reason } from '../operations/retention.ts';
import { count, formatTime, lines, table } from './render.ts';

/** From the strongest reason to the weakest: the first that a snapshot of the day has is shown. */
const SIGNS: readonly (readonly [sign: string, is: (reason: Reason) => boolean, meaning: string])[] = [
  ['H', (reason) => reason === 'held', 'held by a suspicious one'],
  ['P', (reason) => reason === 'protected', 'protected'],
  ['N', (reason) => reason === 'newest', 'newest'],
  ['F', (reason) => reason === 'future', 'dated to come'],
  ['y', (reason) => reason.endsWith('yearly'), 'yearly'],
  ['m', (reason) => reason.endsWith('monthly'), 'monthly'],
  ['w', (reason) => reason.endsWith('weekly'), 'weekly'],
  ['d', (reason) => reason.endsWith('daily'), 'daily'],
  ['h', (reason) => reason.endsWith('hourly'), 'hourly'],
  ['t', (reason) => reason.startsWith('tag '), 'tag'],
  ['l', (reason) => reason === 'last', 'last'],
  ['i', (reason) => reason === 'within', 'within'],
  ['s', () => true, 'stays'],
];
const GOES = '-';
const NONE = '.';
/** Rows of the list; the newest are shown. */
const LISTED_MAX = 60;

/** @param timeZone in which days are counted; UTC by default */
export function retentionCalendar({ kept, forgotten }: ForgetResult, timeZone?: string): string {
  const local = localTime(timeZone);
  const day = (time: string) => dayOf(local(Date.parse(time)));
  const stay = Map.groupBy(kept, ({ time }) => day(time));
  const days = new Set([...kept, ...forgotten].map(({ time }) => day(time)));
  const used = new Set<string>();
  const cell = (date: string) => {
    if (!days.has(date)) return `${NONE} `;
    const those = stay.get(date) ?? [];
    const sign = SIGNS.find(([, is]) => those.some(({ reasons }) => reasons.some(is)))?.[0] ?? GOES;
    used.add(sign);
    return sign + (those.length < 2 ? ' ' : those.length > 9 ? '+' : String(those.length));
  };
  const months = [...new Set([...days].map((date) => date.slice(0, -'-31'.length)))].toSorted();
  const rows = months.map((month) => {
    const last = new Date(Date.UTC(Number(month.slice(0, 4)), Number(month.slice(5)), 0)).getUTCDate();
    const cells = Array.from({ length: last }, (_, i) => cell(`${month}-${String(i + 1).padStart(2, '0')}`));
    return `${month}  ${cells.join('')}`.trimEnd();
  });
  const head = Array.from({ length: 16 }, (_, i) => String(2 * i + 1).padEnd(4)).join('');
  const legend = [...SIGNS, [GOES, null, 'none stays'] as const].filter(([sign]) => used.has(sign));
  const listed = kept.slice(-LISTED_MAX);
  const more = kept.length - listed.length;
  return (
    lines(
      `         ${head.trimEnd()}`,
      ...rows,
      '',
      ...wrapped(legend.map(([sign, , meaning]) => `${sign} ${meaning}`)),
      `A digit: so many of that day stay. Days are those of ${timeZone ?? 'UTC'}.`,
      '',
    ) +
    table(
      ['id', 'number', 'time', 'why'],
      listed.map(({ id, seq, time, reasons }) => [
        id.slice(0, 8),
        String(seq),
        formatTime(Date.parse(time)),
        reasons.join(', '),
      ]),
      ['number'],
    ) +
    lines(
      ...(more > 0 ? [`and ${count(more, 'older one')} (see --json)`] : []),
      '',
      `Of ${count(kept.length + forgotten.length, 'snapshot')}, ${kept.length} stay and ${forgotten.length} would be forgotten.`,
    )
  );
}

/** Parts on lines of at most 80 columns. */
function wrapped(parts: readonly string[]): string[] {
  const out: string[] = [];
  for (const part of parts) {
    const line = out.at(-1);
    if (line !== undefined && line.length + part.length + 3 <= 80) out[out.length - 1] = `${line} · ${part}`;
    else out.push(part);
  }
  return out;
}
