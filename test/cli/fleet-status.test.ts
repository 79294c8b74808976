/** `fleet status` and `fleet check` as scripts use them, and what the config may say of agents. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { agentSpecs } from '../../src/cli/fleet/agents.ts';
import { loadConfig } from '../../src/cli/config.ts';
import { agentRow, nameColumns, statusResult, statusText, type StatusResult } from '../../src/cli/fleet/status.ts';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { HealthWriter, readKnown } from '../../src/fleet/health-store.ts';
import { observe, unlooked, type AgentView } from '../../src/fleet/health.ts';
import { Prober } from '../../src/fleet/prober.ts';
import { openSqliteStore } from '../../src/fleet/sqlite-store.ts';
import { noProgress } from '../../src/progress.ts';
import { makeAgent } from '../operations/support.ts';
import { agentHome, type AgentHome } from './agent-home.ts';

/** With time for everything: the process that the commands share is not new. */
const CHECK = ['fleet', 'check', '--deadline', '10m'];
const folders: string[] = [];
let home: AgentHome;
let server: Server;
let address: string;
beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url === '/hang') return;
    response.writeHead(request.url === '/ok' ? 200 : 503, { connection: 'close' }).end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-fleet-'));
  folders.push(folder);
  home = agentHome(folder, { warm: true });
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  folders.forEach((folder) => rmSync(folder, { recursive: true }));
});

const config = (text: string) => writeFileSync(home.at('holdfast.yaml'), text, { mode: 0o600 });

