/**
 * What is known of the agents of a fleet: the words that probes, watchdog, degradation, metrics and commands share. Plain data, written to the
 * store as JSON; times in milliseconds since the Unix epoch.
 *
 *     probe --observation--> layer (hysteresis) --> agent --> fleet --> level
 */
import type { BreakerState } from '../policy/breaker.ts';

/**
 * What is looked at. The first three are layers of health: does it run, could it work, does it get anywhere. `backup` and `drill`: are they fresh;
 * `queue`, `errors`, `memory`: numbers the agent tells, against a limit.
 */
export const LAYERS = ['live', 'ready', 'progress', 'backup', 'drill', 'queue', 'errors', 'memory'] as const;
export type Layer = (typeof LAYERS)[number];
/** An agent of which one of these is down is unhealthy; where it is another, it is degraded. */
export const VITAL: readonly Layer[] = ['live', 'ready', 'progress'];

/** What one probe saw, once. */
export interface Observation {
  ok: boolean;
  /** For a person: 'HTTP 503 from …', 'HEARTBEAT.md is 14 min old, more than 10 min'. No secrets, one line, at most `EVIDENCE_MAX_CHARACTERS`. */
  evidence: string;
  atMs: number;
  tookMs: number;
  /** That there is nothing there that was ever there: never answered, the file does not exist. Such an agent may still be starting. */
  absent?: true;
  /** What was measured, where a number was: queue depth (tasks), error rate (0 to 1), memory (bytes), age (seconds). */
  value?: number;
}

export const EVIDENCE_MAX_CHARACTERS = 300;

/**
 * - `ok`, `down`: after enough observations in a row (`ProbePolicy`)
 * - `failing`: was ok, and the last observations were not, fewer than `failures`
 * - `recovering`: was down, and the last observations were ok, fewer than `successes`
 * - `starting`: nothing good was seen yet, and the grace of the start is not over
 * - `unseen`: expected, never seen, and the grace is over
 */
export const LAYER_STATUSES = ['ok', 'failing', 'down', 'recovering', 'starting', 'unseen'] as const;
export type LayerStatus = (typeof LAYER_STATUSES)[number];

export interface LayerHealth {
  status: LayerStatus;
  sinceMs: number;
  /** Observations in a row that were not ok, or were. One of the two is 0. */
  failures: number;
  successes: number;
  last: Observation;
  /** When it was last ok; absent: never. */
  okMs?: number;
}

/** How one layer is looked at. Times in milliseconds. */
export interface LayerPolicy {
  intervalMs: number;
  /** A look that takes longer is one that is not ok. */
  timeoutMs: number;
  /** The grace of the start: so long nothing bad is said of what was never ok. */
  startupMs: number;
  /** So many looks in a row that are not ok bring it down. */
  failures: number;
  /** So many that are ok bring it up again. */
  successes: number;
}

/**
 * - `healthy`: every layer is ok (`failing` counts as ok: not enough of it yet)
 * - `unhealthy`: a vital layer is down, recovering or unseen
 * - `degraded`: another one is
 * - `starting`: a layer is starting, none is worse
 * - `unknown`: nothing is looked at, or what is known is too old to say anything
 */
export const AGENT_STATES = ['healthy', 'degraded', 'unhealthy', 'starting', 'unknown'] as const;
export type AgentState = (typeof AGENT_STATES)[number];

/** Of the last 30 minutes: at least 95 % of the looks ok, at least 70 %, fewer; `none` where there are fewer than three. */
export type Trend = 'healthy' | 'degrading' | 'unhealthy' | 'none';

export interface AgentHealth {
  name: string;
  critical: boolean;
  state: AgentState;
  sinceMs: number;
  /** Only those that the config asks for. */
  layers: Partial<Record<Layer, LayerHealth>>;
  /** The last `HISTORY_MAX` looks, oldest first: when, and whether every vital layer was ok. */
  history: { atMs: number; ok: boolean }[];
  trend: Trend;
  /** When a vital layer was last ok (any layer, where none is vital); null: never. */
  seenMs: number | null;
  /** When it was last looked at; 0: never. */
  lookedMs: number;
  /** What the agent tells of itself, if it does, whatever the layers make of it. */
  stats: AgentStats;
  /** Of what was read from the store: which looks it is by (`AgentSpec.asked`). */
  asked?: string;
}

export const HISTORY_MAX = 100;

