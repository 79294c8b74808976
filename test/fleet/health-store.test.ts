/** What a watcher knows, as others read it. */
import { expect, test } from 'vitest';
import { HealthWriter, readHealth, readKnown, readWatcher } from '../../src/fleet/health-store.ts';
import { HISTORY_MAX, LAYERS, observe, unlooked, type AgentHealth, type LayerPolicy } from '../../src/fleet/health.ts';
import { memoryStateStore } from '../../src/fleet/memory-store.ts';
import type { AgentSpec } from '../../src/fleet/prober.ts';
import { FakeClock } from '../fake-clock.ts';

const POLICY: LayerPolicy = { intervalMs: 10_000, timeoutMs: 5000, startupMs: 60_000, failures: 3, successes: 2 };
const WHO = { host: 'here', pid: 7 };

const specs = (count: number): AgentSpec[] =>
  Array.from({ length: count }, (_, i) => ({
    ...{ name: `agent-${i}`, critical: i === 0 },
    layers: Object.fromEntries(LAYERS.map((layer) => [layer, { policy: POLICY, cost: 'light' }])),
  }));

function looked({ name, critical }: AgentSpec, clock: FakeClock, looks: number, evidence = 'fine'): AgentHealth {
  const startMs = clock.now() - looks * 10_000;
  let health = unlooked(name, critical, LAYERS, startMs);
  for (let i = 1; i <= looks; i++) {
    const seen = { ok: i % 7 !== 0, evidence, atMs: startMs + i * 10_000, tookMs: 3 };
    const layers = Object.fromEntries(LAYERS.map((layer) => [layer, seen]));
    health = observe(health, { atMs: seen.atMs, layers, stats: { queueDepth: i } }, () => POLICY);
  }
  return health;
}

test('what was written is read as it was, of a thousand agents with all that can be known', async () => {
  const clock = new FakeClock();
  const store = memoryStateStore(clock);
  const agents = specs(1000);
  const healths = agents.map((spec, i) => looked(spec, clock, 1 + (i % (HISTORY_MAX + 20))));
  await new HealthWriter(store, agents, { clock, ...WHO }).write(healths, 5000);
  expect((await store.list('health.')).length).toBe(32);
  expect(await readHealth(store, clock.now())).toEqual(healths);
  expect(await readWatcher(store, clock.now())).toMatchObject({ ...WHO, seenMs: clock.now() });
});

test('a page in which no state changed is written once an interval, another one at once', async () => {
  const clock = new FakeClock();
  const store = memoryStateStore(clock);
  const agents = specs(64);
  const writer = new HealthWriter(store, agents, { clock, ...WHO });
  const healths = agents.map((spec) => looked(spec, clock, 3));
  const revisions = async () => (await store.list('health.')).map(({ revision }) => revision);
  await writer.write(healths, 5000);
  const first = await revisions();
  await clock.advance(5000);
  await writer.write(healths, 5000);
  expect(await revisions()).toEqual(first);
  await writer.write([{ ...healths[0]!, state: 'unhealthy' }, ...healths.slice(1)], 5000);
  const second = await revisions();
  expect([second[0] === first[0], second[1] === first[1]]).toEqual([false, true]);
  await clock.advance(5000);
  await writer.write(healths, 5000);
  expect((await revisions()).some((one) => second.includes(one))).toBe(false);
});

test('evidence that is longer than a page is cut', async () => {
  const clock = new FakeClock();
  const store = memoryStateStore(clock);
  const agents = specs(32);
  const healths = agents.map((spec) => looked(spec, clock, 3, '€'.repeat(300)));
  await new HealthWriter(store, agents, { clock, ...WHO }).write(healths, 5000);
  const read = await readHealth(store, clock.now());
  expect(read.map(({ name }) => name)).toEqual(agents.map(({ name }) => name));
  expect(read[0]?.layers.live?.last.evidence).toMatch(/^€{99}…$/);
});

test('what is too old is unknown, never healthy; whoever watches next has it all the same', async () => {
  const clock = new FakeClock();
  const store = memoryStateStore(clock);
  const agents = specs(2);
  const healths = agents.map((spec) => looked(spec, clock, 3));
  expect(healths[0]?.state).toBe('healthy');
  await new HealthWriter(store, agents, { clock, ...WHO }).write(healths, 5000);
  await clock.advance(35_000);
  expect((await readHealth(store, clock.now()))[0]?.state).toBe('healthy');
  await clock.advance(1);
  expect((await readHealth(store, clock.now()))[0]).toMatchObject({ state: 'unknown', name: 'agent-0' });
  expect(await readWatcher(store, clock.now())).toBeNull();
  expect(await readKnown(store)).toEqual(healths.map((health) => ({ ...health, trend: 'none' })));
});

test('a clock that was set back makes nothing fresh', async () => {
  const clock = new FakeClock();
  const store = memoryStateStore(clock);
  const agents = specs(1);
  await new HealthWriter(store, agents, { clock, ...WHO }).write([looked(agents[0]!, clock, 3)], 5000);
  expect((await readHealth(store, clock.now() - 3_600_000))[0]?.state).toBe('unknown');
  expect(await readWatcher(store, clock.now() - 3_600_000)).toBeNull();
});

test('agents that are no longer in the config are dropped, and a watcher that ends says so', async () => {
  const clock = new FakeClock();
  const store = memoryStateStore(clock);
  const many = specs(100);
  const write = async (agents: AgentSpec[]) => {
    const writer = new HealthWriter(store, agents, { clock, ...WHO });
    await writer.write(
      agents.map((spec) => looked(spec, clock, 3)),
      5000,
    );
    return writer;
  };
  await write(many);
  const writer = await write(many.slice(0, 3));
  expect((await readHealth(store, clock.now())).map(({ name }) => name)).toEqual(['agent-0', 'agent-1', 'agent-2']);
  await writer.end();
  expect(await readWatcher(store, clock.now())).toBeNull();
});

test('what cannot be read is as if it were not there', async () => {
  const clock = new FakeClock();
  const store = memoryStateStore(clock);
  const layers = { live: { status: 'splendid', sinceMs: 0, failures: 0, successes: 0, last: {} } };
  const agent = { name: 'a', critical: false, state: 'healthy', sinceMs: 0, lookedMs: 0, seenMs: null, stats: {} };
  const whole = { ...agent, layers: {}, freshUntilMs: 9e15, looks: '' };
  await store.create(
    'health.0000',
    JSON.stringify({ version: 1, agents: [whole, { ...whole, name: 'b', layers }, 7] }),
  );
  await store.create('health.0001', JSON.stringify({ version: 2, agents: [{ ...whole, name: 'c' }] }));
  await store.create('health.0002', '{');
  await store.create('watcher', '{"version":1,"host":3}');
  expect((await readHealth(store, clock.now())).map(({ name }) => name)).toEqual(['a']);
  expect(await readWatcher(store, clock.now())).toBeNull();
});
