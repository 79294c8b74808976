/** Opening a repository: what it is, who its agent and recipients are, and whether the caller's keys belong to it. */
import type { Clock } from '../../clock.ts';
import { HoldfastError, isHoldfastError, isSurvivable } from '../../errors.ts';
import { openAge } from '../../crypto/age.ts';
import { sshFingerprint } from '../../crypto/ssh.ts';
import { Mirror } from '../../backend/mirror.ts';
import {
  parseRecord,
  parseSignedRecord,
  REPOSITORY_TYPE,
  repositorySchema,
  secretsSchema,
  timestamp,
  type RepositoryRecord,
} from '../records/format.ts';
import { stateAt, type KeyLog, type KeyState } from './key-log.ts';
import { readKeyLog, type KeyRecordOptions } from './key-records.ts';
import { readGrants, type FileKeys } from './grants.ts';
import { checkContentName, lostIfAbsent, REPOSITORY_KEY, secretsKey } from '../records/object-name.ts';
import { readWitnesses } from '../records/snapshot.ts';

/** With which keys a repository is opened, and so what can be done. */
export type Access =
  /** The agent's host: adds snapshots, lists them, reads no pack. */
  | { kind: 'writer'; repository: string; agent?: string; chunkIdKey: Uint8Array; identity: string }
  /**
   * Somebody who restores. `recovery` is the public recovery key that the words give, `agent` a public agent key known from
   * elsewhere (both hex); with neither, the repository is taken at its word about who its agent is.
   */
  | { kind: 'restore'; identities: readonly string[]; recovery?: string; agent?: string; repository?: string };

/** What of an `Access` can be compared with what is public. */
export type PublicAccess = { recovery?: string; agent?: string; repository?: string };

export interface OpenOptions {
  clock: Clock;
  signal?: AbortSignal | undefined;
}

export interface OpenedKeys {
  repository: RepositoryRecord;
  /** The bytes of `holdfast.json`. */
  plain: Uint8Array;
  /** Every entry of the identity log, and what holds of it now. */
  log: KeyLog;
  state: KeyState;
  chunkIdKey: Uint8Array;
  /** age identities that open indexes and snapshots, and with `restore` access packs. */
  identities: readonly string[];
  /** What grants open besides. */
  fileKeys: FileKeys;
  /** The writer's age identity; it is among the secrets, so that a new host can go on. */
  writerIdentity: string;
}

/**
 * Looks at every backend of the mirror on its own; those that hold no repository, another one or a broken one are taken out
 * of the mirror with their error.
 * @throws the most telling of these errors when none is left.
 */
export async function openKeys(mirror: Mirror, access: Access, options: OpenOptions): Promise<OpenedKeys> {
  const { signal } = options;
  const identities = access.kind === 'writer' ? [access.identity] : access.identities;
  const { repository, plain, log, state } = await openIdentityLog(mirror, access, options, identities);
  const { keys } = state;
  if (access.kind === 'writer') {
    return {
      repository,
      plain,
      log,
      state,
      chunkIdKey: access.chunkIdKey,
      identities: [access.identity],
      fileKeys: new Map(),
      writerIdentity: access.identity,
    };
  }
  const openSecrets = async (bytes: Uint8Array) => {
    checkContentName(bytes, keys.secrets, secretsKey(keys.secrets));
    const opened = await openAge(bytes, access.identities).catch((error: unknown) => {
      if (!isHoldfastError(error, 'wrong_key')) throw error;
      throw new HoldfastError('wrong_key', 'this key does not open the repository', {
        hint: 'Use the recovery words of this agent, or the age identity of one of its restore recipients.',
      });
    });
    return parseRecord(opened, secretsSchema, 'the secrets object');
  };
  const secrets = await mirror.read(secretsKey(keys.secrets), openSecrets, { signal }).catch(lostIfAbsent);
  if (secrets.repository !== repository.id)
    throw new HoldfastError('forged', 'the secrets object belongs to another repository');
  return {
    repository,
    plain,
    log,
    state,
    chunkIdKey: Buffer.from(secrets.chunkIdKey, 'hex'),
    // Indexes and snapshots stored before a recipient was added are not encrypted to it, but to the writer.
    identities: [...access.identities, secrets.writer],
    fileKeys:
      access.recovery === undefined
        ? await readGrants(mirror, keys.grants ?? [], repository.id, access.identities, signal)
        : new Map(),
    writerIdentity: secrets.writer,
  };
}

