import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Clock } from '../../src/clock.ts';
import { ageRecipientOf, newAgeIdentity } from '../../src/crypto/age.ts';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { parseAgentKey } from '../../src/identity/agent-key.ts';
import { recoveryKeyOfGeneration } from '../../src/identity/recovery-key.ts';
import { agentKey } from '../../src/identity/root.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { emergency, type EmergencyOptions } from '../../src/operations/emergency.ts';
import { identityLog, objectToRecovery, setRelays } from '../../src/operations/identity-log.ts';
import { addRecipient, listRecipients, removeRecipient } from '../../src/operations/recipients.ts';
import { rotateIdentity, type RotateOptions } from '../../src/operations/rotate.ts';
import { CONTEST_MS } from '../../src/repository/key-log.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import {
  aheadClock,
  contentsOf,
  expectRecoveredTree,
  expectSameTree,
  makeAgent,
  putBack,
  storeOf,
  type TestAgent,
} from './support.ts';

const random = seededRandom('identity changes');
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const make = (seed = 'agent') =>
  makeAgent({
    seed,
    fill: (state) => ['one', 'two'].forEach((name) => writeFileSync(join(state, name), random.bytes(3000))),
  });

/** What the agent's host has on its disk now. */
const onDisk = (agent: TestAgent) => ({
  signer: parseAgentKey(readFileSync(agent.files.identity, 'utf8')),
  writerKey: parseWriterKey(readFileSync(agent.files.writerKey, 'utf8')),
});
const rotate = (agent: TestAgent, over: Partial<RotateOptions> = {}, clock: Clock = aheadClock) =>
  rotateIdentity(
    {
      backends: agent.addresses,
      secret: { kind: 'root', root: agent.root },
      files: agent.files,
      writerKey: onDisk(agent).writerKey,
      folders: agent.folders,
      ...over,
    },
    agent.seams({ clock }),
  );
const after = (ms: number): Clock => ({ ...aheadClock, now: () => aheadClock.now() + ms });
const publicAccess = (agent: TestAgent) => ({ repository: agent.writerKey.repositoryId });
const logOf = (agent: TestAgent, clock: Clock = aheadClock) =>
  identityLog({ backends: agent.addresses, access: publicAccess(agent) }, agent.seams({ clock }));
const usingRecoveryKey = (
  agent: TestAgent,
  action: EmergencyOptions['action'],
  generation = 0,
  clock: Clock = aheadClock,
) =>
  emergency(
    {
      backends: agent.addresses,
      recoveryKey: recoveryKeyOfGeneration(agent.root, generation, agent.writerKey.repositoryId),
      action,
    },
    agent.seams({ clock }),
  );

