/** A file that an agent keeps fresh: its age, what must stand in it, and the time that it tells. */
import { constants } from 'node:fs';
import { open, opendir, stat } from 'node:fs/promises';
import type { Clock } from '../../clock.ts';
import { messageOf, systemErrorCode } from '../../errors.ts';
import { formatDuration } from '../../units.ts';
import { foundIn, matchesOf } from '../patterns.ts';
import { absent, failed, found, oneLine, type Finding, type Probe, type StatsProbe } from './probe.ts';

export interface FileSpec {
  path: string;
  /** How old it may be; undefined: any age. */
  withinMs?: number;
  contains?: string;
  pattern?: RegExp;
  /** A pattern for a time in it: the latest that it finds says how old it is, whatever the file system says. */
  time?: RegExp;
}

const CONTENT_MAX_BYTES = 64 * 1024;
const ENTRIES_MAX = 100_000;
/** Clocks that differ by less are taken for equal. */
export const CLOCK_SKEW_MS = 60_000;

export function fileProbe(spec: FileSpec, clock: Clock): Probe {
  const { path, withinMs, contains, pattern, time } = spec;
  return async () => {
    let file: { text: string; mtimeMs: number };
    try {
      file = await readSmall(path, contains !== undefined || pattern !== undefined || time !== undefined);
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return absent(`${path} is not there`);
      return failed(messageOf(error));
    }
    if (contains !== undefined && !file.text.includes(contains))
      return failed(`${path} does not contain ${JSON.stringify(contains)}`);
    if (pattern && !foundIn(pattern, [file.text])[0]) return failed(`nothing in ${path} matches ${pattern.source}`);
    if (withinMs === undefined) return found(`${path} is there`);
    if (!time) return aged(path, file.mtimeMs, withinMs, clock.now());
    const latest = latestTime(file.text, time);
    if (latest === undefined) return failed(`no time in ${path} matches ${time.source}`);
    return aged(`the last time in ${path}`, latest, withinMs, clock.now());
  };
}

/** Whether something is fresh. What is dated in the future is not: somebody has set it, or a clock is wrong. */
export function aged(what: string, atMs: number, withinMs: number, nowMs: number): Finding {
  const ageMs = nowMs - atMs;
  if (ageMs < -CLOCK_SKEW_MS) return failed(`${what} is dated ${formatDuration(-ageMs)} from now`, ageMs / 1000);
  const shown = formatDuration(Math.max(0, ageMs));
  if (ageMs <= withinMs) return found(`${what} is ${shown} old`, Math.max(0, ageMs) / 1000);
  return failed(`${what} is ${shown} old, more than ${formatDuration(withinMs)}`, ageMs / 1000);
}

/** When a regular file was written, and its text where that is wanted: of a long one the beginning and the end. Anything else is refused: who opens a pipe may wait for ever. */
export async function readSmall(path: string, wantsText: boolean): Promise<{ text: string; mtimeMs: number }> {
  if (!wantsText) {
    const stats = await stat(path);
    if (!stats.isFile()) throw new Error(`${path} is no file`);
    return { text: '', mtimeMs: stats.mtimeMs };
  }
  await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const stats = await handle.stat();
  if (!stats.isFile()) throw new Error(`${path} is no file`);
  const at = async (from: number): Promise<string> => {
    const buffer = Buffer.alloc(Math.min(CONTENT_MAX_BYTES, Math.max(stats.size, 4096)));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, from);
    return buffer.toString('utf8', 0, bytesRead);
  };
  let text = await at(0);
  if (stats.size > CONTENT_MAX_BYTES) {
    // The line that is cut says something else than it did.
    const end = await at(Math.max(CONTENT_MAX_BYTES, stats.size - CONTENT_MAX_BYTES));
    text += stats.size <= 2 * CONTENT_MAX_BYTES ? end : `\n${end.slice(end.indexOf('\n') + 1)}`;
  }
  return { text, mtimeMs: stats.mtimeMs };
}

function latestTime(text: string, pattern: RegExp): number | undefined {
  let latest: number | undefined;
  for (const [whole = '', group] of matchesOf(pattern, text)) {
    const ms = timeOf((group ?? whole).trim());
    if (ms !== undefined && (latest === undefined || ms > latest)) latest = ms;
  }
  return latest;
}

/** Milliseconds since the epoch of what a program tells: ISO 8601 (of this host's zone where it says none), or seconds or milliseconds. */
export function timeOf(value: unknown): number | undefined {
  if (typeof value === 'number' || (typeof value === 'string' && /^\d{9,13}(?:\.\d+)?$/.test(value))) {
    const number = Number(value);
    // In seconds 1e11 is the year 5138, in milliseconds it was 1973.
    return Number.isFinite(number) && number > 0 ? (number < 1e11 ? number * 1000 : number) : undefined;
  }
  if (typeof value !== 'string' || !/^\d{4}-\d\d-\d\d/.test(value)) return undefined;
  const ms = Date.parse(
    value
      .replace(/^(\S+) (?=\d)/, '$1T')
      .replace(/ (?=UTC$|Z$)/, '')
      .replace(/UTC$/, 'Z'),
  );
  return Number.isNaN(ms) ? undefined : ms;
}

/** The queue of an agent as files in a folder, those whose names begin with a dot excepted. */
export function folderStats(path: string): StatsProbe {
  return async () => {
    let queueDepth = 0;
    try {
      for await (const entry of await opendir(path, { bufferSize: 256 })) {
        if (entry.isFile() && !entry.name.startsWith('.')) queueDepth++;
        if (queueDepth >= ENTRIES_MAX) break;
      }
    } catch (error) {
      const isAbsent = systemErrorCode(error) === 'ENOENT';
      const problem = isAbsent ? `${path} is not there` : oneLine(messageOf(error));
      return { stats: {}, problem, ...(isAbsent && { absent: true }) };
    }
    return { stats: { queueDepth } };
  };
}
