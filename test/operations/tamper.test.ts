/** Every kind of object, harmed in every way, on one of two backends and on both. */
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { HoldfastError, type ErrorCode } from '../../src/errors.ts';
import { annotateSnapshot } from '../../src/operations/annotate.ts';
import type { RestoreResult } from '../../src/operations/restore.ts';
import { parseKey, type ScrubLevel } from '../../src/repository/repository.ts';
import { seededRandom } from '../crypto/support.ts';
import { treeOf } from '../state/trees.ts';
import { contentsOf, expectSameContent, expectSameTree, makeAgent, packKeysOf, newCase } from './support.ts';

const noise = seededRandom('tamper');
const OLD = ['old', 'folder/older', 'folder/oldest'];
const CHANGED = ['folder/changed', 'new'];

const agent = await makeAgent({
  seed: 'tamper',
  fill: (state) => {
    mkdirSync(join(state, 'folder', 'empty'), { recursive: true });
    for (const path of [...OLD, 'folder/changed']) writeFileSync(join(state, path), noise.bytes(3000));
    writeFileSync(join(state, 'empty'), '');
    symlinkSync('old', join(state, 'folder', 'link'));
  },
});
afterAll(() => agent[Symbol.asyncDispose]());
const first = await agent.backup();
for (const path of CHANGED) writeFileSync(join(agent.state, path), noise.bytes(2000));
const second = await agent.backup();
for (const note of ['one', 'another']) {
  const { addresses: backends, signer, folders } = agent;
  const options = { backends, access: agent.access.writer, signer, folders, host: 'h', snapshot: 'latest', note };
  await annotateSnapshot(options, agent.seams());
}
const pristine = await contentsOf(agent);
/** The state, which nothing of this changes. */
const STATE = treeOf(agent.state);
const content = pristine.get('a') ?? new Map<string, Uint8Array>();

// Another repository of another agent, for objects of which there is only one.
const stranger = await makeAgent({ seed: 'stranger', backends: ['x'] });
await stranger.backup();
const strange = [...((await contentsOf(stranger)).get('x') ?? [])];
await stranger[Symbol.asyncDispose]();

const dataPacks = await packKeysOf(agent, 'data');
const manifestPacks = await packKeysOf(agent, 'manifest');
const repository = await agent.open();
const { index } = await repository.loadIndex();
const [firstRecord, secondRecord] = (await repository.snapshots()).snapshots;
const packOf = (id: string | undefined, keys: readonly string[]) => {
  const { pack = -1 } = index.locate(id as never) ?? {};
  const key = keys.find((one) => one.includes(index.packs[pack]?.id ?? '?'));
  if (key === undefined) throw new Error('no pack');
  return key;
};
const newManifest = packOf(secondRecord?.record.manifest.chunks[0], manifestPacks);
const oldManifest = packOf(firstRecord?.record.manifest.chunks[0], manifestPacks);
/** Which index names a pack: both hold one data and one manifest pack. */
async function indexOf(packKey: string): Promise<string> {
  for (const [key, bytes] of content) {
    const name = parseKey(key);
    if (name?.kind !== 'index') continue;
    if ((await repository.checkIndex(name.id, bytes)).some(({ id }) => packKey.includes(id))) return key;
  }
  throw new Error('no index');
}
const keyOf = (kind: string) => [...content.keys()].find((key) => parseKey(key)?.kind === kind) ?? '';
const strangeOf = (kind: string) => strange.find(([key]) => parseKey(key)?.kind === kind)?.[1] ?? new Uint8Array();
/** The data pack of the first backup: the one whose index also names the first manifest. */
const oldIndex = await indexOf(oldManifest);
const newIndex = await indexOf(newManifest);
let oldData = '';
for (const key of dataPacks) if ((await indexOf(key)) === oldIndex) oldData = key;
const newData = dataPacks.find((key) => key !== oldData) ?? '';

