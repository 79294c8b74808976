import { formatDuration } from '../../../units.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { drillDueOf } from '../../drill/kept.ts';
import { EXIT } from '../../exit-codes.ts';
import { lines } from '../../render.ts';

interface DueResult {
  due: boolean;
  /** When the last drill that passed began; null for none. */
  last: string | null;
  /** When the newest drill began, where it failed; null where it did not. */
  failed: string | null;
  /** When the next one is due. */
  next: string;
  everySeconds: number;
}

export default class DrillDue extends HoldfastCommand<typeof DrillDue, DueResult> {
  static override summary =
    'Whether a drill is due: exit code 15 when the last that passed is older than `drill.every`, or the newest failed.';
  static override description =
    'For cron and monitoring. Drills of this host count in which a whole recovery was made and nothing failed, with the key that the agent has now; a drill of the shadow alone is none.';

  protected override async work(): Promise<DueResult> {
    const config = requireSections(await this.loadConfig(), 'agent');
    const { due, last, failed, dueMs, everyMs } = await drillDueOf(config, this.clock.now());
    return {
      due,
      last: last?.result.started ?? null,
      failed: failed?.result.started ?? null,
      next: new Date(dueMs).toISOString(),
      everySeconds: everyMs / 1000,
    };
  }

  protected override exitCode({ due }: DueResult) {
    return due ? EXIT.unhealthy : EXIT.done;
  }

  protected override text({ due, last, failed, next, everySeconds }: DueResult): string {
    const every = formatDuration(everySeconds * 1000);
    if (failed !== null) return lines(`DUE: the last drill, begun ${failed}, failed. Run \`holdfast drill run\`.`);
    if (last === null)
      return lines('DUE: no drill of a whole recovery has passed on this host. Run `holdfast drill run`.');
    return lines(
      due
        ? `DUE: the last drill that passed began ${last}, and one is wanted every ${every}. Run \`holdfast drill run\`.`
        : `not due: the last drill passed ${last}; the next is due ${next}.`,
    );
  }
}
