import { runQueue, type RunQueueResult } from '../../../../fleet/run-queue.ts';
import { HoldfastCommand } from '../../../base-command.ts';
import { passedSignals, queuedStreams } from '../../../command-streams.ts';
import { EXIT } from '../../../exit-codes.ts';
import { openFleet, reporterFlag, tellAll } from '../../../fleet/context.ts';
import { lines } from '../../../render.ts';

export default class BreakerQueueRun extends HoldfastCommand<typeof BreakerQueueRun, RunQueueResult> {
  static override summary = 'Run the queued commands that are due, or those named, dead letters included; for cron.';
  static override description = 'What they print goes to stderr; they have nothing to read.';
  static override usage = ['breaker queue run [ID...] [FLAGS]'];
  static override strict = false;
  static override flags = reporterFlag;
  protected override readonly takesSignals = true;

  protected override async work(): Promise<RunQueueResult> {
    const config = await this.loadConfig();
    const { reporter } = this.flags;
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random, reporter });
    const result = await runQueue(
      {
        ...{ ...fleet, env: process.env, streams: queuedStreams(), signals: passedSignals },
        ids: this.operands.length > 0 ? this.operands : undefined,
        tell: tellAll(config, fleet, this.seams),
      },
      this.seams,
    );
    if (!this.flags.json) this.warnAll(result.warnings);
    return result;
  }

  /** 3 when one of them was not done. */
  protected override exitCode({ ran, left }: RunQueueResult) {
    return ran.every(({ outcome }) => outcome === 'done') && left.unreadable === undefined
      ? EXIT.done
      : EXIT.incomplete;
  }

  protected override text({ ran, left }: RunQueueResult): string {
    const rows = ran.map(
      ({ id, agent, outcome, problem }) => `${id} (${agent}): ${outcome}${problem === null ? '' : `, ${problem}`}`,
    );
    return lines(...rows, `left: ${left.waiting} waiting, ${left.running} running, ${left.dead} dead`);
  }
}
