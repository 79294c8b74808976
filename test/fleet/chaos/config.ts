/** What `fleet watch` is told about the agents: the same for all, but for how they are seen to live, and for some that nothing restarts. */
import { stringify } from 'yaml';
import type { ChaosFleet } from './fleet.ts';

/** Milliseconds. */
export interface Times {
  intervalMs: number;
  timeoutMs: number;
  /** An agent writes its heartbeat and does its tasks so often. */
  beatMs: number;
  /** Until an agent that has just started could work. */
  warmUpMs: number;
  /** How long one that is slow takes to answer: longer than it is given, also on a busy host, where a watcher that missed time gives up to twice as much. */
  slowMs: number;
  /** How old a heartbeat may be. */
  heartbeatMs: number;
}

/** A fleet of agents each of which is looked at every `intervalMs`. On a busy host each of them has to wait for a moment now and then. */
export function timesOf(intervalMs: number): Times {
  return {
    intervalMs,
    timeoutMs: 1.5 * intervalMs,
    beatMs: intervalMs / 2,
    warmUpMs: intervalMs / 2,
    slowMs: 4 * intervalMs,
    heartbeatMs: 3 * intervalMs,
  };
}

/** Looks in a row that are not ok, and ok again. */
export const FAILURES = 3;
export const SUCCESSES = 2;
/** Of thirty: six. */
export const MOST_TOUCHED = 0.2;

/** Every fourth is nobody's to restart: what happens to it is told, and it has to come back by itself. */
export function isRestartable(name: string): boolean {
  return Number(name.slice(-2)) % 4 !== 0;
}

export function watchConfig(fleet: ChaosFleet): string {
  const { intervalMs, timeoutMs, heartbeatMs } = fleet.times;
  const ms = (intervals: number) => `${Math.round(intervals * intervalMs)}ms`;
  const shell = (argv: readonly string[]) => argv.map((word) => `'${word}'`).join(' ');
  const agents = fleet.names.map((name, i) => {
    const url = `http://${fleet.address(name)}`;
    const agent = {
      live:
        i % 2 === 0 ? { process: { pidFile: fleet.at(name, 'pid'), command: 'agent-process' } } : `${url}/health/live`,
      ready: `${url}/health/ready`,
      progress: { file: fleet.at(name, 'HEARTBEAT.md'), within: `${heartbeatMs}ms` },
      stats: { http: `${url}/stats` },
      queue: { max: 10 },
      errors: { max: '20%' },
      ...(isRestartable(name) && { restart: shell(fleet.command('restart', name)) }),
      scale: { command: shell(fleet.command('scale', name)), max: 50 },
      breaker: { recoveryTimeout: ms(10) },
    };
    return [name, agent];
  });
  return stringify({
    fleet: {
      store: fleet.at('fleet.sqlite'),
      ...{ interval: `${intervalMs}ms`, timeout: `${timeoutMs}ms`, startup: ms(10) },
      ...{ failures: FAILURES, successes: SUCCESSES },
      rules: {
        dead: { coolDown: ms(5) },
        stuck: { when: { down: 'progress' }, coolDown: ms(5) },
        unready: { when: { down: 'ready' }, actions: ['restart'], coolDown: ms(5) },
        queue: { coolDown: ms(8) },
        errors: { coolDown: ms(8) },
      },
      watch: {
        maxTouched: `${100 * MOST_TOUCHED}%`,
        settle: ms(15),
        forget: ms(5),
        lease: `${Math.max(1000, 2 * intervalMs)}ms`,
      },
      agents: Object.fromEntries(agents) as Record<string, unknown>,
    },
  });
}
