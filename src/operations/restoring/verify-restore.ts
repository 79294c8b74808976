/** `verify --level restore`: a snapshot is restored from each backend alone, compared with what it says of itself, and thrown away. */
import { lstatSync, readlinkSync } from 'node:fs';
import { Mirror } from '../../backend/mirror.ts';
import type { Entry, Warning } from '../../entry.ts';
import { HoldfastError, isSurvivable, throwIfAborted } from '../../errors.ts';
import { rawForDisplay, rawFromText, rawToFs, ROOT, type RawPath } from '../../raw-path.ts';
import type { ChunkReader, Damage, Repository, Snapshot, SnapshotId } from '../../repository/repository.ts';
import { hasPieces } from '../../state/compare-tree.ts';
import { metadataDiffers } from '../../state/metadata.ts';
import type { Profile } from '../../state/profile.ts';
import { inTree, absoluteIn } from '../../state/tree-path.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from '../access.ts';
import { piecesOf } from './restore-plan.ts';
import { restoreFrom } from '../restore.ts';
import { Scratch } from './scratch.ts';
import { secondsSince, type Seams } from '../seams.ts';

export interface RestoreCheckOptions {
  secret: RestoreSecret;
  expected?: ExpectedRepository | undefined;
  /** For what can be written see `selectSnapshot`. */
  snapshot: string;
  /** The folder in which the scratch folder is made. */
  scratch: string;
  profile?: Profile | undefined;
}

/** One restore that was compared and removed. */
export interface RestoreCheck {
  backend: string;
  snapshot: SnapshotId;
  files: number;
  bytes: number;
  seconds: number;
}

/** Rounded up to whole blocks on the disk. */
const BLOCK_BYTES = 4096;

/** @param has whether a backend lists the snapshot: one that does not is told by who listed it. */
export async function checkByRestoring(
  repository: Repository,
  has: (backend: string, key: string) => boolean,
  options: RestoreCheckOptions,
  seams: Seams,
): Promise<{ restored: RestoreCheck[]; damaged: Damage[]; warnings: Warning[] }> {
  const result = { restored: [] as RestoreCheck[], damaged: [] as Damage[], warnings: [] as Warning[] };
  const snapshot = await repository.findSnapshot(options.snapshot, seams.signal);
  const backends = repository.mirror.live().filter(({ name }) => has(name, snapshot.key));
  using scratch = new Scratch(options.scratch);
  for (const { name, backend } of backends) {
    const started = seams.clock.monotonic();
    const damage = (problem: string, paths: string[] = []) =>
      result.damaged.push({
        ...{ backend: name, key: snapshot.key, problem, paths, snapshots: [snapshot.id] },
        ...{ means: 'a restore of this snapshot from this backend alone', elsewhere: [], unread: [], repaired: false },
      });
    try {
      // Not disposed of: the backend is the other mirror's.
      const alone = new Mirror([{ name, backend }], seams.clock);
      const opened = await openForRestore(alone, options.secret, options.expected, seams);
      const done = await checkOne(opened, snapshot, { scratch, damage, profile: options.profile }, seams);
      result.warnings.push(...done.warnings.map((warning) => ({ ...warning, message: `${name}: ${warning.message}` })));
      const { files, bytes } = done;
      const seconds = secondsSince(seams.clock, started);
      result.restored.push({ backend: name, snapshot: snapshot.id, files, bytes, seconds });
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      const { code, message } = error;
      if (code === 'io' || code === 'busy' || code === 'exists' || code === 'wrong_key') throw error;
      if (code === 'backend_unavailable' || code === 'not_enough_backends') {
        const what = `not verified: the restore from backend ${name}: ${message}`;
        result.warnings.push({ code: 'not_read', message: what, incomplete: true });
      } else damage(`it cannot be restored: ${message}`);
    }
  }
  return result;
}

