/**
 * A process that calls an agent under its breaker when it is told to (each message is an order, each reply tells what came of it). Its wall clock is
 * what stands in a file, so that the test moves the time of all at once.
 */
import { flushCompileCache } from 'node:module';
import { readFileSync, writeSync, openSync } from 'node:fs';
import { systemClock, systemRandom, type Clock } from '../../src/clock.ts';
import { breakerPolicy } from '../../src/fleet/breaker-policy.ts';
import { Breakers } from '../../src/fleet/breakers.ts';
import { guardedRun } from '../../src/fleet/guarded-run.ts';
import { openSqliteStore } from '../../src/fleet/sqlite-store.ts';

const [folder = '', reporter = ''] = process.argv.slice(2);
const clock: Clock = { ...systemClock, now: () => Number(readFileSync(`${folder}/clock`, 'utf8')) };
const seams = { clock, random: systemRandom, progress: () => {} };
const store = openSqliteStore(`${folder}/store`, seams);
const policyOf = (agent: string) =>
  breakerPolicy(agent, { agents: { tally: { breaker: { failureThreshold: 1_000_000 } } } });
const breakers = new Breakers({ store, policyOf, reporter, ...seams });

/** What the command does once it has written that it runs. The last one says so, and runs until our standard input ends. */
const ENDS = { fail: 'exit 7', succeed: 'exit 0', hang: 'echo runs; exec cat' };

async function call(agent: string, end: keyof typeof ENDS): Promise<void> {
  const result = await guardedRun(
    {
      ...{ breakers, policyOf, agent, cwd: folder, env: process.env },
      argv: ['sh', '-c', `echo ${reporter} >> ${folder}/ran-${agent}; ${ENDS[end]}`],
      streams: { stdin: 'inherit', stdout: 'inherit', stderr: () => {}, isInteractive: false },
      tell: () => Promise.resolve([]),
    },
    seams,
  );
  const { outcome, exitCode } = result;
  process.send?.({ reporter, outcome, exitCode, retryAtMs: result.rejection?.retryAtMs });
}

/** Failures without end: each is written down before it is reported and after. */
async function tally(): Promise<void> {
  const begun = openSync(`${folder}/begun`, 'a');
  const done = openSync(`${folder}/done`, 'a');
  for (;;) {
    const permit = await breakers.enter('tally');
    writeSync(begun, '.');
    await permit.end({ type: 'failure', error: 'again' });
    writeSync(done, '.');
    process.send?.({ reporter, outcome: 'failed', exitCode: 1 });
    await new Promise((resolve) => setImmediate(resolve));
  }
}

process.on('message', ({ agent, end }: { agent: string; end: keyof typeof ENDS }) => {
  void (agent === 'tally' ? tally() : call(agent, end));
});
process.on('disconnect', () => process.exit());
if (reporter === 'p0') flushCompileCache(); // the others start five times as fast
process.send?.({ reporter, outcome: 'ready', exitCode: 0 });
