/** How fresh backups are, by what the backends hold. */
import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { freshness } from '../../src/operations/freshness.ts';
import { aheadClock, makeAgent } from './support.ts';

test('the newest snapshot that verifies tells, and who holds it', async () => {
  await using agent = await makeAgent();
  const look = () => freshness({ backends: agent.addresses, access: agent.access.writer }, agent.seams());
  expect(await look()).toEqual({ newest: undefined, unreadable: 0, failed: [] });
  await agent.backup();
  const later = { ...aheadClock, now: () => aheadClock.now() + 60_000 };
  const { snapshot } = await agent.backup({}, { clock: later });
  const { newest } = await look();
  expect(newest).toMatchObject({ id: snapshot.id, backends: ['a', 'b'] });
  expect(newest?.timeMs).toBe(Date.parse(snapshot.time));

  // One on a backend alone, and then one that cannot be read on either.
  const [key = ''] = (await keysOf(agent, 'b')).toReversed();
  await agent.stores.get('b')?.delete(key);
  expect((await look()).newest?.backends).toEqual(['a']);
  await agent.stores.get('a')?.delete(key);
  await agent.stores.get('a')?.put(key, new TextEncoder().encode('no snapshot'));
  const rotten = await look();
  expect(rotten.unreadable).toBe(1);
  expect(rotten.newest?.id).not.toBe(snapshot.id);
});

test('who holds it is told in the order of the config, whichever answers first', async () => {
  await using agent = await makeAgent();
  await agent.backup();
  const backends = agent.addresses.toReversed();
  const lists = (name: string) => agent.stores.get(name)!.operations.filter(({ key }) => key.startsWith('snapshots'));
  for (const [slow, fast] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    const { promise: until, resolve } = Promise.withResolvers<void>();
    agent.stores.get(slow)?.plan({ on: 'list', key: /^snapshots/, effect: 'delay', until });
    const before = lists(fast).length;
    const looking = freshness({ backends, access: agent.access.writer }, agent.seams());
    while (lists(fast).length === before) await setImmediate();
    await setImmediate();
    resolve();
    expect((await looking).newest?.backends).toEqual(['b', 'a']);
  }
});

test('a backend that cannot be reached is told', async () => {
  await using agent = await makeAgent();
  await agent.backup();
  const addresses = [...agent.addresses, { name: 'gone', url: 'file:///nowhere' }];
  const { newest, failed } = await freshness(
    { backends: addresses, access: agent.access.writer },
    {
      ...agent.seams(),
      openBackend: async (address, how) => {
        const { HoldfastError } = await import('../../src/errors.ts');
        if (address.name === 'gone') throw new HoldfastError('backend_unavailable', 'not there');
        return agent.seams().openBackend!(address, how);
      },
    },
  );
  expect(newest?.backends).toEqual(['a', 'b']);
  expect(failed).toMatchObject([{ name: 'gone', error: { message: 'not there' } }]);
});

async function keysOf(agent: Awaited<ReturnType<typeof makeAgent>>, name: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of agent.stores.get(name)!.list('snapshots/')) keys.push(key);
  return keys.toSorted();
}
