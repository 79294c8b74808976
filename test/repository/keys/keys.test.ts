import { describe, expect, test } from 'vitest';
import type { Backend } from '../../../src/backend/backend.ts';
import { createMemory } from '../../../src/backend/memory.ts';
import { Mirror } from '../../../src/backend/mirror.ts';
import { systemClock } from '../../../src/clock.ts';
import { ageRecipientOf, newAgeIdentity, sealAge } from '../../../src/crypto/age.ts';
import { publicKeyOf } from '../../../src/crypto/ed25519.ts';
import { sshFingerprint } from '../../../src/crypto/ssh.ts';
import { sha256Hex } from '../../../src/crypto/hash.ts';
import { createRepository } from '../../../src/repository/create.ts';
import {
  KEYS_TYPE,
  REPOSITORY_TYPE,
  signRecord,
  type KeysRecord,
  type RepositoryRecord,
} from '../../../src/repository/records/format.ts';
import { keysRecordKey, REPOSITORY_KEY, secretsKey } from '../../../src/repository/records/object-name.ts';
import type { Access } from '../../../src/repository/keys/keys.ts';
import { openRepository } from '../../../src/repository/open.ts';
import { failure, seededRandom } from '../../crypto/support.ts';
import { FaultyBackend } from '../../faulty-backend.ts';

const random = seededRandom('keys');
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const signerOf = (fill: number) => {
  const seed = new Uint8Array(32).fill(fill);
  return { seed, publicKey: publicKeyOf(seed) };
};
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const restoreKey = await newAgeIdentity(random);
const writerIdentity = await newAgeIdentity(random);
const writer = { identity: writerIdentity, recipient: await ageRecipientOf(writerIdentity) };
const agent = signerOf(1);
const recovery = signerOf(2);
const stranger = signerOf(3);
const next = signerOf(4);
const commitment = 'c0'.repeat(32);

interface Made {
  id: string;
  chunkIdKey: Uint8Array;
  backends: Map<string, Backend>;
  writerAccess: Access;
}

async function make(names: readonly string[] = ['a', 'b'], keys = { agent, recovery }): Promise<Made> {
  const backends = new Map(names.map((name) => [name, createMemory(name)]));
  const [id, chunkIdKey] = [hexOf(random.bytes(16)), random.bytes(32)];
  await createRepository(mirrorOf(backends), {
    id,
    chunkIdKey,
    handle: 'ada',
    ...keys,
    origin: 'derived',
    next: next.publicKey,
    nextRecovery: commitment,
    restoreRecipients: [await ageRecipientOf(restoreKey)],
    writer,
    agentKeyFile: Buffer.from('the key file'),
    clock: systemClock,
    random,
  });
  const writerAccess: Access = {
    kind: 'writer',
    repository: id,
    agent: hexOf(keys.agent.publicKey),
    chunkIdKey,
    identity: writer.identity,
  };
  return { id, chunkIdKey, backends, writerAccess };
}

const mirrorOf = (backends: Iterable<[string, Backend]>) =>
  new Mirror([...backends].map(([name, backend]) => ({ name, backend })));
const open = (mirror: Mirror, access: Access) => openRepository(mirror, access, { clock: systemClock });
const restoreAccess: Access = { kind: 'restore', identities: [restoreKey] };

async function only(backend: Backend, prefix: string): Promise<string> {
  for await (const { key } of backend.list(prefix)) return key;
  throw new Error(`nothing at ${prefix}`);
}

async function recordOf<T>(backend: Backend, key: string): Promise<T> {
  const { signatures: _dropped, ...record } = JSON.parse(Buffer.from(await backend.get(key)).toString()) as T & {
    signatures: unknown;
  };
  return record as T;
}

async function putKeysRecord(backend: Backend, record: object, signers = [agent, recovery]): Promise<void> {
  const bytes = signRecord(record, KEYS_TYPE, signers);
  await backend.put(keysRecordKey((record as KeysRecord).seq, sha256Hex(bytes)), bytes);
}

