/** `npm run bench`: holdfast beside restic and borg on the same work. It measures and judges nothing; see `--help`. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, release, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CORPORA, type Corpus, type CorpusName } from './corpus.ts';
import { measureFleet } from './fleet.ts';
import { canForget, freshFolder, workFolder } from './folders.ts';
import { studyGrowth } from './growth.ts';
import { emptyDocument, markdown, replaceSection, sectionsOf, terminalText } from './report.ts';
import { TOOL_NAMES, type BenchResult } from './results.ts';
import { compare } from './rounds.ts';
import { withBucket } from './s3.ts';
import { measureStart } from './startup.ts';
import { targetsOf } from './targets.ts';
import { NoSuchProgram, findTools, type Bucket } from './tools.ts';

const DOCUMENT = fileURLToPath(new URL('../../docs/benchmarks.md', import.meta.url));
const CORPUS_NAMES = Object.keys(CORPORA) as CorpusName[];
const PARTS = [...CORPUS_NAMES, 's3', 'start', 'growth', 'fleet'] as const;
const QUICK_PARTS: readonly (typeof PARTS)[number][] = ['agents', 's3', 'start'];
const START_RUNS = 15;
const CHECK_RUNS = 5;

const HELP = `npm run bench -- [OPTIONS]

  --quick            only ${QUICK_PARTS.join(', ')}; 3 rounds, nothing cold: under 5 minutes
  --only PARTS       of ${PARTS.join(',')}
  --tools NAMES      of ${TOOL_NAMES.join(',')} (default: all)
  --rounds N         default 5, with --quick 3
  --restic PATH      the binary to compare with; also $RESTIC; default: the one in PATH, or Debian's, installed
  --borg PATH        the same; also $BORG
  --program FILE     holdfast: a file of this project (default bin/run.js, which is what is published)
  --scale X          trees X times as large, for trials
  --max-files N      growth: no more files than that
  --max-bytes N      growth: no tree larger than that
  --dir DIR          where to work (default: a new folder below ${tmpdir()}); the run's own folder in it is removed
  --cold             measure with an empty page cache too, once (root only; a run of everything does so anyway)
  --keep             keep that folder with the trees, as they were after the last round
  --corpus DIR       keep the trees there for the next run, which copies them
  --json             one JSON document on stdout
  --write            write the sections of docs/benchmarks.md (a run of everything does so anyway)
  --output FILE      write to this document instead
`;

class UsageError extends Error {}

function options() {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      tools: { type: 'string' },
      rounds: { type: 'string' },
      restic: { type: 'string' },
      borg: { type: 'string' },
      program: { type: 'string', default: 'bin/run.js' },
      scale: { type: 'string', default: '1' },
      'max-files': { type: 'string', default: '1000000' },
      'max-bytes': { type: 'string', default: String(10 * 1024 ** 3) },
      dir: { type: 'string', default: tmpdir() },
      cold: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      corpus: { type: 'string' },
      json: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      output: { type: 'string', default: DOCUMENT },
      help: { type: 'boolean', default: false },
    },
  });
  const rounds = number('rounds', values.rounds ?? (values.quick ? '3' : '5'));
  if (!Number.isInteger(rounds) || rounds < 1) throw new UsageError('--rounds wants a whole number from 1');
  const scale = number('scale', values.scale);
  if (scale <= 0) throw new UsageError('--scale wants a number above 0');
  const parts = values.only === undefined ? (values.quick ? QUICK_PARTS : PARTS) : some('only', values.only, PARTS);
  const names = values.tools === undefined ? TOOL_NAMES : some('tools', values.tools, TOOL_NAMES);
  if (!names.includes('holdfast')) throw new UsageError('--tools has to name holdfast: all ratios are to it');
  const everything = parts.length === PARTS.length && names.length === TOOL_NAMES.length && scale === 1;
  const cold = values.cold || everything;
  if (cold && !canForget()) process.stderr.write('nothing cold is measured: only root can empty the page cache\n');
  return {
    ...values,
    rounds,
    scale,
    parts,
    names,
    maxFiles: number('max-files', values['max-files']),
    maxBytes: number('max-bytes', values['max-bytes']),
    cold: cold && canForget(),
    write: values.write || everything,
  };
}

function number(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0)
    throw new UsageError(`--${name} wants a number, not "${text}"`);
  return value;
}

function some<T extends string>(name: string, text: string, known: readonly T[]): T[] {
  const asked = text.split(',');
  const unknown = asked.find((one) => !(known as readonly string[]).includes(one));
  if (unknown !== undefined) throw new UsageError(`--${name} does not know "${unknown}": it takes ${known.join(', ')}`);
  return known.filter((one) => asked.includes(one));
}

function machineOf(folder: string): BenchResult['machine'] {
  const df = spawnSync('df', ['--output=fstype', folder], { encoding: 'utf8' });
  return {
    processor: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory: `${(totalmem() / 1e9).toFixed(1)} GB`,
    kernel: `${process.platform} ${release()}`,
    'file system': df.stdout.trim().split('\n').at(-1) ?? 'unknown',
    'SHA instructions': /\bsha_ni\b|\bsha2\b/.test(readFileSync('/proc/cpuinfo', 'utf8')) ? 'yes' : 'no',
  };
}

/** Fills the empty folder `root`, or copies the one that an earlier run left in `cache`. */
function prepare(name: CorpusName, root: string, scale: number, cache: string | undefined): void {
  if (cache === undefined) return CORPORA[name].make(root, scale);
  const kept = join(resolve(cache), `${name}-${scale}`);
  if (!existsSync(kept)) {
    const unfinished = `${kept}.${process.pid}`;
    mkdirSync(resolve(cache), { recursive: true });
    CORPORA[name].make(unfinished, scale);
    renameSync(unfinished, kept);
  }
  const copy = spawnSync('cp', ['-a', '--reflink=auto', `${kept}/.`, root], { stdio: ['ignore', 2, 2] });
  if (copy.status !== 0) throw new Error(`cannot copy ${kept}`);
}

