/** `fleet watch` and what goes with it, as services, cron jobs and people use them. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { loadConfig } from '../../src/cli/config.ts';
import { agentSpecs } from '../../src/cli/fleet/agents.ts';
import { openFleet } from '../../src/cli/fleet/context.ts';
import { watchOptions } from '../../src/cli/fleet/watch-context.ts';
import { noProgress } from '../../src/progress.ts';
import type { EventRow } from '../../src/cli/fleet/event-text.ts';
import { failure } from '../crypto/support.ts';
import { agentHome, type AgentHome } from './agent-home.ts';
import type { RunOptions } from './run.ts';

const folders: string[] = [];
let home: AgentHome;
beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-watch-'));
  folders.push(folder);
  home = agentHome(folder, { warm: true });
});
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true })));

const config = (text: string) => writeFileSync(home.at('holdfast.yaml'), text);
/** Two agents, of which one is not there; what is down is so at once. */
const FLEET = `
fleet:
  startup: 1ms
  failures: 1
  interval: 100ms
  watch: {lease: 1s}
  agents:
    here: {live: {command: exit 0}, restart: touch wrong}
    gone: {live: {command: echo nobody there; exit 1}, restart: 'RESTART'}
`;
const kinds = (rows: readonly EventRow[]) => rows.map(({ kind, agent }) => `${kind} ${agent ?? ''}`.trim());

test('cron: a look, a decision, what is asked for, quarantine and release; all of it in the events', async () => {
  config(FLEET.replace('RESTART', 'echo again > restarted'));
  const dry = await home.json<EventRow[]>(0, 'fleet', 'watch', '--once', '--dry-run');
  expect(dry.find(({ kind }) => kind === 'action')).toMatchObject({ agent: 'gone', dryRun: true });
  expect(existsSync(home.at('restarted'))).toBe(false);

  const rows = await home.json<EventRow[]>(0, 'fleet', 'watch', '--once');
  expect(kinds(rows)).toEqual(['watch_started', 'layer_down gone', 'agent_state gone', 'action gone', 'watch_stopped']);
  expect(rows[3]?.evidence).toMatchObject({
    rule: 'dead',
    'restart.exitCode': 0,
    seen: expect.stringContaining('nobody there'),
  });
  expect([existsSync(home.at('restarted')), existsSync(home.at('wrong'))]).toEqual([true, false]);

  expect(await home.json(0, 'fleet', 'act', 'here', 'quarantine', '--reason', 'odd')).toMatchObject({ watched: false });
  const { stderr } = await home.holdfast('fleet', 'watch', '--once');
  expect(stderr).toContain('quarantine here: put into quarantine by the watchdog: odd');
  expect(await home.json(0, 'fleet', 'release', 'here')).toMatchObject({
    agent: 'here',
    reason: 'asked: odd',
  });
  await home.json(0, 'breaker', 'trip', 'here', '--reason', 'deploying');

  const of = await home.json<EventRow[]>(0, 'fleet', 'events', '--agent', 'here', '--limit', '4');
  expect(kinds(of)).toEqual(['action here', 'quarantine here', 'quarantine here', 'breaker here']);
  expect(of.at(-1)?.message).toBe('trip by hand, now forced-open: deploying');
});

test('a watcher that is killed while a command runs: the next one waits for the command, then counts it as a try and does not repeat it', async () => {
  config(FLEET.replace('RESTART', () => 'echo $$ >> pids; exec sleep 1000'));
  const meanwhile: RunOptions['meanwhile'] = (child) => {
    void (async () => {
      while (!existsSync(home.at('pids'))) await systemClock.sleep(20);
      child.kill('SIGKILL');
    })();
  };
  await home.holdfastWith({ meanwhile }, 'fleet', 'watch');
  const pids = () => readFileSync(home.at('pids'), 'utf8').trim().split('\n').map(Number);
  const killAll = () => pids().forEach((pid) => process.kill(-pid, 'SIGKILL'));
  const once = async (): Promise<string> => {
    for (;;) {
      const { code, stderr } = await home.holdfast('fleet', 'watch', '--once');
      if (code === 11) continue; // the lease of the killed one runs out by itself
      expect(code).toBe(0);
      return stderr;
    }
  };
  let isRunning = true;
  try {
    expect(await once()).toContain(`outlived its watcher (process ${pids()[0]}): nothing else is done to the agent`);
    killAll();
    isRunning = false;
    expect(await once()).toContain('it counts as a try, and is not simply repeated');
    expect(pids()).toHaveLength(1);
  } finally {
    if (isRunning) killAll();
  }
});

test('a service: events as JSON lines, a clean end on SIGTERM, and a unit that systemd takes', async () => {
  config(FLEET.replace('RESTART', 'exit 0'));
  const meanwhile: RunOptions['meanwhile'] = (child) => {
    let seen = '';
    child.stdout?.on('data', (text: string) => {
      seen += text;
      if (seen.includes('"action"')) child.kill('SIGTERM');
    });
  };
  const { code, stdout, stderr } = await home.holdfastWith({ meanwhile }, 'fleet', 'watch', '--json');
  const rows = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as EventRow);
  expect([code, kinds(rows).at(-1), stderr]).toEqual([0, 'watch_stopped', 'stopped\n']);

  const unit = await home.holdfast('fleet', 'watch', '--print-unit');
  expect(unit.stdout).toContain('Type=notify');
  writeFileSync(home.at('holdfast-watch.service'), unit.stdout);
  const verified = spawnSync('systemd-analyze', ['verify', home.at('holdfast-watch.service')], { encoding: 'utf8' });
  if (verified.error === undefined) expect([verified.status, verified.stderr]).toEqual([0, '']);
});