describe('a repository', () => {
  test('opens for its writer and for who restores', async () => {
    const { id, chunkIdKey, backends, writerAccess } = await make();
    for (const access of [writerAccess, restoreAccess]) {
      const repository = await open(mirrorOf(backends), access);
      expect(repository.id).toBe(id);
      expect(hexOf(repository.chunkIdKey)).toBe(hexOf(chunkIdKey));
      expect(repository.writerIdentity).toBe(writer.identity);
      expect(repository.keys.agent).toEqual({ handle: 'ada', publicKey: hexOf(agent.publicKey), origin: 'derived' });
    }
    const repository = await open(mirrorOf(backends), restoreAccess);
    expect(Buffer.from(await repository.agentKeyFile()).toString()).toBe('the key file');
  });

  test('has the same bytes on every backend', async () => {
    const { backends } = await make(['a', 'b', 'c']);
    const contents = [];
    for (const backend of backends.values()) {
      const content: [string, string][] = [];
      for await (const { key } of backend.list('')) content.push([key, hexOf(await backend.get(key))]);
      contents.push(content.toSorted());
    }
    expect(contents[1]).toEqual(contents[0]);
    expect(contents[2]).toEqual(contents[0]);
  });

  test('is not made where there is one, and nothing is changed', async () => {
    const { backends, id } = await make(['a']);
    const second = make(['x']).then(async ({ backends: other }) => {
      const options = {
        handle: 'eve',
        agent: stranger,
        recovery: stranger,
        origin: 'derived' as const,
        next: next.publicKey,
        nextRecovery: commitment,
      };
      await createRepository(mirrorOf([...other, ...backends]), {
        ...options,
        id: 'ee'.repeat(16),
        chunkIdKey: random.bytes(32),
        restoreRecipients: [writer.recipient],
        writer,
        agentKeyFile: Buffer.from(''),
        clock: systemClock,
        random,
      });
    });
    await failure(() => second, 'exists');
    expect((await open(mirrorOf(backends), restoreAccess)).id).toBe(id);
  });

  test('is not made when another one appears at the last moment', async () => {
    const { backends: theirs } = await make(['a']);
    const plain = await [...theirs.values()][0]?.get(REPOSITORY_KEY);
    const store = createMemory('a');
    let arrived = () => {};
    const until = new Promise<void>((resolve) => (arrived = resolve));
    const slow = new FaultyBackend(store).plan({ effect: 'delay', on: 'put', key: REPOSITORY_KEY, until });
    const making = createRepository(mirrorOf([['a', slow]]), {
      id: 'aa'.repeat(16),
      chunkIdKey: random.bytes(32),
      handle: 'ada',
      agent,
      recovery,
      origin: 'derived',
      next: next.publicKey,
      nextRecovery: commitment,
      restoreRecipients: [writer.recipient],
      writer,
      agentKeyFile: Buffer.from(''),
      clock: systemClock,
      random,
    });
    while (!slow.operations.some(({ operation, key }) => operation === 'put' && key === REPOSITORY_KEY)) await turn();
    await store.put(REPOSITORY_KEY, plain ?? new Uint8Array());
    arrived();
    await failure(() => making, 'exists');
  });
});

