import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sha256Hex } from '../../../src/crypto/hash.ts';
import type { KeyChange, KeysRecord } from '../../../src/repository/records/format.ts';
import {
  CONTEST_MS,
  firstEntry,
  compareLogs,
  nextEntry,
  recoveryCommitment,
  stateAt,
  type KeyLog,
  type Witness,
} from '../../../src/repository/keys/key-log.ts';
import { failure } from '../../crypto/support.ts';

/** Keys are only names here: who has signed is told by the test. */
const key = (name: string) => sha256Hex(Buffer.from(name));
const hashOf = (publicKey: string) => sha256Hex(Buffer.from(publicKey, 'hex'));
const [agent0, agent1, agent2, recovery0, recovery1, recovery2, stranger] = [
  'a0',
  'a1',
  'a2',
  'r0',
  'r1',
  'r2',
  'x',
].map(key) as [string, string, string, string, string, string, string];
const NONE = '0'.repeat(64);
const commitment2 = recoveryCommitment(recovery2, NONE);
const commitment1 = recoveryCommitment(recovery1, commitment2);
const REPOSITORY = 'ab'.repeat(16);
const T0 = Date.parse('2026-01-01T00:00:00.000Z');
const HOUR = 3_600_000;
const at = (ms: number) => new Date(T0 + ms).toISOString();

const genesis: KeysRecord = {
  version: 1,
  critical: [],
  repository: REPOSITORY,
  seq: 0,
  previous: null,
  created: at(0),
  agent: { handle: 'ada', publicKey: agent0, origin: 'derived' },
  recovery: recovery0,
  recipients: { restore: ['age1root'], writer: ['age1writer'] },
  secrets: key('secrets'),
  identity: key('wrapped'),
  next: hashOf(agent1),
  nextRecovery: commitment1,
};
const signedBy =
  (...keys: string[]) =>
  (one: string) =>
    keys.includes(one);
const start: KeyLog = [
  firstEntry(key('g'), genesis, signedBy(agent0, recovery0), {
    id: REPOSITORY,
    agent: agent0,
    recovery: recovery0,
  }),
];
const idOf = (record: KeysRecord) => sha256Hex(Buffer.from(JSON.stringify(record)));

/** The record that would follow, with `over` in it. */
function following(log: KeyLog, change: KeyChange, ms: number, over: Partial<KeysRecord> = {}): KeysRecord {
  const last = log.at(-1) ?? log[0];
  const base = change === 'object' ? (log.at(-2) ?? log[0]) : last;
  const { recovery, nextRecovery } = last.record;
  return {
    ...base.record,
    recovery,
    ...(nextRecovery === undefined ? {} : { nextRecovery }),
    seq: last.record.seq + 1,
    previous: last.id,
    created: at(ms),
    change,
    ...over,
  };
}
const LATE = T0 + 10_000 * HOUR;
const appendSeen = (
  log: KeyLog,
  record: KeysRecord,
  signers: string[],
  { nowMs = LATE, witnesses = [] as Witness[] } = {},
): KeyLog => [...log, nextEntry(log, idOf(record), record, signedBy(...signers), { nowMs, witnesses })];
const append = (log: KeyLog, record: KeysRecord, ...signers: string[]): KeyLog => appendSeen(log, record, signers);
const refused = (log: KeyLog, record: KeysRecord, ...signers: string[]) =>
  failure(() => Promise.resolve().then(() => append(log, record, ...signers)), 'forged');

const to = (publicKey: string, origin: 'derived' | 'imported' = 'derived') => ({ handle: 'ada', publicKey, origin });
const rotation = (log: KeyLog, ms: number) =>
  following(log, 'rotate', ms, { agent: to(agent1), identity: key('wrapped 1'), next: hashOf(agent2) });
const burnt = { recovery: recovery1, nextRecovery: commitment2 };
const contested = (log: KeyLog, change: 'rotate' | 'revoke' | 'relays', ms: number) =>
  following(log, change, ms, {
    ...burnt,
    ...(change === 'rotate' ? { agent: to(stranger, 'imported'), identity: key('wrapped x') } : {}),
    ...(change === 'relays' ? { relays: ['wss://r.example'] } : {}),
  });
