/**
 * A look at the fleet as Prometheus metrics. The names are part of what users rely on; docs/monitoring.md lists them, and a test holds the list to
 * this file.
 *
 * What is not known is left out: never a 0 that nobody saw, and nothing of an agent that was not looked at lately but that nothing is known of it.
 * A scrape is made of one view, so its numbers fit together, and in a registry of its own, so that no agent that has left the config stays.
 */
import { Counter, Gauge, Registry } from 'prom-client';
import { runMetrics } from '../operations/metrics.ts';
import type { Runs } from '../operations/host/runs.ts';
import { EVENT_KINDS, type EventKind } from './events.ts';
import {
  AGENT_STATES,
  type AgentStats,
  type AgentView,
  type FleetView,
  type Layer,
  type LayerHealth,
} from './health.ts';

export interface MetricsInput {
  view: FleetView;
  /** By agent: what its host remembers of its runs. */
  runs: ReadonlyMap<string, Runs>;
  /** Events since this process began to count. */
  events: Readonly<Partial<Record<EventKind, number>>>;
  /** Of the program that serves them. */
  own: { version: string; startedMs: number; cpuSeconds: number; residentBytes: number };
}

export const METRICS_CONTENT_TYPE: string = Registry.PROMETHEUS_CONTENT_TYPE;
const BREAKER_STATES: readonly AgentView['breaker']['state'][] = [
  'closed',
  'open',
  'half-open',
  'forced-open',
  'disabled',
  'unreadable',
];

interface Sample {
  labels?: Readonly<Record<string, string>>;
  value: number | undefined;
}

/** The text of a scrape. */
export async function renderFleetMetrics(input: MetricsInput): Promise<string> {
  const registry = new Registry();
  fleetMetrics(registry, input);
  agentMetrics(registry, input.view.agents);
  backupMetrics(registry, input);
  ownMetrics(registry, input.own);
  return registry.metrics();
}

function fleetMetrics(registry: Registry, { view, events }: MetricsInput): void {
  const count = <T extends string>(of: readonly T[], label: string, is: (agent: AgentView) => T): Sample[] =>
    of.map((one) => ({ labels: { [label]: one }, value: view.agents.filter((agent) => is(agent) === one).length }));
  const { watcher, level, queue } = view;
  gauge(
    registry,
    'holdfast_fleet_agents',
    'Agents of the config by state.',
    count(AGENT_STATES, 'state', (a) => a.state),
  );
  gauge(
    registry,
    'holdfast_fleet_breakers',
    'Agents of the config by the state of their breaker.',
    count(BREAKER_STATES, 'state', ({ breaker }) => breaker.state),
  );
  gauge(registry, 'holdfast_fleet_level', 'Level of degradation: 0 nominal, 1 reduced, 2 essential, 3 emergency.', [
    { value: level?.level },
  ]);
  gauge(registry, 'holdfast_fleet_level_change_timestamp_seconds', 'When the level was entered.', [
    { value: seconds(level?.sinceMs) },
  ]);
  gauge(
    registry,
    'holdfast_fleet_watcher_last_seen_timestamp_seconds',
    'The last sign of life of the watcher; absent when there is none.',
    [{ value: seconds(watcher?.seenMs) }],
  );
  gauge(registry, 'holdfast_fleet_queue_commands', 'Commands that wait to be run again, and dead letters.', [
    { labels: { state: 'waiting' }, value: queue.waiting },
    { labels: { state: 'running' }, value: queue.running },
    { labels: { state: 'dead' }, value: queue.dead },
  ]);
  counter(
    registry,
    'holdfast_fleet_events_total',
    'Entries of the log of events by kind, since this server was started.',
    EVENT_KINDS.map((kind) => ({ labels: { kind }, value: events[kind] ?? 0 })),
  );
}