describe('a rotation', () => {
  test('hands over to the next derived key, and the snapshots of both verify', async () => {
    await using agent = await make();
    await agent.backup();
    const result = await rotate(agent);
    expect(result).toMatchObject({
      wasInterrupted: false,
      agent: { origin: 'derived' },
      entry: { seq: 1, by: 'agent' },
    });
    expect(result.agent.publicKey).toBe(hexOf(agentKey(agent.root, 1).publicKey));
    const { signer, writerKey } = onDisk(agent);
    expect(hexOf(signer.publicKey)).toBe(result.agent.publicKey);
    expect(hexOf(writerKey.agentPublicKey)).toBe(result.agent.publicKey);
    expect(readFileSync(result.files.kept ?? '', 'utf8')).toContain('OPENSSH');
    for (const file of [agent.files.identity, agent.files.writerKey, result.files.kept ?? ''])
      expect(statSync(file).mode & 0o777).toBe(0o600);

    writeFileSync(join(agent.state, 'three'), 'after');
    expect(await agent.backup({ signer, writerKey })).toMatchObject({ complete: true, snapshot: { seq: 1 } });
    const { snapshots, problems } = await (await agent.open()).snapshots();
    expect(problems).toEqual([]);
    expect(snapshots.map(({ record }) => record.agent.publicKey)).toEqual([
      hexOf(agentKey(agent.root, 0).publicKey),
      hexOf(agentKey(agent.root, 1).publicKey),
    ]);
    const home = join(agent.folder, 'home');
    const recovered = await agent.recover(home);
    expect(recovered.agent.publicKey).toBe(result.agent.publicKey);
    expectRecoveredTree(join(home, 'state'), agent.state);
  });

  test('shuts out whoever has the key of before', async () => {
    await using agent = await make();
    await agent.backup();
    const old = onDisk(agent);
    await rotate(agent);
    const error = await failure(() => agent.backup(old), 'wrong_key');
    expect(error.message).toContain('was replaced');
  });

  test('goes on: generation after generation', async () => {
    await using agent = await make();
    for (const generation of [1, 2, 3]) {
      const { agent: now } = await rotate(agent);
      expect(now.publicKey).toBe(hexOf(agentKey(agent.root, generation).publicKey));
      await agent.backup(onDisk(agent));
    }
    expect((await logOf(agent)).entries.map(({ change }) => change)).toEqual(['genesis', 'rotate', 'rotate', 'rotate']);
  });

  test('that died after the entry is finished by running it again, whatever of the files was changed', async () => {
    for (const wasChanged of [false, true]) {
      await using agent = await make();
      const before = [agent.files.identity, agent.files.writerKey].map((path) => [path, readFileSync(path)] as const);
      const { agent: now } = await rotate(agent);
      for (const [path, content] of before.slice(wasChanged ? 1 : 0)) writeFileSync(path, content);
      const again = await rotate(agent);
      expect(again).toMatchObject({ wasInterrupted: true, agent: now, entry: { seq: 1 } });
      const { signer, writerKey } = onDisk(agent);
      expect([hexOf(signer.publicKey), hexOf(writerKey.agentPublicKey)]).toEqual([now.publicKey, now.publicKey]);
      expect((await logOf(agent)).entries).toHaveLength(2);
    }
  });

  test('that dies at any write to storage leaves the old key or the new one in force, and can be repeated', async () => {
    for (const effect of ['fail', 'fail-after'] as const) {
      for (let dying = 1; dying <= 4; dying++) {
        await using agent = await make();
        const stores = [...agent.stores].map(([name, store]) => new FaultyBackend(store.inner, { name }));
        for (const store of stores) agent.stores.set(store.name, store.dieAt(dying, effect, stores));
        await rotate(agent).catch(() => undefined);
        expect(stores[0]?.died).toBe(true);
        for (const { name, inner } of stores) agent.stores.set(name, new FaultyBackend(inner, { name }));
        await rotate(agent);
        const { signer } = onDisk(agent);
        expect((await logOf(agent)).entries.at(-1)?.agent.publicKey).toBe(hexOf(signer.publicKey));
        expect(await agent.backup(onDisk(agent))).toMatchObject({ complete: true });
      }
    }
  });

  test('to a key of the agent’s own wraps it, and the words bring it back', async () => {
    await using agent = await make();
    await agent.backup();
    const seed = new Uint8Array(32).fill(9);
    const importedKey = { seed, publicKey: publicKeyOf(seed) };
    expect(await rotate(agent, { importedKey })).toMatchObject({
      agent: { origin: 'imported' },
      entry: { by: 'both' },
    });
    const home = join(agent.folder, 'home');
    await agent.recover(home);
    expect(hexOf(parseAgentKey(readFileSync(join(home, 'identity.key'), 'utf8')).seed)).toBe(hexOf(seed));
    // and back to keys of the words
    expect((await rotate(agent)).agent.publicKey).toBe(hexOf(agentKey(agent.root, 1).publicKey));
    await failure(() => rotate(agent, { importedKey }), 'usage');
  });

  test('needs the words', async () => {
    await using agent = await make();
    await failure(
      () => rotate(agent, { secret: { kind: 'identities', identities: [agent.restoreKey] } }),
      'missing_key',
    );
  });

  test('that storage takes back is noticed: nothing is written then', async () => {
    await using agent = await make();
    const before = await contentsOf(agent);
    await setRelays(
      {
        backends: agent.addresses,
        access: publicAccess(agent),
        ...onDisk(agent),
        relays: ['wss://r'],
        lockFolder: agent.folders.state,
      },
      agent.seams(),
    );
    await agent.backup();
    await putBack(agent, before);
    await failure(() => agent.backup(), 'forged');
  });
});

