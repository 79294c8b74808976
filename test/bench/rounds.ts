/** Measures the tools on one tree, in turn. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Corpus } from './corpus.ts';
import { assertSame, bytesBelow, forget, freshFolder, settle, sizeOf, warm } from './folders.ts';
import { measure, type Command, type Cost } from './measure.ts';
import { MEASUREMENT_NAMES, MEASUREMENTS, comparison } from './results.ts';
import type { CorpusResult, MeasurementName, ToolName } from './results.ts';
import type { Bucket, Repository, Tool } from './tools.ts';

/** Restored trees of more files are left until the end: on ext4, making files is slow where many were just removed. */
const MANY_FILES = 1000;

export interface RoundsOptions {
  /** The tree, already made; changed by every round. */
  tree: string;
  /** A `workFolder` for the repositories and restored trees, on the same file system as the tree. */
  work: string;
  scale: number;
  rounds: number;
  /** Measure also with nothing in the page cache; only root can. */
  cold: boolean;
  /** Where the repositories go. Default: folders. */
  bucket?: Bucket | undefined;
  log: (line: string) => void;
}

/**
 * Every measurement is made by all tools, one after the other, before the next; who is first changes with the round. Each round has new
 * repositories. What a command left to be written is written before the next one starts.
 *
 * @throws Error when a command fails, or when what it restored is not what was saved.
 */
export async function compare(corpus: Corpus, tools: readonly Tool[], options: RoundsOptions): Promise<CorpusResult> {
  const { tree, scale, rounds } = options;
  const size = sizeOf(tree);
  const values: Partial<Record<MeasurementName, Partial<Record<ToolName, number[]>>>> = {};
  const record = (name: MeasurementName, tool: ToolName, value: number): void => {
    ((values[name] ??= {})[tool] ??= []).push(value);
  };
  const hasManyFiles = size.files > MANY_FILES;
  for (let round = 0; round < rounds; round++)
    await warmRound(corpus, tools, round, record, { ...options, hasManyFiles });
  if (options.cold) await coldRound(tools, record, options);

  const result: CorpusResult = { title: corpus.title, ...size, rounds, measurements: {} };
  if (scale !== 1) result.title += ` (times ${scale})`;
  for (const name of MEASUREMENT_NAMES) if (values[name]) result.measurements[name] = comparison(name, values[name]);
  return result;
}

type Recorder = (name: MeasurementName, tool: ToolName, value: number) => void;

async function warmRound(
  corpus: Corpus,
  tools: readonly Tool[],
  round: number,
  record: Recorder,
  { tree, work, scale, rounds, bucket, log, hasManyFiles }: RoundsOptions & { hasManyFiles: boolean },
): Promise<void> {
  const first = round % tools.length;
  const turns = [...tools.slice(first), ...tools.slice(0, first)];
  const repositories = await openAll(turns, `round-${round}`, { tree, work, bucket });

  const step = async (
    name: MeasurementName,
    command: (repository: Repository, target: string) => Command,
    after?: (done: { tool: Tool; repository: Repository; cost: Cost; target: string }) => void,
  ): Promise<void> => {
    for (const [tool, repository] of repositories) {
      const target = freshFolder(work, 'restored');
      settle();
      warm(tree, ...(repository.path === undefined ? [] : [repository.path])); // borg lets go of what it has read (POSIX_FADV_DONTNEED): who came next would find a cold tree
      const cost = await measure(command(repository, target));
      record(name, tool.name, cost.seconds);
      after?.({ tool, repository, cost, target });
      if (!hasManyFiles) rmSync(target, { recursive: true });
      log(`round ${round + 1}/${rounds}  ${tool.name}  ${MEASUREMENTS[name].label}  ${cost.seconds.toFixed(2)} s`);
    }
  };

  await step(
    'firstBackup',
    (repository) => repository.backup('first'),
    ({ tool, repository, cost }) => {
      if (repository.path !== undefined) record('size', tool.name, bytesBelow(repository.path));
      record('cpu', tool.name, cost.cpuSeconds);
      record('memoryLargest', tool.name, cost.largestBytes);
      record('memorySum', tool.name, cost.sumBytes);
    },
  );
  let latest = 'first';
  if (corpus.unchanged) {
    latest = 'unchanged';
    await step('unchanged', (repository) => repository.backup('unchanged'));
  }
  if (corpus.change) {
    latest = 'changed';
    const before = new Map(repositories.map(([tool, { path }]) => [tool, path === undefined ? 0 : bytesBelow(path)]));
    corpus.change(tree, round, scale);
    await step(
      'change',
      (repository) => repository.backup('changed'),
      ({ tool, repository: { path } }) => {
        if (path !== undefined) record('changeBytes', tool.name, bytesBelow(path) - (before.get(tool) as number));
      },
    );
  }
  await step(
    'restore',
    (repository, target) => repository.restore(latest, target),
    ({ tool, cost, target }) => {
      record('restoreMemoryLargest', tool.name, cost.largestBytes);
      record('restoreMemorySum', tool.name, cost.sumBytes);
      if (round === 0) assertSame(tree, target, tool);
    },
  );
  if (corpus.check) await step('check', (repository) => repository.check());
  const one = corpus.oneFile?.(scale);
  if (one !== undefined)
    await step(
      'restoreOne',
      (repository, target) => repository.restoreOne(latest, one, target),
      ({ tool, target }) => {
        if (round === 0) assertSame(join(tree, one), join(target, one), tool);
      },
    );
  removeAll(repositories, work, `round-${round}`);
}

/** One first backup and one restore of each tool, with nothing of the tree, the repository or the program in the page cache. */
async function coldRound(
  tools: readonly Tool[],
  record: Recorder,
  { tree, work, bucket, log }: RoundsOptions,
): Promise<void> {
  const repositories = await openAll(tools, 'cold', { tree, work, bucket });
  for (const [tool, repository] of repositories) {
    const target = freshFolder(work, 'restored');
    forget();
    const backup = await measure(repository.backup('cold'));
    forget();
    const restore = await measure(repository.restore('cold', target));
    record('coldFirstBackup', tool.name, backup.seconds);
    record('coldRestore', tool.name, restore.seconds);
    log(`cold  ${tool.name}  backup ${backup.seconds.toFixed(2)} s, restore ${restore.seconds.toFixed(2)} s`);
  }
  removeAll(repositories, work, 'cold');
}

async function openAll(
  tools: readonly Tool[],
  name: string,
  { tree, work, bucket }: Pick<RoundsOptions, 'tree' | 'work' | 'bucket'>,
): Promise<[Tool, Repository][]> {
  const repositories: [Tool, Repository][] = [];
  for (const tool of tools) {
    const at = join(work, tool.name, name);
    mkdirSync(at, { recursive: true });
    repositories.push([tool, await tool.open(at, join(work, tool.name, 'home'), tree, bucket)]);
  }
  return repositories;
}

function removeAll(repositories: readonly [Tool, Repository][], work: string, name: string): void {
  for (const [tool] of repositories) rmSync(join(work, tool.name, name), { recursive: true });
}
