/** What prune takes away that says nothing any more: and nothing that still does. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { annotateSnapshot } from '../../src/operations/annotate.ts';
import { prune, type PruneOptions } from '../../src/operations/prune.ts';
import {
  annotate,
  condemn,
  packPrefixes,
  readAnnotations,
  readStoredDrills,
  readVerified,
  storeDrill,
  storeVerified,
  timestamp,
} from '../../src/repository/repository.ts';
import { DRILLS_STORED } from '../../src/repository/deletion/tidy.ts';
import { DAY_MS } from '../../src/units.ts';
import { seededRandom } from '../crypto/support.ts';
import { aheadClock, contentsOf, expectLevel, makeAgent, putBack, storeOf } from './support.ts';

const random = seededRandom('prune tidy');
const agent = await makeAgent({
  seed: 'prune tidy',
  fill: (state) => writeFileSync(join(state, 'one'), random.bytes(3000)),
});
afterAll(() => agent[Symbol.asyncDispose]());
const first = await agent.backup();
writeFileSync(join(agent.state, 'two'), random.bytes(3000));
const second = await agent.backup();
const pristine = await contentsOf(agent);
beforeEach(async () => {
  await putBack(agent, pristine);
  rmSync(join(agent.folder, 'keeper'), { recursive: true, force: true });
});

const clockAt = (days: number) => ({
  ...aheadClock,
  now: () => aheadClock.now() + days * DAY_MS,
  sleep: async () => {},
});
const pruneAt = (days: number, over: Partial<PruneOptions> = {}) =>
  prune(
    {
      backends: agent.addresses,
      secret: { kind: 'root', root: agent.root },
      foldersOf: () => ({ state: join(agent.folder, 'keeper'), cache: join(agent.folder, 'keeper') }),
      host: 'keeper',
      ...{ graceMs: 7 * DAY_MS, settleMs: 1000, waitMs: 0, repackBytes: 0, presumeOver: [], dryRun: false },
      ...over,
    },
    agent.seams({ clock: clockAt(days) }),
  );
const packs = [...(pristine.get('a')?.keys() ?? [])].flatMap(
  (key) => /^packs\/..\/([0-9a-f]{64})/.exec(key)?.[1] ?? [],
);
const GONE = 'ee'.repeat(32);

let hour = 0;
/** A record of a verification, an hour after the one before. */
async function found(level: 'listing' | 'objects' | 'chunks', on: number[], some: string[], over: object = {}) {
  const opened = await agent.open();
  const time = timestamp(aheadClock.now() + ++hour * 3_600_000);
  const backends = ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb'].map((place, n) => ({ name: 'ab'[n] as string, place }));
  const covered = some.length > 0 ? [{ backends: on, packs: packPrefixes(some) }] : [];
  const rest = { objects: 1, bytes: 1, damaged: [], newest: { seq: 1, id: second.snapshot.id } };
  const record = { time, host: 'h', level, backends, covered, ...rest, ...over };
  return storeVerified(opened, record, agent.signer, agent.seams());
}
const left = async () => (await readVerified(await agent.open(), () => true)).keys.toSorted();

test('the oldest drills go, and not the last of a host that passed or failed', async () => {
  const repository = await agent.open();
  const store = async (minute: number, host: string, ok: boolean) => {
    const time = timestamp(aheadClock.now() - 1_000_000_000 + minute * 60_000);
    return (await storeDrill(repository, { time, host, result: { ok } }, agent.signer, agent.seams())).key;
  };
  const keeper = [await store(0, 'keeper', true), await store(1, 'keeper', true), await store(2, 'keeper', false)];
  const old = [await store(3, 'agent', true), await store(4, 'agent', true)];
  const newer: string[] = [];
  for (let i = 0; i < DRILLS_STORED; i++) newer.push(await store(10 + i, 'agent', true));
  const ahead = await store(10_000_000, 'agent', true);
  const drillsOn = async () => {
    const { drills } = await readStoredDrills(await agent.open());
    return drills.map(({ key }) => key);
  };
  expect(await pruneAt(1, { dryRun: true })).toMatchObject({ tidied: { drills: 0 } });
  expect(await pruneAt(1)).toMatchObject({ tidied: { drills: 3 }, complete: true });
  expect(await drillsOn()).toEqual([...keeper.slice(1), ...newer, ahead]);
  for (const name of ['a', 'b'])
    for (const key of [keeper[0] ?? '', ...old]) expect(await storeOf(agent, name).inner.head(key)).toBeUndefined();
  expect(await pruneAt(1)).toMatchObject({ tidied: { drills: 0 } });
});