describe('a recovery key that was given out', () => {
  test('replaces the agent’s key after the contest window, and reads nothing', async () => {
    await using agent = await make();
    await agent.backup();
    const identityFile = join(agent.folder, 'new.key');
    const result = await usingRecoveryKey(agent, { kind: 'rotate', identityFile });
    expect(result.entry).toMatchObject({ change: 'rotate', by: 'recovery', state: 'pending' });

    const during = await agent.backup();
    expect(during.complete).toBe(false);
    expect(during.warnings.map(({ code }) => code)).toEqual(['contested_change']);
    await failure(() => rotate(agent), 'contested');

    const later = after(CONTEST_MS + 60_000);
    expect((await logOf(agent, later)).entries.at(-1)?.state).toBe('current');
    await failure(() => agent.backup({}, { clock: later }), 'wrong_key');
    // The host with the words takes the new key over, and goes on to one of its own.
    await rotate(agent, {}, later);
    const key = parseAgentKey(readFileSync(identityFile, 'utf8'));
    expect(onDisk(agent).signer).toEqual(key);
    expect(await agent.backup(onDisk(agent), { clock: later })).toMatchObject({ complete: true });
    expect((await rotate(agent, {}, later)).agent.publicKey).toBe(hexOf(agentKey(agent.root, 1).publicKey));
  });

  test('serves once, and the words go on where it left', async () => {
    await using agent = await make();
    await usingRecoveryKey(agent, { kind: 'relays', relays: ['wss://r.example'] });
    const later = after(CONTEST_MS + 60_000);
    await failure(() => usingRecoveryKey(agent, { kind: 'revoke' }, 0, later), 'wrong_key');
    expect((await logOf(agent, later)).relays).toEqual(['wss://r.example']);
    await usingRecoveryKey(agent, { kind: 'revoke' }, 1, later);
    const end = after(2 * (CONTEST_MS + 60_000));
    await failure(() => agent.backup({}, { clock: end }), 'revoked');
    const { agent: now } = await rotate(agent, {}, end);
    expect(now.publicKey).toBe(hexOf(agentKey(agent.root, 1).publicKey));
    expect(await agent.backup(onDisk(agent), { clock: end })).toMatchObject({ complete: true });
  });

  test('is stopped by the agent', async () => {
    await using agent = await make();
    const identityFile = join(agent.folder, 'new.key');
    await usingRecoveryKey(agent, { kind: 'rotate', identityFile });
    const mine = {
      backends: agent.addresses,
      access: publicAccess(agent),
      ...onDisk(agent),
      lockFolder: agent.folders.state,
    };
    expect((await objectToRecovery(mine, agent.seams())).entry).toMatchObject({ change: 'object', state: 'current' });
    await failure(() => objectToRecovery(mine, agent.seams()), 'usage');
    const later = after(CONTEST_MS + 60_000);
    expect((await logOf(agent, later)).entries.map(({ state }) => state)).toEqual(['past', 'objected', 'current']);
    expect(await agent.backup({}, { clock: later })).toMatchObject({ complete: true });
  });

  test('of another repository, or that replaces a file, does nothing', async () => {
    await using agent = await make();
    await using other = await make('another');
    const foreign = recoveryKeyOfGeneration(other.root, 0, agent.writerKey.repositoryId);
    const options = { backends: agent.addresses, action: { kind: 'revoke' as const } };
    await failure(() => emergency({ ...options, recoveryKey: foreign }, agent.seams()), 'wrong_key');
    await failure(() => usingRecoveryKey(agent, { kind: 'rotate', identityFile: agent.files.identity }), 'exists');
    expect((await logOf(agent)).entries).toHaveLength(1);
  });

  test('snapshots signed by a key after it was replaced are forged', async () => {
    await using agent = await make();
    await agent.backup();
    const old = onDisk(agent);
    const before = await contentsOf(agent);
    await rotate(agent);
    const rotated = await contentsOf(agent);
    // The thief of the old key writes on, to storage that shows him the old log, and mixes it into the new.
    await putBack(agent, before);
    writeFileSync(join(agent.folders.state, 'state.json'), '');
    writeFileSync(join(agent.state, 'three'), 'by the thief');
    const forged = await agent.backup(old, { clock: after(3_600_000) });
    const theirs = await contentsOf(agent);
    for (const [name, content] of theirs) for (const [key, bytes] of rotated.get(name) ?? []) content.set(key, bytes);
    await putBack(agent, theirs);
    const { problems } = await (await agent.open()).snapshots();
    expect(problems.map(({ error }) => error.code)).toEqual(['forged']);
    expect(problems[0]?.key).toContain(forged.snapshot.id);
    expect(problems[0]?.error.message).toContain("was not the agent's at its time");
  });
});

