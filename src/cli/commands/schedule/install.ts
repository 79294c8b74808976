import type { ScheduleChange } from '../../../operations/schedule/schedule.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { changeText, chooseScheduler, schedulePlan, schedulerFlags } from '../../schedule-context.ts';

export default class ScheduleInstall extends HoldfastCommand<typeof ScheduleInstall, ScheduleChange> {
  static override summary = 'Run backup and verify by the clock: as systemd timers, or from the crontab.';
  static override description =
    'The times are those of `schedule` in the config; by default backup hourly and verify daily. Can be run again after a change. Without a flag: systemd where it runs, else the crontab.';
  static override flags = schedulerFlags;

  protected override async work(): Promise<ScheduleChange> {
    const plan = await schedulePlan(await this.loadConfig(), process.env, process.argv[1] ?? '');
    return chooseScheduler(this.flags, process.env).install(plan);
  }

  protected override text(change: ScheduleChange): string {
    return changeText(change);
  }
}