/** Numbers that the agent itself tells (`stats` in the config). Absent: not told. Counters only grow while the agent runs. */
export interface AgentStats {
  queueDepth?: number;
  tasksReceived?: number;
  tasksCompleted?: Partial<Record<'success' | 'failure', number>>;
  tasksInProgress?: number;
  /** Of all completed tasks together. */
  taskSeconds?: number;
  messagesSent?: number;
  messagesReceived?: number;
  /** 0 to 1, over the agent's own window; or made of `tasksCompleted`, where there were `RATE_LEAST_TASKS` or none. */
  errorRate?: number;
  memoryBytes?: number;
  memoryLimitBytes?: number;
  /** 0 to 1. */
  contextUsed?: number;
  lastActivityMs?: number;
  lastTaskMs?: number;
}

/** Of fewer tasks in the window no error rate is made: with the usual limit of 20 % a single one that failed would be too many. */
export const RATE_LEAST_TASKS = 5;

/** Why an agent gets no work, and whose decision that was. */
export interface Quarantine {
  sinceMs: number;
  reason: string;
}

/** What a look at the whole fleet comes to: what `fleet status` shows, rules and degradation go by, and metrics tell. */
export interface FleetView {
  atMs: number;
  /** By a watcher that runs now (`seenMs`: its last sign of life), or null: whoever asked has looked for itself, once, without hysteresis. */
  watcher: { host: string; pid: number; seenMs: number } | null;
  /** 0 nominal to 3 emergency; null while nobody watches. */
  level: { level: 0 | 1 | 2 | 3; sinceMs: number; reasons: string[] } | null;
  agents: AgentView[];
  /** Of `breaker queue`. */
  queue: { waiting: number; running: number; dead: number; unreadable?: number };
}

export interface AgentView extends AgentHealth {
  breaker: { state: BreakerState['kind'] | 'unreadable'; failures: number; retryAtMs?: number };
  quarantine: Quarantine | null;
  /** That the watcher looks at it as another config says: what it knows is not what was asked for, and the state is `unknown`. */
  isOfOtherConfig?: true;
}

/** One look at an agent: what was seen of the layers that were due, and what it told of itself, where it was asked. */
export interface Look {
  atMs: number;
  layers: Partial<Record<Layer, Observation>>;
  /** Absent: not asked. What was told before is forgotten when it was asked and told nothing. */
  stats?: AgentStats;
}

/** What is known of an agent before the first look: nothing, and the grace of its start begins. */
export function unlooked(name: string, critical: boolean, layers: readonly Layer[], nowMs: number): AgentHealth {
  return expecting(
    {
      ...{ name, critical, state: 'unknown', sinceMs: nowMs, layers: {}, history: [], trend: 'none' },
      ...{ seenMs: null, lookedMs: 0, stats: {} },
    },
    layers,
    nowMs,
  );
}

/** The same agent, of which exactly these layers are asked for. Those that are new start; a state that is unknown stays so. */
export function expecting(health: AgentHealth, layers: readonly Layer[], nowMs: number): AgentHealth {
  const last: Observation = { ok: false, evidence: 'not looked at yet', atMs: nowMs, tookMs: 0, absent: true };
  const fresh: LayerHealth = { status: 'starting', sinceMs: nowMs, failures: 0, successes: 0, last };
  const asked = { ...health, layers: pick(layers, (layer) => health.layers[layer] ?? fresh) };
  return judged(asked, nowMs);
}

/**
 * What was known when somebody last watched, for who watches now. When nobody has for longer than the grace of a start, the host may have
 * been off, and whatever was well gets that grace again.
 */
export function resumed(
  known: AgentHealth,
  { critical, policies }: { critical: boolean; policies: Partial<Record<Layer, LayerPolicy>> },
  nowMs: number,
): AgentHealth {
  const asked = LAYERS.filter((layer) => policies[layer]);
  const layers: AgentHealth['layers'] = {};
  for (const layer of asked) {
    const [before, policy] = [known.layers[layer], policies[layer]];
    if (!before || !policy) continue;
    const isGap = nowMs - before.last.atMs > Math.max(policy.startupMs, 3 * policy.intervalMs);
    const wasWell = before.status === 'ok' || before.status === 'failing' || before.status === 'starting';
    layers[layer] =
      isGap && wasWell ? { ...before, status: 'starting', sinceMs: nowMs, failures: 0, successes: 0 } : before;
  }
  return expecting({ ...known, critical, layers }, asked, nowMs);
}

/** What is known after a look. The table is in docs/fleet.md. Layers that `health` does not have are passed over. */
export function observe(
  health: AgentHealth,
  { atMs, layers, stats }: Look,
  policyOf: (layer: Layer) => Pick<LayerPolicy, 'startupMs' | 'failures' | 'successes'>,
): AgentHealth {
  const next = { ...health.layers };
  let isVital = false;
  for (const layer of LAYERS) {
    const [before, seen] = [next[layer], layers[layer]];
    if (!before || !seen) continue;
    next[layer] = layerAfter(before, seen, policyOf(layer));
    isVital ||= VITAL.includes(layer);
  }
  const counting = countingLayers(next);
  const isLook = isVital || counting.some((layer) => layers[layer]);
  const isWell = counting.every((layer) => next[layer]?.last.ok);
  const isSeen = counting.some((layer) => layers[layer]?.ok);
  const after: AgentHealth = {
    ...health,
    layers: next,
    history: isLook ? [...health.history, { atMs, ok: isWell }].slice(-HISTORY_MAX) : health.history,
    seenMs: isSeen ? atMs : health.seenMs,
    lookedMs: atMs,
    ...(stats && { stats }),
  };
  return judged(after, atMs);
}