const signersOf = (change: string) => (change === 'rotate' ? [recovery0, stranger] : [recovery0]);

describe('the agent alone', () => {
  test('hands over to the key that was committed to, at once', () => {
    const log = append(start, rotation(start, HOUR), agent0, agent1);
    const { keys, generations, pending } = stateAt(log, T0 + HOUR);
    expect(keys.agent.publicKey).toBe(agent1);
    expect(pending).toBeUndefined();
    expect(generations).toEqual([
      { publicKey: agent0, fromMs: Number.NEGATIVE_INFINITY, untilMs: T0 + HOUR, lastSeq: Number.POSITIVE_INFINITY },
      { publicKey: agent1, fromMs: T0 + HOUR, untilMs: Number.POSITIVE_INFINITY, lastSeq: Number.POSITIVE_INFINITY },
    ]);
    expect(log.at(-1)?.identityObject).toBe(`identity/${hashOf(agent1)}-${key('wrapped 1')}.age`);
  });

  test.each([
    ['a key that was not committed to', { agent: to(agent2) }, [agent0, agent2]],
    ['a key that has not signed', {}, [agent0]],
    ['the key it has', { agent: to(agent0) }, [agent0]],
    ['another handle with it', { agent: { ...to(agent1), handle: 'eve' } }, [agent0, agent1]],
    ['another recovery authority with it', { recovery: stranger }, [agent0, agent1]],
    ['another recovery commitment with it', { nextRecovery: key('z') }, [agent0, agent1]],
    ['another recipient with it', { recipients: { restore: ['age1eve'], writer: ['w'] } }, [agent0, agent1]],
    ['other secrets with it', { secrets: key('z') }, [agent0, agent1]],
  ])('cannot hand over to %s', async (_, over, signers) => {
    await refused(start, { ...rotation(start, HOUR), ...over }, ...signers);
  });

  test('sets its relays, and nothing else with them', async () => {
    const relays = ['wss://one.example'];
    const record = following(start, 'relays', HOUR, { relays });
    expect(stateAt(append(start, record, agent0), T0 + HOUR).keys.relays).toEqual(relays);
    await refused(start, { ...record, next: key('z') }, agent0);
    await refused(start, { ...record, agent: to(agent1) }, agent0, agent1);
    await refused(start, record, stranger);
  });

  test.each(['recipients', 'revoke'] as const)('cannot change %s', async (change) => {
    const over = change === 'recipients' ? { recipients: { restore: ['age1root', 'age1eve'], writer: ['w'] } } : {};
    await refused(start, following(start, change, HOUR, over), agent0);
  });
});

describe('both authorities together', () => {
  test('change recipients, import any key, revoke: at once', () => {
    const recipients = { restore: ['age1root', 'age1operator'], writer: ['age1writer'] };
    const added = append(
      start,
      following(start, 'recipients', HOUR, { recipients, secrets: key('s1'), identity: key('w1') }),
      agent0,
      recovery0,
    );
    expect(stateAt(added, T0 + HOUR).keys.recipients).toEqual(recipients);
    const imported = append(
      added,
      following(added, 'rotate', 2 * HOUR, { agent: to(stranger, 'imported'), identity: key('w2') }),
      agent0,
      recovery0,
      stranger,
    );
    expect(stateAt(imported, T0 + 2 * HOUR).keys.agent.publicKey).toBe(stranger);
    const revoked = append(imported, following(imported, 'revoke', 3 * HOUR), stranger, recovery0);
    const state = stateAt(revoked, T0 + 3 * HOUR);
    expect(state.entry.isRevoked).toBe(true);
    expect(state.generations.at(-1)?.untilMs).toBe(T0 + 3 * HOUR);
  });
});