interface Kind {
  key: string;
  /** Another object of the kind. */
  other: Uint8Array;
  /** The lowest level of verify that reads it. */
  flipsFoundAt: ScrubLevel;
  /** What a restore of the newest snapshot comes to when it is harmed everywhere: an error, or the files that are lost. */
  everywhere: readonly ErrorCode[] | { lost: readonly string[] };
  /** False for an object that a restore does not need. */
  needed?: boolean;
}
const at = (key: string) => content.get(key) ?? new Uint8Array();
const snapshotKey = (id: string) => [...content.keys()].find((key) => key.includes(id)) ?? '';
const KINDS: Record<string, Kind> = {
  'the old data pack': { key: oldData, other: at(newData), flipsFoundAt: 'objects', everywhere: { lost: OLD } },
  'the new data pack': { key: newData, other: at(oldData), flipsFoundAt: 'objects', everywhere: { lost: CHANGED } },
  'the manifest pack': { key: newManifest, other: at(oldManifest), flipsFoundAt: 'objects', everywhere: ['damaged'] },
  'the old index': { key: oldIndex, other: at(newIndex), flipsFoundAt: 'listing', everywhere: { lost: OLD } },
  'the new index': { key: newIndex, other: at(oldIndex), flipsFoundAt: 'listing', everywhere: ['damaged'] },
  'the secrets': {
    key: keyOf('secrets'),
    other: strangeOf('secrets'),
    flipsFoundAt: 'listing',
    everywhere: ['damaged'],
  },
  'the key record': { key: keyOf('keys'), other: strangeOf('keys'), flipsFoundAt: 'listing', everywhere: ['damaged'] },
  'the identity': {
    key: keyOf('identity'),
    other: strangeOf('identity'),
    flipsFoundAt: 'listing',
    everywhere: { lost: [] },
    needed: false,
  },
  'an annotation': {
    key: keyOf('annotation'),
    other: at([...content.keys()].findLast((key) => parseKey(key)?.kind === 'annotation') ?? ''),
    flipsFoundAt: 'listing',
    everywhere: { lost: [] },
    needed: false,
  },
  'the snapshot': {
    key: snapshotKey(second.snapshot.id),
    other: at(snapshotKey(first.snapshot.id)),
    flipsFoundAt: 'listing',
    // Asked for by its id: see below for `latest`.
    everywhere: ['damaged', 'forged', 'not_found'],
  },
};

const flip = (where: number) => (bytes: Uint8Array) => {
  const changed = bytes.slice();
  const position = Math.min(bytes.length - 1, Math.floor(bytes.length * where));
  changed[position] = (changed[position] ?? 0) ^ 0x04;
  return changed;
};
type Harm = (bytes: Uint8Array, other: Uint8Array) => Uint8Array | undefined;
const HARMS: Record<string, { harm: Harm; sizeKept?: boolean; costsNoPack?: boolean }> = {
  'a bit turned in its header': { harm: flip(0.05), sizeKept: true },
  'a bit turned in its middle': { harm: flip(0.5), sizeKept: true },
  'a bit turned at its end': { harm: flip(1), sizeKept: true },
  truncated: { harm: (bytes) => bytes.slice(0, bytes.length - 100) },
  emptied: { harm: () => new Uint8Array(0) },
  removed: { harm: () => undefined },
  'swapped with another': { harm: (_, other) => other },
  // All that a pack held is still in it, where the index says.
  'grown by a byte': { harm: (bytes) => Buffer.concat([bytes, Buffer.from('x')]), costsNoPack: true },
};
const CASES = Object.keys(KINDS).flatMap((kind) => Object.keys(HARMS).map((harm) => [kind, harm] as const));
const caseOf = (kind: string, harm: string) => ({
  ...(KINDS[kind] as Kind),
  ...(HARMS[harm] as { harm: Harm; sizeKept?: boolean; costsNoPack?: boolean }),
});

async function apply(key: string, bytes: Uint8Array | undefined, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const store = agent.stores.get(name)?.inner;
    await store?.delete(key);
    if (bytes) await store?.put(key, Uint8Array.from(bytes));
  }
}

let parent: string;
let target: string;
beforeEach(async () => {
  ({ parent, target } = await newCase(agent, pristine));
});

/** Does something that must leave the backends and everything beside the target alone. */
async function touchingNothing<T>(work: () => Promise<T>): Promise<T> {
  const stores = await contentsOf(agent);
  try {
    return await work();
  } finally {
    for (const [name, now] of await contentsOf(agent)) expectSameContent(now, stores.get(name) ?? new Map());
    expect(treeOf(agent.state)).toEqual(STATE);
    expect(readdirSync(parent).filter((name) => name !== 'target')).toEqual([]);
  }
}

const LEVELS: readonly ScrubLevel[] = ['listing', 'objects', 'chunks'];