describe('a backend that holds', () => {
  test('nothing is taken out: no_repository', async () => {
    const { backends } = await make();
    const mirror = mirrorOf([['new', createMemory('new')], ...backends]);
    await open(mirror, restoreAccess);
    expect(mirror.states().map(({ name, error }) => [name, error?.code])).toEqual([
      ['new', 'no_repository'],
      ['a', undefined],
      ['b', undefined],
    ]);
  });

  test('nothing, alone, is no repository', async () => {
    const error = await failure(() => open(mirrorOf([['a', createMemory('a')]]), restoreAccess), 'no_repository');
    expect(error.message).toContain('a');
    expect(error.hint).toContain('init');
  });

  test("someone else's repository is taken out, wherever it stands: foreign_repository", async () => {
    const ours = await make(['a']);
    const theirs = await make(['x'], { agent: stranger, recovery: stranger });
    for (const backends of [
      [...theirs.backends, ...ours.backends],
      [...ours.backends, ...theirs.backends],
    ]) {
      const mirror = mirrorOf(backends);
      const repository = await open(mirror, ours.writerAccess);
      expect(repository.id).toBe(ours.id);
      expect(mirror.states().find(({ name }) => name === 'x')?.error?.code).toBe('foreign_repository');
    }
    await failure(() => open(mirrorOf(theirs.backends), ours.writerAccess), 'foreign_repository');
  });

  test('a repository of version 2 is refused as such', async () => {
    const { backends } = await make(['a']);
    const [a] = [...backends.values()] as [Backend];
    const record = await recordOf<RepositoryRecord>(a, REPOSITORY_KEY);
    await a.put(REPOSITORY_KEY, signRecord({ ...record, version: 2 }, REPOSITORY_TYPE, [agent, recovery]));
    const error = await failure(() => open(mirrorOf(backends), restoreAccess), 'unsupported_format');
    expect(error.message).toMatch(/backend a.*version 2/);
  });

  test.each([
    ['an odd minimum', { minBytes: 16_385 }],
    ['no power of two', { averageBytes: 65_537 }],
    ['chunks beyond the limit', { maxBytes: 2 ** 20 }],
    ['an average below the minimum', { averageBytes: 8192 }],
    ['a maximum below the average', { maxBytes: 65_536 }],
    ['chunks of nothing', { minBytes: 0 }],
  ])('a repository with %s is refused', async (_, over) => {
    const { backends } = await make(['a']);
    const [a] = [...backends.values()] as [Backend];
    const record = await recordOf<RepositoryRecord>(a, REPOSITORY_KEY);
    const chunker = { ...record.chunker, ...over };
    await a.put(REPOSITORY_KEY, signRecord({ ...record, chunker }, REPOSITORY_TYPE, [agent, recovery]));
    await failure(() => open(mirrorOf(backends), restoreAccess), 'unsupported_format');
  });

  test('a holdfast.json that was not signed by both is taken out: forged', async () => {
    const { backends, id } = await make();
    const [a] = [...backends.values()] as [Backend];
    const record = await recordOf<RepositoryRecord>(a, REPOSITORY_KEY);
    for (const signers of [[agent], [recovery], [stranger], [agent, stranger]]) {
      await a.put(REPOSITORY_KEY, signRecord(record, REPOSITORY_TYPE, signers));
      const mirror = mirrorOf(backends);
      expect((await open(mirror, restoreAccess)).id).toBe(id);
      expect(mirror.states()[0]?.error?.code).toBe('forged');
    }
  });

  test('a holdfast.json of somebody else under our id does not put the honest backends out', async () => {
    const { backends, id, writerAccess } = await make(['a', 'b', 'c']);
    const [a] = [...backends.values()] as [Backend];
    const record = await recordOf<RepositoryRecord>(a, REPOSITORY_KEY);
    const key = hexOf(stranger.publicKey);
    await a.put(REPOSITORY_KEY, signRecord({ ...record, agent: key, recovery: key }, REPOSITORY_TYPE, [stranger]));
    const keys = await recordOf<KeysRecord>(a, await only(a, 'keys/00000000'));
    await putKeysRecord(a, { ...keys, agent: { ...keys.agent, publicKey: key }, recovery: key }, [stranger]);
    const mirror = mirrorOf(backends);
    const repository = await open(mirror, writerAccess);
    expect(repository.id).toBe(id);
    expect(repository.keys.agent.publicKey).toBe(hexOf(agent.publicKey));
    expect(mirror.states().map(({ error }) => error?.code)).toEqual(['foreign_repository', undefined, undefined]);
  });
});

describe('words of', () => {
  test('another root are told by their fingerprint, before anything is decrypted', async () => {
    const { backends } = await make();
    const access: Access = { kind: 'restore', identities: [restoreKey], recovery: hexOf(stranger.publicKey) };
    const error = await failure(() => open(mirrorOf(backends), access), 'wrong_key');
    expect(error.message).toContain('fingerprint');
    expect(error.hint).toContain(sshFingerprint(stranger.publicKey));
  });

  test('this root are taken', async () => {
    const { backends, id } = await make();
    const access: Access = { kind: 'restore', identities: [restoreKey], recovery: hexOf(recovery.publicKey) };
    expect((await open(mirrorOf(backends), access)).id).toBe(id);
  });
});

test('an identity that opens nothing here is a wrong key', async () => {
  const { backends } = await make();
  const access: Access = { kind: 'restore', identities: [await newAgeIdentity(random)] };
  const error = await failure(() => open(mirrorOf(backends), access), 'wrong_key');
  expect(error.message).toContain('does not open the repository');
});

test('an agent whose key is not the one expected is refused', async () => {
  const { backends, writerAccess } = await make();
  await failure(() => open(mirrorOf(backends), { ...writerAccess, agent: hexOf(stranger.publicKey) }), 'wrong_key');
});

