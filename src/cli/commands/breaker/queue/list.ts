import { unreadableCommand, type QueuedCommand } from '../../../../fleet/queue.ts';
import { HoldfastCommand } from '../../../base-command.ts';
import { EXIT } from '../../../exit-codes.ts';
import { openFleet, unreadableText } from '../../../fleet/context.ts';
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

  #unreadable = 0;

  protected override async work(): Promise<QueueRow[]> {
    const config = await this.loadConfig();
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random });
    const { commands, unreadable } = await fleet.queue.readable();
    this.#unreadable = unreadable.length;
    this.warnAll(
      unreadable.map((id) => ({ code: 'unreadable_command', message: unreadableText(unreadableCommand(id)) })),
    );
    return commands.map(({ id, agent, argv, cwd, env, attempts, problem, state, queuedMs }) => {
      const dueMs = state.kind === 'waiting' ? state.dueMs : state.kind === 'running' ? state.untilMs : undefined;
      return {
        ...{ id, agent, state: state.kind, attempts, problem, argv, cwd, env: Object.keys(env) },
        ...{ queuedAt: iso(queuedMs), dueAt: dueMs === undefined ? null : iso(dueMs) },
      };
    });
  }

  /** 3 when one cannot be read. */
  protected override exitCode() {
    return this.#unreadable === 0 ? EXIT.done : EXIT.incomplete;
  }

  protected override text(rows: QueueRow[]): string {
    if (rows.length === 0)
      return this.#unreadable === 0 ? 'nothing is queued\n' : 'nothing is queued that can be read\n';
    const cells = rows.map(({ id, agent, state, attempts, dueAt, argv, problem }) => [
      ...[id, agent, state, String(attempts), dueAt ?? '', argv.map(word).join(' '), problem],
    ]);
    return table(['id', 'agent', 'state', 'attempts', 'due', 'command', 'why'], cells, ['attempts']);
  }
}

const iso = (ms: number): string => new Date(ms).toISOString();
const word = (arg: string): string => (/^[\w./:=@%+,-]+$/.test(arg) ? arg : JSON.stringify(arg));
