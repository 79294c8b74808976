/** From config, environment and this host to what the server shows and does. */
import type { AgentAges } from '../../fleet/alerts.ts';
import { appendEvent, readEvents, type EventKind, type FleetEvent } from '../../fleet/events.ts';
import { readWatcher } from '../../fleet/health-store.ts';
import type { AgentSpec } from '../../fleet/prober.ts';
import { fleetView } from '../../fleet/view.ts';
import { readRuns, type Runs } from '../../operations/host/runs.ts';
import type { Seams } from '../../operations/seams.ts';
import type { BreakerCommand } from '../../policy/breaker.ts';
import { loadConfig, type Config } from '../config.ts';
import { runsPath } from '../run-report.ts';
import type { Fleet } from './context.ts';
import type { FleetLook } from './serve/looks.ts';
import type { ServeSources } from './serve/server.ts';
import { statusResult } from './status.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface ServeHost {
  env: Environment;
  version: string;
  /** Of this process. */
  usage: () => { cpuSeconds: number; residentBytes: number };
  log: (line: string) => void;
}

const EVENTS_SHOWN = 200;
/** Of more than so many between two looks the first are not counted. */
const EVENTS_COUNTED = 2000;
/** Less than the page has, so that what was found by then is shown. */
const LOOK_MS = 5000;

export function serveSources(
  config: Config,
  fleet: Fleet,
  agents: readonly AgentSpec[],
  { env, version, usage, log }: ServeHost,
  seams: Seams,
): ServeSources {
  const { store, breakers, queue } = fleet;
  const { clock, random } = seams;
  const startedMs = clock.now();
  const events = new EventCount(startedMs);
  const command = async (agent: string, what: BreakerCommand, message: string) => {
    const { state } = await breakers.command(agent, what);
    await appendEvent({ store, clock, random }, { kind: 'breaker', agent, message: `${message}, now ${state.kind}` });
  };
  return {
    look: async (signal): Promise<FleetLook> => {
      const view = await fleetView({ store, breakers, queue, agents, deadlineMs: LOOK_MS }, clock, signal);
      const { events: last } = await readEvents(store, { limit: EVENTS_COUNTED });
      return { view, runs: runsOf(config, env), events: last.slice(-EVENTS_SHOWN), counted: events.with(last) };
    },
    statusJson: ({ view }) => statusResult(view),
    trip: (agent, reason) => command(agent, { type: 'trip', reason }, `trip on the page: ${reason}`),
    reset: (agent) => command(agent, { type: 'reset' }, 'reset on the page'),
    watcher: () => readWatcher(store, clock.now()),
    own: () => ({ version, startedMs, ...usage() }),
    log: (line) => log(`${new Date(clock.now()).toISOString()} ${line}`),
  };
}

/** What this host remembers of the runs of each agent's config. */
function runsOf({ fleet }: Config, env: Environment): Map<string, Runs> {
  const agents = Object.entries(fleet?.watched ?? {});
  return new Map(
    agents.flatMap(([name, { backup, drill }]) => {
      const path = backup?.config ?? drill?.config;
      return path === undefined ? [] : [[name, readRuns(runsPath(env, path))] as const];
    }),
  );
}

/** So much later than it says that it happened an event may come into the log. */
const LATE_MS = 60_000;

/** Counts each event once, from the start of this process. */
export class EventCount {
  /** From where on events may be new. */
  #sinceMs: number;
  readonly #counts: Partial<Record<EventKind, number>> = {};
  #seen = new Set<string>();

  constructor(startedMs: number) {
    this.#sinceMs = startedMs;
  }

  /** @param events the last ones, oldest first */
  with(events: readonly FleetEvent[]): Partial<Record<EventKind, number>> {
    const seen = new Set<string>();
    const sinceMs = this.#sinceMs;
    for (const event of events) {
      if (event.atMs < sinceMs) continue;
      const key = JSON.stringify(event);
      if (!this.#seen.has(key)) this.#counts[event.kind] = (this.#counts[event.kind] ?? 0) + 1;
      seen.add(key);
      this.#sinceMs = Math.max(this.#sinceMs, event.atMs - LATE_MS);
    }
    this.#seen = seen;
    return { ...this.#counts };
  }
}

/** What the config of the fleet, and those of the agents, ask for. What cannot be read asks for nothing: the layer that reads it is down. */
export async function agentAges({ fleet }: Config): Promise<AgentAges[]> {
  const ages: AgentAges[] = [];
  for (const [name, { backup, drill }] of Object.entries(fleet?.watched ?? {})) {
    const own = async (path: string | undefined) =>
      path === undefined ? undefined : loadConfig(path).catch(() => undefined);
    const [ofBackup, ofDrill] = [await own(backup?.config), await own(drill?.config)];
    const backupMs = backup && (backup.withinMs ?? ofBackup?.drill?.rpoMs);
    const drillMs = ofDrill?.drill?.everyMs;
    ages.push({
      name,
      ...(backupMs !== undefined && { backupSeconds: backupMs / 1000 }),
      ...(drillMs !== undefined && { drillSeconds: drillMs / 1000 }),
    });
  }
  return ages;
}
