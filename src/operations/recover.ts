/** `recover`: a new machine. From the words and one backend to config, identity, writer key and state. */
import { HoldfastError } from '../errors.ts';
import { equalBytes } from '../crypto/hash.ts';
import { fingerprint, formatOpenSsh, parseAgentKey, type SigningKey } from '../identity/agent-key.ts';
import { agentKey } from '../identity/root.ts';
import { writeSecretFile } from '../identity/secret-file.ts';
import { formatWriterKey } from '../identity/writer-key.ts';
import { timestamp, type Repository } from '../repository/repository.ts';
import { openForRestore, type RestoreSecret } from './access.ts';
import { openMirror, type BackendAddress } from './backends.ts';
import { writeLocalState, type LocalFolders } from './local-state.ts';
import { checkAbsent } from './init.ts';
import { restoreFrom, type RestoreResult } from './restore.ts';
import { secondsSince, type Seams } from './seams.ts';

export interface RecoverOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  snapshot: string;
  target: string;
  files: { identity: string; writerKey: string; config: string };
  /** Where what this host remembers of the repository goes. */
  foldersOf: (repository: string) => LocalFolders;
  /** Makes the new config from the one in the snapshot. */
  renderConfig: (oldConfig: string, handle: string) => string;
}

export interface RecoverResult extends RestoreResult {
  repository: string;
  agent: { handle: string; publicKey: string; fingerprint: string };
  /** True when the words prove that the key is the one whose signatures the repository carries; age identities alone cannot. */
  identity: { continuous: boolean };
  configFile: string;
  identityFile: string;
  writerKeyFile: string;
}

/**
 * The identity is proved before the state is restored; the key files come after the state and the config last, so that a config
 * that is there stands for a recovery that is complete.
 * @throws `exists` when a file or the target is in the way (nothing is changed), `wrong_key`, `forged`, …
 */
export async function recover(options: RecoverOptions, seams: Seams): Promise<RecoverResult> {
  const started = seams.clock.monotonic();
  const { files } = options;
  for (const path of [files.identity, files.writerKey, files.config]) await checkAbsent(path);
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, options.secret, undefined, seams);
  const key = await recoverAgentKey(repository, options.secret, seams);

  const restored = await restoreFrom(
    repository,
    { snapshot: options.snapshot, target: options.target, paths: [] },
    seams,
  );
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
  writeLocalState(options.foldersOf(repository.id), {
    last: { id: latest.id, seq: latest.record.seq },
    backends: mirror.live().map(({ name }) => name),
  });
  await writeSecretFile(files.config, Buffer.from(options.renderConfig(newest.record.config, handle)));
  if (options.secret.kind === 'identities') {
    restored.warnings.push({
      code: 'identity_not_proved',
      message: `the agent key ${fingerprint(key.publicKey)} was taken at the repository's word: compare it with the fingerprint on the paper`,
    });
  }
  return {
    ...restored,
    repository: repository.id,
    agent: { handle, publicKey: Buffer.from(key.publicKey).toString('hex'), fingerprint: fingerprint(key.publicKey) },
    // Age identities alone say nothing about who the agent is: then the repository is taken at its word.
    identity: { continuous: options.secret.kind === 'root' },
    configFile: files.config,
    identityFile: files.identity,
    writerKeyFile: files.writerKey,
    seconds: secondsSince(seams.clock, started),
  };
}

/** The agent's key: derived where it can be, else unwrapped; either way it must be the one that signed the repository. */
async function recoverAgentKey(repository: Repository, secret: RestoreSecret, seams: Seams): Promise<SigningKey> {
  const expected = Buffer.from(repository.keys.agent.publicKey, 'hex');
  const derived =
    secret.kind === 'root' && repository.keys.agent.origin === 'derived' ? agentKey(secret.root, 0) : undefined;
  const key = derived ?? parseAgentKey(Buffer.from(await repository.agentKeyFile(seams.signal)).toString('utf8'));
  if (!equalBytes(key.publicKey, expected)) {
    throw new HoldfastError(
      'forged',
      `the recovered key ${fingerprint(key.publicKey)} is not the agent's key ${fingerprint(expected)}`,
      {
        hint: 'Nothing was written. Try another backend with --from.',
      },
    );
  }
  return key;
}
