/** `schedule show`, `install` and `remove`, with stand-ins for crontab and systemctl. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, type AgentHome } from './agent-home.ts';

let home: AgentHome;

beforeAll(() => {
  const folder = temporaryFolder();
  home = agentHome(folder, { warm: true, env: { PATH: `${folder}/bin:/usr/bin:/bin` } });
  mkdirSync(home.at('bin'));
  const tools = {
    crontab: `case "$1" in -l) [ -f tab ] && cat tab || { echo 'no crontab for ada' >&2; exit 1; };; -r) rm tab;; -) cat >tab;; esac`,
    systemctl: 'echo "$*" >>calls',
  };
  for (const [name, script] of Object.entries(tools)) {
    writeFileSync(home.at('bin', name), `#!/bin/sh\ncd '${folder}'\n${script}\n`);
    chmodSync(home.at('bin', name), 0o755);
  }
  writeFileSync(
    home.at('holdfast.yaml'),
    'agent: {handle: ada}\nbackends: {nas: {url: file:///nas}}\nschedule: {backup: "*:0/30", jitter: 0s}\n',
  );
});
afterAll(() => removeFolder(home.folder));

test('the crontab: installed, shown, removed', async () => {
  writeFileSync(home.at('tab'), '# mine\n');
  expect(await home.json(0, 'schedule', 'show', '--cron')).toMatchObject({
    agent: 'ada',
    jobs: [
      { name: 'backup', cron: '0,30 * * * *', last: null },
      { name: 'verify', when: 'daily' },
    ],
    installed: [{ kind: 'cron', state: 'no' }],
  });
  expect(await home.json(0, 'schedule', 'install', '--cron')).toMatchObject({
    kind: 'cron',
    changed: [{ path: 'crontab' }],
  });
  const tab = readFileSync(home.at('tab'), 'utf8');
  expect(tab).toMatch(/^# mine\n# BEGIN holdfast .*\n(.*\n)*0,30 \* \* \* \* sleep 0; .* backup --config /);
  expect((await home.holdfast('schedule', 'remove', '--cron')).code).toBe(0);
  expect(readFileSync(home.at('tab'), 'utf8')).toBe('# mine\n');
});

test("systemd: the user's units, with what keeps runs by hand and by the clock at one place", async () => {
  const installed = await home.holdfast('schedule', 'install', '--user');
  expect(installed).toMatchObject({ code: 0, stderr: '' });
  expect(installed.stdout).toContain('loginctl enable-linger');
  const unit = home.at('xdg', 'config', 'systemd', 'user', 'holdfast-ada-backup.service');
  expect(readFileSync(unit, 'utf8')).toContain(`Environment="XDG_STATE_HOME=${home.at('xdg', 'state')}"\n`);
  expect(installed.stdout).toContain(readFileSync(unit, 'utf8'));
  await home.json(0, 'schedule', 'remove', '--user');
  expect(existsSync(unit)).toBe(false);
  expect(readFileSync(home.at('calls'), 'utf8')).toMatch(
    /^--user daemon-reload\n--user enable --now holdfast-ada-backup\.timer\n/,
  );
});

test('snapshots are thinned out every night where the config says what is kept, unless it is off', async () => {
  const text = readFileSync(home.at('holdfast.yaml'), 'utf8');
  const jobs = async (schedule: string) => {
    const config = `${text.replace(/^schedule.*$/m, '')}${schedule}\nretention: {daily: 7}\n`;
    writeFileSync(home.at('kept.yaml'), config);
    const shown = await home.json<{ jobs: { name: string; when: string }[] }>(
      0,
      ...['schedule', 'show', '--cron', '--config', 'kept.yaml'],
    );
    return shown.jobs.map(({ name, when }) => `${name} ${when}`);
  };
  expect(await jobs('')).toEqual(['backup hourly', 'verify daily', 'forget 03:30']);
  expect(await jobs('schedule: {forget: weekly}')).toEqual(['backup hourly', 'verify daily', 'forget weekly']);
  expect(await jobs('schedule: {forget: off}')).toEqual(['backup hourly', 'verify daily']);
});

test('flags that exclude each other are a wrong usage', async () => {
  await home.refused(2, 'schedule', 'install', '--cron', '--systemd');
});

test('a drill is planned where the config says so, with where its restore key lies', async () => {
  writeFileSync(
    home.at('drills.yaml'),
    'agent: {handle: ada}\nbackends: {nas: {url: file:///nas}}\ndrill: {every: 30d}\nschedule: {drill: "04:00"}\n',
  );
  const keeper = agentHome(home.folder, {
    warm: true,
    env: { PATH: `${home.folder}/bin:/usr/bin:/bin`, HOLDFAST_RESTORE_IDENTITY_FILE: '/keys/drill.key' },
  });
  const config = ['--config', 'drills.yaml'];
  const { jobs } = await keeper.json<{ jobs: { name: string; command: string[] }[] }>(0, 'schedule', 'show', ...config);
  expect(jobs.map(({ name }) => name)).toEqual(['backup', 'verify', 'drill']);
  const command = ['drill', 'run', '--if-due', '--config', home.at('drills.yaml'), '--quiet'];
  expect(jobs.at(-1)?.command.slice(2)).toEqual(command);
  await keeper.json(0, 'schedule', 'install', '--cron', ...config);
  const lines = readFileSync(home.at('tab'), 'utf8')
    .split('\n')
    .filter((line) => line.includes(' drill run '));
  expect(lines).toHaveLength(2);
  for (const line of lines) {
    expect(line).toContain('HOLDFAST_RESTORE_IDENTITY_FILE=/keys/drill.key');
    expect(line.match(/--if-due/g)).toHaveLength(1);
  }
});
