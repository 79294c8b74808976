/** The commands `breaker …`, as scripts use them. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/cli/config.ts';
import { failure } from '../crypto/support.ts';
import { agentHome, type AgentHome } from './agent-home.ts';
import { PROGRAM, ROOT } from './run.ts';

const CACHED = { NODE_COMPILE_CACHE: join(ROOT, '.cache/compiled') };
const folders: string[] = [];
let home: AgentHome;
beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-breaker-'));
  folders.push(folder);
  home = agentHome(folder, {
    warm: true,
    env: { SECRET_TOKEN: 'hunter2-of-the-environment', KEPT: 'kept-value' },
  });
});
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true })));

const config = (text: string) => writeFileSync(home.at('holdfast.yaml'), text);
const store = () =>
  join(home.at('xdg/state/holdfast/fleet'), readdirSync(home.at('xdg/state/holdfast/fleet'))[0] ?? '');
const sh = (script: string) => ['--', 'sh', '-c', script];

describe('breaker run', () => {
  test('stands in for the command: what it reads, prints and ends with; until it opens, and then it is 75', async () => {
    config('fleet: {agents: {backend: {breaker: {failureThreshold: 2}}, other: {}}}');
    const run = (script: string, input = '') =>
      spawnSync(process.execPath, [join(ROOT, PROGRAM), 'breaker', 'run', 'backend', ...sh(script)], {
        ...{ input, encoding: 'utf8', cwd: home.folder },
        env: {
          ...process.env,
          HOME: home.folder,
          XDG_STATE_HOME: home.at('xdg/state'),
          HOLDFAST_CONFIG: home.at('holdfast.yaml'),
          ...CACHED,
        },
      });
    const whole = run('cat; echo oops >&2; exit 41', 'typed\n');
    expect(whole).toMatchObject({ status: 41, stdout: 'typed\n', stderr: 'oops\n' });
    const opening = run('exit 41');
    expect(opening.status).toBe(41);
    expect(opening.stderr).toMatch(/^Warning: the breaker of agent backend opened after failure 2 \(exit code 41\)/);

    const refused = await home.holdfast('breaker', 'run', 'backend', '--json', '--', 'touch', home.at('ran'));
    expect(refused.code).toBe(75);
    const { error } = JSON.parse(refused.stdout) as { error: { code: string; retryAt: string; hint: string } };
    expect(error).toMatchObject({ code: 'breaker_open', hint: expect.stringContaining('breaker reset backend') });
    expect(readdirSync(home.folder)).not.toContain('ran');

    const rows = await home.json<Record<string, unknown>[]>(0, 'breaker', 'list');
    expect(rows).toEqual([
      {
        agent: 'backend',
        state: 'open',
        failures: 2,
        retryAt: error.retryAt,
        since: expect.any(String),
        configured: true,
      },
      { agent: 'other', state: 'closed', failures: 0, since: null, configured: true },
    ]);
    const shown = await home.holdfast('breaker', 'show', 'backend');
    expect(shown.stdout).toMatch(/^state: +open$[^]*^last: +exit code 41$[^]*^opens at: +2 failures in a row$/m);
    expect((await home.holdfast('breaker', 'reset', 'backend')).stdout).toBe('backend: closed\n');
    expect(run('exit 0').status).toBe(0);
  });

  test('with --json the result is on stdout, and what the command prints on stderr', async () => {
    config('{}'); // no section is needed
    const { code, stdout, stderr } = await home.holdfast('breaker', 'run', 'any', '--json', ...sh('echo out; exit 9'));
    expect({ code, stderr }).toEqual({ code: 9, stderr: 'out\n' });
    expect(JSON.parse(stdout)).toEqual({
      ...{ agent: 'any', outcome: 'failed', exitCode: 9, permanent: false, interrupted: false, queued: null },
      tries: [{ agent: 'any', exitCode: 9, problem: 'exit code 9', seconds: expect.any(Number) }],
      ...{ rejections: [], warnings: [] },
    });
  });

  test('passes signals on, and ends as the command does', async () => {
    config('{}');
    const child = spawn(
      process.execPath,
      [
        join(ROOT, PROGRAM),
        'breaker',
        'run',
        'any',
        ...sh("trap 'echo bye; exit 5' HUP; echo ready; for i in $(seq 3000); do sleep 0.01; done"),
      ],
      {
        env: {
          ...process.env,
          ...CACHED,
          XDG_STATE_HOME: home.at('xdg/state'),
          HOLDFAST_CONFIG: home.at('holdfast.yaml'),
        },
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
    await once(child.stdout, 'data');
    child.kill('SIGHUP');
    const [code] = (await once(child, 'close')) as [number];
    expect({ code, printed }).toEqual({ code: 5, printed: 'ready\nbye\n' });
    expect(await home.json(0, 'breaker', 'list')).toEqual([]);
  });

  test('needs -- before the command, a command, and a name that is one', async () => {
    config('{}');
    const cases = {
      'there is no --': ['a', 'true'],
      'no command after --': ['a', '--'],
      'something before it': ['a', 'b', '--', 'true'],
    };
    for (const [what, args] of Object.entries(cases)) {
      const { code, stderr } = await home.holdfast('breaker', 'run', ...args);
      expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(what) });
    }
    const { code, stderr } = await home.holdfast('breaker', 'run', 'a b', '--', 'true');
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('no name of an agent') });
  });
});

describe('the other commands', () => {
  test('trip, disable, reset and enable say what the breaker is then', async () => {
    config('fleet: {agents: {a: {}}}');
    const says = async (...args: string[]) => (await home.holdfast('breaker', ...args)).stdout;
    expect(await says('trip', 'a', '--reason', 'deploying')).toBe('a: forced-open\n');
    const { code, stderr } = await home.holdfast('breaker', 'run', 'a', '--', 'true');
    expect({ code, stderr }).toEqual({ code: 75, stderr: expect.stringContaining('opened by hand: deploying') });
    expect(await says('disable', 'a')).toBe('a: disabled\n');
    expect(await says('reset', 'a')).toBe('a: disabled\n');
    expect(await says('enable', 'a')).toBe('a: closed\n');
    expect(await says('trip', 'typo', '--temporary')).toMatch(
      /^typo: open, tried again at \S+, in (?:5m|4m \d+s) \(not in the config: defaults\)\n$/,
    );
  });

  test('the queue: nothing of the environment is kept but what was named', async () => {
    config('fleet: {breaker: {fallback: queue_for_retry}, queue: {env: [LANG], backoff: [1ms, 1h]}}');
    const queued = await home.holdfast('breaker', 'run', 'a', '--keep-env', 'KEPT', ...sh('exit 4'));
    expect(queued).toMatchObject({ code: 3, stderr: expect.stringContaining('queued as') });
    const [row] = await home.json<Record<string, unknown>[]>(0, 'breaker', 'queue', 'list');
    expect(row).toMatchObject({
      agent: 'a',
      state: 'waiting',
      argv: ['sh', '-c', 'exit 4'],
      cwd: home.folder,
      attempts: 0,
    });
    expect(row?.['env']).toContain('KEPT');
    expect(JSON.stringify(row)).not.toContain('kept-value');
    const kept = readFileSync(store(), 'latin1');
    expect(kept).toContain('kept-value');
    expect(kept).not.toContain('hunter2');
    const ran = await home.holdfast('breaker', 'queue', 'run');
    expect(ran).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/: waiting, exit code 4\nleft: 1 waiting, 0 running, 0 dead\n$/),
    });
    expect((await home.holdfast('breaker', 'queue', 'run')).code).toBe(0); // none is due
    expect((await home.holdfast('breaker', 'queue', 'run', String(row?.['id']))).stdout).toContain('dead');
    expect((await home.refused(1, 'breaker', 'queue', 'drop', 'nothing')).code).toBe('not_found');
    expect(await home.json(0, 'breaker', 'queue', 'drop', '--dead')).toMatchObject({ dropped: [{ id: row?.['id'] }] });
    expect((await home.holdfast('breaker', 'queue', 'list')).stdout).toBe('nothing is queued\n');
    expect((await home.refused(2, 'breaker', 'queue', 'drop')).code).toBe('usage');
    const own = await home.holdfast('breaker', 'run', 'a', '--keep-env', 'HOLDFAST_PASSPHRASE_COMMAND', '--', 'true');
    expect(own).toMatchObject({ code: 2, stderr: expect.stringContaining('is not kept') });
  });

  test('a store that is damaged, or open to others, ends the run before anything runs', async () => {
    config('fleet: {}');
    await home.holdfast('breaker', 'trip', 'a');
    chmodSync(store(), 0o644);
    expect((await home.refused(12, 'breaker', 'list')).code).toBe('insecure_permissions');
    chmodSync(store(), 0o600);
    writeFileSync(store(), 'x'.repeat(1000));
    expect((await home.refused(13, 'breaker', 'list')).code).toBe('damaged');
    const { code } = await home.holdfast('breaker', 'run', 'a', '--', 'touch', home.at('ran'));
    expect(code).toBe(13);
    expect(readdirSync(home.folder)).not.toContain('ran');
  });
});

describe('the section fleet of the config', () => {
  test.each([
    ['fleet: {agents: {a: {breaker: {fallback: queue_for_rety}}}}', 'Did you mean `queue_for_retry`?'],
    ['fleet: {agents: {backend: {}, a: {breaker: {fallback: [backnd]}}}}', 'Did you mean `backend`?'],
    ['fleet: {breaker: {failureThreshhold: 3}}', 'Did you mean `failureThreshold`?'],
    ['fleet: {breaker: {recoveryTimeout: 0s}}', undefined],
    ['fleet: {breaker: {recoveryTimeout: 2h, recoveryMax: 1h}}', undefined],
    ['fleet: {breaker: {ratio: 0%}}', undefined],
    ['fleet: {breaker: {permanent: {stderr: ["("]}}}', undefined],
    ['fleet: {agents: {"a b": {}}}', undefined],
    ['fleet: {queue: {backoff: []}}', undefined],
  ])('%s is refused', async (text, hint) => {
    config(text);
    const error = await failure(() => loadConfig(home.at('holdfast.yaml')), 'config_invalid');
    expect(error.message).toContain('fleet');
    if (hint !== undefined) expect(error.hint).toBe(hint);
  });
});
