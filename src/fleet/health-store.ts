/**
 * What a watcher knows, in the store: agents in pages, and the watcher's sign of life. Whoever watches next goes on from there; whoever asks
 * meanwhile reads it, and takes nothing for true that is too old.
 *
 *     health.0000, health.0001 …  {version, agents: […]}
 *     watcher                     {version, host, pid, startedMs, seenMs, untilMs}
 */
import type { Clock } from '../clock.ts';
import { isObject, objectIn } from '../json.ts';
import {
  AGENT_STATES,
  forgotten,
  LAYER_STATUSES,
  LAYERS,
  trendOf,
  type AgentHealth,
  type LayerHealth,
} from './health.ts';
import type { AgentSpec } from './prober.ts';
import { oneLine } from './probes/probe.ts';
import { VALUE_MAX_BYTES, type StateStore } from './store.ts';

const PREFIX = 'health.';
const WATCHER = 'watcher';
const VERSION = 1;
/** Agents on one page: with the usual evidence a third of what a value may have. */
const PAGE_AGENTS = 32;
/** A watcher that gives no sign for so long, and for three times its own pace, is gone. */
const SILENT_MS = 15_000;
/** What is known of an agent is too old when it should have been looked at three times since. */
const STALE_INTERVALS = 3;
/** Clocks that differ by more than this are not to be believed. */
const CLOCK_SKEW_MS = 60_000;
/** Other processes that write the same page at the same time. */
const WRITE_TRIES = 10;

export interface Watcher {
  host: string;
  pid: number;
  startedMs: number;
  seenMs: number;
}

/** Writes what one watcher knows. Of several watchers only the one that has the lease may. */
export class HealthWriter {
  readonly #store: StateStore;
  readonly #clock: Clock;
  readonly #who: { host: string; pid: number; startedMs: number };
  readonly #pages: readonly (readonly AgentSpec[])[];
  readonly #revisions = new Map<string, number>();
  /** What was last written of each page: when, by the monotonic clock, and the states in it. */
  readonly #written = new Map<string, { atMs: number; states: string }>();
  #tidied = false;

  constructor(
    store: StateStore,
    agents: readonly AgentSpec[],
    { clock, host, pid }: { clock: Clock; host: string; pid: number },
  ) {
    this.#store = store;
    this.#clock = clock;
    this.#who = { host, pid, startedMs: clock.now() };
    const pages: AgentSpec[][] = [];
    for (let i = 0; i < agents.length; i += PAGE_AGENTS) pages.push(agents.slice(i, i + PAGE_AGENTS));
    this.#pages = pages;
  }

