/** `npm run chaos`: thirty agents as real processes, harmed in every way, and the watcher that must see it and help. See `--help` and docs/testing.md. */
import { mkdirSync, mkdtempSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { removeFolder } from '../state/trees.ts';
import { Dice } from '../torture/dice.ts';
import { median } from '../bench/results.ts';
import { Chaos, LOOKS, longPlan, shortPlan, type Verdict } from './chaos/chaos.ts';
import { timesOf } from './chaos/config.ts';
import { FAULT_NAMES, FAULTS } from './chaos/faults.ts';
import { ChaosFleet } from './chaos/fleet.ts';
import { HELP, options, type Options } from './chaos/options.ts';

const AGENTS = 30;
const BYSTANDERS = 6;

/** What is printed of one kind of fault. Seconds; null where there is none. */
interface Row {
  fault: string;
  times: number;
  seen: number;
  acted: number;
  back: number;
  looksMax: number | null;
  seenMedian: number | null;
  seenMax: number | null;
  actedMedian: number | null;
  backMedian: number | null;
  backMax: number | null;
}

function rows({ incidents }: Verdict): Row[] {
  return FAULT_NAMES.flatMap((name) => {
    const own = incidents.filter((one) => one.name === name);
    if (own.length === 0) return [];
    const seen = own.flatMap(({ seen: found, watchedMs }) => (found ? [(found.atMs - watchedMs) / 1000] : []));
    const acted = own.flatMap(({ actedMs, watchedMs }) =>
      actedMs === undefined ? [] : [(actedMs - watchedMs) / 1000],
    );
    const back = own.flatMap(({ backMs, watchedMs }) => (backMs === undefined ? [] : [(backMs - watchedMs) / 1000]));
    const middle = (values: readonly number[]) => (values.length === 0 ? null : median(values));
    const most = (values: readonly number[]) => (values.length === 0 ? null : Math.max(...values));
    return [
      {
        ...{ fault: FAULTS[name].title, times: own.length, seen: seen.length, acted: acted.length, back: back.length },
        looksMax: most(own.flatMap(({ seen: found }) => (found ? [found.looks] : []))),
        ...{ seenMedian: middle(seen), seenMax: most(seen), actedMedian: middle(acted) },
        ...{ backMedian: middle(back), backMax: most(back) },
      },
    ];
  });
}

function table(of: readonly Row[]): string {
  const seconds = (value: number | null) => (value === null ? '-' : `${value.toFixed(1)} s`);
  const head = ['fault', 'times', 'seen', 'with look', 'median', 'max', 'acted', 'median', 'back', 'median', 'max'];
  const lines = of.map((row) => [
    ...[row.fault, row.times, row.seen, row.looksMax ?? '-', seconds(row.seenMedian), seconds(row.seenMax)],
    ...[row.acted, seconds(row.actedMedian), row.back, seconds(row.backMedian), seconds(row.backMax)],
  ]);
  const widths = head.map((title, i) => Math.max(title.length, ...lines.map((line) => String(line[i]).length)));
  const text = (line: readonly (string | number)[]) =>
    line
      .map((cell, i) => (i === 0 ? String(cell).padEnd(widths[i] ?? 0) : String(cell).padStart(widths[i] ?? 0)))
      .join('  ');
  return [text(head), ...lines.map(text)].join('\n');
}

async function chaos(asked: Options, work: string): Promise<{ chaos: Chaos; verdict: Verdict; check: number | null }> {
  const startedMs = performance.now();
  const log = (line: string): void => {
    process.stderr.write(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(7)} s  ${line}\n`);
  };
  const dice = new Dice(asked.seed);
  await using fleet = new ChaosFleet(work, AGENTS, timesOf(asked.intervalMs));
  await fleet.start();
  log(`${AGENTS} agents work`);
  fleet.startWatcher();
  const bystanders = dice.of('bystanders').shuffled(fleet.names).slice(0, BYSTANDERS);
  const run = new Chaos(fleet, { bystanders, log });
  await run.healthy();
  log('the watcher finds all well');
  if (asked.short) await shortPlan(run, fleet, dice.of('plan'));
  else await longPlan(run, fleet, dice.of('plan'), Date.now() + asked.minutes * 60_000);
  await run.healthy();
  const verdict = await run.judge();
  // As whoever asks from a cron job finds it.
  const { code: check, stdout, stderr } = await fleet.holdfast('fleet', 'check');
  if (check !== 0) run.problems.push(`in the end fleet check ends with ${check}: ${stdout}${stderr}`);
  const ended = await fleet.stopWatcher('SIGTERM');
  if (ended !== 0) run.problems.push(`told to end, fleet watch ends with ${ended}`);
  return { chaos: run, verdict, check };
}

async function main(): Promise<number> {
  let asked: Options;
  try {
    asked = options(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`Error: ${(error as Error).message}\nSee npm run chaos -- --help\n`);
    return 2;
  }
  if (asked.help) {
    process.stdout.write(HELP);
    return 0;
  }
  mkdirSync(asked.dir, { recursive: true });
  const work = mkdtempSync(join(resolve(asked.dir), 'holdfast-chaos-'));
  process.stderr.write(`seed ${asked.seed}, in ${work}\n`);
  // Agents end by themselves when whoever started them is gone.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  try {
    const { chaos: run, verdict } = await chaos(asked, work);
    const isOk = run.problems.length === 0;
    const { touched, atOnce, most, falseAlarms } = verdict;
    const { watchersKilled, watchersFrozen, storms, problems } = run;
    const of = rows(verdict);
    const figures = { watchersKilled, watchersFrozen, storms, touched, atOnce, most, falseAlarms };
    const text = asked.json
      ? JSON.stringify(
          { seed: asked.seed, ok: isOk, intervalMs: asked.intervalMs, faults: of, ...figures, problems },
          null,
          2,
        )
      : [
          table(of),
          '',
          `The interval is ${asked.intervalMs / 1000} s. The watcher was killed ${watchersKilled} and frozen ${watchersFrozen} times; ${storms} times more than half of all stood still.`,
          `Restarted at once: ${atOnce} at most, of ${most} allowed. Healthy agents touched: ${touched}. Looks that failed at healthy ones: ${falseAlarms}.`,
          `Seed ${asked.seed}: npm run chaos -- --seed ${asked.seed} ${asked.short ? '--short' : `--minutes ${asked.minutes}`}`,
          isOk
            ? `Every fault was seen with look ${LOOKS} at the latest, acted on and over.`
            : ['Wrong:', ...problems].join('\n  '),
        ].join('\n');
    process.stdout.write(`${text}\n`);
    if (isOk && !asked.keep) removeFolder(work);
    else process.stderr.write(`What it worked on is in ${work}.\n`);
    return isOk ? 0 : 1;
  } catch (error) {
    process.stderr.write(`Error: ${(error as Error).stack ?? String(error)}\nWhat it worked on is in ${work}.\n`);
    return 1;
  }
}

process.exitCode = await main();
