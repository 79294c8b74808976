import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
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
import { prune } from '../../src/operations/prune.ts';
import { addRecipient, listRecipients, removeRecipient } from '../../src/operations/recipients.ts';
import { repair } from '../../src/operations/repair.ts';
import { rotateIdentity, type RotateOptions } from '../../src/operations/rotate.ts';
import { CONTEST_MS } from '../../src/repository/keys/key-log.ts';
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
      writerKey: parseWriterKey(readFileSync(agent.files.writerKey, 'utf8')),
      folders: agent.folders,
      ...over,
    },
    agent.seams({ clock }),
  );
const after = (ms: number): Clock => ({ ...aheadClock, now: () => aheadClock.now() + ms });
const publicAccess = (agent: TestAgent) => ({ repository: agent.writerKey.repositoryId });
/** As on the agent's host, whoever the agent's key is by now. */
const hostOf = (agent: TestAgent) => {
  const { agentPublicKey: _any, chunkIdKey, repositoryId, ageIdentity } = agent.writerKey;
  const access = { kind: 'writer', repository: repositoryId, chunkIdKey, identity: ageIdentity } as const;
  return { backends: agent.addresses, access, folders: agent.folders };
};
const logOf = (agent: TestAgent, clock: Clock = aheadClock) => identityLog(hostOf(agent), agent.seams({ clock }));
const setRelaysTo = (agent: TestAgent, ...relays: string[]) =>
  setRelays({ ...hostOf(agent), ...onDisk(agent), relays }, agent.seams());
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
    await setRelaysTo(agent, 'wss://r');
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
    expect(parseAgentKey(readFileSync(identityFile, 'utf8')).publicKey).toHaveLength(32);
    // The host with the words goes on to a key of its own.
    expect((await rotate(agent, {}, later)).agent.publicKey).toBe(hexOf(agentKey(agent.root, 1).publicKey));
    expect(await agent.backup(onDisk(agent), { clock: later })).toMatchObject({ complete: true });
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
    const mine = { ...hostOf(agent), ...onDisk(agent) };
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

  test('after a hand-over, snapshots of the old key are forged, also those that are dated back and numbered high', async () => {
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
    expect(problems[0]?.error.message).toContain("was not the agent's then");
  });
});

describe('an honest mishap', () => {
  test('two changes on two backends, each without the other, harm nothing', async () => {
    await using agent = await make();
    await agent.backup();
    const b = storeOf(agent, 'b');
    agent.stores.delete('b');
    await setRelaysTo(agent, 'wss://one');
    const a = storeOf(agent, 'a');
    agent.stores.set('b', b).delete('a');
    // The host remembers what it wrote, and waits for the backend that has it.
    await failure(() => setRelaysTo(agent, 'wss://two'), 'not_enough_backends');
    writeFileSync(join(agent.folders.state, 'state.json'), ''); // another host, which remembers nothing
    await setRelaysTo(agent, 'wss://two');
    agent.stores.set('a', a);
    expect(await agent.backup()).toMatchObject({ complete: true });
    expect((await logOf(agent)).entries).toHaveLength(2);
    const home = join(agent.folder, 'home');
    await agent.recover(home);
    expect((await rotate(agent)).agent.publicKey).toBe(hexOf(agentKey(agent.root, 1).publicKey));
  });

  test('a hand-over made twice, each time on another backend, is one', async () => {
    await using agent = await make();
    await agent.backup();
    const before = [agent.files.identity, agent.files.writerKey].map((path) => [path, readFileSync(path)] as const);
    const [a, b] = [storeOf(agent, 'a'), storeOf(agent, 'b')];
    agent.stores.delete('b');
    await rotate(agent);
    agent.stores.set('b', b).delete('a');
    for (const [path, content] of before) writeFileSync(path, content);
    writeFileSync(join(agent.folders.state, 'state.json'), '');
    await rotate(agent);
    agent.stores.set('a', a);
    expect(await agent.backup(onDisk(agent))).toMatchObject({ complete: true });
    expect((await agent.recover(join(agent.folder, 'home'))).agent.publicKey).toBe(
      hexOf(agentKey(agent.root, 1).publicKey),
    );
  });

  test('an identity file that was lost: a rotation rotates all the same, and keeps what was never there as nothing', async () => {
    await using agent = await make();
    rmSync(agent.files.identity);
    const result = await rotate(agent);
    expect(result).toMatchObject({ wasInterrupted: false, files: { kept: null }, entry: { change: 'rotate' } });
    expect(hexOf(onDisk(agent).signer.publicKey)).toBe(hexOf(agentKey(agent.root, 1).publicKey));
  });
});

