import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import type { Clock } from '../../src/clock.ts';
import { HoldfastError } from '../../src/errors.ts';
import { confidenceOf } from '../../src/operations/coverage.ts';
import { placeOf, VerifiedMemory } from '../../src/operations/host/verified-memory.ts';
import type { VerifyOptions } from '../../src/operations/verify.ts';
import { parseKey } from '../../src/repository/repository.ts';
import { DAY_MS } from '../../src/units.ts';
import { seededRandom } from '../crypto/support.ts';
import { aheadClock, contentsOf, emptyStore, makeAgent, newCase, packKeysOf, storeOf } from './support.ts';
import { repairAs, verifyAs } from './verify-support.ts';

const random = seededRandom('verify memory');
const agent = await makeAgent({
  seed: 'verify memory',
  fill: (state) => writeFileSync(join(state, 'one'), random.bytes(3000)),
});
afterAll(() => agent[Symbol.asyncDispose]());
for (let i = 0; i < 4; i++) {
  writeFileSync(join(agent.state, `more ${i}`), random.bytes(3000));
  await agent.backup();
}
const pristine = await contentsOf(agent);
const isPack = (key: string) => parseKey(key)?.kind === 'pack';
const packs = [...(pristine.get('a')?.keys() ?? [])].filter(isPack);
const copies = packs.length * 2;

const START = aheadClock.now();
let nowMs: number;
let folders: { state: string; cache: string };
const clock: Clock = { ...aheadClock, now: () => nowMs };
beforeEach(async () => {
  nowMs = START;
  const { parent } = await newCase(agent, pristine);
  folders = { state: join(parent, 'local'), cache: join(parent, 'cache') };
});
const run = (over: Partial<VerifyOptions> = {}) => verifyAs(agent, { level: 'objects', folders, ...over }, { clock });
/** The reads of packs that the backends saw since. */
function readsOfPacks(): string[] {
  return ['a', 'b'].flatMap((name) =>
    storeOf(agent, name)
      .operations.filter(({ operation, key }) => operation === 'get' && isPack(key))
      .map(({ key }) => `${name} ${key}`),
  );
}
const clearCalls = () => {
  for (const store of agent.stores.values()) store.operations.length = 0;
};

test('what was found whole not long ago is passed over, and read again when it is older', async () => {
  expect((await run()).coverage).toMatchObject({ verified: copies, total: copies, read: copies, withinMaxAge: copies });
  clearCalls();
  nowMs += 20 * DAY_MS;
  const young = await run({ maxAgeMs: 30 * DAY_MS });
  expect(readsOfPacks()).toEqual([]);
  expect(young.coverage).toMatchObject({ verified: copies, read: 0, withinMaxAge: copies });
  expect(Date.parse(young.coverage?.oldest ?? '')).toBe(Math.floor(START / 1000) * 1000);
  nowMs += 11 * DAY_MS;
  expect((await run({ maxAgeMs: 30 * DAY_MS })).coverage).toMatchObject({ read: copies });
});

test('a deeper level counts for one that is less deep, and not the other way', async () => {
  await run({ level: 'objects' });
  expect((await run({ level: 'chunks', maxAgeMs: DAY_MS })).coverage?.read).toBe(copies);
  expect((await run({ level: 'objects', maxAgeMs: DAY_MS })).coverage?.read).toBe(0);
});

test('a verification of the future does not count: the clock was set back', async () => {
  await run();
  nowMs -= DAY_MS;
  expect((await run({ maxAgeMs: 30 * DAY_MS })).coverage?.read).toBe(copies);
});

test('what is missing, or has another size, is found though it was verified not long ago', async () => {
  await run();
  const [first = '', second = ''] = packs;
  const { inner } = storeOf(agent, 'a');
  await inner.delete(first);
  await inner.put(second, new Uint8Array(5));
  const { damaged, coverage } = await run({ maxAgeMs: DAY_MS });
  expect(damaged.map(({ key }) => key).toSorted()).toEqual([first, second].toSorted());
  expect(coverage).toMatchObject({ verified: copies - 2, oldest: null });
});

test('a budget covers everything in time: what was never read first, then what was read longest ago', async () => {
  const seen: string[] = [];
  const bytes = 1; // one pack a run: the first is always read
  for (let i = 0; i < copies; i++) {
    clearCalls();
    nowMs += 60_000;
    const { coverage, damaged } = await run({ budget: { bytes } });
    expect(damaged).toEqual([]);
    seen.push(...readsOfPacks());
    expect(coverage).toMatchObject({ verified: i + 1, total: copies, read: 1, left: copies - 1 });
    expect(coverage?.oldest === null).toBe(i < copies - 1);
  }
  expect(new Set(seen).size).toBe(copies);
  expect(new Set(seen.slice(0, copies / 2 + 1).map((read) => read.slice(0, 1))).size).toBe(2); // both backends have their turn
  clearCalls();
  nowMs += 60_000;
  await run({ budget: { bytes } });
  expect(readsOfPacks()).toEqual(seen.slice(0, 1));
});

