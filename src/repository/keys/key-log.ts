/**
 * The identity log: key records, and the rules by which one may follow another. Pure: no storage, no clock of its own.
 *
 * Two authorities sign. The agent's signing key is on its host and may be stolen with it. The recovery authority is on paper, or was given out
 * beforehand. What each may do follows from that:
 *
 * - the agent's key alone changes relays, objects to what the recovery authority began, and hands over to the one key that was committed to
 *   before (a thief of the host does not have it);
 * - both together do anything at once: whoever has both has the words and the host;
 * - the recovery authority alone may rotate, revoke or replace the relays, with a new recovery key that was committed to before, so that each
 *   serves once; and only after a window in which the agent may object.
 *
 * The ideas are those of pre-rotation (KERI) and of recovery with a contest window (did:plc). Times are what signers say; the agent's snapshots,
 * each of which names the newest entry that its maker saw, bear witness against those that are dated back.
 */
import { sha256Hex } from '../../crypto/hash.ts';
import { HoldfastError } from '../../errors.ts';
import { DAY_MS } from '../../units.ts';
import type { KeyChange, KeysRecord } from '../records/format.ts';
import { rewrappedIdentityKey, wrappedIdentityKey } from '../records/object-name.ts';

/** In which the agent may object to what the recovery authority alone has signed: three days. */
export const CONTEST_MS = 3 * DAY_MS;
/** How far a signer's clock may be ahead of the reader's. */
const AHEAD_MAX_MS = DAY_MS;
/** No entry is dated later: there must be room for all times that are counted from it. */
const LATEST_MS = Date.parse('9000-01-01T00:00:00.000Z');

export interface KeyLogEntry {
  /** SHA-256 of the record as stored. */
  id: string;
  record: KeysRecord;
  /** Whose word it rests on. */
  by: 'agent' | 'recovery' | 'both';
  /**
   * What it counts against another in its place: 2 for what only the holder of the words can write, 1 for what a recovery key can, 0 for what
   * anybody with the agent's host can.
   */
  weight: 0 | 1 | 2;
  /** Wall clock; later than `created` for an entry that may be contested. */
  inForceFromMs: number;
  /** The object that holds the agent's wrapped key as of this entry. */
  identityObject: string;
  /** True while the agent's last key is revoked and no other has taken its place. */
  isRevoked: boolean;
}

export type KeyLog = readonly [KeyLogEntry, ...KeyLogEntry[]];

/** The entry that was added last, in force or not. */
export const lastEntry = (log: KeyLog): KeyLogEntry => log.at(-1) ?? log[0];

/** A key of the agent and when its signatures count: from (inclusive) until (exclusive), wall clock, up to a snapshot's number. */
export interface Generation {
  publicKey: string;
  fromMs: number;
  untilMs: number;
  lastSeq: number;
}

export interface KeyState {
  /** The entry that is in force. */
  entry: KeyLogEntry;
  keys: KeysRecord;
  generations: readonly Generation[];
  /** What the recovery authority began and the agent may still object to. */
  pending: KeyLogEntry | undefined;
}

/** A snapshot as a witness: who signed it, when, and the number of the newest entry of the log that its maker saw (-1: it does not say). */
export interface Witness {
  signer: string;
  timeMs: number;
  sawSeq: number;
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
    weight: 2,
    inForceFromMs: Date.parse(record.created),
    identityObject: wrappedIdentityKey(record.agent.publicKey),
    isRevoked: false,
  };
}

/** What each change may change, besides number, predecessor and time; and what less of it when the recovery authority alone has signed. */
const MAY_CHANGE: Readonly<Record<KeyChange, readonly (keyof KeysRecord)[]>> = {
  rotate: ['agent', 'identity', 'next', 'nextRecovery', 'lastSnapshot'],
  revoke: [],
  relays: ['relays'],
  recipients: ['recipients', 'secrets', 'identity', 'grants'],
  object: [],
};
const RECOVERY_MAY_NOT: readonly (keyof KeysRecord)[] = ['next', 'lastSnapshot'];
const ALWAYS_CHANGES: readonly (keyof KeysRecord)[] = ['seq', 'previous', 'created', 'change'];

/** The entry after those of `log`. @throws `forged` when the record may not follow, with the reason */
export function nextEntry(
  log: KeyLog,
  id: string,
  record: KeysRecord,
  signedBy: SignedBy,
  { nowMs, witnesses }: { nowMs: number; witnesses: readonly Witness[] },
): KeyLogEntry {
  const last = lastEntry(log);
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
  if (contested && change === 'object' && isLate(seq, contested, witnesses)) {
    throw refuse('it is dated back: the key it objects to was in use before it was there');
  }
  const by = authorityOf(record, change, before, signedBy, refuse);
  const weight = weightOf(change, by);
  if (createdMs > (weight === 2 ? LATEST_MS : nowMs + AHEAD_MAX_MS)) throw refuse('it is dated in the future');

  const isRecovery = by === 'recovery';
  const allowed = [
    ...ALWAYS_CHANGES,
    ...MAY_CHANGE[change].filter((name) => !isRecovery || !RECOVERY_MAY_NOT.includes(name)),
  ];
  if (isRecovery || change === 'object') allowed.push('recovery', 'nextRecovery');
  for (const member of Object.keys({ ...before.record, ...record }) as (keyof KeysRecord)[]) {
    if (!allowed.includes(member) && JSON.stringify(record[member]) !== JSON.stringify(before.record[member]))
      throw refuse(`it changes "${member}"`);
  }
  if (record.agent.handle !== before.record.agent.handle) throw refuse('it changes the handle');
  if (change !== 'rotate' && record.agent.publicKey !== before.record.agent.publicKey)
    throw refuse("it changes the agent's key");
  const { recovery, nextRecovery } = record;
  if (isRecovery) {
    if (nextRecovery === undefined || recoveryCommitment(recovery, nextRecovery) !== last.record.nextRecovery)
      throw refuse('its recovery key was not committed to before');
  } else if (change === 'object') {
    // What was used stays used.
    if (recovery !== last.record.recovery || nextRecovery !== last.record.nextRecovery)
      throw refuse('it changes the recovery key');
  } else if (by !== 'both' && nextRecovery !== before.record.nextRecovery) {
    throw refuse('it changes what the recovery authority has committed to');
  }
  return {
    id,
    record,
    by,
    weight,
    inForceFromMs:
      isRecovery && !before.isRevoked
        ? Math.max(createdMs, lastUnaware(seq, before, witnesses, nowMs)) + CONTEST_MS
        : createdMs,
    identityObject:
      record.identity === before.record.identity
        ? before.identityObject
        : rewrappedIdentityKey(record.agent.publicKey, record.identity),
    isRevoked: change === 'revoke' || (change !== 'rotate' && before.isRevoked),
  };
}

