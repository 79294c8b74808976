/** The metrics of a fleet: what is known stands there under its name, what is not known does not, and promtool has nothing to say. */
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { renderFleetMetrics, type MetricsInput } from '../../src/fleet/metrics.ts';
import { runTool } from '../../src/operations/schedule/run-tool.ts';
import type { FleetView } from '../../src/fleet/health.ts';
import { agentView, fleetViewOf, layer, NOW_MS, troubledLook } from '../cli/fleet/views.ts';
import { lacks } from '../crypto/support.ts';

const OWN = { version: '1.2.3', startedMs: NOW_MS - 60_000, cpuSeconds: 1.5, residentBytes: 50_000_000 };
const scrape = (view: FleetView, over: Partial<MetricsInput> = {}) =>
  renderFleetMetrics({ view, runs: new Map(), events: {}, own: OWN, ...over });

/** Samples by name and labels; a family that is not typed once before its samples is an error. */
function parse(text: string): { samples: Map<string, number>; types: Map<string, string> } {
  const [samples, types] = [new Map<string, number>(), new Map<string, string>()];
  let family = '';
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('# HELP ')) continue;
    const [, typed, type = ''] = /^# TYPE ([a-z_:]+) (gauge|counter)$/.exec(line) ?? [];
    if (typed !== undefined) {
      expect(types.has(typed), typed).toBe(false);
      types.set((family = typed), type);
      continue;
    }
    const match = /^([a-z_:]+)((?:\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+\})?) (\S+)$/.exec(line);
    expect(match?.[1], line).toBe(family);
    const key = `${match?.[1]}${match?.[2]}`;
    expect(samples.has(key), key).toBe(false);
    samples.set(key, Number(match?.[3]));
  }
  return { samples, types };
}