test('a budget of bytes is kept to, and one of time ends the run in an orderly way', async () => {
  const bytes = 5000;
  const small = await run({ budget: { bytes } });
  const perPack = Math.max(...packs.map((key) => pristine.get('a')?.get(key)?.length ?? 0));
  expect(small.coverage?.read).toBeGreaterThanOrEqual(Math.floor(bytes / perPack));
  expect(small.coverage?.left).toBeGreaterThan(0);
  let ticks = 0;
  const slow: Clock = { ...clock, monotonic: () => ticks++ * 1000 };
  const timed = await verifyAs(agent, { level: 'chunks', folders, budget: { ms: 4000 } }, { clock: slow });
  expect(timed).toMatchObject({ damaged: [], complete: true });
  expect(timed.coverage?.left).toBeGreaterThan(0);
  expect(timed.coverage?.snapshots.accounted).toBeLessThan(4);
});

test('damage within the budget is found, and what was damaged counts as never verified', async () => {
  await run();
  const [key = ''] = packs;
  const bytes = Uint8Array.from(pristine.get('a')?.get(key) ?? []);
  bytes[100] = (bytes[100] ?? 0) ^ 1;
  await storeOf(agent, 'a').inner.put(key, bytes);
  nowMs += DAY_MS;
  expect((await run()).damaged).toHaveLength(1);
  const { coverage, damaged } = await run({ budget: { bytes: 1 }, maxAgeMs: 30 * DAY_MS });
  expect(damaged.map((one) => one.key)).toEqual([key]);
  expect(coverage).toMatchObject({ read: 1, verified: copies - 1 });
});

describe('what was found damaged', () => {
  const flip = (name: string, key: string) =>
    storeOf(agent, name).inner.put(
      key,
      (pristine.get(name)?.get(key) ?? new Uint8Array()).map((byte, i) => (i === 100 ? byte ^ 1 : byte)),
    );
  const [key = ''] = packs;

  test('is told until it is found whole, also where it is not read again, and nowhere said to be whole', async () => {
    await run();
    for (const name of ['a', 'b']) await flip(name, key);
    nowMs += DAY_MS;
    expect((await run()).damaged).toHaveLength(2);
    nowMs += DAY_MS;
    const { damaged, loss } = await run({ budget: { bytes: 1 }, maxAgeMs: 30 * DAY_MS });
    expect(damaged.map((one) => [one.backend, one.key, one.elsewhere, one.unread])).toEqual([
      ['a', key, [], []],
      ['b', key, [], []],
    ]);
    expect(loss).toMatchObject({ elsewhere: 0, unread: 0, everywhere: 1 });
    expect(damaged.filter(({ problem }) => problem.includes('not read again'))).toHaveLength(1);
    expect((await run({ level: 'listing' })).damaged).toHaveLength(2);
    for (const name of ['a', 'b'])
      await storeOf(agent, name).inner.put(key, pristine.get(name)?.get(key) ?? new Uint8Array());
    expect((await run({ level: 'listing' })).damaged).toEqual([]);
    clearCalls();
    expect((await run({ level: 'listing' })).damaged).toEqual([]);
    expect(readsOfPacks()).toEqual([]);
  });

  test('is learnt from the records of another host', async () => {
    await flip('a', key);
    await run();
    nowMs += DAY_MS;
    const other = { state: join(folders.state, 'other'), cache: folders.cache };
    const { damaged } = await run({ budget: { bytes: 1 }, maxAgeMs: 30 * DAY_MS, folders: other });
    expect(damaged.map((one) => [one.backend, one.key, one.elsewhere])).toEqual([['a', key, ['b']]]);
  });

  test('is healed by a repair at the level that reads no packs otherwise', async () => {
    await flip('a', key);
    await run();
    const { healed, left } = await repairAs(agent, {
      ...{ level: 'listing', folders },
      access: { kind: 'writer', access: agent.access.writer },
    });
    expect([healed, left]).toEqual([[{ backend: 'a', key }], []]);
    expect((await run({ level: 'listing' })).damaged).toEqual([]);
  });

  test('on one backend, and missing on another: a repair finds that, cuts nothing out unread, and says so', async () => {
    await storeOf(agent, 'a').inner.delete(key);
    await flip('b', key);
    const before = await run({ level: 'listing' });
    expect(before.damaged).toMatchObject([{ backend: 'a', key, elsewhere: [], unread: ['b'] }]);
    expect(before.loss).toMatchObject({ elsewhere: 0, unread: 1, everywhere: 0, snapshots: [] });
    const dry = await repairAs(agent, { level: 'listing', dryRun: true, folders });
    expect(dry).toMatchObject({ damaged: [{ repaired: false }], healed: [{ backend: 'a', key }], left: [] });
    const { damaged, loss, warnings } = await run({ level: 'listing', repair: true });
    expect(damaged.map((one) => [one.backend, one.elsewhere, one.unread, one.repaired])).toEqual([
      ['a', [], [], false],
      ['b', [], [], false],
    ]);
    expect(loss).toMatchObject({ elsewhere: 0, unread: 0, everywhere: 1 });
    expect(warnings.map(({ code }) => code)).toContain('not_healed');
  });
});

