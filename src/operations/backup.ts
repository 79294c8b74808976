/** `backup`: one snapshot of the state to all backends. */
import type { ChunkId, FileEntry, Warning } from '../entry.ts';
import { HoldfastError } from '../errors.ts';
import type { Mirror } from '../backend/mirror.ts';
import { hex } from '../crypto/hash.ts';
import { FILE_MAX_CHUNKS, READ_BUFFER_BYTES } from '../limits.ts';
import { rawForDisplay } from '../raw-path.ts';
import type { SigningKey } from '../identity/agent-key.ts';
import type { WriterKey } from '../identity/writer-key.ts';
import {
  ChunkStream,
  chunksInLine,
  entryLine,
  fileLineHead,
  FORMAT_VERSION,
  level,
  openRepository,
  timestamp,
  type KeyLog,
  type Repository,
  type Snapshot,
  type SnapshotId,
  type SnapshotWriter,
} from '../repository/repository.ts';
import { readFile, type ReadResult } from '../state/read-file.ts';
import { scan, type ScannedFile, type ScanItem, type ScanProblem } from '../state/scan.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from './backends.ts';
import { catchUp, patienceAtStart } from './catch-up.ts';
import { checkLogIsComplete, findParent, MARKER, pendingChangeWarnings, seen } from './continuity.ts';
import {
  ManifestCache,
  ManifestCacheWriter,
  readLocalState,
  stampOf,
  writeLocalState,
  type CachedLine,
  type LocalFolders,
} from './local-state.ts';
import { takeLock } from './lock.ts';
import { secondsSince, type Seams } from './seams.ts';

export interface BackupOptions {
  backends: readonly BackendAddress[];
  writerKey: WriterKey;
  /** The agent's key: it signs the snapshot. */
  signer: SigningKey;
  state: { root: string; exclude: readonly string[]; keepOut: readonly string[] };
  /** How many backends must hold the snapshot for the run to be complete. */
  require: number;
  tags: readonly string[];
  host: string;
  /** `holdfast/<version>`. */
  tool: string;
  /** The config file's text: it goes into the snapshot, so that a recovery can rebuild it. Holds no secrets. */
  config: string;
  folders: LocalFolders;
}

export interface BackupResult {
  snapshot: { id: SnapshotId; seq: number; time: string; parent: SnapshotId | null };
  /** Compared with the snapshot before. */
  files: { total: number; new: number; changed: number; unmodified: number; removed: number };
  /** `read`: from the source; `added`: of chunks that were not there yet; `stored`: of new objects on each backend. */
  bytes: { read: number; added: number; stored: number };
  backends: BackendOutcome[];
  warnings: Warning[];
  seconds: number;
  /** False when something that should be in the snapshot is not, or too few backends hold it: exit code 3. */
  complete: boolean;
}

export interface BackendOutcome {
  name: string;
  /** `committed` holds the snapshot, some perhaps only since they were brought level at the end; `behind` will be brought level by the next run; `failed` could not be used at all. */
  state: 'committed' | 'behind' | 'failed';
  error?: { code: string; message: string };
}

/**
 * @throws `busy`, `source_unreadable`, `wrong_key`, `no_repository`, `not_enough_backends`, … ; whatever is thrown, no earlier snapshot is touched,
 *   and packs that were stored already serve the next run. `interrupted` may also come while slow backends are brought level, when the snapshot is there.
 */