describe('a restore recipient that is added', () => {
  test('restores what was stored before and after, and is out once removed', async () => {
    await using agent = await make();
    await agent.backup();
    const identity = await newAgeIdentity(random);
    const recipient = await ageRecipientOf(identity);
    const change = {
      backends: agent.addresses,
      secret: { kind: 'root', root: agent.root } as const,
      repository: agent.writerKey.repositoryId,
      recipient,
      folders: agent.folders,
    };
    const secret = { kind: 'identities', identities: [identity] } as const;
    const restoring = (name: string) => agent.restore(join(agent.folder, name), { secret });
    await failure(() => restoring('never'), 'wrong_key');

    const added = await addRecipient(change, agent.seams());
    expect(added).toMatchObject({ unread: 0, backends: ['a', 'b'], warnings: [] });
    expect(added.recipients.map(({ kind }) => kind)).toEqual(['words', 'added', 'writer']);
    await failure(() => addRecipient(change, agent.seams()), 'usage');
    await restoring('before');
    writeFileSync(join(agent.state, 'three'), random.bytes(3000));
    await agent.backup();
    await restoring('after');
    expectSameTree(join(agent.folder, 'after'), agent.state);
    expect((await agent.recover(join(agent.folder, 'home'), { secret })).agent.publicKey).toBe(
      hexOf(agent.signer.publicKey),
    );
    expect((await agent.verify('chunks')).damaged).toEqual([]);

    await removeRecipient(change, agent.seams());
    await failure(() => removeRecipient(change, agent.seams()), 'not_found');
    expect(
      (await listRecipients({ backends: agent.addresses, access: publicAccess(agent) }, agent.seams())).recipients,
    ).toEqual(added.recipients.filter(({ kind }) => kind !== 'added'));
    await failure(() => restoring('out'), 'wrong_key');
    expect(await agent.backup()).toMatchObject({ complete: true });
    expect((await agent.verify('chunks')).damaged).toEqual([]);
  });

  test('of the words cannot be removed; without the words nothing changes', async () => {
    await using agent = await make();
    const change = {
      backends: agent.addresses,
      secret: { kind: 'root', root: agent.root } as const,
      repository: agent.writerKey.repositoryId,
      recipient: await ageRecipientOf(agent.restoreKey),
      folders: agent.folders,
    };
    await failure(() => removeRecipient(change, agent.seams()), 'usage');
    const secret = { kind: 'identities', identities: [agent.restoreKey] } as const;
    await failure(() => addRecipient({ ...change, secret }, agent.seams()), 'missing_key');
    await failure(() => addRecipient({ ...change, recipient: 'AGE-SECRET-KEY-1QQ' }, agent.seams()), 'usage');
    expect((await logOf(agent)).entries).toHaveLength(1);
  });
});

test('a change of keys that reached one backend only is brought to the other by the next backup', async () => {
  await using agent = await make();
  await agent.backup();
  const down = storeOf(agent, 'b');
  agent.stores.delete('b');
  const result = await rotate(agent);
  expect(result.backends).toEqual(['a']);
  expect(result.warnings.some(({ incomplete }) => incomplete)).toBe(true);
  agent.stores.set('b', down);
  expect(await agent.backup(onDisk(agent))).toMatchObject({ complete: true });
  const keys = [...(await contentsOf(agent)).values()].map((content) =>
    [...content.keys()].filter((key) => key.startsWith('keys/')),
  );
  expect(keys[1]).toEqual(keys[0]);
});
