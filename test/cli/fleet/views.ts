/** Made-up looks at a fleet, as a watcher would have them. */
import type { FleetLook } from '../../../src/cli/fleet/serve/looks.ts';
import type { FleetEvent } from '../../../src/fleet/events.ts';
import type { AgentView, FleetView, Layer, LayerHealth, LayerStatus } from '../../../src/fleet/health.ts';
import type { Runs } from '../../../src/operations/host/runs.ts';

export const NOW_MS = Date.UTC(2026, 5, 1, 3, 0, 0);
const MINUTE_MS = 60_000;

export function layer(status: LayerStatus, evidence: string, value?: number): LayerHealth {
  const ok = status === 'ok' || status === 'recovering';
  const last = { ok, evidence, atMs: NOW_MS - 3000, tookMs: 12, ...(value !== undefined && { value }) };
  return { status, sinceMs: NOW_MS - 20 * MINUTE_MS, failures: ok ? 0 : 3, successes: ok ? 50 : 0, last };
}

export function agentView(name: string, over: Partial<AgentView> = {}): AgentView {
  const layers: Partial<Record<Layer, LayerHealth>> = {
    live: layer('ok', 'HTTP 200 from 127.0.0.1:8080/health/live'),
    ready: layer('ok', 'messaging, model and workspace are ok'),
    progress: layer('ok', 'HEARTBEAT.md is 40 s old', 40),
    backup: layer('ok', 'a snapshot of 3h is on nas and cloud', 3 * 3600),
    drill: layer('ok', 'a drill passed 12d ago', 12 * 86_400),
  };
  return {
    ...{ name, critical: false, state: 'healthy', sinceMs: NOW_MS - 300 * MINUTE_MS, layers, trend: 'healthy' },
    history: Array.from({ length: 100 }, (_, i) => ({ atMs: NOW_MS - (100 - i) * 10_000, ok: true })),
    ...{ seenMs: NOW_MS - 3000, lookedMs: NOW_MS - 3000, quarantine: null },
    stats: { queueDepth: 2, tasksReceived: 120, tasksCompleted: { success: 110, failure: 2 }, tasksInProgress: 1 },
    breaker: { state: 'closed', failures: 0 },
    ...over,
  };
}

const MINUTES_OF_RUNS: Runs = {
  backup: {
    ...{ startedMs: NOW_MS - 181 * MINUTE_MS, endedMs: NOW_MS - 180 * MINUTE_MS, seconds: 31.5, exitCode: 3 },
    ...{ successMs: NOW_MS - 240 * MINUTE_MS, files: 240, bytes: { read: 5_000_000, added: 20_000 } },
    committed: { nas: true, cloud: false },
  },
  verify: {
    startedMs: NOW_MS - 500 * MINUTE_MS,
    endedMs: NOW_MS - 499 * MINUTE_MS,
    seconds: 9,
    exitCode: 0,
    successMs: NOW_MS - 499 * MINUTE_MS,
    damaged: 0,
  },
  drill: {
    startedMs: NOW_MS - 9e8,
    endedMs: NOW_MS - 9e8 + 95_000,
    seconds: 95,
    exitCode: 0,
    successMs: NOW_MS - 9e8 + 95_000,
    recoverySeconds: 41.2,
  },
};

export function fleetViewOf(agents: AgentView[], over: Partial<FleetView> = {}): FleetView {
  return {
    ...{ atMs: NOW_MS, watcher: { host: 'fleet-1', pid: 4711, seenMs: NOW_MS - 2000 } },
    level: { level: 0, sinceMs: NOW_MS - 500 * MINUTE_MS, reasons: [] },
    ...{ agents, queue: { waiting: 0, running: 0, dead: 0 } },
    ...over,
  };
}

export function lookOf(view: FleetView, over: Partial<FleetLook> = {}): FleetLook {
  return { view, runs: new Map(), events: [], counted: {}, ...over };
}

