/** From config and environment to what operations take: keys, folders, the restore secret. */
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hex, sha256Hex } from '../crypto/hash.ts';
import { HoldfastError } from '../errors.ts';
import { isEncryptedAgentKey, openAgentKey, parseAgentKey, type SigningKey } from '../identity/agent-key.ts';
import type { RecoverySource } from '../identity/recovery-text.ts';
import { readSecretFileIfAny, readSecretText } from '../identity/secret-file.ts';
import { parseWriterKey, type WriterKey } from '../identity/writer-key.ts';
import type { ExpectedRepository, RestoreSecret } from '../operations/access.ts';
import type { AgentChangeOptions, LogOptions } from '../operations/identity-log.ts';
import type { LocalFolders } from '../operations/host/local-state.ts';
import type { Access } from '../repository/repository.ts';
import type { Config } from './config.ts';
import {
  readPassphrase,
  readRestoreSecret,
  type PassphraseFlagValues,
  type RestoreSecretFlagValues,
  type SecretTerminal,
} from './secrets.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where holdfast keeps what it remembers of a repository on this host: below the XDG state and cache folders. */
export function localFolders(env: Environment, repository: string): LocalFolders {
  // A relative path counts as none (XDG Base Directory Specification): what is remembered must not depend on where a command is started.
  const folder = (name: string, usual: string[]): string => {
    const given = env[name];
    return join(given && isAbsolute(given) ? given : join(homedir(), ...usual), 'holdfast', repository);
  };
  return { state: folder('XDG_STATE_HOME', ['.local', 'state']), cache: folder('XDG_CACHE_HOME', ['.cache']) };
}

/** Where the breaker of a backend is kept: by its address, for several repositories may lie behind one. */
export function breakerPath(env: Environment, url: string): string {
  const [place = '', query] = url.split('?');
  // Buckets of one name at two providers are two places.
  const endpoint = new URLSearchParams(query).get('endpoint');
  const address = endpoint === null ? place : `${place}?${endpoint}`;
  return join(localFolders(env, 'breakers').state, `${sha256Hex(Buffer.from(address)).slice(0, 32)}.json`);
}

/** The folders that hold those of every repository, and what Node compiled. Never part of a snapshot: they change with each run. */
export function localRoots(env: Environment): string[] {
  const { state, cache } = localFolders(env, '');
  return [state, cache];
}

/** The keys of the agent's host. Throws `missing_key`, `insecure_permissions`, `wrong_key` when they are not of one agent. */
export async function readHostKeys(
  agent: NonNullable<Config['agent']>,
): Promise<{ writerKey: WriterKey; signer: SigningKey; access: Access }> {
  const writerKey = await readWriterKey(agent);
  const signer = await readSigner(agent);
  if (!Buffer.from(signer.publicKey).equals(writerKey.agentPublicKey)) {
    throw new HoldfastError(
      'wrong_key',
      `${agent.identity} is not the key of the agent that ${agent.writerKey} belongs to`,
      {
        hint: 'If `holdfast identity rotate` was interrupted, run it again. Else put the right identity file there, or bring it back with `holdfast recover`.',
      },
    );
  }
  return { writerKey, signer, access: accessOf(writerKey) };
}

/** The agent's key on this host. */
export async function readSigner(agent: NonNullable<Config['agent']>): Promise<SigningKey> {
  return parseAgentKey(await readSecretText(agent.identity));
}

/** The same, or undefined when it is not there, or none that serves by itself: what needs it only to sign goes on without. */
export async function readSignerIfAny(agent: NonNullable<Config['agent']>): Promise<SigningKey | undefined> {
  const file = await readSecretFileIfAny(agent.identity);
  const text = file && Buffer.from(file).toString('utf8');
  return text === undefined || isEncryptedAgentKey(text) ? undefined : parseAgentKey(text);
}

