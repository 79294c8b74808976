/** `diff`: what differs between two snapshots, or between a snapshot and the state as it is now. */
import { join, resolve } from 'node:path';
import type { ChunkId, Entry, FileEntry, Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { rawForDisplay, rawFromText, ROOT, type RawPath } from '../raw-path.ts';
import { ChunkStream, type Repository, type Snapshot, type SnapshotId } from '../repository/repository.ts';
import { readFile } from '../state/read-file.ts';
import { bareEntry, scan } from '../state/scan.ts';
import { isSqlite, Sqlite, SQLITE_SIBLINGS } from '../state/sqlite.ts';
import { absoluteIn } from '../state/tree-path.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from './access.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from './backends.ts';
import {
  compareTrees,
  type Aspect,
  type Comparable,
  type ComparableFile,
  type Difference,
  type Saved,
  type Tally,
} from './looking/compare.ts';
import { MARKER } from './host/continuity.ts';
import type { LocalFolders } from './host/local-state.ts';
import { takeLock } from './host/lock.ts';
import { entriesOf, formatNs } from './look.ts';
import { passedOverWarnings } from './restore.ts';
import type { StateOptions } from './saving/save-tree.ts';
import { secondsSince, type Seams } from './seams.ts';
import { isBelow, normalise } from './looking/selection.ts';
import { diffTexts, TEXT_DIFF_MAX_BYTES, unified } from './looking/text-diff.ts';

export interface DiffOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  expected?: ExpectedRepository | undefined;
  /** A selector, as of `restore`. */
  from: string;
  /** Another selector, or the state as it is now. */
  to: string | StateOptions;
  /** Only this path and what lies below it; everything when empty. */
  path?: string;
  /** Text files line by line. */
  text?: boolean;
  /** What is kept apart instead of the state; its lines are shown to nobody. */
  secrets?: boolean | undefined;
  /** In the cache folder of the repository a database of the state as it is now is copied, as a backup does it. */
  foldersOf: (repository: string) => LocalFolders;
}

/** `secrets`: how many files it keeps apart; of the live tree, how many a backup would not take for part of the state. */
export type DiffSide = { secrets: number } & (
  { kind: 'snapshot'; id: SnapshotId; seq: number; time: string } | { kind: 'live'; root: string }
);

export interface DiffEntry {
  type: Entry['type'];
  size: number;
  /** Four octal digits. */
  mode: string;
  /** RFC 3339 with nanoseconds. */
  mtime: string;
  uid: number;
  gid: number;
  target?: string;
}

export interface Change {
  /** For display, as in `ls`. */
  path: string;
  kind: Difference['kind'];
  what: Aspect[];
  before: DiffEntry | null;
  after: DiffEntry | null;
  /** Of what was renamed. */
  oldPath?: string;
  /** With `text`, for files with another content: a unified diff, or why there is none. */
  text?: string;
  noText?: string;
}

export interface DiffResult {
  compared: 'state' | 'secrets';
  from: DiffSide;
  to: DiffSide;
  summary: Tally;
  /** In the order of paths. */
  changes: Change[];
  warnings: Warning[];
  seconds: number;
  /** False when a part of a side could not be read: exit code 3. */
  complete: boolean;
}

/** Unified diffs of one run. */
const TEXT_TOTAL_MAX_BYTES = 16 * 1024 * 1024;

