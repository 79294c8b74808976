/** Snapshot records: signed by the agent, encrypted to those who may know that they exist. */
import type { z } from 'zod';
import { HoldfastError, isSurvivable } from '../../errors.ts';
import type { Mirror } from '../../backend/mirror.ts';
import { openAge, sealAge } from '../../crypto/age.ts';
import { parseEnvelope, signedBy, signEnvelope } from '../../crypto/dsse.ts';
import { sha256Hex } from '../../crypto/hash.ts';
import type { Random } from '../../clock.ts';
import {
  parseRecord,
  SNAPSHOT_FEATURES,
  SNAPSHOT_PAYLOAD_TYPE,
  snapshotSchema,
  type Signer,
  type SnapshotRecord,
} from './format.ts';
import { hasNumbers, type NumberRanges } from './forgotten.ts';
import type { Generation, Witness } from '../keys/key-log.ts';
import { parseKey, snapshotKey, stampIn, stampOf, type SnapshotId } from './object-name.ts';

/** A snapshot whose signature and name were checked. */
export interface Snapshot {
  id: SnapshotId;
  record: SnapshotRecord;
  /** The object it was read from. */
  key: string;
}

/** @returns the object's bytes and the id that belongs into its name. */
export async function sealSnapshot(
  record: SnapshotRecord,
  signer: Signer,
  recipients: readonly string[],
  random: Random,
): Promise<{ id: SnapshotId; bytes: Uint8Array }> {
  const payload = Buffer.from(JSON.stringify(record));
  const { bytes } = await sealAge(signEnvelope(SNAPSHOT_PAYLOAD_TYPE, payload, [signer]), recipients, random);
  return { id: sha256Hex(payload) as SnapshotId, bytes };
}

/**
 * Opens a snapshot object and checks it before anything in it is believed: id, signature of the agent, repository.
 * @param expected.generations the agent's keys: the one that the record names must have signed, at a time when its signatures counted.
 * @throws `damaged`, `forged`, `wrong_key`, `unsupported_format`
 */
export async function openSnapshot(
  bytes: Uint8Array,
  expected: { id: SnapshotId; key: string; generations: readonly Generation[]; repository: string },
  identities: readonly string[],
): Promise<Snapshot> {
  const what = `snapshot ${expected.id.slice(0, 8)}`;
  const keyOf = ({ time }: SnapshotRecord) => snapshotKey(Date.parse(time), expected.id);
  const form = { what, type: SNAPSHOT_PAYLOAD_TYPE, schema: snapshotSchema, keyOf };
  const { record, generations } = await openSigned(bytes, expected, form, identities);
  if (!generations.some(({ lastSeq }) => record.seq <= lastSeq)) {
    throw notTheAgentsThen(`${what} (number ${record.seq}, ${record.time})`);
  }
  return { id: expected.id, record, key: expected.key };
}

interface SignedForm<T> {
  /** For messages. */
  what: string;
  type: string;
  schema: z.ZodType<T>;
  keyOf: (record: T) => string;
}

/**
 * Opens what is signed by the agent, sealed, and named by its time and the hash of its record: a snapshot or an annotation.
 * @returns the record, and the generations of the agent's keys in which its signature counts: one or more
 * @throws `damaged`, `forged`, `wrong_key`, `unsupported_format`
 */
export async function openSigned<
  T extends { repository: string; agent: { publicKey: string }; time: string; seq?: number },
>(
  bytes: Uint8Array,
  expected: { id: string; key: string; generations: readonly Generation[]; repository: string },
  { what, type, schema, keyOf }: SignedForm<T>,
  identities: readonly string[],
): Promise<{ record: T; generations: readonly Generation[] }> {
  const envelope = parseEnvelope(await openAge(bytes, identities), type);
  if (sha256Hex(envelope.payload) !== expected.id)
    throw new HoldfastError('damaged', `${what} is another one than its name says`);
  const signers = expected.generations.filter(({ publicKey }) => signedBy(envelope, Buffer.from(publicKey, 'hex')));
  if (signers.length === 0) {
    throw new HoldfastError('forged', `${what} is not signed by the agent's key`, {
      hint: 'Somebody else wrote it. Do not restore it; find out who can write to the backend.',
    });
  }
  const record = parseRecord(envelope.payload, schema, what, SNAPSHOT_FEATURES);
  if (keyOf(record) !== expected.key) throw new HoldfastError('damaged', `${what} lies under a name of another time`);
  const named = signers.filter(({ publicKey }) => publicKey === record.agent.publicKey);
  if (record.repository !== expected.repository || named.length === 0) {
    throw new HoldfastError('forged', `${what} belongs to another repository or agent`, {
      hint: 'Do not restore it; it was put there by hand.',
    });
  }
  const timeMs = Date.parse(record.time);
  const generations = named.filter(({ fromMs, untilMs }) => fromMs <= timeMs && timeMs < untilMs);
  const number = record.seq === undefined ? '' : `number ${record.seq}, `;
  if (generations.length === 0) throw notTheAgentsThen(`${what} (${number}${record.time})`);
  return { record, generations };
}

