import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createMemory } from '../../src/backend/memory.ts';
import { ageRecipientOf, sealAge } from '../../src/crypto/age.ts';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { parseAgentKey } from '../../src/identity/agent-key.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { MARKER } from '../../src/operations/host/continuity.ts';
import { writeMarker } from '../../src/operations/recover.ts';
import { wrappedIdentityKey } from '../../src/repository/records/object-name.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import {
  contentOf,
  expectRecoveredTree,
  expectSameTree,
  makeAgent,
  packKeysOf,
  type AgentOptions,
  type TestAgent,
} from './support.ts';

const noise = seededRandom('recover');
const seed = new Uint8Array(32).fill(7);
const importedKey = { seed, publicKey: publicKeyOf(seed) };
const make = (options: AgentOptions = {}) =>
  makeAgent({
    fill: (state) => {
      for (const name of ['one', 'two']) writeFileSync(join(state, name), noise.bytes(2000));
    },
    ...options,
  });
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const identityKeyOf = (agent: TestAgent) => wrappedIdentityKey(hexOf(agent.signer.publicKey));
const wrappers = [
  ['a key derived from the root', undefined],
  ['a key of its own', importedKey],
] as const;

test('the marker of a recovery follows no link out of the state', async () => {
  await using agent = await make();
  await agent.backup();
  const [target, outside] = [join(agent.folder, 'target'), join(agent.folder, 'outside')];
  mkdirSync(target);
  writeFileSync(outside, 'mine');
  symlinkSync(outside, join(target, MARKER)); // as a snapshot by another program may have it
  const snapshot = await (await agent.open()).findSnapshot('latest');
  await writeMarker(target, snapshot, 'key', agent.seams());
  expect(readFileSync(outside, 'utf8')).toBe('mine');
  expect(JSON.parse(readFileSync(join(target, MARKER), 'utf8'))).toMatchObject({ snapshot: { id: snapshot.id } });
  expect(statSync(join(target, MARKER)).mode & 0o777).toBe(0o600);
});