/** A private key file in any form that is accepted, with its passphrase where it needs one. */
export async function readAgentKey(
  path: string,
  flags: PassphraseFlagValues,
  signal: AbortSignal,
): Promise<{ key: SigningKey; wasEncrypted: boolean }> {
  const text = await readSecretText(path);
  if (!isEncryptedAgentKey(text)) return { key: parseAgentKey(text), wasEncrypted: false };
  const passphrase = await askPassphrase(flags, signal, { what: path, confirm: false });
  return { key: await openAgentKey(text, passphrase), wasEncrypted: true };
}

/** `readPassphrase` in the environment and on the terminal of this process. */
export function askPassphrase(
  flags: PassphraseFlagValues,
  signal: AbortSignal,
  about: { what: string; confirm: boolean },
): Promise<string> {
  return readPassphrase(flags, process.env, terminal(signal), about);
}

const terminal = (signal: AbortSignal): SecretTerminal => ({ stdin: process.stdin, stderr: process.stderr, signal });

export async function readWriterKey(agent: NonNullable<Config['agent']>): Promise<WriterKey> {
  return parseWriterKey(await readSecretText(agent.writerKey));
}

/** The same, or undefined when it is not there. */
export async function readWriterKeyIfAny(agent: NonNullable<Config['agent']>): Promise<WriterKey | undefined> {
  const file = await readSecretFileIfAny(agent.writerKey);
  return file && parseWriterKey(Buffer.from(file).toString('utf8'));
}

/** What a writer key opens. */
export function accessOf(writerKey: WriterKey): Access {
  return {
    kind: 'writer',
    repository: writerKey.repositoryId,
    agent: hex(writerKey.agentPublicKey),
    chunkIdKey: writerKey.chunkIdKey,
    identity: writerKey.ageIdentity,
  };
}

/** Which repository and agent the config means, as far as this host knows: from the writer key file, when it is there. */
export async function expectedRepository(config: Config): Promise<ExpectedRepository | undefined> {
  if (!config.agent) return undefined;
  const writerKey = await readWriterKeyIfAny(config.agent);
  return writerKey && { repository: writerKey.repositoryId, agent: hex(writerKey.agentPublicKey) };
}

/** For what the agent does alone, with the key of this host. */
export async function agentChange({
  agent,
  backends,
}: Required<Pick<Config, 'agent' | 'backends'>>): Promise<AgentChangeOptions> {
  const { writerKey, signer, access } = await readHostKeys(agent);
  return { backends, access, signer, folders: localFolders(process.env, writerKey.repositoryId) };
}

/** For a look at the identity log, whoever the agent's key is by now. */
export async function logOptions({
  agent,
  backends,
}: Required<Pick<Config, 'agent' | 'backends'>>): Promise<LogOptions> {
  const writerKey = await readWriterKey(agent);
  const { agent: _whoeverItIs, ...access } = accessOf(writerKey);
  return { backends, access, folders: localFolders(process.env, writerKey.repositoryId) };
}

/** The secret that restores, parsed, and what it was read from. */
export async function restoreSecret(
  flags: RestoreSecretFlagValues,
  signal: AbortSignal,
  env: Environment = process.env,
): Promise<RestoreSecret & { source: RecoverySource | 'vault' }> {
  const given = await readRestoreSecret(flags, env, terminal(signal));
  if (given.kind === 'identities') return { ...given, source: 'age-key' };
  const { parseRecoveryText } = await import('../identity/recovery-text.ts');
  const secret = parseRecoveryText(given.texts);
  return given.from === 'vault' ? { ...secret, source: 'vault' } : secret;
}

/** Files and folders of holdfast's own that are never part of a snapshot, wherever they lie. */
export function ownPlaces(config: Pick<Config, 'agent' | 'backends'>): string[] {
  const folders = (config.backends ?? []).flatMap(({ url }) => (url.startsWith('file:') ? [fileURLToPath(url)] : []));
  return [...(config.agent ? [config.agent.identity, config.agent.writerKey] : []), ...folders];
}
