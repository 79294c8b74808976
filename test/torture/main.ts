/** `npm run torture`: what must not harm a backup is done to one, again and again. See `--help` and docs/testing.md. */
import '../repository/zlib-at-once.ts'; // before all that compresses
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ROOT } from '../cli/run.ts';
import { removeFolder } from '../state/trees.ts';
import { clock } from './clock.ts';
import { Dice } from './dice.ts';
import { disk } from './disk.ts';
import { histories } from './histories.ts';
import { kill } from './kill.ts';
import { COUNTED, MUST_BE_NONE, Tally, type Kind } from './kind.ts';
import { unmountBelow } from './mounts.ts';
import { HELP, NAMES, options, type Options } from './options.ts';
import { parsers } from './parsers.ts';
import { rot } from './rot.ts';
import { writers } from './writers.ts';

const KINDS: Record<(typeof NAMES)[number], Kind> = { parsers, kill, disk, rot, writers, clock, histories };
/** A kind that has found so much is not gone on with. */
const ENOUGH_FAILURES = 10;

interface Result {
  name: string;
  rounds: number;
  seconds: number;
  counts: Tally['counts'];
  notRun?: string;
}

async function torture(name: keyof typeof KINDS, asked: Options, work: string, milliseconds: number): Promise<Result> {
  const kind = KINDS[name];
  const startedMs = performance.now();
  const seconds = () => (performance.now() - startedMs) / 1000;
  const log = (line: string): void => {
    process.stderr.write(`${seconds().toFixed(0).padStart(5)} s  ${name}: ${line}\n`);
  };
  const tally = new Tally(log);
  const missing = kind.missing?.();
  if (missing !== undefined) {
    log(`not run: ${missing}`);
    if (process.env['CI'] === 'true') tally.blame('wrong', `it must run here: ${missing}`);
    return { name, rounds: 0, seconds: 0, counts: tally.counts, notRun: missing };
  }
  const dice = new Dice(`${asked.seed}/${name}`);
  const folder = join(work, name);
  mkdirSync(folder);
  let done = 0;
  try {
    tally.doing = `${name}, the start`;
    const rounds = await kind.start({ dice: dice.of('start'), folder, tally, isShort: asked.short, log });
    const wanted = asked.rounds ?? (asked.short ? kind.rounds.short : kind.rounds.long);
    const isDue = () =>
      done < wanted || (asked.rounds === undefined && !asked.short && seconds() * 1000 < milliseconds);
    while (isDue() && tally.failures < ENOUGH_FAILURES) {
      tally.doing = `${name}, round ${done}`;
      await rounds.round(done, dice.of(`round ${done}`));
      done++;
    }
    await rounds.finish();
  } catch (error) {
    tally.blame('wrong', `the torture itself failed: ${(error as Error).stack ?? String(error)}`);
  }
  unmountBelow(folder);
  if (!asked.keep && tally.failures === 0) removeFolder(folder);
  return { name, rounds: done, seconds: seconds(), counts: tally.counts };
}

function table(results: readonly Result[]): string {
  const columns = ['kind', 'rounds', ...Object.keys(COUNTED), 'seconds'];
  const rows = results.map(({ name, rounds, counts, seconds, notRun }) =>
    notRun === undefined
      ? [name, rounds, ...Object.values(counts), seconds.toFixed(0)].map(String)
      : [name, `not run: ${notRun}`],
  );
  const widths = columns.map((column, i) =>
    Math.max(column.length, ...rows.filter(({ length }) => length > 2).map((row) => (row[i] ?? '').length)),
  );
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ');
  return [line(columns), ...rows.map(line)].join('\n');
}

/** The line that does the same again. */
function againLine({ seed, short, rounds, minutes, kinds }: Options): string {
  return [
    `npm run torture -- --seed ${seed}`,
    ...(short ? ['--short'] : []),
    ...(rounds === undefined ? (short ? [] : [`--minutes ${minutes}`]) : [`--rounds ${rounds}`]),
    ...(kinds.length < NAMES.length ? [`--only ${kinds.join(',')}`] : []),
  ].join(' ');
}

async function main(): Promise<number> {
  let asked: Options;
  try {
    asked = options(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`Error: ${(error as Error).message}\nSee npm run torture -- --help\n`);
    return 2;
  }
  if (asked.help) {
    process.stdout.write(HELP);
    return 0;
  }
  mkdirSync(asked.dir, { recursive: true });
  const work = mkdtempSync(join(resolve(asked.dir), 'holdfast-torture-'));
  spawnSync('chmod', ['755', work]);
  process.once('exit', () => unmountBelow(work));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  const startedMs = performance.now();
  const endMs = startedMs + asked.minutes * 60_000;
  process.stderr.write(`seed ${asked.seed}, in ${work} (root of the sources: ${ROOT})\n`);
  const results: Result[] = [];
  for (const [i, name] of asked.kinds.entries())
    results.push(await torture(name, asked, work, (endMs - performance.now()) / (asked.kinds.length - i)));
  const failures = results.reduce((sum, { counts }) => sum + MUST_BE_NONE.reduce((n, what) => n + counts[what], 0), 0);
  const isKept = asked.keep || failures > 0;
  if (!isKept) removeFolder(work);
  const again = againLine(asked);
  const isOver = asked.rounds === undefined && !asked.short && performance.now() > endMs + 60_000;
  const text = asked.json
    ? JSON.stringify({ seed: asked.seed, ok: failures === 0, kinds: results }, null, 2)
    : [
        table(results),
        '',
        ...(isKept ? [`What it worked on is in ${work}.`] : []),
        ...(isOver ? ['It took longer than --minutes says, for every kind does its least rounds: see --rounds.'] : []),
        `Seed ${asked.seed}: ${again}`,
        failures === 0 ? '0 lost, 0 wrong, 0 hung.' : `${failures} lost, wrong or hung: see above.`,
      ].join('\n');
  process.stdout.write(`${text}\n`);
  return failures === 0 ? 0 : 1;
}

process.exitCode = await main();