export async function backup(options: BackupOptions, seams: Seams): Promise<BackupResult> {
  const started = seams.clock.monotonic();
  const { signal, progress, clock } = seams;
  using _lock = takeLock(options.folders.state, 'backup');
  await using mirror = await openMirror(options.backends, seams);
  const { writerKey } = options;
  const repository = await openRepository(
    mirror,
    {
      kind: 'writer',
      repository: writerKey.repositoryId,
      agent: hex(options.signer.publicKey),
      chunkIdKey: writerKey.chunkIdKey,
      identity: writerKey.ageIdentity,
    },
    seams,
  );
  checkLogIsComplete(repository.log, mirror, options.folders);
  if (repository.state.entry.isRevoked) {
    throw new HoldfastError('revoked', "the agent's key was revoked: nothing it signs counts", {
      hint: 'Give the agent a new key with `holdfast identity rotate` and the recovery words.',
    });
  }
  const reachable = new Set(mirror.live().map(({ name }) => name));

  // Asked now, the answers are there when the first object is to be stored.
  for (const { backend } of mirror.live()) backend.capabilities?.().catch(() => undefined);
  progress({ type: 'phase', name: 'looking at the backends' });
  const { results, index, snapshots, problems } = await level(repository, { patience: patienceAtStart(clock), signal });
  const warnings: Warning[] = pendingChangeWarnings(repository);
  for (const { name, objects, skipped, error } of results) {
    if (objects > 0) {
      warnings.push({
        code: 'levelled',
        message: `backend ${name} was behind; ${objects} objects were copied to it from another backend`,
      });
    }
    if (skipped.length > 0 && !error) {
      const what = `backend ${name} lacks ${skipped.length} objects that cannot be copied to it, the first being ${skipped[0]}`;
      warnings.push({ code: 'not_level', message: `${what}; see \`holdfast verify\``, incomplete: true });
    }
  }
  for (const { key, error } of problems) {
    warnings.push({
      code: 'lost',
      message: `${key}: ${error.message}; what a lost pack or index held is stored again where the state still has it`,
      incomplete: true,
    });
  }
  const { parent, seq } = await findParent(repository, snapshots, options.folders, { warnings, signal });

  const writer = repository.writer(index, seams);
  const run = new Run(options, seams, repository, writer, warnings);
  let snapshot: Snapshot;
  try {
    progress({ type: 'phase', name: 'saving' });
    const manifest = await run.saveTree(parent);
    await writer.flush();
    snapshot = await writer.commit(
      {
        version: FORMAT_VERSION,
        critical: [],
        repository: repository.id,
        agent: { handle: repository.keys.agent.handle, publicKey: repository.keys.agent.publicKey },
        seq,
        parent: parent?.id ?? null,
        // A clock that was set back must not date it to before the key that signs it.
        time: timestamp(Math.max(clock.now(), repository.state.entry.inForceFromMs)),
        host: options.host,
        sources: [{ root: options.state.root }],
        manifest,
        counts: run.counts,
        tags: [...options.tags],
        tool: options.tool,
        config: options.config,
        keys: newestEntry(repository.log),
      },
      options.signer,
    );
  } catch (error) {
    await writer.salvage();
    run.discard();
    throw error;
  }
  run.commitCache(snapshot.id);
  const holders = new Set(mirror.live().map(({ name }) => name));
  const known = readLocalState(options.folders)?.backends ?? [];
  const remember = () =>
    writeLocalState(options.folders, {
      last: { id: snapshot.id, seq },
      backends: [...new Set([...known, ...holders])],
      keys: seen(repository.log),
    });
  let isRemembered = remember(); // at once: what comes now may take long, and be interrupted
  warnings.push(...(await catchUp(repository, options.require, seams)));
  const late = mirror.live().filter(({ name }) => !holders.has(name));
  for (const { name } of late) holders.add(name);
  if (late.length > 0) isRemembered = remember();
  const backends = outcomes(mirror, reachable, holders);
  if (!isRemembered) {
    warnings.push({
      code: 'state_not_saved',
      message: `${options.folders.state} cannot be written: the next run will not notice a rollback`,
    });
  }
  warnings.push(...mishapWarnings(mirror), ...failedBackendWarnings(mirror));
  return {
    snapshot: { id: snapshot.id, seq, time: snapshot.record.time, parent: parent?.id ?? null },
    files: run.files,
    bytes: { read: run.readBytes, added: writer.totals.addedBytes, stored: writer.totals.storedBytes },
    backends,
    warnings,
    seconds: secondsSince(clock, started),
    complete: holders.size >= options.require && !warnings.some(({ incomplete }) => incomplete),
  };
}

/** What this host has seen of the identity log. */
function newestEntry(log: KeyLog): { seq: number; id: string } {
  const { seq, id } = seen(log);
  return { seq, id };
}

