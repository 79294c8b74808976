/** `identity export`: the agent's key, or what the words give: themselves (for a password manager), the restore key, a recovery key to give out. */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { ageRecipientOf, type AgeKind } from '../crypto/age.ts';
import { isPassphraseFile, openWithPassphrase, sealWithPassphrase, WORK_FACTOR } from '../crypto/age-passphrase.ts';
import { sha256Hex } from '../crypto/hash.ts';
import {
  fingerprint,
  formatAgentKey,
  formatEncryptedOpenSsh,
  type AgentKeyFormat,
  type SigningKey,
} from '../identity/agent-key.ts';
import { formatRecoveryKey, recoveryKeyOfGeneration } from '../identity/recovery-key.ts';
import { formatWordsFile, recoveryCommitmentOf, recoveryKey, restoreIdentity, type Root } from '../identity/root.ts';
import { checkAbsent, writeSecretFile } from '../identity/secret-file.ts';
import { lastEntry, parseKey, putVault, type Repository } from '../repository/repository.ts';
import { derivedKey, openForRestore, requireRoot, type ExpectedRepository, type RestoreSecret } from './access.ts';
import { failedBackendWarnings, openMirror, type BackendAddress } from './backends.ts';
import type { Seams } from './seams.ts';

export interface ExportOptions {
  format: 'words' | 'age' | 'recovery';
  secret: RestoreSecret;
  /** What the words are proved against; without it they are taken as they are. */
  backends?: readonly BackendAddress[] | undefined;
  expected?: ExpectedRepository | undefined;
  /** Of the restore identity, where no repository tells. */
  kind: AgeKind;
  /** Encrypts what is exported, as an age file. */
  passphrase?: string | undefined;
  /** The new file. */
  output?: string | undefined;
  /** Store it on every backend too; only with a passphrase. */
  toBackends: boolean;
}

export interface ExportResult {
  format: string;
  file: string | null;
  /** Key of the object on the backends, and who holds it. */
  object: string | null;
  backends: string[];
  /** False when no repository could be reached to compare the words with. */
  proved: boolean;
  warnings: Warning[];
}

/** @throws `missing_key` without the words, `wrong_key` when they are not of the repository, `exists` */
export async function exportSecret(options: ExportOptions, seams: Seams): Promise<ExportResult> {
  const { format, output, passphrase, backends, toBackends } = options;
  const root = requireRoot(options.secret, 'an export of what derives from the recovery words');
  if (output !== undefined) await checkAbsent(output);
  await using mirror = backends && (await openMirror(backends, seams));
  const mustReach = toBackends || format === 'recovery';
  const repository =
    mirror &&
    (await openForRestore(mirror, options.secret, options.expected, seams).catch((error: unknown) => {
      const isOutOfReach = isHoldfastError(error, 'backend_unavailable', 'no_repository', 'not_enough_backends');
      if (mustReach || !isOutOfReach) throw error;
      return undefined;
    }));
  if (mustReach && !repository)
    throw new HoldfastError('usage', 'this needs the repository, and there is no config that names its backends', {
      hint: 'Run it where the config is, or name the config with --config.',
    });
  const text = Buffer.from(await textOf(format, root, repository, options.kind));
  const bytes = passphrase === undefined ? text : await sealWithPassphrase(text, passphrase, seams.random);
  if (output !== undefined) await writeSecretFile(output, bytes);
  const object = toBackends && mirror ? await putVault(mirror, bytes, seams.signal) : null;
  const warnings: Warning[] = mirror ? failedBackendWarnings(mirror) : [];
  if (!repository) {
    warnings.push({
      code: 'not_proved',
      message: 'no repository could be asked whether these words are the right ones: they were taken as they are',
    });
  }
  return {
    format,
    file: output ?? null,
    object,
    backends: object !== null && mirror ? mirror.live().map(({ name }) => name) : [],
    proved: repository !== undefined,
    warnings,
  };
}

export interface AgentKeyExportOptions {
  /** The key of the agent's host, and the agent's name, for formats that have a comment. */
  key: SigningKey;
  handle: string;
  format: AgentKeyFormat;
  /** Encrypts what is exported: OpenSSH's own way, or as an age file. */
  passphrase?: string | undefined;
  /** The new file. */
  output: string;
}

