/** How holdfast's time and memory grow with the number of files and of bytes. */
import { rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_CHUNKER } from '../../src/repository/packs/chunker.ts';
import { makeLargeTree, makePieces } from './corpus.ts';
import { assertSame, bytesBelow, freshFolder, settle } from './folders.ts';
import { measure } from './measure.ts';
import { median, type GrowthPoint, type GrowthPrediction, type GrowthResult, type GrowthSlope } from './results.ts';
import type { Tool } from './tools.ts';

const FILE_COUNTS = [1e3, 1e4, 1e5, 1e6];
const TREE_BYTES = [1 * 1024 ** 3, 10 * 1024 ** 3];
const SMALL_FILE_BYTES = 600;
/** What a small file takes on the disk of the tree, and again of the restored one. */
const BLOCK_BYTES = 4096;
const PREDICTED_CHUNKS = 1e8;

export interface GrowthOptions {
  /** An empty `workFolder`. */
  work: string;
  scale: number;
  /** At most three are run, and one of a large size. */
  rounds: number;
  maxFiles: number;
  maxBytes: number;
  log: (line: string) => void;
}

export async function studyGrowth(tool: Tool, options: GrowthOptions): Promise<GrowthResult> {
  const { scale, maxFiles, maxBytes } = options;
  const byFiles: GrowthPoint[] = [];
  for (const count of FILE_COUNTS.map((count) => Math.ceil(count * scale))) {
    const limit = count > maxFiles ? `above --max-files ${maxFiles}` : undefined;
    byFiles.push(
      await point(tool, count, count * SMALL_FILE_BYTES, limit, options, (root) =>
        makePieces(root, count, SMALL_FILE_BYTES),
      ),
    );
  }
  const byBytes: GrowthPoint[] = [];
  for (const bytes of TREE_BYTES.map((bytes) => Math.ceil(bytes * scale))) {
    const limit = bytes > maxBytes ? `above --max-bytes ${maxBytes}` : undefined;
    byBytes.push(await point(tool, 0, bytes, limit, options, (root) => makeLargeTree(root, bytes)));
  }
  return {
    byFiles,
    byBytes,
    slopes: [...slopes(byFiles, (at) => at.files, 'files'), ...slopes(byBytes, (at) => at.bytes, 'bytes')],
    predictions: [
      ...prediction('small files of one chunk each', byFiles, (at) => at.files),
      ...prediction('large files', byBytes, (at) => at.bytes / DEFAULT_CHUNKER.averageBytes),
    ],
  };
}

async function point(
  tool: Tool,
  files: number,
  bytes: number,
  limit: string | undefined,
  { work, log, ...options }: GrowthOptions,
  make: (root: string) => void,
): Promise<GrowthPoint> {
  const name = files > 0 ? `${files} files` : `${bytes} bytes`;
  const unmeasured = {
    files,
    bytes,
    rounds: 0,
    firstBackup: 0,
    unchanged: 0,
    restore: 0,
    memory: 0,
    restoreMemory: 0,
    size: 0,
  };
  const leftOut = limit ?? withoutRoom(work, files, bytes);
  if (leftOut) {
    log(`${name} left out: ${leftOut}`);
    return { ...unmeasured, leftOut };
  }
  const tree = freshFolder(work, 'tree');
  make(tree);
  const rounds = Math.min(options.rounds, files > 1e5 || bytes > 2 * 1024 ** 3 ? 1 : 3);
  const values: GrowthPoint[] = [];
  for (let round = 0; round < rounds; round++) {
    const [at, target] = [freshFolder(work, 'at'), freshFolder(work, 'restored')];
    const repository = await tool.open(at, join(work, 'home'), tree);
    settle();
    const first = await measure(repository.backup('first'));
    const size = repository.path === undefined ? 0 : bytesBelow(repository.path);
    settle();
    const again = await measure(repository.backup('unchanged'));
    settle();
    const restore = await measure(repository.restore('unchanged', target));
    if (round === 0) assertSame(tree, target, tool);
    rmSync(target, { recursive: true });
    rmSync(at, { recursive: true });
    values.push({
      files,
      bytes,
      rounds,
      firstBackup: first.seconds,
      unchanged: again.seconds,
      restore: restore.seconds,
      memory: first.sumBytes,
      restoreMemory: restore.sumBytes,
      size,
    });
    log(`${name}  first backup ${first.seconds.toFixed(2)} s, ${(first.sumBytes / 1e6).toFixed(0)} MB`);
  }
  rmSync(tree, { recursive: true });
  const middle = (key: Exclude<keyof GrowthPoint, 'leftOut'>) => median(values.map((value) => value[key]));
  return {
    files,
    bytes,
    rounds,
    firstBackup: middle('firstBackup'),
    unchanged: middle('unchanged'),
    restore: middle('restore'),
    memory: middle('memory'),
    restoreMemory: middle('restoreMemory'),
    size: middle('size'),
  };
}

/** The tree, the repository and the restored tree, and a tenth more. */
function withoutRoom(folder: string, files: number, bytes: number): string | undefined {
  const { bavail, bsize, ffree } = statfsSync(folder);
  const needed = 1.1 * (2 * Math.max(bytes, files * BLOCK_BYTES) + bytes);
  const free = bavail * bsize;
  if (free < needed)
    return `it needs ${(needed / 1e9).toFixed(0)} GB of disk, and ${(free / 1e9).toFixed(0)} GB are free`;
  // Some file systems have no fixed number of files, and say 0.
  if (ffree > 0 && ffree < 2.2 * files) return `it needs ${2 * files} more files, and the file system has ${ffree}`;
  return undefined;
}

/** Growth from each measured size to the next; `amount` says how large a size is, in `unit`. */
export function slopes(
  points: readonly GrowthPoint[],
  amount: (at: GrowthPoint) => number,
  unit: string,
): GrowthSlope[] {
  const measured = points.filter((at) => !at.leftOut);
  return measured.slice(1).map((to, index) => {
    const from = measured[index] as GrowthPoint;
    const exponent = (key: 'firstBackup' | 'unchanged' | 'restore') =>
      Math.log(to[key] / from[key]) / Math.log(amount(to) / amount(from));
    const each = (key: 'memory' | 'restoreMemory') => (to[key] - from[key]) / (amount(to) - amount(from));
    return {
      from: `${amount(from)} ${unit}`,
      to: `${amount(to)} ${unit}`,
      firstBackup: exponent('firstBackup'),
      unchanged: exponent('unchanged'),
      restore: exponent('restore'),
      memory: each('memory'),
      restoreMemory: each('restoreMemory'),
    };
  });
}

/** The line through the last two sizes; where memory did not grow, it is taken to stay. */
export function prediction(
  of: string,
  points: readonly GrowthPoint[],
  chunks: (at: GrowthPoint) => number,
): GrowthPrediction[] {
  const [from, to] = points.filter((at) => !at.leftOut).slice(-2);
  if (!from || !to) return [];
  const line = (key: 'memory' | 'restoreMemory') =>
    to[key] + Math.max(0, (to[key] - from[key]) / (chunks(to) - chunks(from))) * (PREDICTED_CHUNKS - chunks(to));
  return [{ of, chunks: PREDICTED_CHUNKS, memory: line('memory'), restoreMemory: line('restoreMemory') }];
}
