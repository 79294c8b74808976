/**
 * Looks at every agent again and again. Layers with the same interval are looked at together; never two such looks at one agent at once, and
 * one that is slow delays nobody else.
 */
import type { Clock } from '../clock.ts';
import { HoldfastError, isHoldfastError, messageOf, throwIfAborted } from '../errors.ts';
import { withDeadline } from '../policy/deadline.ts';
import { formatDuration } from '../units.ts';
import {
  LAYERS,
  observe,
  resumed,
  unlooked,
  type AgentHealth,
  type Layer,
  type LayerPolicy,
  type Look,
  type Observation,
} from './health.ts';
import { absent, failed, observation, type Finding, type Probe, type StatsProbe, type Told } from './probes/probe.ts';
import { Slots } from './probes/slots.ts';

/** An agent as it is looked at: what the config asks for, made into probes. */
export interface AgentSpec {
  name: string;
  critical: boolean;
  layers: Partial<Record<Layer, LayerSpec>>;
  /** A digest of what is looked at: what was seen by another one says nothing. */
  asked?: string;
  /** Where its numbers come from. */
  stats?: { ask: StatsProbe; intervalMs: number; timeoutMs: number; cost: Cost };
}

/** By a probe, or by what the agent tells of itself, or by both. */
export interface LayerSpec {
  policy: LayerPolicy;
  probe?: Probe;
  cost: Cost;
  /** What to make of it. `told` is undefined where the agent was not asked, or too long ago. */
  judge?: (seen: Finding | undefined, told: Told | undefined, nowMs: number) => Finding;
}

/** What a look takes of this host: a socket or a file, a process, or the reading of a repository. */
export type Cost = 'light' | 'process' | 'heavy';

/** Of all agents together: looks at once. */
const AT_ONCE: Readonly<Record<Cost, number>> = { light: 512, process: 32, heavy: 4 };
/** First looks are spread over so much time at most. */
const SPREAD_MAX_MS = 10_000;
/** Looks are begun together, so many times in the shortest interval: of a thousand agents, waking up for each costs as much as the looks. */
const TICKS_PER_INTERVAL = 40;
const TICK_MS = { least: 20, most: 250 };
/** Probes end at once when told to. */
const STOP_GRACE_MS = 100;
/** A timer that goes off so much too late: this process did not run meanwhile, or was busy. */
const LATE_TIMER_MS = 20;
/** A time limit that was noticed so much later says that this process did not run, and nothing about the agent. */
const FROZEN_MS = 1000;

interface Group {
  layers: readonly Layer[];
  asksStats: boolean;
  intervalMs: number;
  dueMs: number;
  isRunning: boolean;
}

interface Watched {
  spec: AgentSpec;
  health: AgentHealth;
  groups: Group[];
  /** What it told last, by the monotonic clock. */
  told?: { told: Told; atMs: number };
}

export class Prober {
  readonly #agents: Watched[];
  readonly #clock: Clock;
  /** For how long this process stood still, together, and until when that was looked at; by the monotonic clock. */
  #stoodStill = { ms: 0, untilMs: 0 };