describe('another host', () => {
  test('learns from the signed records what was verified, without a memory of its own', async () => {
    const { recorded } = await run();
    expect(recorded).toMatch(/^verified\/\d{8}T\d{6}Z-[0-9a-f]{64}\.age$/);
    for (const name of ['a', 'b']) expect(await storeOf(agent, name).inner.head(recorded ?? '')).toBeDefined();
    clearCalls();
    nowMs += DAY_MS;
    const elsewhere = { state: join(folders.state, 'other'), cache: folders.cache };
    const { coverage } = await run({ maxAgeMs: 30 * DAY_MS, folders: elsewhere });
    expect(readsOfPacks()).toEqual([]);
    expect(coverage).toMatchObject({ read: 0, verified: copies });
  });

  test('believes nothing of a backend that has the same name and lies elsewhere', async () => {
    await run();
    const moved = agent.addresses.map(({ name, url }) => ({ name, url: name === 'a' ? `${url}/moved` : url }));
    const elsewhere = { state: join(folders.state, 'other'), cache: folders.cache };
    const { coverage } = await run({ maxAgeMs: DAY_MS, folders: elsewhere, backends: moved });
    expect(coverage).toMatchObject({ read: copies / 2, verified: copies });
  });

  test('sees by the records that storage was rolled back', async () => {
    await run();
    const newest = [...(pristine.get('a')?.keys() ?? [])].filter((key) => key.startsWith('snapshots/'));
    const repository = await agent.open();
    const last = (await repository.snapshots()).snapshots.at(-1)?.id ?? '?';
    for (const name of ['a', 'b'])
      await storeOf(agent, name).inner.delete(newest.find((key) => key.includes(last)) ?? '');
    const { damaged } = await run({ level: 'listing', folders: undefined });
    expect(damaged.map(({ key, snapshots }) => [key, snapshots])).toEqual([
      ['snapshots/', [last]],
      ['snapshots/', [last]],
    ]);
  });
});

test('without the agent’s key, or while a backend is away, nothing is stored on the backends, and it is remembered here', async () => {
  expect((await run({ signer: undefined })).recorded).toBeNull();
  expect((await run({ maxAgeMs: DAY_MS })).coverage?.read).toBe(0);
  storeOf(agent, 'b').plan({
    effect: 'fail',
    on: 'list',
    error: new HoldfastError('backend_unavailable', 'down'),
    times: Infinity,
  });
  expect(await run()).toMatchObject({ recorded: null, complete: false });
});

test('a memory that is damaged, lost or not to be written costs time only', async () => {
  await run({ signer: undefined });
  const path = join(folders.state, 'verified.json');
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ format: 1 });
  writeFileSync(path, readFileSync(path).subarray(0, 50));
  expect((await run({ signer: undefined, maxAgeMs: DAY_MS })).coverage?.read).toBe(copies);
  rmSync(folders.state, { recursive: true });
  writeFileSync(folders.state, 'a file is in the way');
  const { warnings, complete } = await run({ signer: undefined, maxAgeMs: DAY_MS });
  expect(warnings.map(({ code }) => code)).toEqual(['state_not_saved']);
  expect(complete).toBe(true);
});

test('a memory of a hundred thousand packs on three backends is small', () => {
  const memory = new VerifiedMemory(folders);
  const ids = Array.from({ length: 100_000 }, (_, i) => (i + 1).toString(16).padStart(16, '0').padEnd(64, 'a'));
  const places = ['x', 'y', 'z'].map((url) => placeOf({ url }));
  for (const place of places) memory.noteWhole(place, ids, 'objects', START);
  memory.save();
  expect(statSync(join(folders.state, 'verified.json')).size).toBeLessThan(8_000_000);
  const again = new VerifiedMemory(folders);
  for (const place of places) expect(again.lastWhole(place, ids[99_999] ?? '', 'objects')).toBeDefined();
});

