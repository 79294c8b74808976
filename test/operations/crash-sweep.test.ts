/**
 * A run dies at its changes in turn (with HOLDFAST_LONG=1 at each), before or after the change took effect: on all backends at once, as a process that is
 * killed, or on one, as storage that goes away. What is left must be whole, and nothing of it may stand in the way of the next run.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { isHoldfastError } from '../../src/errors.ts';
import type * as Limits from '../../src/limits.ts';
import type { BackendAddress } from '../../src/operations/backends.ts';
import type { BackupResult } from '../../src/operations/backup.ts';
import { restore } from '../../src/operations/restore.ts';
import type { SyncResult } from '../../src/operations/sync.ts';
import { verify } from '../../src/operations/verify.ts';
import { parseKey, REPOSITORY_KEY } from '../../src/repository/repository.ts';
import { seededRandom } from '../crypto/support.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import { treeOf } from '../state/trees.ts';
import {
  aheadClock,
  contentOf,
  contentsOf,
  emptyStore,
  expectSameContent,
  makeAgent,
  putBack,
  storeWith,
  type TestAgent,
} from './support.ts';
import { hitIn, kindsIn, sweep } from './sweep.ts';

// Small packs, and an index after every second one: a megabyte then fills as many of both as hundreds of megabytes do otherwise.
vi.mock('../../src/limits.ts', async (original) => ({
  ...(await original<typeof Limits>()),
  PACK_TAR_MAX_BYTES: 300 * 1024,
  INDEX_FLUSH_PACKS: 2,
}));

const EFFECTS = ['fail', 'fail-after'] as const;
type Effect = (typeof EFFECTS)[number];
type Contents = Map<string, Map<string, Uint8Array>>;

/** Its time stands still, so that no index is due because a slow machine took a minute. */
const clock = { ...aheadClock, monotonic: () => 0 };
const noise = seededRandom('crash sweep');

let agent: TestAgent;
/** Both backends with two snapshots, and what the host remembered then. */
let baseline: Contents;
const at = (...names: string[]) => join(agent.folder, ...names);
const store = (name: string): FaultyBackend => agent.stores.get(name) as FaultyBackend;
/** A copy of the state as it was at each snapshot, by number. */
const trees: string[] = [];

function keepTree(): void {
  const copy = at(`tree-${trees.length}`);
  execFileSync('cp', ['-a', agent.state, copy]);
  trees.push(copy);
}

beforeAll(async () => {
  agent = await makeAgent({ seed: 'crash sweep' });
  mkdirSync(join(agent.state, 'memory', 'empty'), { recursive: true });
  for (let i = 0; i < 5; i++) writeFileSync(join(agent.state, 'memory', `${i}.md`), noise.bytes(20_000 + i));
  await agent.backup({}, { clock });
  keepTree();
  appendFileSync(join(agent.state, 'memory', '0.md'), noise.bytes(20_000));
  writeFileSync(join(agent.state, 'session.bin'), noise.bytes(300_000));
  await agent.backup({}, { clock });
  keepTree();
  baseline = await contentsOf(agent);
  for (const folder of Object.values(agent.folders)) cpSync(folder, `${folder}.kept`, { recursive: true });
  // What the runs that die are about to save.
  writeFileSync(join(agent.state, 'session.bin'), noise.bytes(700_000));
  rmSync(join(agent.state, 'memory', '1.md'));
  keepTree();
});
afterAll(() => agent[Symbol.asyncDispose]());

/** Backends and host as they were after the second snapshot. */
async function start(): Promise<void> {
  await putBack(agent, baseline);
  for (const folder of Object.values(agent.folders)) {
    rmSync(folder, { recursive: true, force: true });
    cpSync(`${folder}.kept`, folder, { recursive: true });
  }
}

/** The storage works again, and holds what it held when it failed. */
function heal(): void {
  for (const [name, { inner }] of agent.stores) agent.stores.set(name, new FaultyBackend(inner, { name }));
}

