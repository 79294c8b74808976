/** Looking into a repository: `snapshots`, `ls`, `cat`. */
import type { Device, Entry, Warning } from '../entry.ts';
import { HoldfastError } from '../errors.ts';
import { rawForDisplay, ROOT, type RawPath } from '../raw-path.ts';
import {
  openRepository,
  type Access,
  type ChunkReader,
  type Finding,
  type Repository,
  type Snapshot,
  type SnapshotId,
} from '../repository/repository.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from './access.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from './backends.ts';
import type { LocalFolders } from './host/local-state.ts';
import { readSnapshots } from './looking/open-look.ts';
import { passedOverWarnings } from './restore.ts';
import type { Seams } from './seams.ts';
import { isBelow, normalise } from './looking/selection.ts';

export interface SnapshotRow {
  id: SnapshotId;
  seq: number;
  time: string;
  parent: SnapshotId | null;
  agent: string;
  /** Where it was made. */
  host: string;
  files: number;
  bytes: number;
  /** Of the record, as annotations have changed them. */
  tags: string[];
  note: string | null;
  /** What was suspicious when it was made, and whether somebody has acknowledged it since. */
  suspicious: Finding[];
  acknowledged: boolean;
  /** What of it was lost on every backend and given up with `repair --forget-damaged`; null for nothing. */
  lost: { whole: boolean; files: number; bytes: number; since: string } | null;
  /** Names of the backends that hold it: on these it is committed. */
  backends: string[];
  /** Names of those that hold all packs and indexes there are, and so what it needs, but not (yet) the snapshot itself. */
  prepared: string[];
}

/** Every snapshot that verifies, newest last; what does not verify, or is missing from the chain, is a warning. */
export async function listSnapshots(
  options: { backends: readonly BackendAddress[]; access: Access; folders?: LocalFolders },
  seams: Seams,
): Promise<{ snapshots: SnapshotRow[]; warnings: Warning[] }> {
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openRepository(mirror, options.access, seams);
  const { snapshots, warnings } = await readSnapshots(repository, seams.signal, options.folders);
  for (const { id, record, problem } of snapshots) {
    if (problem === undefined) continue;
    const message = `snapshot ${id.slice(0, 8)} (number ${record.seq}): ${problem}`;
    warnings.push({ code: 'chain', message, incomplete: true });
  }
  const isEverywhere = snapshots.every(({ backends }) => backends.length === mirror.live().length);
  const whole = isEverywhere ? [] : await repository.holdersOfAllData(seams.signal);
  const inOrder = (names: readonly string[]) =>
    mirror
      .states()
      .map(({ name }) => name)
      .filter((name) => names.includes(name));
  const rows = snapshots.map(({ id, record, said, backends }) => ({
    id,
    seq: record.seq,
    time: record.time,
    parent: record.parent,
    agent: record.agent.handle,
    host: record.host,
    files: record.counts.files,
    bytes: record.counts.bytes,
    tags: said.tags,
    note: said.note,
    suspicious: record.suspicious ?? [],
    acknowledged: said.isAcknowledged,
    lost: said.lost
      ? { whole: said.lost.whole, files: said.lost.files, bytes: said.lost.bytes, since: said.lost.time }
      : null,
    backends: inOrder(backends),
    prepared: inOrder(whole.filter((name) => !backends.includes(name))),
  }));
  return { snapshots: rows, warnings: [...warnings, ...mishapWarnings(mirror), ...failedBackendWarnings(mirror)] };
}

export interface LookOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  expected?: ExpectedRepository | undefined;
  snapshot: string;
  /** What is kept apart instead of the state. */
  secrets?: boolean | undefined;
}

export interface ListedEntry {
  /** For display: escapes stand for bytes that are no text. */
  path: string;
  type: Entry['type'];
  /** Four octal digits. */
  mode: string;
  /** RFC 3339 with nanoseconds. */
  mtime: string;
  size: number;
  target?: string;
  /** Of a device. */
  device?: Device;
  /** Of another name of a file: the first one. */
  hardlink?: string;
}

/**
 * The entries of a snapshot at and below `path`; `secrets`: how many files are kept apart.
 * @param options.depth how far below: 1 lists what the folder holds and not what its folders hold. Default: all.
 * @throws `not_found`
 */
