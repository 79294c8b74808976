/** A backend that is slower than the others delays only itself: they have the snapshot first, and it is brought level in the same run. */
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { PATIENCE_MS } from '../../src/backend/stragglers.ts';
import { guarded } from '../../src/backend/guarded.ts';
import { CATCH_UP_MS, patienceAtStart } from '../../src/operations/saving/catch-up.ts';
import type * as Limits from '../../src/limits.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { FakeClock } from '../fake-clock.ts';
import { FaultyBackend, type Fault } from '../faulty-backend.ts';
import { contentOf, expectLevel, expectSameTree, smallAgents, storeOf, type TestAgent } from './support.ts';

// Small packs, and an index after every second one.
vi.mock('../../src/limits.ts', async (original) => ({
  ...(await original<typeof Limits>()),
  PACK_TAR_MAX_BYTES: 300 * 1024,
  INDEX_FLUSH_PACKS: 2,
}));

const { make, change } = smallAgents(seededRandom('slow backend'), 500_000);
const newClock = () => new FakeClock(systemClock.now() + 3_600_000);

/** Time goes by only while a backend is stalled and somebody looks at the clock: what it took from the run is then what the clock says. */
async function whileStalled<T>(agent: TestAgent, clock: FakeClock, work: Promise<T>): Promise<T> {
  let isSettled = false;
  const end = () => void (isSettled = true);
  work.then(end, end);
  while (!isSettled) {
    const stalled = [...agent.stores.values()].some((store) => store.stalled > 0);
    if (stalled && clock.sleeping > 0) await clock.advance(1000);
    else await new Promise((resolve) => setImmediate(resolve));
  }
  return work;
}

const heal = (agent: TestAgent, ...names: string[]) => {
  for (const name of names) agent.stores.set(name, new FaultyBackend(storeOf(agent, name).inner, { name }));
};

async function expectRestores(agent: TestAgent, ...names: string[]): Promise<void> {
  for (const name of names) {
    const target = join(agent.folder, `out-${name}`);
    const backends = agent.addresses.filter((address) => address.name === name);
    expect(await agent.restore(target, { backends })).toMatchObject({ complete: true, lost: [] });
    expectSameTree(target, agent.state);
  }
}

