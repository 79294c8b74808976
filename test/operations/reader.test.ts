import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { ageRecipientOf, openAge, sealAge } from '../../src/crypto/age.ts';
import type { ChunkId } from '../../src/entry.ts';
import { HoldfastError } from '../../src/errors.ts';
import type { ChunkLocation } from '../../src/repository/packs/pack-index.ts';
import type { Snapshot } from '../../src/repository/repository.ts';
import { catFile } from '../../src/operations/look.ts';
import { compressFrame } from '../../src/repository/packs/frame.ts';
import { expectSame } from '../backend-helpers.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { contentsOf, expectSameTree, makeAgent, packKeysOf, putBack, type TestAgent } from './support.ts';

const noise = seededRandom('reader').bytes(6 * 2 ** 20);
const SMALL = seededRandom('small').bytes(5000);

/** One pack of several frames: a small file at its beginning, then a large one. */
const agent = await makeAgent({
  seed: 'reader',
  fill: (state) => {
    writeFileSync(join(state, 'a-small'), SMALL);
    writeFileSync(join(state, 'big'), noise);
  },
});
afterAll(() => agent[Symbol.asyncDispose]());
await agent.backup();
const pristine = await contentsOf(agent);
const [packKey = ''] = await packKeysOf(agent, 'data');
const pack = pristine.get('a')?.get(packKey) ?? new Uint8Array();

async function cat(of: TestAgent, path: string) {
  const pieces: Uint8Array[] = [];
  await catFile(
    {
      backends: of.addresses,
      secret: { kind: 'root', root: of.root },
      snapshot: 'latest',
      path,
      write: async (bytes) => void pieces.push(Uint8Array.from(bytes)),
    },
    of.seams(),
  );
  return Buffer.concat(pieces);
}

/** Packs that open with the restore key, as anybody can make them: recipients are public. */
const plain = await openAge(pack, [agent.restoreKey]);
const recipient = await ageRecipientOf(agent.restoreKey);
const sealed = async (bytes: Uint8Array) => (await sealAge(bytes, [recipient], seededRandom('forger'))).bytes;
function flipped(at: number): Uint8Array {
  const bytes = pack.slice();
  bytes[at] = (bytes[at] ?? 0) ^ 0x20;
  return bytes;
}
/** The pack with one byte of its first file changed, in frames of the same lengths. */
async function otherwise(): Promise<Uint8Array> {
  const repository = await agent.open();
  const { index } = await repository.loadIndex();
  const [first] = index.packs.find(({ kind }) => kind === 'data')?.frames ?? [];
  const frame = plain.subarray(0, first?.length);
  const tar = zstdDecompressSync(frame);
  tar[600] = (tar[600] ?? 0) ^ 1;
  const changed = await compressFrame(tar);
  expect(changed.length).toBe(frame.length);
  return sealed(Buffer.concat([changed, plain.subarray(frame.length)]));
}
const FORGERIES: [string, () => Promise<Uint8Array>][] = [
  ['another pack of the same size, of other content', async () => sealed(seededRandom('x').bytes(plain.length))],
  ['another pack of the same size, whose frames open to other content', otherwise],
  ['the same content, encrypted again', async () => sealed(plain)],
  ['a header damaged', async () => flipped(100)],
  ['the first block damaged', async () => flipped(1000)],
  ['the last block damaged', async () => flipped(pack.length - 3)],
  ['half of it', async () => pack.slice(0, pack.length >> 1)],
  ['its header only', async () => pack.slice(0, 250)],
  ['nothing in it', async () => new Uint8Array(0)],
];

describe.each(FORGERIES)('a pack that has %s', (name, forge) => {
  test('on one backend costs no file: the other serves', async () => {
    await putBack(agent, pristine);
    await agent.stores.get('a')?.inner.put(packKey, await forge());
    expectSame(await cat(agent, 'a-small'), SMALL);
    expectSame(await cat(agent, 'big'), noise);
    const target = join(agent.folder, `out ${name}`);
    const { lost, complete } = await agent.restore(target);
    expect({ lost, complete }).toEqual({ lost: [], complete: true });
    expectSameTree(target, agent.state);
  });

  test('on both never gives wrong content', async () => {
    await putBack(agent, pristine);
    const forged = await forge();
    for (const store of agent.stores.values()) await store.inner.put(packKey, forged);
    const got = await cat(agent, 'big').catch(async (error: unknown) => {
      await failure(() => Promise.reject(error), 'damaged');
      return undefined;
    });
    if (got) expectSame(got, noise);
  });
});

test('a small file of a large pack is fetched without the rest', async () => {
  await putBack(agent, pristine);
  const [a] = [...agent.stores.values()];
  let fetched = 0;
  const get = a?.inner.get.bind(a.inner);
  if (!a || !get) throw new Error('no store');
  a.inner.get = async (key, ...rest) => {
    const bytes = await get(key, ...rest);
    if (key === packKey) fetched += bytes.length;
    return bytes;
  };
  expectSame(await cat(agent, 'a-small'), SMALL);
  expect(fetched).toBeGreaterThan(0);
  expect(fetched).toBeLessThan(pack.length / 2);
});

