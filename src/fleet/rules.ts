/**
 * What a watchdog does about an agent: rules, and the decision which of them act now. Pure: what is known of the agents and what was done before
 * comes in, decisions with their evidence come out. What keeps it from doing harm stands here, too:
 *
 * - an agent that is healthy, or of which nothing fresh is known, is left alone;
 * - at most a share of the fleet is touched at once;
 * - of one agent one action at a time; after it the agent has its time to settle, and the rule a cool-down;
 * - after so many tries a person is told, and the rule is through with that agent until it was well for a while;
 * - when many went down together, it may be the watcher that is cut off: then nothing is touched.
 */
import { formatDuration } from '../units.ts';
import { isDown, VITAL, type AgentHealth, type Layer, type LayerHealth, type Quarantine } from './health.ts';
import type { LeftRunning } from './left-running.ts';

export const ACTIONS = ['notify', 'restart', 'scale', 'open_breaker', 'restore_state', 'quarantine'] as const;
export type Action = (typeof ACTIONS)[number];
/** Whether they leave the agent as it is. */
export const areHarmless = (actions: readonly Action[]): boolean => actions.every((one) => one === 'notify');

export type Trigger =
  /** The layer is down, or was never seen, for so long; of `progress` the age of the last progress counts, where it is known. */
  | { kind: 'down'; layer: Layer; forMs: number }
  /** The agent tells that it has tasks and no activity. Only where no `progress` is looked at. */
  | { kind: 'idle'; forMs: number }
  /** Tasks; or a share from 0 to 1. */
  | { kind: 'over'; what: 'queue' | 'errors' | 'memory'; limit: number; forMs: number }
  /** Other rules have used up their tries, and what they are there for has not gone away. */
  | { kind: 'spent'; rules: readonly string[] };

export interface Rule {
  name: string;
  /** Any of them. */
  when: readonly Trigger[];
  /** In their order; when one fails, those after it are not done. */
  actions: readonly Action[];
  /** Between two tries. */
  coolDownMs: number;
  /** Then it is escalated, once. */
  tries: number;
  escalate: readonly Action[];
  /** Default: all. */
  agents?: 'critical' | readonly string[] | undefined;
}

export interface RuleSettings {
  /** Of two that are due the first one acts. */
  rules: readonly Rule[];
  /** Share of the fleet (0 to 1) that is touched at once; one agent may always be. */
  maxTouched: number;
  /** How long an agent that was touched has to become well again; until it is, it counts as touched. */
  settleMs: number;
  /** Tries are forgotten when the reason was gone for so long. */
  forgetMs: number;
  /** What is known of an agent and older than that is no reason to act. */
  staleMs: number;
  /** More than this share of the fleet (0 to 1), and at least `SUSPECT_LEAST`, down within so long: the watcher may be the one that is cut off. */
  suspect: { over: number; withinMs: number } | null;
}

const MINUTE_MS = 60_000;
/** In a fleet of two, both down is no sign of anything. */
export const SUSPECT_LEAST = 3;

export const USUAL_RULES: readonly Rule[] = [
  {
    ...{ name: 'dead', when: [{ kind: 'down', layer: 'live', forMs: 0 }], actions: ['restart'] },
    ...{ coolDownMs: 2 * MINUTE_MS, tries: 3, escalate: ['notify'] },
  },
  {
    name: 'stuck',
    when: [
      { kind: 'down', layer: 'progress', forMs: 15 * MINUTE_MS },
      { kind: 'idle', forMs: 15 * MINUTE_MS },
    ],
    ...{ actions: ['restart'], coolDownMs: 15 * MINUTE_MS, tries: 3, escalate: ['notify'] },
  },
  {
    ...{ name: 'queue', when: [{ kind: 'over', what: 'queue', limit: 10, forMs: 0 }], actions: ['scale'] },
    ...{ coolDownMs: 5 * MINUTE_MS, tries: 100, escalate: ['notify'] },
  },
  {
    name: 'errors',
    when: [{ kind: 'over', what: 'errors', limit: 0.2, forMs: 0 }],
    ...{ actions: ['open_breaker', 'notify'], coolDownMs: 5 * MINUTE_MS, tries: 3, escalate: ['notify'] },
  },
  {
    ...{ name: 'corrupted', when: [{ kind: 'spent', rules: ['dead', 'stuck'] }], actions: ['restore_state'] },
    ...{ coolDownMs: 10 * MINUTE_MS, tries: 1, escalate: ['notify'] },
  },
  {
    ...{ name: 'quarantine', when: [{ kind: 'spent', rules: ['corrupted'] }], actions: ['quarantine', 'notify'] },
    ...{ coolDownMs: 10 * MINUTE_MS, tries: 1, escalate: [] },
  },
];