const secret = () => ({ kind: 'identities', identities: [agent.restoreKey] }) as const;
const address = (name: string) => agent.addresses.filter((one) => one.name === name);

/** I1: what a backend holds is whole by itself: nothing that a snapshot or index there needs is missing or wrong. */
async function expectWhole(name: string): Promise<void> {
  const options = { backends: address(name), level: 'chunks', access: { kind: 'restore', secret: secret() } } as const;
  const { damaged, complete } = await verify(options, agent.seams());
  expect({ damaged, complete }, `backend ${name}`).toEqual({ damaged: [], complete: true });
}

/** Damage that is no more than this: one backend lacks what another has. */
async function expectAtMostBehind(): Promise<void> {
  const held = new Map<string, Set<string>>();
  for (const [name, { inner }] of agent.stores) held.set(name, new Set((await contentOf(inner)).keys()));
  const { damaged } = await agent.verify('listing');
  const isMissing = ({ backend, key }: { backend: string; key: string }) => held.get(backend)?.has(key) === false;
  for (const { backend, key, problem } of damaged) {
    // The gap that a missing snapshot leaves is told of the one after it.
    const isGap = damaged.some((one) => one.backend === backend && one.key.startsWith('snapshots/') && isMissing(one));
    if (isGap && /^chain: its parent .* is missing$/.test(problem)) continue;
    expect(isMissing({ backend, key }), `${backend} ${key}: ${problem}`).toBe(true);
    expect(
      [...held.values()].some((keys) => keys.has(key)),
      `${backend} ${key}: ${problem}`,
    ).toBe(true);
  }
}

const known = new Map<string, string[]>();
/** All of a tree. Those in `trees` never change. */
function allOf(root: string): string[] {
  const tree = known.get(root) ?? treeOf(root);
  if (trees.includes(root)) known.set(root, tree);
  return tree;
}

/** Restores these snapshots from these backends, and compares with the trees they were made of. */
async function expectRestores(backends: readonly BackendAddress[], ids: readonly string[]): Promise<void> {
  for (const snapshot of ids) {
    const target = at('restored');
    const result = await restore({ backends, secret: secret(), snapshot, target, paths: [] }, agent.seams());
    expect(result).toMatchObject({ lost: [], complete: true });
    const { seq } = result.snapshot;
    expect(allOf(target)).toEqual(allOf(trees[Math.min(seq, 2)] as string));
    rmSync(target, { recursive: true });
  }
}

/** The ids of the snapshots that a backend lists. */
async function snapshotIds(name: string): Promise<string[]> {
  const ids: string[] = [];
  for await (const { key } of store(name).inner.list('snapshots/')) {
    const parsed = parseKey(key);
    if (parsed?.kind === 'snapshot') ids.push(parsed.id);
  }
  return ids.toSorted();
}

/** Every chunk that an index names, with its length; none is in two packs. */
async function indexedChunks(): Promise<Map<string, number>> {
  const chunks = new Map<string, number>();
  const repository = await agent.open();
  const packs = new Set<string>();
  for await (const { key } of repository.mirror.list('index/')) {
    const id = parseKey(key)?.kind === 'index' ? key.slice('index/'.length).replace(/\.age$/, '') : '';
    for (const pack of await repository.checkIndex(id, await repository.mirror.get(key))) {
      if (packs.has(pack.id)) continue;
      packs.add(pack.id);
      for (const chunk of pack.chunks) {
        expect(chunks.has(chunk.id), `chunk ${chunk.id} is in two packs`).toBe(false);
        chunks.set(chunk.id, chunk.length);
      }
    }
  }
  return chunks;
}

const sum = (numbers: Iterable<number>) => [...numbers].reduce((total, number) => total + number, 0);
/** That a run died stays on record until the next one says so. */
const withoutRuns = (content: ReadonlyMap<string, Uint8Array> = new Map()) =>
  new Map([...content].filter(([key]) => !key.startsWith('runs/')));

