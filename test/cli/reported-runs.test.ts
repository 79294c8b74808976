/** How a run is told to the world: hooks, log, metrics, pings; and whether it was due. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { takeLock } from '../../src/operations/host/lock.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';
import { PROGRAM, ROOT } from './run.ts';

let home: AgentHome;
let bare: string;
const requests: string[] = [];
const server = createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8').on('data', (text: string) => (body += text));
  request.on('end', () => {
    requests.push(`${request.method} ${request.url} ${body}`.trim());
    response.end();
  });
});

beforeAll(async () => {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  home = agentHome(temporaryFolder(), {
    warm: true,
    env: { AWS_SECRET_ACCESS_KEY: 'swordfish' },
  });
  mkdirSync(home.at('state'));
  writeFileSync(home.at('state', 'MEMORY.md'), '# memory\n');
  await home.json(0, ...initArgs((name) => home.at(name)), '--words-file', 'words.txt');
  bare = readFileSync(home.at('holdfast.yaml'), 'utf8');
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  removeFolder(home.folder);
});

/** Replaces the config by that of `init` with these hooks, and sections behind it. */
function configure(hooks: Record<string, unknown>, sections: Record<string, unknown>): void {
  const lines = Object.entries(hooks).map(([key, value]) => `  ${key}: ${JSON.stringify(value)}\n`);
  writeFileSync(home.at('holdfast.yaml'), bare.replace(/^backends:/m, `${lines.join('')}$&`));
  for (const [key, value] of Object.entries(sections))
    appendFileSync(home.at('holdfast.yaml'), `${key}: ${JSON.stringify(value)}\n`);
  requests.length = 0;
}

