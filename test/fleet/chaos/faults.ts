/** What is done to an agent, where the watcher must see it, and what it must do about it. */
import type { Layer } from '../../../src/fleet/health.ts';
import { isRestartable } from './config.ts';
import type { ChaosFleet } from './fleet.ts';

export interface Fault {
  /** For the table. */
  title: string;
  /** One of these is not ok from then on. */
  layers: readonly Layer[];
  /** By rule. `told`: there is nothing that could be done, but it is in the events. */
  answer: 'restart' | 'scale' | 'breaker' | 'told';
  /** Done to the agent. */
  strike(fleet: ChaosFleet, name: string): void;
  /** It can be seen only so much later: the time that a heartbeat may be old. */
  isSeenByAge?: true;
  /** Ends what no action of the watcher ends, once it has acted. */
  heal?: (fleet: ChaosFleet, name: string) => void | Promise<void>;
}

const word = (text: string) => (fleet: ChaosFleet, name: string) => fleet.fault(name, text);
const VITAL: readonly Layer[] = ['live', 'ready', 'progress'];

export const FAULTS = {
  killed: {
    ...{ title: 'killed (SIGKILL)', layers: VITAL, answer: 'restart' },
    strike: (fleet, name) => fleet.kill(name, 'SIGKILL'),
  },
  frozen: {
    ...{ title: 'frozen (SIGSTOP), restarted', layers: VITAL, answer: 'restart' },
    strike: (fleet, name) => fleet.kill(name, 'SIGSTOP'),
  },
  thawed: {
    ...{ title: 'frozen, goes on (SIGCONT)', layers: VITAL, answer: 'told' },
    strike: (fleet, name) => fleet.kill(name, 'SIGSTOP'),
    heal: (fleet, name) => fleet.kill(name, 'SIGCONT'),
  },
  slow: { title: 'slow', layers: ['live', 'ready'], answer: 'restart', strike: word('slow') },
  partitioned: {
    title: 'partitioned: refuses',
    layers: ['live', 'ready'],
    answer: 'restart',
    strike: word('partitioned'),
  },
  silent: { title: 'partitioned: no answer', layers: ['live', 'ready'], answer: 'restart', strike: word('silent') },
  stuck: { title: 'no progress', layers: ['progress'], answer: 'restart', strike: word('stuck'), isSeenByAge: true },
  erroring: {
    ...{ title: 'its tasks fail', layers: ['errors'], answer: 'breaker', strike: word('erroring') },
    heal: async (fleet, name) => {
      fleet.fault(name, '');
      // As whoever has mended it does: without a call it would stay open for ever.
      const { code, stderr } = await fleet.holdfast('breaker', 'reset', name);
      if (code !== 0) throw new Error(`breaker reset ${name} ended with ${code}: ${stderr}`);
    },
  },
  growing: {
    ...{
      title: 'its queue grows',
      layers: ['queue'],
      answer: 'scale',
      strike: (fleet, name) => fleet.crowd(name),
      heal: word(''),
    },
  },
} satisfies Record<string, Fault>;
export type FaultName = keyof typeof FAULTS;
export const FAULT_NAMES = Object.keys(FAULTS) as FaultName[];

/** Whether it can be done to this agent, and its answer be had. */
export function canStrike(fault: FaultName, name: string): boolean {
  const { answer } = FAULTS[fault];
  return answer === 'restart' ? isRestartable(name) : answer !== 'told' || !isRestartable(name);
}