function outcomes(mirror: Mirror, reachable: ReadonlySet<string>, holders: ReadonlySet<string>): BackendOutcome[] {
  return mirror.states().map(({ name, error }) => {
    if (holders.has(name) || !error) return { name, state: 'committed' };
    return {
      name,
      state: reachable.has(name) ? 'behind' : 'failed',
      error: { code: error.code, message: error.message },
    };
  });
}

type ScannedItem = Exclude<ScanItem, ScanProblem>;

/** The part of a backup that goes through the tree. */
class Run {
  readonly files = { total: 0, new: 0, changed: 0, unmodified: 0, removed: 0 };
  readonly counts = { files: 0, folders: 0, symlinks: 0, bytes: 0 };
  readBytes = 0;
  readonly #options: BackupOptions;
  readonly #seams: Seams;
  readonly #repository: Repository;
  readonly #writer: SnapshotWriter;
  readonly #warnings: Warning[];
  readonly #cacheOut: ManifestCacheWriter;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);

  constructor(
    options: BackupOptions,
    seams: Seams,
    repository: Repository,
    writer: SnapshotWriter,
    warnings: Warning[],
  ) {
    this.#options = options;
    this.#seams = seams;
    this.#repository = repository;
    this.#writer = writer;
    this.#warnings = warnings;
    this.#cacheOut = new ManifestCacheWriter(options.folders, seams.clock.now());
  }

  async saveTree(
    parent: { id: SnapshotId } | undefined,
  ): Promise<{ chunks: ChunkId[]; bytes: number; entries: number }> {
    const { state, folders } = this.#options;
    using cache = parent && ManifestCache.open(folders, parent.id);
    const manifest = new ManifestStream(this.#repository, this.#writer);
    for (const item of scan(state.root, {
      exclude: [...state.exclude, `/${MARKER}`],
      keepOut: state.keepOut,
      signal: this.#seams.signal,
    })) {
      if (item.kind === 'problem') {
        this.#warnings.push(item.warning);
        continue;
      }
      const before = cache?.at(item.path);
      const stamp = stampOf(item);
      const isKnown = before?.stamp === stamp && item.ctimeNs < (cache?.trustedBeforeNs ?? 0n);
      const line =
        (isKnown ? this.#untouched(item, before.line) : undefined) ??
        (await this.#lineOf(item, before, parent !== undefined && (!cache || cache.isDamaged)));
      if (line === undefined) continue;
      manifest.add(line);
      this.#cacheOut.add(line, stamp);
      const full = this.#writer.ready();
      if (full) await full;
    }
    cache?.end();
    this.files.total = this.counts.files;
    this.files.removed = cache?.removedFiles ?? 0;
    return manifest.end();
  }

  commitCache(id: SnapshotId): void {
    this.#cacheOut.commit(id);
  }

  discard(): void {
    this.#cacheOut.discard();
  }

  /** The line of a file whose size, times and inode are as at the last snapshot, when every chunk is still known to the repository. */
  #untouched(item: ScannedItem, before: string): string | undefined {
    if (item.kind !== 'file') return undefined; // as cheap to make anew
    const head = fileLineHead(item);
    const chunks = before.startsWith(head) ? chunksInLine(before, head) : undefined;
    let size = 0;
    for (const id of chunks ?? []) size += this.#writer.lengthOf(id) ?? Number.NaN;
    if (!chunks || size !== item.size) return undefined;
    this.files.unmodified++;
    this.#counted(item);
    return before;
  }

  /** @param blind that nothing is known about what was there before. */
  async #lineOf(item: ScannedItem, before: CachedLine | undefined, blind: boolean): Promise<string | undefined> {
    const { path, mode, mtimeNs, uid, gid } = item;
    const common = { path, mode, mtimeNs, uid, gid };
    switch (item.kind) {
      case 'folder':
        this.counts.folders++;
        return entryLine({ ...common, type: 'folder' });
      case 'symlink':
        this.counts.symlinks++;
        return entryLine({ ...common, type: 'symlink', target: item.target });
      case 'file': {
        const entry = await this.#save(item);
        if (!entry) return undefined;
        const line = entryLine(entry);
        this.#compare(line, before, blind);
        this.#counted(entry);
        return line;
      }
    }
  }

  #counted({ size }: { size: number }): void {
    this.counts.files++;
    this.counts.bytes += size;
    this.#seams.progress({ type: 'progress', phase: 'saving', done: this.counts.bytes, unit: 'bytes' });
  }

