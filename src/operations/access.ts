/** Opening a repository with the secret of somebody who restores, and the keys that this secret gives. */
import { HoldfastError, isHoldfastError } from '../errors.ts';
import type { Mirror } from '../backend/mirror.ts';
import { openAge } from '../crypto/age.ts';
import { hex } from '../crypto/hash.ts';
import { fingerprint, parseAgentKey, type SigningKey } from '../identity/agent-key.ts';
import { agentKey, recoveryKey, restoreIdentity, type Root } from '../identity/root.ts';
import { openRepository, type KeyLog, type OpenOptions, type Repository } from '../repository/repository.ts';

/**
 * The root from the paper, or age identities of any restore recipient. `wrappedAgentKey` is the agent's key file as the paper has it (an age
 * file), should no backend have it any more.
 */
export type RestoreSecret = (RootSecret | { kind: 'identities'; identities: readonly string[] }) & {
  wrappedAgentKey?: Uint8Array;
};
export interface RootSecret {
  kind: 'root';
  root: Root;
}

/** What is known on this host about which repository and agent are meant, from the writer key file. */
export interface ExpectedRepository {
  repository: string;
  /** Public key, hex. */
  agent?: string;
}

/**
 * @throws `wrong_key` when the secret does not belong to the repository; the public fingerprint is compared before anything is opened.
 */
export function openForRestore(
  mirror: Mirror,
  secret: RestoreSecret,
  expected: ExpectedRepository | undefined,
  options: OpenOptions,
): Promise<Repository> {
  switch (secret.kind) {
    case 'root':
      return openRepository(
        mirror,
        {
          kind: 'restore',
          // Which of the two the repository was made with is not on the paper; both are one derivation away.
          identities: [restoreIdentity(secret.root, 'x25519'), restoreIdentity(secret.root, 'hybrid')],
          recovery: hex(recoveryKey(secret.root, 0).publicKey),
          // Not the agent's key: the words prove whose the repository is, whatever key a host has.
          ...(expected ? { repository: expected.repository } : {}),
        },
        options,
      );
    case 'identities':
      if (secret.identities.length === 0)
        throw new HoldfastError('missing_key', 'the identity file holds no age identity');
      return openRepository(mirror, { kind: 'restore', identities: secret.identities, ...expected }, options);
  }
}

/** The root, for what only the words can do. @throws `missing_key` */
export function requireRoot(secret: RestoreSecret, what: string): Root {
  if (secret.kind === 'root') return secret.root;
  throw new HoldfastError('missing_key', `${what} needs the recovery words; an age key is not enough`, {
    hint: 'Give the words at the prompt or with --words-file, shares, or a vault file.',
  });
}

/** The agent's key that is in force: derived where it can be, else unwrapped. @throws `forged` when it is not the one the log names */
export async function agentKeyOf(
  repository: Repository,
  secret: RestoreSecret,
  signal: AbortSignal | undefined,
): Promise<SigningKey> {
  const { publicKey } = repository.keys.agent;
  const derived =
    secret.kind === 'root' ? derivedKey(secret.root, agentKey, repository.log, (key) => key === publicKey) : undefined;
  const key =
    derived?.key ?? parseAgentKey(Buffer.from(await agentKeyFile(repository, secret, signal)).toString('utf8'));
  if (hex(key.publicKey) === publicKey) return key;
  throw new HoldfastError(
    'forged',
    `the recovered key ${fingerprint(key.publicKey)} is not the agent's key ${fingerprint(publicKey)}`,
    {
      hint: 'Nothing was written. Try another backend with --from.',
    },
  );
}

async function agentKeyFile(
  repository: Repository,
  { wrappedAgentKey }: RestoreSecret,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  try {
    return await repository.agentKeyFile(signal);
  } catch (error) {
    if (!wrappedAgentKey || !isHoldfastError(error, 'damaged', 'wrong_key', 'not_found')) throw error;
    return openAge(wrappedAgentKey, repository.identities);
  }
}

/**
 * The first generation of keys derived from the root that is the one looked for (public keys in hex). Every rotation is an entry of the log,
 * so there is none beyond two more than it has.
 */
export function derivedKey(
  root: Root,
  derive: (root: Root, generation: number) => SigningKey,
  log: KeyLog,
  isIt: (publicKeyHex: string) => boolean,
): { generation: number; key: SigningKey } | undefined {
  for (let generation = 0; generation <= log.length + 1; generation++) {
    const key = derive(root, generation);
    if (isIt(hex(key.publicKey))) return { generation, key };
  }
  return undefined;
}
