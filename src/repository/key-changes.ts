/** Adding to the identity log: first the objects that an entry names, then the entry itself, on every backend. */
import type { Mirror } from '../backend/mirror.ts';
import type { Clock, Random } from '../clock.ts';
import { sealAge } from '../crypto/age.ts';
import { sha256Hex } from '../crypto/hash.ts';
import { HoldfastError } from '../errors.ts';
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
} from './format.ts';
import { nextEntry, stateAt, type KeyLog, type KeyLogEntry } from './key-log.ts';
import { keysRecordKey, rewrappedIdentityKey, secretsKey, vaultKey } from './object-name.ts';

/** What a new entry says otherwise than the one before it. */
export type KeyChanges = Partial<
  Pick<
    KeysRecord,
    'agent' | 'recovery' | 'recipients' | 'secrets' | 'identity' | 'next' | 'nextRecovery' | 'relays' | 'grants'
  >
>;

interface Storing {
  clock: Clock;
  signal?: AbortSignal | undefined;
}

/**
 * Appends an entry. It is held against the rules before anything is stored: what readers would refuse is never written.
 * @throws `contested` while an entry of the recovery authority may still be objected to, `forged` when the signers may not do this
 */
export async function appendKeyChange(
  mirror: Mirror,
  log: KeyLog,
  change: KeyChange,
  changes: KeyChanges,
  signers: readonly Signer[],
  { clock, signal }: Storing,
): Promise<KeyLogEntry> {
  const last = log.at(-1) ?? log[0];
  const nowMs = Math.max(clock.now(), Date.parse(last.record.created));
  const { pending, keys } = stateAt(log, nowMs);
  if (pending && change !== 'object') {
    throw new HoldfastError(
      'contested',
      `the recovery authority has begun to ${pending.record.change} (entry ${pending.record.seq}), which is in force from ${timestamp(pending.inForceFromMs)}`,
      {
        hint: 'Until then the agent can object, and nothing else can be changed: `holdfast identity log` shows it, `holdfast identity object` cancels it.',
      },
    );
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
  const keyIds = signers.map(({ publicKey }) => Buffer.from(publicKey).toString('hex'));
  const entry = nextEntry(log, id, record, (key) => keyIds.includes(key));
  await mirror.put(keysRecordKey(record.seq, id), bytes, { ifAbsent: true, signal });
  return entry;
}

interface Sealing {
  recipients: readonly string[];
  random: Random;
  signal?: AbortSignal | undefined;
}

/** Stores an agent's key file, wrapped anew. @returns what belongs into `identity` of the entry that names it */
export async function putWrappedIdentity(
  mirror: Mirror,
  publicKeyHex: string,
  keyFile: Uint8Array,
  { recipients, random, signal }: Sealing,
): Promise<string> {
  const { bytes } = await sealAge(keyFile, recipients, random);
  const id = sha256Hex(bytes);
  await mirror.put(rewrappedIdentityKey(publicKeyHex, id), bytes, { ifAbsent: true, signal });
  return id;
}

/** Stores the secrets, encrypted to other recipients than before. @returns what belongs into `secrets` */
export async function putSecrets(
  mirror: Mirror,
  secrets: Omit<SecretsRecord, 'version' | 'critical'>,
  { recipients, random, signal }: Sealing,
): Promise<string> {
  const record: SecretsRecord = { version: FORMAT_VERSION, critical: [], ...secrets };
  const { bytes } = await sealAge(Buffer.from(JSON.stringify(record)), recipients, random);
  const id = sha256Hex(bytes);
  await mirror.put(secretsKey(id), bytes, { ifAbsent: true, signal });
  return id;
}

/** Stores the recovery words, encrypted with a passphrase (an age file), beside the repository. @returns the object's key */
export async function putVault(mirror: Mirror, file: Uint8Array, signal: AbortSignal | undefined): Promise<string> {
  const key = vaultKey(sha256Hex(file));
  await mirror.put(key, file, { ifAbsent: true, signal });
  return key;
}
