/** What is to run when, and what is written for it. */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runTool } from '../../../src/operations/schedule/run-tool.ts';
import {
  planSchedule,
  showSchedule,
  type Plan,
  type ScheduleSettings,
} from '../../../src/operations/schedule/schedule.ts';
import { cronScheduler } from '../../../src/operations/schedule/schedule-cron.ts';
import { systemdScheduler } from '../../../src/operations/schedule/schedule-systemd.ts';
import { lastDue, nextRuns, parseWhen } from '../../../src/operations/schedule/schedule-time.ts';
import { failure, lacks } from '../../crypto/support.ts';
import { removeFolder, temporaryFolder } from '../../state/trees.ts';

const noSystemd = lacks('systemd-analyze', '--version');
const iso = (ms: number | undefined) => (ms === undefined ? undefined : new Date(ms).toISOString());

function planOf(over: { settings?: Partial<ScheduleSettings>; agent?: string; config?: string } = {}): Plan {
  return planSchedule({
    agent: over.agent ?? 'ada',
    config: over.config ?? '/home/ada/holdfast.yaml',
    settings: { times: {}, jitterMs: 900_000, ...over.settings },
    host: { program: ['/usr/bin/node', '/opt/holdfast/bin/run.js'], hostname: 'host', env: { HOME: '/home/ada' } },
    hooksMs: 300_000,
  });
}

