import type { ScheduleChange } from '../../../operations/schedule/schedule.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { changeText, chooseScheduler, schedulePlan, schedulerFlags } from '../../schedule-context.ts';

export default class ScheduleRemove extends HoldfastCommand<typeof ScheduleRemove, ScheduleChange> {
  static override summary = 'Take away what `schedule install` wrote, and nothing else.';
  static override flags = schedulerFlags;

  protected override async work(): Promise<ScheduleChange> {
    const plan = await schedulePlan(await this.loadConfig(), process.env, process.argv[1] ?? '');
    return chooseScheduler(this.flags, process.env).remove(plan);
  }

  protected override text(change: ScheduleChange): string {
    return changeText(change);
  }
}