/**
 * What `nextRecovery` of a record must be for this key and commitment to be the next: it binds all that come after, so that who uses one
 * recovery key cannot choose those to come.
 */
export function recoveryCommitment(recovery: string, nextRecovery: string): string {
  return sha256Hex(Buffer.from(recovery + nextRecovery, 'hex'));
}

/** What holds at a moment. */
export function stateAt(log: KeyLog, nowMs: number): KeyState {
  let entry = log[0];
  let pending: KeyLogEntry | undefined;
  const generations: Generation[] = [newGeneration(entry, Number.NEGATIVE_INFINITY)];
  for (const [i, next] of log.entries()) {
    if (i === 0 || log[i + 1]?.record.change === 'object') continue;
    if (isContestable(next) && nowMs < next.inForceFromMs) {
      pending = next;
      break;
    }
    const { change, lastSnapshot } = next.record;
    const current = generations.at(-1);
    if (current && (change === 'revoke' || change === 'rotate'))
      current.untilMs = Math.min(current.untilMs, next.inForceFromMs);
    if (change === 'rotate' && next.by !== 'recovery' && lastSnapshot !== undefined) {
      for (const before of generations) before.lastSeq = Math.min(before.lastSeq, lastSnapshot?.seq ?? -1);
    }
    if (change === 'rotate') generations.push(newGeneration(next, next.inForceFromMs));
    entry = next;
  }
  return { entry, keys: entry.record, generations, pending };
}

function newGeneration({ record }: KeyLogEntry, fromMs: number): Generation {
  return {
    publicKey: record.agent.publicKey,
    fromMs,
    untilMs: Number.POSITIVE_INFINITY,
    lastSeq: Number.POSITIVE_INFINITY,
  };
}

/**
 * Which of two logs of one repository is the right one: that with more of what only the words can write, then of what a recovery key can, then the
 * longer. So nobody with less can push aside what was written with more. Where nothing tells, the order of the ids does, which is the same for
 * every reader.
 */
export function compareLogs(a: KeyLog, b: KeyLog): number {
  const count = (log: KeyLog, weight: number) => log.filter((entry) => entry.weight === weight).length;
  const different = a.findIndex((entry, i) => entry.id !== b[i]?.id);
  return (
    count(b, 2) - count(a, 2) ||
    count(b, 1) - count(a, 1) ||
    b.length - a.length ||
    ((a[different]?.id ?? '') < (b[different]?.id ?? '') ? -1 : 1)
  );
}

/** True for what the agent may object to for a time. */
function isContestable(entry: KeyLogEntry): boolean {
  return entry.by === 'recovery' && entry.inForceFromMs > Date.parse(entry.record.created);
}

function weightOf(change: KeyChange, by: KeyLogEntry['by']): KeyLogEntry['weight'] {
  if (by === 'both' || (change === 'rotate' && by === 'agent')) return 2;
  return by === 'recovery' ? 1 : 0;
}

/** The newest moment at which the agent made a snapshot without having seen this entry: before it, the entry was not there. */
function lastUnaware(seq: number, before: KeyLogEntry, witnesses: readonly Witness[], nowMs: number): number {
  const agent = before.record.agent.publicKey;
  const times = witnesses
    .filter(({ signer, sawSeq, timeMs }) => signer === agent && sawSeq < seq && timeMs <= nowMs)
    .map(({ timeMs }) => timeMs);
  return Math.max(Number.NEGATIVE_INFINITY, ...times);
}

/** Whether the key that a contested entry brought was in use, after the window, by somebody who saw no objection. */
function isLate(seq: number, contested: KeyLogEntry, witnesses: readonly Witness[]): boolean {
  const agent = contested.record.agent.publicKey;
  return (
    contested.record.change === 'rotate' &&
    witnesses.some(
      ({ signer, sawSeq, timeMs }) => signer === agent && sawSeq === seq - 1 && timeMs >= contested.inForceFromMs,
    )
  );
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
      if (byAgent && sha256Hex(Buffer.from(publicKey, 'hex')) === before.record.next) return 'agent';
      if (byRecovery && !byAgent) return 'recovery';
      throw refuse('its new key was not committed to before');
    }
  }
}

function notOfTheChain(seq: number): HoldfastError {
  return new HoldfastError('forged', `key record ${seq} is not part of this repository's chain of keys`);
}
