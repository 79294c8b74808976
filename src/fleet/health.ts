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
export type LayerStatus = 'ok' | 'failing' | 'down' | 'recovering' | 'starting' | 'unseen';

export interface LayerHealth {
  status: LayerStatus;
  sinceMs: number;
  /** Observations in a row that were not ok, or were. One of the two is 0. */
  failures: number;
  successes: number;
  last: Observation;
}

/**
 * - `healthy`: every layer is ok (`failing` counts as ok: not enough of it yet)
 * - `degraded`: a layer that is not vital is down
 * - `unhealthy`: a vital layer is down (or recovering), or unseen
 * - `starting`: a vital layer is starting, none is down
 * - `unknown`: nothing is looked at, or what is known is too old to say anything
 */
export type AgentState = 'healthy' | 'degraded' | 'unhealthy' | 'starting' | 'unknown';

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
  /** When a vital layer was last ok; null: never. */
  seenMs: number | null;
  /** When it was last looked at. */
  lookedMs: number;
  /** What the agent tells of itself, if it does, whatever the layers make of it. */
  stats: AgentStats;
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
  /** 0 to 1, over the agent's own window. */
  errorRate?: number;
  memoryBytes?: number;
  memoryLimitBytes?: number;
  /** 0 to 1. */
  contextUsed?: number;
  lastActivityMs?: number;
  lastTaskMs?: number;
}

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
  queue: { waiting: number; running: number; dead: number };
}

export interface AgentView extends AgentHealth {
  breaker: { state: BreakerState['kind']; failures: number; retryAtMs?: number };
  quarantine: Quarantine | null;
}
