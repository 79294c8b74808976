/**
 * How far a fleet can still be relied on: 0 nominal, 1 reduced, 2 essential, 3 emergency. A higher level is entered at once; a level is left for
 * the one below it after a time of calm. The table stands in docs/watchdog.md.
 *
 * Pure: what the agents are comes in, and the next state comes out.
 */
import type { BreakerState } from '../policy/breaker.ts';
import type { AgentHealth, Quarantine } from './health.ts';

export type Level = 0 | 1 | 2 | 3;
export const LEVELS = ['nominal', 'reduced', 'essential', 'emergency'] as const;
export type LevelName = (typeof LEVELS)[number];

/** What a trigger looks at. */
export interface LevelAgent {
  health: Pick<AgentHealth, 'name' | 'critical' | 'state' | 'sinceMs'>;
  breaker: BreakerState['kind'] | 'unreadable';
  quarantine: Quarantine | null;
}

/**
 * Of which agents how many are out.
 * - `unhealthy`: for so long at least; or in quarantine
 * - `breaker`: its breaker is not closed (nor disabled)
 * - `out`: one of the two
 */
export interface LevelTrigger {
  /** Who counts. Names: those that carry the messages, say. */
  agents: 'all' | 'critical' | 'specialists' | readonly string[];
  is: 'unhealthy' | 'breaker' | 'out';
  forMs: number;
  /** At least so many of them; or more than this share (0 to 1), or all of them. */
  count: { least: number } | { over: number } | 'all';
}

export interface LevelRule {
  level: 1 | 2 | 3;
  /** Any of them. */
  when: readonly LevelTrigger[];
  enter?: string | undefined;
  leave?: string | undefined;
}

export interface DegradationSettings {
  rules: readonly LevelRule[];
  /** How long it has to be calm before a level is left. */
  holdMs: number;
}

/** What is kept of it (key `level`): the level, and which behaviours are still to be run. */
export interface LevelState {
  level: Level;
  sinceMs: number;
  reasons: string[];
  /** Since when a lower level would do; null while it would not. */
  calmMs: number | null;
  /** Behaviours of the last changes, in their order. `begun`: one that was under way when its watcher ended is not run again. */
  todo: readonly Behaviour[];
}

export interface Behaviour {
  do: 'enter' | 'leave';
  level: 1 | 2 | 3;
  before: Level;
  after: Level;
  reasons: readonly string[];
  begun?: true;
}

export const LEVEL_KEY = 'level';
const MINUTE_MS = 60_000;
const SEVERAL = 3;
const REASONS_MAX = 10;
const NAMES_SHOWN = 5;

/** @param messaging names of the agents that carry the messages */
export function usualLevels(messaging: readonly string[] = []): LevelRule[] {
  const isMessaging = messaging.length > 0;
  return [
    {
      level: 1,
      when: [
        { agents: 'all', is: 'breaker', forMs: 0, count: { least: 1 } },
        { agents: 'all', is: 'unhealthy', forMs: 5 * MINUTE_MS, count: { least: 1 } },
      ],
    },
    {
      level: 2,
      when: [
        { agents: 'all', is: 'out', forMs: 0, count: { least: SEVERAL } },
        ...(isMessaging ? [{ agents: messaging, is: 'out', forMs: 0, count: { least: 1 } } as const] : []),
      ],
    },
    {
      level: 3,
      when: [
        { agents: 'critical', is: 'out', forMs: 0, count: { least: 1 } },
        { agents: 'all', is: 'unhealthy', forMs: 0, count: { over: 0.5 } },
        ...(isMessaging ? [{ agents: messaging, is: 'out', forMs: 0, count: 'all' } as const] : []),
      ],
    },
  ];
}

export const USUAL_HOLD_MS = 5 * MINUTE_MS;

/** What the agents ask for now, whatever it was before. */
export function levelAskedFor(
  agents: readonly LevelAgent[],
  rules: readonly LevelRule[],
  nowMs: number,
): { level: Level; reasons: string[] } {
  let level: Level = 0;
  let reasons: string[] = [];
  for (const rule of rules.toSorted((a, b) => a.level - b.level)) {
    const met = rule.when.flatMap((trigger) => reasonOf(trigger, agents, nowMs) ?? []);
    if (met.length > 0) [level, reasons] = [rule.level, met];
  }
  return { level, reasons: reasons.slice(0, REASONS_MAX) };
}

