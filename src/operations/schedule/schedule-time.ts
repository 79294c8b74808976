/** When something is to run: one meaning, written as cron and as systemd write it. Times are local, as theirs are. */
import { Cron, CronPattern } from 'croner';
import { HoldfastError } from '../../errors.ts';

export interface When {
  /** As the config has it. */
  text: string;
  /** Five fields, numbers only. */
  cron: string;
  /** For `OnCalendar=`, a line each: a timer with several elapses at any of them. */
  calendar: readonly string[];
}

/** Words, with what systemd means by them. */
const WORDS: Readonly<Record<string, string>> = {
  hourly: '0 * * * *',
  daily: '0 0 * * *',
  weekly: '0 0 * * 1',
  monthly: '0 0 1 * *',
};

const FIELD = /^(?:[\d*,/-]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)+$/i;
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

/**
 * `hourly`, `daily`, `weekly`, `monthly`; a cron expression of five fields; or what both systems can say of systemd's calendar events:
 * `[WEEKDAYS] [*-MONTHS-DAYS] HOURS:MINUTES`.
 * @throws `config_invalid`
 */
export function parseWhen(text: string): When {
  const given = WORDS[text] ?? (text.includes(':') ? fromCalendar(text) : text);
  const fields = given.split(' ');
  // Of what croner knows beyond cron nothing is taken, for cron would not know it.
  if (fields.length !== 5 || !fields.every((field) => FIELD.test(field))) throw unclear(text);
  let pattern: CronPattern;
  try {
    pattern = new CronPattern(given, undefined, { mode: '5-part' });
  } catch {
    throw unclear(text);
  }
  const [minutes, hours, days, months, weekdays] = [
    listOf(pattern.minute, 0, 59),
    listOf(pattern.hour, 0, 23),
    listOf(pattern.day, 1, 31, -1),
    listOf(pattern.month, 1, 12, -1),
    listOf(pattern.dayOfWeek, 0, 6),
  ];
  const [, , dayField = '*', , weekdayField = '*'] = fields;
  const both = dayField !== '*' && weekdayField !== '*';
  // Some crons take such a field for a star, some do not.
  if (both && [dayField, weekdayField].some((field) => field.startsWith('*'))) throw unclear(text);
  const cron = [minutes, hours, days, months, weekdays].map(cronField).join(' ');
  if (new Cron(cron, { mode: '5-part' }).nextRun(new Date(0)) === null)
    throw new HoldfastError('config_invalid', `never comes: ${JSON.stringify(text)}`, { hint: HINT });
  return { text, cron, calendar: calendarOf({ minutes, hours, days, months, weekdays }, both) };
}

/** The next times after `afterMs`, in milliseconds. */
export function nextRuns({ cron }: When, afterMs: number, count: number, timeZone?: string): number[] {
  const from = new Date(afterMs);
  return new Cron(cron, { mode: '5-part', ...(timeZone !== undefined && { timezone: timeZone }) })
    .nextRuns(count, from)
    .map((date) => date.getTime());
}

/** The last time up to `nowMs` at which it was to run. */
export function lastDue({ cron }: When, nowMs: number, timeZone?: string): number | undefined {
  const pattern = new Cron(cron, { mode: '5-part', ...(timeZone !== undefined && { timezone: timeZone }) });
  // What is before the second that comes next: times are whole seconds, and "before" is meant strictly.
  return pattern.previousRuns(1, new Date((Math.floor(nowMs / 1000) + 1) * 1000))[0]?.getTime();
}

/** The numbers of a field; undefined for all of them. */
type Field = readonly number[] | undefined;

/** @param offset of the first element. */
function listOf(flags: ArrayLike<number>, from: number, to: number, offset = 0): Field {
  const numbers = Array.from({ length: to - from + 1 }, (_, i) => from + i).filter((n) => Boolean(flags[n + offset]));
  return numbers.length === to - from + 1 ? undefined : numbers;
}

/** `1-5`, `0,30`: runs of three and more as a range. */
function ranges(numbers: readonly number[], between: string, write: (n: number) => string): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length;) {
    let last = i;
    while (numbers[last + 1] === (numbers[last] ?? 0) + 1) last++;
    const run = numbers.slice(i, last + 1).map(write);
    parts.push(...(run.length < 3 ? run : [`${run[0]}${between}${run.at(-1)}`]));
    i = last + 1;
  }
  return parts.join(',');
}

const cronField = (field: Field): string => (field === undefined ? '*' : ranges(field, '-', String));

interface Fields {
  minutes: Field;
  hours: Field;
  days: Field;
  months: Field;
  weekdays: Field;
}

/** @param both that days and weekdays are named: cron takes either, systemd's one line only what is both. */
function calendarOf({ minutes, hours, days, months, weekdays }: Fields, both: boolean): string[] {
  const two = (field: Field) => (field === undefined ? '*' : ranges(field, '..', (n) => String(n).padStart(2, '0')));
  const time = `${two(hours)}:${two(minutes)}:00`;
  // The week of a range begins with Monday there.
  const week =
    weekdays &&
    ranges(
      weekdays.map((n) => n || 7).toSorted((a, b) => a - b),
      '..',
      (n) => DAYS[n % 7] ?? '',
    );
  const line = (week_: string | undefined, days_: Field) =>
    `${week_ === undefined ? '' : `${week_} `}*-${two(months)}-${two(days_)} ${time}`;
  return both ? [line(undefined, days), line(week, undefined)] : [line(week, days)];
}

/** The part of systemd.time(7) that cron can say as well, as a cron expression. */
function fromCalendar(text: string): string {
  const parts =
    /^(?:([a-z][a-z.,]*) +)?(?:\*-([\d*,./]+)-([\d*,./]+) +)?([\d*,./]+):([\d*,./]+)(?::00)?$/i.exec(text) ?? undefined;
  if (parts === undefined) throw unclear(text);
  const [, weekdays, months, days, hours, minutes] = parts;
  if (weekdays !== undefined && days !== undefined && days !== '*') throw unclear(text); // cron knows no "and"
  const plain = (field = '*') => {
    // `5/15` begins at 5 in both; in cron only a range has a step.
    const cron = field.replaceAll('..', '-').replace(/(^|,)0*(\d+)\/(\d+)/g, '$1$2-$$/$3');
    return cron.replace(/\b0+(\d)/g, '$1');
  };
  const ends: readonly (readonly [string | undefined, string])[] = [
    [minutes, '59'],
    [hours, '23'],
    [days, '31'],
    [months, '12'],
  ];
  const numbers = ends.map(([field, end]) => plain(field).replaceAll('$', end));
  const week = (weekdays ?? '*').replaceAll('..', '-').replace(/[a-z]+/gi, (day) => day.slice(0, 3));
  return [...numbers, week].join(' ');
}

const HINT =
  'Write hourly, daily, weekly, monthly, a time such as "03:00" or "Mon..Fri *-*-* 03:00", or a cron expression of five fields.';

function unclear(text: string): HoldfastError {
  return new HoldfastError('config_invalid', `not a schedule: ${JSON.stringify(text.slice(0, 80))}`, { hint: HINT });
}
