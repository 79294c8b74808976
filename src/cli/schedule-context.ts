/** From config, environment and this machine to what scheduling takes. */
import { EXIT } from './exit-codes.ts';
import { existsSync, realpathSync } from 'node:fs';
import { homedir, hostname } from 'node:os';
import { isAbsolute, join } from 'node:path';
import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../errors.ts';
import { readRuns, type RunKind } from '../operations/host/runs.ts';
import { runTool } from '../operations/schedule/run-tool.ts';
import { hasRules } from '../operations/retention.ts';
import {
  JOBS,
  OFF,
  planSchedule,
  type Plan,
  type ScheduleChange,
  type Scheduler,
  type ScheduleSettings,
} from '../operations/schedule/schedule.ts';
import { cronScheduler } from '../operations/schedule/schedule-cron.ts';
import { systemdScheduler } from '../operations/schedule/schedule-systemd.ts';
import { lastDue, parseWhen } from '../operations/schedule/schedule-time.ts';
import { requireSections, type Config } from './config.ts';
import { scheduleSettings } from './operating-config.ts';
import { lines } from './render.ts';
import { runsPath } from './run-report.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export const schedulerFlags = {
  systemd: Flags.boolean({ summary: 'Use systemd timers.' }),
  cron: Flags.boolean({ summary: 'Use the crontab.', exclusive: ['systemd', 'user', 'system'] }),
  user: Flags.boolean({ summary: 'Units of this user; the default unless one is root.', exclusive: ['system'] }),
  system: Flags.boolean({ summary: 'Units of the system; the default of root.' }),
};

export interface SchedulerFlagValues {
  systemd: boolean;
  cron: boolean;
  user: boolean;
  system: boolean;
}

export async function schedulePlan(loaded: Config, env: Environment, script: string): Promise<Plan> {
  const config = requireSections(loaded, 'agent', 'backends');
  const { hooks } = config;
  const times = timesOf(config);
  // Where the restore key of a drill lies, which is no secret.
  const forDrill = (times.drill ?? OFF) === OFF ? [] : (['HOLDFAST_RESTORE_IDENTITY_FILE'] as const);
  const kept = ['XDG_CONFIG_HOME', 'XDG_STATE_HOME', 'XDG_CACHE_HOME', 'XDG_DATA_HOME', ...forDrill] as const;
  const folders = kept.flatMap((name) => (env[name] ? [[name, env[name]] as const] : []));
  return planSchedule({
    agent: config.agent.handle,
    config: config.path,
    settings: {
      ...(config.schedule ?? (await scheduleSettings({}, config.path))),
      times,
    },
    host: {
      program: [process.execPath, realpathSync(script)],
      hostname: hostname(),
      // Where the lock and what is remembered lie depends on them: a run by hand and one by the clock must agree.
      env: { HOME: homedir(), ...Object.fromEntries(folders) },
    },
    hooksMs: hooks ? hooks.timeoutMs * (hooks.after.length + hooks.onError.length) : 0,
  });
}

/** Apart from the backups of every hour: only one of the two can run at a time. */
const FORGET_TIME = '03:30';

/** What is kept is thinned out where the config says what to keep. */
function timesOf({ schedule, retention }: Config): ScheduleSettings['times'] {
  return { ...(retention && hasRules(retention.rules) && { forget: FORGET_TIME }), ...schedule?.times };
}

/** The one that the flags ask for, or that is there. @throws `not_found` when there is none */
export function chooseScheduler(flags: SchedulerFlagValues, env: Environment): Scheduler {
  const [systemd, cron] = schedulers(flags, env);
  if (flags.cron) return cron;
  if (flags.systemd || flags.user || flags.system || existsSync('/run/systemd/system')) return systemd;
  if (onPath('crontab', env)) return cron;
  throw new HoldfastError('not_found', 'there is neither a running systemd nor a crontab here', {
    hint: 'Let whatever starts programs on this host run the commands of `holdfast schedule show`.',
  });
}

/** Those of this host, as far as they are there. */
export function presentSchedulers(flags: SchedulerFlagValues, env: Environment): Scheduler[] {
  const [systemd, cron] = schedulers(flags, env);
  if (flags.cron) return [cron];
  if (flags.systemd || flags.user || flags.system) return [systemd];
  return [systemd, ...(onPath('crontab', env) ? [cron] : [])];
}

function schedulers({ user, system }: SchedulerFlagValues, env: Environment): [Scheduler, Scheduler] {
  const run = runTool(env);
  const scope = system || (!user && process.getuid?.() === 0) ? 'system' : 'user';
  const given = env['XDG_CONFIG_HOME'];
  const own = join(given && isAbsolute(given) ? given : join(homedir(), '.config'), 'systemd', 'user');
  const folder = scope === 'system' ? '/etc/systemd/system' : own;
  return [systemdScheduler({ scope, folder, run }), cronScheduler(run)];
}

function onPath(program: string, env: Environment): boolean {
  return (env['PATH'] ?? '').split(':').some((folder) => folder !== '' && existsSync(join(folder, program)));
}

/** False when the job has run since it was last due; a job that has no time is always due. */
export function isDue(config: Config, kind: RunKind, nowMs: number, env: Environment): boolean {
  const job = JOBS.find(({ name }) => name === kind);
  const text = job && (timesOf(config)[job.name] ?? job.usually);
  if (text === undefined || text === OFF) return true;
  const due = lastDue(parseWhen(text), nowMs);
  const last = readRuns(runsPath(env, config.path))[kind];
  // What failed is due again, and so is what a clock that was wrong dates to come.
  const isDone = last !== undefined && (last.exitCode === EXIT.done || last.exitCode === EXIT.incomplete);
  return due === undefined || !isDone || last.startedMs < due || last.startedMs > nowMs;
}

/** What `install` and `remove` say. */
export function changeText({ kind, changed, notes }: ScheduleChange): string {
  if (changed.length === 0) return lines(`${kind}: nothing to change`);
  const files = changed.map(({ path, text }) =>
    text === '' ? lines(`removed ${path}`) : lines(`wrote ${path}:`) + text,
  );
  return files.join('\n') + lines(...notes);
}
