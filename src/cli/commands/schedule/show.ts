import { readRuns } from '../../../operations/host/runs.ts';
import { showSchedule, type ScheduleView } from '../../../operations/schedule/schedule.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { lines, table } from '../../render.ts';
import { runsPath } from '../../run-report.ts';
import { presentSchedulers, schedulePlan, schedulerFlags } from '../../schedule-context.ts';

export default class ScheduleShow extends HoldfastCommand<typeof ScheduleShow, ScheduleView> {
  static override summary = 'What is to run when, when that is next, and whether it is installed.';
  static override flags = schedulerFlags;

  protected override async work(): Promise<ScheduleView> {
    const config = await this.loadConfig();
    const plan = await schedulePlan(config, process.env, process.argv[1] ?? '');
    const runs = readRuns(runsPath(process.env, config.path));
    return showSchedule(plan, presentSchedulers(this.flags, process.env), {
      nowMs: this.clock.now(),
      last: (name) => runs[name],
    });
  }

  protected override text({ jobs, jitterSeconds, installed }: ScheduleView): string {
    const rows = jobs.map(({ name, when, next, last }) => {
      const ended = last === null ? 'never' : `${last.time}, exit code ${last.exitCode}`;
      return [name, when, next[0] ?? '', ended];
    });
    return (
      table(['job', 'when', 'next', 'last'], rows) +
      lines(
        `each up to ${jitterSeconds} s later`,
        ...installed.map(({ kind, state }) => `${kind}: ${STATES[state]}`),
        ...jobs.map(({ name, command }) => `${name}: ${command.join(' ')}`),
      )
    );
  }
}

const STATES = {
  no: 'not installed',
  yes: 'installed',
  different: 'installed, but not as the config has it now: run `holdfast schedule install`',
} as const;