async function checkOne(
  repository: Repository,
  snapshot: Snapshot,
  how: { scratch: Scratch; damage: (problem: string, paths?: string[]) => void; profile: Profile | undefined },
  seams: Seams,
): Promise<{ files: number; bytes: number; warnings: Warning[] }> {
  const { scratch, damage, profile } = how;
  const { index } = await repository.loadIndex(seams.signal);
  const reader = repository.reader(index);
  scratch.checkRoom(await roomFor(repository, snapshot, reader, seams.signal));
  return scratch.use(async (target) => {
    const options = { snapshot: snapshot.id, target, paths: [], withSecrets: true, heal: false, profile };
    const restored = await restoreFrom(repository, options, seams);
    if (restored.lost.length > 0) damage(`${restored.lost.length} files of it cannot be had`, restored.lost);
    const broken = restored.warnings.filter(({ code }) => code === 'sqlite_damaged');
    for (const { message, path } of broken) damage(message, path === undefined ? [] : [path]);
    seams.progress({ type: 'phase', name: 'comparing' });
    // What the scratch folder's file system, or this user, cannot hold was told by the restore, and cannot be compared.
    const told = restored.warnings.filter(({ code }) => code !== 'lost' && code !== 'sqlite_damaged');
    const isLossy = told.some(({ incomplete }) => incomplete);
    const differing = await differencesIn(repository, { snapshot, target, reader, isLossy }, seams.signal);
    const missing = new Set([...restored.lost, ...told.flatMap(({ path }) => path ?? [])]);
    const wrong = differing.filter(({ path }) => !missing.has(path));
    const [first] = wrong;
    if (first) {
      const more = wrong.length > 1 ? ` (and ${wrong.length - 1} more)` : '';
      const problem = `what was restored is not what the snapshot says: ${first.path}: ${first.problem}${more}`;
      damage(
        problem,
        wrong.map(({ path }) => path),
      );
    }
    const isAbout = ({ code }: Warning) => !['path_dependent', 'read_elsewhere', 'not_healed'].includes(code);
    return { files: restored.files, bytes: restored.bytes, warnings: told.filter(isAbout) };
  });
}

/** Bytes on the disk; other names of a file take none, nor do holes. */
async function roomFor(
  repository: Repository,
  snapshot: Snapshot,
  reader: ChunkReader,
  signal: AbortSignal | undefined,
): Promise<number> {
  let bytes = 0;
  for await (const entry of repository.allEntries(snapshot, reader, signal)) {
    const holes = entry.type === 'file' ? (entry.holes ?? []).reduce((sum, { length }) => sum + length, 0) : 0;
    const size = entry.type === 'file' && entry.hardlink === undefined ? entry.size - holes : 0;
    bytes += Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES + BLOCK_BYTES;
  }
  return bytes;
}

interface Restored {
  snapshot: Snapshot;
  target: string;
  reader: ChunkReader;
  /** That modes, owners or attributes could not all be given. */
  isLossy: boolean;
}

/** Every entry of both manifests held against what lies there: type, contents byte for byte, and metadata. */
async function differencesIn(
  repository: Repository,
  { snapshot, target, reader, isLossy }: Restored,
  signal: AbortSignal | undefined,
): Promise<{ path: string; problem: string }[]> {
  const base = rawFromText(target);
  const differences: { path: string; problem: string }[] = [];
  for await (const entry of repository.allEntries(snapshot, reader, signal)) {
    throwIfAborted(signal);
    const problem = differenceOf(base, entry, { reader, repository, signal, isLossy });
    const path = entry.path === ROOT ? '.' : rawForDisplay(entry.path);
    if (problem !== undefined) differences.push({ path, problem });
  }
  return differences;
}

function differenceOf(
  base: RawPath,
  entry: Entry,
  how: { reader: ChunkReader; repository: Repository; signal: AbortSignal | undefined; isLossy: boolean },
): string | undefined {
  const now = lstatSync(inTree(base, entry.path), { bigint: true, throwIfNoEntry: false });
  if (!now) return 'it is not there';
  const type = now.isSymbolicLink() ? 'symlink' : now.isDirectory() ? 'folder' : now.isFile() ? 'file' : 'special';
  const wanted = entry.type === 'fifo' || entry.type === 'device' ? 'special' : entry.type;
  if (type !== wanted) return `it is a ${type}, not a ${wanted}`;
  const path = absoluteIn(base, entry.path);
  if (entry.type === 'symlink' && readlinkSync(rawToFs(path), 'latin1') !== entry.target) return 'its target';
  if (entry.type === 'file') {
    if (Number(now.size) !== entry.size) return `it has ${now.size} bytes, not ${entry.size}`;
    if (!hasPieces(path, piecesOf(entry, how.reader, how.repository), how.signal)) return 'its contents';
  }
  return !how.isLossy && metadataDiffers(entry, path, now) ? 'its mode, time, owner or attributes' : undefined;
}

/** @throws `usage` */
export function requireScratch(scratch: string | undefined): string {
  if (scratch !== undefined) return scratch;
  throw new HoldfastError('usage', 'no folder is named in which to restore', { hint: 'Name one with --scratch.' });
}
