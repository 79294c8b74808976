import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Backend } from '../../../src/backend/backend.ts';
import type { Clock } from '../../../src/clock.ts';
import { HoldfastError } from '../../../src/errors.ts';
import { sync } from '../../../src/operations/sync.ts';
import { aheadClock, makeAgent, storeOf, type TestAgent } from '../support.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const after = (days: number): Clock => ({ ...aheadClock, now: () => aheadClock.now() + days * DAY_MS });

/** An agent whose backend b locks for 30 days; `extended` is what was set anew. */
async function make() {
  const agent = await makeAgent({ fill: (state) => writeFileSync(join(state, 'one'), 'one') });
  const extended: string[] = [];
  let fails = false;
  let refused: string | undefined;
  const extend = (key: string) => {
    if (key === refused) return Promise.reject(new HoldfastError('not_found', `backend b has no ${key}`));
    if (fails) return Promise.reject(new HoldfastError('backend_unavailable', 'backend b cannot extend the lock'));
    extended.push(key);
    return Promise.resolve();
  };
  Object.assign(storeOf(agent, 'b'), { lock: { days: 30, extend } });
  const refuse = (key: string | undefined) => void (refused = key);
  return { agent, extended, fail: (now: boolean) => void (fails = now), refuse };
}

const run = (agent: TestAgent, clock: Clock) =>
  sync(
    {
      backends: agent.addresses,
      access: agent.access.writer,
      signer: agent.signer,
      host: 'h',
      folders: agent.folders,
      refill: [],
    },
    agent.seams({ clock }),
  );

test('sync sets the locks of all objects anew before half of their time is over, and not more often', async () => {
  const { agent, extended } = await make();
  await using _ = agent;
  await agent.backup();
  const first = await run(agent, aheadClock);
  expect(first.backends.map(({ extended: count }) => count)).toEqual([0, extended.length]);
  expect(extended).toContain('holdfast.json');
  expect(new Set(extended.map((key) => key.split('/')[0]))).toEqual(
    new Set(['holdfast.json', 'identity', 'index', 'keys', 'packs', 'snapshots']),
  );
  extended.length = 0;
  await run(agent, after(14.9));
  expect(extended).toEqual([]);
  await run(agent, after(15.1));
  expect(extended.length).toBe(first.backends[1]?.extended);
  await agent.backup({}, { clock: after(16) }); // what a backup remembers does not make it forget
  extended.length = 0;
  await run(agent, after(17));
  expect(extended).toEqual([]);
});

test('locks that cannot be extended are told, and tried again by the next sync', async () => {
  const { agent, extended, fail } = await make();
  await using _ = agent;
  await agent.backup();
  fail(true);
  const result = await run(agent, aheadClock);
  expect(result.complete).toBe(false);
  expect(result.backends[1]).toMatchObject({ name: 'b', state: 'failed', error: { code: 'backend_unavailable' } });
  fail(false);
  expect((await run(agent, aheadClock)).complete).toBe(true);
  expect(extended.length).toBeGreaterThan(5);
});

test('one object whose lock cannot be extended is told, and the others get theirs', async () => {
  const { agent, extended, refuse } = await make();
  await using _ = agent;
  await agent.backup();
  refuse('holdfast.json');
  expect((await run(agent, aheadClock)).complete).toBe(false);
  const others = extended.length;
  extended.length = 0;
  refuse(undefined);
  expect((await run(agent, aheadClock)).complete).toBe(true);
  expect(extended.length).toBe(others + 1);
});

test('a lock that was made longer in the config is extended by the next sync', async () => {
  const { agent, extended } = await make();
  await using _ = agent;
  await agent.backup();
  await run(agent, aheadClock);
  const { length } = extended;
  extended.length = 0;
  const store = storeOf(agent, 'b') as Backend;
  Object.assign(store, { lock: { ...store.lock, days: 90 } });
  await run(agent, aheadClock);
  expect(extended.length).toBe(length);
});
