/** `recover`: a new machine. From the words and one backend to config, identity, writer key and state. */
import { lstat, rm, stat } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import type { Warning } from '../entry.ts';
import { isHoldfastError } from '../errors.ts';
import { hex } from '../crypto/hash.ts';
import { fingerprint, formatOpenSsh } from '../identity/agent-key.ts';
import { checkAbsent, checkFolder, writeSecretFile } from '../identity/secret-file.ts';
import { formatWriterKey } from '../identity/writer-key.ts';
import { timestamp, type Repository, type Snapshot } from '../repository/repository.ts';
import { agentKeyOf, openForRestore, type RestoreSecret } from './access.ts';
import { rawFromText } from '../raw-path.ts';
import { exactTimes } from '../state/exact-times.ts';
import { checkTarget } from './restoring/apart.ts';
import { openMirror, type BackendAddress } from './backends.ts';
import { MARKER, pendingChangeWarnings, seen } from './host/continuity.ts';
import { writeLocalState, type LocalFolders } from './host/local-state.ts';
import { restoreFrom, type RestoreResult } from './restore.ts';
import { secondsSince, type Seams } from './seams.ts';

export interface RecoverOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  snapshot: string;
  target: string;
  /** As for `restore`. */
  heal?: boolean | undefined;
  withSecrets?: boolean | undefined;
  files: { identity: string; writerKey: string; config: string };
  /** Where what this host remembers of the repository goes. */
  foldersOf: (repository: string) => LocalFolders;
  /** Makes the new config from the one in the snapshot; also the names and URLs of the backends in it. */
  renderConfig: (oldConfig: string, handle: string) => { text: string; backends: readonly BackendAddress[] };
}

export interface RecoverResult extends RestoreResult {
  repository: string;
  agent: { handle: string; publicKey: string; fingerprint: string };
  /** True when the words prove that the key is the one whose signatures the repository carries; age identities alone cannot. */
  identity: { continuous: boolean };
  configFile: string;
  identityFile: string;
  writerKeyFile: string;
  /** What tells the agent that it was restored, and from which snapshot; null when it could not be written. */
  markerFile: string | null;
}

/**
 * The identity is proved before the state is restored; the key files come after the state and the config last, so that a config
 * that is there stands for a recovery that is complete.
 * @throws `exists` when a file or the target is in the way (nothing is changed), `wrong_key`, `forged`, …
 */
export async function recover(options: RecoverOptions, seams: Seams): Promise<RecoverResult> {
  const started = seams.clock.monotonic();
  const { files } = options;
  const newFiles = [files.identity, files.writerKey, files.config];
  for (const path of newFiles) await checkAbsent(path);
  checkTarget(options.target, options.backends);
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, options.secret, undefined, seams);
  const key = await agentKeyOf(repository, options.secret, seams.signal);
  const agent = fingerprint(key.publicKey);
  await repository.findSnapshot(options.snapshot, seams.signal); // before anything is made
  for (const path of newFiles) await checkFolder(path); // not after hours of restoring

  let notMarked: Warning | undefined;
  const restored = await restoreFrom(
    repository,
    {
      snapshot: options.snapshot,
      target: options.target,
      paths: [],
      heal: options.heal,
      withSecrets: options.withSecrets,
    },
    seams,
    {
      isThere: async (base, snapshot) => {
        await writeMarker(base, snapshot, agent, seams).catch((error: unknown) => {
          if (!isHoldfastError(error)) throw error;
          const message = error.message.replaceAll(normalize(base), options.target);
          notMarked = { code: 'marker_not_written', message, incomplete: true };
        });
      },
    },
  );
  if (notMarked) restored.warnings.push(notMarked);
  const newest = await repository.findSnapshot(restored.snapshot.id, seams.signal);

  const { handle } = repository.keys.agent;
  await writeSecretFile(files.identity, Buffer.from(formatOpenSsh(key, handle, seams.random)));
  await writeSecretFile(
    files.writerKey,
    Buffer.from(
      formatWriterKey({
        repositoryId: repository.id,
        agentPublicKey: key.publicKey,
        chunkIdKey: repository.chunkIdKey,
        ageIdentity: repository.writerIdentity,
        created: timestamp(seams.clock.now()),
      }),
    ),
  );
  // From here on this host notices a roll-back, also one that happens before its first backup.
  const latest = await repository.findSnapshot('latest', seams.signal);
  const config = options.renderConfig(newest.record.config, handle);
  const live = new Set(mirror.live().map(({ name }) => name));
  const urls = options.backends.filter(({ name }) => live.has(name)).map(({ url }) => url);
  writeLocalState(options.foldersOf(repository.id), {
    last: { id: latest.id, seq: latest.record.seq },
    backends: config.backends.filter(({ url }) => urls.includes(url)).map(({ name }) => name),
    keys: seen(repository.log),
  });
  await writeSecretFile(files.config, Buffer.from(config.text));
  restored.warnings.push(...warningsAbout(repository, options.secret, agent));
  return {
    ...restored,
    repository: repository.id,
    agent: { handle, publicKey: hex(key.publicKey), fingerprint: agent },
    // Age identities alone say nothing about who the agent is: then the repository is taken at its word.
    identity: { continuous: options.secret.kind === 'root' },
    configFile: files.config,
    identityFile: files.identity,
    writerKeyFile: files.writerKey,
    markerFile: notMarked ? null : join(options.target, MARKER),
    seconds: secondsSince(seams.clock, started),
  };
}

/**
 * Tells the agent that it was restored: what it did after the snapshot (messages, counters, approvals) has happened for others and not for it.
 * Backups leave it out: it tells of this machine.
 */
export async function writeMarker(
  target: string,
  { record, id }: Snapshot,
  agent: string,
  seams: Seams,
): Promise<void> {
  const path = join(target, MARKER);
  // Whatever is there came out of the snapshot: a link must not lead to somewhere else.
  const there = await lstat(path).catch(() => undefined);
  if (there && !there.isDirectory()) await rm(path);
  const marker = {
    notice:
      'This agent was restored from a snapshot. Whatever it did after the time of the snapshot has happened, and is not in this state: treat counters, approvals and "already done" lists with care, and ask before repeating what others may have seen. Delete this file once it is taken into account.',
    snapshot: { id, seq: record.seq, time: record.time, host: record.host },
    restored: timestamp(seams.clock.now()),
    repository: record.repository,
    agent: { handle: record.agent.handle, key: agent },
  };
  const { mtimeNs } = await stat(target, { bigint: true });
  await writeSecretFile(path, Buffer.from(`${JSON.stringify(marker, undefined, 2)}\n`));
  exactTimes().ofPath(rawFromText(target), mtimeNs); // the folder's own is part of the state
}

function warningsAbout(repository: Repository, secret: RestoreSecret, agent: string): Warning[] {
  const warnings = pendingChangeWarnings(repository);
  if (repository.state.entry.isRevoked) {
    warnings.push({
      code: 'revoked',
      message: `the agent's key ${agent} was revoked: give it a new one with \`holdfast identity rotate\``,
      incomplete: true,
    });
  }
  if (secret.kind === 'identities') {
    warnings.push({
      code: 'identity_not_proved',
      message: `the agent key ${agent} was taken at the repository's word: compare it with the fingerprint on the paper`,
    });
  }
  return warnings;
}