describe('the key records', () => {
  test('lost everywhere are damage', async () => {
    const { backends } = await make();
    for (const backend of backends.values()) await backend.delete(await only(backend, 'keys/00000000'));
    await failure(() => open(mirrorOf(backends), restoreAccess), 'damaged');
  });

  test('lost or damaged on one backend come from the other', async () => {
    for (const harm of [
      async (b: Backend, key: string) => b.delete(key),
      async (b: Backend, key: string) => void (await b.put(key, Buffer.from('x'))),
    ]) {
      const { backends, id } = await make();
      const [a] = [...backends.values()] as [Backend];
      const key = await only(a, 'keys/00000000');
      await harm(a, key);
      const mirror = mirrorOf(backends);
      expect((await open(mirror, restoreAccess)).id).toBe(id);
      expect(mirror.mishaps()).toMatchObject([{ backend: 'a', key }]);
    }
  });

  test('of an interrupted init on the same backend are passed over', async () => {
    const { backends, id } = await make();
    const [a] = [...backends.values()] as [Backend];
    const record = await recordOf<KeysRecord>(a, await only(a, 'keys/00000000'));
    await putKeysRecord(a, { ...record, repository: 'ee'.repeat(16) }, [stranger]);
    expect((await open(mirrorOf(backends), restoreAccess)).id).toBe(id);
  });

  test('that are two, both valid, are one for every reader', async () => {
    const { backends } = await make();
    const [a, b] = [...backends.values()] as [Backend, Backend];
    const record = await recordOf<KeysRecord>(a, await only(a, 'keys/00000000'));
    await putKeysRecord(a, { ...record, created: '2027-01-01T00:00:00.000Z' });
    const chosen = (await open(mirrorOf(backends), restoreAccess)).log[0].id;
    const other = mirrorOf([
      ['b', b],
      ['a', a],
    ]);
    expect((await open(other, restoreAccess)).log[0].id).toBe(chosen);
  });

  test('that name another agent without its consent are forged', async () => {
    const { backends } = await make(['a']);
    const [a] = [...backends.values()] as [Backend];
    const key = await only(a, 'keys/00000000');
    const record = await recordOf<KeysRecord>(a, key);
    await a.delete(key);
    const theirs = { ...record, agent: { ...record.agent, publicKey: hexOf(stranger.publicKey) } };
    for (const signers of [[stranger], [stranger, agent]]) {
      await putKeysRecord(a, theirs, signers);
      await failure(() => open(mirrorOf(backends), restoreAccess), 'forged');
    }
  });

  test('follow one another: the agent hands over to the key that was committed to', async () => {
    const { backends } = await make();
    const mirror = mirrorOf(backends);
    const [a] = [...backends.values()] as [Backend];
    const key = await only(a, 'keys/00000000');
    const first = await recordOf<KeysRecord>(a, key);
    const previous = key.slice('keys/00000000-'.length, -'.json'.length);
    const successor = { ...first.agent, publicKey: hexOf(next.publicKey) };
    const second = { ...first, seq: 1, previous, change: 'rotate', agent: successor };
    for (const backend of backends.values()) await putKeysRecord(backend, second, [agent, next]);
    const repository = await open(mirror, restoreAccess);
    expect(repository.keys.agent.publicKey).toBe(hexOf(next.publicKey));
    expect(repository.state.generations.map(({ publicKey }) => publicKey)).toEqual(
      [agent, next].map(({ publicKey }) => hexOf(publicKey)),
    );
  });

  const afterFirst = async (backend: Backend) => {
    const key = await only(backend, 'keys/00000000');
    const first = await recordOf<KeysRecord>(backend, key);
    const previous = key.slice('keys/00000000-'.length, -'.json'.length);
    return { ...first, seq: 1, previous, change: 'relays', relays: ['nats://one'] };
  };

  test.each([
    ['signed by nobody of the repository', {}, [stranger]],
    ['of another repository', { repository: 'ee'.repeat(16) }, [agent]],
    ['that says nothing of what it changes', { change: undefined }, [agent]],
  ])('pass over a second one %s: anybody can put such a one there', async (_, over, signers) => {
    const { backends } = await make();
    const [a] = [...backends.values()] as [Backend];
    await putKeysRecord(a, { ...(await afterFirst(a)), ...over }, signers);
    expect((await open(mirrorOf(backends), restoreAccess)).log).toHaveLength(1);
  });

  test('pass over what is no record', async () => {
    const { backends } = await make();
    const [a] = [...backends.values()] as [Backend];
    for (const text of ['{}', 'x', '']) await a.put(keysRecordKey(1, sha256Hex(Buffer.from(text))), Buffer.from(text));
    expect((await open(mirrorOf(backends), restoreAccess)).log).toHaveLength(1);
  });

  test('stop at one that cannot be read, or whose predecessor is missing: no going back to an older one in silence', async () => {
    const { backends } = await make(['a']);
    const [a] = [...backends.values()] as [Backend];
    const second = await afterFirst(a);
    await putKeysRecord(a, { ...second, previous: 'ab'.repeat(32) }, [agent]);
    expect((await failure(() => open(mirrorOf(backends), restoreAccess), 'damaged')).message).toContain('missing');
    const { backends: others } = await make(['a']);
    const [b] = [...others.values()] as [Backend];
    await b.put(keysRecordKey(1, 'ab'.repeat(32)), Buffer.from('damaged'));
    const error = await failure(() => open(mirrorOf(others), restoreAccess), 'damaged');
    expect(error.message).toContain('keys/00000001-abab');
    expect(error.hint).toContain('remove the object');
  });

  test('do not stop at one that cannot be read where a hand-over stands that only the words can write', async () => {
    const { backends } = await make(['a']);
    const [a] = [...backends.values()] as [Backend];
    const second = await afterFirst(a);
    const successor = { ...second.agent, publicKey: hexOf(next.publicKey) };
    await putKeysRecord(a, { ...second, change: 'rotate', relays: undefined, agent: successor }, [agent, next]);
    await a.put(keysRecordKey(1, 'ab'.repeat(32)), Buffer.from('damaged'));
    expect((await open(mirrorOf(backends), restoreAccess)).keys.agent.publicKey).toBe(hexOf(next.publicKey));
  });

  test('of a stolen host cannot shut the owner out: whatever two it signs, his hand-over counts', async () => {
    const { backends } = await make(['a']);
    const [a] = [...backends.values()] as [Backend];
    const second = await afterFirst(a);
    for (const relay of ['nats://x', 'nats://y', 'nats://z'])
      await putKeysRecord(a, { ...second, relays: [relay] }, [agent]);
    expect((await open(mirrorOf(backends), restoreAccess)).log).toHaveLength(2);
    const successor = { ...second.agent, publicKey: hexOf(next.publicKey) };
    await putKeysRecord(a, { ...second, change: 'rotate', relays: undefined, agent: successor }, [agent, next]);
    const { log, keys } = await open(mirrorOf(backends), restoreAccess);
    expect([log.length, keys.agent.publicKey]).toEqual([2, hexOf(next.publicKey)]);
  });
});