  /** @param known what an earlier watcher knew; of other agents it is passed over */
  constructor(agents: readonly AgentSpec[], { clock }: { clock: Clock }, known: readonly AgentHealth[] = []) {
    const before = new Map(known.map((health) => [health.name, health]));
    this.#clock = clock;
    this.#agents = agents.map((spec) => {
      const health = before.get(spec.name);
      return { spec, health: health ? takenUp(health, spec, clock.now()) : fresh(spec, clock.now()), groups: [] };
    });
  }

  /** Of every agent, in the order given. */
  health(): AgentHealth[] {
    return this.#agents.map(({ health }) => health);
  }

  get specs(): readonly AgentSpec[] {
    return this.#agents.map(({ spec }) => spec);
  }

  /** Looks until the signal is aborted, and tells after each look. Resolves when the last look has ended. */
  async run(looked: (health: AgentHealth, before: AgentHealth) => void, signal: AbortSignal): Promise<void> {
    const clock = this.#clock;
    const slots = slotsOf();
    const running = new Set<Promise<void>>();
    const startMs = clock.monotonic();
    let broken: unknown;
    const stop = new AbortController();
    const forward = () => stop.abort(signal.reason);
    signal.addEventListener('abort', forward, { once: true });
    if (signal.aborted) forward();
    this.#agents.forEach((agent, i) => {
      agent.groups = groupsOf(agent.spec, startMs, i / this.#agents.length);
    });
    let shortestMs = Infinity;
    for (const { groups } of this.#agents)
      for (const { intervalMs } of groups) shortestMs = Math.min(shortestMs, intervalMs);
    const tickMs = Math.min(TICK_MS.most, Math.max(TICK_MS.least, shortestMs / TICKS_PER_INTERVAL));
    const begin = (agent: Watched, group: Group): void => {
      group.isRunning = true;
      const work = this.#look(agent, group, slots, stop.signal)
        .then((look) => {
          if (!look) return;
          const before = agent.health;
          agent.health = observe(before, look, policyOf(agent.spec));
          looked(agent.health, before);
        })
        .catch((error: unknown) => {
          if (isHoldfastError(error, 'interrupted')) return;
          broken ??= error;
          stop.abort();
        })
        .finally(() => {
          group.isRunning = false;
          running.delete(work);
        });
      running.add(work);
    };
    while (!stop.signal.aborted) {
      const nowMs = clock.monotonic();
      let nextMs = Infinity;
      for (const agent of this.#agents) {
        for (const group of agent.groups) {
          if (group.dueMs <= nowMs) {
            if (!group.isRunning) begin(agent, group);
            // After a pause of this process the looks go on in their rhythm; those that were missed are not made up for.
            const missed = Math.floor((nowMs - group.dueMs) / group.intervalMs);
            group.dueMs += (missed + 1) * group.intervalMs;
          }
          nextMs = Math.min(nextMs, group.dueMs);
        }
      }
      if (nextMs === Infinity) nextMs = nowMs + SPREAD_MAX_MS; // nothing is looked at: a fleet without probes
      const wakeMs = Math.max(clock.monotonic() + tickMs, nextMs);
      await clock.sleep(wakeMs - clock.monotonic(), stop.signal).catch(() => {});
      this.#noteTimer(wakeMs);
    }
    await Promise.all(running);
    signal.removeEventListener('abort', forward);
    if (broken !== undefined) throw broken;
  }

  /**
   * Looks once at all, or those named, and waits for nobody longer than `deadlineMs`: who has not answered by then is not well. Without
   * grace and without waiting for a second look: what is not ok now is down. Changes nothing of what `health` tells.
   *
   * @throws `interrupted`
   */
  async once(
    deadlineMs: number,
    signal: AbortSignal,
    names?: readonly string[],
    only: readonly Layer[] = LAYERS,
  ): Promise<AgentHealth[]> {
    throwIfAborted(signal);
    const clock = this.#clock;
    const slots = slotsOf();
    const over = new AbortController();
    const forward = () => over.abort(signal.reason);
    signal.addEventListener('abort', forward, { once: true });
    const asked = this.#agents.filter(({ spec }) => names?.includes(spec.name) ?? true);
    const looks = Promise.all(
      asked.map(async ({ spec: whole }) => {
        const nowMs = clock.now();
        const layers = only.filter((layer) => whole.layers[layer]);
        const spec = { ...whole, layers: Object.fromEntries(layers.map((layer) => [layer, whole.layers[layer]])) };
        const agent: Watched = { spec, health: fresh(spec, nowMs), groups: [] };
        const all = { layers, asksStats: spec.stats !== undefined, limitMs: deadlineMs };
        const look = await this.#look(agent, all, slots, over.signal);
        return observe(agent.health, withoutPast(look, nowMs), () => AT_ONCE_POLICY);
      }),
    );
    try {
      return await looks;
    } finally {
      over.abort();
      signal.removeEventListener('abort', forward);
    }
  }

  /** Told of a timer that should have gone off at `dueMs`. Of a pause that several of them have seen only what is new counts. */
  #noteTimer(dueMs: number): void {
    const nowMs = this.#clock.monotonic();
    const sinceMs = Math.max(dueMs, this.#stoodStill.untilMs);
    if (nowMs - sinceMs > LATE_TIMER_MS)
      this.#stoodStill = { ms: this.#stoodStill.ms + nowMs - sinceMs, untilMs: nowMs };
  }

  /** @returns undefined where nothing was learned. @throws `interrupted` */
  async #look(
    agent: Watched,
    { layers, asksStats, limitMs }: { layers: readonly Layer[]; asksStats: boolean; limitMs?: number },
    slots: Record<Cost, Slots>,
    signal: AbortSignal,
  ): Promise<Look | undefined> {
    const { spec } = agent;
    const clock = this.#clock;
    const endMs = limitMs === undefined ? undefined : clock.monotonic() + limitMs;
    /** Undefined: this process did not run. */
    const within = async <T>(
      call: (signal: AbortSignal) => Promise<T>,
      { cost, timeoutMs }: { cost: Cost; timeoutMs: number },
      late: (evidence: string) => T,
    ): Promise<T | undefined> => {
      const limited = endMs === undefined ? undefined : Math.max(0, endMs - clock.monotonic());
      const release = await slots[cost].take(clock, limited, signal);
      if (!release) return late(`not looked at within ${formatDuration(limitMs ?? 0)}: too many looks at once`);
      try {
        const ms = Math.max(1, Math.min(timeoutMs, endMs === undefined ? Infinity : endMs - clock.monotonic()));
        const startMs = clock.monotonic();
        const stoodStillMs = this.#stoodStill.ms;
        let wakeMs = startMs + ms;
        let givenMs = 0;
        /** What this process missed is no fault of the agent; but it ends some time, and in `once` in time. */
        const extend = (): Promise<number> => {
          this.#noteTimer(wakeMs);
          const missedMs = Math.min(this.#stoodStill.ms - stoodStillMs, ms) - givenMs;
          const moreMs = Math.max(0, Math.min(missedMs, (endMs ?? Infinity) - clock.monotonic()));
          givenMs += moreMs;
          wakeMs = clock.monotonic() + moreMs;
          return Promise.resolve(moreMs);
        };
        const options = { clock, ms, extend, graceMs: STOP_GRACE_MS, signal, expired };
        const outcome = await withDeadline(call, options).catch((error: unknown) => {
          if (error !== LATE) throw error;
          return LATE;
        });
        if (outcome !== LATE) return outcome as T;
        const isFrozen = clock.monotonic() - startMs > ms + givenMs + FROZEN_MS;
        return isFrozen ? undefined : late(`no answer within ${formatDuration(ms)}`);
      } finally {
        release();
      }
    };

    const startMs = clock.monotonic();
    const { stats } = spec;
    const asking = (async (): Promise<Told | undefined> => {
      if (!stats || !asksStats) return undefined;
      const told = await within(orProblem(stats.ask), stats, (problem): Told => ({ stats: {}, problem, absent: true }));
      if (told) agent.told = { told, atMs: clock.monotonic() };
      return told;
    })();
    const seeing = layers.map(async (layer): Promise<readonly [Layer, Observation | undefined]> => {
      const one = spec.layers[layer];
      if (!one) return [layer, undefined];
      const { probe, judge, policy, cost } = one;
      let seen = probe && (await within(neverThrowing(probe), { cost, timeoutMs: policy.timeoutMs }, absent));
      if (probe && !seen) return [layer, undefined];
      if (judge) {
        await asking;
        const fresh = agent.told && clock.monotonic() - agent.told.atMs <= STALE_INTERVALS * (stats?.intervalMs ?? 0);
        seen = judge(seen, fresh ? agent.told?.told : undefined, clock.now());
      }
      return [layer, observation(seen ?? failed('nothing says how to look'), clock, startMs)];
    });
    const [pairs, numbers] = await Promise.all([Promise.all(seeing), asking]);
    const observed = pairs.filter((pair): pair is [Layer, Observation] => pair[1] !== undefined);
    if (observed.length === 0 && !numbers) return undefined;
    return { atMs: clock.now(), layers: Object.fromEntries(observed), ...(numbers && { stats: numbers.stats }) };
  }
}