function agentMetrics(registry: Registry, agents: readonly AgentView[]): void {
  const put = (
    make: typeof gauge,
    name: string,
    help: string,
    value: (agent: AgentView) => number | undefined | Sample[],
  ): void => {
    const samples = agents.flatMap((agent) => {
      const of = value(agent);
      const each = Array.isArray(of) ? of : [{ value: of }];
      return each.map((sample) => ({ labels: { agent: agent.name, ...sample.labels }, value: sample.value }));
    });
    make(registry, `holdfast_agent_${name}`, help, samples);
  };
  const oneOf = (of: readonly string[], is: string): Sample[] =>
    of.map((state) => ({ labels: { state }, value: Number(state === is) }));

  put(gauge, 'state', '1 for the state that the agent is in, else 0.', ({ state }) => oneOf(AGENT_STATES, state));
  put(gauge, 'critical', '1 when the others cannot do without it.', ({ critical }) => Number(critical));
  put(gauge, 'layer_ok', '1 when what is looked at is ok, 0 when it is down; absent while it starts.', (agent) =>
    isStale(agent)
      ? []
      : Object.entries(agent.layers).map(([layer, health]) => ({ labels: { layer }, value: isLayerOk(health) })),
  );
  put(gauge, 'last_seen_timestamp_seconds', 'When it was last seen to live and work.', (a) => seconds(a.seenMs));
  put(gauge, 'last_look_timestamp_seconds', 'When it was last looked at.', (a) => seconds(a.lookedMs || null));
  put(gauge, 'breaker_state', '1 for the state that its breaker is in, else 0.', ({ breaker }) =>
    oneOf(BREAKER_STATES, breaker.state),
  );
  put(gauge, 'breaker_failures', 'Failures in a row that its breaker has counted.', ({ breaker }) => breaker.failures);
  put(gauge, 'quarantined', '1 when it is in quarantine.', ({ quarantine }) => Number(quarantine !== null));

  const told = (of: (stats: AgentStats) => number | undefined) => (agent: AgentView) => of(statsOf(agent));
  put(
    counter,
    'tasks_received_total',
    'Tasks that it was given, as it tells.',
    told((s) => s.tasksReceived),
  );
  put(counter, 'tasks_completed_total', 'Tasks that it has ended, by status.', (agent) =>
    (['success', 'failure'] as const).map((status) => ({
      labels: { status },
      value: statsOf(agent).tasksCompleted?.[status],
    })),
  );
  put(
    gauge,
    'tasks_in_progress',
    'Tasks that it is at.',
    told((s) => s.tasksInProgress),
  );
  put(
    counter,
    'task_duration_seconds_total',
    'How long all completed tasks took together.',
    told((s) => s.taskSeconds),
  );
  put(
    counter,
    'messages_sent_total',
    'Messages that it has sent.',
    told((s) => s.messagesSent),
  );
  put(
    counter,
    'messages_received_total',
    'Messages that it has received.',
    told((s) => s.messagesReceived),
  );
  put(
    gauge,
    'queue_depth',
    'Tasks that wait for it.',
    told((s) => s.queueDepth),
  );
  put(
    gauge,
    'error_ratio',
    'The share of its tasks that failed, 0 to 1, over its own window; by its counters, of 5 in 5 minutes at least.',
    told((s) => s.errorRate),
  );
  put(
    gauge,
    'memory_bytes',
    'Memory that it uses.',
    told((s) => s.memoryBytes),
  );
  put(
    gauge,
    'memory_limit_bytes',
    'Memory that it may use.',
    told((s) => s.memoryLimitBytes),
  );
  put(
    gauge,
    'context_used_ratio',
    'The share of its context window that is used, 0 to 1.',
    told((s) => s.contextUsed),
  );
  put(
    gauge,
    'last_activity_timestamp_seconds',
    'When it last did something.',
    told((s) => seconds(s.lastActivityMs)),
  );
  put(
    gauge,
    'last_task_timestamp_seconds',
    'When it last ended a task.',
    told((s) => seconds(s.lastTaskMs)),
  );
}

