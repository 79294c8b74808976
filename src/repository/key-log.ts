/**
 * The identity log: the chain of key records, and the rules by which one may follow another. Pure: no storage, no clock of its own.
 *
 * Two authorities sign. The agent's signing key is on its host and may be stolen with it. The recovery authority is on paper. What each may do
 * follows from that:
 *
 * - the agent's key alone changes relays, objects to what the recovery authority began, and hands over to the one key that was committed to
 *   before (a thief of the host does not have it);
 * - both together do anything at once: whoever has both has the words and the host;
 * - the recovery authority alone may rotate, revoke or replace the relays, with a new recovery key that was committed to before, so that each
 *   serves once; and only after a window in which the agent may object.
 *
 * The ideas are those of pre-rotation (KERI) and of recovery with a contest window (did:plc).
 */
import { sha256Hex } from '../crypto/hash.ts';
import { HoldfastError } from '../errors.ts';
import type { KeyChange, KeysRecord } from './format.ts';
import { rewrappedIdentityKey, wrappedIdentityKey } from './object-name.ts';

/** In which the agent may object to what the recovery authority alone has signed: three days. */
export const CONTEST_MS = 72 * 60 * 60 * 1000;

export interface KeyLogEntry {
  /** SHA-256 of the record as stored. */
  id: string;
  record: KeysRecord;
  /** Whose word it rests on. */
  by: 'agent' | 'recovery' | 'both';
  /** Wall clock; later than `created` for an entry that may be contested. */
  inForceFromMs: number;
  /** The object that holds the agent's wrapped key as of this entry. */
  identityObject: string;
  /** True while the agent's last key is revoked and no other has taken its place. */
  isRevoked: boolean;
}

export type KeyLog = readonly [KeyLogEntry, ...KeyLogEntry[]];

/** A key of the agent and when its signatures count: from (inclusive) until (exclusive), wall clock. */
export interface Generation {
  publicKey: string;
  fromMs: number;
  untilMs: number;
}

export interface KeyState {
  /** The entry that is in force. */
  entry: KeyLogEntry;
  keys: KeysRecord;
  generations: readonly Generation[];
  /** What the recovery authority began and the agent may still object to. */
  pending: KeyLogEntry | undefined;
}

type SignedBy = (publicKeyHex: string) => boolean;

/** The first entry. Its keys are those of `holdfast.json`, and both have signed. @throws `forged` */
export function firstEntry(
  id: string,
  record: KeysRecord,
  signedBy: SignedBy,
  repository: { id: string; agent: string; recovery: string },
): KeyLogEntry {
  const right =
    record.repository === repository.id &&
    record.seq === 0 &&
    record.previous === null &&
    record.change === undefined &&
    record.agent.publicKey === repository.agent &&
    record.recovery === repository.recovery;
  if (!right || !signedBy(repository.agent) || !signedBy(repository.recovery)) throw notOfTheChain(0);
  return {
    id,
    record,
    by: 'both',
    inForceFromMs: Date.parse(record.created),
    identityObject: wrappedIdentityKey(record.agent.publicKey),
    isRevoked: false,
  };
}

/** What each change may change, besides number, predecessor and time. */
const MAY_CHANGE: Readonly<Record<KeyChange, readonly (keyof KeysRecord)[]>> = {
  rotate: ['agent', 'identity', 'next', 'nextRecovery'],
  revoke: [],
  relays: ['relays'],
  recipients: ['recipients', 'secrets', 'identity', 'grants'],
  object: [],
};
const ALWAYS_CHANGES: readonly (keyof KeysRecord)[] = ['seq', 'previous', 'created', 'change'];

