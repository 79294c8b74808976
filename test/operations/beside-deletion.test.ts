import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HoldfastError } from '../../src/errors.ts';
import { readFirstSeen } from '../../src/operations/host/local-state.ts';
import { extendLocks } from '../../src/operations/host/locks.ts';
import { addRecipient } from '../../src/operations/recipients.ts';
import { ageRecipientOf, newAgeIdentity } from '../../src/crypto/age-keys.ts';
import { prune, type PruneOptions } from '../../src/operations/prune.ts';
import { ForgottenMarks } from '../../src/operations/host/forgotten-marks.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { annotate, beginRun, condemn, heal, timestamp } from '../../src/repository/repository.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { aheadClock, contentOf, makeAgent, packKeysOf, storeOf, type TestAgent } from './support.ts';

const DAY_MS = 86_400_000;
const noise = seededRandom('beside a deletion');
const clockAt = (days: number) => ({
  ...aheadClock,
  now: () => aheadClock.now() + days * DAY_MS,
  sleep: async () => {},
});

let agent: TestAgent;
beforeEach(async () => {
  agent = await makeAgent({ seed: 'beside a deletion' });
  writeFileSync(join(agent.state, 'one'), noise.bytes(100_000));
  await agent.backup();
});
afterEach(() => agent[Symbol.asyncDispose]());

const keeper = () => ({ state: join(agent.folder, 'keeper'), cache: join(agent.folder, 'keeper') });
const pruneAt = (days: number, over: Partial<PruneOptions> = {}, seams: Partial<Seams> = {}) =>
  prune(
    {
      backends: agent.addresses,
      secret: { kind: 'identities', identities: [agent.restoreKey] },
      foldersOf: keeper,
      host: 'keeper',
      graceMs: 7 * DAY_MS,
      settleMs: 1000,
      waitMs: 0,
      repackBytes: 0,
      presumeOver: [],
      dryRun: false,
      ...over,
    },
    agent.seams({ clock: clockAt(days), ...seams }),
  );
const keysOf = async (name: string, prefix: string) =>
  [...(await contentOf(storeOf(agent, name).inner)).keys()].filter((key) => key.startsWith(prefix));
const spoil = async (name: string, key: string) => {
  const bytes = Uint8Array.from(await storeOf(agent, name).inner.get(key));
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
  await storeOf(agent, name).inner.put(key, bytes);
};

test('a prune does not go on without a list of files that is there and cannot be read, whoever has given the snapshot up', async () => {
  const [manifest = ''] = await packKeysOf(agent, 'manifest');
  const repository = await agent.open();
  const [snapshot] = (await repository.snapshots()).snapshots;
  if (!snapshot) throw new Error('no snapshot');
  const lost = { whole: true as const, files: 1, bytes: 1, chunks: '' };
  const said = { snapshot: snapshot.id, time: timestamp(aheadClock.now()), host: 'thief', lost };
  await annotate(repository, said, agent.signer, agent.seams());
  const good = await storeOf(agent, 'a').inner.get(manifest);
  for (const name of ['a', 'b']) await spoil(name, manifest);
  await failure(() => pruneAt(0), 'damaged');
  for (const name of ['a', 'b']) await storeOf(agent, name).inner.delete(manifest);
  expect((await pruneAt(0)).condemned.packs).toBeGreaterThan(0);
  for (const name of ['a', 'b']) await storeOf(agent, name).inner.put(manifest, good);
});

describe('a condemned record that names packs in use, dated to come', () => {
  const forge = async () => {
    const repository = await agent.open();
    const packs = (await packKeysOf(agent, 'data')).map((key) => /([0-9a-f]{64})/.exec(key)?.[1] as never);
    const said = { time: timestamp(aheadClock.now() + 4000 * DAY_MS), host: 'thief', packs, snapshots: [] };
    return condemn(repository, said, agent.signer, agent.seams());
  };

  test('is told by a prune, and goes when its grace is over since the keeper first saw it', async () => {
    const { key } = await forge();
    const packs = await keysOf('a', 'packs/');
    const first = await pruneAt(0);
    expect(first.warnings).toMatchObject([{ code: 'dated_ahead', message: expect.stringContaining(key) as string }]);
    expect(readFirstSeen(keeper())).toHaveProperty([key]);
    expect((await pruneAt(6)).warnings).toHaveLength(1);
    expect(await keysOf('a', 'condemned/')).toEqual([key]);
    await pruneAt(8);
    expect(await keysOf('a', 'condemned/')).toEqual([]);
    expect(await keysOf('a', 'packs/')).toEqual(packs);
    expect((await pruneAt(9)).warnings).toEqual([]);
  });

  test('does not end the lock of these packs', async () => {
    await forge();
    const extended: string[] = [];
    Object.assign(storeOf(agent, 'b'), { lock: { days: 30, extend: async (key: string) => void extended.push(key) } });
    await extendLocks(await agent.open('writer'), agent.folders, agent.seams());
    expect(extended).toEqual(expect.arrayContaining(await packKeysOf(agent, 'data')));
  });
});