/** @throws `exists` */
export async function exportAgentKey(options: AgentKeyExportOptions, { clock, random }: Seams): Promise<ExportResult> {
  const { key, handle, format, passphrase, output } = options;
  if (passphrase !== undefined && format === 'openssh') {
    await writeSecretFile(output, Buffer.from(await formatEncryptedOpenSsh(key, handle, passphrase, random)));
  } else {
    const text = Buffer.from(formatAgentKey(key, format, handle, random, clock.now()));
    await writeSecretFile(output, passphrase === undefined ? text : await sealWithPassphrase(text, passphrase, random));
  }
  return { format, file: output, object: null, backends: [], proved: true, warnings: [] };
}

async function textOf(
  format: ExportOptions['format'],
  root: Root,
  repository: Repository | undefined,
  kind: AgeKind,
): Promise<string> {
  switch (format) {
    case 'words': {
      const recovery = `recovery key: ${fingerprint(recoveryKey(root, 0).publicKey)}`;
      if (!repository) return formatWordsFile(root, recovery);
      const { handle, publicKey } = repository.keys.agent;
      const agent = `agent key: ${fingerprint(publicKey)}`;
      return formatWordsFile(root, `agent: ${handle}`, agent, recovery, `repository: ${repository.id}`);
    }
    case 'age': {
      const hybrid = restoreIdentity(root, 'hybrid');
      const isHybrid = repository?.keys.recipients.restore.includes(await ageRecipientOf(hybrid)) ?? kind === 'hybrid';
      return `# holdfast restore key: opens every object of the repository. Delete this file when you are done.\n${isHybrid ? hybrid : restoreIdentity(root, 'x25519')}\n`;
    }
    case 'recovery': {
      if (!repository) throw new HoldfastError('bug', 'a recovery key without a repository');
      const { record } = lastEntry(repository.log);
      const authority = derivedKey(root, recoveryKey, repository.log, (key) => key === record.recovery);
      if (!authority || record.nextRecovery !== recoveryCommitmentOf(root, authority.generation + 1)) {
        throw new HoldfastError('usage', 'this repository has no recovery key that could be given out', {
          hint: 'It was made before recovery keys could be used alone; `holdfast identity rotate` changes that.',
        });
      }
      return formatRecoveryKey(recoveryKeyOfGeneration(root, authority.generation, repository.id));
    }
  }
}

/** Each guess costs about a second: somebody who fills the storage with files must not make it hours. */
const VAULTS_MAX = 16;

/**
 * The vault files that lie on the backends, opened with a passphrase: the text of the first that it opens. Nothing else of a backend is needed.
 * @throws `not_found` when there is none, `wrong_key` when the passphrase opens none
 */
export async function openStoredVault(
  backends: readonly BackendAddress[],
  passphrase: string,
  seams: Seams,
): Promise<string> {
  const { signal } = seams;
  await using mirror = await openMirror(backends, seams);
  const vaults: Uint8Array[] = [];
  let passedOver = 0;
  let damage: HoldfastError | undefined;
  for await (const { key } of mirror.list('vault/', { signal })) {
    const name = parseKey(key);
    if (name?.kind !== 'vault') continue;
    const check = (bytes: Uint8Array): Uint8Array => {
      if (sha256Hex(bytes) === name.id) return bytes;
      throw new HoldfastError('damaged', `the bytes of ${key} do not match its name`);
    };
    try {
      const file = await mirror.read(key, check, { signal });
      if (!isPassphraseFile(file)) continue;
      if (vaults.length < VAULTS_MAX) vaults.push(file);
      else passedOver++;
    } catch (error) {
      if (!isHoldfastError(error, 'damaged')) throw error;
      damage = error;
    }
  }
  for (const file of vaults) {
    try {
      return Buffer.from(await openWithPassphrase(file, passphrase, WORK_FACTOR)).toString('utf8');
    } catch (error) {
      if (!isHoldfastError(error, 'wrong_key', 'damaged', 'unsupported_format')) throw error;
    }
  }
  if (vaults.length === 0) {
    throw (
      damage ??
      new HoldfastError('not_found', 'no backend holds a vault file', {
        hint: 'Give the words, or a vault file of your own with --vault FILE.',
      })
    );
  }
  const rest = passedOver > 0 ? `, and ${passedOver} more were not tried` : '';
  throw new HoldfastError(
    'wrong_key',
    `the passphrase opens none of ${vaults.length} vault files on the backends${rest}`,
    {
      hint: 'Try the passphrase again, or fetch the right file from vault/ of a backend and give it as --vault FILE.',
    },
  );
}