describe('times', () => {
  test.each([
    ['hourly', '0 * * * *', ['*-*-* *:00:00']],
    ['daily', '0 0 * * *', ['*-*-* 00:00:00']],
    ['weekly', '0 0 * * 1', ['Mon *-*-* 00:00:00']],
    ['monthly', '0 0 1 * *', ['*-*-01 00:00:00']],
    ['03:00', '0 3 * * *', ['*-*-* 03:00:00']],
    ['*-*-* 03:00', '0 3 * * *', ['*-*-* 03:00:00']],
    ['Mon..Fri *-*-* 03:30:00', '30 3 * * 1-5', ['Mon..Fri *-*-* 03:30:00']],
    ['*:05/20', '5,25,45 * * * *', ['*-*-* *:05,25,45:00']],
    ['*/15 3 * * *', '0,15,30,45 3 * * *', ['*-*-* 03:00,15,30,45:00']],
    ['0 3 * * 7', '0 3 * * 0', ['Sun *-*-* 03:00:00']],
    ['0 3 * * fri-sun', '0 3 * * 0,5,6', ['Fri..Sun *-*-* 03:00:00']],
    // cron means either: two lines.
    ['0 3 1,15 * 1-5', '0 3 1,15 * 1-5', ['*-*-01,15 03:00:00', 'Mon..Fri *-*-* 03:00:00']],
  ])('%s', (text, cron, calendar) => {
    expect(parseWhen(text)).toEqual({ text, cron, calendar });
  });

  test.each(['', 'often', '61 * * * *', '* * *', '* * * * * *', '0 3 L * *', '@daily', '0 0 31 2 *'])(
    '%j is refused',
    async (text) => {
      await failure(() => parseWhen(text), 'config_invalid');
    },
  );

  test.each([
    ['Mon *-*-01 03:00', 'cron knows no "and"'],
    ['0 3 */2 * 1', 'crons differ in it'],
    ['2026-01-01 03:00', 'cron knows no year'],
    ['*-*-* 03:00:30', 'cron knows no seconds'],
  ])('%s is refused: %s', async (text) => {
    await failure(() => parseWhen(text), 'config_invalid');
  });

  test('the next and the last time, on the second', () => {
    const when = parseWhen('hourly');
    const hour = 3_600_000;
    expect(nextRuns(when, 0, 2, 'UTC')).toEqual([hour, 2 * hour]);
    expect(lastDue(when, hour, 'UTC')).toBe(hour);
    expect(lastDue(when, hour - 1, 'UTC')).toBe(0);
    expect(iso(lastDue(parseWhen('Mon..Fri 09:00'), Date.UTC(2026, 0, 4, 12), 'UTC'))).toBe('2026-01-02T09:00:00.000Z');
  });

  test.skipIf(noSystemd)('systemd understands them as cron does', async () => {
    const run = runTool({ PATH: process.env['PATH'], TZ: 'UTC' });
    const texts = [
      'weekly',
      'monthly',
      '*:05/20',
      '0 3 * * fri-sun',
      '0 9-17/2 * 2-4 1-5',
      '30 4 31 * *',
      '0 1 29 2 *',
    ];
    for (const text of texts) {
      const when = parseWhen(text);
      const from = Date.UTC(2026, 0, 1, 0, 0, 30);
      const { exitCode, stdout } = await run('systemd-analyze', [
        'calendar',
        '--base-time=2026-01-01 00:00:30 UTC',
        '--iterations=3',
        ...when.calendar,
      ]);
      expect(exitCode, text).toBe(0);
      const told = [...stdout.matchAll(/(?:Next elapse|Iter(?:ation|\.) #\d): \w+ (\S+) (\S+) UTC/g)];
      expect(
        told.map(([, day, time]) => `${day}T${time}.000Z`),
        text,
      ).toEqual(nextRuns(when, from, 3, 'UTC').map(iso));
    }
  });
});

describe('a plan', () => {
  test('has every job at its usual time, and none that is off', () => {
    expect(planOf().jobs.map(({ name, when }) => [name, when.text])).toEqual([
      ['backup', 'hourly'],
      ['verify', 'daily'],
    ]);
    const { jobs } = planOf({ settings: { times: { backup: '03:00', verify: 'off' } } });
    expect(jobs.map(({ name, when }) => [name, when.text])).toEqual([['backup', '03:00']]);
  });

  test('delays a job always by the same, below the jitter, and agents by different times', () => {
    const delays = Array.from({ length: 50 }, (_, i) => planOf({ config: `/home/${i}` }).jobs[0]?.delaySeconds ?? -1);
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...delays)).toBeLessThan(900);
    expect(new Set(delays).size).toBeGreaterThan(30);
    expect(planOf({ config: '/home/7' }).jobs[0]?.delaySeconds).toBe(delays[7]);
    expect(planOf({ settings: { jitterMs: 0 } }).jobs[0]?.delaySeconds).toBe(0);
  });

  test('with control characters in a path is refused: it would end a line', async () => {
    await failure(() => planOf({ config: '/home/a\n* * * * * root' }), 'usage');
  });

  test('is shown with what comes next, what was, and what is installed', async () => {
    const run = () => Promise.resolve({ exitCode: 1, stdout: '', stderr: 'no crontab for ada' });
    const view = await showSchedule(planOf(), [cronScheduler(run)], {
      nowMs: Date.UTC(2026, 0, 1, 0, 30),
      last: (name) => (name === 'backup' ? { endedMs: 0, exitCode: 3 } : undefined),
      timeZone: 'UTC',
    });
    expect(view.jobs[0]).toMatchObject({
      next: ['2026-01-01T01:00:00.000Z', '2026-01-01T02:00:00.000Z', '2026-01-01T03:00:00.000Z'],
      last: { time: '1970-01-01T00:00:00.000Z', exitCode: 3 },
    });
    expect(view.jobs[1]?.last).toBeNull();
    expect(view.installed).toEqual([{ kind: 'cron', state: 'no' }]);
  });
});

/** A folder with a stand-in for a program, which notes how it was called. */
function standIn(program: string, script: string) {
  const folder = temporaryFolder();
  const path = join(folder, 'bin', program);
  mkdirSync(join(folder, 'bin'));
  writeFileSync(path, `#!/bin/sh\necho "$*" >>'${folder}/calls'\ncd '${folder}'\n${script}\n`);
  chmodSync(path, 0o755);
  const calls = () => {
    const text = existsSync(join(folder, 'calls')) ? readFileSync(join(folder, 'calls'), 'utf8') : '';
    writeFileSync(join(folder, 'calls'), '');
    return text.split('\n').filter(Boolean);
  };
  const run = runTool({ PATH: `${join(folder, 'bin')}:/usr/bin:/bin` });
  return { folder, calls, run, [Symbol.dispose]: () => removeFolder(folder) };
}

describe('systemd', () => {
  const make = (script = '') => {
    const at = standIn('systemctl', script);
    const units = join(at.folder, 'units');
    const scheduler = systemdScheduler({ scope: 'system', folder: units, run: at.run });
    return { ...at, units, scheduler, files: () => (existsSync(units) ? readdirSync(units).sort() : []) };
  };

  test('the units are as they were agreed on', async () => {
    using at = make();
    const text = at.scheduler
      .render(planOf({ settings: { times: { verify: '0 3 1,15 * 1-5' } } }))
      .map((file) => `=== ${file.path.slice(at.units.length + 1)}\n${file.text}`)
      .join('\n');
    await expect(text).toMatchFileSnapshot('golden/systemd.txt');
  });

  test('install is done once, follows the config, and remove takes it all away', async () => {
    using at = make();
    mkdirSync(at.units);
    const foreign = ['holdfast-bob-backup.timer', 'other.timer'];
    for (const name of foreign) writeFileSync(join(at.units, name), '# somebody else\n');
    expect(await at.scheduler.installed(planOf())).toBe('no');
    expect((await at.scheduler.install(planOf())).changed).toHaveLength(4);
    expect(at.files()).toEqual([
      'holdfast-ada-backup.service',
      'holdfast-ada-backup.timer',
      'holdfast-ada-verify.service',
      'holdfast-ada-verify.timer',
      ...foreign,
    ]);
    expect(at.calls()).toEqual([
      'daemon-reload',
      'enable --now holdfast-ada-backup.timer',
      'enable --now holdfast-ada-verify.timer',
      'restart holdfast-ada-backup.timer',
      'restart holdfast-ada-verify.timer',
    ]);
    expect(await at.scheduler.installed(planOf())).toBe('yes');

    expect((await at.scheduler.install(planOf())).changed).toEqual([]);
    expect(at.calls()).toEqual(['enable --now holdfast-ada-backup.timer', 'enable --now holdfast-ada-verify.timer']);

    const changed = planOf({ settings: { times: { backup: 'daily', verify: 'off' } } });
    expect(await at.scheduler.installed(changed)).toBe('different');
    await at.scheduler.install(changed);
    expect(at.calls()).toEqual([
      'disable --now holdfast-ada-verify.timer',
      'daemon-reload',
      'enable --now holdfast-ada-backup.timer',
      'restart holdfast-ada-backup.timer',
    ]);
    expect(at.files()).toEqual(['holdfast-ada-backup.service', 'holdfast-ada-backup.timer', ...foreign]);

    await at.scheduler.remove(changed);
    expect(at.files()).toEqual(foreign);
    expect(at.calls()).toEqual(['disable --now holdfast-ada-backup.timer', 'daemon-reload']);
    expect((await at.scheduler.remove(changed)).changed).toEqual([]);
    expect(at.calls()).toEqual([]);
  });

  test('two configs of agents with one name do not overwrite each other', async () => {
    using at = make();
    await at.scheduler.install(planOf());
    await failure(() => at.scheduler.install(planOf({ config: '/home/other/holdfast.yaml' })), 'exists');
    await at.scheduler.remove(planOf({ config: '/home/other/holdfast.yaml' }));
    expect(await at.scheduler.installed(planOf())).toBe('yes');
  });

  test('a systemctl that fails is told with what it said', async () => {
    using at = make('echo "Failed to connect to bus" >&2; exit 1');
    const error = await failure(() => at.scheduler.install(planOf()), 'io');
    expect(error.message).toBe('systemctl daemon-reload failed: Failed to connect to bus');
  });

  test.skipIf(noSystemd)(
    'accepts units with awkward names and paths, and reads the command as it is meant',
    async () => {
      using at = make();
      const awkward = join(at.folder, `a "b c%d $HOME 'e' \\f`);
      mkdirSync(awkward);
      // It looks for the program, whose name may be awkward but for quotes.
      const program = [join(at.folder, 'c%d $HOME run'), join(awkward, 'run.js')];
      writeFileSync(program[0] ?? '', '#!/bin/sh\n', { mode: 0o755 });
      const plan = planSchedule({
        agent: 'ädä/50%@x',
        config: join(awkward, 'holdfast.yaml'),
        settings: { times: {}, jitterMs: 60_000 },
        host: { program, hostname: 'h', env: { HOME: awkward } },
        hooksMs: 0,
      });
      await at.scheduler.install(plan);
      const names = at.files();
      expect(names[0]).toBe('holdfast-\\xc3\\xa4d\\xc3\\xa4\\x2f50\\x25\\x40x-backup.service');
      const { exitCode, stderr } = await at.run('systemd-analyze', [
        'verify',
        '--man=no',
        ...names.map((name) => join(at.units, name)),
      ]);
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    },
  );
});

describe('cron', () => {
  const STAND_IN =
    'case "$1" in -l) [ -f tab ] && cat tab || { echo "no crontab for ada" >&2; exit 1; };; -r) rm tab;; -) cat >tab.new && mv tab.new tab;; esac';
  const make = (script = STAND_IN) => {
    const at = standIn('crontab', script);
    const tab = join(at.folder, 'tab');
    const read = () => (existsSync(tab) ? readFileSync(tab, 'utf8') : undefined);
    return { ...at, tab, read, scheduler: cronScheduler(at.run) };
  };

  test('the lines are as they were agreed on', async () => {
    using at = make();
    await expect(at.scheduler.render(planOf())[0]?.text).toMatchFileSnapshot('golden/crontab.txt');
  });

  test.each(['', 'MAILTO=ops@example.org\n\n# END holdfast\n5 4 * * * /bin/other # BEGIN holdfast\n', 'no line feed'])(
    'install and remove leave other lines as they are: %j',
    async (foreign) => {
      using at = make();
      if (foreign !== '') writeFileSync(at.tab, foreign);
      await at.scheduler.install(planOf());
      const installed = at.read();
      expect(installed?.startsWith(foreign)).toBe(true);
      expect(await at.scheduler.installed(planOf())).toBe('yes');
      expect((await at.scheduler.install(planOf())).changed).toEqual([]);
      expect(at.read()).toBe(installed);

      const other = planOf({ config: '/home/ada/other.yaml' });
      await at.scheduler.install(other);
      expect(await at.scheduler.installed(planOf())).toBe('yes');
      await at.scheduler.install(planOf({ settings: { times: { backup: 'daily' } } }));
      expect(await at.scheduler.installed(planOf())).toBe('different');
      expect(await at.scheduler.installed(other)).toBe('yes');

      await at.scheduler.remove(planOf());
      await at.scheduler.remove(other);
      expect(at.read()?.trimEnd() ?? '').toBe(foreign.trimEnd());
      expect((await at.scheduler.remove(planOf())).changed).toEqual([]);
    },
  );

  test('a crontab that cannot be read is not written over', async () => {
    using at = make('case "$1" in -l) echo "you are not allowed" >&2; exit 1;; *) touch tab;; esac');
    const error = await failure(() => at.scheduler.install(planOf()), 'io');
    expect(error.message).toContain('you are not allowed');
    expect(at.read()).toBeUndefined();
  });

  test('a block without an end is left to the operator', async () => {
    using at = make();
    writeFileSync(at.tab, '# BEGIN holdfast /home/ada/holdfast.yaml\n1 2 3 4 5 mine\n');
    await failure(() => at.scheduler.install(planOf()), 'exists');
  });

  test('what a line starts is what was meant, quotes and percents too; only a run that is less than done says anything', async () => {
    using at = standIn('nice', 'shift 2; exec "$@"');
    const program = ['/bin/sh', join(at.folder, `it's 100% "here" $HOME`)];
    writeFileSync(program[1] ?? '', `#!/bin/sh\nprintf '[%s]' "$@"\nexit "$CODE"\n`, { mode: 0o755 });
    for (const [code, printed] of [
      ['0', ''],
      ['3', `[backup][--config][/c%][--quiet]\n`],
    ] as const) {
      const plan = planSchedule({
        agent: 'ada',
        config: '/c%',
        settings: { times: {}, jitterMs: 0 },
        host: { program, hostname: 'h', env: { CODE: code } },
        hooksMs: 0,
      });
      const [, , line = ''] = cronScheduler(at.run).render(plan)[0]?.text.split('\n') ?? [];
      // As cron does it: the five fields away, \% to %, the rest to the shell.
      const command = line.replace(/^(\S+ ){5}/, '').replaceAll('\\%', '%');
      expect(command).not.toBe(line);
      const { stdout, stderr } = await at.run('sh', ['-c', command]);
      expect({ stdout, stderr }).toEqual({ stdout: printed, stderr: '' });
    }
  });
});