export const USUAL_SETTINGS: RuleSettings = {
  rules: USUAL_RULES,
  maxTouched: 0.2,
  settleMs: 2 * MINUTE_MS,
  forgetMs: 30 * MINUTE_MS,
  staleMs: MINUTE_MS,
  suspect: { over: 0.5, withinMs: MINUTE_MS },
};

/** What was done to an agent before: kept in the store, so that it outlives the watcher. Times in milliseconds since the Unix epoch. */
export interface AgentMemory {
  rules: Readonly<Record<string, RuleMemory>>;
  /** Written before it is begun. */
  underWay?: UnderWay | undefined;
  /** When the last action that touched it ended. */
  touchedMs?: number | undefined;
  /** What it was last scaled to; 1 at first. */
  replicas?: number | undefined;
}

export interface RuleMemory {
  tries: number;
  lastMs: number;
  escalatedMs?: number | undefined;
  /** Since when its reason is gone. */
  calmMs?: number | undefined;
  /** Since when a number is over its limit. */
  overMs?: number | undefined;
}

export interface UnderWay {
  rule: string;
  actions: readonly Action[];
  sinceMs: number;
  /** The watcher. */
  by: string;
  /** Its last command, written before that was begun. */
  command?: LeftRunning | undefined;
}

export const NO_MEMORY: AgentMemory = { rules: {} };

export interface RuledAgent {
  health: AgentHealth;
  quarantine: Quarantine | null;
  memory: AgentMemory;
  /** What the config says how to do. */
  can: ReadonlySet<Action>;
  /** The most replicas. */
  maxReplicas?: number | undefined;
}

/**
 * Why a rule that was due did not act: what is known is old; the agent is in quarantine; it is being acted on or has its time to settle; the rule
 * has its cool-down; enough others are touched; the watcher may be cut off; it was well when looked at once more.
 */
export type Held = 'stale' | 'quarantine' | 'settling' | 'cool_down' | 'cap' | 'watcher' | 'recovered';
export type Evidence = Readonly<Record<string, string | number | boolean | null>>;

export type Decision = {
  agent: string;
  rule: string;
  /** For a person: 'live is down for 40 s: connection refused'. */
  reason: string;
  evidence: Evidence;
} & (
  | { type: 'act' | 'escalate'; actions: readonly Action[]; /** From 1. */ try: number; tries: number }
  | { type: 'held'; why: Held }
);

export interface Decided {
  decisions: Decision[];
  /** Of agents whose memory is another one now. */
  memories: Map<string, AgentMemory>;
  /** Names of those that went down together, when that is suspicious. */
  suspect: readonly string[];
}

/** At most one `act` or `escalate` for each agent. The longest down come first, critical agents before all others. */
export function decide(agents: readonly RuledAgent[], settings: RuleSettings, nowMs: number): Decided {
  const suspect = downTogether(agents, settings);
  const memories = new Map<string, AgentMemory>();
  const touched = new Set(agents.filter((agent) => isTouched(agent, settings, nowMs)).map(({ health }) => health.name));
  const most = Math.max(1, Math.floor(settings.maxTouched * agents.length));
  const decisions: Decision[] = [];
  for (const agent of inOrder(agents)) {
    const { name } = agent.health;
    const memory = remembered(agent, settings, nowMs);
    if (memory !== agent.memory) memories.set(name, memory);
    const now = { ...agent, memory };
    for (const rule of settings.rules) {
      const found = due(now, rule, settings, nowMs);
      if (!found) continue;
      const decision = judge(now, rule, found, settings, nowMs);
      if (!decision) continue;
      const isHarmless = decision.type === 'held' || areHarmless(decision.actions);
      const held = (why: Held, evidence: Evidence): Decision => {
        const { agent: of, reason, evidence: before } = decision;
        return { agent: of, rule: rule.name, reason, evidence: { ...before, ...evidence }, type: 'held', why };
      };
      if (isHarmless) decisions.push(decision);
      else if (suspect.length > 0)
        decisions.push(held('watcher', { downTogether: suspect.length, agents: agents.length }));
      else if (!touched.has(name) && touched.size >= most)
        decisions.push(held('cap', { touched: touched.size, mayBeTouched: most }));
      else {
        touched.add(name);
        decisions.push(decision);
      }
      break;
    }
  }
  return { decisions, memories, suspect };
}