/** @throws `not_found`, `usage`, `wrong_key`, `source_unreadable`, `damaged` when nothing of a snapshot's list of files can be read, … */
export async function diff(options: DiffOptions, seams: Seams): Promise<DiffResult> {
  const started = seams.clock.monotonic();
  const { signal, progress } = seams;
  const { secrets = false } = options;
  if (secrets && options.text) {
    throw new HoldfastError('usage', 'secrets are not shown line by line', {
      hint: '`holdfast cat --secrets` writes one of them out.',
    });
  }
  const wanted = normalise(options.path ?? '');
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, options.secret, options.expected, seams);
  progress({ type: 'phase', name: 'comparing' });
  const warnings: Warning[] = [];
  const find = async (selector: string) => {
    const { passedOver, ...snapshot } = await repository.findSnapshot(selector, signal);
    warnings.push(...passedOverWarnings(passedOver));
    return snapshot;
  };
  const before = await find(options.from);
  await using live =
    typeof options.to === 'string' ? undefined : new LiveTree(options.to, repository, options, seams, warnings);
  const after = live ?? (await find(options.to as string));
  const { index, problems } = await repository.loadIndex(signal);
  for (const { key, error } of problems) warnings.push({ code: 'index_lost', message: `${key}: ${error.message}` });
  const reader = repository.reader(index);

  let isBroken = false;
  /** A list of files that breaks off: from there on neither side says anything about the other. */
  async function* readable(snapshot: Snapshot): AsyncGenerator<Entry> {
    let last: RawPath | undefined;
    try {
      for await (const entry of entriesOf(repository, snapshot, reader, options, signal)) {
        last = entry.path;
        yield entry;
      }
    } catch (error) {
      if (last === undefined || !isHoldfastError(error, 'damaged')) throw error;
      isBroken = true;
      const name = `snapshot ${snapshot.id.slice(0, 8)}`;
      const message = `the list of files of ${name} cannot be read after ${JSON.stringify(rawForDisplay(last))}; nothing after that is compared: ${error.message}`;
      warnings.push({ code: 'snapshot_damaged', message, incomplete: true });
    }
  }
  let isThere = false;
  const isWanted = (path: RawPath): boolean => {
    const isInside = isBelow(path, wanted);
    isThere ||= isInside;
    return isInside && !isBroken;
  };
  const { differences, tally } = await compareTrees(
    readable(before),
    after instanceof LiveTree ? after.entries() : readable(after),
    { saved: async (file) => live?.saved(file), hasAttributes: live === undefined, tellsFolders: !secrets, isWanted },
  );
  if (!isThere && !isBroken && wanted !== ROOT) {
    throw new HoldfastError('not_found', `neither side has ${JSON.stringify(options.path)}`, {
      hint: '`holdfast ls SNAPSHOT` lists what a snapshot has.',
    });
  }
  const changes = differences.map(changeOf);

  if (options.text === true) {
    const read = async (file: FileEntry): Promise<Buffer> => {
      const pieces: Uint8Array[] = [];
      for await (const piece of reader.inOrder(file.chunks, signal)) pieces.push(piece.slice());
      return Buffer.concat(pieces);
    };
    const readAfter = (file: ComparableFile) => (live ? live.read(file) : read({ ...file, chunks: file.chunks ?? [] }));
    let bytes = 0;
    for (const [i, difference] of differences.entries()) {
      const change = changes[i];
      if (!change) continue;
      if (bytes > TEXT_TOTAL_MAX_BYTES) change.noText = 'there is too much of it: give --path';
      else Object.assign(change, await textOf(difference, read, readAfter, warnings));
      bytes += change.text?.length ?? 0;
    }
  }
  warnings.push(...mishapWarnings(mirror), ...failedBackendWarnings(mirror));
  return {
    compared: secrets ? 'secrets' : 'state',
    from: sideOf(before),
    to: after instanceof LiveTree ? { kind: 'live', root: after.root, secrets: after.secrets } : sideOf(after),
    summary: tally,
    changes,
    warnings,
    seconds: secondsSince(seams.clock, started),
    complete: !warnings.some(({ incomplete }) => incomplete),
  };
}

const sideOf = ({ id, record: { seq, time, secrets } }: Snapshot): DiffSide => {
  return { kind: 'snapshot', id, seq, time, secrets: secrets?.files ?? 0 };
};

export function changeOf({ kind, path, what, before, after }: Difference): Change {
  const view = (entry: Comparable | undefined): DiffEntry | null =>
    entry
      ? {
          type: entry.type,
          size: entry.type === 'file' ? entry.size : 0,
          mode: entry.mode.toString(8).padStart(4, '0'),
          mtime: formatNs(entry.mtimeNs),
          uid: entry.uid,
          gid: entry.gid,
          ...(entry.type === 'symlink' ? { target: rawForDisplay(entry.target) } : {}),
        }
      : null;
  return {
    path: path === ROOT ? '.' : rawForDisplay(path),
    kind,
    what,
    before: view(before),
    after: view(after),
    ...(kind === 'renamed' && before ? { oldPath: rawForDisplay(before.path) } : {}),
  };
}

