/**
 * Noticing loss: a new snapshot is held against those before it. Pure: what is known of them comes in, findings go out. docs/loss.md says
 * the same for people; its thresholds were chosen with test/operations/ordinary-days.ts.
 */
import { formatSize } from '../../units.ts';
import type { Finding, SnapshotId, SnapshotStatistics } from '../../repository/repository.ts';

export interface Thresholds {
  /** Shares, 0 to 1: of files or bytes that are gone; of files that were rewritten; of compressible files (or bytes) that are incompressible now. */
  shrink: number;
  change: number;
  incompressible: number;
  /** How many snapshots back what is usual is taken from. */
  history: number;
}

export const DEFAULT_THRESHOLDS: Thresholds = { shrink: 0.5, change: 0.5, incompressible: 0.25, history: 30 };

/** Below these nothing is said, whatever the share: of five files, three are soon gone. */
const FLOOR = { shrunkFiles: 10, rewrittenFiles: 20, turnedFiles: 2, bytes: 2 ** 20 } as const;
/** So many snapshots there must be before anything is called unusual for this agent. */
const USUAL_MIN = 7;
/** As many deviations from the median are still usual. */
const DEVIATIONS = 6;
/** Makes the median of the deviations comparable with a standard deviation. */
const MAD_SCALE = 1.4826;
/** So much gone at once is never usual. */
const NEARLY_ALL = 0.9;
/** The state of a root that lies on another device than before: of fewer files than this share that are still there, the old device is missing. */
const KEPT_MIN = 0.5;

/** What a snapshot tells about loss. `statistics` is unknown of those that were made without. */
export interface Measured {
  files: number;
  bytes: number;
  statistics?: SnapshotStatistics | undefined;
}

/** One of the snapshots before. */
export interface Past extends Measured {
  id: SnapshotId;
  /** That it was found suspicious, and that somebody has said since that all is well with it. */
  isSuspicious: boolean;
  isAcknowledged: boolean;
}

export interface Present extends Measured {
  /** That the root lies on another device than when the snapshot before was made. */
  isOtherDevice?: boolean;
  /** Files that are templates now, and were none in the snapshot before. */
  scaffolds?: readonly string[];
}

/**
 * @param history the snapshots before, oldest first. Those that are suspicious and not acknowledged do not tell what is right, and of those before
 *   one that was acknowledged nothing is asked any more: it says how things are since.
 */
export function judge(history: readonly Past[], now: Present, thresholds: Thresholds = DEFAULT_THRESHOLDS): Finding[] {
  const since = history.findLastIndex(({ isAcknowledged }) => isAcknowledged);
  const asked = history.slice(Math.max(0, since));
  const recent = asked.slice(-thresholds.history);
  const isGood = ({ isSuspicious, isAcknowledged }: Past) => !isSuspicious || isAcknowledged;
  const good = asked.filter(isGood).slice(-thresholds.history);
  const before = good.at(-1);
  const parent = history.at(-1);
  const missing = before ? vanished(before, parent, now) : [];
  return [
    ...missing,
    ...(before && missing.length === 0 ? shrunk(good, before, now, thresholds) : []),
    ...(before ? turned(good, before, now, thresholds) : []),
    ...(parent ? rewritten(recent, parent, now, thresholds) : []),
    ...(now.scaffolds ?? []).map((path) => ({
      code: 'scaffold',
      message: `scaffold: ${path} is an empty template now, and was none before; memory may have been set up anew`,
      value: 1,
      bound: 0,
    })),
  ];
}

function vanished(before: Past, parent: Past | undefined, now: Present): Finding[] {
  if (before.files === 0) return [];
  const isSameParent = parent?.id === before.id;
  const kept = isSameParent && now.statistics ? now.files - now.statistics.new : now.files;
  const least = Math.ceil(before.files * KEPT_MIN);
  if (now.isOtherDevice && kept < least) {
    const what = `of ${files(before.files)} there are ${number(kept)}, and the root lies on another device than before`;
    return [{ code: 'unmounted', message: `unmounted: ${what}; is the source mounted?`, value: kept, bound: least }];
  }
  if (now.files > 0) return [];
  const message = `empty: the source holds no file; snapshot ${before.id.slice(0, 8)} had ${files(before.files)}`;
  return [{ code: 'empty', message, value: 0, bound: 1 }];
}

function shrunk(good: readonly Past[], before: Past, now: Present, { shrink }: Thresholds): Finding[] {
  const findings: Finding[] = [];
  const gone = before.files - now.files;
  const most = largestUsual(drops(good, 'files'), Math.max(before.files * shrink, FLOOR.shrunkFiles), before.files);
  if (gone > 0 && gone >= most.bound) {
    const what = `shrunk: ${number(gone)} of ${files(before.files)} are gone`;
    findings.push({ code: 'shrunk', message: `${what}${usualText(most, number)}`, value: gone, ...most });
  }
  // What came for a short while may go: its bytes are held against the median too.
  const bytesBefore = Math.min(before.bytes, median(good.map(({ bytes }) => bytes)));
  const goneBytes = bytesBefore - now.bytes;
  const mostBytes = largestUsual(drops(good, 'bytes'), Math.max(bytesBefore * shrink, FLOOR.bytes), bytesBefore);
  if (findings.length === 0 && goneBytes > 0 && goneBytes >= mostBytes.bound) {
    const what = `shrunk: ${formatSize(goneBytes)} of ${formatSize(bytesBefore)} are gone`;
    const message = `${what}${usualText(mostBytes, formatSize)}`;
    findings.push({ code: 'shrunk', message, value: goneBytes, ...mostBytes });
  }
  return findings;
}