describe('fleet status and check', () => {
  test('where nobody watches they look once, and what does not answer by the deadline is not well', async () => {
    writeFileSync(home.at('beat.md'), 'working');
    config(`fleet:
  agents:
    good: {live: "${address}/ok", progress: {file: beat.md, within: 10m}, critical: true}
    bad: {live: "${address}/ok", ready: "${address}/no"}
    hangs: {live: "${address}/hang"}
    bare: {}
`);
    const result = await home.json<StatusResult>(0, 'fleet', 'status', 'good', 'bad');
    expect(result).toMatchObject({
      ...{ level: null, watcher: null, total: 2, queue: { waiting: 0, running: 0, dead: 0 } },
      agents: [
        {
          name: 'good',
          state: 'healthy',
          live: 'ok',
          ready: null,
          progress: 'ok',
          backup: null,
          drill: null,
          breaker: 'closed',
        },
        {
          name: 'bad',
          state: 'unhealthy',
          live: 'ok',
          ready: 'down',
          problems: [`ready: HTTP 503 from ${address}/no`],
        },
      ],
    });
    // From one look nobody knows since when.
    const { stdout: detail } = await home.holdfast('fleet', 'status', 'good');
    expect(detail).toMatch(/^state: +healthy, by one look just now$/m);
    expect(detail).toMatch(/^layer +status +what was seen$/m);
    const { code, stdout } = await home.holdfastWith({}, 'fleet', 'check', '--deadline', '3s');
    expect(code).toBe(15);
    expect(stdout.split('\n').slice(0, 4)).toEqual([
      `bad: unhealthy: ready: HTTP 503 from ${address}/no`,
      expect.stringMatching(/^hangs: unhealthy: live: no answer within [\d.]+ s$/),
      'bare: unknown: nothing says how to look at it',
      '3 of 4 agents not well: 2 unhealthy, 1 unknown.',
    ]);
    const well = await home.holdfast(...CHECK, 'good');
    expect(well).toMatchObject({ code: 0, stderr: '' });
    expect(well.stdout).toMatch(/^1 agent, all well\.\n/);
  });

  test('what a watcher knows is told, also when it is worse than a look would be; and nothing that is too old', async () => {
    config(`fleet: {store: ./fleet.sqlite, agents: {a: {live: "${address}/ok"}}}`);
    const seams = { clock: systemClock, random: systemRandom };
    const [spec] = agentSpecs(await loadConfig(home.at('holdfast.yaml')), {}, { ...seams, progress: noProgress });
    const write = async (atMs: number) => {
      await using store = openSqliteStore(home.at('fleet.sqlite'), seams);
      const seen = { ok: false, evidence: 'the watcher saw it', atMs, tookMs: 1 };
      const policy = { startupMs: 0, failures: 1, successes: 1 };
      const health = observe(unlooked('a', false, ['live'], atMs), { atMs, layers: { live: seen } }, () => policy);
      await new HealthWriter(store, [spec!], { clock: systemClock, host: 'there', pid: 7 }).write([health], 5000);
    };
    await write(Date.now());
    const told = await home.holdfast(...CHECK);
    expect(told.code).toBe(15);
    expect(told.stdout).toMatch(
      /^a: unhealthy for .*: live: the watcher saw it\n1 of 1 agent not well: 1 unhealthy\.\nwatched by process 7 on there, /,
    );
    expect((await home.holdfast(...CHECK, '--now')).code).toBe(0);
    await write(Date.now() - 60_000);
    const old = await home.json<{ problems: unknown }>(15, ...CHECK);
    expect(old.problems).toMatchObject([
      { name: 'a', state: 'unknown', problems: ['it was not looked at for too long'] },
    ]);
  });

  test('what a watcher saw where another config told it to look is no green light', async () => {
    const agents = (path: string) =>
      config(
        `fleet: {store: ./fleet.sqlite, agents: {a: {live: "${address}/${path}"}, b: {live: "${address}/ok", interval: 9s}}}`,
      );
    agents('ok');
    const seams = { clock: systemClock, random: systemRandom };
    const specs = agentSpecs(await loadConfig(home.at('holdfast.yaml')), {}, { ...seams, progress: noProgress });
    const prober = new Prober(specs, seams);
    const healths = await prober.once(5000, new AbortController().signal);
    {
      await using store = openSqliteStore(home.at('fleet.sqlite'), seams);
      await new HealthWriter(store, specs, { clock: systemClock, host: 'there', pid: 7 }).write(healths, 5000);
    }
    expect((await home.holdfast(...CHECK)).code).toBe(0);
    agents('no');
    const { problems } = await home.json<{ problems: unknown }>(15, ...CHECK);
    expect(problems).toMatchObject([
      {
        name: 'a',
        state: 'unknown',
        problems: ['the watcher has read another config than this: start again what is older'],
      },
    ]);
    await using store = openSqliteStore(home.at('fleet.sqlite'), seams);
    const now = agentSpecs(await loadConfig(home.at('holdfast.yaml')), {}, { ...seams, progress: noProgress });
    const next = new Prober(now, seams, await readKnown(store));
    expect(next.health().map(({ name, state }) => [name, state])).toEqual([
      ['a', 'starting'],
      ['b', 'healthy'],
    ]);
  });

  test('a record that cannot be read is named, and the rest is shown', async () => {
    config(`fleet: {store: ./fleet.sqlite, agents: {a: {live: "${address}/ok"}, b: {live: "${address}/ok"}}}`);
    {
      await using store = openSqliteStore(home.at('fleet.sqlite'), { clock: systemClock, random: systemRandom });
      for (const key of ['breaker.b', 'queue.odd', 'events.999999999999999-odd']) await store.create(key, 'rubbish');
    }
    const { agents, queue } = await home.json<StatusResult>(0, 'fleet', 'status');
    expect(agents).toMatchObject([
      { name: 'a', problems: [] },
      {
        name: 'b',
        breaker: 'unreadable',
        problems: ['breaker: what is stored of it cannot be read; no call is let through'],
      },
    ]);
    expect(queue).toMatchObject({ unreadable: 1 });
    expect((await home.holdfast(...CHECK)).code).toBe(15);
    expect(await home.json(3, 'breaker', 'list')).toMatchObject([{ agent: 'a' }, { agent: 'b', state: 'unreadable' }]);
    const events = await home.holdfast('fleet', 'events');
    expect(events).toMatchObject({ code: 3, stderr: expect.stringContaining('999999999999999-odd') });
    const queued = await home.holdfast('breaker', 'queue', 'list');
    expect(queued).toMatchObject({ code: 3, stderr: expect.stringContaining('holdfast breaker queue drop odd') });
    expect((await home.holdfast('breaker', 'queue', 'drop', 'odd')).code).toBe(0);
    expect((await home.holdfast('breaker', 'reset', 'b')).code).toBe(0);
    expect((await home.holdfast(...CHECK)).code).toBe(0);
  });

  test('an open breaker is a problem of an agent that is healthy', async () => {
    config(`fleet: {agents: {a: {live: "${address}/ok"}}}`);
    await home.holdfast('breaker', 'trip', 'a', '--reason', 'maintenance');
    const { problems } = await home.json<{ problems: unknown }>(15, ...CHECK);
    expect(problems).toMatchObject([{ name: 'a', state: 'healthy', problems: ['breaker: opened by hand'] }]);
  });

  test('a fleet without agents is no green light, and names are looked up', async () => {
    config('fleet: {}');
    expect(await home.refused(2, ...CHECK)).toMatchObject({ code: 'config_invalid' });
    config(`fleet: {agents: {backend: {live: "${address}/ok"}}}`);
    expect(await home.refused(2, ...CHECK, 'bakend')).toMatchObject({
      code: 'usage',
      hint: 'Did you mean backend?',
    });
    config(`fleet: {agents: {backend: {live: {command: "true"}}}}`);
    const { chmodSync } = await import('node:fs');
    chmodSync(home.at('holdfast.yaml'), 0o666);
    expect(await home.refused(12, ...CHECK)).toMatchObject({ code: 'insecure_permissions' });
  });
});

