/** Adding to the identity log: first the objects that an entry names, then the entry itself, on every backend. */
import type { Mirror } from '../../backend/mirror.ts';
import type { Clock, Random } from '../../clock.ts';
import { sealAge } from '../../crypto/age.ts';
import { hex, sha256Hex } from '../../crypto/hash.ts';
import { HoldfastError } from '../../errors.ts';
import {
  FORMAT_VERSION,
  KEYS_TYPE,
  keysSchema,
  signRecord,
  timestamp,
  type KeyChange,
  type KeysRecord,
  type SecretsRecord,
  type Signer,
} from '../records/format.ts';
import { lastEntry, nextEntry, stateAt, type KeyLog, type KeyLogEntry } from './key-log.ts';
import { keysRecordKey, rewrappedIdentityKey, secretsKey, vaultKey } from '../records/object-name.ts';

/** What a new entry says otherwise than the one before it. */
export type KeyChanges = Partial<
  Pick<
    KeysRecord,
    | 'agent'
    | 'recovery'
    | 'recipients'
    | 'secrets'
    | 'identity'
    | 'next'
    | 'nextRecovery'
    | 'lastSnapshot'
    | 'relays'
    | 'grants'
  >
>;

/** Bytes that are ready to be stored, and their SHA-256, which an entry of the log gives. */
export interface SealedObject {
  key: string;
  id: string;
  bytes: Uint8Array;
}

export interface PlannedEntry {
  entry: KeyLogEntry;
  object: SealedObject;
}

/** What is waiting to come into force, in words. */
export function describePending({ record, inForceFromMs }: KeyLogEntry): string {
  const what = { rotate: "replace the agent's key", revoke: "revoke the agent's key", relays: 'replace the relays' };
  const { change } = record;
  const doing = change === 'rotate' || change === 'revoke' || change === 'relays' ? what[change] : 'change keys';
  return `the recovery authority has begun to ${doing} (entry ${record.seq} of the identity log), in force from ${timestamp(inForceFromMs)}`;
}

/**
 * The next entry, held against the rules: what readers would refuse is never written. Nothing is stored.
 * @throws `contested` while an entry of the recovery authority may still be objected to, `forged` when the signers may not do this
 */
export function planKeyChange(
  log: KeyLog,
  change: KeyChange,
  changes: KeyChanges,
  signers: readonly Signer[],
  clock: Clock,
): PlannedEntry {
  const last = lastEntry(log);
  const nowMs = Math.max(clock.now(), Date.parse(last.record.created));
  const { pending, keys } = stateAt(log, nowMs);
  if (pending && change !== 'object') {
    throw new HoldfastError('contested', `nothing else can be changed now: ${describePending(pending)}`, {
      hint: 'Until then the agent can object: `holdfast identity log` shows it, `holdfast identity object` cancels it.',
    });
  }
  const base = change === 'object' ? keys : last.record;
  const { recovery, nextRecovery } = last.record;
  const said: Record<string, unknown> = {
    ...base,
    recovery,
    nextRecovery,
    ...changes,
    version: FORMAT_VERSION,
    critical: [],
    seq: last.record.seq + 1,
    previous: last.id,
    created: timestamp(nowMs),
    change,
  };
  const members = Object.keys(keysSchema.shape).filter((name) => said[name] !== undefined);
  const record = keysSchema.parse(Object.fromEntries(members.map((name) => [name, said[name]])));
  const bytes = signRecord(record, KEYS_TYPE, signers);
  const id = sha256Hex(bytes);
  const keyIds = signers.map(({ publicKey }) => hex(publicKey));
  const entry = nextEntry(log, id, record, (key) => keyIds.includes(key), { nowMs, witnesses: [] });
  return { entry, object: { key: keysRecordKey(record.seq, id), id, bytes } };
}

/** Stores what the entry names, then the entry: with it the change is made. */
export async function storeKeyChange(
  mirror: Mirror,
  { entry, object }: PlannedEntry,
  named: readonly SealedObject[],
  signal: AbortSignal | undefined,
): Promise<KeyLogEntry> {
  for (const { key, bytes } of [...named, object]) await mirror.put(key, bytes, { ifAbsent: true, signal });
  return entry;
}

/** An agent's key file, wrapped anew. */
export async function sealIdentity(
  publicKeyHex: string,
  keyFile: Uint8Array,
  recipients: readonly string[],
  random: Random,
): Promise<SealedObject> {
  const { bytes } = await sealAge(keyFile, recipients, random);
  const id = sha256Hex(bytes);
  return { key: rewrappedIdentityKey(publicKeyHex, id), id, bytes };
}

/** The secrets, encrypted to these recipients. */
export async function sealSecrets(
  secrets: Omit<SecretsRecord, 'version' | 'critical'>,
  recipients: readonly string[],
  random: Random,
): Promise<SealedObject> {
  const record: SecretsRecord = { version: FORMAT_VERSION, critical: [], ...secrets };
  const { bytes } = await sealAge(Buffer.from(JSON.stringify(record)), recipients, random);
  const id = sha256Hex(bytes);
  return { key: secretsKey(id), id, bytes };
}

/** Stores the recovery words, encrypted with a passphrase (an age file), beside the repository. @returns the object's key */
export async function putVault(mirror: Mirror, file: Uint8Array, signal: AbortSignal | undefined): Promise<string> {
  const key = vaultKey(sha256Hex(file));
  await mirror.put(key, file, { ifAbsent: true, signal });
  return key;
}