describe('backup', () => {
  /** What the run does when nothing fails. */
  let whole: BackupResult;
  /** The kinds of its changes, in order; of either backend. */
  let kinds: string[];
  /** Chunks that are indexed before the run that dies. */
  let before: Map<string, number>;

  beforeAll(async () => {
    await start();
    before = await indexedChunks();
    whole = await agent.backup({}, { clock });
    kinds = kindsIn(store('a'), 'put');
    const changes = store('a').count('mutating');
    const packs = kinds.filter((kind) => kind === 'pack').length;
    expect(packs).toBeGreaterThan(3);
    expect(kinds.filter((kind) => kind === 'index')).toHaveLength(Math.ceil(packs / 2));
    expect(kinds.at(-1)).toBe('snapshot');
    expect(kinds[0]).toBe('run');
    expect(changes).toBe(1 + packs + Math.ceil(packs / 2) + 1);
    expect(store('b').count('mutating')).toBe(changes);
    expect(whole).toMatchObject({
      complete: true,
      bytes: { added: sum((await indexedChunks()).values()) - sum(before.values()) },
    });
  });

  async function backupThatDies(dying: readonly string[], n: number, effect: Effect): Promise<string[]> {
    await start();
    const earlier = await snapshotIds('a');
    expect(earlier).toHaveLength(2);
    const [first, ...others] = dying.map(store);
    first?.dieAt(n, effect, others);
    const result = await agent.backup({}, { clock }).catch((error: unknown) => {
      if (!isHoldfastError(error, 'not_enough_backends')) throw error;
      return undefined;
    });
    first?.assertAllFired();
    if (dying.length === 1) expect(result).toBeDefined();
    for (const name of dying) {
      if (!result) break;
      const outcome = result.backends.find((one) => one.name === name);
      if (outcome?.state !== 'committed')
        expect(outcome).toMatchObject({ state: 'behind', error: { code: 'backend_unavailable' } });
    }
    if (result) expect(result.complete).toBe(false);

    const hit = hitIn(...dying.map(store));
    heal();
    for (const name of agent.stores.keys()) await expectWhole(name);
    await expectAtMostBehind();
    for (const name of agent.stores.keys()) {
      const ids = await snapshotIds(name);
      expect(ids, `backend ${name}`).toEqual(expect.arrayContaining(earlier));
      if (name === dying[0]) await expectRestores(address(name), ids);
    }

    const survived = await indexedChunks();
    heal();
    const next = await agent.backup({}, { clock });
    expect(next).toMatchObject({ complete: true, backends: [{ state: 'committed' }, { state: 'committed' }] });
    expect(next.warnings.filter(({ code }) => code !== 'levelled')).toEqual([]);
    // I5: all that an index names is used again, and only that.
    const kept = sum(survived.values()) - sum(before.values());
    expect(next.bytes.added).toBe(whole.bytes.added - kept);
    if (kept > 0) expect(next.bytes.stored).toBeLessThan(whole.bytes.stored - kept / 2);
    await indexedChunks();
    expect((await agent.verify('objects')).damaged).toEqual([]);
    const ids = await snapshotIds('a');
    expect(await snapshotIds('b')).toEqual(ids);
    expect(ids).toContain(next.snapshot.id);
    await expectRestores(agent.addresses, [next.snapshot.id]);
    return hit;
  }

  it.each(EFFECTS)(
    '%s of the whole run: earlier snapshots are safe, and the next run goes on from there',
    async (effect) => {
      const both = kinds.flatMap((kind) => [kind, kind]);
      await sweep(both, effect === 'fail' ? 1 : 2, (n) => backupThatDies(['a', 'b'], n, effect));
    },
  );

  it.each([
    ['fail', 'a', 2],
    ['fail-after', 'b', 3],
  ] as const)(
    '%s of backend %s: the other has the snapshot, and the next run brings it level',
    async (effect, name, from) => {
      await sweep(kinds, from, (n) => backupThatDies([name], n, effect));
    },
  );
});