export async function listEntries(
  options: LookOptions & { path: string; depth?: number | undefined },
  seams: Seams,
): Promise<{ snapshot: SnapshotId; entries: ListedEntry[]; secrets: number; warnings: Warning[] }> {
  const wanted = normalise(options.path);
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, options.secret, options.expected, seams);
  const snapshot = await repository.findSnapshot(options.snapshot, seams.signal);
  const { index } = await repository.loadIndex(seams.signal);
  const entries: ListedEntry[] = [];
  const isWanted = (path: RawPath) => isBelow(path, wanted);
  const reader = repository.reader(index);
  for await (const entry of entriesOf(repository, snapshot, reader, options, seams.signal, isWanted)) {
    if (isWanted(entry.path) && depthBelow(wanted, entry.path) <= (options.depth ?? Infinity))
      entries.push(listed(entry));
  }
  if (entries.length === 0 && !(options.secrets && wanted === ROOT)) throw absent(options.path, snapshot.id);
  const warnings = [
    ...passedOverWarnings(snapshot.passedOver),
    ...mishapWarnings(mirror),
    ...failedBackendWarnings(mirror),
  ];
  return { snapshot: snapshot.id, entries, secrets: snapshot.record.secrets?.files ?? 0, warnings };
}

/** Those of the state, or of what is kept apart. */
export function entriesOf(
  repository: Repository,
  snapshot: Snapshot,
  reader: ChunkReader,
  { secrets }: Pick<LookOptions, 'secrets'>,
  signal: AbortSignal | undefined,
  isWanted?: (path: RawPath) => boolean,
): AsyncGenerator<Entry> {
  return secrets
    ? repository.secretEntries(snapshot, reader, signal, isWanted)
    : repository.entries(snapshot, reader, signal, isWanted);
}

/** 0 for the folder itself. */
function depthBelow(folder: RawPath, path: RawPath): number {
  const levels = (one: RawPath) => (one === ROOT ? 0 : one.split('/').length);
  return levels(path) - levels(folder);
}

export function listed(entry: Entry): ListedEntry {
  return {
    path: entry.path === ROOT ? '.' : rawForDisplay(entry.path),
    type: entry.type,
    mode: entry.mode.toString(8).padStart(4, '0'),
    mtime: formatNs(entry.mtimeNs),
    size: entry.type === 'file' ? entry.size : 0,
    ...(entry.type === 'symlink' ? { target: rawForDisplay(entry.target) } : {}),
    ...(entry.type === 'device' ? { device: entry.device } : {}),
    ...(entry.type === 'file' && entry.hardlink !== undefined ? { hardlink: rawForDisplay(entry.hardlink) } : {}),
  };
}

/** RFC 3339 with nanoseconds. */
export function formatNs(ns: bigint): string {
  const second = ns >= 0n ? ns / 1_000_000_000n : (ns - 999_999_999n) / 1_000_000_000n;
  const fraction = (ns - second * 1_000_000_000n).toString().padStart(9, '0');
  const ms = Number(second) * 1000;
  // Beyond what a date can say, the number of seconds says it.
  return Math.abs(ms) > 8.64e15 ? `@${second}.${fraction}` : `${new Date(ms).toISOString().slice(0, -5)}.${fraction}Z`;
}

/** Hands the content of one file to `write`, piece by piece, each verified first. @throws `not_found`, `usage` when it is no file */
export async function catFile(
  options: LookOptions & { path: string; write: (bytes: Uint8Array) => Promise<void> },
  seams: Seams,
): Promise<{ bytes: number; warnings: Warning[] }> {
  const wanted = normalise(options.path);
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, options.secret, options.expected, seams);
  const snapshot = await repository.findSnapshot(options.snapshot, seams.signal);
  const { index } = await repository.loadIndex(seams.signal);
  const reader = repository.reader(index);
  const isWanted = (path: RawPath) => path === wanted;
  for await (const entry of entriesOf(repository, snapshot, reader, options, seams.signal, isWanted)) {
    if (entry.path !== wanted) continue;
    if (entry.type !== 'file')
      throw new HoldfastError('usage', `${JSON.stringify(options.path)} is a ${entry.type}, not a file`);
    for await (const bytes of reader.inOrder(entry.chunks, seams.signal)) await options.write(bytes);
    const warnings = [
      ...passedOverWarnings(snapshot.passedOver),
      ...mishapWarnings(mirror),
      ...failedBackendWarnings(mirror),
    ];
    return { bytes: entry.size, warnings };
  }
  throw absent(options.path, snapshot.id);
}

function absent(path: string, id: SnapshotId): HoldfastError {
  return new HoldfastError('not_found', `snapshot ${id.slice(0, 8)} has no ${JSON.stringify(path)}`, {
    hint: '`holdfast ls SNAPSHOT` lists what it has.',
  });
}
