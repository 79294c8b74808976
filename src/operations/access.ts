/** Opening a repository with the secret of somebody who restores. */
import { HoldfastError } from '../errors.ts';
import type { Mirror } from '../backend/mirror.ts';
import { recoveryKey, restoreIdentity, type Root } from '../identity/root.ts';
import { openRepository, type OpenOptions, type Repository } from '../repository/repository.ts';

/** The root from the paper, or age identities of any restore recipient. */
export type RestoreSecret = { kind: 'root'; root: Root } | { kind: 'identities'; identities: readonly string[] };

/** What is known on this host about which repository and agent are meant, from the writer key file. */
export interface ExpectedRepository {
  repository: string;
  /** Public key, hex. */
  agent: string;
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
  const known = expected ?? {};
  switch (secret.kind) {
    case 'root':
      return openRepository(
        mirror,
        {
          kind: 'restore',
          // Which of the two the repository was made with is not on the paper; both are one derivation away.
          identities: [restoreIdentity(secret.root, 'x25519'), restoreIdentity(secret.root, 'hybrid')],
          recovery: Buffer.from(recoveryKey(secret.root, 0).publicKey).toString('hex'),
          ...known,
        },
        options,
      );
    case 'identities':
      if (secret.identities.length === 0)
        throw new HoldfastError('missing_key', 'the identity file holds no age identity');
      return openRepository(mirror, { kind: 'restore', identities: secret.identities, ...known }, options);
  }
}