describe('the config of an agent', () => {
  const load = async (agent: string) => {
    config(`fleet: {agents: {a: ${agent}}}`);
    return (await loadConfig(home.at('holdfast.yaml'))).fleet?.watched['a'];
  };
  const refusal = (agent: string) =>
    load(agent).then(
      () => 'none',
      (error: Error) => error.message.replace(/^[^`]*/, ''),
    );

  test('has usual values, which the fleet, the agent and the probe may change, in this order', async () => {
    config(`fleet:
  interval: 20s
  failures: 5
  agents:
    a: {interval: 30s, live: {tcp: "localhost:80", timeout: 1s}, ready: "http://h/ready"}
    b: {live: {tcp: "[::1]:80"}, backup: other.yaml}
`);
    const { a, b } = (await loadConfig(home.at('holdfast.yaml'))).fleet?.watched ?? {};
    const usual = { intervalMs: 20_000, timeoutMs: 5000, startupMs: 60_000, failures: 5, successes: 2 };
    expect(a?.live).toEqual({
      look: { tcp: { host: 'localhost', port: 80 } },
      policy: { ...usual, intervalMs: 30_000, timeoutMs: 1000 },
    });
    expect(a?.ready?.policy).toEqual({ ...usual, intervalMs: 30_000 });
    expect(b?.live).toEqual({ look: { tcp: { host: '::1', port: 80 } }, policy: usual });
    expect(b?.backup).toEqual({
      config: home.at('other.yaml'),
      policy: { intervalMs: 300_000, timeoutMs: 60_000, startupMs: 0, failures: 1, successes: 1 },
    });
  });

  test('may be as the documentation shows it', async () => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/fleet.md'), 'utf8');
    const [, example = ''] = /```yaml\n(.*?)```/s.exec(page) ?? [];
    config(example);
    const loaded = await loadConfig(home.at('holdfast.yaml'));
    expect(Object.keys(loaded.fleet?.watched ?? {})).toEqual(['backend-agent', 'writer', 'shell-agent']);
    const seams = { clock: systemClock, random: systemRandom, progress: noProgress };
    const specs = agentSpecs(loaded, {}, seams);
    expect(specs.map(({ layers }) => Object.keys(layers).toSorted().join())).toEqual([
      'backup,drill,live,progress,ready',
      'errors,live,memory,progress,queue,ready',
      'live,progress,queue',
    ]);
  });

  test('has paths from the folder of the config, and limits with units', async () => {
    const a = await load(
      '{stats: {file: s.json}, queue: {}, errors: {max: 5%}, memory: {max: 2GiB}, progress: {file: ~/x, within: 1m}}',
    );
    expect(a?.stats?.look).toEqual({ file: home.at('s.json') });
    expect([a?.queue?.max, a?.errors?.max, a?.memory?.max]).toEqual([10, 0.05, { bytes: 2 ** 31 }]);
    expect(a?.progress?.look).toMatchObject({ file: { withinMs: 60_000, path: expect.stringMatching(/^\/.*\/x$/) } });
  });

  test.each([
    ['{live: {htp: "http://h/"}}', '`htp` in `fleet.agents.a.live`'],
    ['{live: "http://user:password@h/"}', 'must be an address http://'],
    ['{live: {http: "http://h/", tcp: "h:1"}}', 'must have one of http, tcp, command, process, file'],
    ['{live: {tcp: "h:1", status: [200]}}', 'status is a setting of http'],
    ['{live: {tcp: "h:99999"}}', 'has no port'],
    ['{progress: {file: x}}', 'needs within'],
    ['{progress: {file: x, within: 0s}}', 'must be longer than nothing'],
    ['{progress: {file: x, within: 1m, pattern: "("}}', 'must be a regular expression'],
    ['{interval: 10ms}', 'shorter than 100ms'],
    ['{errors: {}}', 'needs `fleet.agents.a.stats`'],
    ['{progress: {file: x, within: 1m, idle: true}}', 'needs `fleet.agents.a.stats`'],
    ['{stats: "http://h/", memory: {max: 5 apples}}', 'memory.max'],
  ])('%s is refused', async (agent, why) => expect(await refusal(agent)).toContain(why));
});

test('a backup is fresh by what the backends hold, whatever this host remembers', async () => {
  await using agent = await makeAgent({ storage: 'folders' });
  const own = (more = '') => {
    const path = join(agent.folder, 'own.yaml');
    const backends = agent.addresses.map(({ name, url }) => `  ${name}: {url: "${url}"}`).join('\n');
    writeFileSync(
      path,
      `agent: {handle: ada, identity: ${agent.files.identity}, writerKey: ${agent.files.writerKey}}\nbackends:\n${backends}\n${more}`,
    );
    return path;
  };
  config(`fleet: {agents: {a: {backup: {config: ${own()}, within: 2h}, drill: ${own()}}}}`);
  let nowMs = agent.seams().clock.now();
  const seams = { ...agent.seams(), clock: { ...systemClock, now: () => nowMs } };
  const [spec] = agentSpecs(await loadConfig(home.at('holdfast.yaml')), {}, seams);
  const look = () => spec!.layers.backup!.probe!(new AbortController().signal);
  expect(await look()).toMatchObject({ ok: false, evidence: 'no snapshot on the backends' });
  await agent.backup();
  expect(await look()).toMatchObject({
    ok: true,
    evidence: expect.stringMatching(/^the newest snapshot is .* old, on a, b$/),
  });
  nowMs += 3 * 3_600_000;
  expect(await look()).toMatchObject({
    ok: false,
    evidence: expect.stringMatching(/is (2h 59m|3h) old, more than 2h/),
  });
  nowMs -= 3 * 3_600_000;
  rmSync(join(agent.folder, 'b', 'snapshots'), { recursive: true });
  mkdirSync(join(agent.folder, 'b', 'snapshots'));
  expect(await look()).toMatchObject({
    ok: false,
    evidence: expect.stringContaining('on 1 of the 2 backends wanted, not on b'),
  });
  own('commit: {require: 1}');
  expect(await look()).toMatchObject({ ok: true });
  rmSync(join(agent.folder, 'a'), { recursive: true });
  expect(await look()).toMatchObject({ ok: false });
  const drill = await spec!.layers.drill!.probe!(new AbortController().signal);
  expect(drill).toMatchObject({ ok: false, evidence: expect.stringMatching(/^no drill has passed/) });
});

test('two hundred agents fit on one screen, those that are not well first', () => {
  const agents = Array.from({ length: 200 }, (_, i): AgentView => {
    const isBad = i % 10 === 0;
    const seen = {
      ok: !isBad,
      evidence: isBad ? 'connection refused: http://10.0.0.1:8080/health/live '.repeat(4) : 'fine',
      atMs: 1000,
      tookMs: 1,
    };
    const health = observe(
      unlooked(`agent-${i}`, i === 10, ['live'], 0),
      { atMs: 1000, layers: { live: seen } },
      () => ({
        ...{ startupMs: 0, failures: 1, successes: 1 },
      }),
    );
    return { ...health, breaker: { state: 'closed', failures: 0 }, quarantine: null };
  });
  const watcher = { host: 'h', pid: 1, seenMs: 1000 };
  const view = { atMs: 61_000, watcher, level: null, agents, queue: { waiting: 0, running: 0, dead: 2 } };
  const text = statusText(statusResult(view), { columns: 120, onlyProblems: false });
  const shown = text.split('\n');
  expect(shown.length).toBeLessThanOrEqual(50);
  expect(Math.max(...shown.map((line) => line.length))).toBeLessThanOrEqual(120);
  expect(shown[0]).toBe('20 of 200 agents not well: 20 unhealthy.');
  expect(shown.find((line) => line.startsWith('agent-'))).toMatch(/^agent-10\* +unhealthy +1m/);
  for (const { name } of agents) expect(text).toMatch(new RegExp(`\\b${name}\\b`));
  const byHand = { ...statusResult({ ...view, watcher: null }), level: 1 };
  expect(statusText(byHand, { columns: 120, onlyProblems: true })).toMatch(/^looked at just now, once$/m);
  expect(nameColumns(['a', 'b', 'c', 'd', 'e'], 7)).toBe('a  d\nb  e\nc\n');
});

test('numbers are told by the names of the documentation, times as in all JSON', () => {
  const told = { queueDepth: 2, lastActivityMs: 0, lastTaskMs: 1000 };
  const view = { ...unlooked('a', false, [], 0), stats: told, breaker: { state: 'closed', failures: 0 } as const };
  expect(agentRow({ ...view, quarantine: null }).stats).toEqual({
    ...{ queueDepth: 2, lastActivity: '1970-01-01T00:00:00.000Z', lastTask: '1970-01-01T00:00:01.000Z' },
  });
});
