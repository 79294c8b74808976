/** Schedules as systemd services and timers. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { HoldfastError, messageOf, systemErrorCode } from '../../errors.ts';
import type { RunTool } from './run-tool.ts';
import { replaceFile } from '../host/runs.ts';
import type { Job, Plan, ScheduleChange, Scheduler } from './schedule.ts';

export interface SystemdOptions {
  /** Of the whole system, or of one user. */
  scope: 'system' | 'user';
  /** Where units lie. */
  folder: string;
  run: RunTool;
}

const MARK = '# Written by `holdfast schedule install` for ';

export function systemdScheduler({ scope, folder, run }: SystemdOptions): Scheduler {
  const systemctl = async (...args: string[]): Promise<void> => {
    const all = scope === 'user' ? ['--user', ...args] : args;
    const { exitCode, stderr } = await run('systemctl', all);
    if (exitCode === 0) return;
    throw new HoldfastError('io', `systemctl ${all.join(' ')} failed: ${stderr}`, {
      hint: `The unit files in ${folder} are written. Run it by hand, or use --cron.`,
    });
  };
  const render = (plan: Plan) =>
    plan.jobs.flatMap((job) =>
      (['service', 'timer'] as const).map((kind) => ({
        path: join(folder, `${unitName(plan.agent, job.name)}.${kind}`),
        text: kind === 'service' ? serviceText(plan, job, scope) : timerText(plan, job),
      })),
    );
  /** The unit files that were written for this config. */
  const own = (plan: Plan): string[] =>
    (existsSync(folder) ? readdirSync(folder).sort() : [])
      .filter((name) => /^holdfast-.*\.(service|timer)$/.test(name))
      .map((name) => join(folder, name))
      .filter((path) => textOf(path)?.startsWith(markOf(plan)));

  return {
    kind: 'systemd',
    render,
    async installed(plan) {
      const there = own(plan);
      if (there.length === 0) return 'no';
      const wanted = render(plan);
      const same = there.length === wanted.length && wanted.every(({ path, text }) => textOf(path) === text);
      return same ? 'yes' : 'different';
    },
    async install(plan) {
      const wanted = render(plan);
      for (const { path } of wanted) {
        const there = textOf(path);
        if (there === undefined || there.startsWith(markOf(plan))) continue;
        throw new HoldfastError('exists', `${path} is there, and was not written for ${plan.config}`, {
          hint: 'Remove it, or give the agent another handle: units are named after it.',
        });
      }
      const stale = own(plan).filter((path) => !wanted.some((file) => file.path === path));
      const changed = wanted.filter(({ path, text }) => textOf(path) !== text);
      for (const path of stale) if (path.endsWith('.timer')) await systemctl('disable', '--now', nameOf(path));
      writing(() => {
        mkdirSync(folder, { recursive: true });
        for (const path of stale) rmSync(path);
        for (const { path, text } of changed) replaceFile(path, text, 0o644);
      });
      if (changed.length + stale.length > 0) await systemctl('daemon-reload');
      for (const { path } of wanted) if (path.endsWith('.timer')) await systemctl('enable', '--now', nameOf(path));
      // A timer that runs goes by its old times until it is started anew.
      for (const { path } of changed) if (path.endsWith('.timer')) await systemctl('restart', nameOf(path));
      const notes =
        scope === 'user'
          ? ['Timers of a user run while the user is logged in; for always: loginctl enable-linger']
          : [];
      return { kind: 'systemd', changed: [...changed, ...stale.map((path) => ({ path, text: '' }))], notes };
    },
    async remove(plan): Promise<ScheduleChange> {
      const there = own(plan);
      for (const path of there) if (path.endsWith('.timer')) await systemctl('disable', '--now', nameOf(path));
      writing(() => {
        for (const path of there) rmSync(path);
      });
      if (there.length > 0) await systemctl('daemon-reload');
      return { kind: 'systemd', changed: there.map((path) => ({ path, text: '' })), notes: [] };
    },
  };
}

const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

/** What a unit name may not hold is written as systemd-escape(1) does. */
function unitName(agent: string, job: string): string {
  const escaped = Array.from(Buffer.from(agent), (byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9:_.-]/.test(character) ? character : `\\x${byte.toString(16).padStart(2, '0')}`;
  }).join('');
  return `holdfast-${escaped}-${job}`;
}

function markOf({ config }: Plan): string {
  return `${MARK}${config}; it takes away what it wrote with \`holdfast schedule remove\`.\n`;
}

function serviceText(plan: Plan, { name, argv }: Job, scope: SystemdOptions['scope']): string {
  const environment = Object.entries(plan.env).map(([key, value]) => `Environment=${unitQuoted(`${key}=${value}`)}\n`);
  const online = scope === 'system' ? 'Wants=network-online.target\nAfter=network-online.target\n' : '';
  return `${markOf(plan)}
[Unit]
Description=holdfast ${name} of ${specifiers(plan.agent)}
${online}
[Service]
Type=oneshot
ExecStart=${argv.map((arg, i) => unitQuoted(arg, i > 0)).join(' ')}
${environment.join('')}Nice=10
CPUSchedulingPolicy=batch
IOSchedulingClass=idle
# The program alone is asked to stop: it ends its hooks itself, and resumes the agent.
KillMode=mixed
TimeoutStopSec=${plan.stopSeconds}
`;
}

function timerText(plan: Plan, { name, when }: Job): string {
  const jitter = Math.floor(plan.jitterMs / 1000);
  return `${markOf(plan)}
[Unit]
Description=holdfast ${name} of ${specifiers(plan.agent)}, ${specifiers(when.text)}

[Timer]
${when.calendar.map((line) => `OnCalendar=${line}\n`).join('')}RandomizedDelaySec=${jitter}
AccuracySec=1min
# A time that was missed is made up for.
Persistent=true

[Install]
WantedBy=timers.target
`;
}

export const specifiers = (text: string): string => text.replaceAll('%', '%%');

/** @param expands that `$` would be expanded there: in the arguments of a command, and not in its name. */
export function unitQuoted(text: string, expands = false): string {
  const escaped = specifiers(text.replaceAll('\\', '\\\\').replaceAll('"', '\\"'));
  return `"${expands ? escaped.replaceAll('$', '$$$$') : escaped}"`;
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** @throws `io` */
function writing(write: () => void): void {
  try {
    write();
  } catch (cause) {
    throw new HoldfastError('io', `the units cannot be written: ${messageOf(cause)}`, {
      hint: 'For units of the system run it as root; for your own: --user.',
      cause,
    });
  }
}