describe('a run that is declared over while it is on', () => {
  const declareOver = async (names = ['a', 'b']) => {
    for (const name of names)
      for (const key of await keysOf(name, 'runs/')) await storeOf(agent, name).inner.delete(key);
  };
  const hooks = (work: () => Promise<void>) => ({
    results: [],
    around: async <T>(save: () => Promise<T>) => {
      const saved = await save();
      await work();
      return saved;
    },
  });

  test('before it ends, stores no snapshot', async () => {
    const before = await keysOf('a', 'snapshots/');
    const error = await failure(() => agent.backup({ hooks: hooks(declareOver) as never }), 'not_enough_backends');
    expect(error.retryable).toBe(true);
    expect(await keysOf('a', 'snapshots/')).toEqual(before);
    expect((await agent.backup()).complete).toBe(true);
  });

  test('on one backend, ends on the other', async () => {
    const result = await agent.backup({ hooks: hooks(() => declareOver(['a'])) as never });
    expect(result.backends.map(({ state }) => state)).toEqual(['behind', 'committed']);
    expect(result.complete).toBe(false);
  });

  test('while it stores its snapshot, says that it may lack something', async () => {
    const { inner } = storeOf(agent, 'b');
    const put = inner.put.bind(inner);
    inner.put = async (key, ...rest) => {
      const answer = await put(key, ...rest);
      if (key.startsWith('snapshots/')) await declareOver();
      return answer;
    };
    const error = await failure(() => agent.backup(), 'not_enough_backends');
    expect(error.message).toContain('may lack something');
  });

  test('by a prune, finds its record gone before anything is deleted', async () => {
    writeFileSync(join(agent.state, 'two'), noise.bytes(50_000));
    await agent.backup();
    rmSync(join(agent.state, 'two'));
    await agent.backup();
    const repository = await agent.open();
    const { snapshots } = await repository.snapshots();
    const going = snapshots.filter(({ record }) => record.seq < 2);
    const marks = new ForgottenMarks(repository, [], { signer: agent.signer, host: 'h' }, agent.seams());
    await marks.add(going, snapshots);
    for (const { key } of going) await repository.mirror.delete(key);
    await pruneAt(0);
    const run = await beginRun(repository, { kind: 'write', host: 'laptop', after: [] }, agent.signer, agent.seams());
    const { operations } = storeOf(agent, 'a');
    operations.length = 0;
    expect((await pruneAt(8, { presumeOver: ['laptop'] })).deleted.packs).toBeGreaterThan(0);
    const deleted = operations.flatMap(({ operation, key }) => (operation === 'delete' ? [key] : []));
    expect(deleted.indexOf(run.key)).toBeGreaterThanOrEqual(0);
    expect(deleted.indexOf(run.key)).toBeLessThan(deleted.findIndex((key) => /^(index|packs)\//.test(key)));
  });
});

describe('healing', () => {
  test.each(['snapshots/', 'index/'])('does not bring back what is deleted meanwhile: %s', async (prefix) => {
    const [key = ''] = await keysOf('a', prefix);
    const repository = await agent.open('writer');
    const { inner } = storeOf(agent, 'a');
    await inner.delete(key);
    const put = inner.put.bind(inner);
    inner.put = async (...args) => {
      await storeOf(agent, 'b').inner.delete(key);
      return put(...args);
    };
    const error = new HoldfastError('not_found', 'gone');
    const mishap = { backend: 'a', key, problem: 'gone', error, servedBy: 'b' };
    const { healed, failed } = await heal(repository, [mishap], undefined);
    expect(healed).toEqual([]);
    expect(failed).toMatchObject([{ key, backend: 'a', mayArrive: false }]);
    expect(await keysOf('a', key)).toEqual([]);
  });
});

describe('the run record of what ends without a snapshot', () => {
  test('stays when a backend dropped out of a sync, and is over with the next run', async () => {
    await agent.sync();
    expect(await keysOf('a', 'runs/')).toHaveLength(1); // that of the backup
    const [key = ''] = await packKeysOf(agent, 'data');
    await storeOf(agent, 'b').inner.delete(key);
    storeOf(agent, 'b').plan({ effect: 'fail', on: 'put', key });
    expect((await agent.sync()).complete).toBe(false);
    expect(await keysOf('a', 'runs/')).toHaveLength(2);
    expect((await agent.sync()).complete).toBe(true);
    expect((await pruneAt(0)).waiting).toEqual([]);
  });
});

test('who is added while a backup runs is told of, and reads what it stored once he is added again', async () => {
  const identity = await newAgeIdentity(noise);
  const recipient = await ageRecipientOf(identity);
  const secret = { kind: 'root', root: agent.root } as const;
  const { addresses: backends, writerKey } = agent;
  const add = () =>
    addRecipient({ backends, secret, folders: keeper(), repository: writerKey.repositoryId, recipient }, agent.seams());
  writeFileSync(join(agent.state, 'two'), noise.bytes(50_000));
  const around = async <T>(save: () => Promise<T>) => {
    await add();
    return save();
  };
  const { warnings, complete } = await agent.backup({ hooks: { results: [], around } as never });
  expect(warnings.map(({ code }) => code)).toContain('recipient_added');
  expect(complete).toBe(false);
  await add();
  const theirs = { kind: 'identities', identities: [identity] } as const;
  expect(await agent.restore(join(agent.folder, 'out'), { secret: theirs })).toMatchObject({
    lost: [],
    complete: true,
  });
});