/** Whether a look just now, without hysteresis, still gives the rule a reason. */
export function isStillDue(fresh: AgentHealth, rule: Rule, { rules }: Pick<RuleSettings, 'rules'>): boolean {
  const isSo = (one: Rule, seen: readonly string[]): boolean =>
    one.when.some((trigger) => {
      switch (trigger.kind) {
        case 'down': {
          const layer = fresh.layers[trigger.layer];
          return layer !== undefined && !layer.last.ok;
        }
        case 'over': {
          const value = numberOf(fresh, trigger.what);
          return value !== undefined && value > trigger.limit;
        }
        case 'idle':
          return isIdle(fresh, trigger.forMs, fresh.lookedMs);
        case 'spent':
          return rules.some(
            (other) =>
              trigger.rules.includes(other.name) && !seen.includes(other.name) && isSo(other, [...seen, other.name]),
          );
      }
    });
  return isSo(rule, [rule.name]);
}

/** What is remembered when a rule begins to act: written before anything is done. */
export function begun(
  memory: AgentMemory,
  decision: Extract<Decision, { type: 'act' | 'escalate' }>,
  by: string,
  nowMs: number,
): AgentMemory {
  const { rule, actions, type } = decision;
  const before = memory.rules[rule] ?? { tries: 0, lastMs: nowMs };
  const after: RuleMemory =
    type === 'act'
      ? { ...before, tries: before.tries + 1, lastMs: nowMs, calmMs: undefined }
      : { ...before, escalatedMs: nowMs, calmMs: undefined };
  return { ...memory, rules: { ...memory.rules, [rule]: after }, underWay: { rule, actions, sinceMs: nowMs, by } };
}

/** … and when it has ended, whatever came of it. */
export function ended(memory: AgentMemory, nowMs: number, more: Pick<AgentMemory, 'replicas'> = {}): AgentMemory {
  const { underWay, ...rest } = memory;
  const isTouched = underWay !== undefined && !areHarmless(underWay.actions);
  return { ...rest, ...more, ...(isTouched && { touchedMs: nowMs }) };
}

function inOrder(agents: readonly RuledAgent[]): RuledAgent[] {
  return agents.toSorted(({ health: a }, { health: b }) => {
    if (a.critical !== b.critical) return a.critical ? -1 : 1;
    return a.sinceMs - b.sinceMs || (a.name < b.name ? -1 : 1);
  });
}

/** Under way, or not yet well again. */
function isTouched({ health, memory }: RuledAgent, { settleMs }: RuleSettings, nowMs: number): boolean {
  if (memory.underWay) return true;
  return (
    isSettling(memory, settleMs, nowMs) && (health.state !== 'healthy' || health.lookedMs <= (memory.touchedMs ?? 0))
  );
}

function isSettling({ touchedMs }: AgentMemory, settleMs: number, nowMs: number): boolean {
  // A clock that was set back does not make it longer.
  return touchedMs !== undefined && nowMs - touchedMs < settleMs && touchedMs <= nowMs + settleMs;
}

interface Due {
  reason: string;
  evidence: Evidence;
}

function appliesTo({ health }: RuledAgent, { agents }: Rule): boolean {
  return agents === undefined || (agents === 'critical' ? health.critical : agents.includes(health.name));
}

/** Why the rule is due, if it is. */
function due(
  agent: RuledAgent,
  rule: Rule,
  settings: RuleSettings,
  nowMs: number,
  seen: readonly string[] = [],
): Due | undefined {
  if (!appliesTo(agent, rule)) return undefined;
  for (const trigger of rule.when) {
    const found = met(agent, rule, trigger, settings, nowMs, [...seen, rule.name]);
    if (found) return found;
  }
  return undefined;
}

