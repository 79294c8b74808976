/** `find`: entries by name, time and size, in one snapshot or in all of them: when did a file change, and which snapshot still has it? */
import { sha256Hex } from '../crypto/hash.ts';
import type { Entry, Warning } from '../entry.ts';
import { isHoldfastError } from '../errors.ts';
import { comparePaths, type RawPath } from '../raw-path.ts';
import type { ChunkReader, Repository, Snapshot, SnapshotId } from '../repository/repository.ts';
import { parseMoment } from '../units.ts';
import { openForRestore } from './access.ts';
import { failedBackendWarnings, mishapWarnings, openMirror } from './backends.ts';
import { entriesOf, listed, type LookOptions } from './look.ts';
import { unreadable } from './looking/open-look.ts';
import { passedOverWarnings } from './restore.ts';
import type { Seams } from './seams.ts';
import { globMatcher, Selection } from './looking/selection.ts';

export interface FindOptions extends Omit<LookOptions, 'snapshot'> {
  /** Globs; one without a slash matches a name in any folder. Any of them will do; all entries when there is none. */
  patterns: readonly string[];
  /** One snapshot, or those from `since` to `until` (moments as `parseMoment` reads them; all without). */
  in: { snapshot: string } | { since?: string | undefined; until?: string | undefined };
  /** Only at and below these paths or globs. */
  paths?: readonly string[];
  /** Modified after, or before, this moment. */
  newer?: string | undefined;
  older?: string | undefined;
  /** Bytes; files only. */
  larger?: number | undefined;
  smaller?: number | undefined;
  type?: Entry['type'] | undefined;
}

export interface FoundIn {
  id: SnapshotId;
  seq: number;
  time: string;
}

/** One entry; of several snapshots, one for each content that it had. */
export interface FoundEntry {
  /** For display. */
  path: string;
  type: Entry['type'];
  size: number;
  /** RFC 3339 with nanoseconds, in the first snapshot that has it. */
  mtime: string;
  /** The first and the last snapshot that have it, and how many do. They need not follow each other: a file may change and change back. */
  first: FoundIn;
  last: FoundIn;
  snapshots: number;
}

export interface FindResult {
  /** Sorted by path, the oldest content first. */
  entries: FoundEntry[];
  /** Snapshots that were searched, oldest first. */
  searched: FoundIn[];
  /** Files that the newest of them keeps apart, whether these were searched or the rest. */
  secrets: number;
  warnings: Warning[];
}

/** A snapshot whose list of files is damaged is told and passed over, unless it is the only one asked for. @throws `usage`, `not_found`, … */
export async function findEntries(options: FindOptions, seams: Seams): Promise<FindResult> {
  const filter = await makeFilter(options, seams.clock.now());
  const scope = 'snapshot' in options.in ? undefined : makeScope(options.in, seams.clock.now());
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, options.secret, options.expected, seams);
  const { snapshots, warnings } = await chosen(repository, options, scope, seams);
  const { index } = await repository.loadIndex(seams.signal);
  const reader = repository.reader(index);
  const found = new Map<string, Found>();
  const searched: FoundIn[] = [];
  let secrets = 0;
  for (const snapshot of snapshots) {
    seams.progress({ type: 'phase', name: `looking at snapshot ${snapshot.id.slice(0, 8)}` });
    try {
      await search(repository, reader, snapshot, options, filter, found, seams.signal);
      searched.push(told(snapshot));
      secrets = snapshot.record.secrets?.files ?? 0;
    } catch (error) {
      if (scope === undefined || !isHoldfastError(error, 'damaged', 'forged')) throw error;
      const message = `snapshot ${snapshot.id.slice(0, 8)} could not be searched (to the end): ${error.message}`;
      warnings.push({ code: 'not_searched', message, incomplete: true });
    }
  }
  warnings.push(...mishapWarnings(mirror), ...failedBackendWarnings(mirror));
  const rows = [...found.values()].sort((a, b) => comparePaths(a.raw, b.raw) || a.row.first.seq - b.row.first.seq);
  return { entries: rows.map(({ row }) => row), searched, secrets, warnings };
}