describe('the recovery authority alone', () => {
  test.each(['rotate', 'revoke', 'relays'] as const)(
    'may %s, which holds when the contest window is over',
    (change) => {
      const log = append(start, contested(start, change, HOUR), ...signersOf(change));
      const end = T0 + HOUR + CONTEST_MS;
      const before = stateAt(log, end - 1);
      expect(before.pending).toBe(log[1]);
      expect(before.entry).toBe(log[0]);
      expect(before.generations).toEqual(stateAt(start, end).generations);
      const after = stateAt(log, end);
      expect(after.pending).toBeUndefined();
      expect(after.entry).toBe(log[1]);
      expect(after.keys.agent.publicKey).toBe(change === 'rotate' ? stranger : agent0);
      expect(after.entry.isRevoked).toBe(change === 'revoke');
      expect(after.keys.relays).toEqual(change === 'relays' ? ['wss://r.example'] : undefined);
    },
  );

  test('must use the recovery key that was committed to, and commit to one more', async () => {
    await refused(start, { ...contested(start, 'revoke', HOUR), recovery: recovery2 }, recovery0);
    await refused(start, { ...contested(start, 'revoke', HOUR), recovery: recovery0 }, recovery0);
    // Whoever uses a recovery key cannot choose those that come after it.
    await refused(start, { ...contested(start, 'revoke', HOUR), nextRecovery: key('mine') }, recovery0);
    await refused(start, { ...contested(start, 'rotate', HOUR), next: key('mine') }, recovery0, stranger);
    await refused(start, { ...contested(start, 'rotate', HOUR), lastSnapshot: null }, recovery0, stranger);
    const { nextRecovery: _none, ...uncommitted } = contested(start, 'revoke', HOUR);
    await refused(start, uncommitted, recovery0);
  });

  test('serves once: the key that has signed signs no second entry', async () => {
    const log = append(start, contested(start, 'relays', HOUR), recovery0);
    const later = HOUR + CONTEST_MS;
    await refused(log, following(log, 'revoke', later, { recovery: recovery2, nextRecovery: NONE }), recovery0);
    append(log, following(log, 'revoke', later, { recovery: recovery2, nextRecovery: NONE }), recovery1);
  });

  test('changes neither recipients nor anything beside what it says', async () => {
    const eve = { recipients: { restore: ['age1eve'], writer: ['age1writer'] } };
    await refused(start, following(start, 'recipients', HOUR, { ...burnt, ...eve }), recovery0);
    await refused(start, { ...contested(start, 'rotate', HOUR), ...eve }, recovery0, stranger);
    await refused(start, { ...contested(start, 'revoke', HOUR), relays: ['wss://x'] }, recovery0);
    await refused(start, { ...contested(start, 'relays', HOUR), agent: to(stranger) }, recovery0, stranger);
  });

  test('gives a revoked agent a new key at once, for nobody is left to object', () => {
    const revoked = append(start, following(start, 'revoke', HOUR), agent0, recovery0);
    const log = append(revoked, contested(revoked, 'rotate', 2 * HOUR), recovery0, stranger);
    const state = stateAt(log, T0 + 2 * HOUR);
    expect(state.pending).toBeUndefined();
    expect(state.entry.isRevoked).toBe(false);
    expect(state.generations.map(({ fromMs, untilMs }) => [fromMs - T0, untilMs - T0])).toEqual([
      [Number.NEGATIVE_INFINITY, HOUR],
      [2 * HOUR, Number.POSITIVE_INFINITY],
    ]);
  });

  test('that changes relays of a revoked agent does not make its key count again', () => {
    const revoked = append(start, following(start, 'revoke', HOUR), agent0, recovery0);
    const log = append(revoked, contested(revoked, 'relays', 2 * HOUR), recovery0);
    expect(stateAt(log, T0 + 2 * HOUR).entry.isRevoked).toBe(true);
  });
});

