import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isHoldfastError } from '../../src/errors.ts';
import { beginHostRun } from '../../src/operations/begin-run.ts';
import { takeLock } from '../../src/operations/host/lock.ts';
import { prune, type PruneOptions, type PruneResult } from '../../src/operations/prune.ts';
import { repair } from '../../src/operations/repair.ts';
import { restore } from '../../src/operations/restore.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { verify } from '../../src/operations/verify.ts';
import { ForgottenMarks } from '../../src/operations/host/forgotten-marks.ts';
import {
  beginRun,
  condemn,
  putBack,
  readAnnotations,
  readCondemned,
  readRuns,
  runsNotOver,
  timestamp,
} from '../../src/repository/repository.ts';
import { failure, seededNoise } from '../crypto/support.ts';
import {
  aheadClock,
  contentsOf,
  contentOf,
  expectLevel,
  leavingBackends,
  makeAgent,
  putBack as putStoresBack,
  storeOf,
  type TestAgent,
} from './support.ts';
import { FaultyBackend } from '../faulty-backend.ts';

const DAY_MS = 86_400_000;
const noise = seededNoise('prune');
/** Time goes by only as the test says; nobody sleeps. */
const clockAt = (days: number) => ({
  ...aheadClock,
  now: () => aheadClock.now() + days * DAY_MS,
  sleep: async () => {},
});

let agent: TestAgent;
let prepared: Awaited<ReturnType<typeof contentsOf>>;
const REMEMBERED = ['local', 'cache'];

/** Three snapshots: `big` is in the first two only, `small` in all. */
beforeAll(async () => {
  agent = await makeAgent({ seed: 'prune' });
  const file = (name: string) => join(agent.state, name);
  writeFileSync(file('big'), noise.bytes(400_000));
  writeFileSync(file('small'), noise.bytes(30_000));
  await agent.backup();
  writeFileSync(file('other'), noise.bytes(30_000));
  await agent.backup();
  rmSync(file('big'));
  await agent.backup();
  prepared = await contentsOf(agent);
  for (const name of REMEMBERED)
    cpSync(join(agent.folder, name), join(agent.folder, 'prepared', name), { recursive: true });
});
afterAll(() => agent[Symbol.asyncDispose]());

/** The agent, its host and its backends as they were after the third. */
async function threeSnapshots(): Promise<void> {
  const clear = (folder: string, kept: readonly string[]) => {
    for (const name of readdirSync(folder)) if (!kept.includes(name)) rmSync(join(folder, name), { recursive: true });
  };
  clear(agent.state, ['small', 'other']);
  clear(agent.folder, ['state', 'keys', 'prepared']);
  cpSync(join(agent.folder, 'prepared'), agent.folder, { recursive: true });
  await putStoresBack(agent, prepared);
}

/** As `forget` does it. */
async function forget(...numbers: number[]): Promise<void> {
  const repository = await agent.open();
  const { snapshots } = await repository.snapshots();
  const going = snapshots.filter(({ record }) => numbers.includes(record.seq));
  const held = await Promise.all(
    going.map(async ({ key }) => ({ key, object: Buffer.from(await repository.mirror.get(key)).toString('base64') })),
  );
  const said = { time: timestamp(aheadClock.now()), host: 'h', packs: [], snapshots: held };
  await condemn(repository, said, agent.signer, agent.seams());
  const { annotations } = await readAnnotations(repository);
  const marks = new ForgottenMarks(repository, annotations, { signer: agent.signer, host: 'h' }, agent.seams());
  await marks.add(going, snapshots);
  for (const { key } of going) await repository.mirror.delete(key);
}