/**
 * What is public about a repository: what it is, and its identity log. `identities` that open its snapshots let these bear witness against
 * entries that are dated back. Throws as `openKeys`.
 */
export async function openIdentityLog(
  mirror: Mirror,
  access: PublicAccess,
  { clock, signal }: OpenOptions,
  identities?: readonly string[],
): Promise<{ repository: RepositoryRecord; plain: Uint8Array; log: KeyLog; state: KeyState }> {
  const nowMs = clock.now();
  const { record: repository, bytes: plain } = await openRepositoryRecord(mirror, access, nowMs, signal);
  const witnesses =
    identities &&
    ((afterMs: number) => readWitnesses(mirror, { repository: repository.id, afterMs, signal }, identities));
  const log = await readKeyLog(mirror, repository, { nowMs, signal, witnesses });
  const state = stateAt(log, nowMs);
  checkAgent(access.agent, state);
  return { repository, plain, log, state };
}

async function openRepositoryRecord(
  mirror: Mirror,
  access: PublicAccess,
  nowMs: number,
  signal: AbortSignal | undefined,
): Promise<{ record: RepositoryRecord; bytes: Uint8Array }> {
  const found = await Promise.all(
    mirror.live().map(async ({ name, backend }) => {
      try {
        const bytes = await backend.get(REPOSITORY_KEY, undefined, { signal }).catch((error: unknown) => {
          if (!isHoldfastError(error, 'not_found')) throw error;
          throw new HoldfastError('no_repository', `there is no holdfast repository on backend ${name}`, {
            hint: 'Check the address and whether the storage is mounted. `holdfast init` makes a repository, `holdfast sync` fills a new backend from the others.',
          });
        });
        return { good: { name, bytes, record: checkRepository(bytes, name, access) } };
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        mirror.fail(name, error);
        return { error };
      }
    }),
  );
  const good = found.flatMap((entry) => entry.good ?? []);
  const first = good[0];
  if (!first) {
    const errors = found
      .flatMap((entry) => entry.error ?? [])
      .concat(mirror.states().flatMap((state) => state.error ?? []));
    throw nowhere(errors) ?? new HoldfastError('not_enough_backends', 'no backend was given');
  }
  const chosen = good.every(({ bytes }) => Buffer.from(bytes).equals(first.bytes))
    ? first
    : await chooseRecord(mirror, good, access, { nowMs, signal });
  for (const other of good) {
    if (!Buffer.from(chosen.bytes).equals(other.bytes)) {
      mirror.fail(other.name, otherRepository(other.name, other.record.id, chosen.record.id));
    }
  }
  return chosen;
}

interface FoundRecord {
  name: string;
  bytes: Uint8Array;
  record: RepositoryRecord;
}

/**
 * Backends that disagree about what the repository is: the first whose key records lead to what the caller knows. Anybody can sign a
 * `holdfast.json` with keys of his own; it must not put the honest backends out.
 */
async function chooseRecord(
  mirror: Mirror,
  found: readonly FoundRecord[],
  access: PublicAccess,
  options: KeyRecordOptions,
): Promise<FoundRecord> {
  const failures: HoldfastError[] = [];
  for (const candidate of found) {
    const alike = found.filter(({ bytes }) => Buffer.from(bytes).equals(candidate.bytes)).map(({ name }) => name);
    const alone = new Mirror(mirror.live().filter(({ name }) => alike.includes(name)));
    try {
      const log = await readKeyLog(alone, candidate.record, options);
      // Whose agent it ever was decides: that it has been replaced is told once one is chosen.
      if (access.agent !== undefined && !log.some(({ record }) => record.agent.publicKey === access.agent)) {
        throw new HoldfastError('wrong_key', "the repository's agent has another key than expected");
      }
      return candidate;
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      failures.push(error);
    }
  }
  throw telling(failures) ?? new HoldfastError('bug', 'nothing to choose from');
}