test('a backend that is filled anew is looked at anew', async () => {
  await run({ folders: agent.folders });
  agent.stores.set('a', emptyStore('a'));
  await agent.sync(['a']);
  nowMs = aheadClock.now() + 60_000;
  expect((await run({ folders: agent.folders, maxAgeMs: DAY_MS })).coverage).toMatchObject({ read: packs.length });
});

test('a part says of the whole what it does, and no more', () => {
  expect(confidenceOf({ read: 300, total: 3000 })).toEqual({
    damagedShare: 0.01,
    probability: 0.958,
    text: '300 of 3,000 packs were read; if 1 % of packs were damaged, this run would have met one with 95 % probability',
  });
  expect(confidenceOf({ read: 3000, total: 3000 })).toBeUndefined();
  expect(confidenceOf({ read: 0, total: 3000 })).toBeUndefined();
  expect(confidenceOf({ read: 1, total: 2 })?.probability).toBe(0.5);
});

describe('a budget', () => {
  test.each(['listing', 'restore'] as const)(
    'is refused at level %s, which reads no packs by itself',
    async (level) => {
      await expect(run({ level, budget: { ms: 1 } })).rejects.toMatchObject({ code: 'usage' });
      await expect(run({ level, maxAgeMs: 1 })).rejects.toMatchObject({ code: 'usage' });
    },
  );
});

describe('restoring to verify', () => {
  const restoring = (over: Partial<VerifyOptions> = {}) => run({ level: 'restore', ...over });

  test('restores from each backend, compares, and leaves nothing behind', async () => {
    const result = await restoring();
    expect(result).toMatchObject({ damaged: [], warnings: [], complete: true });
    expect(result.restored.map(({ backend, files }) => [backend, files])).toEqual([
      ['a', 5],
      ['b', 5],
    ]);
    expect(readdirSync(folders.cache)).toEqual([]);
  });

  test('finds what one backend alone cannot restore', async () => {
    for (const key of await packKeysOf(agent, 'data')) {
      const bytes = pristine.get('b')?.get(key) ?? new Uint8Array();
      await storeOf(agent, 'b').inner.put(
        key,
        bytes.map((byte) => byte ^ 255),
      );
    }
    const { damaged } = await restoring();
    expect(damaged.map(({ backend, paths }) => [backend, paths.length])).toEqual([['b', 5]]);
    expect(readdirSync(folders.cache)).toEqual([]);
  });

  test('is stopped by a signal, and leaves nothing behind', async () => {
    const stop = new AbortController();
    const progress = (event: { type: string; name?: string }) => {
      if (event.type === 'phase' && event.name === 'comparing') stop.abort(new HoldfastError('interrupted', 'stopped'));
    };
    const options = { level: 'restore', folders } as const;
    await expect(verifyAs(agent, options, { clock, signal: stop.signal, progress })).rejects.toMatchObject({
      code: 'interrupted',
    });
    expect(readdirSync(folders.cache)).toEqual([]);
  });

  test('takes away what a run left that was killed, in a folder that nobody else can enter', async () => {
    const left = join(folders.cache, 'holdfast-scratch', 'tree-left', 'state');
    mkdirSync(left, { recursive: true });
    writeFileSync(join(left, 'secret'), 'x');
    const modes: number[] = [];
    const progress = (event: { type: string; name?: string }) => {
      if (event.type !== 'phase' || event.name !== 'comparing') return;
      expect(existsSync(left)).toBe(false);
      for (const path of [
        join(folders.cache, 'holdfast-scratch'),
        join(folders.cache, 'holdfast-scratch', treeIn(folders.cache)),
      ])
        modes.push(statSync(path).mode & 0o777);
    };
    await verifyAs(agent, { level: 'restore', folders }, { clock, progress });
    expect(new Set(modes.slice(1, 2))).toEqual(new Set([0o700]));
    expect(existsSync(join(folders.cache, 'holdfast-scratch'))).toBe(false);
  });

  test('takes the snapshot that is named, and needs the restore secret', async () => {
    expect((await restoring({ snapshot: 'latest~3' })).restored.map(({ files }) => files)).toEqual([2, 2]);
    const access = { kind: 'writer', access: agent.access.writer } as const;
    await expect(restoring({ access })).rejects.toMatchObject({ code: 'missing_key' });
  });
});

const treeIn = (cache: string) =>
  readdirSync(join(cache, 'holdfast-scratch')).find((name) => name.startsWith('tree-')) ?? '';
