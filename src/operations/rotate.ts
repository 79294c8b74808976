/** `identity rotate` and `identity import`: another signing key for the agent, handed over in the identity log. */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { equalBytes, hex, sha256Hex } from '../crypto/hash.ts';
import {
  fingerprint,
  formatOpenSsh,
  isEncryptedAgentKey,
  parseAgentKey,
  type SigningKey,
} from '../identity/agent-key.ts';
import { recoveryKeyOfGeneration } from '../identity/recovery-key.ts';
import { agentKey, recoveryCommitmentOf, recoveryKey, type Root } from '../identity/root.ts';
import { checkFolder, readSecretFileIfAny, replaceSecretFile } from '../identity/secret-file.ts';
import { formatWriterKey, type WriterKey } from '../identity/writer-key.ts';
import {
  lastEntry,
  planKeyChange,
  sealIdentity,
  storeKeyChange,
  type KeyChanges,
  type Repository,
} from '../repository/repository.ts';
import { agentKeyOf, derivedKey, openForRestore, requireRoot, type RestoreSecret } from './access.ts';
import { openMirror, type BackendAddress } from './backends.ts';
import { checkLogIsComplete, rememberLog } from './host/continuity.ts';
import { appended, type LogRow } from './identity-log.ts';
import type { LocalFolders } from './host/local-state.ts';
import { takeLock } from './host/lock.ts';
import type { Seams } from './seams.ts';

export interface RotateOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  /** The key to take over; without it the next one that derives from the root. */
  importedKey?: SigningKey | undefined;
  /**
   * The last snapshot of the keys until now that is to be believed: `latest` (the default), an id or the beginning of one. After a theft, the one
   * before it.
   */
  lastSnapshot?: string | undefined;
  /** Of this host: both are replaced. */
  files: { identity: string; writerKey: string };
  writerKey: WriterKey;
  folders: LocalFolders;
}

export interface RotateResult {
  handle: string;
  agent: { publicKey: string; fingerprint: string; origin: 'derived' | 'imported' };
  previous: { publicKey: string; fingerprint: string };
  entry: LogRow;
  /** True when the key had been replaced before by an earlier run, and only this host's files were left to be changed. */
  wasInterrupted: boolean;
  /** The newest snapshot of before that counts. */
  lastSnapshot: { id: string; seq: number } | null;
  files: { identity: string; writerKey: string; kept: string | null };
  backends: string[];
  warnings: Warning[];
}

/**
 * The entry in the log decides: before it nothing has changed, after it the new key holds, and running this again puts this host's files right.
 * @throws `missing_key` without the words, `contested`, `exists`, `wrong_key`, …
 */
export async function rotateIdentity(options: RotateOptions, seams: Seams): Promise<RotateResult> {
  const root = requireRoot(options.secret, 'another key for the agent');
  using _lock = takeLock(options.folders.state, 'change of keys');
  await using mirror = await openMirror(options.backends, seams);
  const { writerKey, files, folders, importedKey } = options;
  const repository = await openForRestore(mirror, options.secret, { repository: writerKey.repositoryId }, seams);
  checkLogIsComplete(repository.log, mirror, folders);
  const before = repository.keys.agent.publicKey;
  const wasInterrupted = isAlreadyDone(repository, hex(writerKey.agentPublicKey), importedKey);
  const current = wasInterrupted ? await agentKeyOf(repository, options.secret, seams.signal) : undefined;

  // What could be in the way of the files is found before anything is changed.
  const there = await readSecretFileIfAny(files.identity);
  const isToBeKept = there !== undefined && !(current && isKeyFileOf(there, current));
  const kept = isToBeKept ? `${files.identity}.replaced-${repository.log.length - (current ? 1 : 0)}` : null;
  await checkFolder(files.identity);
  if (kept !== null && there) await checkAbsentOrSame(kept, there);

  const { key, entry } = current
    ? { key: current, entry: repository.state.entry }
    : await handOver(repository, root, options, seams);
  if (!current) rememberLog(folders, [...repository.log, entry]);

  const { agent } = entry.record;
  if (!there || kept !== null) {
    const file = Buffer.from(formatOpenSsh(key, agent.handle, seams.random));
    await replaceSecretFile(files.identity, file, kept ?? undefined);
  }
  const newWriterKey = formatWriterKey({ ...writerKey, agentPublicKey: key.publicKey });
  await replaceSecretFile(files.writerKey, Buffer.from(newWriterKey));
  const previous = wasInterrupted ? hex(writerKey.agentPublicKey) : before;
  return {
    handle: agent.handle,
    agent: { publicKey: agent.publicKey, fingerprint: fingerprint(key.publicKey), origin: agent.origin },
    previous: { publicKey: previous, fingerprint: fingerprint(previous) },
    wasInterrupted,
    lastSnapshot: entry.record.lastSnapshot ?? null,
    files: { identity: files.identity, writerKey: files.writerKey, kept },
    ...appended(mirror, entry, seams.clock.now()),
  };
}