/** What was told so many intervals ago says nothing any more. */
const STALE_INTERVALS = 3;
const AT_ONCE_POLICY = { startupMs: 0, failures: 1, successes: 1 };

const LATE = new HoldfastError('backend_unavailable', 'no answer');
const expired = () => LATE;

/** Whether there was ever anything there cannot be told from one look. */
function withoutPast(look: Look | undefined, nowMs: number): Look {
  if (!look) return { atMs: nowMs, layers: {} };
  const layers = Object.entries(look.layers).map(([layer, { absent: _untold, ...one }]) => [layer, one]);
  return { ...look, layers: Object.fromEntries(layers) as Look['layers'] };
}

function neverThrowing(probe: Probe): Probe {
  return (signal) => caught(() => probe(signal), signal, failed);
}

function orProblem(ask: StatsProbe): StatsProbe {
  return (signal) =>
    caught(
      () => ask(signal),
      signal,
      (problem) => ({ stats: {}, problem }),
    );
}

async function caught<T>(call: () => Promise<T>, signal: AbortSignal, problem: (what: string) => T): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throwIfAborted(signal);
    return problem(messageOf(error));
  }
}

function slotsOf(): Record<Cost, Slots> {
  return {
    light: new Slots(AT_ONCE.light),
    process: new Slots(AT_ONCE.process),
    heavy: new Slots(AT_ONCE.heavy),
  };
}