test('records of verifications go once later ones say all that they say of what is still there', async () => {
  const [one = '', two = ''] = packs;
  expect(packs.length).toBeGreaterThan(3);
  const deepOfOne = await found('chunks', [0], [one]);
  await found('objects', [0, 1], [one, two, GONE]);
  const listing = await found('listing', [], []);
  const partly = await found('objects', [0], [one]);
  const other = await found('objects', [1], [one, two]);
  expect(await pruneAt(1, { dryRun: true })).toMatchObject({ tidied: { verifications: 0 } });
  expect(await pruneAt(1)).toMatchObject({ tidied: { verifications: 0 }, complete: true });
  // Of two on a nothing else says it, but deeper will do; what is gone is missed by nobody.
  const deep = await found('chunks', [0], [two]);
  expect(await pruneAt(1)).toMatchObject({ tidied: { verifications: 1 } });
  expect(await left()).toEqual([deepOfOne, listing, partly, other, deep].toSorted());
  // A copy on one backend says nothing of the other, and objects nothing of chunks.
  const last = await found('objects', [0, 1], [one, two]);
  const newerListing = await found('listing', [], []);
  expect(await pruneAt(2)).toMatchObject({ tidied: { verifications: 3 } });
  expect(await left()).toEqual([deepOfOne, deep, last, newerListing].toSorted());
  await expectLevel(agent);
});

test('a record of the future makes no other superfluous, and who saw the highest snapshot stays', async () => {
  const { snapshot: newest } = await agent.backup();
  const witness = await found('objects', [0], packs, { newest: { seq: newest.seq, id: newest.id } });
  const now = await found('objects', [0], packs);
  const future = await found('objects', [0], packs, { time: timestamp(aheadClock.now() + 90 * DAY_MS) });
  expect(await pruneAt(2)).toMatchObject({ tidied: { verifications: 0 } });
  expect(await pruneAt(100)).toMatchObject({ tidied: { verifications: 1 } });
  expect(await left()).toEqual([witness, future].toSorted());
  expect(now).not.toBe(future);
});

test('with a backend out of reach everything stays', async () => {
  for (let n = 0; n < 2; n++) await found('objects', [0], packs);
  storeOf(agent, 'b').plan({ effect: 'fail', times: Infinity });
  expect(await pruneAt(1)).toMatchObject({ complete: false, tidied: { verifications: 0, annotations: 0 } });
});

/** As `forget` does it. */
async function forget(): Promise<string> {
  const opened = await agent.open();
  const { snapshots } = await opened.snapshots();
  const key = snapshots.find(({ id }) => id === first.snapshot.id)?.key ?? '';
  const object = Buffer.from(await opened.mirror.get(key)).toString('base64');
  const said = { time: timestamp(aheadClock.now()), host: 'h', packs: [], snapshots: [{ key, object }] };
  await condemn(opened, said, agent.signer, agent.seams());
  await opened.mirror.delete(key);
  return key;
}

test('tags and notes of a forgotten snapshot go when it cannot be put back, and not before; marks stay', async () => {
  const say = (snapshot: string) =>
    annotateSnapshot(
      {
        ...{ backends: agent.addresses, access: agent.access.writer, signer: agent.signer, folders: agent.folders },
        ...{ host: 'h', snapshot, tags: { add: ['kept'], remove: [] }, note: 'said of it' },
      },
      agent.seams(),
    );
  await say(first.snapshot.id);
  await say(second.snapshot.id);
  const mark = async (rest: object) => {
    const said = { snapshot: first.snapshot.id, time: timestamp(aheadClock.now() + 1), host: 'h', ...rest };
    return annotate(await agent.open(), said, agent.signer, agent.seams());
  };
  const stay = [await mark({ forgotten: [[0, 0]] }), await mark({ lost: { files: 1, bytes: 1, chunks: '' } })];
  const said = async () => (await readAnnotations(await agent.open())).annotations;
  const key = await forget();
  expect(await pruneAt(6)).toMatchObject({ tidied: { annotations: 0 } });
  expect(await said()).toHaveLength(4);

  // Forgotten, put back and forgotten again: the later record still holds it.
  const opened = await agent.open();
  const object = pristine.get('a')?.get(key) ?? Buffer.alloc(0);
  const again = { key, object: Buffer.from(object).toString('base64') };
  const time = timestamp(aheadClock.now() + 5 * DAY_MS);
  await condemn(opened, { time, host: 'h', packs: [], snapshots: [again] }, agent.signer, agent.seams());
  expect(await pruneAt(8)).toMatchObject({ tidied: { annotations: 0 } });

  // And put back, by somebody who left the record there.
  await opened.mirror.put(key, object);
  expect(await pruneAt(13)).toMatchObject({ tidied: { annotations: 0 } });
  expect(await said()).toHaveLength(4);
  await forget();
  expect(await pruneAt(14)).toMatchObject({ tidied: { annotations: 1 }, complete: true });
  const annotations = await said();
  expect(annotations.map(({ id }) => id)).toEqual(expect.arrayContaining(stay.map(({ id }) => id)));
  expect(annotations).toHaveLength(3);
  expect(annotations.filter(({ record }) => record.note).map(({ record }) => record.snapshot)).toEqual([
    second.snapshot.id,
  ]);
});
