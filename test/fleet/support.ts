/** A fleet in memory whose commands are real, and whose wall clock stands still until a test moves it. */
import { tmpdir } from 'node:os';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { Warning } from '../../src/entry.ts';
import { breakerPolicy, type BreakerOptions, type FleetBreakerOptions } from '../../src/fleet/breaker-policy.ts';
import { Breakers } from '../../src/fleet/breakers.ts';
import { guardedRun, type GuardedRunOptions, type GuardedRunResult, type Told } from '../../src/fleet/guarded-run.ts';
import { memoryStateStore } from '../../src/fleet/memory-store.ts';
import { RetryQueue } from '../../src/fleet/queue.ts';
import { runQueue, type RunQueueResult } from '../../src/fleet/run-queue.ts';
import type { StateStore } from '../../src/fleet/store.ts';
import { seededRandom } from '../crypto/support.ts';

export const MINUTE_MS = 60_000;
/** A time limit that is over when `late` says so. */
export const LATE_MS = 12_345_678;
export const START_MS = Date.UTC(2026, 0, 1);

export interface TestFleet {
  breakers: Breakers;
  queue: RetryQueue;
  store: StateStore;
  told: Told[];
  /** Of the pauses between tries: everything below a second. */
  pauses: number[];
  later(ms: number): void;
  /** Runs a shell script under the breaker of an agent. */
  run(agent: string, script: string, options?: Partial<GuardedRunOptions>): Promise<GuardedRunResult>;
  runQueue(ids?: readonly string[]): Promise<RunQueueResult>;
  state(agent: string): Promise<string>;
}

export function testFleet(
  agents: Record<string, BreakerOptions & { critical?: boolean }> = {},
  {
    wrap = (store) => store,
    late = new Promise(() => {}),
  }: { wrap?: (store: StateStore) => StateStore; late?: Promise<void> } = {},
): TestFleet {
  const options: FleetBreakerOptions = {
    agents: Object.fromEntries(
      Object.entries(agents).map(([name, { critical, ...breaker }]) => [name, { critical, breaker }]),
    ),
  };
  let nowMs = START_MS;
  const pauses: number[] = [];
  const clock: Clock = {
    now: () => nowMs,
    monotonic: systemClock.monotonic,
    sleep: (ms, signal) => {
      if (ms < 500) pauses.push(ms);
      return ms === LATE_MS ? late : systemClock.sleep(ms, signal);
    },
  };
  const seams = { clock, random: seededRandom('fleet'), progress: () => {} };
  const store = wrap(memoryStateStore(clock));
  const policyOf = (agent: string) => breakerPolicy(agent, options);
  const breakers = new Breakers({ store, policyOf, reporter: 'here', ...seams });
  const queue = new RetryQueue({ store, ...seams, backoffMs: [MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS] });
  const told: Told[] = [];
  const tell = (event: Told): Promise<Warning[]> => {
    told.push(event);
    return Promise.resolve([]);
  };
  const streams = { stdin: 'ignore', stdout: 'stderr', stderr: () => {}, isInteractive: false } as const;
  const common = { breakers, policyOf, env: process.env, streams, tell };
  return {
    ...{ breakers, queue, store, told, pauses },
    later: (ms) => void (nowMs += ms),
    run: (agent, script, more = {}) => {
      const command = { agent, argv: ['sh', '-c', script], cwd: tmpdir() };
      const enqueue = async (problem: string, notBeforeMs: number) =>
        (await queue.add({ ...command, env: {}, problem, timeoutMs: null }, notBeforeMs)).id;
      return guardedRun({ ...common, ...command, enqueue, ...more }, seams);
    },
    runQueue: (ids) => runQueue({ ...common, queue, ids }, seams),
    state: async (agent) => (await breakers.look(agent)).state.kind,
  };
}
