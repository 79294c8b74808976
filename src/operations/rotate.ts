/** `identity rotate` and `identity import`: another signing key for the agent, handed over in the identity log. */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { hex, sha256Hex } from '../crypto/hash.ts';
import { fingerprint, formatOpenSsh, parseAgentKey, type SigningKey } from '../identity/agent-key.ts';
import { recoveryKeyOfGeneration } from '../identity/recovery-key.ts';
import { agentKey, recoveryKey, type Root } from '../identity/root.ts';
import { readSecretFile, replaceSecretFile } from '../identity/secret-file.ts';
import { formatWriterKey, type WriterKey } from '../identity/writer-key.ts';
import { appendKeyChange, putWrappedIdentity, type KeyChanges, type Repository } from '../repository/repository.ts';
import { agentKeyOf, derivedKey, openForRestore, requireRoot, type RestoreSecret } from './access.ts';
import { openMirror, type BackendAddress } from './backends.ts';
import { checkLogIsComplete } from './continuity.ts';
import { appended, logRow, type LogRow } from './identity-log.ts';
import { readLocalState, writeLocalState, type LocalFolders } from './local-state.ts';
import { takeLock } from './lock.ts';
import type { Seams } from './seams.ts';

export interface RotateOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  /** The key to take over; without it the next one that derives from the root. */
  importedKey?: SigningKey | undefined;
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
  /** True when the key had been replaced before, and only this host's files were left to be changed. */
  wasInterrupted: boolean;
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
  const { writerKey, files } = options;
  const repository = await openForRestore(mirror, options.secret, { repository: writerKey.repositoryId }, seams);
  checkLogIsComplete(repository, options.folders);
  const known = hex(writerKey.agentPublicKey);
  const { keys } = repository;
  const isInterrupted = keys.agent.publicKey !== known || (await localKey(files.identity)) !== known;

  const before = repository.state.generations.findLast(({ publicKey }) => publicKey !== keys.agent.publicKey);
  const change = isInterrupted ? undefined : await handOver(repository, root, options, seams);
  const entry = change?.entry ?? repository.state.entry;
  const key = change?.key ?? (await agentKeyOf(repository, options.secret, seams.signal));
  const { agent } = entry.record;

  const kept = `${files.identity}.replaced-${entry.record.seq}`;
  const isNewHere = (await localKey(files.identity)) !== hex(key.publicKey);
  if (isNewHere)
    await replaceSecretFile(files.identity, Buffer.from(formatOpenSsh(key, agent.handle, seams.random)), kept);
  const newWriterKey = formatWriterKey({ ...writerKey, agentPublicKey: key.publicKey });
  await replaceSecretFile(files.writerKey, Buffer.from(newWriterKey));
  const memory = readLocalState(options.folders);
  writeLocalState(options.folders, {
    last: memory?.last ?? null,
    backends: memory?.backends ?? [],
    keys: entry.record.seq,
  });
  const previous = change ? keys.agent.publicKey : (before?.publicKey ?? known);
  return {
    handle: agent.handle,
    agent: { publicKey: agent.publicKey, fingerprint: fingerprint(key.publicKey), origin: agent.origin },
    previous: { publicKey: previous, fingerprint: fingerprint(Buffer.from(previous, 'hex')) },
    wasInterrupted: isInterrupted,
    files: { identity: files.identity, writerKey: files.writerKey, kept: isNewHere ? kept : null },
    ...appended(mirror, entry, seams.clock.now()),
    entry: logRow(entry, 'current'),
  };
}

/** The public key in the identity file, hex; undefined when it is not there. */
async function localKey(path: string): Promise<string | undefined> {
  try {
    return hex(parseAgentKey(Buffer.from(await readSecretFile(path)).toString('utf8')).publicKey);
  } catch (error) {
    if (isHoldfastError(error, 'missing_key')) return undefined;
    throw error;
  }
}

async function handOver(repository: Repository, root: Root, options: RotateOptions, seams: Seams) {
  const { log, state, mirror } = repository;
  const { importedKey } = options;
  const { record } = log.at(-1) ?? log[0];
  const committed = derivedKey(root, agentKey, log, (key) => sha256Hex(Buffer.from(key, 'hex')) === record.next);
  const generation = committed?.generation ?? firstUnused(root, repository);
  const key = importedKey ?? agentKey(root, generation);
  if (log.some((entry) => entry.record.agent.publicKey === hex(key.publicKey))) {
    throw new HoldfastError('usage', `the key ${fingerprint(key.publicKey)} is or was the agent's already`, {
      hint: 'A key that was replaced does not come back; give a new one.',
    });
  }
  const { handle } = record.agent;
  const identity = await putWrappedIdentity(
    mirror,
    hex(key.publicKey),
    Buffer.from(formatOpenSsh(key, handle, seams.random)),
    { recipients: record.recipients.restore, random: seams.random, signal: seams.signal },
  );
  const changes: KeyChanges = {
    agent: { handle, publicKey: hex(key.publicKey), origin: importedKey ? 'imported' : 'derived' },
    identity,
    next: sha256Hex(agentKey(root, importedKey ? generation : generation + 1).publicKey),
  };
  const authority = derivedKey(root, recoveryKey, log, (publicKey) => publicKey === record.recovery);
  const isByItself = committed !== undefined && !importedKey && !state.entry.isRevoked;
  if (isByItself) {
    const old = await agentKeyOf(repository, options.secret, seams.signal);
    const entry = await appendKeyChange(mirror, log, 'rotate', changes, [old, key], seams);
    return { entry, key };
  }
  if (!authority) {
    throw new HoldfastError('wrong_key', 'these words are not the recovery authority of this repository any more', {
      hint: 'Somebody used a recovery key: `holdfast identity log` shows when. What the log commits to next is not on this paper.',
    });
  }
  if (state.entry.isRevoked) {
    const { next, afterNext } = recoveryKeyOfGeneration(root, authority.generation, repository.id);
    const burnt = { ...changes, recovery: next, nextRecovery: afterNext };
    const entry = await appendKeyChange(mirror, log, 'rotate', burnt, [authority.key, key], seams);
    return { entry, key };
  }
  const old = await agentKeyOf(repository, options.secret, seams.signal);
  // A repository from before commitments were made gets them now.
  const nextRecovery = record.nextRecovery ?? sha256Hex(recoveryKey(root, authority.generation + 1).publicKey);
  const entry = await appendKeyChange(
    mirror,
    log,
    'rotate',
    { ...changes, nextRecovery },
    [old, authority.key, key],
    seams,
  );
  return { entry, key };
}

/** For a log that commits to no next key. Generation 0 is passed over: an agent with a key of its own never had it. */
function firstUnused(root: Root, { log }: Repository): number {
  const used = new Set(log.map(({ record }) => record.agent.publicKey));
  let generation = 1;
  while (used.has(hex(agentKey(root, generation).publicKey))) generation++;
  return generation;
}
