/** What an agent tells of itself, and what limits make of it. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Clock } from '../../src/clock.ts';
import { agentSpec, type AgentSettings } from '../../src/fleet/agent-spec.ts';
import type { LayerPolicy } from '../../src/fleet/health.ts';
import { Prober } from '../../src/fleet/prober.ts';
import type { StatsProbe } from '../../src/fleet/probes/probe.ts';
import { failed, found } from '../../src/fleet/probes/probe.ts';
import {
  activityJudge,
  errorsJudge,
  idleJudge,
  memoryJudge,
  parseStats,
  queueJudge,
  withErrorRate,
} from '../../src/fleet/probes/stats.ts';
import { FakeClock } from '../fake-clock.ts';

const quiet = new AbortController().signal;

test('JSON, under the names of the documentation or as others write them', () => {
  const told = {
    queueDepth: 3,
    tasks_received: 10,
    'tasks-in-progress': 1,
    messagesSent: 4,
    memory_bytes: 5e8,
    contextUsed: 0.5,
  };
  expect(
    parseStats(
      JSON.stringify({ ...told, tasksCompleted: { success: 7, failure: 2 }, lastActivity: '2026-01-01T00:00:00Z' }),
    ),
  ).toEqual({
    ...{ queueDepth: 3, tasksReceived: 10, tasksInProgress: 1, messagesSent: 4, memoryBytes: 5e8, contextUsed: 0.5 },
    ...{ tasksCompleted: { success: 7, failure: 2 }, lastActivityMs: Date.UTC(2026, 0, 1) },
  });
});

test('a page for Prometheus', () => {
  const page = `# HELP agent_tasks_completed_total Tasks.
# TYPE agent_tasks_completed_total counter
agent_tasks_received_total{type="a"} 6
agent_tasks_received_total{type="b"} 4
agent_tasks_completed_total{status="success"} 7
agent_tasks_completed_total{status="failure"} 2
agent_task_duration_seconds_sum 12.5
agent_queue_depth 3
agent_memory_bytes 5e+08
agent_last_activity_timestamp_seconds 1767225600
agent_context_window_used_ratio NaN
up 1
`;
  expect(parseStats(page)).toEqual({
    ...{ tasksReceived: 10, tasksCompleted: { success: 7, failure: 2 }, taskSeconds: 12.5, queueDepth: 3 },
    ...{ memoryBytes: 5e8, lastActivityMs: Date.UTC(2026, 0, 1) },
  });
});

test('what makes no sense is not taken, and what is neither is told', () => {
  expect(
    parseStats(
      '{"queueDepth":-1,"errorRate":1.5,"memoryBytes":"1","contextUsed":2,"lastActivity":"never","__proto__":1}',
    ),
  ).toEqual({});
  expect(parseStats('<html>')).toBeUndefined();
  expect(parseStats('{"a":')).toBeUndefined();
  fc.assert(
    fc.property(fc.json(), (text) => {
      for (const value of Object.values(parseStats(text) ?? {}))
        expect(typeof value === 'number' ? Number.isFinite(value) && value >= 0 : typeof value).not.toBe(false);
    }),
    { seed: 3 },
  );
});

test('limits: what is not told is no good news', () => {
  const told = (stats: object) => ({ stats });
  expect(queueJudge(10)(undefined, told({ queueDepth: 10 }), 0)).toMatchObject({ ok: true, value: 10 });
  expect(queueJudge(10)(undefined, told({ queueDepth: 11 }), 0)).toMatchObject({
    ok: false,
    evidence: '11 tasks wait, more than 10',
  });
  expect(errorsJudge(0.2)(undefined, told({ errorRate: 0.2 }), 0).ok).toBe(true);
  expect(errorsJudge(0.2)(undefined, told({ errorRate: 0.25 }), 0)).toMatchObject({
    ok: false,
    evidence: '25 % of its tasks fail, more than 20 %',
  });
  expect(memoryJudge({ bytes: 1024 })(undefined, told({ memoryBytes: 1025 }), 0).ok).toBe(false);
  const share = memoryJudge({ share: 0.9 });
  expect(share(undefined, told({ memoryBytes: 90, memoryLimitBytes: 100 }), 0).ok).toBe(true);
  expect(share(undefined, told({ memoryBytes: 91, memoryLimitBytes: 100 }), 0).ok).toBe(false);
  expect(share(undefined, told({ memoryBytes: 1 }), 0).ok).toBe(false);
  for (const judge of [queueJudge(10), errorsJudge(1), share, activityJudge('lastTaskMs', 1000)]) {
    expect(judge(undefined, undefined, 0).ok).toBe(false);
    expect(judge(undefined, { stats: {}, problem: 'refused', absent: true }, 0)).toMatchObject({
      evidence: 'refused',
      absent: true,
    });
  }
});

test('without a task in progress no progress is needed, where the agent says so', () => {
  const idle = idleJudge();
  expect(idle(failed('old'), { stats: { tasksInProgress: 0 } }, 0)).toEqual({
    ...{ ok: true, evidence: 'idle: no task in progress (old)' },
  });
  expect(idle(failed('old'), { stats: { tasksInProgress: 1 } }, 0).ok).toBe(false);
  expect(idle(failed('old'), { stats: {} }, 0).ok).toBe(false);
  expect(idle(failed('old'), undefined, 0).ok).toBe(false);
  expect(idle(found('new'), undefined, 0).ok).toBe(true);
});

test('an error rate is made of counters, over the last minutes, and anew when they begin anew', async () => {
  const clock = new FakeClock();
  let counters = { success: 100, failure: 100 };
  const source: StatsProbe = async () => ({ stats: { tasksCompleted: { ...counters } } });
  const ask = withErrorRate(source, clock);
  const rate = async () => (await ask(quiet)).stats.errorRate;
  expect(await rate()).toBe(0.5); // all there is to go by
  await clock.advance(10_000);
  expect(await rate()).toBe(0);
  await clock.advance(10_000);
  counters = { success: 106, failure: 102 };
  expect(await rate()).toBe(0.25);
  await clock.advance(10 * 60_000);
  expect(await rate()).toBe(0.25);
  await clock.advance(10_000);
  expect(await rate()).toBe(0);
  counters = { success: 2, failure: 6 };
  expect(await rate()).toBe(0.75);
});

test('of fewer than five tasks no error rate is made: one that failed says nothing, and is no reason to act', async () => {
  const clock = new FakeClock();
  let counters = { success: 0, failure: 0 };
  const source: StatsProbe = async () => ({ stats: { tasksCompleted: { ...counters } } });
  const ask = withErrorRate(source, clock);
  const judge = errorsJudge(0.2);
  const look = async () => {
    const told = await ask(quiet);
    return [told.stats.errorRate, judge(undefined, told, 0)];
  };
  expect(await look()).toEqual([0, { ok: true, evidence: '0 % of its tasks fail', value: 0 }]);
  const few = { ok: true, evidence: 'fewer than 5 tasks in 5 minutes: how many of them fail cannot be said' };
  counters = { success: 0, failure: 1 };
  expect(await look()).toEqual([undefined, few]);
  await clock.advance(10_000);
  counters = { success: 0, failure: 4 };
  expect(await look()).toEqual([undefined, few]);
  await clock.advance(10_000);
  counters = { success: 0, failure: 5 };
  expect(await look()).toEqual([1, { ok: false, evidence: expect.stringContaining('100 %'), value: 1 }]);
  // Who tells a rate itself has its own window.
  const own = withErrorRate(async () => ({ stats: { tasksCompleted: { failure: 1 }, errorRate: 1 } }), clock);
  expect(judge(undefined, await own(quiet), 0).ok).toBe(false);
});

test('an agent is looked at as its config says', async () => {
  const clock = new FakeClock();
  const policy: LayerPolicy = { intervalMs: 10_000, timeoutMs: 5000, startupMs: 0, failures: 1, successes: 1 };
  const settings: AgentSettings = {
    critical: true,
    backup: { config: '/etc/a.yaml', withinMs: 5, policy: { ...policy, intervalMs: 60_000 } },
    drill: { config: '/etc/a.yaml', policy: { ...policy, intervalMs: 60_000 } },
    progress: { look: { told: 'lastTaskMs', withinMs: 60_000 }, idle: true, policy },
    stats: { look: { command: `echo '{"tasksInProgress":0,"queueDepth":11}'` }, policy },
    queue: { max: 10, policy },
  };
  const still: Clock = { now: () => clock.now(), monotonic: () => 0, sleep: () => new Promise(() => {}) };
  const asked: unknown[] = [];
  const spec = agentSpec('a', settings, {
    ...{
      clock: still,
      folder: '/',
      env: process.env,
    },
    backup:
      (...all) =>
      async () => (asked.push(all), found('fresh')),
    drill: () => async () => failed('due'),
  });
  const health = (await new Prober([spec], { clock: still }).once(5000, quiet))[0];
  expect(asked).toEqual([['/etc/a.yaml', 5]]);
  expect(health).toMatchObject({
    ...{ name: 'a', critical: true, state: 'degraded', stats: { queueDepth: 11 } },
    layers: {
      backup: { status: 'ok' },
      drill: { status: 'down' },
      queue: { status: 'down' },
      progress: { status: 'ok' },
    },
  });
});
