/** What a disaster now would lose: the live state held against a snapshot, by looking at names, sizes and times alone. */
import { lstatSync } from 'node:fs';
import type { Entry, FileEntry } from '../entry.ts';
import { isHoldfastError } from '../errors.ts';
import { rawForDisplay, rawFromText, type RawPath } from '../raw-path.ts';
import { compareTrees, type Comparable } from '../operations/looking/compare.ts';
import { MARKER } from '../operations/host/continuity.ts';
import type { SeenSnapshot } from '../operations/looking/open-look.ts';
import type { StateOptions } from '../operations/saving/save-tree.ts';
import { bareEntry, scan } from '../state/scan.ts';
import { isDatabase, SQLITE_SIBLINGS } from '../state/sqlite.ts';
import { absoluteIn, inTree } from '../state/tree-path.ts';
import type { Past } from './past.ts';
import type { DataLoss } from './result.ts';
import { formatDuration, formatSize } from '../units.ts';
import { checkOf, nameOf, skip, type Outcome } from './scene.ts';

export interface Drift {
  /** Files that are new, changed or gone since. */
  files: number;
  /** About so many: what grew counts with what came to it, another file that changed as a whole. */
  bytes: number;
  added: number;
  changed: number;
  removed: number;
  /** Some of them. */
  paths: string[];
}

const PATHS_TOLD = 20;

/** Undefined with why, where the live state cannot be looked at. */
export async function driftSince(
  state: StateOptions | undefined,
  past: Past,
  snapshot: SeenSnapshot,
  signal: AbortSignal | undefined,
): Promise<Drift | { unknown: string }> {
  if (!state) return { unknown: 'there is no live state to compare with' };
  const drift: Drift = { files: 0, bytes: 0, added: 0, changed: 0, removed: 0, paths: [] };
  const databases: FileEntry[] = [];
  const liveDatabases = new Map<RawPath, number>();
  const tell = (kind: 'added' | 'changed' | 'removed', path: RawPath, bytes: number) => {
    drift.files++;
    drift[kind]++;
    drift.bytes += bytes;
    if (drift.paths.length < PATHS_TOLD) drift.paths.push(rawForDisplay(path));
  };
  async function* saved(): AsyncGenerator<Entry> {
    for await (const entry of past.entries(snapshot)) {
      if (entry.isApart) continue;
      if (entry.type === 'file' && entry.sqlite) databases.push(entry);
      else yield entry;
    }
  }
  const root = rawFromText(state.root);
  try {
    const { differences } = await compareTrees(saved(), live(state, liveDatabases, signal), {
      saved: async () => undefined,
      hasAttributes: false,
    });
    for (const { kind, path, what, before, after } of differences) {
      if ((after ?? before)?.type === 'folder') continue;
      const [was, is] = [before, after].map((entry) => (entry?.type === 'file' ? entry.size : 0)) as [number, number];
      if (kind === 'removed') tell('removed', path, 0);
      else if (kind !== 'changed') tell('added', path, is);
      else if (what.some((one) => ['type', 'size', 'content', 'target', 'mtime'].includes(one)))
        tell('changed', path, is > was ? is - was : is);
    }
  } catch (error) {
    if (!isHoldfastError(error, 'source_unreadable')) throw error;
    return { unknown: error.message };
  }
  const savedMs = Date.parse(snapshot.record.time);
  const savedDatabases = new Set(databases.map(({ path }) => path));
  for (const [path, size] of liveDatabases) if (!savedDatabases.has(path)) tell('added', path, size);
  for (const { path, size, mtimeNs } of databases) {
    const now = lstatSync(inTree(root, path), { bigint: true, throwIfNoEntry: false });
    if (!now) {
      tell('removed', path, 0);
      continue;
    }
    const logs = ['-wal', '-journal'].map((end) =>
      lstatSync(inTree(root, (path + end) as RawPath), { throwIfNoEntry: false }),
    );
    const log = logs.find((one) => one && one.size > 0 && one.mtimeMs > savedMs);
    if (log) tell('changed', path, log.size);
    else if (now.mtimeNs > mtimeNs && Number(now.mtimeNs / 1_000_000n) > savedMs)
      tell('changed', path, Math.max(0, Number(now.size) - size));
  }
  return drift;
}

