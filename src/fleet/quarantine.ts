/**
 * What people and watchdog leave each other in the store: agents that get no work and are not acted on (`quarantine.<agent>`), what a person asked
 * to be done (`asked.<agent>`), and what was done before (`acts.<agent>`).
 */
import type { Clock } from '../clock.ts';
import { HoldfastError } from '../errors.ts';
import { objectIn } from '../json.ts';
import type { Breakers } from './breakers.ts';
import type { Quarantine } from './health.ts';
import { ACTIONS, NO_MEMORY, type Action, type AgentMemory } from './rules.ts';
import type { Entry, StateStore } from './store.ts';

const QUARANTINE = 'quarantine.';
const ASKED = 'asked.';
const ACTS = 'acts.';
const VERSION = 1;
/** Nobody wants tomorrow what he asked for today. */
const ASKED_MS = 3_600_000;
const REASON_MAX_CHARACTERS = 500;
const WRITE_TRIES = 20;

interface Common {
  store: StateStore;
  breakers: Breakers;
  clock: Clock;
}

/** Its breaker is forced open, and no rule acts on it until it is released. @returns false when it is in quarantine already */
export async function quarantine({ store, breakers, clock }: Common, agent: string, reason: string): Promise<boolean> {
  const value = written({ sinceMs: clock.now(), reason: reason.slice(0, REASON_MAX_CHARACTERS) });
  const isNew = (await store.create(QUARANTINE + agent, value)) !== undefined;
  // Also when it was there: whoever put it into quarantine may have been killed before this.
  await breakers.command(agent, { type: 'trip', reason: `in quarantine: ${reason.slice(0, REASON_MAX_CHARACTERS)}` });
  return isNew;
}

/** Its breaker is closed, and what was tried in vain is forgotten. @throws `not_found` when it is not in quarantine */
export async function release({ store, breakers }: Common, agent: string): Promise<Quarantine> {
  const entry = await store.get(QUARANTINE + agent);
  if (!entry) {
    throw new HoldfastError('not_found', `agent ${agent} is not in quarantine`, {
      hint: 'See `holdfast fleet status`. A breaker that somebody tripped: `holdfast breaker reset`.',
    });
  }
  const { state } = await breakers.look(agent);
  if (state.kind === 'forced-open') await breakers.command(agent, { type: 'reset' });
  const acts = await store.get(ACTS + agent);
  if (acts) await store.delete(acts.key, acts.revision);
  await store.delete(entry.key, entry.revision);
  return readQuarantine(entry);
}

/** By agent. */
export async function quarantines(store: StateStore): Promise<Map<string, Quarantine>> {
  const all = await store.list(QUARANTINE);
  return new Map(all.map((entry) => [entry.key.slice(QUARANTINE.length), readQuarantine(entry)]));
}

/** One that cannot be read is one nevertheless. */
function readQuarantine(entry: Entry): Quarantine {
  const { sinceMs, reason } = objectIn(entry.value) ?? {};
  return {
    sinceMs: typeof sinceMs === 'number' ? sinceMs : 0,
    reason: typeof reason === 'string' ? reason : 'what is stored of the reason cannot be read',
  };
}

export interface Asked {
  action: Action;
  reason: string;
  atMs: number;
}

/** What the next watchdog is to do to an agent, whatever its rules say. A later wish takes the place of an earlier one. */
export async function ask(
  { store, clock }: Omit<Common, 'breakers'>,
  agent: string,
  action: Action,
  reason: string,
): Promise<void> {
  const value = written({ action, reason: reason.slice(0, REASON_MAX_CHARACTERS), atMs: clock.now() });
  await set(store, ASKED + agent, value, { expiresMs: clock.now() + ASKED_MS });
}

export async function askedFor(store: StateStore): Promise<Map<string, Asked & { entry: Entry }>> {
  const found = (await store.list(ASKED)).flatMap((entry) => {
    const { action, reason, atMs } = objectIn(entry.value) ?? {};
    const known = ACTIONS.find((one) => one === action);
    if (!known || typeof reason !== 'string' || typeof atMs !== 'number') return [];
    return [[entry.key.slice(ASKED.length), { action: known, reason, atMs, entry }] as const];
  });
  return new Map(found);
}

export interface Remembered {
  memory: AgentMemory;
  /** Of the store; 0 where nothing is remembered. */
  revision: number;
}

export async function memories(store: StateStore): Promise<Map<string, Remembered>> {
  const all = await store.list(ACTS);
  return new Map(
    all.map(({ key, value, revision }) => [key.slice(ACTS.length), { memory: readMemory(value), revision }] as const),
  );
}

export async function memoryOf(store: StateStore, agent: string): Promise<Remembered> {
  const entry = await store.get(ACTS + agent);
  return entry ? { memory: readMemory(entry.value), revision: entry.revision } : { memory: NO_MEMORY, revision: 0 };
}

/** @returns the new revision, or undefined when somebody else changed it meanwhile */
export async function remember(
  store: StateStore,
  agent: string,
  memory: AgentMemory,
  revision: number,
): Promise<number | undefined> {
  const value = written(memory);
  return revision === 0 ? store.create(ACTS + agent, value) : store.update(ACTS + agent, value, revision);
}

/** As nothing was done yet: what cannot be read is of another version, whose tries are not ours. */
function readMemory(value: string): AgentMemory {
  const { version, ...memory } = objectIn(value) ?? {};
  const { rules } = memory;
  const isMemory = version === VERSION && typeof rules === 'object' && rules !== null;
  return isMemory ? (memory as unknown as AgentMemory) : NO_MEMORY;
}

async function set(store: StateStore, key: string, value: string, options: { expiresMs: number }): Promise<void> {
  for (let i = 0; i < WRITE_TRIES; i++) {
    const there = await store.get(key);
    const revision = there
      ? await store.update(key, value, there.revision, options)
      : await store.create(key, value, options);
    if (revision !== undefined) return;
  }
  throw new HoldfastError('busy', `${key} is changed by others all the time`, { hint: 'Try again.', retryable: true });
}

const written = (value: object): string => JSON.stringify({ version: VERSION, ...value });
