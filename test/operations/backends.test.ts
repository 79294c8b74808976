/** Two backends: one of them down, behind, new, emptied. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openGuarded } from '../../src/backend/guarded.ts';
import type { BreakerState } from '../../src/policy/breaker.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { HoldfastError } from '../../src/errors.ts';
import { noProgress } from '../../src/progress.ts';
import { openMirror } from '../../src/operations/backends.ts';
import { listSnapshots } from '../../src/operations/look.ts';
import { sync } from '../../src/operations/sync.ts';
import { verify } from '../../src/operations/verify.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { FaultyBackend, type Fault } from '../faulty-backend.ts';
import { contentDifference, removeFolder } from '../state/trees.ts';
import {
  contentOf,
  contentsOf,
  emptyStore,
  expectLevel,
  storeOf,
  expectSameTree,
  smallAgents,
  putBack,
  type TestAgent,
} from './support.ts';

const { make, change } = smallAgents(seededRandom('backends'));

async function expectRestores(agent: TestAgent, names: readonly string[] = ['a', 'b']): Promise<void> {
  for (const name of names) {
    const target = mkdtempSync(join(agent.folder, 'out-'));
    const backends = agent.addresses.filter((address) => address.name === name);
    expect(await agent.restore(target, { backends })).toMatchObject({ complete: true, lost: [], warnings: [] });
    expectSameTree(target, agent.state);
  }
}

describe('a backend that is left alone because of earlier failures', () => {
  const refusing = (agent: TestAgent, names: readonly string[]) => {
    const insisted: string[] = [];
    const openBackend: Seams['openBackend'] = async ({ name }, { insist }) => {
      const store = storeOf(agent, name);
      if (insist) insisted.push(name);
      if (insist || !names.includes(name)) return store;
      const clock = agent.seams().clock;
      const state: BreakerState = {
        kind: 'open',
        untilMs: clock.now() + 60_000,
        failures: 1,
        opened: 1,
        lastError: 'was down',
      };
      const breaker = { read: () => state, write: () => undefined };
      return openGuarded(async () => store, { name, clock, random: agent.seams().random, breaker });
    };
    return { seams: { openBackend }, insisted };
  };

  test('is tried all the same where there is no other', async () => {
    await using agent = await make();
    const both = refusing(agent, ['a', 'b']);
    expect((await agent.backup({}, both.seams)).backends.map(({ state }) => state)).toEqual(['committed', 'committed']);
    expect(both.insisted).toEqual(['a', 'b']);
  });

  test('is left alone where there is another', async () => {
    await using agent = await make();
    const one = refusing(agent, ['b']);
    const { backends } = await agent.backup({}, one.seams);
    expect(backends).toMatchObject([
      { state: 'committed' },
      { state: 'failed', error: { hint: expect.stringContaining('sync') as string } },
    ]);
    expect(one.insisted).toEqual([]);
  });
});

test('nobody says that there is no repository while a backend that may hold it is out of reach', async () => {
  await using agent = await make();
  await agent.backup();
  agent.stores.set('a', emptyStore('a'));
  agent.stores.delete('b');
  for (const work of [() => agent.backup(), () => agent.sync(), () => agent.restore(join(agent.folder, 'out'))]) {
    const error = await failure(work, 'not_enough_backends');
    expect(error.message).toMatch(/backend b .*no holdfast repository on backend a/);
  }
});

describe('a backend that is down', () => {
  test('at the start fails, the others get the snapshot; with too few of them the run is incomplete', async () => {
    await using agent = await make();
    const away = storeOf(agent, 'b');
    agent.stores.delete('b');
    const first = await agent.backup();
    expect(first.backends).toEqual([
      { name: 'a', state: 'committed' },
      { name: 'b', state: 'failed', error: { code: 'backend_unavailable', message: expect.stringContaining('b') } },
    ]);
    expect(first.complete).toBe(false);
    expect(first.warnings).toMatchObject([{ code: 'backend_failed', message: expect.stringContaining('backend b') }]);
    expect((await agent.backup({ require: 1 })).complete).toBe(true);
    await expectRestores(agent, ['a']);
    agent.stores.set('b', away);
  });

  test('is brought level by the next run, without the source being read again', async () => {
    await using agent = await make();
    await agent.backup();
    const away = storeOf(agent, 'b');
    agent.stores.delete('b');
    change(agent, 'three');
    await agent.backup();
    change(agent, 'four');
    await agent.backup();
    agent.stores.set('b', away);
    const third = await agent.backup();
    expect(third.complete).toBe(true);
    expect(third.bytes.read).toBe(0);
    expect(third.warnings).toMatchObject([{ code: 'levelled', message: expect.stringContaining('backend b') }]);
    expect(third.backends.map(({ state }) => state)).toEqual(['committed', 'committed']);
    await expectLevel(agent);
    await expectRestores(agent);
    expect((await agent.verify('chunks')).damaged).toEqual([]);
  });

  test('wherever it stands in the config', async () => {
    await using agent = await make();
    const away = storeOf(agent, 'a');
    agent.stores.delete('a');
    await agent.backup();
    agent.stores.set('a', away);
    expect((await agent.backup()).warnings).toMatchObject([
      { code: 'levelled', message: expect.stringContaining('backend a') },
    ]);
    await expectLevel(agent);
  });

  test.each([/^packs\//, /^index\//, /^snapshots\//])(
    'from the first %s on is behind, and never holds a snapshot without what it needs',
    async (key) => {
      await using agent = await make();
      await agent.backup();
      change(agent, 'three');
      storeOf(agent, 'b').plan({ effect: 'fail', on: 'put', key, times: Infinity });
      const second = await agent.backup();
      expect(second.backends).toMatchObject([
        { state: 'committed' },
        { state: 'behind', error: { code: 'backend_unavailable' } },
      ]);
      expect(second.complete).toBe(false);
      agent.stores.set('b', new FaultyBackend(storeOf(agent, 'b').inner, { name: 'b' }));
      // What b holds is a whole repository: it only lacks the newest snapshot.
      await using alone = await agent.open('restore', ['b']);
      expect((await alone.snapshots()).snapshots.map(({ record }) => record.seq)).toEqual([0]);
      expect((await agent.backup()).complete).toBe(true);
      await expectLevel(agent);
      await expectRestores(agent);
    },
  );

  test('together with all others stops the run, and nothing is half there', async () => {
    await using agent = await make();
    await agent.backup();
    change(agent, 'three');
    for (const name of ['a', 'b'])
      storeOf(agent, name).plan({ effect: 'fail', on: 'put', key: /^index\//, times: Infinity });
    const error = await failure(() => agent.backup(), 'not_enough_backends');
    expect(error.message).toMatch(/a: .*b: /);
    for (const name of ['a', 'b']) agent.stores.set(name, new FaultyBackend(storeOf(agent, name).inner, { name }));
    expect(await agent.backup()).toMatchObject({ complete: true, snapshot: { seq: 1 } });
    await expectRestores(agent);
  });

  test('while the other is brought level from it costs nothing that was there', async () => {
    await using agent = await make();
    await agent.backup();
    const away = storeOf(agent, 'b');
    agent.stores.delete('b');
    change(agent, 'three');
    await agent.backup();
    agent.stores.set('b', away);
    const contents = await contentsOf(agent);
    const { operations } = storeOf(agent, 'a');
    operations.length = 0;
    await agent.backup();
    const reads = operations.filter(({ operation }) => operation === 'get').length;
    for (let nth = 1; nth <= reads; nth++) {
      await putBack(agent, contents);
      storeOf(agent, 'a').plan({ effect: 'fail', on: 'get', nth, times: Infinity });
      const result = await agent.backup();
      expect(result.backends[1], `a dies at its read ${nth}`).toEqual({ name: 'b', state: 'committed' });
      agent.stores.set('a', new FaultyBackend(storeOf(agent, 'a').inner, { name: 'a' }));
      await expectRestores(agent, ['b']);
      // What b lacks now is the snapshot that only a holds.
      const [, b] = agent.addresses;
      const { damaged } = await verify(
        {
          backends: b ? [b] : [],
          level: 'chunks',
          access: { kind: 'restore', secret: { kind: 'root', root: agent.root } },
        },
        agent.seams(),
      );
      expect(damaged.filter(({ problem }) => !problem.startsWith('chain: its parent'))).toEqual([]);
    }
  });
});

describe('a pack that is lost', () => {
  test('everywhere is said, and what it held is stored again where the state still has it', async () => {
    await using agent = await make();
    await agent.backup();
    const away = storeOf(agent, 'b');
    agent.stores.delete('b');
    change(agent, 'three');
    const before = new Set((await contentOf(storeOf(agent, 'a').inner)).keys());
    await agent.backup();
    const lost = [...(await contentOf(storeOf(agent, 'a').inner)).keys()].filter(
      (key) => key.startsWith('packs/') && !before.has(key),
    );
    for (const key of lost) await storeOf(agent, 'a').inner.delete(key);
    agent.stores.set('b', away);
    const result = await agent.backup();
    expect(result.backends).toMatchObject([{ state: 'committed' }, { state: 'committed' }]);
    expect(result.complete).toBe(false);
    for (const key of lost)
      expect(result.warnings).toContainEqual(
        expect.objectContaining({ code: 'lost', message: expect.stringContaining(key), incomplete: true }),
      );
    for (const name of ['a', 'b']) {
      const target = join(agent.folder, `from-${name}`);
      const backends = agent.addresses.filter((address) => address.name === name);
      expect(await agent.restore(target, { backends })).toMatchObject({ complete: true, lost: [] });
      expectSameTree(target, agent.state);
    }
  });

  test('on one backend is copied back from the other', async () => {
    await using agent = await make();
    await agent.backup();
    for (const key of (await contentOf(storeOf(agent, 'a').inner)).keys())
      if (key.startsWith('packs/')) await storeOf(agent, 'a').inner.delete(key);
    expect((await agent.backup()).warnings).toMatchObject([
      { code: 'levelled', message: expect.stringContaining('backend a') },
    ]);
    await expectLevel(agent);
    await expectRestores(agent);
  });

  test('on one backend, and of the wrong size on the other, is never copied over', async () => {
    await using agent = await make();
    await agent.backup();
    const [key = ''] = [...(await contentOf(storeOf(agent, 'a').inner)).keys()].filter((one) =>
      one.startsWith('packs/'),
    );
    const half = (await storeOf(agent, 'a').inner.get(key)).slice(0, 400);
    await storeOf(agent, 'a').inner.put(key, half);
    const result = await agent.backup();
    expect(result.complete).toBe(false);
    expect(result.warnings).toMatchObject([{ code: 'not_level', message: expect.stringContaining('backend a') }]);
    expect((await storeOf(agent, 'a').inner.get(key)).length).toBe(400);
    await storeOf(agent, 'b').inner.delete(key);
    expect((await agent.backup()).warnings.map(({ code }) => code)).toContain('lost');
    const target = join(agent.folder, 'out');
    expect(await agent.restore(target)).toMatchObject({ complete: true, lost: [] });
    expectSameTree(target, agent.state);
  });
});

describe('sync', () => {
  test('of level backends copies nothing', async () => {
    await using agent = await make();
    await agent.backup();
    const result = await agent.sync();
    expect(result).toMatchObject({
      complete: true,
      backends: [
        { objects: 0, state: 'level' },
        { objects: 0, state: 'level' },
      ],
    });
  });

  test('fills a backend that is new, without reading the source', async () => {
    await using agent = await make({ backends: ['a'] });
    await agent.backup();
    change(agent, 'three');
    await agent.backup();
    renameSync(agent.state, `${agent.state}-away`);
    const addresses = [...agent.addresses, { name: 'c', url: `file://${join(agent.folder, 'c')}` }];
    const result = await agent.sync([], addresses);
    renameSync(`${agent.state}-away`, agent.state);
    const held = await contentOf(storeOf(agent, 'a').inner);
    expect(result).toMatchObject({
      complete: true,
      backends: [
        { name: 'a', state: 'level', objects: 0 },
        { name: 'c', state: 'level', objects: held.size },
      ],
    });
    await expectLevel(agent, 'a', 'c');
    // From then on it counts.
    expect((await agent.backup({ backends: addresses, require: 2 })).complete).toBe(true);
  });

  test('fills a new folder', async () => {
    await using agent = await make({ storage: 'folders', backends: ['a'] });
    await agent.backup();
    const addresses = [...agent.addresses, { name: 'c', url: `file://${join(agent.folder, 'c')}` }];
    expect((await agent.sync([], addresses)).complete).toBe(true);
    rmSync(join(agent.folder, 'a', 'tmp'), { recursive: true });
    rmSync(join(agent.folder, 'c', 'tmp'), { recursive: true });
    expect(contentDifference(join(agent.folder, 'a'), join(agent.folder, 'c'))).toBe('');
  });

  test('fills no place that holds something else', async () => {
    await using agent = await make({ backends: ['a'] });
    await agent.backup();
    const other = emptyStore('c');
    await other.put('notes', Buffer.from('mine'));
    agent.stores.set('c', other);
    const addresses = [...agent.addresses, { name: 'c', url: 'file:///c' }];
    const result = await agent.sync([], addresses);
    expect(result).toMatchObject({
      complete: false,
      backends: [{ state: 'level' }, { state: 'failed', error: { code: 'exists' } }],
    });
    expect([...(await contentOf(other)).keys()]).toEqual(['notes']);
  });

  const cut: Fault = { effect: 'fail', on: 'put', error: new HoldfastError('interrupted', 'stop') };
  test.each<[string, object, (Fault | undefined)?, Uint8Array?]>([
    ['filled', { complete: true }],
    ['refused', { complete: false }, undefined, Buffer.from('something else')],
    ['being filled when the run is cut off', { code: 'interrupted' }, cut],
  ])('closes a new backend that is %s', async (_, outcome, fault, there) => {
    await using agent = await make();
    await agent.backup();
    const store = emptyStore('c');
    if (fault) store.plan(fault);
    if (there) await store.inner.put('something', there);
    let open = 0;
    store[Symbol.asyncDispose] = () => Promise.resolve(void open--);
    const openBackend: Seams['openBackend'] = (address) => {
      if (address.name !== 'c') return Promise.resolve(storeOf(agent, address.name));
      open++;
      return Promise.resolve(store);
    };
    const backends = [...agent.addresses, { name: 'c', url: 'file:///c' }];
    const options = {
      backends,
      access: agent.access.writer,
      signer: agent.signer,
      host: 'h',
      folders: agent.folders,
      refill: [],
    };
    const end = await sync(options, agent.seams({ openBackend })).catch((error: unknown) => error);
    expect(end).toMatchObject(outcome);
    expect(open).toBe(0);
  });

  test('does not fill a backend that held the repository and is empty now, unless told to', async () => {
    await using agent = await make();
    await agent.backup();
    agent.stores.set('b', emptyStore('b'));
    const result = await agent.sync();
    expect(result).toMatchObject({
      complete: false,
      backends: [{ state: 'level' }, { state: 'failed', error: { code: 'no_repository' } }],
    });
    expect(result.backends[1]?.error?.hint).toContain('--refill b');
    expect((await contentOf(storeOf(agent, 'b').inner)).size).toBe(0);
    // Nor does a backup.
    expect((await agent.backup()).backends).toMatchObject([{ state: 'committed' }, { state: 'failed' }]);
    expect((await contentOf(storeOf(agent, 'b').inner)).size).toBe(0);

    expect(await agent.sync(['b'])).toMatchObject({ complete: true });
    await expectLevel(agent);
    await expectRestores(agent);
  });

  test('goes on where it was cut off', async () => {
    await using agent = await make({ backends: ['a'] });
    await agent.backup();
    change(agent, 'three');
    await agent.backup();
    const addresses = [...agent.addresses, { name: 'c', url: 'file:///c' }];
    const objects = (await contentOf(storeOf(agent, 'a').inner)).size;
    const filled = emptyStore('c');
    for (let n = 1; n <= objects; n++) {
      const store = emptyStore('c');
      agent.stores.set('c', store.dieAt(n, n % 2 ? 'fail' : 'fail-after'));
      expect((await agent.sync([], addresses)).complete).toBe(false);
      // A copy that was cut off is no repository yet: nothing restores half of it.
      agent.stores.set('c', new FaultyBackend(store.inner, { name: 'c' }));
      const backends = [{ name: 'c', url: 'file:///c' }];
      if (n < objects) await failure(() => agent.restore(join(agent.folder, `o${n}`), { backends }), 'no_repository');
      for (const [key, bytes] of await contentOf(store.inner)) await filled.inner.put(key, bytes);
    }
    agent.stores.set('c', filled);
    expect((await agent.sync(['c'], addresses)).complete).toBe(true);
    await expectLevel(agent, 'a', 'c');
  });

  test('names what it does not know', async () => {
    await using agent = await make();
    await failure(() => agent.sync(['x']), 'usage');
  });

  test('says so when something could not be copied', async () => {
    await using agent = await make();
    await agent.backup();
    await storeOf(agent, 'a').put(`index/${'ab'.repeat(32)}.age`, Buffer.from('junk'));
    const result = await agent.sync();
    expect(result).toMatchObject({
      complete: false,
      backends: [{ state: 'level' }, { state: 'failed', error: { code: 'damaged' } }],
    });
  });
});

describe('a backup beside a verification', () => {
  test.each(['listing', 'objects', 'chunks'] as const)(
    'is no damage, though one backend was listed before it and one after (%s)',
    async (level) => {
      await using agent = await make();
      await agent.backup();
      const { inner } = storeOf(agent, 'a');
      const before = new Set((await contentOf(inner)).keys());
      change(agent, 'three');
      await agent.backup();
      const list = inner.list.bind(inner);
      inner.list = async function* (prefix, options) {
        for await (const object of list(prefix, options)) if (before.has(object.key)) yield object;
      };
      expect(await agent.verify(level)).toMatchObject({ damaged: [] });
    },
  );
});

describe('a defect of holdfast is no failure of the backend at which it showed', () => {
  const defect = { effect: 'fail', on: 'list', error: new HoldfastError('bug', 'a defect') } as const;

  test('while snapshots are listed', async () => {
    await using agent = await make();
    await agent.backup();
    storeOf(agent, 'a').plan({ ...defect, key: 'snapshots/' });
    const look = listSnapshots({ backends: agent.addresses, access: agent.access.writer }, agent.seams());
    await failure(() => look, 'bug');
  });

  test('while a new backend is filled', async () => {
    await using agent = await make();
    await agent.backup();
    agent.stores.set('c', emptyStore('c').plan(defect));
    const addresses = [...agent.addresses, { name: 'c', url: 'file:///c' }];
    await failure(() => agent.sync([], addresses), 'bug');
  });
});

test('backends are closed again when another cannot be used at all', async () => {
  const store = emptyStore('a');
  let closed = 0;
  store[Symbol.asyncDispose] = () => Promise.resolve(void closed++);
  const openBackend: Seams['openBackend'] = async ({ name }) => {
    if (name === 'a') return store;
    throw new HoldfastError('config_invalid', 'no such place');
  };
  const seams = { clock: systemClock, random: systemRandom, progress: noProgress, openBackend };
  const addresses = ['a', 'b'].map((name) => ({ name, url: `file:///${name}` }));
  await failure(() => openMirror(addresses, seams), 'config_invalid');
  expect(closed).toBe(1);
});

describe('one folder under two names', () => {
  test.each([
    ['a link', 'link'],
    ['another spelling', './store/../store'],
  ])('(%s) is refused: it would count as two copies', async (_, second) => {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-twins-'));
    try {
      mkdirSync(join(folder, 'store'));
      symlinkSync('store', join(folder, 'link'));
      const addresses = [
        { name: 'nas', url: `file://${folder}/store` },
        { name: 'usb', url: `file://${folder}/${second}` },
      ];
      const seams = { clock: systemClock, random: systemRandom, progress: noProgress };
      const { message } = await failure(() => openMirror(addresses, seams), 'config_invalid');
      expect(message).toContain('nas and usb');
    } finally {
      removeFolder(folder);
    }
  });
});