function met(
  agent: RuledAgent,
  rule: Rule,
  trigger: Trigger,
  settings: RuleSettings,
  nowMs: number,
  seen: readonly string[],
): Due | undefined {
  const { health, memory } = agent;
  switch (trigger.kind) {
    case 'down': {
      const layer = health.layers[trigger.layer];
      if (!layer || !isDown(layer)) return undefined;
      const ms = downMs(layer, trigger.layer, nowMs);
      if (ms < trigger.forMs) return undefined;
      const word = layer.status === 'unseen' ? 'was never ok' : `is down for ${formatDuration(ms)}`;
      return {
        reason: `${trigger.layer} ${word}: ${layer.last.evidence}`,
        evidence: {
          ...{ layer: trigger.layer, status: layer.status, seconds: Math.round(ms / 1000), failures: layer.failures },
          ...{ allowedSeconds: Math.round(trigger.forMs / 1000), seen: layer.last.evidence },
        },
      };
    }
    case 'idle': {
      if (!isIdle(health, trigger.forMs, nowMs)) return undefined;
      const ms = nowMs - (health.stats.lastActivityMs ?? nowMs);
      return {
        reason: `no activity for ${formatDuration(ms)}, with tasks at hand`,
        evidence: { seconds: Math.round(ms / 1000), allowedSeconds: Math.round(trigger.forMs / 1000) },
      };
    }
    case 'over': {
      const value = numberOf(health, trigger.what);
      if (value === undefined || value <= trigger.limit) return undefined;
      const overMs = memory.rules[rule.name]?.overMs ?? nowMs;
      if (nowMs - overMs < trigger.forMs) return undefined;
      const [is, may] = [value, trigger.limit].map((one) =>
        trigger.what === 'queue' ? String(one) : `${Math.round(one * 1000) / 10} %`,
      );
      const what = { queue: 'the queue has', errors: 'the error rate is', memory: 'memory in use is' }[trigger.what];
      const unit = trigger.what === 'queue' ? ' tasks' : '';
      return {
        reason: `${what} ${is}${unit}, more than ${may}`,
        evidence: { what: trigger.what, value, limit: trigger.limit },
      };
    }
    case 'spent': {
      for (const other of settings.rules) {
        if (!trigger.rules.includes(other.name) || seen.includes(other.name)) continue;
        const before = memory.rules[other.name];
        if (!before || before.tries < other.tries || isCooling(before, other, nowMs)) continue;
        const still = due(agent, other, settings, nowMs, seen);
        if (!still) continue;
        const reason = `${other.name} was tried ${before.tries} times in vain; ${still.reason}`;
        return { reason, evidence: { ...still.evidence, triedInVain: other.name, tries: before.tries } };
      }
      return undefined;
    }
  }
}

function downMs({ sinceMs, last }: LayerHealth, layer: Layer, nowMs: number): number {
  const since = Math.max(0, nowMs - sinceMs);
  return layer === 'progress' && last.value !== undefined ? Math.max(since, last.value * 1000) : since;
}

function isIdle({ layers, stats }: AgentHealth, forMs: number, nowMs: number): boolean {
  if (layers.progress || stats.lastActivityMs === undefined || isFailing(layers.live)) return false;
  return (stats.tasksInProgress ?? 0) > 0 && nowMs - stats.lastActivityMs >= forMs;
}

/** Numbers of an agent that is not there are old ones. */
function numberOf({ layers, stats }: AgentHealth, what: 'queue' | 'errors' | 'memory'): number | undefined {
  if (isFailing(layers.live) || isFailing(layers.ready)) return undefined;
  if (what === 'queue') return layers.queue?.last.value ?? stats.queueDepth;
  if (what === 'errors') return layers.errors?.last.value ?? stats.errorRate;
  const { memoryBytes, memoryLimitBytes } = stats;
  return memoryBytes !== undefined && memoryLimitBytes ? memoryBytes / memoryLimitBytes : undefined;
}

const isFailing = (layer: LayerHealth | undefined): boolean => layer !== undefined && !layer.last.ok;

function isCooling({ lastMs }: RuleMemory, { coolDownMs }: Rule, nowMs: number): boolean {
  return nowMs - lastMs < coolDownMs && lastMs <= nowMs + coolDownMs;
}

