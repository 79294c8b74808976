/** What is to run when, and where that is installed: as systemd timers, or in the crontab. */
import { sha256Hex } from '../../crypto/hash.ts';
import { HoldfastError } from '../../errors.ts';
import { nextRuns, parseWhen, type When } from './schedule-time.ts';

/** Commands that can be scheduled, and when they are where the config does not say. A row is all that another one needs. */
export const JOBS = [
  { name: 'backup', args: ['backup'], usually: 'hourly' },
  { name: 'verify', args: ['verify'], usually: 'daily' },
  // Only where something says what is to be kept.
  { name: 'forget', args: ['forget'], usually: 'off' },
  // Needs a secret that restores, which few hosts should have. How often there is one, `drill.every` says.
  { name: 'drill', args: ['drill', 'run', '--if-due'], usually: 'off' },
] as const;
export type JobName = (typeof JOBS)[number]['name'];

/** What the config says of a job that is not to run. */
export const OFF = 'off';
export const JITTER_USUALLY_MS = 15 * 60_000;

export interface ScheduleSettings {
  times: Readonly<Partial<Record<JobName, string>>>;
  /** Each run begins so much later at most, so that not all hosts come at once. */
  jitterMs: number;
}

export interface Host {
  /** Absolute: the program and what stands before it, for example node and the script. */
  program: readonly string[];
  hostname: string;
  /** What the program needs to find the same folders as now. Holds no secrets. */
  env: Readonly<Record<string, string>>;
}

export interface Job {
  name: JobName;
  when: When;
  /** The command line, program included. */
  argv: readonly string[];
  /** By how much cron's runs are later: always the same for this host and job, below the jitter. */
  delaySeconds: number;
}

export interface Plan {
  agent: string;
  config: string;
  jitterMs: number;
  env: Readonly<Record<string, string>>;
  jobs: readonly Job[];
  /** How long a run may take to end in order, with its hooks. */
  stopSeconds: number;
}

export interface PlanOptions {
  agent: string;
  /** The path of the config file. */
  config: string;
  settings: ScheduleSettings;
  host: Host;
  /** The time that the hooks may take at the end of a run. */
  hooksMs: number;
}

/** @throws `config_invalid` for a time that is none */
export function planSchedule({ agent, config, settings, host, hooksMs }: PlanOptions): Plan {
  if (/[\x00-\x1f\x7f]/.test([config, ...host.program, ...Object.values(host.env)].join(''))) {
    throw new HoldfastError('usage', 'a path with control characters cannot be scheduled', {
      hint: 'Move the config file, or what its path leads through.',
    });
  }
  // systemd takes no program whose name has them, however they are escaped.
  if (/["'\\]/.test(host.program[0] ?? '')) {
    throw new HoldfastError('usage', 'a program with quotes in its path cannot be scheduled', {
      hint: 'Use a Node that is installed in a plain place.',
    });
  }
  const jitterSeconds = Math.floor(settings.jitterMs / 1000);
  const jobs = JOBS.flatMap(({ name, args, usually }): Job[] => {
    const text = settings.times[name] ?? usually;
    if (text === OFF) return [];
    const seed = sha256Hex(Buffer.from(JSON.stringify([host.hostname, config, name])));
    return [
      {
        name,
        when: parseWhen(text),
        argv: [...host.program, ...args, '--config', config, '--quiet'],
        delaySeconds: jitterSeconds === 0 ? 0 : parseInt(seed.slice(0, 8), 16) % jitterSeconds,
      },
    ];
  });
  return {
    agent,
    config,
    jitterMs: settings.jitterMs,
    env: host.env,
    jobs,
    stopSeconds: Math.ceil(hooksMs / 1000) + 90,
  };
}

/** A kind of scheduler on this host. */
export interface Scheduler {
  kind: 'systemd' | 'cron';
  /** What `install` would write, for people: file name and content. */
  render(plan: Plan): readonly { path: string; text: string }[];
  /** Makes what is installed for this config what the plan says. @throws `io`, `exists` */
  install(plan: Plan): Promise<ScheduleChange>;
  /** Takes away what `install` wrote, and nothing else. */
  remove(plan: Plan): Promise<ScheduleChange>;
  /** What is there, and whether it is what the plan says. */
  installed(plan: Plan): Promise<'no' | 'yes' | 'different'>;
}

export interface ScheduleChange {
  kind: Scheduler['kind'];
  /** Files, or the crontab, with what they hold now; '' for what was removed. */
  changed: readonly { path: string; text: string }[];
  /** What is left to do, in sentences. */
  notes: readonly string[];
}

export interface ScheduleView {
  agent: string;
  jitterSeconds: number;
  jobs: {
    name: JobName;
    when: string;
    cron: string;
    calendar: readonly string[];
    command: readonly string[];
    /** ISO 8601; without the jitter. */
    next: string[];
    last: { time: string; exitCode: number } | null;
  }[];
  installed: { kind: Scheduler['kind']; state: 'no' | 'yes' | 'different' }[];
}

/** `schedule show`. */
export async function showSchedule(
  plan: Plan,
  schedulers: readonly Scheduler[],
  {
    nowMs,
    last,
    timeZone,
  }: {
    nowMs: number;
    last: (name: JobName) => { endedMs: number; exitCode: number } | undefined;
    timeZone?: string;
  },
): Promise<ScheduleView> {
  const iso = (ms: number) => new Date(ms).toISOString();
  const installed: ScheduleView['installed'] = [];
  for (const scheduler of schedulers) installed.push({ kind: scheduler.kind, state: await scheduler.installed(plan) });
  return {
    agent: plan.agent,
    jitterSeconds: Math.floor(plan.jitterMs / 1000),
    jobs: plan.jobs.map(({ name, when, argv }) => {
      const run = last(name);
      return {
        name,
        when: when.text,
        cron: when.cron,
        calendar: when.calendar,
        command: argv,
        next: nextRuns(when, nowMs, 3, timeZone).map(iso),
        last: run === undefined ? null : { time: iso(run.endedMs), exitCode: run.exitCode },
      };
    }),
    installed,
  };
}