/**
 * Whether an earlier run has written the entry and was stopped before this host's files: the log has another key than the host, and it is the one
 * that was asked for. A key that a recovery key brought is none of ours: it is replaced.
 */
function isAlreadyDone({ keys, state }: Repository, known: string, importedKey: SigningKey | undefined): boolean {
  const { publicKey, origin } = keys.agent;
  if (publicKey === known || state.entry.by === 'recovery') return false;
  return importedKey ? publicKey === hex(importedKey.publicKey) : origin === 'derived';
}

/** Where the old key is kept, unless an earlier attempt has kept it. @throws `exists` */
async function checkAbsentOrSame(path: string, file: Uint8Array): Promise<void> {
  const there = await readSecretFileIfAny(path);
  if (there && !equalBytes(there, file))
    throw new HoldfastError('exists', `${path} is there already, and the old key would be kept under this name`, {
      hint: 'Nothing was changed. Move it away, and repeat.',
    });
}

function isKeyFileOf(file: Uint8Array, key: SigningKey): boolean {
  const text = Buffer.from(file).toString('utf8');
  return !isEncryptedAgentKey(text) && equalBytes(parseAgentKey(text).publicKey, key.publicKey);
}

async function handOver(repository: Repository, root: Root, options: RotateOptions, seams: Seams) {
  const { log, state, mirror } = repository;
  const { importedKey, secret } = options;
  const { record } = lastEntry(log);
  const committed = derivedKey(root, agentKey, log, (key) => sha256Hex(Buffer.from(key, 'hex')) === record.next);
  const generation = committed?.generation ?? firstUnused(root, repository);
  const key = importedKey ?? agentKey(root, generation);
  if (log.some((entry) => entry.record.agent.publicKey === hex(key.publicKey))) {
    throw new HoldfastError('usage', `the key ${fingerprint(key.publicKey)} is or was the agent's already`, {
      hint: 'A key that was replaced does not come back; give a new one.',
    });
  }
  const { handle } = record.agent;
  const keyFile = Buffer.from(formatOpenSsh(key, handle, seams.random));
  const identity = await sealIdentity(hex(key.publicKey), keyFile, record.recipients.restore, seams.random);
  const changes: KeyChanges = {
    agent: { handle, publicKey: hex(key.publicKey), origin: importedKey ? 'imported' : 'derived' },
    identity: identity.id,
  };
  const authority = derivedKey(root, recoveryKey, log, (publicKey) => publicKey === record.recovery);
  const store = async (more: KeyChanges, signers: SigningKey[]) => {
    const planned = planKeyChange(log, 'rotate', { ...changes, ...more }, signers, seams.clock);
    return { key, entry: await storeKeyChange(mirror, planned, [identity], seams.signal) };
  };
  if (state.entry.isRevoked && authority) {
    const { next, afterNext } = recoveryKeyOfGeneration(root, authority.generation, repository.id);
    return store({ recovery: next, nextRecovery: afterNext }, [authority.key, key]);
  }
  const lastSnapshot = await newestBelieved(repository, options.lastSnapshot, seams.signal);
  const next = sha256Hex(agentKey(root, importedKey ? generation : generation + 1).publicKey);
  const old = await agentKeyOf(repository, secret, seams.signal);
  const isByItself = committed !== undefined && !importedKey && record.nextRecovery !== undefined;
  if (isByItself) return store({ next, lastSnapshot }, [old, key]);
  if (!authority) {
    throw new HoldfastError('wrong_key', 'these words are not the recovery authority of this repository any more', {
      hint: '`holdfast identity log` shows when that was changed.',
    });
  }
  // A repository from before commitments were made gets them now.
  const nextRecovery = record.nextRecovery ?? recoveryCommitmentOf(root, authority.generation + 1);
  return store({ next, nextRecovery, lastSnapshot }, [old, authority.key, key]);
}

async function newestBelieved(
  repository: Repository,
  selector: string | undefined,
  signal: AbortSignal | undefined,
): Promise<{ seq: number; id: string } | null> {
  try {
    const { id, record } = await repository.findSnapshot(selector ?? 'latest', signal);
    return { seq: record.seq, id };
  } catch (error) {
    if (selector === undefined && isHoldfastError(error, 'not_found')) return null;
    throw error;
  }
}

/** For a log that commits to no next key. Generation 0 is passed over: an agent with a key of its own never had it. */
function firstUnused(root: Root, { log }: Repository): number {
  const used = new Set(log.map(({ record }) => record.agent.publicKey));
  let generation = 1;
  while (used.has(hex(agentKey(root, generation).publicKey))) generation++;
  return generation;
}
