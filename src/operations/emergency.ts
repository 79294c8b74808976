/** `recover --emergency`: what a recovery key that was given out beforehand may do, and nothing else. */
import { HoldfastError } from '../errors.ts';
import { hex } from '../crypto/hash.ts';
import { publicKeyOf, SEED_BYTES } from '../crypto/ed25519.ts';
import { fingerprint, formatOpenSsh } from '../identity/agent-key.ts';
import type { RecoveryKey } from '../identity/recovery-key.ts';
import { checkAbsent, writeSecretFile } from '../identity/secret-file.ts';
import {
  lastEntry,
  openIdentityLog,
  planKeyChange,
  sealIdentity,
  storeKeyChange,
  type KeyChanges,
} from '../repository/repository.ts';
import { openMirror, type BackendAddress } from './backends.ts';
import { appended, checkRelays, type Appended } from './identity-log.ts';
import type { Seams } from './seams.ts';

export interface EmergencyOptions {
  backends: readonly BackendAddress[];
  recoveryKey: RecoveryKey;
  /** `rotate` makes a new agent key, written to `identityFile`. */
  action: { kind: 'rotate'; identityFile: string } | { kind: 'revoke' } | { kind: 'relays'; relays: readonly string[] };
}

export interface EmergencyResult extends Appended {
  repository: string;
  handle: string;
  action: 'rotate' | 'revoke' | 'relays';
  /** Of the new key, which holds once the entry is in force. */
  agent: { publicKey: string; fingerprint: string } | null;
  identityFile: string | null;
}

/**
 * Adds an entry signed by the recovery authority. It is in force when the contest window is over, unless the agent objects. No snapshot is
 * read: the key does not open any.
 * @throws `wrong_key` when the recovery key is not, or no longer, the authority of this repository; `contested`, `exists`
 */
export async function emergency(options: EmergencyOptions, seams: Seams): Promise<EmergencyResult> {
  const { recoveryKey, action } = options;
  if (action.kind === 'rotate') await checkAbsent(action.identityFile);
  if (action.kind === 'relays') checkRelays(action.relays);
  await using mirror = await openMirror(options.backends, seams);
  const { repository, log } = await openIdentityLog(mirror, { repository: recoveryKey.repositoryId }, seams);
  const { record } = lastEntry(log);
  if (record.recovery !== hex(recoveryKey.key.publicKey)) {
    throw new HoldfastError('wrong_key', 'this recovery key is not, or no longer, the recovery authority', {
      hint: 'Each recovery key serves once. A new one comes from the recovery words: holdfast identity export --format recovery.',
    });
  }
  if (record.nextRecovery === undefined) {
    throw new HoldfastError('wrong_key', 'this repository has committed to no next recovery key', {
      hint: 'It was made before recovery keys could be used alone: recover with the words.',
    });
  }
  const burnt: KeyChanges = { recovery: recoveryKey.next, nextRecovery: recoveryKey.afterNext };
  const common = { repository: repository.id, handle: record.agent.handle, action: action.kind };
  const { random, clock, signal } = seams;
  if (action.kind !== 'rotate') {
    const changes = action.kind === 'relays' ? { ...burnt, relays: [...action.relays] } : burnt;
    const planned = planKeyChange(log, action.kind, changes, [recoveryKey.key], clock);
    const entry = await storeKeyChange(mirror, planned, [], signal);
    return { ...common, agent: null, identityFile: null, ...appended(mirror, entry, clock.now()) };
  }
  const seed = random.bytes(SEED_BYTES);
  const key = { seed, publicKey: publicKeyOf(seed) };
  const publicKey = hex(key.publicKey);
  const keyFile = Buffer.from(formatOpenSsh(key, record.agent.handle, random));
  const identity = await sealIdentity(publicKey, keyFile, record.recipients.restore, random);
  const agent = { handle: record.agent.handle, publicKey, origin: 'imported' as const };
  const changes = { ...burnt, agent, identity: identity.id };
  const planned = planKeyChange(log, 'rotate', changes, [recoveryKey.key, key], clock);
  // Before it can be in force anywhere: an entry for a key that nobody has would end the identity.
  await writeSecretFile(action.identityFile, keyFile);
  const entry = await storeKeyChange(mirror, planned, [identity], signal);
  return {
    ...common,
    agent: { publicKey, fingerprint: fingerprint(key.publicKey) },
    identityFile: action.identityFile,
    ...appended(mirror, entry, clock.now()),
  };
}
