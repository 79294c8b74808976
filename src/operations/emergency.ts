/** `recover --emergency`: what a recovery key that was given out beforehand may do, and nothing else. */
import { HoldfastError } from '../errors.ts';
import { hex } from '../crypto/hash.ts';
import { publicKeyOf, SEED_BYTES } from '../crypto/ed25519.ts';
import { fingerprint, formatOpenSsh } from '../identity/agent-key.ts';
import type { RecoveryKey } from '../identity/recovery-key.ts';
import { checkAbsent, writeSecretFile } from '../identity/secret-file.ts';
import { appendKeyChange, openIdentityLog, putWrappedIdentity, type KeyChanges } from '../repository/repository.ts';
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
  const { repository, log, state } = await openIdentityLog(mirror, { repository: recoveryKey.repositoryId }, seams);
  const { record } = log.at(-1) ?? log[0];
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
  if (action.kind !== 'rotate') {
    const changes = action.kind === 'relays' ? { ...burnt, relays: [...action.relays] } : burnt;
    const entry = await appendKeyChange(mirror, log, action.kind, changes, [recoveryKey.key], seams);
    return { ...common, agent: null, identityFile: null, ...appended(mirror, entry, seams.clock.now()) };
  }
  if (state.pending) {
    throw new HoldfastError('contested', 'a change by the recovery authority is waiting already', {
      hint: '`holdfast identity log` shows it.',
    });
  }
  const seed = seams.random.bytes(SEED_BYTES);
  const key = { seed, publicKey: publicKeyOf(seed) };
  const keyFile = Buffer.from(formatOpenSsh(key, record.agent.handle, seams.random));
  // First where it cannot be lost: an entry for a key that nobody has would end the identity.
  await writeSecretFile(action.identityFile, keyFile);
  const publicKey = hex(key.publicKey);
  const { random, signal } = seams;
  const identity = await putWrappedIdentity(mirror, publicKey, keyFile, {
    recipients: record.recipients.restore,
    random,
    signal,
  });
  const agent = { handle: record.agent.handle, publicKey, origin: 'imported' as const };
  const entry = await appendKeyChange(
    mirror,
    log,
    'rotate',
    { ...burnt, agent, identity },
    [recoveryKey.key, key],
    seams,
  );
  return {
    ...common,
    agent: { publicKey, fingerprint: fingerprint(key.publicKey) },
    identityFile: action.identityFile,
    ...appended(mirror, entry, seams.clock.now()),
  };
}