describe('a bit turned in a pack of many files, on both backends,', () => {
  test('costs the files it touches, and no others', async () => {
    await using many = await makeAgent({
      seed: 'many',
      fill: (state) => {
        for (let i = 0; i < 60; i++)
          writeFileSync(
            join(state, `file-${String(i).padStart(2, '0')}`),
            noise.subarray(i * 70_000, i * 70_000 + 70_000),
          );
      },
    });
    await many.backup();
    const [key = ''] = await packKeysOf(many, 'data');
    const good = await many.stores.get('a')?.inner.get(key);
    if (!good) throw new Error('no pack');
    // A pack of four frames; a block of the encryption may lie in two of them.
    for (const [where, most] of [
      [good.length >> 1, 31],
      [good.length - 40, 16],
    ] as const) {
      const harmed = Uint8Array.from(good);
      harmed[where] = (harmed[where] ?? 0) ^ 1;
      for (const store of many.stores.values()) await store.inner.put(key, Uint8Array.from(harmed));
      const target = join(many.folder, `out-${where}`);
      const { lost, files } = await many.restore(target);
      expect(files + lost.length).toBe(60);
      expect(lost.length).toBeLessThanOrEqual(most);
      const names = readdirSync(target);
      expect(names.length).toBe(files);
      for (const name of names) expectSame(readFileSync(join(target, name)), readFileSync(join(many.state, name)));
    }
  });

  test('costs nothing where the halves of each backend are whole', async () => {
    await putBack(agent, pristine);
    const ends = [1000, pack.length - 1000] as const;
    for (const [i, store] of [...agent.stores.values()].entries())
      await store.inner.put(packKey, flipped(ends[i] ?? 0));
    const target = join(agent.folder, 'out of halves');
    expect(await agent.restore(target)).toMatchObject({ lost: [], complete: true });
    expectSameTree(target, agent.state);
  });
});

test('an error of whoever takes the chunks is no damage of the pack, and nothing is handed out twice', async () => {
  await putBack(agent, pristine);
  const repository = await agent.open();
  const { index } = await repository.loadIndex();
  const reader = repository.reader(index);
  const { snapshots } = await repository.snapshots();
  const wanted: { id: ChunkId; location: ChunkLocation }[] = [];
  for await (const entry of repository.entries(snapshots.at(-1) as Snapshot, reader))
    if (entry.type === 'file') for (const id of entry.chunks) wanted.push({ id, location: reader.locate(id) });
  const handedOut: ChunkId[] = [];
  const error = await failure(
    () =>
      reader.fromPack(wanted[0]?.location.pack ?? 0, wanted, ({ id }) => {
        handedOut.push(id);
        if (handedOut.length === 3) throw new HoldfastError('damaged', 'of the taker');
      }),
    'damaged',
  );
  expect(error.message).toBe('of the taker');
  expect(handedOut).toHaveLength(3);
});

test('with a thread that opens packs the same chunks come, also when one backend has a damaged pack, and parts of one that is damaged everywhere', async () => {
  await putBack(agent, pristine);
  const repository = await agent.open();
  const { index } = await repository.loadIndex();
  const reader = repository.reader(index);
  await using opener = reader.opener();
  const { snapshots } = await repository.snapshots();
  const wanted: { id: ChunkId; location: ChunkLocation }[] = [];
  for await (const entry of repository.entries(snapshots.at(-1) as Snapshot, reader))
    if (entry.type === 'file') for (const id of entry.chunks) wanted.push({ id, location: reader.locate(id) });
  const [first, ...rest] = [...new Set(wanted.map(({ location }) => location.pack))];
  expect(rest).toEqual([]);
  const read = async (by: typeof opener | undefined) => {
    const handedOut: ChunkId[] = [];
    const take = ({ id }: { id: ChunkId }, bytes: Uint8Array) => {
      expect(repository.idOf(bytes)).toBe(id);
      handedOut.push(id);
    };
    const failed = await reader.fromPack(first ?? 0, wanted, take, undefined, by);
    return { handedOut, failed: failed.map(({ id }) => id) };
  };
  // An index that names another chunk at the place of one.
  const [liar, ...honest] = wanted.map((chunk, at) =>
    at === 0 ? { ...chunk, id: wanted.at(-1)?.id as ChunkId } : chunk,
  );
  const taken: ChunkId[] = [];
  const failed = await reader.fromPack(
    first ?? 0,
    [liar as (typeof wanted)[0], ...honest],
    ({ id }) => taken.push(id),
    undefined,
    opener,
  );
  expect([failed, taken.length]).toEqual([[liar], honest.length]);

  const [one, other] = [...agent.stores.values()];
  for (const harm of [[], [one], [one, other]]) {
    for (const store of harm) await store?.inner.put(packKey, flipped(pack.length >> 1));
    const found = await read(opener);
    expect(found).toEqual(await read(undefined));
    expect(found.handedOut.length + found.failed.length).toBe(wanted.length);
    expect(found.failed.length > 0).toBe(harm.length === 2);
  }
});