describe.each(CASES)('%s %s', (kind, harmName) => {
  const { key, other, harm, sizeKept, costsNoPack, flipsFoundAt, everywhere, needed = true } = caseOf(kind, harmName);
  const harmed = harm(at(key), other);

  test('on one backend: the other serves, and which object it was is said', async () => {
    await apply(key, harmed, ['a']);
    const result = await touchingNothing(() => agent.restore(target, { snapshot: second.snapshot.id, heal: false }));
    expect(result).toMatchObject({ lost: [], complete: true });
    expect(treeOf(target)).toEqual(STATE);
    if (!needed) return;
    const told = result.warnings.filter(({ message }) => message.includes(key) && message.includes('backend a'));
    expect(told, JSON.stringify(result.warnings)).not.toEqual([]);
    expect(result.warnings.map(({ message }) => message).filter((message) => message.includes('on backend b'))).toEqual(
      [],
    );
  });

  test('on one backend: verify finds it at the level that says so', async () => {
    await apply(key, harmed, ['a']);
    const from = sizeKept || harmName.startsWith('swapped') ? flipsFoundAt : 'listing';
    const level = harmName === 'removed' ? 'listing' : from;
    const { damaged } = await touchingNothing(() => agent.verify(level));
    expect(damaged.filter((one) => one.backend === 'a' && one.key === key)).not.toEqual([]);
    expect(damaged.filter(({ backend }) => backend === 'b')).toEqual([]);
  });

  test('on both: nothing wrong comes back, and what is lost is said', async () => {
    await apply(key, harmed, ['a', 'b']);
    let result: RestoreResult | HoldfastError;
    try {
      result = await touchingNothing(() => agent.restore(target, { snapshot: second.snapshot.id }));
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      result = error;
    }
    if (result instanceof HoldfastError) {
      expect(everywhere, result.message).toContain(result.code);
      expect(existsSync(target)).toBe(false);
      return;
    }
    const { lost } = costsNoPack && key.startsWith('packs/') ? { lost: [] } : (everywhere as { lost: string[] });
    expect(result.lost.toSorted()).toEqual(lost.toSorted());
    expect(result.complete).toBe(lost.length === 0);
    const withoutLost = STATE.filter((line) => !lost.some((path) => line.startsWith(`/${path}\0`)));
    expect(treeOf(target)).toEqual(withoutLost);
    for (const path of lost) {
      expect(existsSync(join(target, path))).toBe(false);
      expect(result.warnings).toContainEqual(expect.objectContaining({ code: 'lost', path, incomplete: true }));
    }
  });
});

describe.each(['the old data pack', 'the manifest pack', 'the old index', 'the new index', 'the identity'])(
  '%s',
  (kind) => {
    const { key } = caseOf(kind, 'removed');

    test('gone from every backend is found, though none has it to compare with', async () => {
      await apply(key, undefined, ['a', 'b']);
      const { damaged } = await touchingNothing(() => agent.verify('chunks'));
      for (const name of ['a', 'b']) expect(damaged.map(({ backend }) => backend)).toContain(name);
    });
  },
);

test('damage is told as the snapshots and paths that need the object, to who has the restore key', async () => {
  const { key } = caseOf('the old data pack', 'removed');
  await apply(key, undefined, ['a']);
  const { damaged } = await agent.verify('listing', 'restore');
  expect(damaged).toHaveLength(1);
  expect(damaged[0]).toMatchObject({ backend: 'a', key, problem: 'the object is missing', repaired: false });
  expect(damaged[0]?.snapshots.toSorted()).toEqual([first.snapshot.id, second.snapshot.id].toSorted());
  // The first snapshot had an older content of one of the changed files.
  expect(damaged[0]?.paths.toSorted()).toEqual([...OLD, 'folder/changed'].toSorted());
});

test('damage of a manifest is told as the snapshot that needs it', async () => {
  await apply(newManifest, undefined, ['a', 'b']);
  const { damaged } = await agent.verify('listing', 'restore');
  expect(damaged.map(({ backend, key, snapshots }) => ({ backend, key, snapshots }))).toEqual(
    ['a', 'b'].map((backend) => ({ backend, key: newManifest, snapshots: [second.snapshot.id] })),
  );
});

test('a whole backend removed while others are there: the restore says which', async () => {
  agent.stores.delete('a');
  const result = await agent.restore(target);
  expect(result).toMatchObject({ complete: true, lost: [] });
  expect(result.warnings).toMatchObject([{ code: 'backend_failed', message: expect.stringContaining('backend a') }]);
  expectSameTree(target, agent.state);
});

test('a repository without harm verifies, at every level', async () => {
  for (const level of LEVELS) {
    const result = await touchingNothing(() => agent.verify(level));
    expect(result).toMatchObject({ damaged: [], warnings: [], complete: true, level });
    expect(result.objects).toBe([...content.keys()].length * 2);
  }
});