describe('a backend that holds the run up', () => {
  test.each<[string, Fault]>([
    ['at one pack', { effect: 'stall', on: 'put', key: /^packs\// }],
    ['at every pack for a while', { effect: 'stall', on: 'put', key: /^packs\//, times: 3 }],
    ['at an index', { effect: 'stall', on: 'put', key: /^index\// }],
    ['at the snapshot', { effect: 'stall', on: 'put', key: /^snapshots\// }],
  ])('%s has the snapshot after the others, in the same run', async (_, fault) => {
    await using agent = await make();
    const clock = newClock();
    storeOf(agent, 'b').plan(fault);
    const result = await whileStalled(agent, clock, agent.backup({}, { clock }));
    storeOf(agent, 'b').assertAllFired();
    expect(result.complete).toBe(true);
    expect(result.backends).toEqual([
      { name: 'a', state: 'committed' },
      { name: 'b', state: 'committed' },
    ]);
    expect(result.warnings).toMatchObject([{ code: 'caught_up', message: expect.stringContaining('backend b') }]);
    expect(clock.monotonic()).toBe(PATIENCE_MS);
    expect(clock.sleeping).toBe(0);
    await expectLevel(agent);
    await expectRestores(agent, 'a', 'b');
    // At every moment b held no more than what it had all of.
    const stored = storeOf(agent, 'b')
      .operations.filter(({ operation, effect }) => operation === 'put' && effect === undefined)
      .map(({ key }) => key.split('/')[0]);
    expect(stored.indexOf('snapshots')).toBe(stored.length - 1);
    // The others had the snapshot before.
    const last = storeOf(agent, 'a').operations.findLast(
      ({ operation, key }) => operation === 'put' && !key.startsWith('runs/'),
    );
    expect(last?.key).toMatch(/^snapshots/);
  });

  test('is read for nothing, and what it gets comes from a backend', async () => {
    await using agent = await make();
    const clock = newClock();
    storeOf(agent, 'b').plan({ effect: 'stall', on: 'put', key: /^packs\//, times: 3 });
    storeOf(agent, 'a').operations.length = 0;
    const result = await whileStalled(agent, clock, agent.backup({}, { clock }));
    const packs = storeOf(agent, 'a').operations.filter(
      ({ key, operation }) => operation === 'get' && key.startsWith('packs/'),
    );
    expect(packs.length).toBeGreaterThanOrEqual(3);
    expect(result.bytes.read).toBe(1_000_000); // the source, once
  });

  test('and goes on to is left alone when enough hold the snapshot; the next run brings it level', async () => {
    await using agent = await make();
    const clock = newClock();
    storeOf(agent, 'b').plan({ effect: 'stall', on: 'put', times: Infinity });
    const result = await whileStalled(agent, clock, agent.backup({ require: 1 }, { clock }));
    expect(result.backends).toEqual([
      { name: 'a', state: 'committed' },
      {
        name: 'b',
        state: 'behind',
        error: {
          code: 'backend_unavailable',
          message: expect.stringContaining('left behind'),
          hint: expect.stringContaining('holdfast sync'),
        },
      },
    ]);
    expect(result.complete).toBe(true);
    expect(result.warnings.map(({ code }) => code)).toEqual(['caught_up', 'backend_behind']);
    expect(clock.monotonic()).toBe(PATIENCE_MS + CATCH_UP_MS);
    await expectRestores(agent, 'a');
    heal(agent, 'b');
    expect(await agent.backup()).toMatchObject({ complete: true });
    await expectLevel(agent);
    await expectRestores(agent, 'b');
  });

  test('and is needed is waited for until it fails by its own deadlines', async () => {
    await using agent = await make();
    const clock = newClock();
    storeOf(agent, 'b').plan({ effect: 'stall', on: 'put', times: Infinity });
    const openBackend = async ({ name }: { name: string }) =>
      guarded(storeOf(agent, name), { name, clock, random: seededRandom(name) });
    // What sleeps in a guard is a pause between tries: it goes by, too.
    const work = agent.backup({}, { clock, openBackend });
    let isSettled = false;
    work.then(
      () => (isSettled = true),
      () => (isSettled = true),
    );
    while (!isSettled) {
      const waiting = storeOf(agent, 'b').stalled > 0 || storeOf(agent, 'b').count('put') > 0;
      await (waiting ? clock.advance(100) : new Promise((resolve) => setImmediate(resolve)));
    }
    const result = await work;
    expect(result.backends).toMatchObject([
      { state: 'committed' },
      { state: 'behind', error: { message: expect.stringMatching(/did not store .* in time|left alone/) } },
    ]);
    expect(result.complete).toBe(false);
    heal(agent, 'b');
    expect((await agent.sync()).complete).toBe(true);
    await expectLevel(agent);
  });

  test('of three delays neither of the others', async () => {
    await using agent = await make({ backends: ['a', 'b', 'c'] });
    const clock = newClock();
    storeOf(agent, 'a').plan({ effect: 'stall', on: 'put', key: /^packs\// });
    storeOf(agent, 'c').plan({ effect: 'stall', on: 'put', key: /^packs\// });
    const result = await whileStalled(agent, clock, agent.backup({}, { clock }));
    expect(result.backends.map(({ state }) => state)).toEqual(['committed', 'committed', 'committed']);
    await expectLevel(agent, 'a', 'b');
    await expectLevel(agent, 'b', 'c');
  });

  test('costs the run nothing when the one that it is brought level from goes away', async () => {
    await using agent = await make();
    const clock = newClock();
    storeOf(agent, 'b').plan({ effect: 'stall', on: 'put', key: /^packs\// });
    storeOf(agent, 'a').plan({ effect: 'fail', on: 'get', key: /^packs\// });
    const result = await whileStalled(agent, clock, agent.backup({ require: 1 }, { clock }));
    expect(result.complete).toBe(true);
    expect(result.backends).toMatchObject([{ state: 'committed' }, { state: 'behind' }]);
    heal(agent, 'a', 'b');
    await expectRestores(agent, 'a');
    const held = [...(await contentOf(storeOf(agent, 'b').inner)).keys()];
    expect(held.filter((key) => key.startsWith('snapshots/'))).toEqual([]);
    expect((await agent.backup()).complete).toBe(true);
    await expectLevel(agent);
  });

  test('interrupted while it is brought level: the snapshot is there, and remembered', async () => {
    await using agent = await make();
    const clock = newClock();
    const stop = new AbortController();
    storeOf(agent, 'b').plan({ effect: 'stall', on: 'put', times: Infinity });
    const run = agent.backup(
      {},
      {
        clock,
        signal: stop.signal,
        progress: (event) => {
          if (event.type === 'phase' && event.name.startsWith('bringing slow')) setImmediate(() => stop.abort());
        },
      },
    );
    await failure(() => whileStalled(agent, clock, run), 'interrupted');
    heal(agent, 'b');
    const next = await agent.backup();
    expect(next).toMatchObject({ complete: true, snapshot: { seq: 1 }, bytes: { read: 0 } });
    expect(next.warnings.map(({ code }) => code)).toEqual(['levelled']);
  });
});

test('a backend that lacks much is left behind at the start, and gets it after the snapshot', async () => {
  await using agent = await make();
  await agent.backup();
  const away = storeOf(agent, 'b');
  agent.stores.delete('b');
  change(agent, 'three');
  await agent.backup();
  agent.stores.set('b', away);
  change(agent, 'four');
  const clock = newClock();
  away.plan({ effect: 'stall', on: 'put', key: /^packs\//, times: 1 });
  const result = await whileStalled(agent, clock, agent.backup({}, { clock }));
  away.assertAllFired();
  expect(result.backends.map(({ state }) => state)).toEqual(['committed', 'committed']);
  expect(result).toMatchObject({ complete: true, snapshot: { seq: 2 } });
  expect(clock.monotonic()).toBe(PATIENCE_MS);
  expect(result.warnings.map(({ code }) => code)).toContain('caught_up');
  await expectLevel(agent);
  await expectRestores(agent, 'b');
});

test('a backend left behind at the start hides nothing: the chain goes on from the newest snapshot', async () => {
  await using agent = await make();
  await agent.backup();
  const away = storeOf(agent, 'a');
  agent.stores.delete('a');
  change(agent, 'three');
  await agent.backup();
  agent.stores.set('a', away);
  const clock = newClock();
  away.plan({ effect: 'stall', on: 'put', key: /^packs\//, times: 1 });
  const result = await whileStalled(agent, clock, agent.backup({}, { clock }));
  expect(result).toMatchObject({ complete: true, snapshot: { seq: 2 } });
  expect(result.warnings.map(({ code }) => code)).not.toContain('rolled_back');
  await expectLevel(agent);
});

test('at the start a run goes on only with a backend that has everything', () => {
  const { enough } = patienceAtStart(newClock());
  const level = { name: 'a', objects: 1, bytes: 1, skipped: [] };
  const lacking = { ...level, skipped: ['packs/x'] };
  expect([enough([]), enough([lacking]), enough([lacking, level])]).toEqual([false, false, true]);
});