function pruneWith(over: Partial<PruneOptions> = {}, days = 0, seams: Partial<Seams> = {}): Promise<PruneResult> {
  return prune(
    {
      backends: agent.addresses,
      secret: { kind: 'identities', identities: [agent.restoreKey] },
      foldersOf: () => ({ state: join(agent.folder, 'keeper'), cache: join(agent.folder, 'keeper') }),
      host: 'keeper',
      graceMs: 7 * DAY_MS,
      settleMs: 120_000,
      waitMs: 0,
      repackBytes: 2 ** 30,
      presumeOver: [],
      dryRun: false,
      ...over,
    },
    agent.seams({ clock: clockAt(days), ...seams }),
  );
}

const keysOf = async (name: string, kind: string) =>
  [...(await contentOf(storeOf(agent, name).inner)).keys()].filter((key) => key.startsWith(`${kind}/`));

async function expectRestores(content: Record<string, Uint8Array>): Promise<void> {
  for (const name of ['a', 'b']) {
    const target = join(agent.folder, `restored-${name}`);
    rmSync(target, { recursive: true, force: true });
    const backends = agent.addresses.filter((one) => one.name === name);
    expect(await agent.restore(target, { backends })).toMatchObject({ lost: [], complete: true });
    for (const [file, bytes] of Object.entries(content))
      expect(Buffer.compare(readFileSync(join(target, file)), bytes), file).toBe(0);
  }
}
/** What was forgotten is a gap in the chain. */
const verified = async (...names: string[]) => {
  const backends = agent.addresses.filter(({ name }) => names.length === 0 || names.includes(name));
  const access = { kind: 'restore', secret: { kind: 'root', root: agent.root } } as const;
  const { complete, damaged } = await verify({ backends, access, level: 'chunks' }, agent.seams());
  return { complete, damaged: damaged.filter(({ problem }) => !problem.startsWith('chain: its parent')) };
};
const stateFiles = () => ({
  small: readFileSync(join(agent.state, 'small')),
  other: readFileSync(join(agent.state, 'other')),
});