describe('sync that fills an empty backend', () => {
  /** The kinds of what is put on the new backend, and of what is done and read on the other, in order. */
  let puts: string[];
  let operations: string[];
  let reads: string[];

  async function startEmpty(): Promise<void> {
    await start();
    agent.stores.set('b', emptyStore('b'));
  }
  const fill = (): Promise<SyncResult> => agent.sync(['b']);

  beforeAll(async () => {
    await startEmpty();
    expect(await fill()).toMatchObject({ complete: true });
    puts = kindsIn(store('b'), 'put');
    operations = kindsIn(store('a')).slice(0, -1); // the last takes the run's record away, and may be refused
    reads = kindsIn(store('a'), 'get');
    expect(puts).toHaveLength(store('b').count('mutating'));
    expect(new Set(puts)).toEqual(
      new Set(['run', 'keys', 'secrets', 'identity', 'pack', 'index', 'snapshot', 'repository']),
    );
    expect(puts.at(-1)).toBe('repository');
    expect(new Set(reads)).toEqual(new Set(puts));
    expect(operations.length).toBeGreaterThan(puts.length);
  });

  async function syncThatDies(plan: () => FaultyBackend, fault: 'death' | 'damage' = 'death'): Promise<string[]> {
    await startEmpty();
    const earlier = await snapshotIds('a');
    heal();
    const dying = plan();
    const result = await fill().catch((error: unknown) => {
      if (!isHoldfastError(error)) throw error;
      return undefined;
    });
    dying.assertAllFired();
    if (result) expect(result.complete).toBe(false);

    const hit = hitIn(dying);
    heal();
    const isRepository = (await store('b').inner.head(REPOSITORY_KEY)) !== undefined;
    if (isRepository) {
      if (fault === 'death') await expectWhole('b');
      else await expectAtMostBehind();
      await expectRestores(address('b'), await snapshotIds('b'));
    }
    await expectRestores(agent.addresses, earlier.slice(-1));

    expect(await fill()).toMatchObject({ complete: true, backends: [{ state: 'level' }, { state: 'level' }] });
    await expectWhole('b');
    expect(await snapshotIds('b')).toEqual(earlier);
    expectSameContent(withoutRuns(await contentOf(store('a').inner)), withoutRuns(baseline.get('a')));
    return hit;
  }

  it.each(EFFECTS)('%s of the new backend: the next sync goes on', async (effect) => {
    await sweep(puts, effect === 'fail' ? 1 : 2, (n) => syncThatDies(() => store('b').dieAt(n, effect)));
  });

  it('of the whole run: the next sync goes on', async () => {
    const ofBoth = ['run', ...puts]; // the record of the run is put on both
    await sweep(ofBoth, 3, (n) => syncThatDies(() => store('b').dieAt(n, 'fail-after', [store('a')])));
  });

  it('what is read is damaged once: every snapshot on the new backend is whole, and the next sync brings the rest', async () => {
    await sweep(reads, 1, (nth) => syncThatDies(() => store('a').plan({ effect: 'flip', nth }), 'damage'));
  });

  it('of the backend that is read: the new one is never taken for a whole repository when it is not', async () => {
    const plan = (nth: number) => store('a').plan({ effect: 'fail', nth, times: Infinity });
    await sweep(operations, 2, (nth) => syncThatDies(() => plan(nth)));
  });
});

describe('sync', () => {
  it('fills no place where something of another repository lies', async () => {
    await start();
    await using other = await makeAgent({ seed: 'another' });
    agent.stores.set('b', await storeWith('b', await contentOf(other.stores.get('a') as FaultyBackend)));
    await store('b').inner.delete(REPOSITORY_KEY);
    const before = await contentOf(store('b').inner);
    expect(await agent.sync(['b'])).toMatchObject({
      complete: false,
      backends: [{ state: 'level' }, { state: 'failed', error: { code: 'exists' } }],
    });
    expectSameContent(withoutRuns(await contentOf(store('b').inner)), withoutRuns(before));
    expectSameContent(withoutRuns(await contentOf(store('a').inner)), withoutRuns(baseline.get('a')));
  });
});