  /**
   * Writes what is known, and a sign of life. A page costs an fsync: to be called every few seconds, and when something changed that matters;
   * one in which no state changed, and that is younger than the shortest interval in it, is left as it is.
   *
   * @param paceMs when the next call will be, at the latest
   * @throws as the store does
   */
  async write(healths: readonly AgentHealth[], paceMs: number): Promise<void> {
    const byName = new Map(healths.map((health) => [health.name, health]));
    for (const [i, page] of this.#pages.entries()) {
      const known = page.flatMap((spec) => {
        const health = byName.get(spec.name);
        return health ? [{ spec, health }] : [];
      });
      const [key, states, nowMs] = [pageKey(i), statesOf(known), this.#clock.monotonic()];
      const before = this.#written.get(key);
      if (before?.states === states && nowMs - before.atMs < shortestIntervalMs(page)) continue;
      await this.#set(key, encodePage(known));
      this.#written.set(key, { atMs: nowMs, states });
    }
    if (!this.#tidied) await this.#dropOtherPages();
    const nowMs = this.#clock.now();
    const untilMs = nowMs + Math.max(SILENT_MS, 3 * paceMs);
    await this.#set(WATCHER, JSON.stringify({ version: VERSION, ...this.#who, seenMs: nowMs, untilMs }));
  }

  /** That nobody watches from now on. */
  async end(): Promise<void> {
    const entry = await this.#store.get(WATCHER);
    const watcher = entry && decodeWatcher(entry.value);
    if (entry && watcher?.pid === this.#who.pid && watcher.host === this.#who.host)
      await this.#store.delete(WATCHER, entry.revision);
  }

  async #set(key: string, value: string): Promise<void> {
    for (let i = 0; i < WRITE_TRIES; i++) {
      const known = this.#revisions.get(key) ?? (await this.#store.get(key))?.revision;
      const revision =
        known === undefined ? await this.#store.create(key, value) : await this.#store.update(key, value, known);
      if (revision !== undefined) return void this.#revisions.set(key, revision);
      this.#revisions.delete(key);
    }
    // Somebody else writes it all the time: then it is fresh.
  }

  async #dropOtherPages(): Promise<void> {
    const own = new Set(this.#pages.map((_, i) => pageKey(i)));
    for (const { key, revision } of await this.#store.list(PREFIX))
      if (!own.has(key)) await this.#store.delete(key, revision);
    this.#tidied = true;
  }
}

const pageKey = (i: number) => `${PREFIX}${String(i).padStart(4, '0')}`;

/** The watcher that runs now; null when there is none, or its clock cannot be right. @throws as the store does */
export async function readWatcher(store: StateStore, nowMs: number): Promise<Watcher | null> {
  const entry = await store.get(WATCHER);
  const watcher = entry && decodeWatcher(entry.value);
  if (!watcher || watcher.untilMs < nowMs || watcher.seenMs > nowMs + CLOCK_SKEW_MS) return null;
  const { host, pid, startedMs, seenMs } = watcher;
  return { host, pid, startedMs, seenMs };
}

/**
 * What was written of agents; of those that were not looked at for too long the state is `unknown`. What cannot be read is as if it were
 * not there.
 *
 * @throws as the store does
 */
export async function readHealth(store: StateStore, nowMs: number): Promise<AgentHealth[]> {
  return (await readRecords(store)).map(({ health, freshUntilMs }) => {
    const isFresh = nowMs <= freshUntilMs && health.lookedMs <= nowMs + CLOCK_SKEW_MS;
    const trend = trendOf(health.history, nowMs);
    return isFresh ? { ...health, trend } : { ...forgotten(health, freshUntilMs), trend };
  });
}

/** What was written of agents, however old: for a watcher that goes on. @throws as the store does */
export async function readKnown(store: StateStore): Promise<AgentHealth[]> {
  return (await readRecords(store)).map(({ health }) => health);
}

interface StoredHealth {
  health: AgentHealth;
  freshUntilMs: number;
}

async function readRecords(store: StateStore): Promise<StoredHealth[]> {
  const pages = await store.list(PREFIX);
  const byName = new Map(pages.flatMap(({ value }) => decodePage(value).map((one) => [one.health.name, one] as const)));
  return [...byName.values()];
}

function statesOf(known: readonly { health: AgentHealth }[]): string {
  return known
    .map(({ health: { state, layers } }) => [state, ...LAYERS.map((layer) => layers[layer]?.status)].join())
    .join(' ');
}

function shortestIntervalMs(agents: readonly AgentSpec[]): number {
  return Math.min(
    ...agents.flatMap(({ layers }) =>
      LAYERS.map((layer) => layers[layer]?.policy.intervalMs ?? Number.MAX_SAFE_INTEGER),
    ),
  );
}

/** When what is known of the layer that is known worst is too old. */
export function freshUntil(health: AgentHealth, spec: AgentSpec): number {
  return LAYERS.reduce((first, layer) => {
    const [known, asked] = [health.layers[layer], spec.layers[layer]];
    if (!known || !asked) return first;
    const { intervalMs, timeoutMs } = asked.policy;
    return Math.min(first, known.last.atMs + STALE_INTERVALS * intervalMs + timeoutMs);
  }, Number.MAX_SAFE_INTEGER);
}

/** Evidence is cut shorter until the page fits: it is what a stranger can make long. */
function encodePage(known: readonly { spec: AgentSpec; health: AgentHealth }[]): string {
  for (const evidenceMax of [300, 100, 30, 1]) {
    const agents = known.map(({ spec, health }) => ({
      ...encode(health, freshUntil(health, spec), evidenceMax),
      asked: spec.asked,
    }));
    const value = JSON.stringify({ version: VERSION, agents });
    if (Buffer.byteLength(value) <= VALUE_MAX_BYTES) return value;
  }
  return JSON.stringify({ version: VERSION, agents: [] });
}

function encode({ history, trend: _made, ...health }: AgentHealth, freshUntilMs: number, evidenceMax: number) {
  const layers = Object.fromEntries(
    Object.entries(health.layers).map(([layer, one]) => [
      layer,
      one.last.evidence.length <= evidenceMax
        ? one
        : { ...one, last: { ...one.last, evidence: oneLine(one.last.evidence, evidenceMax) } },
    ]),
  );
  return { ...health, layers, freshUntilMs, looks: encodeHistory(history) };
}

/** The first moment, then milliseconds from each to the next; what was not ok has a `!`. A third of what JSON would take. */
function encodeHistory(history: AgentHealth['history']): string {
  let before = 0;
  return history
    .map(({ atMs, ok }) => {
      const step = Math.round(atMs) - before;
      before += step;
      return `${step}${ok ? '' : '!'}`;
    })
    .join(' ');
}

function decodeHistory(text: string): AgentHealth['history'] {
  let atMs = 0;
  return text.split(' ').flatMap((word) => {
    const match = /^(-?\d{1,15})(!?)$/.exec(word);
    if (!match) return [];
    atMs += Number(match[1]);
    return [{ atMs, ok: match[2] === '' }];
  });
}

function decodePage(value: string): StoredHealth[] {
  const page = objectIn(value) ?? {};
  if (page['version'] !== VERSION || !Array.isArray(page['agents'])) return [];
  return page['agents'].flatMap((one: unknown) => {
    if (!isObject(one)) return [];
    const { looks, freshUntilMs, ...health } = one;
    if (typeof looks !== 'string' || typeof freshUntilMs !== 'number' || !isHealth(health)) return [];
    return [{ health: { ...health, history: decodeHistory(looks), trend: 'none' as const }, freshUntilMs }];
  });
}

/** Whether it is what this version wrote, as far as others go by it. */
function isHealth(value: object): value is Omit<AgentHealth, 'history' | 'trend'> {
  const { name, state, critical, sinceMs, lookedMs, seenMs, layers, stats, asked } = value as Record<string, unknown>;
  return (
    typeof name === 'string' &&
    typeof critical === 'boolean' &&
    AGENT_STATES.some((one) => one === state) &&
    [sinceMs, lookedMs].every((one) => typeof one === 'number') &&
    (seenMs === null || typeof seenMs === 'number') &&
    (asked === undefined || typeof asked === 'string') &&
    isObject(stats) &&
    isObject(layers) &&
    Object.entries(layers).every(([layer, one]) => LAYERS.some((known) => known === layer) && isLayer(one))
  );
}

function isLayer(value: unknown): value is LayerHealth {
  if (!isObject(value)) return false;
  const { status, sinceMs, failures, successes, last } = value;
  return (
    LAYER_STATUSES.some((one) => one === status) &&
    [sinceMs, failures, successes].every((one) => typeof one === 'number') &&
    isObject(last) &&
    typeof last['ok'] === 'boolean' &&
    typeof last['evidence'] === 'string' &&
    typeof last['atMs'] === 'number'
  );
}

function decodeWatcher(value: string): (Watcher & { untilMs: number }) | undefined {
  const { version, host, pid, startedMs, seenMs, untilMs } = objectIn(value) ?? {};
  if (version !== VERSION || typeof host !== 'string' || typeof pid !== 'number') return undefined;
  if (typeof startedMs !== 'number' || typeof seenMs !== 'number' || typeof untilMs !== 'number') return undefined;
  return { host, pid, startedMs, seenMs, untilMs };
}
