/** How a fleet is looked at over time, with probes that do what a test says and a clock that stands still until it is moved. */
import { expect, test } from 'vitest';
import type { AgentHealth, Layer, LayerPolicy } from '../../src/fleet/health.ts';
import { Prober, type AgentSpec } from '../../src/fleet/prober.ts';
import { absent, failed, found, type Finding, type Probe } from '../../src/fleet/probes/probe.ts';
import { FakeClock } from '../fake-clock.ts';

const POLICY: LayerPolicy = { intervalMs: 10_000, timeoutMs: 5000, startupMs: 0, failures: 3, successes: 2 };

const agent = (name: string, probe: Probe, policy: Partial<LayerPolicy> = {}, layer: Layer = 'live'): AgentSpec => ({
  ...{ name, critical: false },
  layers: { [layer]: { policy: { ...POLICY, ...policy }, probe, cost: 'light' } },
});

const never: Probe = (signal) =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('told to stop')), { once: true }));

/** Looks for so long, and tells what was seen. */
async function watched(agents: AgentSpec[], ms: number, clock = new FakeClock()) {
  const stop = new AbortController();
  const prober = new Prober(agents, { clock });
  const seen: AgentHealth[] = [];
  const running = prober.run((health) => seen.push(health), stop.signal);
  await clock.advance(ms);
  stop.abort();
  await clock.through(running);
  return { seen, prober, of: (name: string) => seen.filter((one) => one.name === name) };
}

test('every agent is looked at in its interval, and the first looks are spread', async () => {
  const clock = new FakeClock();
  const atMs: Record<string, number[]> = {};
  const noting =
    (name: string): Probe =>
    async () => {
      (atMs[name] ??= []).push(clock.monotonic());
      return found('fine');
    };
  const agents = Array.from({ length: 10 }, (_, i) => agent(`a${i}`, noting(`a${i}`)));
  await watched(agents, 59_999, clock);
  for (const [i, { name }] of agents.entries()) {
    expect(atMs[name]?.length).toBe(6);
    expect(atMs[name]?.[0]).toBe(i * 1000);
  }
});

test('looks at a large fleet are begun together, forty times in the shortest interval at most, and none is left out', async () => {
  const beginnings = async (intervalMs: number): Promise<Map<number, number>> => {
    const clock = new FakeClock();
    const atMs = new Map<number, number>();
    const noting: Probe = async () => {
      atMs.set(clock.monotonic(), (atMs.get(clock.monotonic()) ?? 0) + 1);
      return found('fine');
    };
    const agents = Array.from({ length: 500 }, (_, i) => agent(`a${i}`, noting, { intervalMs }));
    await watched(agents, 3 * intervalMs - 1, clock);
    return atMs;
  };
  for (const intervalMs of [1000, 10_000]) {
    const atMs = await beginnings(intervalMs);
    expect(atMs.size).toBeLessThanOrEqual(3 * 40 + 1);
    expect([...atMs.values()].reduce((sum, looks) => sum + looks, 0)).toBeGreaterThanOrEqual(3 * 500 - 13); // of the last tick
  }
});

test('one that never answers is not looked at twice at once, and delays nobody', async () => {
  let [running, most] = [0, 0];
  const hanging: Probe = async (signal) => {
    most = Math.max(most, ++running);
    try {
      return await never(signal);
    } finally {
      running--;
    }
  };
  const slow = agent('slow', hanging, { timeoutMs: 25_000 });
  const { of } = await watched([slow, agent('quick', async () => found('fine'))], 100_000);
  expect(most).toBe(1);
  expect(of('quick').length).toBe(10);
  expect(of('slow').map(({ layers }) => layers.live?.last.evidence)).toEqual(Array(3).fill('no answer within 25.0 s'));
  expect(of('slow').at(-1)?.state).toBe('unhealthy');
});

test('layers with intervals of their own have a rhythm of their own', async () => {
  const counts = { live: 0, backup: 0 };
  const counting =
    (layer: 'live' | 'backup'): Probe =>
    async () => {
      counts[layer]++;
      return found('fine');
    };
  const both = agent('a', counting('live'));
  both.layers.backup = { policy: { ...POLICY, intervalMs: 60_000 }, probe: counting('backup'), cost: 'heavy' };
  const { prober } = await watched([both], 119_999);
  expect(counts).toEqual({ live: 12, backup: 2 });
  expect(prober.health()[0]).toMatchObject({ state: 'healthy' });
});

test('a probe that throws is a look that is not ok, and says why', async () => {
  const broken = agent('a', () => Promise.reject(new Error('EMFILE: too many open files')));
  const { of } = await watched([broken], 1);
  expect(of('a')[0]?.layers.live?.last).toMatchObject({ ok: false, evidence: 'EMFILE: too many open files' });
});

