/** What is known of the whole fleet: by whoever watches it, or by a look at it now. */
import type { Clock } from '../clock.ts';
import { CLOSED } from '../policy/breaker.ts';
import { retryAt, type Breakers } from './breakers.ts';
import { LEVEL_KEY, readLevel } from './degradation.ts';
import {
  expecting,
  forgotten,
  isBad,
  LAYERS,
  unlooked,
  type AgentHealth,
  type AgentView,
  type FleetView,
} from './health.ts';
import { readHealth, readWatcher } from './health-store.ts';
import { Prober, type AgentSpec } from './prober.ts';
import { quarantines } from './quarantine.ts';
import type { RetryQueue } from './queue.ts';
import type { StateStore } from './store.ts';

export interface ViewOptions {
  store: StateStore;
  breakers: Breakers;
  queue: RetryQueue;
  /** All agents of the config. */
  agents: readonly AgentSpec[];
  /** Of these alone. */
  names?: readonly string[] | undefined;
  /** Looks by itself also where somebody watches. */
  now?: boolean | undefined;
  /** How long such a look may take. */
  deadlineMs: number;
}

export const DEADLINE_MS = 5000;

/** Agents in the order of the config. @throws as the store does; `interrupted` */
export async function fleetView(options: ViewOptions, clock: Clock, signal: AbortSignal): Promise<FleetView> {
  const { store, breakers, queue, names, deadlineMs } = options;
  const agents = options.agents.filter(({ name }) => names?.includes(name) ?? true);
  const watcher = await readWatcher(store, clock.now());
  const isWatched = watcher !== null && !options.now;
  const healths = isWatched
    ? await known(store, agents, clock.now())
    : await new Prober(agents, { clock }).once(deadlineMs, signal);
  const states = new Map((await breakers.list(agents.map(({ name }) => name))).map((view) => [view.agent, view.state]));
  const held = await quarantines(store);
  const level = await store.get(LEVEL_KEY);
  return {
    atMs: clock.now(),
    watcher: isWatched ? { host: watcher.host, pid: watcher.pid, seenMs: watcher.seenMs } : null,
    level: watcher && level ? levelIn(level.value) : null,
    agents: healths.map((health): AgentView => {
      const state = states.get(health.name) ?? CLOSED;
      const retryAtMs = state.kind === 'unreadable' ? undefined : retryAt(state);
      const failures = 'failures' in state ? state.failures : 0;
      return {
        ...health,
        breaker: { state: state.kind, failures, ...(retryAtMs !== undefined && { retryAtMs }) },
        quarantine: held.get(health.name) ?? null,
      };
    }),
    queue: await queue.count(),
  };
}

/** What the watcher has written, of the layers that the config asks for now. */
async function known(
  store: StateStore,
  agents: readonly AgentSpec[],
  nowMs: number,
): Promise<(AgentHealth & Pick<AgentView, 'isOfOtherConfig'>)[]> {
  const byName = new Map((await readHealth(store, nowMs)).map((health) => [health.name, health]));
  return agents.map(({ name, critical, layers, asked: digest }) => {
    const asked = LAYERS.filter((layer) => layers[layer]);
    const health = byName.get(name);
    if (!health) return unlooked(name, critical, asked, nowMs);
    if (health.asked !== digest) return { ...forgotten(health, nowMs), isOfOtherConfig: true };
    return health.state === 'unknown' ? health : expecting({ ...health, critical }, asked, nowMs);
  });
}

function levelIn(value: string): FleetView['level'] {
  const state = readLevel(value);
  return state ? { level: state.level, sinceMs: state.sinceMs, reasons: [...state.reasons] } : null;
}

/** Why an agent is not well, the most important first; nothing where it is. One line each, without its name. */
export function problemsOf({ state, layers, breaker, quarantine, isOfOtherConfig }: AgentView): string[] {
  const problems: string[] = [];
  const asked = LAYERS.flatMap((layer) => (layers[layer] ? [{ layer, health: layers[layer] }] : []));
  if (state === 'unknown') {
    problems.push(
      isOfOtherConfig
        ? 'the watcher has read another config than this: start again what is older'
        : asked.length === 0
          ? 'nothing says how to look at it'
          : 'it was not looked at for too long',
    );
  } else {
    for (const { layer, health } of asked) {
      const isNamed = isBad(health) || (state === 'starting' && health.status === 'starting');
      const status = health.status === 'down' ? '' : `${health.status}: `;
      if (isNamed) problems.push(`${layer}: ${status}${health.last.evidence}`);
    }
  }
  if (quarantine) problems.push(`in quarantine: ${quarantine.reason}`);
  else if (breaker.state === 'forced-open') problems.push('breaker: opened by hand');
  if (breaker.state === 'open' || breaker.state === 'half-open') problems.push(`breaker: ${breaker.state}`);
  if (breaker.state === 'unreadable')
    problems.push('breaker: what is stored of it cannot be read; no call is let through');
  return problems;
}