/** What a backup would take for state; databases go to `databases`, with their sizes. */
function* live(
  { root, exclude, secret, ...rest }: StateOptions,
  databases: Map<RawPath, number>,
  signal: AbortSignal | undefined,
): Generator<Comparable> {
  const base = rawFromText(root);
  const options = { ...rest, exclude: [...exclude, `/${MARKER}`], secret: secret?.patterns ?? [], signal };
  for (const item of scan(root, options)) {
    if (item.kind === 'problem' || (item.secret && secret?.handling !== 'include')) continue;
    const { path, mode, mtimeNs, uid, gid } = item;
    if (item.kind !== 'file') {
      yield bareEntry(item);
      continue;
    }
    const suffix = SQLITE_SIBLINGS.find((one) => path.endsWith(one));
    const owner = suffix === undefined ? path : (path.slice(0, -suffix.length) as RawPath);
    if (isDatabase(absoluteIn(base, owner))) {
      if (suffix === undefined) databases.set(path, item.size);
      continue;
    }
    yield { path, mode, mtimeNs, uid, gid, type: 'file', size: item.size };
  }
}

/** Clocks of two hosts may be so far apart. */
const SKEW_MS = 5 * 60_000;

/** How old the snapshot is, and what has come since; fails where more may be lost than the objective says. */
export function freshness(
  snapshot: SeenSnapshot,
  drift: Drift | { unknown: string },
  nowMs: number,
  rpoMs: number | undefined,
): { outcome: Outcome; dataLoss: DataLoss } {
  const sinceMs = nowMs - Date.parse(snapshot.record.time);
  const ageMs = Math.max(0, sinceMs);
  const seconds = Math.round(ageMs / 1000);
  const isToCome = sinceMs < -SKEW_MS;
  const age = isToCome
    ? `${nameOf(snapshot)} is dated ${formatDuration(-sinceMs)} from now: a clock is wrong`
    : `${nameOf(snapshot)} is ${formatDuration(ageMs)} old`;
  if ('unknown' in drift && rpoMs === undefined)
    return { outcome: skip('freshness', drift.unknown), dataLoss: { bytes: null, files: null, seconds } };
  const problems =
    rpoMs !== undefined && isToCome
      ? [`${age}, and how old it is against the objective (rpo) cannot be told`]
      : rpoMs !== undefined && ageMs > rpoMs
        ? [`${age}, and the objective (rpo) is ${formatDuration(rpoMs)}`]
        : [];
  if ('unknown' in drift) {
    const outcome = checkOf('freshness', problems, `${age}; ${drift.unknown}`, { seconds });
    return { outcome, dataLoss: { bytes: null, files: null, seconds } };
  }
  const { files, bytes, paths, ...counts } = drift;
  const lost =
    files === 0 ? 'nothing was changed since' : `a disaster now would lose ${files} files, about ${formatSize(bytes)}`;
  const outcome = checkOf('freshness', problems, `${age}; ${lost}`, { seconds, files, bytes, ...counts, paths });
  return { outcome, dataLoss: { bytes, files, seconds } };
}

/** Fails when it took longer than the objective says. */
export function recoveryTime(seconds: number | null, mostMs: number): Outcome {
  const took = formatDuration((seconds ?? 0) * 1000);
  const most = formatDuration(mostMs);
  const problems =
    (seconds ?? 0) * 1000 > mostMs ? [`the recovery took ${took}, and the objective (rto) is ${most}`] : [];
  return checkOf('recovery-time', problems, `the recovery took ${took}, within ${most}`, {
    seconds,
    mostSeconds: mostMs / 1000,
  });
}
