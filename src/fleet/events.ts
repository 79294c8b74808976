/**
 * What happened to the fleet, and what was decided and why: a log in the store, which every process may add to. Entries expire (`EVENT_DAYS`), and
 * of more than `EVENTS_MAX` the oldest go.
 */
import type { Clock, Random } from '../clock.ts';
import { HoldfastError } from '../errors.ts';
import { DAY_MS } from '../units.ts';
import { VALUE_MAX_BYTES, type Entry, type StateStore } from './store.ts';

export const EVENT_KINDS = [
  'agent_state', // an agent changed its state
  'layer_down',
  'layer_ok',
  'action', // a rule acted, or would have (dry run): evidence, command, what came of it
  'action_held', // a rule was due and did not act: cap, cool-down, quarantine
  'escalated',
  'quarantine', // an agent was put into it, or released
  'breaker', // tripped, opened, reset by rule or hand on the page
  'level', // the degradation level changed
  'watch_started',
  'watch_stopped',
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

export interface FleetEvent {
  /** ISO 8601 in JSON output; here milliseconds. */
  atMs: number;
  kind: EventKind;
  agent?: string;
  /** For a person. */
  message: string;
  /** What was seen and what it was held against. */
  evidence?: Readonly<Record<string, string | number | boolean | null>>;
  dryRun?: true;
}

export interface EventFilter {
  /** Those at this time or after it. */
  sinceMs?: number | undefined;
  agent?: string | undefined;
  kind?: EventKind | undefined;
}

type NewEvent = Omit<FleetEvent, 'atMs'> & { atMs?: number };
type Log = { store: StateStore; clock: Clock; random: Random };

const PREFIX = 'events.';
const VERSION = 1;
export const EVENT_DAYS = 30;
export const EVENTS_MAX = 10_000;
const TEXT_MAX_CHARACTERS = 1000;
/** Of several events that are stored together; one alone may be larger. */
const ENTRY_MAX_BYTES = VALUE_MAX_BYTES / 2;
const EVIDENCE_MAX = 40;
/** One of so many additions, by chance, also looks whether there are too many: a count of them is a listing. */
const TRIM_ONE_IN = 128;

let written = 0;

/** Adds it, with the time of now where it has none. Long texts are cut. @returns what was stored */
export async function appendEvent(log: Log, event: NewEvent): Promise<FleetEvent> {
  const [stored] = await appendEvents(log, [event]);
  return stored as FleetEvent;
}

/** The same for several of one moment: one write, which is what an event costs. @returns them in their order */
export async function appendEvents(log: Log, events: readonly NewEvent[]): Promise<FleetEvent[]> {
  const nowMs = log.clock.now();
  const whole = events.map((event) => withTime(event, nowMs));
  for (let from = 0; from < whole.length;) {
    let [to, bytes] = [from, 0];
    do bytes += Buffer.byteLength(JSON.stringify(whole[to++]));
    while (to < whole.length && bytes + Buffer.byteLength(JSON.stringify(whole[to])) < ENTRY_MAX_BYTES);
    await store(log, whole.slice(from, to));
    from = to;
  }
  return whole;
}

function withTime(event: NewEvent, nowMs: number): FleetEvent {
  const whole: FleetEvent = { ...event, atMs: event.atMs ?? nowMs, message: cut(event.message) };
  if (event.evidence) {
    const kept = Object.entries(event.evidence).slice(0, EVIDENCE_MAX);
    whole.evidence = Object.fromEntries(
      kept.map(([name, value]) => [name, typeof value === 'string' ? cut(value) : value]),
    );
  }
  return whole;
}

/** Under the time of the first. */
async function store({ store: into, clock, random }: Log, events: readonly FleetEvent[]): Promise<void> {
  const [first] = events;
  if (!first) return;
  const value = JSON.stringify({ version: VERSION, ...(events.length === 1 ? first : { events }) });
  const expiresMs = clock.now() + EVENT_DAYS * DAY_MS;
  for (let taken = 0; taken < 8; taken++) {
    // Of one process those of the same millisecond stay in their order.
    const inOrder = String(++written % 1_000_000).padStart(6, '0');
    const unique = Buffer.from(random.bytes(4)).toString('hex');
    const key = `${PREFIX}${String(first.atMs).padStart(15, '0')}-${inOrder}-${unique}`;
    if ((await into.create(key, value, { expiresMs })) === undefined) continue;
    if ((random.bytes(1)[0] ?? 0) % TRIM_ONE_IN === 0) await trimEvents(into);
    return;
  }
  throw new HoldfastError('bug', 'internal error: an event could not be given a name of its own');
}

/** Removes the oldest of what is too many. */
export async function trimEvents(store: StateStore, max = EVENTS_MAX): Promise<void> {
  const all = await store.list(PREFIX);
  for (const { key, revision } of all.slice(0, Math.max(0, all.length - max))) await store.delete(key, revision);
}

/** Oldest first; with `limit` the last so many. @throws `damaged` */
export async function listEvents(
  store: StateStore,
  options: EventFilter & { limit?: number | undefined } = {},
): Promise<FleetEvent[]> {
  const { events, unreadable } = await readEvents(store, options);
  const [id] = unreadable;
  if (id !== undefined) throw unreadableEvent(id);
  return events;
}

/** The same, and the ids of those that cannot be read. */
export async function readEvents(
  store: StateStore,
  { limit = Infinity, ...filter }: EventFilter & { limit?: number | undefined } = {},
): Promise<{ events: FleetEvent[]; unreadable: string[] }> {
  const wanted: FleetEvent[] = [];
  const unreadable: string[] = [];
  const all = await store.list(PREFIX);
  for (let i = all.length - 1; i >= 0 && wanted.length < limit; i--) {
    const entry = all[i];
    if (entry === undefined || timeOf(entry) < (filter.sinceMs ?? 0)) break;
    const events = read(entry);
    if (!events) unreadable.push(idOf(entry));
    for (const event of events?.toReversed() ?? [])
      if (wanted.length < limit && isWanted(event, filter)) wanted.push(event);
  }
  return { events: wanted.toReversed(), unreadable: unreadable.toReversed() };
}

/**
 * Those that are there, oldest first, then each that comes, until the signal is aborted.
 * @param unreadable told of the id of one that cannot be read
 */
export async function* followEvents(
  store: StateStore,
  filter: EventFilter,
  signal: AbortSignal,
  unreadable: (id: string) => void = () => {},
): AsyncIterable<FleetEvent> {
  for await (const change of store.watch(PREFIX, signal)) {
    if (change.type !== 'put' || timeOf(change.entry) < (filter.sinceMs ?? 0)) continue;
    const events = read(change.entry);
    if (!events) unreadable(idOf(change.entry));
    for (const event of events ?? []) if (isWanted(event, filter)) yield event;
  }
}

function isWanted(event: FleetEvent, { sinceMs, agent, kind }: EventFilter): boolean {
  return (
    event.atMs >= (sinceMs ?? 0) &&
    (agent === undefined || event.agent === agent) &&
    (kind === undefined || event.kind === kind)
  );
}

const timeOf = ({ key }: Entry): number => Number.parseInt(key.slice(PREFIX.length), 10);

function cut(text: string): string {
  return text.length <= TEXT_MAX_CHARACTERS ? text : `${text.slice(0, TEXT_MAX_CHARACTERS - 1)}…`;
}

const idOf = ({ key }: Entry): string => key.slice(PREFIX.length);

export function unreadableEvent(id: string): HoldfastError {
  return new HoldfastError('damaged', `the event ${id} cannot be read`, {
    hint: 'A newer holdfast may have written it, then use that. Else bring the state store back from a copy, or move it away.',
  });
}

/** @returns undefined for what cannot be read */
function read({ value }: Entry): FleetEvent[] | undefined {
  try {
    const { version, ...rest } = JSON.parse(value) as { version: number } & (FleetEvent | { events: FleetEvent[] });
    const events = 'events' in rest ? rest.events : [rest];
    const areEvents = events.every(
      ({ atMs, message, kind }) => typeof atMs === 'number' && typeof message === 'string' && typeof kind === 'string',
    );
    return version === VERSION && areEvents ? events : undefined;
  } catch {
    return undefined;
  }
}