function policiesOf(spec: AgentSpec): Partial<Record<Layer, LayerPolicy>> {
  return Object.fromEntries(Object.entries(spec.layers).map(([layer, { policy }]) => [layer, policy]));
}

function policyOf(spec: AgentSpec) {
  return (layer: Layer) => spec.layers[layer]?.policy ?? AT_ONCE_POLICY;
}

function fresh(spec: AgentSpec, nowMs: number): AgentHealth {
  return unlooked(
    spec.name,
    spec.critical,
    LAYERS.filter((layer) => spec.layers[layer]),
    nowMs,
  );
}

function takenUp(known: AgentHealth, spec: AgentSpec, nowMs: number): AgentHealth {
  if (known.asked !== spec.asked) return fresh(spec, nowMs);
  return resumed(known, { critical: spec.critical, policies: policiesOf(spec) }, nowMs);
}

function groupsOf(spec: AgentSpec, startMs: number, share: number): Group[] {
  const byInterval = new Map<number, { layers: Layer[]; asksStats: boolean }>();
  const at = (intervalMs: number) => {
    const one = byInterval.get(intervalMs) ?? { layers: [], asksStats: false };
    byInterval.set(intervalMs, one);
    return one;
  };
  for (const layer of LAYERS) {
    const one = spec.layers[layer];
    if (one) at(one.policy.intervalMs).layers.push(layer);
  }
  if (spec.stats) at(spec.stats.intervalMs).asksStats = true;
  return [...byInterval].map(([intervalMs, one]) => ({
    ...one,
    intervalMs,
    dueMs: startMs + share * Math.min(intervalMs, SPREAD_MAX_MS),
    isRunning: false,
  }));
}