describe('within the contest window', () => {
  const pending = append(start, contested(start, 'rotate', HOUR), recovery0, stranger);
  const end = HOUR + CONTEST_MS;

  test('the agent objects, and all is as before, but the recovery key is used up', () => {
    const log = append(pending, following(pending, 'object', end - 1), agent0);
    for (const ms of [end - 1, end, 10 * end]) {
      const state = stateAt(log, T0 + ms);
      expect(state.pending).toBeUndefined();
      expect(state.keys).toMatchObject({ agent: genesis.agent, recovery: recovery1, nextRecovery: commitment2 });
      expect(state.generations).toHaveLength(1);
      expect(state.entry.identityObject).toBe(start[0].identityObject);
    }
  });

  test.each([
    ['the key that would come', [stranger]],
    ['the recovery authority', [recovery0, recovery1]],
    ['nobody', []],
  ])('%s cannot object', async (_, signers) => {
    await refused(pending, following(pending, 'object', 2 * HOUR), ...signers);
  });

  test('an objection comes too late at its end, and nothing else may come before', async () => {
    await refused(pending, following(pending, 'object', end), agent0);
    const relays = following(pending, 'relays', end - 1, { relays: ['wss://x'] });
    await refused(pending, relays, stranger);
    await refused(pending, relays, agent0);
    append(pending, following(pending, 'relays', end, { relays: ['wss://x'] }), stranger);
  });

  test('an entry dated beyond it does not bring it into force before', () => {
    const hurried = append(pending, following(pending, 'relays', end, { relays: ['wss://x'] }), stranger);
    expect(stateAt(hurried, T0 + 2 * HOUR).keys).toEqual(genesis);
    expect(stateAt(hurried, T0 + 2 * HOUR).pending).toBe(hurried[1]);
  });

  test('an objection changes nothing itself', async () => {
    await refused(pending, following(pending, 'object', 2 * HOUR, { agent: to(agent1) }), agent0, agent1);
    await refused(pending, following(pending, 'object', 2 * HOUR, { recovery: recovery0 }), agent0);
    await refused(start, following(start, 'object', 2 * HOUR), agent0);
  });
});

describe('of two branches', () => {
  const relaysAt = (log: KeyLog, ms: number, relay: string) => following(log, 'relays', ms, { relays: [relay] });
  const rotated = append(start, rotation(start, HOUR), agent0, agent1);
  const contestedLog = append(start, contested(start, 'revoke', HOUR), recovery0);
  const one = append(start, relaysAt(start, HOUR, 'wss://one'), agent0);

  test('what only the words can write counts before what a recovery key can, and that before what a host can', () => {
    const long = append(one, relaysAt(one, 2 * HOUR, 'wss://x'), agent0);
    const longer = append(long, relaysAt(long, 3 * HOUR, 'wss://y'), agent0);
    for (const [better, worse] of [
      [rotated, contestedLog],
      [rotated, longer],
      [contestedLog, longer],
      [longer, long],
      [
        append(
          one,
          following(one, 'rotate', 2 * HOUR, { agent: to(agent1), identity: key('w'), next: key('n') }),
          agent0,
          agent1,
        ),
        longer,
      ],
    ] as const) {
      expect(compareLogs(better, worse)).toBeLessThan(0);
      expect(compareLogs(worse, better)).toBeGreaterThan(0);
    }
  });

  test('that weigh the same, every reader takes the same', () => {
    const two = append(start, relaysAt(start, HOUR, 'wss://two'), agent0);
    expect(Math.sign(compareLogs(one, two))).toBe(-Math.sign(compareLogs(two, one)));
    expect(compareLogs(one, two)).not.toBe(0);
  });
});

describe('witnesses', () => {
  const saw = (signer: string, ms: number, sawSeq: number): Witness => ({ signer, timeMs: T0 + ms, sawSeq });

  test('a recovery entry that is dated back begins when the agent can have seen it', () => {
    const witnesses = [saw(agent0, 500 * HOUR, 0), saw(stranger, 900 * HOUR, 0), saw(agent0, 20_000 * HOUR, 0)];
    const log = appendSeen(start, contested(start, 'rotate', HOUR), [recovery0, stranger], { witnesses });
    expect(log[1]?.inForceFromMs).toBe(T0 + 500 * HOUR + CONTEST_MS);
    // Snapshots whose maker saw it put nothing off.
    const aware = appendSeen(start, contested(start, 'rotate', HOUR), [recovery0, stranger], {
      witnesses: [saw(agent0, 500 * HOUR, 1)],
    });
    expect(aware[1]?.inForceFromMs).toBe(T0 + HOUR + CONTEST_MS);
  });

  test('an objection that is dated back is none, once the new key was in use without it', async () => {
    const log = append(start, contested(start, 'rotate', HOUR), recovery0, stranger);
    const objection = following(log, 'object', 2 * HOUR);
    const inUse = [saw(stranger, HOUR + CONTEST_MS + HOUR, 1)];
    await failure(
      () => Promise.resolve().then(() => appendSeen(log, objection, [agent0], { witnesses: inUse })),
      'forged',
    );
    for (const harmless of [
      [],
      [saw(agent0, HOUR + CONTEST_MS + HOUR, 1)],
      [saw(stranger, 2 * HOUR, 1)],
      [saw(stranger, HOUR + CONTEST_MS + HOUR, 2)],
    ])
      appendSeen(log, objection, [agent0], { witnesses: harmless });
  });
});