  #lastFileWasNew = false;

  /** Without a cache what was there before is unknown: then a file counts as unmodified when all its chunks were known. */
  #compare(line: string, before: CachedLine | undefined, blind: boolean): void {
    if (before?.isFile) this.files[before.line === line ? 'unmodified' : 'changed']++;
    else if (blind) this.files[this.#lastFileWasNew ? 'changed' : 'unmodified']++;
    else this.files.new++;
  }

  async #save(item: ScannedFile): Promise<FileEntry | undefined> {
    let result = await this.#read(item);
    if (result.read.outcome === 'changed') result = await this.#read(item);
    const path = rawForDisplay(item.path);
    const { read, chunks } = result;
    switch (read.outcome) {
      case 'ok':
        break;
      case 'changed':
        this.#warnings.push({
          code: 'changed',
          path,
          message: `${path} ${read.reason}, twice; what was read last is saved`,
          incomplete: true,
        });
        break;
      case 'vanished':
        this.#warnings.push({
          code: 'vanished',
          path,
          message: `${path} ${read.reason}; it is not in the snapshot`,
          incomplete: true,
        });
        return undefined;
      case 'unreadable':
        this.#warnings.push({
          code: 'unreadable',
          path,
          message: `${path} ${read.reason}; it is not in the snapshot`,
          incomplete: true,
        });
        return undefined;
    }
    if (chunks.length > FILE_MAX_CHUNKS) {
      this.#warnings.push({
        code: 'too_large',
        path,
        message: `${path} is larger than one file can be; it is not in the snapshot`,
        incomplete: true,
      });
      return undefined;
    }
    const { mode, mtimeNs, uid, gid, size } = read.file;
    return { path: item.path, type: 'file', mode, mtimeNs, uid, gid, size, chunks };
  }

  async #read(item: ScannedFile): Promise<{ read: ReadResult; chunks: ChunkId[] }> {
    const chunks: ChunkId[] = [];
    this.#lastFileWasNew = false;
    const stream = new ChunkStream(this.#repository.cut, this.#repository.record.chunker, (bytes) => {
      const before = this.#writer.totals.addedBytes;
      chunks.push(this.#writer.add(bytes, 'data'));
      if (this.#writer.totals.addedBytes !== before) this.#lastFileWasNew = true;
    });
    const pieces = readFile(this.#options.state.root, item.path, { buffer: this.#buffer, signal: this.#seams.signal });
    let seen = 0;
    for (;;) {
      const step = pieces.next();
      if (step.done) {
        stream.end();
        return { read: step.value, chunks };
      }
      seen += step.value.length;
      this.readBytes += step.value.length;
      stream.push(step.value, seen === item.size);
      await this.#writer.ready();
    }
  }
}

/** The manifest on its way into chunks. */
class ManifestStream {
  readonly #writer: SnapshotWriter;
  readonly #stream: ChunkStream;
  readonly #chunks: ChunkId[] = [];
  #lines: string[] = [];
  #pending = 0;
  #bytes = 0;
  #entries = 0;

  constructor(repository: Repository, writer: SnapshotWriter) {
    this.#writer = writer;
    this.#stream = new ChunkStream(repository.cut, repository.record.chunker, (bytes) => {
      this.#chunks.push(this.#writer.add(bytes, 'manifest'));
    });
  }

  add(line: string): void {
    this.#lines.push(line, '\n');
    this.#pending += line.length;
    this.#entries++;
    if (this.#pending >= 256 * 1024) this.#flush();
  }

  end(): { chunks: ChunkId[]; bytes: number; entries: number } {
    this.#flush();
    this.#stream.end();
    return { chunks: this.#chunks, bytes: this.#bytes, entries: this.#entries };
  }

  #flush(): void {
    const bytes = Buffer.from(this.#lines.join(''));
    this.#bytes += bytes.length;
    this.#stream.push(bytes);
    this.#lines = [];
    this.#pending = 0;
  }
}