/** Why no backend gave a repository. One that cannot be reached may hold it: then nobody may say that there is none. */
function nowhere(errors: readonly HoldfastError[]): HoldfastError | undefined {
  const error = telling(errors);
  const away = errors.find(({ code }) => code === 'backend_unavailable');
  if (error?.code !== 'no_repository' || away === undefined) return error;
  return new HoldfastError('not_enough_backends', `${away.message}; ${error.message}`, {
    hint: `Make the backend reachable that may hold the repository. ${away.hint ?? ''}`.trim(),
    retryable: away.retryable,
    cause: new AggregateError(errors),
  });
}

/** Where several backends failed: what is wrong with a repository says more than that another one cannot be reached. */
function telling(errors: readonly HoldfastError[]): HoldfastError | undefined {
  const order = ['unsupported_format', 'wrong_key', 'forged', 'damaged', 'foreign_repository', 'no_repository'];
  const rank = (error: HoldfastError) => (order.indexOf(error.code) + order.length + 1) % (order.length + 1);
  return errors.toSorted((a, b) => rank(a) - rank(b))[0];
}

function checkRepository(bytes: Uint8Array, name: string, access: PublicAccess): RepositoryRecord {
  const { record, signedBy } = parseSignedRecord(
    bytes,
    REPOSITORY_TYPE,
    repositorySchema,
    `${REPOSITORY_KEY} on backend ${name}`,
  );
  if (access.recovery !== undefined && access.recovery !== record.recovery) {
    throw new HoldfastError(
      'wrong_key',
      `the fingerprint of these words does not match the repository on backend ${name}`,
      {
        hint: `The words are valid, but of another agent: they give recovery key ${sshFingerprint(access.recovery)}, the repository has ${sshFingerprint(record.recovery)}. Look for the paper of this agent.`,
      },
    );
  }
  if (access.repository !== undefined && access.repository !== record.id)
    throw otherRepository(name, record.id, access.repository);
  if (!signedBy(record.agent) || !signedBy(record.recovery)) {
    throw new HoldfastError('forged', `${REPOSITORY_KEY} on backend ${name} is not signed by the keys it names`, {
      hint: 'It was changed after it was written. Restore from another backend.',
    });
  }
  return record;
}

function otherRepository(name: string, got: string, expected: string): HoldfastError {
  return new HoldfastError(
    'foreign_repository',
    `backend ${name} holds another repository (${got.slice(0, 8)}…, expected ${expected.slice(0, 8)}…)`,
    {
      hint: 'Check the address in the config. Nothing was written there.',
    },
  );
}

/** @throws `wrong_key` when the agent's key is not the one that the caller knows */
function checkAgent(agent: string | undefined, { keys, generations }: KeyState): void {
  if (agent === undefined || agent === keys.agent.publicKey) return;
  const former = generations.findLast(({ publicKey }) => publicKey === agent);
  if (former === undefined) {
    throw new HoldfastError('wrong_key', "the repository's agent has another key than expected", {
      hint: "If the agent's key was exchanged, bring the backends back that are out of reach: they have the change. If these are lost for good, move the key files and the config away, and run `holdfast recover`. Else config, identity file and writer key are not of one agent.",
    });
  }
  throw new HoldfastError(
    'wrong_key',
    `the agent's key was replaced: that of this host counts until ${timestamp(former.untilMs)}`,
    {
      hint: "If this is the agent's right host, run `holdfast identity rotate` with the recovery words, which puts the new key into place; if the agent lives elsewhere now, stop it here.",
    },
  );
}

/** Whether somebody was added to those who restore since the repository was opened: packs that were stored since are not encrypted to him. */
export async function hasNewReader(
  { mirror, id, keys }: { mirror: Mirror; id: string; keys: KeyState['keys'] },
  options: OpenOptions,
): Promise<boolean> {
  const { state } = await openIdentityLog(mirror, { repository: id }, options);
  return state.keys.recipients.restore.some((one) => !keys.recipients.restore.includes(one));
}
