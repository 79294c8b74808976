import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { HoldfastError } from '../../src/errors.ts';
import { seededRandom } from '../crypto/support.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import { contentOf, expectSameTree, makeAgent, packKeysOf, storeOf, type TestAgent } from './support.ts';

const noise = seededRandom('heal');
const make = () =>
  makeAgent({
    fill: (state) => {
      for (const name of ['one', 'two']) writeFileSync(join(state, name), noise.bytes(200_000));
    },
  });
const flip = (bytes: Uint8Array, at: number) => Uint8Array.from(bytes, (byte, i) => (i === at ? byte ^ 1 : byte));

async function harm(agent: TestAgent, key: string, how: 'flip' | 'cut' | 'remove'): Promise<Uint8Array> {
  const { inner } = storeOf(agent, 'a');
  const good = await inner.get(key);
  if (how === 'remove') await inner.delete(key);
  else await inner.put(key, how === 'flip' ? flip(good, good.length >> 1) : good.subarray(0, 100));
  return good;
}

describe.each(['flip', 'cut', 'remove'] as const)('an object on one backend, harmed by %s', (how) => {
  test.each(['pack', 'index', 'snapshot', 'key record'])('is healed by a restore that meets it: a %s', async (kind) => {
    await using agent = await make();
    await agent.backup();
    const keys = [...(await contentOf(storeOf(agent, 'a').inner)).keys()];
    const prefix =
      { pack: 'packs/', index: 'index/', snapshot: 'snapshots/', 'key record': 'keys/00000000' }[kind] ?? '';
    const key =
      kind === 'pack'
        ? ((await packKeysOf(agent, 'data'))[0] ?? '')
        : (keys.find((one) => one.startsWith(prefix)) ?? '');
    const good = await harm(agent, key, how);
    const result = await agent.restore(join(agent.folder, 'out'));
    expectSameTree(join(agent.folder, 'out'), agent.state);
    expect(result.healed).toEqual([{ backend: 'a', key }]);
    expect(result.warnings.map(({ code }) => code)).toEqual(['read_elsewhere']);
    expect(Buffer.compare(await storeOf(agent, 'a').inner.get(key), good)).toBe(0);
    expect((await agent.verify('chunks')).damaged).toEqual([]);
    expect((await agent.restore(join(agent.folder, 'again'))).healed).toEqual([]);
  });
});

test('nothing is healed that nobody has whole, and nothing when told not to', async () => {
  await using agent = await make();
  await agent.backup();
  const [key = ''] = await packKeysOf(agent, 'data');
  await harm(agent, key, 'flip');
  expect((await agent.restore(join(agent.folder, 'one'), { heal: false })).healed).toEqual([]);
  expect((await agent.verify('objects')).damaged).toHaveLength(1);
  const { inner } = storeOf(agent, 'b');
  await inner.put(key, flip(await inner.get(key), 5000));
  const result = await agent.restore(join(agent.folder, 'two'));
  expect([result.healed, result.complete]).toEqual([[], false]);
});

test('a copy that cannot be stored again is told, and the restore is as good as without', async () => {
  await using agent = await make();
  await agent.backup();
  const [key = ''] = await packKeysOf(agent, 'data');
  await harm(agent, key, 'flip');
  const error = new HoldfastError('backend_unavailable', 'read only');
  agent.stores.set(
    'a',
    new FaultyBackend(storeOf(agent, 'a').inner, {
      name: 'a',
      plan: [{ effect: 'fail', on: 'put', times: Infinity, error }],
    }),
  );
  const result = await agent.restore(join(agent.folder, 'out'));
  expect(result).toMatchObject({ healed: [], complete: true });
  expect(result.warnings.map(({ code }) => code)).toEqual(['read_elsewhere', 'not_healed']);
});

test('sync stores again what has another size on one backend and is whole on the other', async () => {
  await using agent = await make();
  await agent.backup();
  const [key = ''] = await packKeysOf(agent, 'data');
  const good = await harm(agent, key, 'cut');
  const { backends, complete } = await agent.sync();
  expect(backends.map(({ state, healed }) => [state, healed])).toEqual([
    ['level', [key]],
    ['level', []],
  ]);
  expect(complete).toBe(true);
  expect(Buffer.compare(await storeOf(agent, 'a').inner.get(key), good)).toBe(0);
});

test.each(['pack', 'index', 'snapshot', 'keys', 'identity'])(
  'verify repairs, when told to, a harmed object: %s',
  async (kind) => {
    for (const how of ['flip', 'remove'] as const) {
      await using agent = await make();
      await agent.backup();
      const key = [...(await contentOf(storeOf(agent, 'a').inner)).keys()].find((one) => one.startsWith(kind)) ?? '';
      const good = await harm(agent, key, how);
      const found = await agent.verify('objects');
      expect(found.damaged[0]).toMatchObject({ backend: 'a', key, repaired: false });
      const repaired = await agent.verify('objects', 'writer', { repair: true });
      expect(repaired.damaged.map((one) => one.repaired)).toEqual(found.damaged.map(() => true));
      expect(repaired.warnings).toEqual([]);
      expect(Buffer.compare(await storeOf(agent, 'a').inner.get(key), good)).toBe(0);
      expect((await agent.verify('objects')).damaged).toEqual([]);
    }
  },
);

test('verify does not call repaired what no backend has whole', async () => {
  await using agent = await make();
  await agent.backup();
  const [key = ''] = await packKeysOf(agent, 'data');
  await harm(agent, key, 'flip');
  await storeOf(agent, 'b').inner.delete(key);
  const { damaged, warnings } = await agent.verify('objects', 'writer', { repair: true });
  expect(damaged.map(({ backend, repaired }) => [backend, repaired])).toEqual([
    ['a', false],
    ['b', false],
  ]);
  expect(warnings.map(({ code }) => code)).toEqual(['not_healed', 'not_healed']);
});

test('what a backend does not let be read is not verified, which is no damage', async () => {
  await using agent = await make();
  await agent.backup();
  const [key = ''] = await packKeysOf(agent, 'data');
  const error = new HoldfastError('backend_unavailable', 'access denied');
  storeOf(agent, 'a').plan({ effect: 'fail', on: 'get', key, error, times: Infinity });
  const { damaged, warnings, complete } = await agent.verify('objects');
  expect([damaged, complete]).toEqual([[], false]);
  expect(warnings).toEqual([expect.objectContaining({ code: 'not_read', incomplete: true })]);
});

test('a restore that is to begin with a backend which cannot be used takes the others, and says so', async () => {
  await using agent = await make();
  await agent.backup();
  agent.stores.delete('a');
  const result = await agent.restore(join(agent.folder, 'out'), { from: 'a' });
  expectSameTree(join(agent.folder, 'out'), agent.state);
  expect(result.warnings.map(({ code }) => code)).toEqual(['backend_failed']);
});

test('verify --repair goes on until nothing is found: packs that show only once their index is whole again', async () => {
  await using agent = await make();
  await agent.backup();
  for (const key of (await contentOf(storeOf(agent, 'a').inner)).keys())
    if (key.startsWith('packs/') || key.startsWith('index/'))
      await harm(agent, key, key.startsWith('packs/') ? 'remove' : 'flip');
  const { damaged, warnings } = await agent.verify('objects', 'writer', { repair: true });
  expect(damaged.length).toBeGreaterThan(2);
  expect(damaged.every(({ repaired }) => repaired)).toBe(true);
  expect(warnings).toEqual([]);
  expect((await agent.verify('objects')).damaged).toEqual([]);
});
