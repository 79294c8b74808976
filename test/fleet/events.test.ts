import { expect, test } from 'vitest';
import {
  appendEvent,
  appendEvents,
  EVENT_DAYS,
  followEvents,
  listEvents,
  readEvents,
  trimEvents,
  type FleetEvent,
} from '../../src/fleet/events.ts';
import { memoryStateStore } from '../../src/fleet/memory-store.ts';
import { systemClock } from '../../src/clock.ts';
import { DAY_MS } from '../../src/units.ts';
import { seededRandom } from '../crypto/support.ts';
import { START_MS } from './support.ts';

function log() {
  let nowMs = START_MS;
  const clock = { ...systemClock, now: () => nowMs };
  const store = memoryStateStore(clock);
  return {
    store,
    later: (ms: number) => void (nowMs += ms),
    add: (message: string, more: Partial<FleetEvent> = {}) =>
      appendEvent({ store, clock, random: seededRandom(message) }, { kind: 'action', message, ...more }),
  };
}
const texts = (events: readonly FleetEvent[]) => events.map(({ message }) => message);

test('events are told oldest first, those of one millisecond in the order in which they were added', async () => {
  const { store, later, add } = log();
  for (const one of ['1', '2', '3']) await add(one);
  later(1);
  await add('4');
  expect(texts(await listEvents(store))).toEqual(['1', '2', '3', '4']);
  expect(texts(await listEvents(store, { limit: 2 }))).toEqual(['3', '4']);
});

test('those of one moment are one write, in their order; so many that they do not fit are more', async () => {
  const { store, later, add } = log();
  await add('0');
  later(1);
  const clock = { ...systemClock, now: () => START_MS + 1 };
  const many = Array.from({ length: 40 }, (_, i) => ({
    kind: 'action' as const,
    message: `${i + 1}`,
    agent: `a${i % 2}`,
  }));
  const stored = await appendEvents({ store, clock, random: seededRandom('many') }, many);
  expect(texts(stored)).toEqual(many.map(({ message }) => message));
  expect(await store.list('events.')).toHaveLength(2);
  later(1);
  await add('41');
  expect(texts(await listEvents(store))).toEqual(Array.from({ length: 42 }, (_, i) => `${i}`));
  expect(texts(await listEvents(store, { agent: 'a1', limit: 2 }))).toEqual(['38', '40']);
  const long = many.map((event) => ({ ...event, message: 'long '.repeat(200), evidence: { seen: 'x'.repeat(1000) } }));
  await appendEvents({ store, clock, random: seededRandom('long') }, [...long, ...long]);
  expect(await store.list('events.')).toHaveLength(3 + 3);
  expect(await listEvents(store)).toHaveLength(42 + 80);
});

test('they can be asked for by time, agent and kind; the limit counts what was asked for', async () => {
  const { store, later, add } = log();
  await add('old', { agent: 'a' });
  later(1000);
  await add('of a', { agent: 'a' });
  await add('of b', { agent: 'b', kind: 'level' });
  await add('of all');
  expect(texts(await listEvents(store, { sinceMs: START_MS + 1 }))).toEqual(['of a', 'of b', 'of all']);
  expect(texts(await listEvents(store, { agent: 'a' }))).toEqual(['old', 'of a']);
  expect(texts(await listEvents(store, { agent: 'a', limit: 1 }))).toEqual(['of a']);
  expect(texts(await listEvents(store, { kind: 'level' }))).toEqual(['of b']);
});

test('they are gone after their time, and of too many the oldest are', async () => {
  const { store, later, add } = log();
  await add('1');
  later(EVENT_DAYS * DAY_MS - 1);
  for (const one of ['2', '3', '4']) await add(one);
  expect(texts(await listEvents(store))).toEqual(['1', '2', '3', '4']);
  await trimEvents(store, 3);
  expect(texts(await listEvents(store))).toEqual(['2', '3', '4']);
  later(1);
  expect(texts(await listEvents(store))).toEqual(['2', '3', '4']);
  later(EVENT_DAYS * DAY_MS);
  expect(await listEvents(store)).toEqual([]);
});

test('long texts are cut, and evidence is kept', async () => {
  const { store, add } = log();
  await add('x'.repeat(5000), { evidence: { seen: 'y'.repeat(5000), value: 3, ok: false } });
  const [event] = await listEvents(store);
  expect(event?.message).toHaveLength(1000);
  expect(event?.evidence).toMatchObject({ value: 3, ok: false });
  expect(String(event?.evidence?.['seen'])).toHaveLength(1000);
});

test('who follows gets those that are there, and then those that come', async () => {
  const { store, add } = log();
  await add('before', { agent: 'a' });
  await add('of another', { agent: 'b' });
  const stop = new AbortController();
  const got: string[] = [];
  for await (const { message } of followEvents(store, { agent: 'a' }, stop.signal)) {
    got.push(message);
    if (got.length === 1) await add('after', { agent: 'a' });
    else stop.abort();
  }
  expect(got).toEqual(['before', 'after']);
});

test('an event that cannot be read is told', async () => {
  const { store } = log();
  await store.create('events.000000000000001-000001-00', '{"version":2}');
  await expect(listEvents(store)).rejects.toMatchObject({ code: 'damaged' });
});

test('an event that cannot be read is named, and hides none of the others', async () => {
  const { store, add } = log();
  await add('before');
  await store.create('events.999999999999999-000001-00', 'rubbish');
  await store.create('events.999999999999999-000002-00', '{"version":1,"events":[null]}');
  const { events, unreadable } = await readEvents(store);
  expect(texts(events)).toEqual(['before']);
  expect(unreadable).toEqual(['999999999999999-000001-00', '999999999999999-000002-00']);
});