test('what is dated in the future is not believed of a host or a recovery key, and of nobody beyond all time', async () => {
  const nowMs = T0 + HOUR;
  const future = 26 * HOUR;
  const tryAt = (record: KeysRecord, signers: string[]) =>
    failure(() => Promise.resolve().then(() => appendSeen(start, record, signers, { nowMs })), 'forged');
  await tryAt(following(start, 'relays', future, { relays: [] }), [agent0]);
  await tryAt(contested(start, 'revoke', future), [recovery0]);
  appendSeen(start, rotation(start, future), [agent0, agent1], { nowMs });
  await tryAt({ ...rotation(start, 0), created: '9000-01-02T00:00:00.000Z' }, [agent0, agent1]);
});

test('a hand-over says up to which snapshot the keys before are believed', () => {
  const lastSnapshot = { seq: 7, id: key('s') };
  const log = append(start, { ...rotation(start, HOUR), lastSnapshot }, agent0, agent1);
  expect(stateAt(log, LATE).generations.map(({ lastSeq }) => lastSeq)).toEqual([7, Number.POSITIVE_INFINITY]);
  const none = append(start, { ...rotation(start, HOUR), lastSnapshot: null }, agent0, agent1);
  expect(stateAt(none, LATE).generations[0]?.lastSeq).toBe(-1);
});

test('no record follows that is older than the one before, or of another place in the chain', async () => {
  const log = append(start, rotation(start, HOUR), agent0, agent1);
  const relays = (over: Partial<KeysRecord>) => following(log, 'relays', 2 * HOUR, { relays: [], ...over });
  append(log, relays({}), agent1);
  await refused(log, relays({ created: at(HOUR - 1) }), agent1);
  await refused(log, relays({ seq: 3 }), agent1);
  await refused(log, relays({ previous: start[0].id }), agent1);
  await refused(log, relays({ repository: 'cd'.repeat(16) }), agent1);
  const { change: _none, ...unsaid } = relays({});
  await refused(log, unsaid, agent1);
});

test('a thief of the host, whatever he writes, neither becomes the agent nor lets anybody read', () => {
  const anyKey = fc.constantFrom(agent0, agent1, agent2, recovery0, recovery1, stranger);
  const over = fc.record(
    {
      agent: anyKey.map((publicKey) => to(publicKey)),
      recovery: anyKey,
      recipients: fc.constant({ restore: ['age1thief'], writer: ['age1writer'] }),
      next: anyKey.map(hashOf),
      nextRecovery: anyKey.map(hashOf),
      relays: fc.constant(['wss://thief']),
      secrets: fc.constant(key('t')),
      identity: fc.constant(key('t')),
    },
    { requiredKeys: [] },
  );
  const change = fc.constantFrom<KeyChange>('rotate', 'revoke', 'relays', 'recipients', 'object');
  const hours = fc.integer({ min: 0, max: 200 });
  const steps = fc.array(fc.tuple(change, over, hours), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(steps, fc.boolean(), (tries, isContested) => {
      let log: KeyLog = isContested ? append(start, contested(start, 'relays', HOUR), recovery0) : start;
      for (const [one, members, hour] of tries) {
        try {
          log = append(
            log,
            following(log, one, hour * HOUR, members as unknown as Partial<KeysRecord>),
            agent0,
            stranger,
          );
        } catch {
          // refused
        }
      }
      const { keys, entry } = stateAt(log, T0 + 1000 * HOUR);
      expect([keys.agent.publicKey, keys.recipients, keys.next, entry.isRevoked]).toEqual([
        agent0,
        genesis.recipients,
        genesis.next,
        false,
      ]);
    }),
    { numRuns: 2000 },
  );
});