/** What is measured of a corpus in a bucket: what differs from a folder is the way there and back. */
const onS3 = ({ title, make }: Corpus): Corpus => ({ title, make, unchanged: true, check: false });

async function bench(asked: ReturnType<typeof options>, work: string): Promise<BenchResult> {
  const started = performance.now();
  const date = new Date().toISOString();
  const log = (line: string): void => {
    process.stderr.write(`${((performance.now() - started) / 1000).toFixed(0).padStart(5)} s  ${line}\n`);
  };
  const { parts, scale, rounds, cold } = asked;
  const paths = { restic: asked.restic ?? process.env['RESTIC'], borg: asked.borg ?? process.env['BORG'] };
  const { tools, notMeasured } = findTools(asked.names, { program: asked.program, paths, log });
  const result: BenchResult = {
    date,
    seconds: 0,
    scale,
    machine: machineOf(work),
    tools: tools.map(({ name, version, settings }) => ({ name, version, settings })),
    notMeasured,
    corpora: {},
    targets: [],
  };
  const folder = (name: string): string => workFolder(join(work, name));
  const onTree = async (
    name: CorpusName,
    as: string,
    how: { scale: number; rounds: number; cold: boolean; bucket?: Bucket },
  ) => {
    const at = folder(as);
    const tree = freshFolder(at, 'tree');
    log(`${as}: making the tree`);
    prepare(name, tree, how.scale, as === 'warm-up' ? undefined : asked.corpus);
    const [corpus, comparable] = how.bucket
      ? [onS3(CORPORA[name]), tools.filter(({ speaksS3 }) => speaksS3)]
      : [CORPORA[name], tools];
    const found = await compare(corpus, comparable, { ...how, tree, work: at, log: (line) => log(`${as}  ${line}`) });
    if (!asked.keep) rmSync(at, { recursive: true });
    return found;
  };
  const corpora = CORPUS_NAMES.filter((name) => parts.includes(name));
  // Once without counting: programs, and what they keep of their compiled code, are warm for all. A trial of one round does without.
  if ((corpora.length > 0 || parts.includes('s3')) && rounds > 1)
    await onTree('agents', 'warm-up', { scale: Number.MIN_VALUE, rounds: 1, cold: false });
  for (const name of corpora) result.corpora[name] = await onTree(name, name, { scale, rounds, cold });
  if (parts.includes('s3')) {
    // What the server keeps is in memory: there is nothing cold about it.
    const found = await withBucket(log, async (bucket, title) => ({
      ...(await onTree('agents', 's3', { scale, rounds, cold: false, bucket })),
      place: `${title} on loopback, which keeps it in memory`,
    }));
    if ('missing' in found) result.notMeasured.push({ name: 's3', reason: found.missing });
    else result.corpora['s3'] = found;
  }
  if (parts.includes('start')) {
    log('start');
    result.start = await measureStart(
      asked.program,
      folder('start'),
      Math.min(START_RUNS, Math.ceil(START_RUNS * scale)),
    );
  }
  const [ours] = tools.filter(({ name }) => name === 'holdfast');
  if (parts.includes('growth') && ours) {
    const { maxFiles, maxBytes } = asked;
    const growthLog = (line: string): void => log(`growth  ${line}`);
    result.growth = await studyGrowth(ours, {
      work: folder('growth'),
      scale,
      rounds,
      maxFiles,
      maxBytes,
      log: growthLog,
    });
  }
  if (parts.includes('fleet')) {
    log('fleet: about two minutes');
    const runs = Math.min(CHECK_RUNS, Math.ceil(CHECK_RUNS * scale));
    result.fleet = await measureFleet(asked.program, folder('fleet'), { scale, runs });
  }
  result.seconds = (performance.now() - started) / 1000;
  result.targets = targetsOf(result);
  return result;
}