async function textOf(
  { path, kind, what, before, after }: Difference,
  read: (file: FileEntry) => Promise<Uint8Array>,
  readAfter: (file: ComparableFile) => Promise<Uint8Array> | Uint8Array | undefined,
  warnings: Warning[],
): Promise<Pick<Change, 'text' | 'noText'>> {
  const [old, now] = [before, after].map((entry) => (entry?.type === 'file' ? entry : undefined)) as [
    FileEntry | undefined,
    ComparableFile | undefined,
  ];
  const isOther = kind === 'changed' ? what.includes('content') || what.includes('type') : kind !== 'renamed';
  if (!isOther || (!old && !now)) return {};
  if (Math.max(old?.size ?? 0, now?.size ?? 0) > TEXT_DIFF_MAX_BYTES) return { noText: 'the file is too long' };
  const shown = rawForDisplay(path);
  try {
    const [a, b] = [old ? await read(old) : NOTHING, now ? ((await readAfter(now)) ?? undefined) : NOTHING];
    if (!b) return { noText: 'the file cannot be read' };
    const result = diffTexts(a, b);
    if ('unable' in result) return { noText: result.unable };
    return { text: unified(result.hunks, old ? `a/${shown}` : '/dev/null', now ? `b/${shown}` : '/dev/null') };
  } catch (error) {
    if (!isHoldfastError(error, 'damaged')) throw error;
    warnings.push({
      code: 'lost',
      path: shown,
      message: `${shown} cannot be read: ${error.message}`,
      incomplete: true,
    });
    return { noText: 'the file is damaged on every backend' };
  }
}

const NOTHING = new Uint8Array(0);

/** The state as it is, in the order of a manifest, and with the chunks that a backup would make of a file where somebody asks. */
class LiveTree {
  readonly #state: StateOptions;
  readonly #repository: Repository;
  readonly #options: Pick<DiffOptions, 'foldersOf' | 'secrets'>;
  readonly #seams: Seams;
  readonly #warnings: Warning[];
  #copier: DatabaseCopier | undefined;
  /** Files met on the walk that are no part of the state, but secret. */
  secrets = 0;

  constructor(
    state: StateOptions,
    repository: Repository,
    options: Pick<DiffOptions, 'foldersOf' | 'secrets'>,
    seams: Seams,
    warnings: Warning[],
  ) {
    this.#state = state;
    this.#repository = repository;
    this.#options = options;
    this.#seams = seams;
    this.#warnings = warnings;
  }

  get root(): string {
    return this.#state.root;
  }

