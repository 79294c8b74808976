/** `fleet serve` and `fleet alerts`, as scripts and services use them. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { mkdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { runsPath } from '../../../src/cli/run-report.ts';
import { agentAges, EventCount } from '../../../src/cli/fleet/serve-context.ts';
import { loadConfig } from '../../../src/cli/config.ts';
import type { FleetEvent } from '../../../src/fleet/events.ts';
import { recordRun } from '../../../src/operations/host/runs.ts';
import { runTool } from '../../../src/operations/schedule/run-tool.ts';
import { lacks } from '../../crypto/support.ts';
import { removeFolder, temporaryFolder } from '../../state/trees.ts';
import { agentHome, type AgentHome } from '../agent-home.ts';

const folder = temporaryFolder();
let home: AgentHome;
beforeAll(() => {
  home = agentHome(folder, { warm: true });
  mkdirSync(home.at('ada'));
  writeFileSync(home.at('ada', 'holdfast.yaml'), 'drill: {every: 30d, rpo: 4h}\n');
  writeFileSync(
    home.at('holdfast.yaml'),
    `fleet:
  agents:
    ada: {live: {command: 'true'}, backup: {config: ada/holdfast.yaml}, drill: {config: ada/holdfast.yaml}}
    bob: {live: {command: 'false'}, backup: {config: missing.yaml, within: 7d}}
  alerts: {queueDepth: 5, job: fleet}
`,
    { mode: 0o600 },
  );
});
afterAll(() => removeFolder(folder));

interface RuleFile {
  groups: { rules: { alert: string; expr: string }[] }[];
}

describe('fleet alerts', () => {
  test('prints rules with the thresholds of the config, or writes them to a file that Prometheus takes', async () => {
    const printed = await home.holdfast('fleet', 'alerts');
    expect(printed).toMatchObject({ code: 0, stderr: '' });
    const rules = (parse(printed.stdout) as RuleFile).groups.flatMap((group) => group.rules);
    const of = (name: string) => rules.find(({ alert }) => alert === name)?.expr;
    expect(of('HoldfastAgentQueueDeep')).toBe('holdfast_agent_queue_depth > 5');
    expect(of('HoldfastFleetNotScraped')).toContain('job="fleet"');
    expect(of('HoldfastBackupTooOld')).toContain('{agent=~"ada"} > 14400)');
    expect(of('HoldfastBackupTooOld')).toContain('{agent=~"bob"} > 604800)');
    expect(of('HoldfastDrillOverdue')).toContain('{agent=~"ada"} > 2592000)');
    const written = await home.json<RuleFile & { file: string }>(0, 'fleet', 'alerts', '--output', 'rules.yaml');
    expect(written.file).toBe(home.at('rules.yaml'));
    expect(readFileSync(home.at('rules.yaml'), 'utf8')).toBe(printed.stdout);
    expect(statSync(home.at('rules.yaml')).mode & 0o777).toBe(0o644);
    expect((await home.refused(1, 'fleet', 'alerts', '--output', 'no/such/folder.yaml')).code).toBe('io');
    if (!lacks('promtool', '--version')) {
      const check = await runTool(process.env)('promtool', ['check', 'rules', home.at('rules.yaml')]);
      expect(check).toMatchObject({ exitCode: 0, stderr: '' });
    }
  });

  test('an agent whose own config cannot be read asks for what the fleet says of it', async () => {
    expect(await agentAges(await loadConfig(home.at('holdfast.yaml')))).toEqual([
      { name: 'ada', backupSeconds: 14_400, drillSeconds: 2_592_000 },
      { name: 'bob', backupSeconds: 604_800 },
    ]);
  });
});

describe('fleet serve', () => {
  test('says where it is and where the token is, answers, and ends on SIGTERM; the token is nowhere but in its file', async () => {
    const run = { startedMs: 0, endedMs: 1000, seconds: 1, exitCode: 0, successMs: 1000, committed: { nas: false } };
    recordRun(runsPath({ XDG_STATE_HOME: home.at('xdg', 'state') }, home.at('ada', 'holdfast.yaml')), 'backup', run);
    let asked: Promise<string> | undefined;
    const ask = async (line: string, end: () => void): Promise<string> => {
      try {
        const { url, tokenFile } = JSON.parse(line) as { url: string; tokenFile: string };
        expect(statSync(tokenFile).mode & 0o777).toBe(0o600);
        const token = readFileSync(tokenFile, 'utf8').trim();
        const headers = { Authorization: `Bearer ${token}` };
        const metrics = await (await fetch(`${url}metrics`, { headers })).text();
        expect(metrics).toContain('holdfast_agent_state{agent="bob",state="unhealthy"} 1\n');
        expect(metrics).toContain('holdfast_last_backup_backend_committed{agent="ada",backend="nas"} 0\n');
        expect(metrics).not.toContain('holdfast_fleet_level');
        const status = (await (await fetch(`${url}api/status`, { headers })).json()) as { agents: unknown[] };
        expect(status.agents).toMatchObject([{ name: 'ada', live: 'ok' }, { name: 'bob' }]);
        expect((await fetch(`${url}health/progress`)).status).toBe(503);
        expect((await fetch(`${url}metrics`)).status).toBe(401);
        const body = new URLSearchParams({ reason: 'by a test' });
        await fetch(`${url}agents/bob/trip`, { method: 'POST', headers, body, redirect: 'manual' });
        return token;
      } finally {
        end();
      }
    };
    const ended = await home.holdfastWith(
      {
        meanwhile: (child) =>
          child.stdout?.once('data', (line: string) => void (asked = ask(line, () => child.kill('SIGTERM')))),
      },
      ...['fleet', 'serve', '--listen', '127.0.0.1:0', '--json'],
    );
    const token = await asked;
    expect(ended.code).toBe(0);
    expect(ended.stdout + ended.stderr).not.toContain(token);
    expect(ended.stderr.trim().split('\n')).toEqual([
      expect.stringMatching(/^\S+Z GET \/metrics 401 127\.0\.0\.1$/),
      expect.stringMatching(/^\S+Z POST \/agents\/bob\/trip 303 127\.0\.0\.1$/),
    ]);
    expect(await home.json(0, 'breaker', 'list')).toContainEqual(
      expect.objectContaining({ agent: 'bob', state: 'forced-open' }),
    );
  });

  test('refuses to be reached from elsewhere by accident, and a fleet of nobody', async () => {
    expect((await home.refused(2, 'fleet', 'serve', '--listen', '0.0.0.0:0')).hint).toContain('--remote');
    writeFileSync(home.at('empty.yaml'), 'fleet: {}\n');
    expect((await home.refused(2, 'fleet', 'serve', '--config', 'empty.yaml')).code).toBe('config_invalid');
  });
});

test('each event is counted once, also one that comes into the log late, and none from before the start', () => {
  const event = (atMs: number, message: string): FleetEvent => ({ atMs, kind: 'action', message });
  const count = new EventCount(1_000_000);
  const [before, a, b] = [event(999_999, 'before'), event(1_000_000, 'a'), event(1_100_000, 'b')];
  expect(count.with([before])).toEqual({});
  expect(count.with([before, a])).toEqual({ action: 1 });
  expect(count.with([before, a, b])).toEqual({ action: 2 });
  expect(count.with([before, a, b])).toEqual({ action: 2 });
  const late = event(1_050_000, 'late');
  expect(count.with([before, a, late, b])).toEqual({ action: 3 });
  expect(count.with([b, { ...event(1_200_000, 'c'), kind: 'level' }])).toEqual({ action: 3, level: 1 });
});