/** By how much each snapshot is smaller than the one before it. */
function drops(snapshots: readonly Past[], what: 'files' | 'bytes'): number[] {
  return snapshots.slice(1).map((one, i) => Math.max(0, (snapshots[i]?.[what] ?? 0) - one[what]));
}

/**
 * Encryption by malware, in place or under new names: fewer files that can be compressed, and as many more that cannot. Neither a clean-up nor
 * a download does both. Done slowly it shows against what was there in the middle of the history.
 */
function turned(good: readonly Past[], before: Past, now: Present, { incompressible }: Thresholds): Finding[] {
  const { statistics } = now;
  if (!statistics) return [];
  const known = good.flatMap((past) => (past.statistics ? [past.statistics] : []));
  const of = (what: 'files' | 'bytes', least: number): Finding | undefined => {
    const references = [
      ...(before.statistics ? [{ is: before.statistics, since: `snapshot ${before.id.slice(0, 8)}` }] : []),
      ...(known.length >= USUAL_MIN ? [{ is: middle(known, what), since: 'the middle of the history' }] : []),
    ];
    for (const { is, since } of references) {
      const plain = is.compressible[what];
      const lost = plain - statistics.compressible[what];
      const value = Math.min(lost, statistics.incompressible[what] - is.incompressible[what]);
      const bound = Math.ceil(Math.max(least, plain * incompressible));
      if (value < bound) continue;
      const show = what === 'bytes' ? formatSize : number;
      const many = what === 'bytes' ? formatSize(plain) : files(plain);
      const message = `incompressible: ${show(value)} of ${many} that could be compressed since ${since} cannot be any more, as if encrypted`;
      return { code: 'incompressible', message, value, bound };
    }
    return undefined;
  };
  const finding = of('files', FLOOR.turnedFiles) ?? of('bytes', FLOOR.bytes);
  return finding ? [finding] : [];
}

/** The medians over the history. */
function middle(known: readonly SnapshotStatistics[], what: 'files' | 'bytes') {
  const of = (texture: 'compressible' | 'incompressible') => {
    const value = median(known.map((one) => one[texture][what]));
    return { files: value, bytes: value };
  };
  return { compressible: of('compressible'), incompressible: of('incompressible') };
}

function rewritten(recent: readonly Past[], parent: Past, now: Present, { change }: Thresholds): Finding[] {
  if (!now.statistics) return [];
  const before = recent.flatMap(({ statistics }) => (statistics ? [statistics.rewritten] : []));
  if (before.length < USUAL_MIN) return [];
  const value = now.statistics.rewritten;
  const most = largestUsual(before, Math.max(parent.files * change, FLOOR.rewrittenFiles));
  if (value < most.bound) return [];
  const what = `changed: ${number(value)} of ${files(parent.files)} have new contents`;
  return [{ code: 'changed', message: `${what}${usualText(most, number)}`, value, ...most }];
}

interface Usual {
  usual?: { median: number; mad: number };
  bound: number;
}

/**
 * What is too much: `floor`, but more than what is usual by median and MAD, and more than what there was twice before: a weekly clean-up is
 * usual, though most days have none. When nearly all of `whole` is gone, that is too much whatever is usual.
 */
function largestUsual(values: readonly number[], floor: number, whole = Number.POSITIVE_INFINITY): Usual {
  if (values.length < USUAL_MIN) return { bound: Math.ceil(floor) };
  const center = median(values);
  const mad = median(values.map((value) => Math.abs(value - center)));
  const second = values.toSorted((a, b) => b - a)[1] ?? 0;
  const usual = { median: Math.round(center), mad: Math.round(mad) };
  const most = Math.max(center + DEVIATIONS * MAD_SCALE * mad, second * 1.25);
  return { usual, bound: Math.ceil(Math.max(floor, Math.min(most, whole * NEARLY_ALL))) };
}

function usualText({ usual, bound }: Usual, show: (value: number) => string): string {
  const most = `from ${show(bound)} on it is suspicious`;
  return usual ? `; usual is ${show(usual.median)} ± ${show(usual.mad)} a snapshot, ${most}` : `; ${most}`;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  const upper = sorted[half] ?? 0;
  return sorted.length % 2 === 1 ? upper : Math.round(((sorted[half - 1] ?? 0) + upper) / 2);
}

const number = (value: number): string => value.toLocaleString('en');
const files = (value: number): string => `${number(value)} file${value === 1 ? '' : 's'}`;

/**
 * The snapshots that may not be forgotten: each that is suspicious and not acknowledged, and all before it. What they hold may be the last that
 * is whole. Whoever deletes snapshots asks this first.
 * @param snapshots in the order of their numbers.
 */
export function heldBySuspicion(
  snapshots: readonly { id: SnapshotId; isSuspicious: boolean; isAcknowledged: boolean }[],
): Set<SnapshotId> {
  const last = snapshots.findLastIndex(({ isSuspicious, isAcknowledged }) => isSuspicious && !isAcknowledged);
  return new Set(snapshots.slice(0, last + 1).map(({ id }) => id));
}