interface Found {
  raw: RawPath;
  row: FoundEntry;
}

async function chosen(
  repository: Repository,
  { in: within }: FindOptions,
  inScope: ((timeMs: number) => boolean) | undefined,
  { signal }: Seams,
): Promise<{ snapshots: Snapshot[]; warnings: Warning[] }> {
  if ('snapshot' in within) {
    const snapshot = await repository.findSnapshot(within.snapshot, signal);
    return { snapshots: [snapshot], warnings: passedOverWarnings(snapshot.passedOver) };
  }
  const { snapshots, problems } = await repository.snapshots(signal);
  const warnings = unreadable('snapshot_damaged', problems);
  return { snapshots: snapshots.filter(({ record }) => inScope?.(Date.parse(record.time)) ?? true), warnings };
}

async function search(
  repository: Repository,
  reader: ChunkReader,
  snapshot: Snapshot,
  options: FindOptions,
  filter: Filter,
  found: Map<string, Found>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const here = told(snapshot);
  for await (const entry of entriesOf(repository, snapshot, reader, options, signal, filter.path)) {
    if (!filter.path(entry.path) || !filter.entry(entry)) continue;
    const key = contentKey(entry);
    const known = found.get(key);
    if (known) {
      known.row.last = here;
      known.row.snapshots++;
    } else found.set(key, { raw: entry.path, row: { ...describe(entry), first: here, last: here, snapshots: 1 } });
  }
}

const told = ({ id, record }: Snapshot): FoundIn => ({ id, seq: record.seq, time: record.time });

function describe(entry: Entry): Pick<FoundEntry, 'path' | 'type' | 'size' | 'mtime'> {
  const { path, type, size, mtime } = listed(entry);
  return { path, type, size, mtime };
}

/** The same for the same path with the same content. Hashed, as a file may have millions of chunks. */
function contentKey(entry: Entry): string {
  const content = entry.type === 'file' ? entry.chunks.join() : entry.type === 'symlink' ? entry.target : '';
  return `${entry.path}\0${entry.type}\0${content.length > 64 ? sha256Hex(Buffer.from(content, 'latin1')) : content}`;
}

interface Filter {
  path: (path: RawPath) => boolean;
  entry: (entry: Entry) => boolean;
}

async function makeFilter(options: FindOptions, nowMs: number): Promise<Filter> {
  const { patterns, paths = [], larger, smaller, type } = options;
  const globs = await Promise.all(patterns.map((pattern) => globMatcher(pattern, { anywhere: true })));
  const below = await Selection.of(paths);
  // Newer than a day is after all of it, older before all of it.
  const ns = (moment: string | undefined, ofDay: 'start' | 'end') =>
    moment === undefined ? undefined : BigInt(Math.floor(parseMoment(moment, nowMs, ofDay))) * 1_000_000n;
  const [newer, older] = [ns(options.newer, 'end'), ns(options.older, 'start')];
  return {
    path: (path) => (globs.length === 0 || globs.some((matches) => matches(path))) && below.has(path),
    entry: (entry) =>
      (type === undefined || entry.type === type) &&
      (newer === undefined || entry.mtimeNs > newer) &&
      (older === undefined || entry.mtimeNs < older) &&
      (larger === undefined || (entry.type === 'file' && entry.size > larger)) &&
      (smaller === undefined || (entry.type === 'file' && entry.size < smaller)),
  };
}

function makeScope(
  { since, until }: { since?: string | undefined; until?: string | undefined },
  nowMs: number,
): (timeMs: number) => boolean {
  const from = since === undefined ? -Infinity : parseMoment(since, nowMs, 'start');
  const to = until === undefined ? Infinity : parseMoment(until, nowMs);
  return (timeMs) => from <= timeMs && timeMs <= to;
}
