/**
 * Durations and sizes as people write them in flags and in the config: always with a unit, never guessed at. (The
 * libraries for this accept what they do not understand, know no '1h30m', or take MB for MiB.)
 */
import { HoldfastError } from './errors.ts';

/** The error code of the place where the text was written. */
type Where = 'usage' | 'config_invalid';

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;
/** From large to small: the order in which parts may follow each other. */
const DURATION_UNITS = [
  ['w', 7 * DAY_MS],
  ['d', DAY_MS],
  ['h', HOUR_MS],
  ['m', MINUTE_MS],
  ['s', SECOND_MS],
  ['ms', 1],
] as const;
const DURATION = new RegExp(`^${DURATION_UNITS.map(([unit]) => `(?:(\\d{1,12})${unit})?`).join('')}$`);

/**
 * Milliseconds of a duration such as '10m', '90d' or '1h30m': whole numbers with w, d, h, m, s or ms, larger units first.
 * Throws `where` ('usage' or 'config_invalid') on anything else.
 */
export function parseDuration(text: string, where: Where = 'usage'): number {
  const parts = text === '' ? null : DURATION.exec(text);
  const ms = DURATION_UNITS.reduce((sum, [, unitMs], i) => sum + Number(parts?.[i + 1] ?? 0) * unitMs, 0);
  if (parts === null || !Number.isSafeInteger(ms)) {
    throw new HoldfastError(where, `not a duration: ${JSON.stringify(text.slice(0, 40))}`, {
      hint: 'Write a whole number with a unit (w, d, h, m, s, ms), for example 90d, 10m or 1h30m.',
    });
  }
  return ms;
}

/** A duration for people, with the two largest units that matter: '0.3 s', '12.4 s', '3m 20s', '2h 5m', '4d 3h'. */
export function formatDuration(ms: number): string {
  if (ms < MINUTE_MS) return `${(ms / SECOND_MS).toFixed(1)} s`;
  const [unit, small, unitMs, smallMs] =
    ms >= DAY_MS
      ? (['d', 'h', DAY_MS, HOUR_MS] as const)
      : ms >= HOUR_MS
        ? (['h', 'm', HOUR_MS, MINUTE_MS] as const)
        : (['m', 's', MINUTE_MS, SECOND_MS] as const);
  const rest = Math.floor((ms % unitMs) / smallMs);
  return `${Math.floor(ms / unitMs)}${unit}${rest === 0 ? '' : ` ${rest}${small}`}`;
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/**
 * Bytes of a size such as '5GiB' or '1.5 MB': a number with B, kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers
 * of 1024), rounded to whole bytes. Throws `where` ('usage' or 'config_invalid') on anything else.
 */
export function parseSize(text: string, where: Where = 'usage'): number {
  const match = /^(\d{1,15}(?:\.\d{1,6})?) ?([kKMGT]?i?B)$/.exec(text);
  const unit = SIZE_UNITS[match?.[2] ?? ''];
  const bytes = Math.round(Number(match?.[1]) * (unit ?? Number.NaN));
  if (!Number.isSafeInteger(bytes)) {
    throw new HoldfastError(where, `not a size: ${JSON.stringify(text.slice(0, 40))}`, {
      hint: 'Write a number with a unit (B, kB, MB, GB, TB or KiB, MiB, GiB, TiB), for example 5GiB.',
    });
  }
  return bytes;
}

/** A size for people: '0 B', '312 B', '4.0 KiB', '1.4 GiB'. */
export function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let i = 0;
  while (value >= 1023.95 && i < units.length - 1) {
    value /= 1024;
    i++;
  }
  return `${i === 0 ? value : value.toFixed(1)} ${units[i]}`;
}

const MOMENT = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?$/;

/**
 * Milliseconds since the Unix epoch of a moment that somebody wrote: a duration before `nowMs` ('2h'), a time ('2026-01-31T10:00',
 * with seconds, a zone such as Z or +02:00; UTC without), or a day (in UTC), of which its last millisecond is meant, "as of that day",
 * or its first. Throws `usage` on anything else.
 */
export function parseMoment(text: string, nowMs: number, ofDay: 'start' | 'end' = 'end'): number {
  const match = MOMENT.exec(text);
  if (!match) {
    if (!/^\d+[a-z]/.test(text)) throw noMoment(text);
    const momentMs = nowMs - parseDuration(text);
    if (Math.abs(momentMs) > 8.64e15) throw noMoment(text);
    return momentMs;
  }
  const [, year, month, day, hour, minute, second = '00', fraction = '', zone = 'Z'] = match;
  const ms = Date.parse(`${year}-${month}-${day}T00:00:00Z`);
  // What `Date` takes for the day after, 30 February, is none.
  if (Number.isNaN(ms) || new Date(ms).getUTCDate() !== Number(day)) throw noMoment(text);
  if (hour === undefined) return ofDay === 'start' ? ms : ms + DAY_MS - 1;
  const time = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}${fraction.slice(0, 4)}${zone}`);
  if (Number.isNaN(time) || Number(hour) > 23) throw noMoment(text);
  return time;
}

function noMoment(text: string): HoldfastError {
  return new HoldfastError('usage', `not a time: ${JSON.stringify(text.slice(0, 40))}`, {
    hint: 'Write a day (2026-01-31), a time (2026-01-31T10:00, UTC unless it says +02:00) or how long ago (2h, 3d).',
  });
}
