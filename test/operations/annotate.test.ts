/** What is said of snapshots afterwards. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { sealAge } from '../../src/crypto/age.ts';
import { signEnvelope } from '../../src/crypto/dsse.ts';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { sha256Hex } from '../../src/crypto/hash.ts';
import { annotateSnapshot, type AnnotateOptions } from '../../src/operations/annotate.ts';
import { listEntries, listSnapshots } from '../../src/operations/look.ts';
import { ANNOTATION_PAYLOAD_TYPE } from '../../src/repository/records/format.ts';
import { annotationKey, type AnnotationId } from '../../src/repository/records/object-name.ts';
import {
  readAnnotations,
  whatIsSaid,
  type Annotation,
  type SnapshotId,
  type SnapshotRecord,
} from '../../src/repository/repository.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { contentsOf, expectLevel, makeAgent, putBack, storeOf } from './support.ts';

const random = seededRandom('annotate');
const agent = await makeAgent({ seed: 'annotate', fill: (state) => writeFileSync(join(state, 'MEMORY.md'), 'x') });
afterAll(() => agent[Symbol.asyncDispose]());
const first = await agent.backup({ tags: ['nightly'], note: 'the first' });
const second = await agent.backup();
const pristine = await contentsOf(agent);
beforeEach(() => putBack(agent, pristine));

const say = (over: Partial<AnnotateOptions>, seams = agent.seams()) => {
  const { addresses: backends, signer, folders } = agent;
  const options = { backends, access: agent.access.writer, signer, folders, host: 'h', snapshot: first.snapshot.id };
  return annotateSnapshot({ ...options, ...over }, seams);
};
const list = () => listSnapshots({ backends: agent.addresses, access: agent.access.writer }, agent.seams());
const annotationsOn = async (name: string) =>
  [...((await contentsOf(agent)).get(name)?.keys() ?? [])].filter((key) => key.startsWith('annotations/'));

describe('an annotation', () => {
  test('adds and takes away tags, in the order in which it was said', async () => {
    await say({ tags: { add: ['a', 'b'], remove: ['nightly'] } });
    await say({ tags: { add: [], remove: ['a'] } });
    const last = await say({ tags: { add: ['a', 'ü'], remove: ['b', 'never there'] } });
    expect(last).toMatchObject({ tags: ['a', 'ü'], note: 'the first', complete: true, warnings: [] });
    expect((await list()).snapshots.map(({ tags }) => tags)).toEqual([['a', 'ü'], []]);
  });

  test('replaces the note, and takes it away', async () => {
    expect((await list()).snapshots.map(({ note }) => note)).toEqual(['the first', null]);
    await say({ note: 'one' });
    expect((await say({ note: 'two' })).note).toBe('two');
    await say({ snapshot: 'latest', note: 'of the other' });
    expect((await list()).snapshots.map(({ note }) => note)).toEqual(['two', 'of the other']);
    expect((await say({ note: '' })).note).toBeNull();
  });

  test('comes after what was said before, though the clock was set back', async () => {
    await say({ note: 'before' });
    const clock = { ...agent.seams().clock, now: () => Date.parse(first.snapshot.time) };
    expect((await say({ note: 'after' }, agent.seams({ clock }))).note).toBe('after');
  });

  test('changes no object, and leaves the snapshots as they verify', async () => {
    await say({ tags: { add: ['kept'], remove: [] } });
    const now = await contentsOf(agent);
    for (const [name, before] of pristine)
      for (const [key, bytes] of before)
        expect(Buffer.compare(now.get(name)?.get(key) ?? Buffer.alloc(0), bytes)).toBe(0);
    expect(await agent.verify('chunks')).toMatchObject({ damaged: [], complete: true });
  });

  test('of a snapshot that is not there, or the acknowledgement of one that is not suspicious, is refused', async () => {
    await failure(() => say({ snapshot: 'abcdef', note: 'x' }), 'not_found');
    expect((await failure(() => say({ acknowledged: true }), 'usage')).hint).toContain('holdfast snapshots');
    expect(await annotationsOn('a')).toEqual([]);
  });

  test.each(['sync', 'backup'] as const)('that one backend missed is brought there by the next %s', async (how) => {
    storeOf(agent, 'b').plan({ effect: 'fail', key: /^annotations/ });
    const result = await say({ note: 'missed' });
    expect(result).toMatchObject({ complete: false, note: 'missed' });
    await agent[how]();
    expect(await annotationsOn('b')).toHaveLength(1);
    await expectLevel(agent);
  });
});

describe('a tag that was added or taken away afterwards', () => {
  const listOf = (snapshot: string) =>
    listEntries(
      { backends: agent.addresses, secret: { kind: 'root', root: agent.root }, snapshot, path: '' },
      agent.seams(),
    );

  test('selects as the list of snapshots shows it', async () => {
    expect((await listOf('tag:nightly')).snapshot).toBe(first.snapshot.id);
    await say({ snapshot: second.snapshot.id, tags: { add: ['good'], remove: [] } });
    await say({ tags: { add: ['good', 'old'], remove: ['nightly'] } });
    expect((await listOf('tag:good')).snapshot).toBe(second.snapshot.id);
    expect((await listOf('tag:old')).snapshot).toBe(first.snapshot.id);
    expect((await failure(() => listOf('tag:nightly'), 'not_found')).hint).toContain('The tags are "good", "old"');
    await say({ snapshot: second.snapshot.id, tags: { add: [], remove: ['good'] } });
    expect((await listOf('tag:good')).snapshot).toBe(first.snapshot.id);
  });

  test('is told to be uncertain when an annotation cannot be read', async () => {
    await say({ tags: { add: [], remove: ['nightly'] } });
    const [key = ''] = await annotationsOn('a');
    for (const name of ['a', 'b']) await storeOf(agent, name).inner.put(key, Buffer.from('junk'));
    const { snapshot, warnings } = await listOf('tag:nightly');
    expect(snapshot).toBe(first.snapshot.id);
    expect(warnings).toContainEqual(expect.objectContaining({ code: 'annotation_damaged', incomplete: true }));
    expect((await listOf('latest')).warnings).toEqual([]);
  });
});

describe('storage', () => {
  test('that lost an annotation on one backend: verify names it, and the other has it', async () => {
    await say({ note: 'kept' });
    const [key = ''] = await annotationsOn('a');
    await storeOf(agent, 'a').inner.delete(key);
    const { damaged } = await agent.verify('listing');
    expect(damaged).toMatchObject([{ backend: 'a', key, problem: 'the object is missing' }]);
    expect((await list()).snapshots[0]?.note).toBe('kept');
  });

  test('that damaged one everywhere: it is told, and does not count', async () => {
    await say({ note: 'damaged' });
    const [key = ''] = await annotationsOn('a');
    for (const name of ['a', 'b']) await storeOf(agent, name).inner.put(key, Buffer.from('junk'));
    const { snapshots, warnings } = await list();
    expect(snapshots[0]?.note).toBe('the first');
    expect(warnings).toContainEqual(expect.objectContaining({ code: 'annotation_damaged', incomplete: true }));
  });

  test('cannot write one itself, nor put one under another time', async () => {
    const repository = await agent.open();
    const record = {
      ...{ version: 1, critical: [], repository: repository.id, agent: { handle: 'ada', publicKey: '' } },
      ...{ snapshot: second.snapshot.id, time: '2026-02-01T00:00:00.000Z', host: 'h', acknowledged: true },
    };
    const seed = new Uint8Array(32).fill(9);
    const stranger = { seed, publicKey: publicKeyOf(seed) };
    const { restore, writer } = repository.keys.recipients;
    for (const publicKey of [Buffer.from(stranger.publicKey).toString('hex'), repository.keys.agent.publicKey]) {
      const payload = Buffer.from(JSON.stringify({ ...record, agent: { handle: 'ada', publicKey } }));
      const envelope = signEnvelope(ANNOTATION_PAYLOAD_TYPE, payload, [stranger]);
      const { bytes } = await sealAge(envelope, [...restore, ...writer], random);
      const key = annotationKey(Date.parse(record.time), sha256Hex(payload) as AnnotationId);
      await storeOf(agent, 'a').inner.put(key, bytes);
    }
    await say({ note: 'real' });
    const real = (await annotationsOn('b'))[0] ?? '';
    const moved = real.replace(/\d{8}T/, '20200101T');
    await storeOf(agent, 'a').inner.put(moved, await storeOf(agent, 'a').inner.get(real));
    const { annotations, problems } = await readAnnotations(repository);
    expect(annotations.map(({ key }) => key)).toEqual([real]);
    expect(problems.map(({ error }) => error.code).toSorted()).toEqual(['damaged', 'forged', 'forged']);
    expect((await list()).snapshots.map(({ acknowledged }) => acknowledged)).toEqual([false, false]);
  });
});

test('all annotations taken together: the last word on each tag and on the note counts', () => {
  const id = 'ab'.repeat(32) as SnapshotId;
  const names = fc.uniqueArray(fc.constantFrom<string[]>('a', 'b', 'c'), { maxLength: 3 });
  const one = fc.record({
    add: names,
    remove: names,
    note: fc.option(fc.constantFrom('x', 'y', ''), { nil: undefined }),
  });
  fc.assert(
    fc.property(names, fc.array(one, { maxLength: 8 }), (tags, all) => {
      const annotations = all.map(({ add, remove, note }) => ({
        record: { snapshot: id, tags: { add, remove }, ...(note === undefined ? {} : { note }) },
      })) as unknown as Annotation[];
      const said = whatIsSaid({ id, record: { tags } as unknown as SnapshotRecord }, annotations);
      for (const tag of ['a', 'b', 'c']) {
        const last = all.findLast(({ add, remove }) => add.includes(tag) || remove.includes(tag));
        expect(said.tags.includes(tag)).toBe(last ? last.add.includes(tag) : tags.includes(tag));
      }
      const note = all.findLast((each) => each.note !== undefined)?.note;
      expect(said.note).toBe(note === undefined || note === '' ? null : note);
    }),
    { seed: 7 },
  );
});