describe('a scrape', () => {
  test('tells of the fleet, its level, its breakers and its queue', async () => {
    const look = troubledLook();
    const { samples } = parse(await scrape(look.view, { events: { action: 3 }, runs: look.runs }));
    expect(
      Object.fromEntries([...samples].filter(([key]) => /^(holdfast_fleet|process|holdfast_build)_/.test(key))),
    ).toEqual({
      'holdfast_fleet_agents{state="healthy"}': 35,
      'holdfast_fleet_agents{state="degraded"}': 1,
      'holdfast_fleet_agents{state="unhealthy"}': 2,
      'holdfast_fleet_agents{state="starting"}': 1,
      'holdfast_fleet_agents{state="unknown"}': 1,
      'holdfast_fleet_breakers{state="closed"}': 38,
      'holdfast_fleet_breakers{state="open"}': 1,
      'holdfast_fleet_breakers{state="half-open"}': 0,
      'holdfast_fleet_breakers{state="forced-open"}': 1,
      'holdfast_fleet_breakers{state="disabled"}': 0,
      'holdfast_fleet_breakers{state="unreadable"}': 0,
      holdfast_fleet_level: 2,
      holdfast_fleet_level_change_timestamp_seconds: (NOW_MS - 240_000) / 1000,
      holdfast_fleet_watcher_last_seen_timestamp_seconds: (NOW_MS - 2000) / 1000,
      'holdfast_fleet_queue_commands{state="waiting"}': 4,
      'holdfast_fleet_queue_commands{state="running"}': 1,
      'holdfast_fleet_queue_commands{state="dead"}': 2,
      ...Object.fromEntries(
        [...samples]
          .filter(([key]) => key.startsWith('holdfast_fleet_events_total{'))
          .map(([key]) => [key, key.includes('"action"') ? 3 : 0]),
      ),
      'holdfast_build_info{version="1.2.3"}': 1,
      process_start_time_seconds: (NOW_MS - 60_000) / 1000,
      process_resident_memory_bytes: 50_000_000,
      process_cpu_seconds_total: 1.5,
    });
  });

  test('tells of each agent what it tells of itself, what its probes found, and what its host has on record', async () => {
    const look = troubledLook();
    const { samples } = parse(await scrape(look.view, { runs: look.runs }));
    const of = (agent: string) =>
      Object.fromEntries(
        [...samples]
          .filter(([key]) => key.includes(`agent="${agent}"`))
          .map(([key, value]) => [key.replace(`agent="${agent}"`, ''), value]),
      );
    expect(of('planner')).toMatchObject({
      'holdfast_agent_state{,state="unhealthy"}': 1,
      'holdfast_agent_state{,state="healthy"}': 0,
      'holdfast_agent_layer_ok{,layer="progress"}': 0,
      'holdfast_agent_layer_ok{,layer="live"}': 1,
      'holdfast_agent_queue_depth{}': 14,
      'holdfast_agent_context_used_ratio{}': 0.93,
      'holdfast_agent_memory_bytes{}': 1_400_000_000,
      'holdfast_agent_snapshot_timestamp_seconds{}': (NOW_MS - 3000) / 1000 - 3 * 3600,
    });
    expect(of('planner')).not.toHaveProperty('holdfast_agent_tasks_received_total{}');
    expect(of('router')).toMatchObject({
      'holdfast_agent_breaker_state{,state="open"}': 1,
      'holdfast_agent_critical{}': 1,
    });
    expect(of('archivist')).toMatchObject({
      'holdfast_last_backup_exit_code{}': 3,
      'holdfast_last_backup_backend_committed{,backend="cloud"}': 0,
      'holdfast_last_backup_bytes{,kind="read"}': 5_000_000,
      'holdfast_last_drill_recovery_seconds{}': 41.2,
      'holdfast_last_verify_damaged_objects{}': 0,
    });
  });

  test('leaves out what is not known, and makes no nothing of it', async () => {
    const view = fleetViewOf(
      [
        agentView('gone', { state: 'unknown' }),
        agentView('new', {
          state: 'starting',
          layers: { live: layer('starting', 'not yet') },
          stats: {},
          seenMs: null,
          lookedMs: 0,
        }),
        agentView('odd', { layers: {}, stats: { queueDepth: Number.NaN, tasksReceived: -1, errorRate: 0 } }),
      ],
      { watcher: null, level: null },
    );
    const { samples } = parse(await scrape(view));
    const names = (agent: string) =>
      [...samples.keys()]
        .filter((key) => key.includes(`agent="${agent}"`))
        .map((key) => key.slice(0, key.indexOf('{')));
    const always = ['breaker_failures', 'breaker_state', 'critical', 'quarantined', 'state'].map(
      (name) => `holdfast_agent_${name}`,
    );
    const known = (agent: string) => [...new Set(names(agent))].filter((name) => !always.includes(name)).toSorted();
    expect(known('gone')).toEqual([
      'holdfast_agent_last_look_timestamp_seconds',
      'holdfast_agent_last_seen_timestamp_seconds',
    ]);
    expect(known('new')).toEqual([]);
    expect(known('odd')).toEqual([
      'holdfast_agent_error_ratio',
      'holdfast_agent_last_look_timestamp_seconds',
      'holdfast_agent_last_seen_timestamp_seconds',
    ]);
    expect([...samples.keys()].filter((key) => /fleet_level|watcher_last/.test(key))).toEqual([]);
  });

  test('what only grows is a counter and is called _total, and nothing else is', async () => {
    const look = troubledLook();
    const { types } = parse(await scrape(look.view, { runs: look.runs }));
    expect(types.size).toBeGreaterThan(30);
    for (const [name, type] of types) expect(type, name).toBe(name.endsWith('_total') ? 'counter' : 'gauge');
  });

  test('is well formed whatever agents and backends are called', async () => {
    const word = fc.string({ unit: 'binary', minLength: 1 });
    await fc.assert(
      fc.asyncProperty(word, word, async (agent, backend) => {
        const run = { startedMs: 0, endedMs: 1000, seconds: 1, exitCode: 0, committed: { [backend]: true } };
        const { samples } = parse(
          await scrape(fleetViewOf([agentView(agent)]), { runs: new Map([[agent, { backup: run }]]) }),
        );
        expect(
          [...samples.keys()].filter((key) => key.startsWith('holdfast_last_backup_backend_committed')),
        ).toHaveLength(1);
      }),
      { numRuns: 20 },
    );
  });

  test('docs/monitoring.md lists exactly the metrics that there are', async () => {
    const look = troubledLook();
    const everything = {
      memoryBytes: 1,
      memoryLimitBytes: 2,
      contextUsed: 0.5,
      errorRate: 0.1,
      taskSeconds: 9,
      messagesSent: 1,
      messagesReceived: 1,
      lastActivityMs: 1,
      lastTaskMs: 1,
    };
    const view = {
      ...look.view,
      agents: look.view.agents.map((agent) => ({ ...agent, stats: { ...agent.stats, ...everything } })),
    };
    const { types } = parse(await scrape(view, { runs: look.runs }));
    const own = [...types.keys()].filter((name) => !name.startsWith('holdfast_last_'));
    const text = readFileSync(new URL('../../docs/monitoring.md', import.meta.url), 'utf8');
    const listed = [...text.matchAll(/^\| `((?:holdfast|process)_\w+)`/gm)].map(([, name]) => name);
    expect(listed.toSorted()).toEqual(own.toSorted());
  });

  test.skipIf(lacks('promtool', '--version'))('pleases promtool', async () => {
    const look = troubledLook();
    const check = await runTool(process.env)(
      'promtool',
      ['check', 'metrics'],
      await scrape(look.view, { runs: look.runs }),
    );
    expect(check).toMatchObject({ exitCode: 0, stderr: '' });
  });
});
