/** A writer that means harm, with all keys of the host: what it may not bring about. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { ageRecipientOf, openAge } from '../../src/crypto/age.ts';
import { sha256Hex } from '../../src/crypto/hash.ts';
import type { ChunkId } from '../../src/entry.ts';
import { listEntries } from '../../src/operations/look.ts';
import { type SnapshotRecord } from '../../src/repository/records/format.ts';
import { indexKey } from '../../src/repository/records/object-name.ts';
import { sealIndex } from '../../src/repository/packs/index-object.ts';
import type { IndexedPack } from '../../src/repository/packs/pack-index.ts';
import { parseKey, timestamp } from '../../src/repository/repository.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import {
  aheadClock,
  contentsOf,
  expectSameTree,
  leavingBackends,
  smallAgents,
  packKeysOf,
  newCase,
  storeOf,
  type TestAgent,
} from './support.ts';

const random = seededRandom('hostile');
const { make, change } = smallAgents(random, 3000);
const agent = await make({ seed: 'hostile' });
afterAll(() => agent[Symbol.asyncDispose]());
const first = await agent.backup();
change(agent, 'three');
await agent.backup();
const pristine = await contentsOf(agent);
let parent: string;
let target: string;
beforeEach(async () => {
  ({ parent, target } = await newCase(agent, pristine));
});

const store = (name: string) => storeOf(agent, name).inner;
const unchanged = <T>(work: () => Promise<T>, of: TestAgent = agent): Promise<T> => leavingBackends(of, work);

/** A snapshot that somebody with all keys of the host signed, with a manifest of his own. */
async function commit(lines: readonly (object | string)[]): Promise<void> {
  const repository = await agent.open('writer');
  const { index } = await repository.loadIndex();
  const writer = repository.writer(index, { clock: aheadClock, random });
  const bytes = Buffer.from(
    lines.map((line) => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join(''),
  );
  const id = writer.add(bytes, 'manifest');
  await writer.flush();
  const { snapshots } = await repository.snapshots();
  const newest = snapshots.at(-1);
  const record: SnapshotRecord = {
    version: 1,
    critical: [],
    repository: repository.id,
    agent: { handle: 'ada', publicKey: repository.keys.agent.publicKey },
    seq: (newest?.record.seq ?? 0) + 1,
    parent: newest?.id ?? null,
    time: timestamp(aheadClock.now()),
    host: 'h',
    sources: [{ root: '/x' }],
    manifest: { chunks: [id], bytes: bytes.length, entries: lines.length },
    counts: { files: 1, folders: 1, symlinks: 0, bytes: 0 },
    tags: [],
    tool: 'evil',
    config: '',
  };
  await writer.commit(record, agent.signer);
}

/** The chunk of a file of the first snapshot, to put something real into hostile files. */
const realChunk = await (async (): Promise<ChunkId> => {
  const repository = await agent.open();
  const { index } = await repository.loadIndex();
  for await (const entry of repository.entries(await repository.findSnapshot('latest'), repository.reader(index)))
    if (entry.type === 'file' && entry.chunks[0]) return entry.chunks[0];
  throw new Error('no file');
})();

describe('a manifest signed by a hostile writer', () => {
  const common = { mode: '0644', mtime: '1700000000.000000000', uid: 0, gid: 0 };
  const root = { path: '', type: 'folder', ...common, mode: '0755' };
  const folder = (path: string) => ({ ...root, path });
  const file = (path: string) => ({ path, type: 'file', ...common, size: 3000, chunks: [realChunk] });
  const withTwoPaths = (shown: string, path: string) => `{"path":"${shown}",${JSON.stringify(file(path)).slice(1)}`;
  const raw = (path: string) => ({
    ...file('x'),
    path: undefined,
    pathBase64: Buffer.from(path, 'latin1').toString('base64'),
  });
  const outside = temporaryFolder();
  afterAll(() => removeFolder(outside));
  const link = (path: string, to: string) => ({ path, type: 'symlink', ...common, target: to });

  test.each<[string, (object | string)[]]>([
    ['a path that climbs', [root, file('../escaped')]],
    ['a path that climbs from within', [root, folder('a'), file('a/../../escaped')]],
    ['an absolute path', [root, file(join(outside, 'escaped'))]],
    ['a path of slashes', [root, file('//escaped')]],
    ['a path that climbs, in base64', [root, raw('../escaped')]],
    ['an absolute path, in base64', [root, raw(join(outside, 'escaped'))]],
    ['a NUL in a path', [root, file('a\0b')]],
    ['a file below a link to elsewhere', [root, link('a', outside), file('a/escaped')]],
    ['the same with two paths in its line', [root, link('a', outside), withTwoPaths('b', 'a/escaped')]],
    ['a folder below a link to elsewhere', [root, link('a', outside), folder('a/escaped')]],
    ['a link below a link to elsewhere', [root, link('a', outside), link('a/escaped', 'x')]],
    ['a link for a root', [{ ...link('', outside), path: '' }, file('escaped')]],
    ['a folder that turns into a link', [root, folder('a'), link('a', outside), file('a/escaped')]],
    ['a link that turns into a folder', [root, link('a', outside), folder('a'), file('a/escaped')]],
    ['a device', [root, { ...file('dev'), type: 'device' }]],
    ['no root', [file('escaped')]],
    ['the name of the mark of an unfinished restore', [root, file('.holdfast-restore-incomplete')]],
    ['nothing', []],
  ])('with %s is refused before anything is written', async (what, lines) => {
    await commit(lines);
    await failure(() => unchanged(() => agent.restore(target)), 'damaged');
    expect(readdirSync(parent)).toEqual([]);
    expect(readdirSync(outside)).toEqual([]);
    if (what === 'a path that climbs') expect((await agent.verify('chunks')).damaged).not.toEqual([]);
    // What was there before comes back all the same.
    await agent.restore(target, { snapshot: first.snapshot.id });
  });

  test.each<[string, object[]]>([['a link with a target that no system holds', [root, link('a', 'x'.repeat(5000))]]])(
    'with %s is refused, and nothing is outside',
    async (_, lines) => {
      await commit(lines);
      await failure(() => unchanged(() => agent.restore(target)), 'damaged');
      expect(readdirSync(parent).filter((name) => name !== 'target')).toEqual([]);
    },
  );

  test.each<[string, object]>([
    ['shorter than its chunks', { ...file('liar'), size: 10 }],
    ['longer than its chunks', { ...file('liar'), size: 3001 }],
    ['without chunks', { ...file('liar'), chunks: [] }],
    ['of chunks that are nowhere', { ...file('liar'), chunks: ['ab'.repeat(32)] }],
  ])('with a file %s gives the others, and says so', async (what, liar) => {
    await commit([root, file('honest'), liar]);
    const result = await unchanged(() => agent.restore(target));
    expect(result.lost).toEqual(['liar']);
    expect(result.complete).toBe(false);
    expect(readdirSync(target)).toEqual(['honest']);
    if (what !== 'without chunks') return;
    const { damaged } = await agent.verify('chunks');
    expect(damaged.map(({ paths }) => paths)).toContainEqual(['liar']);
  });

  test('may hold links to anywhere: they are made as links, and nothing goes through them', async () => {
    await commit([root, link('a', outside), link('b', '../../..'), file('c')]);
    expect((await agent.restore(target)).complete).toBe(true);
    expect(readdirSync(outside)).toEqual([]);
    expect(readFileSync(join(target, 'c'))).toHaveLength(3000);
  });

  test('cannot write to a terminal through `ls`', async () => {
    await commit([root, file('\x1b[2Jred\x07')]);
    const { entries } = await listEntries(
      { backends: agent.addresses, secret: { kind: 'root', root: agent.root }, snapshot: 'latest', path: '' },
      agent.seams(),
    );
    expect(entries.map(({ path }) => path)).toEqual(['.', '\\x1b[2Jred\\x07']);
  });
});

describe('an index of a hostile writer', () => {
  /** An index object that maps every chunk of a pack elsewhere; `edit` says where. */
  async function forge(edit: (packs: IndexedPack[]) => IndexedPack[]): Promise<void> {
    const repository = await agent.open();
    const packs: IndexedPack[] = [];
    const keys: string[] = [];
    for (const [key, bytes] of pristine.get('a') ?? []) {
      const name = parseKey(key);
      if (name?.kind !== 'index') continue;
      packs.push(...(await repository.checkIndex(name.id, bytes)));
      keys.push(key);
    }
    const { restore, writer } = repository.keys.recipients;
    const context = { repository: repository.id, chunkIdKey: agent.writerKey.chunkIdKey, random };
    const bytes = await sealIndex(edit(packs), { ...context, recipients: [...restore, ...writer] });
    for (const name of ['a', 'b']) {
      for (const key of keys) await store(name).delete(key);
      await store(name).put(indexKey(sha256Hex(bytes)), Uint8Array.from(bytes));
    }
  }
  const swapFirst = <K extends keyof IndexedPack>(packs: IndexedPack[], field: K) => {
    const [a, b] = packs.filter(({ kind }) => kind === 'data') as [IndexedPack, IndexedPack];
    return packs.map((pack) =>
      pack === a ? { ...a, [field]: b[field] } : pack === b ? { ...b, [field]: a[field] } : pack,
    );
  };

  test('rewritten truthfully serves', async () => {
    await forge((packs) => packs);
    await agent.restore(target);
    expectSameTree(target, agent.state);
  });

  test.each<[string, (packs: IndexedPack[]) => IndexedPack[]]>([
    ['maps chunks to the bytes of another pack', (packs) => swapFirst(packs, 'id')],
    [
      'maps chunks to each other',
      (packs) =>
        packs.map((pack) => ({
          ...pack,
          chunks: pack.chunks.map((chunk, i, all) => ({ ...chunk, id: all[all.length - 1 - i]?.id ?? chunk.id })),
        })),
    ],
    [
      'moves chunks by a block',
      (packs) =>
        packs.map((pack) =>
          pack.kind === 'data'
            ? { ...pack, chunks: pack.chunks.map((chunk) => ({ ...chunk, offset: chunk.offset - 512 })) }
            : pack,
        ),
    ],
    [
      'says other frame lengths',
      (packs) =>
        packs.map((pack) =>
          pack.kind === 'data'
            ? { ...pack, frames: pack.frames.map((frame) => ({ ...frame, length: frame.length - 1 })) }
            : pack,
        ),
    ],
    [
      'says other sizes when decompressed',
      (packs) =>
        packs.map((pack) =>
          pack.kind === 'data'
            ? { ...pack, frames: pack.frames.map((frame) => ({ ...frame, tarBytes: frame.tarBytes + 512 })) }
            : pack,
        ),
    ],
    [
      'says frames far outside',
      (packs) =>
        packs.map((pack) =>
          pack.kind === 'data'
            ? { ...pack, frames: pack.frames.map((frame) => ({ ...frame, offset: 2 ** 31 })) }
            : pack,
        ),
    ],
    [
      'says another payload offset',
      (packs) => packs.map((pack) => (pack.kind === 'data' ? { ...pack, payloadOffset: 10 } : pack)),
    ],
    [
      'says a huge payload offset and size',
      (packs) =>
        packs.map((pack) =>
          pack.kind === 'data' ? { ...pack, payloadOffset: 0xffff_ffff, storedBytes: 0xffff_ffff } : pack,
        ),
    ],
    [
      'says packs that are not there',
      (packs) =>
        packs.map((pack) =>
          pack.kind === 'data' ? { ...pack, id: sha256Hex(Buffer.from('x')) as typeof pack.id } : pack,
        ),
    ],
    [
      'says a frame as large as memory',
      (packs) =>
        packs.map((pack) =>
          pack.kind === 'data'
            ? { ...pack, frames: pack.frames.map((frame) => ({ ...frame, tarBytes: 0xffff_ffff })) }
            : pack,
        ),
    ],
  ])('that %s never brings wrong content: files are right or lost', async (what, edit) => {
    await forge(edit);
    const result = await unchanged(() => agent.restore(target)).catch((error: unknown) => {
      return failure(() => Promise.reject(error), 'damaged');
    });
    if (!('lost' in result)) return;
    for (const path of ['one', 'folder/two', 'three']) {
      expect(existsSync(join(target, path)), path).toBe(!result.lost.includes(path));
      if (!result.lost.includes(path)) {
        expect(readFileSync(join(target, path)).equals(readFileSync(join(agent.state, path))), path).toBe(true);
      }
    }
    if (what.startsWith('moves')) expect((await agent.verify('chunks')).damaged).not.toEqual([]);
  });

  test('of somebody who lacks the secret of the repository is not believed', async () => {
    const repository = await agent.open();
    const { restore, writer } = repository.keys.recipients;
    const bytes = await sealIndex([], {
      repository: repository.id,
      chunkIdKey: new Uint8Array(32),
      recipients: [...restore, ...writer],
      random,
    });
    const key = indexKey(sha256Hex(bytes));
    await store('a').put(key, Uint8Array.from(bytes));
    const result = await unchanged(() => agent.restore(target));
    expect(result).toMatchObject({ lost: [] });
    expect(result.warnings.some(({ message }) => message.includes(key))).toBe(true);
    expectSameTree(target, agent.state);
  });
});

describe("the writer's key", () => {
  test('opens no pack', async () => {
    const packs = [...(pristine.get('a') ?? [])].filter(([key]) => key.startsWith('packs/'));
    expect(packs.length).toBe((await packKeysOf(agent, 'data')).length + (await packKeysOf(agent, 'manifest')).length);
    expect(packs.length).toBeGreaterThanOrEqual(4);
    for (const [, bytes] of packs) await failure(() => openAge(bytes, [agent.writerKey.ageIdentity]), 'wrong_key');
    // The same call opens them with the right key, so it is the key that is refused.
    for (const [, bytes] of packs) await openAge(bytes, [agent.restoreKey]);
  });

  test('opens neither the identity nor a restore', async () => {
    for (const [key, bytes] of pristine.get('a') ?? [])
      if (key.startsWith('identity/')) await failure(() => openAge(bytes, [agent.writerKey.ageIdentity]), 'wrong_key');
    const secret = { kind: 'identities', identities: [agent.writerKey.ageIdentity] } as const;
    await failure(() => agent.restore(target, { secret }), 'wrong_key');
    expect(existsSync(target)).toBe(false);
  });

  test('is no recipient of packs, whoever is added', async () => {
    const repository = await agent.open('writer');
    const writer = await ageRecipientOf(agent.writerKey.ageIdentity);
    expect(repository.keys.recipients.restore).not.toContain(writer);
    expect(repository.keys.recipients.writer).toContain(writer);
  });
});
