/** Storage that means harm: what it may not bring about. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { sealAge } from '../../src/crypto/age.ts';
import { newRoot } from '../../src/identity/root.ts';
import { REPOSITORY_TYPE, signRecord } from '../../src/repository/records/format.ts';
import { REPOSITORY_KEY } from '../../src/repository/repository.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import {
  contentsOf,
  leavingBackends,
  expectSameTree,
  makeAgent,
  smallAgents,
  newCase,
  putBack,
  storeOf,
  type TestAgent,
} from './support.ts';

const random = seededRandom('hostile');
const { make, change } = smallAgents(random, 3000);
const agent = await make({ seed: 'hostile' });
afterAll(() => agent[Symbol.asyncDispose]());
const first = await agent.backup();
change(agent, 'three');
const second = await agent.backup();
const pristine = await contentsOf(agent);
const stranger = await makeAgent({ seed: 'stranger of the hostile' });
afterAll(() => stranger[Symbol.asyncDispose]());
await stranger.backup();
const strange = await contentsOf(stranger);

let parent: string;
let target: string;
beforeEach(async () => {
  ({ parent, target } = await newCase(agent, pristine));
});

const store = (name: string) => storeOf(agent, name).inner;
const everywhere = async (key: string, bytes: Uint8Array) => {
  for (const name of ['a', 'b']) await store(name).put(key, Uint8Array.from(bytes));
};
const unchanged = <T>(work: () => Promise<T>, of: TestAgent = agent): Promise<T> => leavingBackends(of, work);

describe('holdfast.json', () => {
  const good = pristine.get('a')?.get(REPOSITORY_KEY) ?? new Uint8Array();
  const flip = (at: number) => Uint8Array.from(good, (byte, i) => (i === at ? byte ^ 1 : byte));
  const HARMS: [string, Uint8Array | undefined][] = [
    ['with a bit of its text turned', flip(20)],
    ['with a bit of a signature turned', flip(good.length - 60)],
    ['truncated', good.subarray(0, 300)],
    ['emptied', new Uint8Array(0)],
    ['removed', undefined],
    ["that is another agent's", strange.get('a')?.get(REPOSITORY_KEY)],
  ];

  test.each(HARMS)('%s on one backend: the other serves, and which one failed is said', async (_, bytes) => {
    await store('a').delete(REPOSITORY_KEY);
    if (bytes) await store('a').put(REPOSITORY_KEY, Uint8Array.from(bytes));
    const { warnings, complete } = await unchanged(() => agent.restore(target));
    expect(complete).toBe(true);
    expectSameTree(target, agent.state);
    expect(warnings).toMatchObject([{ code: 'backend_failed', message: expect.stringContaining('backend a') }]);
    const verified = await unchanged(() => agent.verify('listing'));
    expect(verified.complete).toBe(false);
    expect(verified.warnings).toMatchObject([{ message: expect.stringContaining('backend a'), incomplete: true }]);
  });

  test.each(HARMS)('%s on both: refused, before anything is written', async (what, bytes) => {
    for (const name of ['a', 'b']) {
      await store(name).delete(REPOSITORY_KEY);
      if (bytes) await store(name).put(REPOSITORY_KEY, Uint8Array.from(bytes));
    }
    const codes = what === 'removed' ? (['no_repository'] as const) : (['damaged', 'forged', 'wrong_key'] as const);
    const error = await failure(() => unchanged(() => agent.restore(target)), ...codes);
    expect(error.hint ?? '').not.toBe('');
    expect(existsSync(target)).toBe(false);
    const writing = what.includes('another') ? (['foreign_repository'] as const) : codes;
    await failure(() => unchanged(() => agent.backup()), ...writing);
    await failure(() => unchanged(() => agent.sync()), ...writing);
  });

  test('of version 2 is refused as such by everybody', async () => {
    const { signatures: _, ...record } = JSON.parse(Buffer.from(good).toString()) as Record<string, unknown>;
    await everywhere(REPOSITORY_KEY, signRecord({ ...record, version: 2 }, REPOSITORY_TYPE, [agent.signer]));
    const works: (() => Promise<unknown>)[] = [
      () => agent.restore(target),
      () => agent.backup(),
      () => agent.verify('listing'),
    ];
    for (const work of works) {
      const error = await failure(() => unchanged(work), 'unsupported_format');
      expect(error.message).toContain('version 2');
    }
    expect(existsSync(target)).toBe(false);
  });
});

describe('words of another root', () => {
  test('are told by the fingerprint, and nothing is written', async () => {
    const secret = { kind: 'root', root: newRoot(random) } as const;
    const error = await failure(() => unchanged(() => agent.restore(target, { secret })), 'wrong_key');
    expect(error.message).toContain('fingerprint');
    expect(existsSync(target)).toBe(false);
    const home = join(parent, 'home');
    await failure(() => unchanged(() => agent.recover(home, { secret })), 'wrong_key');
    expect(readdirSync(parent)).toEqual([]);
  });

  test("do not pass because one backend is the other agent's", async () => {
    await putBack(agent, [['a', strange.get('a') ?? new Map()]]);
    const { complete, warnings } = await unchanged(() => agent.restore(target));
    expect(complete).toBe(true);
    expectSameTree(target, agent.state);
    expect(warnings).toMatchObject([{ code: 'backend_failed', message: expect.stringContaining('backend a') }]);
  });
});

describe('the newest snapshot', () => {
  const key = [...(pristine.get('a')?.keys() ?? [])].find((one) => one.includes(second.snapshot.id)) ?? '';

  test('lost to damage everywhere: an older one comes back for `latest`, and it is said loudly', async () => {
    await everywhere(key, Buffer.from('damaged'));
    const result = await unchanged(() => agent.restore(target));
    expect(result.snapshot.id).toBe(first.snapshot.id);
    expect(result.complete).toBe(false);
    expect(result.warnings).toContainEqual(
      expect.objectContaining({ code: 'snapshot_damaged', message: expect.stringContaining(key), incomplete: true }),
    );
  });

  test('that somebody without the agent key wrote is not taken for one', async () => {
    const repository = await agent.open();
    const recipients = [...repository.keys.recipients.restore, ...repository.keys.recipients.writer];
    const forged = (await sealAge(Buffer.from('{}'), recipients, random)).bytes;
    const junk = `snapshots/99990101T000000Z-${'ab'.repeat(32)}.age`;
    await store('a').put(junk, forged);
    await store('a').put(`snapshots/20000101T000000Z-${'cd'.repeat(32)}.age`, forged);
    const result = await unchanged(() => agent.restore(target));
    expect(result.snapshot.seq).toBe(1);
    expectSameTree(target, agent.state);
    // It might have been the newest before somebody damaged it, so it is told; one that is older is nobody's loss here.
    expect(result.warnings.filter(({ incomplete }) => incomplete)).toMatchObject([
      { code: 'snapshot_damaged', message: expect.stringContaining(junk) },
    ]);
  });
});

describe('a snapshot object', () => {
  const key = [...(pristine.get('a')?.keys() ?? [])].find((one) => one.includes(second.snapshot.id)) ?? '';
  const bytes = pristine.get('a')?.get(key) ?? new Uint8Array();
  const renamed = key.replace(/\d{8}T\d{6}Z/, '20000101T000000Z');

  test('put under another time hides nothing, junk or not', async () => {
    for (const content of [bytes, Buffer.from('junk')]) {
      for (const name of ['a', 'b']) {
        await putBack(agent, pristine);
        await store(name).put(renamed, Uint8Array.from(content));
        if (name === 'a') await store('a').delete(key);
        const out = join(parent, `${name}-${content.length}`);
        const result = await unchanged(() => agent.restore(out, { heal: false }));
        expect(result.snapshot.id).toBe(second.snapshot.id);
        expectSameTree(out, agent.state);
      }
    }
  });

  test('put under the id of another is refused', async () => {
    const other = `snapshots/99990101T000000Z-${first.snapshot.id}.age`;
    await everywhere(other, bytes);
    const result = await unchanged(() => agent.restore(target));
    expect(result.snapshot.id).toBe(second.snapshot.id);
    expect(result.warnings.some(({ message }) => message.includes(other))).toBe(true);
  });

  test('copied twice is one snapshot', async () => {
    await everywhere(renamed, bytes);
    const repository = await agent.open();
    const ids = (await repository.snapshots()).snapshots.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });
});

describe('a junk object on one backend', () => {
  test.each([
    ['an index', `index/${'ab'.repeat(32)}.age`],
    ['a snapshot', `snapshots/20260101T000000Z-${'ab'.repeat(32)}.age`],
    ['a key record', `keys/00000000-${'ab'.repeat(32)}.json`],
    ['secrets', `keys/${'ab'.repeat(32)}.age`],
    ['an identity', `identity/${'ab'.repeat(32)}.age`],
    ['a pack', `packs/ab/${'ab'.repeat(32)}.tar.zst.age`],
    ['nothing known', 'notes/readme.txt'],
  ])('that passes for %s does not put the honest backend out of the run', async (_, key) => {
    await store('a').put(key, Buffer.from('junk'));
    const result = await agent.backup();
    expect(result.backends).toEqual([
      { name: 'a', state: 'committed' },
      { name: 'b', state: 'committed' },
    ]);
    await agent.restore(target);
    expectSameTree(target, agent.state);
  });
});