describe.each(wrappers)('an agent with %s', (_, key) => {
  const options = key ? { importedKey: key } : {};

  test('is recovered from the words: identity, keys, config, state', async () => {
    await using agent = await make(options);
    await agent.backup();
    const home = join(agent.folder, 'home');
    const result = await agent.recover(home);
    expect(result).toMatchObject({ complete: true, lost: [], files: 2, identity: { continuous: true } });
    expect(result.agent.publicKey).toBe(hexOf(agent.signer.publicKey));
    expectRecoveredTree(join(home, 'state'), agent.state);
    const signer = parseAgentKey(readFileSync(join(home, 'identity.key'), 'utf8'));
    expect(hexOf(signer.seed)).toBe(hexOf(agent.signer.seed));
    const { created: _made, ...writerKey } = parseWriterKey(readFileSync(join(home, 'writer.key'), 'utf8'));
    expect(agent.writerKey).toMatchObject(writerKey);
    expect(readFileSync(join(home, 'holdfast.yaml'), 'utf8')).toBe('agent: {handle: ada}\n');
    for (const file of ['identity.key', 'writer.key', 'holdfast.yaml'])
      expect(statSync(join(home, file)).mode & 0o777).toBe(0o600);
    expect(readdirSync(home).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('is recovered with an age identity that restores, without the words', async () => {
    await using agent = await make(options);
    await agent.backup();
    const secret = { kind: 'identities', identities: [agent.restoreKey] } as const;
    const result = await agent.recover(join(agent.folder, 'home'), { secret });
    expect(result.agent.publicKey).toBe(hexOf(agent.signer.publicKey));
  });

  test('goes on where it was: the next snapshot follows the last', async () => {
    await using agent = await make(options);
    await agent.backup();
    const last = await agent.backup();
    const home = join(agent.folder, 'home');
    await agent.recover(home);
    const next = await agent.backup({
      writerKey: parseWriterKey(readFileSync(join(home, 'writer.key'), 'utf8')),
      signer: parseAgentKey(readFileSync(join(home, 'identity.key'), 'utf8')),
      state: { root: join(home, 'state'), exclude: [], keepOut: [] },
      folders: { state: join(home, 'local'), cache: join(home, 'cache') },
    });
    expect(next).toMatchObject({ complete: true, snapshot: { seq: 2, parent: last.snapshot.id } });
    expect(next.bytes.added).toBeLessThan(4000);
    expect((await agent.verify('chunks')).damaged).toEqual([]);
  });
});

describe('a wrapped key', () => {
  /** What anybody can put there: recipients are public. */
  const forged = async (agent: TestAgent) =>
    (await sealAge(Buffer.from(hexOf(new Uint8Array(32).fill(9))), [await ageRecipientOf(agent.restoreKey)], noise))
      .bytes;

  test('that was exchanged on one backend comes from the other', async () => {
    await using agent = await make({ importedKey });
    await agent.backup();
    await agent.stores.get('a')?.inner.put(identityKeyOf(agent), await forged(agent));
    const result = await agent.recover(join(agent.folder, 'home'));
    expect(result.agent.publicKey).toBe(hexOf(importedKey.publicKey));
    expect(result.warnings.some(({ message }) => message.includes(identityKeyOf(agent)))).toBe(true);
  });

  test('that was exchanged everywhere is refused, and nothing is written', async () => {
    await using agent = await make({ importedKey });
    await agent.backup();
    for (const store of agent.stores.values()) await store.inner.put(identityKeyOf(agent), await forged(agent));
    const home = join(agent.folder, 'home');
    await failure(() => agent.recover(home), 'damaged', 'forged');
    expect(existsSync(home)).toBe(false);
  });

  test('that is lost everywhere is said, and the state still comes back', async () => {
    await using agent = await make({ importedKey });
    await agent.backup();
    for (const store of agent.stores.values()) await store.inner.delete(identityKeyOf(agent));
    const home = join(agent.folder, 'home');
    await failure(() => agent.recover(home), 'damaged');
    expect(existsSync(home)).toBe(false);
    await agent.restore(join(agent.folder, 'out'));
    expectSameTree(join(agent.folder, 'out'), agent.state);
  });

  test('of an init that died is not taken for the one of the next', async () => {
    const key = wrappedIdentityKey(hexOf(importedKey.publicKey));
    // The first init came as far as the wrapped key, to words that nobody has.
    let inner: FaultyBackend['inner'] | undefined;
    const dying = makeAgent({
      seed: 'first try',
      importedKey,
      backends: ['a'],
      stores: (name) => {
        const store = new FaultyBackend(createMemory(name), { name });
        inner = store.inner;
        return store.plan({ effect: 'fail', on: 'put', key: /^keys\/0|holdfast/, times: Infinity });
      },
    });
    await failure(() => dying, 'not_enough_backends');
    expect(await inner?.head(key)).toBeDefined();
    const agent = makeAgent({
      seed: 'second try',
      importedKey,
      backends: ['a'],
      stores: (name) => new FaultyBackend(inner ?? createMemory(name), { name }),
      fill: (state) => writeFileSync(join(state, 'one'), 'x'),
    });
    await using made = await agent;
    await made.backup();
    const result = await made.recover(join(made.folder, 'home'));
    expect(result.agent.publicKey).toBe(hexOf(importedKey.publicKey));
    expect((await made.verify('chunks')).damaged).toEqual([]);
  });
});

describe('a recovery', () => {
  test.each(['identity.key', 'writer.key', 'holdfast.yaml'])('is refused where there is a %s already', async (name) => {
    await using agent = await make();
    await agent.backup();
    const home = join(agent.folder, 'home');
    mkdirSync(home);
    writeFileSync(join(home, name), 'precious');
    await failure(() => agent.recover(home), 'exists');
    expect(readdirSync(home)).toEqual([name]);
    expect(readFileSync(join(home, name), 'utf8')).toBe('precious');
  });

  test('is refused into a folder that holds something, and no key is written', async () => {
    await using agent = await make();
    await agent.backup();
    const home = join(agent.folder, 'home');
    mkdirSync(join(home, 'state', 'mine'), { recursive: true });
    await failure(() => agent.recover(home), 'exists');
    expect(readdirSync(home)).toEqual(['state']);
    expect(readdirSync(join(home, 'state'))).toEqual(['mine']);
  });

  test('of an agent that never made a snapshot says so, and writes nothing', async () => {
    await using agent = await make();
    const home = join(agent.folder, 'home');
    await failure(() => agent.recover(home), 'not_found');
    expect(existsSync(home)).toBe(false);
  });

  test('of which some files are lost brings the identity and the rest', async () => {
    await using agent = await make();
    await agent.backup();
    writeFileSync(join(agent.state, 'three'), noise.bytes(2000));
    await agent.backup();
    const keys = await packKeysOf(agent, 'data');
    for (const store of agent.stores.values()) await store.inner.delete(keys[0] ?? '');
    const result = await agent.recover(join(agent.folder, 'home'));
    expect(result.complete).toBe(false);
    expect(result.lost.length).toBeGreaterThan(0);
    expect(existsSync(join(agent.folder, 'home', 'identity.key'))).toBe(true);
    expect(readdirSync(join(agent.folder, 'home', 'state')).length).toBe(4 - result.lost.length); // and the marker
  });

  test('asks one backend where only one is left', async () => {
    await using agent = await make();
    await agent.backup();
    const home = join(agent.folder, 'home');
    agent.stores.delete('a');
    const result = await agent.recover(home, { backends: agent.addresses.slice(1) });
    expect(result).toMatchObject({ complete: true, warnings: [] });
    expectRecoveredTree(join(home, 'state'), agent.state);
  });

  test('notices later that the backend it came from was rolled back meanwhile', async () => {
    await using agent = await make();
    await agent.backup();
    const old = await contentOf(agent.stores.get('a')?.inner ?? createMemory('a'));
    writeFileSync(join(agent.state, 'three'), noise.bytes(2000));
    const last = await agent.backup();
    const home = join(agent.folder, 'home');
    await agent.recover(home);
    for (const name of ['a', 'b']) {
      const store = createMemory(name);
      for (const [key, bytes] of old) await store.put(key, bytes);
      agent.stores.set(name, new FaultyBackend(store, { name }));
    }
    const next = await agent.backup({ folders: { state: join(home, 'local'), cache: join(home, 'cache') } });
    expect(next.warnings.map(({ code }) => code)).toContain('rolled_back');
    expect(next.snapshot).toMatchObject({ seq: 2, parent: last.snapshot.id });
  });
});