/** By the repositories, and by the records of the host: the latter under the names that the textfile has. */
function backupMetrics(registry: Registry, { view, runs }: MetricsInput): void {
  const since = (layer: Layer) => (agent: AgentView) => ({
    labels: { agent: agent.name },
    value: isStale(agent) ? undefined : momentOf(agent.layers[layer]),
  });
  gauge(
    registry,
    'holdfast_agent_snapshot_timestamp_seconds',
    'When the newest snapshot was made that a backend holds.',
    view.agents.map(since('backup')),
  );
  gauge(
    registry,
    'holdfast_agent_drill_timestamp_seconds',
    'When the last drill that passed was made.',
    view.agents.map(since('drill')),
  );
  const families = new Map<string, { help: string; samples: Sample[] }>();
  for (const { name: agent } of view.agents) {
    for (const { name, help, samples } of runMetrics(runs.get(agent) ?? {})) {
      const family = families.get(name) ?? { help, samples: [] };
      family.samples.push(...samples.map(({ labels, value }) => ({ labels: { agent, ...labels }, value })));
      families.set(name, family);
    }
  }
  for (const [name, { help, samples }] of families) gauge(registry, name, help, samples);
}

/**
 * Four of our own by the names that every exporter uses. Those that prom-client makes by itself are left out: among them are gauges called
 * `_total`, and they start timers.
 */
function ownMetrics(registry: Registry, { version, startedMs, cpuSeconds, residentBytes }: MetricsInput['own']): void {
  gauge(registry, 'holdfast_build_info', 'The version of the program.', [{ labels: { version }, value: 1 }]);
  gauge(registry, 'process_start_time_seconds', 'When this server was started.', [{ value: startedMs / 1000 }]);
  gauge(registry, 'process_resident_memory_bytes', 'Memory that this server uses.', [{ value: residentBytes }]);
  counter(registry, 'process_cpu_seconds_total', 'Time on the processor that this server used.', [
    { value: cpuSeconds },
  ]);
}

function gauge(registry: Registry, name: string, help: string, samples: readonly Sample[]): void {
  const known = samples.filter(isKnown);
  if (known.length === 0) return;
  const labelNames = Object.keys(known[0]?.labels ?? {});
  const family = new Gauge({ name, help, labelNames, registers: [registry] });
  for (const { labels, value } of known) family.set({ ...labels }, value);
}

function counter(registry: Registry, name: string, help: string, samples: readonly Sample[]): void {
  // A counter that has gone below nothing was never one.
  const known = samples.filter(isKnown).filter(({ value }) => value >= 0);
  if (known.length === 0) return;
  const labelNames = Object.keys(known[0]?.labels ?? {});
  const family = new Counter({ name, help, labelNames, registers: [registry] });
  for (const { labels, value } of known) family.inc({ ...labels }, value);
}

const isKnown = (sample: Sample): sample is Sample & { value: number } =>
  sample.value !== undefined && Number.isFinite(sample.value);

/** That it is looked at, and was not for too long: what was known of it then is not known now. */
export function isStale({ state, layers }: AgentView): boolean {
  return state === 'unknown' && Object.keys(layers).length > 0;
}

const statsOf = (agent: AgentView): AgentStats => {
  if (isStale(agent)) return {};
  const { stats, layers } = agent;
  // What a probe of its own has measured, where the agent tells nothing.
  const measured = (layer: Layer) => (isStaleLayer(layers[layer]) ? undefined : layers[layer]?.last.value);
  return {
    ...stats,
    ...given('queueDepth', stats.queueDepth ?? measured('queue')),
    ...given('errorRate', stats.errorRate ?? measured('errors')),
    ...given('memoryBytes', stats.memoryBytes ?? measured('memory')),
  };
};

const given = <K extends keyof AgentStats>(key: K, value: number | undefined): AgentStats =>
  value === undefined ? {} : { [key]: value };

const isStaleLayer = (health: LayerHealth | undefined): boolean => health?.last.absent === true;

/** Not yet known while it starts. */
export function isLayerOk({ status }: LayerHealth): 0 | 1 | undefined {
  if (status === 'starting') return undefined;
  return status === 'ok' || status === 'failing' ? 1 : 0;
}

/** Of a layer whose value is an age in seconds. */
export function momentOf(health: LayerHealth | undefined): number | undefined {
  if (health?.last.value === undefined) return undefined;
  return health.last.atMs / 1000 - health.last.value;
}

function seconds(ms: number | null | undefined): number | undefined {
  return ms === null || ms === undefined ? undefined : ms / 1000;
}