/** What to do about a rule that is due, the others left aside; undefined: it has nothing to do any more, or nothing it could do. */
function judge(agent: RuledAgent, rule: Rule, found: Due, settings: RuleSettings, nowMs: number): Decision | undefined {
  const { health, memory, quarantine } = agent;
  const before = memory.rules[rule.name];
  const common = { agent: health.name, rule: rule.name, ...found };
  const held = (why: Held): Decision => ({ ...common, type: 'held', why });
  const isFull = rule.actions.includes('scale') && (memory.replicas ?? 1) >= (agent.maxReplicas ?? 1);
  const lacking = rule.actions.find((one) => !agent.can.has(one));
  const isSpent = isFull || lacking !== undefined || (before?.tries ?? 0) >= rule.tries;
  if (isSpent && (before?.escalatedMs !== undefined || rule.escalate.length === 0)) return undefined;
  // Restoring is for those whose config says how: the rules before it have told a person already.
  if (lacking !== undefined && rule.when.every(({ kind }) => kind === 'spent')) return undefined;
  if (health.state === 'unknown' || nowMs - health.lookedMs > settings.staleMs) return held('stale');
  if (quarantine) return held('quarantine');
  if (memory.underWay) return held('settling');
  if (isSettling(memory, settings.settleMs, nowMs) || health.lookedMs < (memory.touchedMs ?? 0))
    return held('settling');
  if (before && before.tries > 0 && isCooling(before, rule, nowMs)) return held('cool_down');
  if (!isSpent) {
    const tries = { try: (before?.tries ?? 0) + 1, tries: rule.tries };
    return { ...common, type: 'act', actions: rule.actions, ...tries };
  }
  const why =
    lacking !== undefined
      ? `the config does not say how: ${lacking}`
      : isFull
        ? `it has ${memory.replicas ?? 1} replicas already, and may have no more`
        : `tried ${before?.tries ?? 0} times in vain`;
  return {
    ...{ ...common, type: 'escalate', actions: rule.escalate, try: before?.tries ?? 0, tries: rule.tries },
    ...{ reason: `${found.reason} (${why})`, evidence: { ...found.evidence, why } },
  };
}

/** Since when numbers are over, since when reasons are gone, and what is forgotten by now. */
function remembered(agent: RuledAgent, settings: RuleSettings, nowMs: number): AgentMemory {
  const { memory, health } = agent;
  const rules: Record<string, RuleMemory> = { ...memory.rules };
  let isChanged = false;
  const set = (name: string, value: RuleMemory | undefined): void => {
    isChanged = true;
    if (value) rules[name] = value;
    else delete rules[name];
  };
  for (const rule of settings.rules) {
    const before = rules[rule.name];
    const isOver = rule.when.some(
      (one) => one.kind === 'over' && appliesTo(agent, rule) && (numberOf(health, one.what) ?? 0) > one.limit,
    );
    if (isOver && before?.overMs === undefined && rule.when.some((one) => one.kind === 'over' && one.forMs > 0))
      set(rule.name, { tries: 0, lastMs: nowMs, ...before, overMs: nowMs });
    else if (!isOver && before?.overMs !== undefined) {
      const { overMs: _over, ...rest } = before;
      set(rule.name, rest.tries > 0 || rest.escalatedMs !== undefined ? rest : undefined);
    }
    const now = rules[rule.name];
    if (!now || (now.tries === 0 && now.escalatedMs === undefined)) continue;
    const isDue = due({ ...agent, memory: { ...memory, rules } }, rule, settings, nowMs) !== undefined;
    if (isDue) {
      if (now.calmMs !== undefined) set(rule.name, { ...now, calmMs: undefined });
    } else if (now.calmMs === undefined || now.calmMs > nowMs) set(rule.name, { ...now, calmMs: nowMs });
    else if (nowMs - now.calmMs >= settings.forgetMs) set(rule.name, undefined);
  }
  for (const name of Object.keys(rules)) if (!settings.rules.some((rule) => rule.name === name)) set(name, undefined);
  return isChanged ? { ...memory, rules } : memory;
}

/** Those whose vital layers stopped being ok within one window, when they are suspiciously many. */
function downTogether(agents: readonly RuledAgent[], { suspect }: RuleSettings): readonly string[] {
  if (!suspect) return [];
  const bad = agents
    .flatMap(({ health }) => {
      const since = VITAL.flatMap((layer) => {
        const one = health.layers[layer];
        return one && (isDown(one) || one.status === 'failing') ? [one.sinceMs] : [];
      });
      return since.length > 0 ? [{ name: health.name, sinceMs: Math.min(...since) }] : [];
    })
    .toSorted((a, b) => a.sinceMs - b.sinceMs);
  const least = Math.max(SUSPECT_LEAST, suspect.over * agents.length);
  let most: readonly string[] = [];
  for (let from = 0, to = 0; to < bad.length; to++) {
    while ((bad[to]?.sinceMs ?? 0) - (bad[from]?.sinceMs ?? 0) > suspect.withinMs) from++;
    if (to - from + 1 > most.length) most = bad.slice(from, to + 1).map(({ name }) => name);
  }
  return most.length >= least && most.length > suspect.over * agents.length ? most : [];
}