describe('a thief', () => {
  const pruneAsOwner = (agent: TestAgent) =>
    prune(
      {
        backends: agent.addresses,
        secret: { kind: 'root', root: agent.root },
        foldersOf: () => ({ state: join(agent.folder, 'keeper'), cache: join(agent.folder, 'keeper') }),
        host: 'keeper',
        ...{ graceMs: 0, settleMs: 0, waitMs: 0, repackBytes: 0, presumeOver: [], dryRun: false },
      },
      agent.seams(),
    );

  /** Puts an entry as somebody with a recovery key would who does as he likes: dated when he likes. */
  async function forceRecovery(agent: TestAgent, clock: Clock) {
    const identityFile = join(agent.folder, `thief-${clock.now()}.key`);
    return usingRecoveryKey(agent, { kind: 'rotate', identityFile }, 0, clock);
  }

  test('of a recovery key gains nothing by dating back: the agent sees it in time and stops it', async () => {
    await using agent = await make();
    await agent.backup();
    const later = after(100 * 24 * 3_600_000);
    await agent.backup({}, { clock: later });
    await forceRecovery(agent, after(60_000)); // dated a hundred days ago
    const log = await logOf(agent, later);
    expect(log.entries.at(-1)?.state).toBe('pending');
    const result = await agent.backup({}, { clock: later });
    expect(result.warnings.map(({ code }) => code)).toEqual(['contested_change']);
    await objectToRecovery({ ...hostOf(agent), ...onDisk(agent) }, agent.seams({ clock: later }));
    expect(await agent.backup({}, { clock: later })).toMatchObject({ complete: true });
    expect((await (await agent.open()).snapshots()).problems).toEqual([]);
  });

  test('whose key came into force is replaced by the next rotation', async () => {
    await using agent = await make();
    await agent.backup();
    await forceRecovery(agent, aheadClock);
    const later = after(CONTEST_MS + 60_000);
    const { agent: now, wasInterrupted } = await rotate(agent, {}, later);
    expect([now.publicKey, wasInterrupted]).toEqual([hexOf(agentKey(agent.root, 1).publicKey), false]);
    expect(await agent.backup(onDisk(agent), { clock: later })).toMatchObject({ complete: true });
  });

  test('of the host cannot have storage put his entry in the place of one that the words made', async () => {
    await using agent = await make();
    await agent.backup();
    const before = await contentsOf(agent);
    await setRelaysTo(agent, 'wss://his');
    const his = await contentsOf(agent);
    await putBack(agent, before);
    writeFileSync(join(agent.folders.state, 'state.json'), '');
    const recipient = await ageRecipientOf(await newAgeIdentity(random));
    const change = {
      backends: agent.addresses,
      secret: { kind: 'root', root: agent.root },
      folders: agent.folders,
    } as const;
    await addRecipient({ ...change, repository: agent.writerKey.repositoryId, recipient }, agent.seams());
    await putBack(agent, his);
    await failure(() => agent.backup(), 'forged');
    expect((await logOf(agent)).warnings.map(({ code }) => code)).toEqual(['rolled_back']);
  });

  test('who wrote snapshots is cut off where the owner says', async () => {
    await using agent = await make();
    const good = await agent.backup();
    writeFileSync(join(agent.state, 'theirs'), 'spoiled');
    await agent.backup();
    const result = await rotate(agent, { lastSnapshot: good.snapshot.id });
    expect(result.lastSnapshot).toEqual({ seq: 0, id: good.snapshot.id });
    const { snapshots, problems } = await (await agent.open()).snapshots();
    expect(snapshots.map(({ id }) => id)).toEqual([good.snapshot.id]);
    expect(problems.map(({ error }) => error.code)).toEqual(['forged']);
    rmSync(join(agent.state, 'theirs'));
    await agent.backup(onDisk(agent));
    // What he wrote may not be taken for what is needed, nor be deleted unasked: a prune says how the owner gets rid of it.
    const error = await failure(() => pruneAsOwner(agent), 'damaged');
    expect([error.message, error.hint]).toEqual([
      expect.stringContaining('snapshots/'),
      expect.stringContaining('holdfast repair --forget-damaged'),
    ]);
    const access = { kind: 'restore', secret: { kind: 'root', root: agent.root } } as const;
    const how = { access, level: 'objects', forgetDamaged: true, dryRun: false, host: 'h' } as const;
    const { forgotten } = await repair({ backends: agent.addresses, ...how }, agent.seams());
    expect(forgotten?.removed).toEqual([error.message.split(' ')[0]]);
    expect(await pruneAsOwner(agent)).toMatchObject({ complete: true });
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
    expect((await addRecipient(change, agent.seams())).recipients).toEqual(added.recipients);
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