describe('the secrets', () => {
  test('lost or damaged on one backend come from the other; on all, the repository does not open', async () => {
    const { backends, id } = await make();
    const [a, b] = [...backends.values()] as [Backend, Backend];
    const { secrets } = await recordOf<KeysRecord>(a, await only(a, 'keys/00000000'));
    const good = await a.get(secretsKey(secrets));
    for (const bad of [
      undefined,
      new Uint8Array(0),
      good.subarray(0, 100),
      Uint8Array.from(good, (byte, i) => byte ^ Number(i === 200)),
    ]) {
      for (const backend of [a, b]) {
        await backend.delete(secretsKey(secrets));
        if (bad) await backend.put(secretsKey(secrets), bad);
        const opening = open(mirrorOf(backends), restoreAccess);
        if (backend === a) expect((await opening).id).toBe(id);
        else await failure(() => opening, 'damaged', 'not_found');
      }
      await b.put(secretsKey(secrets), good);
    }
  });

  test('of another repository are refused, though they are named by the agent', async () => {
    const { backends } = await make(['a']);
    const [a] = [...backends.values()] as [Backend];
    const key = await only(a, 'keys/00000000');
    const record = await recordOf<KeysRecord>(a, key);
    const plain = {
      version: 1,
      critical: [],
      repository: 'ee'.repeat(16),
      chunkIdKey: 'ab'.repeat(32),
      writer: writer.identity,
    };
    const { bytes } = await sealAge(Buffer.from(JSON.stringify(plain)), record.recipients.restore, random);
    await a.put(secretsKey(sha256Hex(bytes)), bytes);
    await a.delete(key);
    await putKeysRecord(a, { ...record, secrets: sha256Hex(bytes) });
    await failure(() => open(mirrorOf(backends), restoreAccess), 'forged');
  });
});