const url = (path: string) => `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
const logged = (name: string) =>
  readFileSync(home.at(name), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test('a backup and a verify are told everywhere', async () => {
  configure(
    { before: ['echo paused; env'], after: ['echo resumed'] },
    {
      notify: { ping: url('/secret-uuid'), pingVerify: url('/secret-too'), webhook: url('/secret-hook') },
      metrics: { textfile: 'metrics/holdfast.prom' },
      log: { to: 'log/runs.jsonl' },
    },
  );
  const result = await home.json<{ hooks: { event: string; output: string }[]; warnings: unknown[] }>(0, 'backup');
  expect(result).toMatchObject({ warnings: [], hooks: [{ event: 'before' }, { event: 'after', output: 'resumed\n' }] });
  expect(result.hooks[0]?.output).toMatch(/^HOLDFAST_AGENT=ada$/m);
  expect(result.hooks[0]?.output).not.toContain('swordfish');
  await home.json(0, 'verify');
  const { snapshot, warnings, ...rest } = JSON.parse(
    requests.find((line) => line.includes('/secret-hook'))?.replace(/^\S+ \S+ /, '') ?? '',
  ) as Record<string, unknown>;
  expect({ ...rest, warnings }).toMatchObject({
    agent: 'ada',
    event: 'backup',
    outcome: 'done',
    exitCode: 0,
    warnings: [],
  });
  expect(snapshot).toMatch(/^[0-9a-f]{64}$/);
  expect(requests.map((line) => line.split(' ').slice(0, 2).join(' ')).sort()).toEqual([
    'GET /secret-too',
    'GET /secret-too/start',
    'GET /secret-uuid',
    'GET /secret-uuid/start',
    'POST /secret-hook',
    'POST /secret-hook',
  ]);
  const metrics = readFileSync(home.at('metrics', 'holdfast.prom'), 'utf8');
  expect(metrics).toMatch(/^holdfast_last_backup_backend_committed\{agent="ada",backend="usb"\} 1$/m);
  expect(metrics).toMatch(/^holdfast_last_verify_damaged_objects\{agent="ada"\} 0$/m);
  expect(logged('log/runs.jsonl').map(({ run, event, hook, exitCode }) => [run, event, hook, exitCode])).toEqual([
    ['backup', 'start', undefined, undefined],
    ['backup', 'hook', 'before', 0],
    ['backup', 'hook', 'after', 0],
    ['backup', 'end', undefined, 0],
    ['verify', 'start', undefined, undefined],
    ['verify', 'end', undefined, 0],
  ]);
  expect(readFileSync(home.at('log', 'runs.jsonl'), 'utf8')).not.toMatch(/secret-|swordfish/);
});

test('a run that fails before a backend is opened is told too, with its exit code', async () => {
  configure(
    { onError: ['echo $HOLDFAST_ERROR_CODE >error-code'] },
    {
      notify: { ping: url('/uuid'), webhook: url('/hook'), pingFailure: 'exit-code' },
      metrics: { textfile: 'failed.prom' },
      log: { to: 'failed.jsonl' },
    },
  );
  renameSync(home.at('holdfast.writer.key'), home.at('away'));
  const error = await home.refused(12, 'backup');
  renameSync(home.at('away'), home.at('holdfast.writer.key'));
  expect(error.code).toBe('missing_key');
  expect(readFileSync(home.at('error-code'), 'utf8')).toBe('missing_key\n');
  expect(requests.map((line) => line.slice(0, 60))).toEqual([
    'GET /uuid/start',
    expect.stringMatching(/^POST \/(uuid\/12 holdfast backup: failed, exit code 12|hook \{)/),
    expect.stringMatching(/^POST \/(uuid\/12 holdfast backup: failed, exit code 12|hook \{)/),
  ]);
  expect(readFileSync(home.at('failed.prom'), 'utf8')).toMatch(/^holdfast_last_backup_exit_code\{agent="ada"\} 12$/m);
  expect(logged('failed.jsonl').at(-1)).toMatchObject({
    ...{ level: 'error', event: 'end', outcome: 'failed', exitCode: 12 },
    error: { code: 'missing_key' },
  });
});

test('a `before` that fails ends the run with exit code 1 and code hook_failed', async () => {
  configure({ before: ['echo no database >&2; exit 9'], onError: ['echo $HOLDFAST_ERROR_CODE >error-code'] }, {});
  const error = await home.refused(1, 'backup');
  expect(error).toMatchObject({ code: 'hook_failed', message: expect.stringContaining('exit code 9: no database') });
  expect(readFileSync(home.at('error-code'), 'utf8')).toBe('hook_failed\n');
});

test('a config that others can write has no command of its run', async () => {
  configure({ before: ['touch run'] }, {});
  chmodSync(home.at('holdfast.yaml'), 0o666);
  const error = await home.refused(12, 'backup');
  chmodSync(home.at('holdfast.yaml'), 0o600);
  expect(error.code).toBe('insecure_permissions');
  expect(existsSync(home.at('run'))).toBe(false);
});

test('SIGTERM resumes the agent, and is told', async () => {
  configure(
    {
      before: ['echo paused >trace', 'touch there; exec sleep 1000'],
      after: ['echo resumed >>trace'],
      onError: ['echo $HOLDFAST_ERROR_CODE >>trace'],
    },
    { notify: { ping: url('/uuid') } },
  );
  const { folder } = home;
  const env = {
    ...process.env,
    HOME: folder,
    XDG_STATE_HOME: home.at('xdg', 'state'),
    XDG_CACHE_HOME: home.at('xdg', 'cache'),
  };
  const child = spawn(process.execPath, [`${ROOT}/${PROGRAM}`, 'backup'], { cwd: folder, env, stdio: 'ignore' });
  while (!existsSync(home.at('there'))) await new Promise((resolve) => setTimeout(resolve, 5));
  child.kill('SIGHUP'); // the terminal was closed: no reason to leave the agent paused
  child.kill('SIGTERM');
  expect(await once(child, 'exit')).toEqual([130, null]);
  expect(readFileSync(home.at('trace'), 'utf8')).toBe('paused\nresumed\ninterrupted\n');
  expect(requests.at(-1)).toBe('POST /uuid/fail holdfast backup: failed, exit code 130 (interrupted)');
});

test('a second run ends at once with exit code 11, says who is at it, and leaves its hooks and its check alone', async () => {
  configure(
    { before: ['touch touched'], onError: ['touch touched'] },
    { notify: { ping: url('/uuid') }, metrics: { textfile: 'busy.prom' } },
  );
  const { repositoryId } = parseWriterKey(readFileSync(home.at('holdfast.writer.key'), 'utf8'));
  using _lock = takeLock(home.at('xdg', 'state', 'holdfast', repositoryId), 'backup');
  const error = await home.refused(11, 'backup');
  expect(error.message).toContain(`(process ${process.pid})`);
  expect(requests).toEqual(['GET /uuid/start']);
  expect([existsSync(home.at('touched')), existsSync(home.at('busy.prom'))]).toEqual([false, false]);
});

test('--if-due: a run that was there since the last time is not repeated', async () => {
  configure({}, { schedule: { backup: '0 0 1 1 *' } });
  await home.json(0, 'backup');
  expect(await home.json(0, 'backup', '--if-due')).toEqual({ skipped: 'not due' });
});

test('the log goes to the journal by systemd-cat, each line with its priority', async () => {
  configure({}, { log: { to: 'journald' } });
  mkdirSync(home.at('bin'));
  writeFileSync(
    home.at('bin', 'systemd-cat'),
    `#!/bin/sh\necho "$@" >'${home.at('journal')}'\ncat >>'${home.at('journal')}'\n`,
  );
  chmodSync(home.at('bin', 'systemd-cat'), 0o755);
  const with_ = agentHome(home.folder, {
    warm: true,
    env: { PATH: `${home.at('bin')}:${process.env['PATH']}`, JOURNAL_STREAM: '1:2' },
  });
  await with_.json(0, 'verify');
  const [args, ...lines] = readFileSync(home.at('journal'), 'utf8').trim().split('\n');
  expect(args).toBe('--identifier=holdfast --level-prefix=yes');
  expect(lines.map((line) => /^<6>\{"time":"[^"]+","level":"info","event":"(\w+)"/.exec(line)?.[1])).toEqual([
    'start',
    'end',
  ]);
});

test('a log that cannot be written costs a warning', async () => {
  configure({}, { log: { to: 'holdfast.yaml/x.jsonl' } });
  expect(await home.json(0, 'verify')).toMatchObject({ warnings: [{ code: 'log_failed' }], complete: true });
});