/** Replaces the sections that the run has figures for; those about the run as a whole only if it was a whole one. */
async function writeDocument(path: string, result: BenchResult, whole: boolean): Promise<void> {
  const { format, resolveConfig } = await import('prettier');
  let document = existsSync(path) ? readFileSync(path, 'utf8') : emptyDocument();
  for (const { name, content } of sectionsOf(result))
    if (whole || (name !== 'machine' && name !== 'targets'))
      document = replaceSection(document, name, markdown(content));
  writeFileSync(path, await format(document, { ...(await resolveConfig(DOCUMENT)), parser: 'markdown' }));
}

async function main(): Promise<number> {
  let asked: ReturnType<typeof options>;
  try {
    asked = options();
  } catch (error) {
    process.stderr.write(`Error: ${(error as Error).message}\nSee npm run bench -- --help\n`);
    return 2;
  }
  if (asked.help) {
    process.stdout.write(HELP);
    return 0;
  }
  mkdirSync(asked.dir, { recursive: true });
  const work = mkdtempSync(join(resolve(asked.dir), 'holdfast-bench-'));
  const clean = (): void => {
    if (!asked.keep) rmSync(work, { recursive: true, force: true, maxRetries: 5 });
  };
  // An exit kills the command that runs (see measure.ts); its folder goes after it.
  process.once('exit', clean);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  try {
    const result = await bench(asked, work);
    if (asked.write) await writeDocument(resolve(asked.output), result, asked.parts.length === PARTS.length);
    const text = asked.json ? JSON.stringify(result, null, 2) : terminalText(sectionsOf(result));
    process.stdout.write(`${text}\n`);
    return 0;
  } catch (error) {
    process.stderr.write(`Error: ${error instanceof Error ? error.message : String(error)}\n`);
    return error instanceof NoSuchProgram ? 2 : 1;
  }
}

process.exitCode = await main();