/** Those that history and `seenMs` go by. */
function countingLayers(layers: AgentHealth['layers']): readonly Layer[] {
  const asked = LAYERS.filter((layer) => layers[layer]);
  const vital = asked.filter((layer) => VITAL.includes(layer));
  return vital.length > 0 ? vital : asked;
}

function layerAfter(
  before: LayerHealth,
  last: Observation,
  policy: Pick<LayerPolicy, 'startupMs' | 'failures' | 'successes'>,
): LayerHealth {
  const failures = last.ok ? 0 : before.failures + 1;
  const successes = last.ok ? before.successes + 1 : 0;
  const okMs = last.ok ? last.atMs : before.okMs;
  const counted = { failures, successes, last, ...(okMs !== undefined && { okMs }) };
  const status = statusAfter(before, counted, policy);
  return { status, sinceMs: status === before.status ? before.sinceMs : last.atMs, ...counted };
}

function statusAfter(
  { status, sinceMs, okMs }: LayerHealth,
  { failures, successes, last }: Pick<LayerHealth, 'failures' | 'successes' | 'last'>,
  policy: Pick<LayerPolicy, 'startupMs' | 'failures' | 'successes'>,
): LayerStatus {
  switch (status) {
    case 'starting':
    case 'unseen':
      if (last.ok) return 'ok';
      // Where it begins at a time to come, the clock was set back: that is no longer grace.
      if (status === 'starting' && Math.abs(last.atMs - sinceMs) < policy.startupMs) return 'starting';
      return last.absent && okMs === undefined ? 'unseen' : 'down';
    case 'ok':
    case 'failing':
      if (last.ok) return 'ok';
      return failures < policy.failures ? 'failing' : 'down';
    case 'down':
    case 'recovering':
      if (!last.ok) return 'down';
      return successes < policy.successes ? 'recovering' : 'ok';
  }
}

function judged(health: AgentHealth, nowMs: number): AgentHealth {
  const state = stateOf(health.layers);
  const sinceMs = state === health.state ? health.sinceMs : nowMs;
  return { ...health, state, sinceMs, trend: trendOf(health.history, nowMs) };
}

/** It is not there, or does not do what it should, after as many looks as that takes. */
export function isDown({ status }: Pick<LayerHealth, 'status'>): boolean {
  return status === 'down' || status === 'unseen';
}

/** Nothing good can be said of it: from `down` to `ok`, by way of `recovering`. */
export function isBad(layer: Pick<LayerHealth, 'status'>): boolean {
  return isDown(layer) || layer.status === 'recovering';
}

export function stateOf(layers: AgentHealth['layers']): AgentState {
  const asked = LAYERS.flatMap((layer) => (layers[layer] ? [{ layer, status: layers[layer].status }] : []));
  if (asked.length === 0) return 'unknown';
  const bad = asked.filter(isBad);
  if (bad.some(({ layer }) => VITAL.includes(layer))) return 'unhealthy';
  if (bad.length > 0) return 'degraded';
  return asked.some(({ status }) => status === 'starting') ? 'starting' : 'healthy';
}

export const TREND_MS = 30 * 60_000;
const TREND_LOOKS_MIN = 3;

export function trendOf(history: AgentHealth['history'], nowMs: number): Trend {
  let [looks, ok] = [0, 0];
  for (const one of history) {
    if (one.atMs <= nowMs - TREND_MS || one.atMs > nowMs) continue;
    looks++;
    if (one.ok) ok++;
  }
  if (looks < TREND_LOOKS_MIN) return 'none';
  return ok >= 0.95 * looks ? 'healthy' : ok >= 0.7 * looks ? 'degrading' : 'unhealthy';
}

/** What became too old to say anything by. */
export function forgotten(health: AgentHealth, nowMs: number): AgentHealth {
  return health.state === 'unknown' ? health : { ...health, state: 'unknown', sinceMs: nowMs };
}

function pick<K extends string, V>(keys: readonly K[], valueOf: (key: K) => V): Partial<Record<K, V>> {
  return Object.fromEntries(keys.map((key) => [key, valueOf(key)])) as Partial<Record<K, V>>;
}
