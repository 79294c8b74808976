/** Schedules as a block of lines in the user's crontab. */
import { HoldfastError } from '../../errors.ts';
import type { RunTool } from './run-tool.ts';
import type { Job, Plan, ScheduleChange, Scheduler } from './schedule.ts';

const CRONTAB = 'crontab';

export function cronScheduler(run: RunTool): Scheduler {
  const read = async (): Promise<string> => {
    const { exitCode, stdout, stderr } = await run('crontab', ['-l']);
    if (exitCode === 0) return stdout;
    if (exitCode !== null && /no crontab for/i.test(stderr)) return '';
    // Else what is in it would be lost with the next write.
    throw new HoldfastError('io', `the crontab cannot be read: ${stderr || `exit code ${exitCode}`}`, {
      hint: 'See what `crontab -l` says; with systemd use --systemd.',
    });
  };
  const write = async (text: string): Promise<void> => {
    const { exitCode, stderr } = await run('crontab', text === '' ? ['-r'] : ['-'], text);
    if (exitCode === 0) return;
    throw new HoldfastError('io', `the crontab cannot be written: ${stderr || `exit code ${exitCode}`}`, {
      hint: 'It is as it was; see crontab(1).',
    });
  };
  const put = async (plan: Plan, block: string): Promise<ScheduleChange> => {
    const before = await read();
    const after = withBlock(before, plan, block);
    if (after !== before) await write(after);
    return { kind: 'cron', changed: after === before ? [] : [{ path: CRONTAB, text: block }], notes: [] };
  };
  return {
    kind: 'cron',
    render: (plan) => [{ path: CRONTAB, text: blockText(plan) }],
    install: (plan) => put(plan, blockText(plan)),
    remove: (plan) => put(plan, ''),
    async installed(plan) {
      const { text } = split(await read(), plan);
      return text === '' ? 'no' : text === blockText(plan) ? 'yes' : 'different';
    },
  };
}

/** By the config's path: an agent may have several, and several agents one handle. */
const begin = ({ config }: Plan): string => `# BEGIN holdfast ${config}`;
const end = ({ config }: Plan): string => `# END holdfast ${config}`;

function blockText(plan: Plan): string {
  if (plan.jobs.length === 0) return '';
  return [
    begin(plan),
    `# For ${plan.agent}. Written by \`holdfast schedule install\`, taken away by \`holdfast schedule remove\`.`,
    ...plan.jobs.flatMap((job) => [
      `${job.when.cron} ${commandLine(plan, job, [])}`,
      // What was missed while the machine was off.
      `@reboot ${commandLine(plan, job, job.argv.includes('--if-due') ? [] : ['--if-due'])}`,
    ]),
    end(plan),
    '',
  ].join('\n');
}

function commandLine(plan: Plan, { argv, delaySeconds }: Job, more: readonly string[]): string {
  const environment = Object.entries(plan.env).map(([name, value]) => `${name}=${value}`);
  const words = [...(environment.length > 0 ? ['env', ...environment] : []), ...argv, ...more];
  const command = words.map(shellWord).join(' ');
  // cron mails what is printed: nothing, unless the run was less than done.
  const line = `sleep ${delaySeconds}; ionice -c 3 -p $$ 2>/dev/null; out=$(nice -n 10 ${command} 2>&1) || echo "$out"`;
  return line.replaceAll('%', '\\%'); // to cron, % is the end of the line
}

function shellWord(text: string): string {
  return /^[\w./:=@+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The lines of the block, and those around it, which stay as they are, byte for byte. */
function split(crontab: string, plan: Plan): { before: string; text: string; after: string } {
  const from = startOfLine(crontab, begin(plan), 0);
  if (from === undefined) return { before: crontab, text: '', after: '' };
  const last = startOfLine(crontab, end(plan), from);
  if (last === undefined) {
    throw new HoldfastError('exists', `in the crontab, "${begin(plan)}" has no end`, {
      hint: 'Take the line and what belongs to it out with `crontab -e`.',
    });
  }
  const to = Math.min(crontab.length, last + end(plan).length + 1);
  return { before: crontab.slice(0, from), text: crontab.slice(from, to), after: crontab.slice(to) };
}

/** Where a line that is exactly this begins. */
function startOfLine(text: string, line: string, from: number): number | undefined {
  for (let at = text.indexOf(line, from); at >= 0; at = text.indexOf(line, at + 1)) {
    const isStart = at === 0 || text[at - 1] === '\n';
    const next = text[at + line.length];
    if (isStart && (next === undefined || next === '\n')) return at;
  }
  return undefined;
}

function withBlock(crontab: string, plan: Plan, block: string): string {
  const { before, text, after } = split(crontab, plan);
  const gap = text === '' && block !== '' && before !== '' && !before.endsWith('\n') ? '\n' : '';
  return before + gap + block + after;
}