/** Forty agents of which some are in every kind of trouble. */
export function troubledLook(): FleetLook {
  const agents = Array.from({ length: 34 }, (_, i) => agentView(`worker-${String(i + 1).padStart(2, '0')}`));
  const down = (at: number, of: number) =>
    Array.from({ length: 100 }, (_, i) => ({ atMs: NOW_MS - (100 - i) * 10_000, ok: i < at || i >= at + of }));
  const of = (agent: AgentView, layers: AgentView['layers']) => ({ ...agent.layers, ...layers });
  const plain = agentView('x');
  agents.push(
    agentView('router', {
      ...{
        critical: true,
        state: 'unhealthy',
        sinceMs: NOW_MS - 4 * MINUTE_MS,
        trend: 'unhealthy',
        history: down(60, 40),
      },
      layers: of(plain, { live: layer('down', 'connect ECONNREFUSED 127.0.0.1:8088') }),
      breaker: { state: 'open', failures: 3, retryAtMs: NOW_MS + 95_000 },
      seenMs: NOW_MS - 4 * MINUTE_MS,
    }),
    agentView('planner', {
      ...{ state: 'unhealthy', sinceMs: NOW_MS - 22 * MINUTE_MS, trend: 'degrading', history: down(80, 20) },
      layers: of(plain, { progress: layer('down', 'HEARTBEAT.md is 25m 4s old, more than 10m', 1504) }),
      stats: {
        queueDepth: 14,
        tasksInProgress: 1,
        contextUsed: 0.93,
        memoryBytes: 1_400_000_000,
        memoryLimitBytes: 2 ** 31,
      },
    }),
    agentView('archivist', {
      ...{ state: 'degraded', sinceMs: NOW_MS - 90 * MINUTE_MS },
      layers: of(plain, {
        backup: layer('down', 'the newest snapshot is 31h old, more than 26h; cloud cannot be reached', 31 * 3600),
        drill: layer('down', 'the last drill that passed was 96d ago, one is wanted every 90d', 96 * 86_400),
      }),
    }),
    agentView('crawler', {
      ...{ state: 'starting', sinceMs: NOW_MS - 20_000, trend: 'none', history: [], seenMs: null },
      layers: { live: layer('starting', 'not looked at yet') },
      stats: {},
    }),
    agentView('reviewer', {
      state: 'healthy',
      layers: of(plain, { ready: layer('failing', 'HTTP 503 from 127.0.0.1:8090/health/ready: model: not ok') }),
      breaker: { state: 'forced-open', failures: 0 },
      quarantine: { sinceMs: NOW_MS - 50 * MINUTE_MS, reason: 'restarted 3 times in 30m, and still down' },
    }),
    agentView('spare', {
      state: 'unknown',
      layers: {},
      history: [],
      trend: 'none',
      seenMs: null,
      lookedMs: 0,
      stats: {},
    }),
  );
  const events: FleetEvent[] = [
    {
      atMs: NOW_MS - 50 * MINUTE_MS,
      kind: 'quarantine',
      agent: 'reviewer',
      message: 'put into quarantine: restarted 3 times in 30m, and still down',
    },
    {
      atMs: NOW_MS - 22 * MINUTE_MS,
      kind: 'layer_down',
      agent: 'planner',
      message: 'progress is down: HEARTBEAT.md is 10m 2s old, more than 10m',
    },
    {
      atMs: NOW_MS - 5 * MINUTE_MS,
      kind: 'action_held',
      agent: 'planner',
      message: 'restart is due and was not done: cool-down of 10m',
      dryRun: true,
    },
    {
      atMs: NOW_MS - 4 * MINUTE_MS,
      kind: 'agent_state',
      agent: 'router',
      message: 'unhealthy, was healthy: live is down',
    },
    { atMs: NOW_MS - 4 * MINUTE_MS + 400, kind: 'level', message: 'level 2, was 0: router is critical and out' },
    {
      atMs: NOW_MS - 3 * MINUTE_MS,
      kind: 'action',
      agent: 'router',
      message: 'restart: systemctl restart router ended with 0 after 1.2 s',
    },
  ];
  const view = fleetViewOf(agents, {
    level: {
      level: 2,
      sinceMs: NOW_MS - 4 * MINUTE_MS,
      reasons: ['router is critical and out', '3 of 40 agents are out'],
    },
    queue: { waiting: 4, running: 1, dead: 2 },
  });
  return lookOf(view, { events, runs: new Map([['archivist', MINUTES_OF_RUNS]]), counted: { action: 3 } });
}
