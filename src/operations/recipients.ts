/** `recipients`: who can read the backups besides the words. */
import type { Warning } from '../entry.ts';
import { HoldfastError } from '../errors.ts';
import { checkAgeRecipient } from '../crypto/age.ts';
import { hex } from '../crypto/hash.ts';
import { recoveryKey } from '../identity/root.ts';
import { formatOpenSsh } from '../identity/agent-key.ts';
import {
  openIdentityLog,
  planKeyChange,
  putGrants,
  sealIdentity,
  sealSecrets,
  storeKeyChange,
  type PublicAccess,
  type Repository,
} from '../repository/repository.ts';
import { agentKeyOf, derivedKey, openForRestore, requireRoot, type RestoreSecret } from './access.ts';
import { failedBackendWarnings, openMirror, type BackendAddress } from './backends.ts';
import { checkLogIsComplete, rememberLog } from './host/continuity.ts';
import { appended } from './identity-log.ts';
import type { LocalFolders } from './host/local-state.ts';
import { takeLock } from './host/lock.ts';
import type { Seams } from './seams.ts';

export interface Recipient {
  /** `age1…` */
  recipient: string;
  /** `words`: the key that the recovery words give. `added`: any other that restores. `writer`: hosts that make snapshots and read none. */
  kind: 'words' | 'added' | 'writer';
}

export interface RecipientsResult {
  recipients: Recipient[];
  /** Packs stored before that an added recipient cannot read, for they are lost or damaged. */
  unread: number;
  backends: string[];
  warnings: Warning[];
}

/** Needs no secret: recipients are public to who can read a backend. */
export async function listRecipients(
  { backends, access }: { backends: readonly BackendAddress[]; access: PublicAccess },
  seams: Seams,
): Promise<RecipientsResult> {
  await using mirror = await openMirror(backends, seams);
  const { state } = await openIdentityLog(mirror, access, seams);
  const warnings = failedBackendWarnings(mirror);
  return {
    recipients: rows(state.keys.recipients),
    unread: 0,
    backends: mirror.live().map(({ name }) => name),
    warnings,
  };
}

/** Each makes the header of every object longer. */
const RECIPIENTS_MAX = 32;
const GRANTS_MAX = 1024;

export interface RecipientsOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  repository: string;
  /** `age1…` */
  recipient: string;
  folders: LocalFolders;
}

/**
 * From the next backup on, packs are encrypted to the recipient too; for those stored before it is granted their file keys. It needs the words:
 * a host alone, or somebody who talks its agent into it, must not let others read. One that is there already is granted all packs again: some may have been stored
 * by a run that had begun before it was added.
 * @throws `usage` for the key of the words and for a writer, `missing_key`, `contested`
 */
export async function addRecipient(options: RecipientsOptions, seams: Seams): Promise<RecipientsResult> {
  const { recipient } = options;
  checkAgeRecipient(recipient);
  return change(options, seams, async (repository) => {
    const { recipients, grants = [] } = repository.keys;
    const isThere = recipients.restore.includes(recipient);
    if (recipients.writer.includes(recipient) || recipient === recipients.restore[0])
      throw new HoldfastError('usage', 'this recipient is there already', {
        hint: '`holdfast recipients list` shows them.',
      });
    if (!isThere && recipients.restore.length >= RECIPIENTS_MAX)
      throw new HoldfastError('usage', `at most ${RECIPIENTS_MAX} recipients can be added`, {
        hint: 'A new repository begins with none.',
      });
    const granted = await putGrants(repository, recipient, seams);
    if (grants.length + granted.ids.length > GRANTS_MAX)
      throw new HoldfastError('usage', 'too many recipients were added to this repository over time', {
        hint: 'A new repository begins with none.',
      });
    return {
      restore: isThere ? recipients.restore : [...recipients.restore, recipient],
      grants: [...grants, ...granted.ids],
      unread: granted.lost.length,
    };
  });
}

/**
 * What is stored from now on is not encrypted to it any more. What it could read before it still can.
 * @throws `not_found`; `usage` for the recipient of the words, without which nobody could recover
 */
export async function removeRecipient(options: RecipientsOptions, seams: Seams): Promise<RecipientsResult> {
  return change(options, seams, (repository) => {
    const { recipients, grants = [] } = repository.keys;
    const at = recipients.restore.indexOf(options.recipient);
    if (at < 0)
      throw new HoldfastError('not_found', 'this is none of the recipients that restore', {
        hint: '`holdfast recipients list` shows them.',
      });
    if (at === 0)
      throw new HoldfastError('usage', 'this is the key of the recovery words: without it nobody could recover', {
        hint: 'If the words were seen by others, make a new repository with new words.',
      });
    return Promise.resolve({
      restore: recipients.restore.filter((one) => one !== options.recipient),
      grants,
      unread: 0,
    });
  });
}

async function change(
  { backends, secret, repository: id, folders }: RecipientsOptions,
  seams: Seams,
  plan: (repository: Repository) => Promise<{ restore: string[]; grants: string[]; unread: number }>,
): Promise<RecipientsResult> {
  const root = requireRoot(secret, 'a change of recipients');
  using _lock = takeLock(folders.state, 'change of keys');
  await using mirror = await openMirror(backends, seams);
  const repository = await openForRestore(mirror, secret, { repository: id }, seams);
  checkLogIsComplete(repository.log, mirror, folders);
  const { keys, log } = repository;
  const agent = await agentKeyOf(repository, secret, seams.signal);
  const authority = derivedKey(root, recoveryKey, log, (publicKey) => publicKey === keys.recovery);
  if (!authority) throw new HoldfastError('wrong_key', 'these words are not the recovery authority of this repository');

  const { restore, grants, unread } = await plan(repository);
  const secrets = await sealSecrets(
    { repository: repository.id, chunkIdKey: hex(repository.chunkIdKey), writer: repository.writerIdentity },
    [...restore, ...keys.recipients.writer],
    seams.random,
  );
  const keyFile = Buffer.from(formatOpenSsh(agent, keys.agent.handle, seams.random));
  const identity = await sealIdentity(keys.agent.publicKey, keyFile, restore, seams.random);
  const recipients = { restore, writer: keys.recipients.writer };
  const changes = {
    recipients,
    secrets: secrets.id,
    identity: identity.id,
    ...(grants.length > 0 ? { grants } : {}),
  };
  const planned = planKeyChange(log, 'recipients', changes, [agent, authority.key], seams.clock);
  const entry = await storeKeyChange(mirror, planned, [secrets, identity], seams.signal);
  rememberLog(folders, [...log, entry]);
  const { backends: holders, warnings } = appended(mirror, entry, seams.clock.now());
  return { recipients: rows(recipients), unread, backends: holders, warnings };
}

function rows({ restore, writer }: { restore: readonly string[]; writer: readonly string[] }): Recipient[] {
  return [
    ...restore.map((recipient, i): Recipient => ({ recipient, kind: i === 0 ? 'words' : 'added' })),
    ...writer.map((recipient): Recipient => ({ recipient, kind: 'writer' })),
  ];
}