describe('prune', () => {
  test('condemns what no snapshot needs, and deletes it after the grace; what is needed restores', async () => {
    await threeSnapshots();
    await forget(0, 1);
    const before = await contentsOf(agent);
    const first = await pruneWith();
    expect(first.condemned.packs).toBeGreaterThan(0);
    expect(first).toMatchObject({ deleted: { packs: 0, bytes: 0 }, waiting: [], complete: true });
    expect((await pruneWith({}, 6)).deleted.packs).toBe(0);
    const second = await pruneWith({}, 8);
    expect(second.deleted.packs).toBe(first.condemned.packs);
    expect(second.deleted.byBackend.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(second.deleted.bytes).toBeGreaterThan(800_000);
    expect(second.complete).toBe(true);
    const held = [...(before.get('a') ?? [])].reduce((sum, [, bytes]) => sum + bytes.length, 0);
    const left = [...(await contentOf(storeOf(agent, 'a').inner))].reduce((sum, [, bytes]) => sum + bytes.length, 0);
    expect(left).toBeLessThan(held - 400_000);
    expect(await keysOf('a', 'condemned')).toEqual([]);
    expect(await keysOf('a', 'runs')).toEqual([]);
    await expectLevel(agent);
    expect(await verified()).toMatchObject({ complete: true });
    await expectRestores(stateFiles());
    const next = await agent.backup();
    expect(next).toMatchObject({ complete: true, bytes: { read: 0, added: expect.any(Number) as number } });
  });

  test('with every snapshot there, has nothing to do', async () => {
    await threeSnapshots();
    await leavingBackends(agent, async () => {
      expect(await pruneWith({ dryRun: true })).toMatchObject({ condemned: { packs: 0 }, due: { packs: 0 } });
    });
    expect(await pruneWith({ graceMs: 0 })).toMatchObject({ condemned: { packs: 0 }, deleted: { packs: 0 } });
  });

  test('that only looks changes nothing, and says what would go', async () => {
    await threeSnapshots();
    await forget(0, 1);
    const looked = await leavingBackends(agent, () => pruneWith({ dryRun: true }));
    expect(looked.condemned.bytes).toBeGreaterThan(400_000);
    const done = await pruneWith();
    expect(done.condemned.packs).toBe(looked.condemned.packs);
    const due = await leavingBackends(agent, () => pruneWith({ dryRun: true }, 8));
    expect(due.due.packs).toBe(done.condemned.packs);
  });

  test('waits for an unfinished backup, by name, until a person or the next backup says that it is over', async () => {
    await threeSnapshots();
    await forget(0, 1);
    const repository = await agent.open();
    const run = await beginRun(repository, { kind: 'write', host: 'laptop', after: [] }, agent.signer, agent.seams());
    const { condemned } = await pruneWith();
    const waiting = await pruneWith({}, 8);
    expect(waiting).toMatchObject({
      deleted: { packs: 0 },
      complete: false,
      waiting: [{ host: 'laptop', run: run.id }],
    });
    expect(waiting.warnings.map(({ message }) => message).join()).toContain('--presume-over');
    expect((await pruneWith({ presumeOver: ['desktop', run.id.slice(8, 16)] }, 8)).deleted.packs).toBe(0);
    expect((await pruneWith({ presumeOver: ['laptop'] }, 8)).deleted.packs).toBe(condemned.packs);
  });

  test('keeps what a backup that was under way has come to need', async () => {
    await threeSnapshots();
    await forget(0, 1);
    await pruneWith();
    // One that had looked before: it relies on what is condemned now.
    const { condemned } = await readCondemned(await agent.open());
    const hidden = new Map<string, Uint8Array>();
    for (const { key } of condemned)
      for (const [name, store] of agent.stores) {
        hidden.set(`${name} ${key}`, await store.inner.get(key));
        await store.inner.delete(key);
      }
    const undone = join(agent.folder, 'undone');
    const held = condemned.find(({ record }) => record.snapshots.length > 0);
    for (const { key, object } of held?.record.snapshots ?? [])
      for (const store of agent.stores.values()) await store.inner.put(key, Buffer.from(object, 'base64'));
    for (const [at, bytes] of hidden) {
      const [name = '', key = ''] = at.split(' ');
      await storeOf(agent, name).inner.put(key, bytes);
    }
    expect(await pruneWith({}, 8)).toMatchObject({ deleted: { packs: 0 }, complete: true });
    expect(await verified()).toMatchObject({ complete: true, damaged: [] });
    expect(await agent.restore(undone, { snapshot: 'latest~1' })).toMatchObject({ lost: [], complete: true });
    expect(await keysOf('a', 'condemned')).toEqual([]);
  });

  test('lets what was forgotten be put back for as long as the grace, and not after', async () => {
    await threeSnapshots();
    await forget(0, 1);
    const repository = await agent.open();
    const { condemned } = await readCondemned(repository);
    const record = condemned[0] as (typeof condemned)[number];
    await pruneWith();
    const undo = async (days: number) => {
      const said = { kind: 'write', host: 'h', after: [] } as const;
      const run = await beginRun(repository, said, agent.signer, agent.seams());
      try {
        await putBack(repository, record, run, { clock: clockAt(days), settleMs: 1 });
      } finally {
        await repository.mirror.delete(run.key);
      }
    };
    await undo(1);
    expect(await verified()).toMatchObject({ complete: true, damaged: [] });
    for (const { key } of record.record.snapshots) await repository.mirror.delete(key);
    await pruneWith({}, 8);
    await failure(() => undo(9), 'not_found');
    expect(await keysOf('a', 'snapshots')).toHaveLength(1);
  });

  test('with anything unreadable that may need something, deletes nothing', async () => {
    await threeSnapshots();
    await forget(0);
    const [key = ''] = await keysOf('a', 'snapshots');
    for (const name of ['a', 'b']) {
      const bytes = await storeOf(agent, name).inner.get(key);
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      await storeOf(agent, name).inner.put(key, bytes);
    }
    const packs = await keysOf('a', 'packs');
    const error = await failure(() => pruneWith({ graceMs: 0 }), 'damaged');
    expect(error.message).toContain(key);
    expect(await keysOf('a', 'packs')).toEqual(packs);
    expect(await keysOf('a', 'condemned')).toHaveLength(1);
  });

  test('goes on without a backend that is down; when it is back, both end up the same', async () => {
    await threeSnapshots();
    await forget(0, 1);
    await pruneWith();
    storeOf(agent, 'b').plan({ effect: 'fail', times: Infinity });
    const result = await pruneWith({}, 8);
    expect(result.deleted.packs).toBeGreaterThan(0);
    expect(result).toMatchObject({ complete: false, deleted: { byBackend: [{ name: 'a' }] } });
    agent.stores.set('b', new FaultyBackend(storeOf(agent, 'b').inner, { name: 'b' }));
    await agent.backup();
    // But for the record of what was forgotten: where it is gone, what its snapshots need is gone too, and nobody may put them back.
    const onA = await keysOf('a', 'condemned');
    expect((await keysOf('b', 'condemned')).filter((key) => !onA.includes(key))).toHaveLength(1);
    expect((await pruneWith({ graceMs: 0 }, 9)).complete).toBe(true);
    await expectLevel(agent);
    expect(await keysOf('b', 'condemned')).toEqual([]);
    expect(await verified()).toMatchObject({ complete: true, damaged: [] });
    await expectRestores(stateFiles());
  });

  test('rewrites a pack of which little is needed', async () => {
    await threeSnapshots();
    await forget(0, 1);
    const { repacked } = await pruneWith({ repackBytes: 2 ** 30 });
    expect(repacked.packs).toBeGreaterThan(0);
    expect(repacked.storedBytes).toBeLessThan(repacked.readBytes / 2);
    expect(await verified()).toMatchObject({ complete: true, damaged: [] });
  });

  test('within its budget', async () => {
    await threeSnapshots();
    await forget(0, 1);
    expect((await pruneWith({ repackBytes: 1000 })).repacked).toMatchObject({ packs: 0, readBytes: 0 });
  });
});

describe('beside a prune', () => {
  /** Listed, and replaced before it could be read. */
  const replaced = () => {
    for (const store of agent.stores.values()) store.plan({ effect: 'vanish', on: 'get', key: /^index\//, times: 1 });
  };

  test('who reads or writes while indexes are replaced looks again', async () => {
    await threeSnapshots();
    replaced();
    expect(await agent.restore(join(agent.folder, 'out'))).toMatchObject({ lost: [], complete: true, warnings: [] });
    replaced();
    expect(await agent.backup()).toMatchObject({ complete: true, warnings: [], bytes: { added: 0 } });
    for (const store of agent.stores.values()) store.assertAllFired();
  });

  test('a restore that began before packs were rewritten and deleted finds what it needs where it is now', async () => {
    await threeSnapshots();
    await forget(0, 1);
    const prunes = async () => {
      const { repacked } = await pruneWith();
      return { repacked, deleted: (await pruneWith({ graceMs: 0 }, 8)).deleted };
    };
    let pruned: ReturnType<typeof prunes> | undefined;
    const seams = agent.seams({
      progress: (event) => {
        if (event.type !== 'phase' || event.name !== 'restoring') return;
        pruned = prunes(); // the restore's first read of contents waits for them
        storeOf(agent, 'a').plan({ effect: 'delay', on: 'get', key: /^packs/, until: pruned });
      },
    });
    const target = join(agent.folder, 'late');
    const secret = { kind: 'root', root: agent.root } as const;
    const from = { backends: agent.addresses, secret, snapshot: 'latest', paths: ['small'], from: 'a' };
    expect(await restore({ ...from, target }, seams)).toMatchObject({ lost: [], complete: true });
    expect((await pruned)?.repacked.packs).toBeGreaterThan(0);
    expect((await pruned)?.deleted.packs).toBeGreaterThan(0);
    expect(Buffer.compare(readFileSync(join(target, 'small')), stateFiles().small)).toBe(0);
    storeOf(agent, 'a').assertAllFired();
  });

  test('a backup stores again what is condemned', async () => {
    await threeSnapshots();
    const big = noise.bytes(300_000);
    writeFileSync(join(agent.state, 'again'), big);
    await agent.backup();
    rmSync(join(agent.state, 'again'));
    await agent.backup();
    await forget(0, 1, 2, 3);
    await pruneWith();
    writeFileSync(join(agent.state, 'again'), big);
    const saved = await agent.backup();
    expect(saved.bytes.added).toBeGreaterThan(big.length - 1);
    await pruneWith({}, 8);
    expect(await verified()).toMatchObject({ complete: true, damaged: [] });
    await expectRestores({ again: big });
  });

  test('a backend with a condemned record that cannot be read anywhere is not written to', async () => {
    await threeSnapshots();
    await forget(0);
    const [key = ''] = await keysOf('a', 'condemned');
    await storeOf(agent, 'b').inner.put(key, Buffer.from('spoiled'));
    expect((await agent.backup()).backends.map(({ state }) => state)).toEqual(['committed', 'committed']);
    await storeOf(agent, 'a').inner.delete(key);
    const without = await agent.backup();
    expect(without).toMatchObject({ complete: false, backends: [{ state: 'committed' }, { state: 'behind' }] });
    await storeOf(agent, 'a').inner.put(key, Buffer.from('spoiled'));
    const packs = await keysOf('a', 'packs');
    expect((await failure(() => agent.backup(), 'damaged')).message).toContain(key);
    await failure(() => pruneWith({ graceMs: 0 }), 'damaged');
    expect(await keysOf('a', 'packs')).toEqual(packs);
  });
});

describe('on a host that makes backups too', () => {
  const asAgent = (days: number, seams: Partial<Seams> = {}) =>
    pruneWith({ foldersOf: () => agent.folders }, days, seams);

  test('keeps none of them out while it waits, is not taken for over by them, and the next prune ends one that died', async () => {
    await threeSnapshots();
    await forget(0, 1);
    const { condemned } = await asAgent(0);
    const saved: boolean[] = [];
    const sweeping: boolean[] = [];
    const sleep = async () => {
      saved.push((await agent.backup()).complete);
      const { runs } = await readRuns(await agent.open());
      sweeping.push(runsNotOver(runs, []).some(({ record }) => record.kind === 'sweep'));
    };
    expect((await asAgent(8, { clock: { ...clockAt(8), sleep } })).deleted.packs).toBe(condemned.packs);
    expect(saved).toEqual([true, true]);
    expect(sweeping).toEqual([true, true]);
    expect(await verified()).toMatchObject({ complete: true, damaged: [] });

    // One that died when it had begun.
    const said = { folders: agent.folders, signer: agent.signer, host: 'h', kind: 'sweep' } as const;
    await beginHostRun(await agent.open(), said, agent.seams());
    await agent.backup();
    await forget(2);
    const waiting = await pruneWith({ graceMs: 0 }, 9);
    expect(waiting.waiting).toMatchObject([{ kind: 'sweep' }]);
    expect(waiting.warnings.map(({ message }) => message).join()).toContain('the next prune of that host ends it');
    expect((await asAgent(30)).waiting).toEqual([]);
  });

  test('a second one is refused, by its name, and one that begins in a backup by its', async () => {
    await threeSnapshots();
    const refused: string[] = [];
    const sleep = async () => void refused.push((await failure(() => asAgent(8), 'busy')).message);
    await forget(0);
    await asAgent(0);
    await asAgent(8, { clock: { ...clockAt(8), sleep } });
    expect(refused[0]).toContain('another prune of this repository is running');
    using _lock = takeLock(agent.folders.state, 'backup');
    expect((await failure(() => asAgent(9), 'busy')).message).toContain('backup');
  });

  test('where nothing can be stored, it says what to do on a full disk', async () => {
    await threeSnapshots();
    for (const store of agent.stores.values()) store.plan({ effect: 'fail', on: 'put', times: Infinity });
    expect((await failure(() => pruneWith(), 'not_enough_backends')).hint).toContain('full disk');
  });

  test('a name that fits no unfinished run is told', async () => {
    await threeSnapshots();
    const { warnings } = await pruneWith({ presumeOver: ['nobody'] });
    expect(warnings).toMatchObject([{ code: 'presumed_nothing' }]);
  });
});

describe('where snapshots are missing that nobody forgot', () => {
  /** Every snapshot of these numbers, on these backends. @returns a way back */
  async function lose(numbers: readonly number[], names = ['a', 'b']): Promise<() => Promise<void>> {
    const { snapshots } = await (await agent.open()).snapshots();
    const taken: [string, string, Uint8Array][] = [];
    for (const { key, record } of snapshots)
      for (const name of names) {
        if (!numbers.includes(record.seq)) continue;
        const { inner } = storeOf(agent, name);
        taken.push([name, key, await inner.get(key)]);
        await inner.delete(key);
      }
    return async () => {
      for (const [name, key, bytes] of taken) await storeOf(agent, name).inner.put(key, bytes);
    };
  }
  const asAgent = (over: Partial<PruneOptions> = {}) => pruneWith({ foldersOf: () => agent.folders, ...over });
  const refuses = (work: () => Promise<unknown>) => leavingBackends(agent, () => failure(work, 'damaged'));

  test.each([
    ['a middle one', [1]],
    ['the first', [0]],
    ['all but the newest', [0, 1]],
    ['the newest', [2]],
    ['all', [0, 1, 2]],
  ])('%s: nothing is condemned or deleted, and verify agrees', async (_which, numbers) => {
    await threeSnapshots();
    const bringBack = await lose(numbers);
    for (const how of [{ graceMs: 0, settleMs: 0 }, {}, { dryRun: true }]) {
      const error = await refuses(() => asAgent(how));
      expect(error.message).toContain('nothing was deleted');
      expect(error.hint).toContain('repair --forget-damaged');
    }
    const access = { kind: 'writer', access: agent.access.writer } as const;
    const options = { backends: agent.addresses, access, level: 'listing', folders: agent.folders } as const;
    expect((await verify(options, agent.seams())).damaged.length).toBeGreaterThan(0);
    await bringBack();
    expect(await asAgent({ graceMs: 0 })).toMatchObject({ condemned: { packs: 0 }, complete: true });
  });

  test('a machine that only prunes goes by what a verification has seen, and by the chain', async () => {
    await threeSnapshots();
    const access = { kind: 'restore', secret: { kind: 'root', root: agent.root } } as const;
    const options = { backends: agent.addresses, access, level: 'chunks', signer: agent.signer, host: 'h' } as const;
    await verify({ ...options, folders: agent.folders }, agent.seams());
    await lose([2]);
    expect((await refuses(() => pruneWith({ graceMs: 0 }))).message).toContain('a verification of');
    await lose([0, 1]);
    await refuses(() => pruneWith({ graceMs: 0 }));
  });

  test('with not one snapshot there, and nothing known of any, nothing goes either', async () => {
    await threeSnapshots();
    await lose([0, 1, 2]);
    expect((await refuses(() => pruneWith({ graceMs: 0 }))).message).toContain('not one snapshot');
  });

  test('one backend that shows them is enough; with that one away it is said', async () => {
    await threeSnapshots();
    await lose([1], ['a']);
    expect(await pruneWith({ graceMs: 0 })).toMatchObject({ condemned: { packs: 0 }, deleted: { packs: 0 } });
    await lose([1], ['a']); // the prune has brought it back there
    storeOf(agent, 'b').plan({ effect: 'fail', times: Infinity });
    const error = await refuses(() => pruneWith({ graceMs: 0 }));
    expect(error.hint).toContain('(b)');
  });

  test('that go missing while it runs: the look before the deletion sees it', async () => {
    await threeSnapshots();
    await forget(0);
    await pruneWith();
    const packs = await keysOf('a', 'packs');
    let sleeps = 0;
    const clock = { ...clockAt(8), sleep: async () => void (++sleeps === 2 && (await lose([1]))) };
    await failure(() => pruneWith({}, 8, { clock }), 'damaged');
    expect(await keysOf('a', 'packs')).toEqual(packs);
  });

  test('once they are given up, it goes on; two of one number are no gap', async () => {
    await threeSnapshots();
    await lose([1]);
    const secret = { kind: 'root', root: agent.root } as const;
    const options = {
      level: 'listing',
      forgetDamaged: true,
      dryRun: false,
      host: 'h',
      folders: agent.folders,
    } as const;
    await repair({ ...options, backends: agent.addresses, access: { kind: 'restore', secret } }, agent.seams());
    expect((await asAgent({ graceMs: 0 })).complete).toBe(true);
    const before = readFileSync(join(agent.folders.state, 'state.json'));
    await agent.backup();
    const { snapshots } = await (await agent.open()).snapshots();
    const newest = snapshots.at(-1)?.key ?? '';
    const back = await lose([3]);
    writeFileSync(join(agent.folders.state, 'state.json'), before);
    writeFileSync(join(agent.state, 'twin'), noise.bytes(1000));
    await agent.backup();
    await back();
    await agent.backup();
    expect((await agent.open().then((one) => one.snapshots())).snapshots.map(({ record }) => record.seq)).toEqual([
      0, 2, 3, 3, 4,
    ]);
    expect((await asAgent({ graceMs: 0 })).complete).toBe(true);
    for (const store of agent.stores.values()) expect(await store.inner.head(newest)).toBeDefined();
  });
});

/** Every third change, others for each effect; with HOLDFAST_LONG=1 every one. */
const EVERY = process.env['HOLDFAST_LONG'] === '1' ? 1 : 3;

describe('a prune that dies at any of its changes', () => {
  test.each([
    ['fail', 0],
    ['fail-after', 1],
  ] as const)('%s: every snapshot is whole, and the next prune ends it', async (effect, offset) => {
    await threeSnapshots();
    await forget(0, 1);
    await pruneWith();
    const baseline = await contentsOf(agent);
    await pruneWith({ graceMs: 0 }, 8);
    const changes = storeOf(agent, 'a').count('mutating') + storeOf(agent, 'b').count('mutating');
    const packs = (await keysOf('a', 'packs')).length;
    const wanted = stateFiles();
    let died = 0;
    for (let n = 1 + (offset % EVERY); n <= changes; n += EVERY) {
      await putStoresBack(agent, baseline);
      const dying = storeOf(agent, 'a').dieAt(n, effect, [storeOf(agent, 'b')]);
      await pruneWith({ graceMs: 0 }, 8).catch((error: unknown) => {
        if (!isHoldfastError(error, 'not_enough_backends')) throw error;
      });
      if (!dying.died) break;
      died++;
      for (const [name, { inner }] of agent.stores) agent.stores.set(name, new FaultyBackend(inner, { name }));
      for (const name of ['a', 'b'])
        expect(await verified(name), `change ${n}, ${name}`).toMatchObject({ complete: true, damaged: [] });
      const next = await pruneWith({ graceMs: 0 }, 9);
      expect(next, `change ${n}`).toMatchObject({ complete: true, waiting: [] });
      await pruneWith({ graceMs: 0 }, 10);
      expect(await keysOf('a', 'condemned'), `change ${n}`).toEqual([]);
      expect(await keysOf('a', 'packs'), `change ${n}`).toHaveLength(packs);
      await expectLevel(agent);
    }
    expect(died * EVERY).toBeGreaterThan(15);
    await expectRestores(wanted);
  });
});
