import type { QueuedCommand } from '../../../../fleet/queue.ts';
import { HoldfastCommand } from '../../../base-command.ts';
import { openFleet } from '../../../fleet/context.ts';
import { table } from '../../../render.ts';

interface QueueRow extends Pick<QueuedCommand, 'id' | 'agent' | 'argv' | 'cwd' | 'attempts' | 'problem'> {
  state: QueuedCommand['state']['kind'];
  queuedAt: string;
  /** When it may be run; of one that is running: when somebody else may, should its run have died. */
  dueAt: string | null;
  /** Names of the variables that are kept. */
  env: string[];
}

export default class BreakerQueueList extends HoldfastCommand<typeof BreakerQueueList, QueueRow[]> {
  static override summary = 'The commands that wait to be run again, and the dead letters.';

  protected override async work(): Promise<QueueRow[]> {
    const config = await this.loadConfig();
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random });
    return (await fleet.queue.list()).map(({ id, agent, argv, cwd, env, attempts, problem, state, queuedMs }) => {
      const dueMs = state.kind === 'waiting' ? state.dueMs : state.kind === 'running' ? state.untilMs : undefined;
      return {
        ...{ id, agent, state: state.kind, attempts, problem, argv, cwd, env: Object.keys(env) },
        ...{ queuedAt: iso(queuedMs), dueAt: dueMs === undefined ? null : iso(dueMs) },
      };
    });
  }

  protected override text(rows: QueueRow[]): string {
    if (rows.length === 0) return 'nothing is queued\n';
    const cells = rows.map(({ id, agent, state, attempts, dueAt, argv, problem }) => [
      ...[id, agent, state, String(attempts), dueAt ?? '', argv.map(word).join(' '), problem],
    ]);
    return table(['id', 'agent', 'state', 'attempts', 'due', 'command', 'why'], cells, ['attempts']);
  }
}

const iso = (ms: number): string => new Date(ms).toISOString();
const word = (arg: string): string => (/^[\w./:=@%+,-]+$/.test(arg) ? arg : JSON.stringify(arg));