function reasonOf({ agents: who, is, forMs, count }: LevelTrigger, agents: readonly LevelAgent[], nowMs: number) {
  const among = agents.filter(({ health }) => isAmong(health, who));
  const isUnhealthy = ({ health, quarantine }: LevelAgent) =>
    quarantine !== null || (health.state === 'unhealthy' && nowMs - health.sinceMs >= forMs);
  const isRefused = ({ breaker }: LevelAgent) => breaker !== 'closed' && breaker !== 'disabled';
  const met = among.filter((agent) => {
    if (is === 'unhealthy') return isUnhealthy(agent);
    return isRefused(agent) || (is === 'out' && isUnhealthy(agent));
  });
  const isMet =
    count === 'all'
      ? among.length > 0 && met.length === among.length
      : 'least' in count
        ? met.length >= count.least
        : met.length > count.over * among.length;
  if (!isMet || met.length === 0) return undefined;
  const what = is === 'breaker' ? 'with their breaker open' : is === 'unhealthy' ? 'unhealthy' : 'out';
  const kind = who === 'critical' ? 'critical agents' : 'agents';
  const names = met.slice(0, NAMES_SHOWN).map(({ health }) => health.name);
  const more = met.length > NAMES_SHOWN ? ', …' : '';
  return `${met.length} of ${among.length} ${kind} ${what}: ${names.join(', ')}${more}`;
}

function isAmong({ name, critical }: LevelAgent['health'], who: LevelTrigger['agents']): boolean {
  if (who === 'all') return true;
  if (who === 'critical') return critical;
  if (who === 'specialists') return !critical;
  return who.includes(name);
}

export function nominal(nowMs: number): LevelState {
  return { level: 0, sinceMs: nowMs, reasons: [], calmMs: null, todo: [] };
}

/**
 * The state after what is asked for now. What comes out is the very object that went in where nothing changes that is to be kept. On the way up
 * the behaviours of each level between are entered, too: each level is left by itself.
 */
export function nextLevel(
  state: LevelState,
  asked: { level: Level; reasons: readonly string[] },
  { rules, holdMs }: DegradationSettings,
  nowMs: number,
): LevelState {
  const reasons = [...asked.reasons];
  const todo = (kind: Behaviour['do'], level: 1 | 2 | 3, after: Level): Behaviour[] =>
    rules.some((rule) => rule.level === level && rule[kind] !== undefined)
      ? [{ do: kind, level, before: state.level, after, reasons }]
      : [];
  if (asked.level > state.level) {
    const entered = ([1, 2, 3] as const).filter((one) => one > state.level && one <= asked.level);
    const added = entered.flatMap((one) => todo('enter', one, asked.level));
    return { level: asked.level, sinceMs: nowMs, reasons, calmMs: null, todo: [...state.todo, ...added] };
  }
  if (asked.level === state.level) {
    const isSame = state.calmMs === null && reasons.join('\n') === state.reasons.join('\n');
    return isSame || state.level === 0 ? state : { ...state, reasons, calmMs: null };
  }
  if (state.level === 0) return state;
  // A clock that was set back must not hold a level for ever.
  if (state.calmMs === null || state.calmMs > nowMs) return { ...state, calmMs: nowMs };
  if (nowMs - state.calmMs < holdMs) return state;
  const level = (state.level - 1) as Level;
  const after: Level = level;
  return {
    ...{ level, sinceMs: nowMs, calmMs: asked.level < level ? nowMs : null },
    reasons: asked.level < level ? [`was at level ${state.level}, and is calm`] : reasons,
    todo: [...state.todo, ...todo('leave', state.level, after)],
  };
}

/** @returns undefined for what cannot be read, which is told and begun anew: behaviours are not run twice for it */
export function readLevel(value: string): LevelState | undefined {
  try {
    const state = JSON.parse(value) as LevelState;
    const isLevel = [0, 1, 2, 3].includes(state.level) && typeof state.sinceMs === 'number';
    return isLevel && Array.isArray(state.reasons) && Array.isArray(state.todo) ? state : undefined;
  } catch {
    return undefined;
  }
}