  /** Of the state, or of what is secret with the folders that lead there. */
  *entries(): Generator<Comparable> {
    const { root, exclude, secret, ...rest } = this.#state;
    const options = { ...rest, exclude: [...exclude, `/${MARKER}`], secret: secret?.patterns ?? [] };
    let above: Comparable[] = []; // folders down to the current place that were not told yet
    for (const item of scan(root, { ...options, signal: this.#seams.signal })) {
      if (item.kind === 'problem') {
        this.#warnings.push(item.warning);
        continue;
      }
      if (item.kind === 'file' && this.#isPartOfDatabase(item.path)) continue;
      const { path, mode, mtimeNs, uid, gid } = item;
      const common = { path, mode, mtimeNs, uid, gid };
      const entry: Comparable = item.kind === 'file' ? { ...common, type: 'file', size: item.size } : bareEntry(item);
      const isApart = item.secret && secret?.handling !== 'include';
      if (isApart && item.kind === 'file') this.secrets++;
      if (this.#options.secrets !== true) {
        if (!isApart) yield entry;
        continue;
      }
      above = above.filter((folder) => isBelow(path, folder.path));
      if (isApart) {
        yield* above;
        above = [];
        yield entry;
      } else if (entry.type === 'folder') above.push(entry);
    }
  }

  /** What a snapshot has in the copy of the database beside it. */
  #isPartOfDatabase(path: RawPath): boolean {
    const suffix = SQLITE_SIBLINGS.find((one) => path.endsWith(one));
    return suffix !== undefined && this.#isDatabase(path.slice(0, -suffix.length) as RawPath);
  }

  #isDatabase(path: RawPath): boolean {
    const pieces = readFile(this.#state.root, path, { buffer: Buffer.alloc(16) });
    const { value, done } = pieces.next();
    pieces.return({ outcome: 'vanished', reason: '' });
    return done !== true && isSqlite(value);
  }

  /** What a backup would save of it: of a database the copy. Undefined, with a warning, when that cannot be had. */
  async saved(file: ComparableFile): Promise<Saved | undefined> {
    const { cut, record, idOf } = this.#repository;
    const chunks: ChunkId[] = [];
    let size = 0;
    const stream = new ChunkStream(cut, record.chunker, (bytes) => {
      chunks.push(idOf(bytes));
      size += bytes.length;
    });
    const copy = this.#isDatabase(file.path) ? await this.#copy(file.path) : { folder: this.#state.root, ...file };
    const isWhole = copy && this.#readInto(copy, file.path, (piece) => stream.push(piece));
    stream.end();
    return isWhole ? { size, chunks } : undefined;
  }

  async #copy(path: RawPath): Promise<{ folder: string; path: RawPath } | undefined> {
    this.#copier ??= new DatabaseCopier(this.#options.foldersOf(this.#repository.id), this.#seams.signal);
    const copied = await this.#copier.copy(absoluteIn(rawFromText(resolve(this.#state.root)), path));
    if (!('failure' in copied)) return { folder: copied.folder, path: copied.copy };
    const shown = rawForDisplay(path);
    const message = `the database ${shown} could not be captured: ${copied.failure}; its content is not compared`;
    this.#warnings.push({ code: 'sqlite_not_captured', path: shown, message, incomplete: true });
    return undefined;
  }

  read(file: ComparableFile): Uint8Array | undefined {
    const pieces: Uint8Array[] = [];
    const take = (piece: Uint8Array) => pieces.push(Uint8Array.from(piece));
    return this.#readInto({ folder: this.#state.root, ...file }, file.path, take) ? Buffer.concat(pieces) : undefined;
  }

  /** False, with a warning, when the file was not read to its end. */
  #readInto(
    { folder, path }: { folder: string; path: RawPath },
    of: RawPath,
    take: (piece: Uint8Array) => void,
  ): boolean {
    const pieces = readFile(folder, path, { signal: this.#seams.signal });
    for (;;) {
      const step = pieces.next();
      if (step.done !== true) {
        take(step.value);
        continue;
      }
      const { value } = step;
      if (value.outcome === 'ok') return true;
      const shown = rawForDisplay(of);
      const message = `${shown} ${value.reason}; its content is not compared`;
      this.#warnings.push({ code: value.outcome, path: shown, message, incomplete: true });
      return false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#copier?.[Symbol.asyncDispose]();
  }
}

/** Copies databases as a backup does, in a folder that no other run uses at the same time. */
class DatabaseCopier implements AsyncDisposable {
  readonly #folder: string;
  readonly #signal: AbortSignal | undefined;
  #lock: Disposable | undefined;
  #sqlite: Sqlite | undefined;

  constructor({ cache }: LocalFolders, signal: AbortSignal | undefined) {
    this.#folder = join(cache, 'diff');
    this.#signal = signal;
  }

  /** @throws `busy` while another `diff` copies databases */
  async copy(path: RawPath): ReturnType<Sqlite['capture']> {
    try {
      this.#lock ??= takeLock(this.#folder, 'diff');
    } catch (error) {
      if (!isHoldfastError(error, 'io')) throw error;
      return { failure: error.message };
    }
    this.#sqlite ??= new Sqlite(join(this.#folder, 'database'), this.#signal);
    return this.#sqlite.capture(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sqlite?.[Symbol.asyncDispose]();
    this.#lock?.[Symbol.dispose]();
  }
}