test('a time limit that was noticed long after says that the watcher did not run, and nothing of the agent', async () => {
  const clock = new FakeClock();
  const frozen = new (class extends FakeClock {
    override monotonic() {
      return clock.monotonic() + offsetMs;
    }
  })();
  let offsetMs = 0;
  const stop = new AbortController();
  const prober = new Prober([agent('a', never)], { clock: frozen });
  const seen: AgentHealth[] = [];
  const running = prober.run((health) => seen.push(health), stop.signal);
  await frozen.advance(4999);
  offsetMs = 3_600_000;
  await frozen.advance(200);
  expect(seen).toEqual([]);
  stop.abort();
  await frozen.through(running);
});

test('for as long as the watcher stood still an agent has more time', async () => {
  /** Probes that answer by this moment, in a process that stands still from second 4 to second 7 of the look at them. */
  const answeringAt = async (atMs: number): Promise<boolean | undefined> => {
    const clock = new (class extends FakeClock {
      override monotonic() {
        const ms = super.monotonic();
        return ms > 4000 ? Math.max(ms, 7000) : ms;
      }
    })();
    const probe: Probe = () => clock.sleep(atMs).then(() => found('fine'));
    const other: AgentSpec = agent('b', async () => found('fine'), { intervalMs: 500 }); // by it the pause is noticed
    return (await watched([agent('a', probe), other], 9900, clock)).of('a')[0]?.layers.live?.last.ok;
  };
  // 5 s and almost 3 s.
  expect(await answeringAt(7500)).toBe(true);
  expect(await answeringAt(8500)).toBe(false);
});

test('what an agent tells is asked for once a look, and judged by limits', async () => {
  let asked = 0;
  const depth = (limit: number) => ({
    ...{ policy: POLICY, cost: 'light' as const },
    judge: (_: Finding | undefined, told: { stats: { queueDepth?: number } } | undefined) => {
      const value = told?.stats.queueDepth;
      return value !== undefined && value <= limit ? found(`${value}`, value) : failed(`${value}`, value);
    },
  });
  const spec: AgentSpec = {
    ...{ name: 'a', critical: false, layers: { queue: depth(10), errors: depth(20) } },
    stats: {
      ...{ intervalMs: 10_000, timeoutMs: 5000, cost: 'light' },
      ask: async () => ({ stats: { queueDepth: 14 + asked++ } }),
    },
  };
  const { of, prober } = await watched([spec], 20_001);
  expect(asked).toBe(3);
  expect(of('a').map(({ layers }) => [layers.queue?.last.value, layers.errors?.last.ok])).toEqual([
    [14, true],
    [15, true],
    [16, true],
  ]);
  expect(prober.health()[0]).toMatchObject({ state: 'degraded', stats: { queueDepth: 16 } });
});

test('looking once waits for nobody longer than its deadline', async () => {
  const clock = new FakeClock();
  const agents = Array.from({ length: 200 }, (_, i) =>
    agent(`a${i}`, i % 10 === 0 ? never : async () => found('fine'), { timeoutMs: 60_000, startupMs: 60_000 }),
  );
  const once = new Prober(agents, { clock }).once(5000, new AbortController().signal);
  const healths = await clock.through(once);
  expect(clock.monotonic()).toBeLessThanOrEqual(5100);
  const bad = healths.filter(({ state }) => state !== 'healthy');
  expect(bad.map(({ name }) => name)).toEqual(Array.from({ length: 20 }, (_, i) => `a${i * 10}`));
  expect(bad[0]).toMatchObject({
    state: 'unhealthy',
    layers: { live: { last: { evidence: 'no answer within 5.0 s' } } },
  });
});

test('looking once is not held up by those that hang, even where only so many are looked at at once', async () => {
  const clock = new FakeClock();
  const agents = Array.from({ length: 40 }, (_, i) => agent(`a${i}`, i < 32 ? never : async () => found('fine')));
  for (const { layers } of agents) layers.live!.cost = 'process';
  const healths = await clock.through(new Prober(agents, { clock }).once(5000, new AbortController().signal));
  expect(clock.monotonic()).toBeLessThanOrEqual(5100);
  expect(healths[39]?.layers.live?.last).toMatchObject({
    ok: false,
    evidence: expect.stringContaining('too many looks'),
  });
});

test('looking once, a failure is down at once, and a grace of the start hides nothing', async () => {
  const clock = new FakeClock();
  const prober = new Prober([agent('a', async () => absent('refused'), { startupMs: 60_000 })], { clock });
  const [health] = await clock.through(prober.once(5000, new AbortController().signal));
  expect(health).toMatchObject({ state: 'unhealthy', layers: { live: { last: { evidence: 'refused' } } } });
  expect(prober.health()[0]?.lookedMs).toBe(0);
});

test('looking once ends when it is interrupted', async () => {
  const clock = new FakeClock();
  const stop = new AbortController();
  const once = new Prober([agent('a', never)], { clock }).once(5000, stop.signal);
  stop.abort();
  await expect(clock.through(once)).rejects.toMatchObject({ code: 'interrupted' });
});