/** The entry after those of `log`. @throws `forged` when the record may not follow, with the reason */
export function nextEntry(log: KeyLog, id: string, record: KeysRecord, signedBy: SignedBy): KeyLogEntry {
  const last = log.at(-1) ?? log[0];
  const { seq, change } = record;
  if (record.repository !== last.record.repository || seq !== last.record.seq + 1 || record.previous !== last.id) {
    throw notOfTheChain(seq);
  }
  const refuse = (why: string) => new HoldfastError('forged', `key record ${seq} may not follow: ${why}`);
  if (change === undefined) throw refuse('it does not say what it changes');
  const createdMs = Date.parse(record.created);
  if (createdMs < Date.parse(last.record.created)) throw refuse('it is older than the record before it');

  const contested = isContestable(last) ? last : undefined;
  const before = change === 'object' ? beforeContested(log, contested, refuse) : last;
  if (contested && (change === 'object') !== createdMs < contested.inForceFromMs) {
    throw refuse(change === 'object' ? 'it objects too late' : 'what is before it may still be contested');
  }
  const by = authorityOf(record, change, before, signedBy, refuse);

  const allowed: (keyof KeysRecord)[] = [...ALWAYS_CHANGES, ...MAY_CHANGE[change]];
  if (by === 'recovery' || change === 'object') allowed.push('recovery', 'nextRecovery');
  for (const member of Object.keys({ ...before.record, ...record }) as (keyof KeysRecord)[]) {
    if (!allowed.includes(member) && JSON.stringify(record[member]) !== JSON.stringify(before.record[member]))
      throw refuse(`it changes "${member}"`);
  }
  if (record.agent.handle !== before.record.agent.handle) throw refuse('it changes the handle');
  if (change !== 'rotate' && record.agent.publicKey !== before.record.agent.publicKey)
    throw refuse("it changes the agent's key");
  if (by === 'recovery') {
    if (hashOf(record.recovery) !== last.record.nextRecovery)
      throw refuse('its recovery key was not committed to before');
    if (record.nextRecovery === undefined) throw refuse('it commits to no next recovery key');
  } else if (change === 'object') {
    const { recovery, nextRecovery } = last.record; // what was used stays used
    if (record.recovery !== recovery || record.nextRecovery !== nextRecovery)
      throw refuse('it changes the recovery key');
  } else if (by !== 'both' && record.nextRecovery !== before.record.nextRecovery) {
    throw refuse('it changes what the recovery authority has committed to');
  }
  return {
    id,
    record,
    by,
    inForceFromMs: createdMs + (by === 'recovery' && !before.isRevoked ? CONTEST_MS : 0),
    identityObject:
      record.identity === before.record.identity
        ? before.identityObject
        : rewrappedIdentityKey(record.agent.publicKey, record.identity),
    isRevoked: change === 'revoke' || (change !== 'rotate' && before.isRevoked),
  };
}

/** How much an entry weighs against another with the same number: what needs more keys than a stolen host has comes first. */
export function weightOf({ record, by }: KeyLogEntry): number {
  if (record.change === 'rotate' && by === 'agent') return 2;
  return { both: 2, recovery: 1, agent: 0 }[by];
}

/** What holds at a moment. */
export function stateAt(log: KeyLog, nowMs: number): KeyState {
  let entry = log[0];
  let pending: KeyLogEntry | undefined;
  const generations: Generation[] = [
    { publicKey: entry.record.agent.publicKey, fromMs: Number.NEGATIVE_INFINITY, untilMs: Number.POSITIVE_INFINITY },
  ];
  for (const [i, next] of log.entries()) {
    if (i === 0 || log[i + 1]?.record.change === 'object') continue;
    if (isContestable(next) && nowMs < next.inForceFromMs) {
      pending = next;
      break;
    }
    const { change, agent } = next.record;
    const current = generations.at(-1);
    if (current && (change === 'revoke' || change === 'rotate'))
      current.untilMs = Math.min(current.untilMs, next.inForceFromMs);
    if (change === 'rotate')
      generations.push({ publicKey: agent.publicKey, fromMs: next.inForceFromMs, untilMs: Number.POSITIVE_INFINITY });
    entry = next;
  }
  return { entry, keys: entry.record, generations, pending };
}

function isContestable(entry: KeyLogEntry): boolean {
  return entry.inForceFromMs > Date.parse(entry.record.created);
}

/** The entry that holds again once the last one is objected to. */
function beforeContested(
  log: KeyLog,
  contested: KeyLogEntry | undefined,
  refuse: (why: string) => HoldfastError,
): KeyLogEntry {
  const before = contested && log.at(-2);
  if (!before) throw refuse('there is nothing to object to');
  return before;
}

function authorityOf(
  record: KeysRecord,
  change: KeyChange,
  before: KeyLogEntry,
  signedBy: SignedBy,
  refuse: (why: string) => HoldfastError,
): KeyLogEntry['by'] {
  const byAgent = !before.isRevoked && signedBy(before.record.agent.publicKey);
  const byRecovery = signedBy(before.record.recovery);
  const either = byAgent ? 'agent' : byRecovery ? 'recovery' : undefined;
  const unsigned = () => refuse('it is not signed by who may change this');
  switch (change) {
    case 'object':
      if (!byAgent) throw unsigned();
      return 'agent';
    case 'recipients':
      if (!byAgent || !byRecovery) throw unsigned();
      return 'both';
    case 'relays':
      if (!either) throw unsigned();
      return either;
    case 'revoke':
      if (!byRecovery || before.isRevoked) throw unsigned();
      return byAgent ? 'both' : 'recovery';
    case 'rotate': {
      const { publicKey } = record.agent;
      if (publicKey === before.record.agent.publicKey) throw refuse('it rotates to the same key');
      if (!signedBy(publicKey)) throw refuse('the new key has not signed it');
      if (byAgent && byRecovery) return 'both';
      if (byAgent && hashOf(publicKey) === before.record.next) return 'agent';
      if (byRecovery && !byAgent) return 'recovery';
      throw refuse('its new key was not committed to before');
    }
  }
}

function hashOf(publicKeyHex: string): string {
  return sha256Hex(Buffer.from(publicKeyHex, 'hex'));
}

function notOfTheChain(seq: number): HoldfastError {
  return new HoldfastError('forged', `key record ${seq} is not part of this repository's chain of keys`);
}