test('what cannot be done is not asked for', async () => {
  config('fleet: {agents: {backend: {live: {command: exit 0}}}}');
  expect(await home.refused(2, 'fleet', 'act', 'bakend', 'notify')).toMatchObject({ hint: 'Did you mean backend?' });
  expect(await home.refused(2, 'fleet', 'act', 'backend', 'restore_state')).toMatchObject({
    message: expect.stringMatching(/nothing says how to do this to backend: restore_state$/),
    hint: expect.stringContaining('`fleet.agents.backend.restore`'),
  });
  // Others may have events, too: calls of theirs are guarded as well.
  expect(await home.holdfast('fleet', 'events', '--agent', 'bakend')).toEqual({
    ...{ code: 0, stdout: 'no events\n', stderr: 'Warning: agent bakend is not in `fleet.agents`\n' },
  });
});

test('whether an agent was looked at in time goes by its own interval', async () => {
  config(`fleet: {agents: {often: {live: {command: exit 0}, backup: x.yaml}, rarely: {backup: x.yaml}, never: {}}}`);
  const [loaded, seams] = [await loadConfig(home.at('holdfast.yaml')), { clock: systemClock, random: systemRandom }];
  await using opened = openFleet(loaded, { env: { XDG_STATE_HOME: home.at('state') }, ...seams });
  const all = { ...seams, progress: noProgress };
  const host = { env: {}, pid: 1, dryRun: true, happened: () => {}, log: () => {} };
  const { lookedWithinMs } = watchOptions(loaded, opened, agentSpecs(loaded, {}, all), host, all);
  expect(['often', 'rarely', 'never'].map(lookedWithinMs)).toEqual([35_000, 960_000, Infinity]);
});

test('what cannot be watched safely is refused', async () => {
  config('fleet: {agents: {}}');
  expect(await home.holdfast('fleet', 'watch', '--once')).toMatchObject({ code: 2 });
  config(FLEET);
  chmodSync(home.at('holdfast.yaml'), 0o666);
  const { code, stderr } = await home.holdfast('fleet', 'watch', '--once');
  expect([code, stderr]).toEqual([
    12,
    expect.stringContaining('names commands for the fleet, and others can write it'),
  ]);
});

test.each([
  ['rules: {own: {actions: [restart]}}', '`fleet.rules.own` lacks `when`'],
  ['rules: {own: {when: {down: live, queue: 3}, actions: [restart]}}', 'must name one condition, and names 2'],
  ['rules: {own: {when: {spent: deaf}, actions: [restart]}}', 'names "deaf", which is no rule'],
  ['rules: {own: {when: {spent: own}, actions: [restart]}}', 'waits for itself'],
  ['rules: {dead: {agents: [bakend]}}', 'names "bakend", which is no agent'],
  ['rules: {own: {when: {idle: 5m, for: 5m}, actions: [restart]}}', 'makes no sense here'],
  ['degradation: {messaging: [nats]}', 'names "nats", which is no agent'],
  ['degradation: {reduced: {when: [{are: out, least: 2, all: true}]}}', 'more than one of'],
  ['watch: {lease: 10ms}', 'shorter than 1s'],
  ['watch: {settle: 0s}', 'must be longer than nothing'],
])('a config with %s is refused', async (text, expected) => {
  config(`fleet:\n  agents: {backend: {}}\n  ${text}\n`);
  const { message } = await failure(() => loadConfig(home.at('holdfast.yaml')), 'config_invalid');
  expect(message).toContain(expected);
});

test('rules that are there can be changed or taken away, and others added; what is not said stays as it is', async () => {
  config(`
fleet:
  agents: {backend: {}, other: {critical: true}}
  rules:
    dead: {tries: 1}
    errors: off
    queue: {when: {queue: 20, for: 1m}}
    own: {when: [{down: ready, for: 5m}, {memory: 90%}], actions: [restart], escalate: [notify, quarantine], agents: critical}
  watch: {maxTouched: 50%, suspect: off}
  degradation: {hold: 1m, messaging: [backend], essential: {when: [], enter: echo in}}
`);
  const { watch } = (await loadConfig(home.at('holdfast.yaml'))).fleet ?? {};
  expect(watch?.rules.rules.map(({ name }) => name)).toEqual([
    'dead',
    'stuck',
    'queue',
    'corrupted',
    'quarantine',
    'own',
  ]);
  const [dead, , queue] = watch?.rules.rules ?? [];
  expect(dead).toMatchObject({ tries: 1, coolDownMs: 120_000, actions: ['restart'] });
  expect(queue).toMatchObject({
    when: [{ kind: 'over', what: 'queue', limit: 20, forMs: 60_000 }],
    actions: ['scale'],
  });
  expect(watch?.rules.rules.at(-1)).toMatchObject({
    when: [
      { kind: 'down', layer: 'ready', forMs: 300_000 },
      { kind: 'over', what: 'memory', limit: 0.9 },
    ],
    ...{ tries: 3, coolDownMs: 300_000, agents: 'critical', escalate: ['notify', 'quarantine'] },
  });
  expect(watch?.rules).toMatchObject({ maxTouched: 0.5, suspect: null });
  expect(watch?.degradation.holdMs).toBe(60_000);
  expect(watch?.degradation.rules.map(({ when }) => when.length)).toEqual([2, 0, 3]);
  expect(watch?.degradation.rules[1]).toMatchObject({ enter: 'echo in' });
});