function notTheAgentsThen(what: string): HoldfastError {
  return new HoldfastError('forged', `${what} is signed by a key that was not the agent's then`, {
    hint: 'A copy of the agent that was replaced, or who stole its key, wrote it. Do not restore it; find out where the key still is.',
  });
}

/**
 * The snapshots made after a moment, as witnesses of what their makers saw of the identity log. Those that cannot be opened or are not signed by
 * whom they name say nothing. Whether a signature counted at its time is not asked: the log, which decides that, is what they witness.
 */
export async function readWitnesses(
  mirror: Mirror,
  { repository, afterMs, signal }: { repository: string; afterMs: number; signal: AbortSignal | undefined },
  identities: readonly string[],
): Promise<Witness[]> {
  const witnesses: Witness[] = [];
  const after = stampOf(afterMs);
  for await (const { key } of mirror.list('snapshots/', { signal })) {
    const name = parseKey(key);
    if (name?.kind !== 'snapshot' || stampIn(key) < after) continue;
    const open = async (bytes: Uint8Array): Promise<Witness> => {
      const envelope = parseEnvelope(await openAge(bytes, identities), SNAPSHOT_PAYLOAD_TYPE);
      const record = parseRecord(envelope.payload, snapshotSchema, 'a snapshot', SNAPSHOT_FEATURES);
      const signer = record.agent.publicKey;
      if (record.repository !== repository || !signedBy(envelope, Buffer.from(signer, 'hex')))
        throw new HoldfastError('forged', 'a snapshot of somebody else');
      return { signer, timeMs: Date.parse(record.time), sawSeq: record.keys?.seq ?? -1 };
    };
    try {
      witnesses.push(await mirror.read(key, open, { signal, quiet: true }));
    } catch (error) {
      if (!isSurvivable(error)) throw error;
    }
  }
  return witnesses;
}

/** A break in the chain of snapshots that signatures alone do not show. */
export interface ChainProblem {
  snapshot: Snapshot;
  problem: string;
}

/**
 * Checks the chain: numbers rise by one from parent to child, no number twice, and each parent that is named is there, or was forgotten on
 * purpose, and all between.
 * @param snapshots in the order of their numbers.
 * @param gone ids of snapshots that are known not to be there any more: what names one of them as its parent is no break.
 */
export function checkChain(
  snapshots: readonly Snapshot[],
  forgotten: NumberRanges = [],
  gone: ReadonlySet<string> = new Set<string>(),
): ChainProblem[] {
  const problems: ChainProblem[] = [];
  let previous: Snapshot | undefined;
  for (const snapshot of snapshots) {
    const { seq, parent } = snapshot.record;
    const isKnownGap = parent !== null && gone.has(parent) && seq !== previous?.record.seq;
    if (isKnownGap) {
      previous = snapshot;
      continue;
    }
    const isMeant = () =>
      parent !== null && hasNumbers(forgotten, Math.min(1 + (previous?.record.seq ?? -1), seq - 1), seq - 1);
    if (!previous) {
      if ((seq === 0) !== (parent === null))
        problems.push({ snapshot, problem: 'the first of a chain has number 0 and no parent, others have a parent' });
      else if (parent !== null && !isMeant())
        problems.push({ snapshot, problem: `its parent ${parent.slice(0, 8)} is missing` });
    } else if (seq === previous.record.seq) {
      problems.push({
        snapshot,
        problem: `it has the same number (${seq}) as snapshot ${previous.id.slice(0, 8)}: two copies of the agent may be running`,
      });
    } else if ((parent !== previous.id || seq !== previous.record.seq + 1) && !isMeant()) {
      problems.push({
        snapshot,
        problem: parent === null ? 'it has no parent' : `its parent ${parent.slice(0, 8)} is missing`,
      });
    }
    previous = snapshot;
  }
  return problems;
}

/**
 * Those whose parent is missing without being forgotten or given up: storage lost snapshots, or hides them. Two of one number are none.
 * @param snapshots in the order of their numbers
 * @param gone as `checkChain` has it
 */
export function chainGaps(
  snapshots: readonly Snapshot[],
  forgotten: NumberRanges,
  gone: ReadonlySet<string>,
): Snapshot[] {
  const numbers = new Map<string, number>(snapshots.map(({ id, record }) => [id, record.seq]));
  let [before, current] = [-1, -1]; // the highest number below the current one
  return snapshots.filter(({ record: { seq, parent } }) => {
    if (seq !== current) [before, current] = [current, seq];
    if (seq === 0 || parent === null) return (seq === 0) !== (parent === null);
    if (gone.has(parent) || numbers.get(parent) === seq - 1) return false;
    return !hasNumbers(forgotten, Math.min(before + 1, seq - 1), seq - 1);
  });
}
