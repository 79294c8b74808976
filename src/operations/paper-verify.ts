/** `paper verify`: is what the paper says the key to the repository? Nothing is written. */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { openAge } from '../crypto/age.ts';
import { hex } from '../crypto/hash.ts';
import { fingerprint, parseAgentKey } from '../identity/agent-key.ts';
import type { Repository } from '../repository/repository.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from './access.ts';
import { failedBackendWarnings, openMirror, type BackendAddress } from './backends.ts';
import type { Seams } from './seams.ts';

export interface PaperVerifyOptions {
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  /** Which repository and agent the paper should be of, as far as this host knows. */
  expected?: ExpectedRepository | undefined;
}

export interface PaperVerifyResult {
  /** What is not the paper of this repository throws. */
  ok: true;
  /** Of the recovery key that the repository was made with: the one of the words, as it is printed on the paper. */
  fingerprint: string;
  agent: { handle: string; fingerprint: string };
  repository: string;
  /** Names of those that hold the repository. */
  backends: string[];
  /** Backends that could not be compared, and what the paper lacks. */
  warnings: Warning[];
}

/** @throws `wrong_key` for the paper of another agent, and what `openForRestore` throws */
export async function verifyPaper(options: PaperVerifyOptions, seams: Seams): Promise<PaperVerifyResult> {
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, options.secret, options.expected, seams);
  const { agent } = repository.keys;
  const warnings = failedBackendWarnings(mirror, { incomplete: true });
  if (options.secret.kind === 'identities') {
    warnings.push({
      code: 'identity_not_proved',
      message:
        'an age key opens the repository, but does not prove whose it is: compare the fingerprints with the paper',
    });
  }
  const { wrappedAgentKey } = options.secret;
  if (wrappedAgentKey && (await wrappedKeyOf(wrappedAgentKey, repository)) !== agent.publicKey) {
    warnings.push({
      code: 'older_agent_key',
      message: 'the agent key on the paper is an earlier one of this agent: print a new paper',
    });
  }
  return {
    ok: true,
    fingerprint: fingerprint(repository.record.recovery),
    agent: { handle: agent.handle, fingerprint: fingerprint(agent.publicKey) },
    repository: repository.id,
    backends: mirror.live().map(({ name }) => name),
    warnings,
  };
}

/** The public key (hex) of the agent key on the paper, which must be one that this agent has or had. */
async function wrappedKeyOf(wrapped: Uint8Array, repository: Repository): Promise<string> {
  const file = await openAge(wrapped, repository.identities).catch((error: unknown) => {
    if (!isHoldfastError(error, 'wrong_key', 'damaged')) throw error;
    throw otherKey('the agent key on the paper does not open with the rest of it');
  });
  const publicKey = hex(parseAgentKey(Buffer.from(file).toString('utf8')).publicKey);
  if (repository.log.some(({ record }) => record.agent.publicKey === publicKey)) return publicKey;
  throw otherKey(`the agent key on the paper (${fingerprint(publicKey)}) is not of this agent`);
}

function otherKey(problem: string): HoldfastError {
  return new HoldfastError('wrong_key', problem, {
    hint: 'Codes of two papers may have been mixed. If they are of one sheet, print a new one with `holdfast paper create`.',
  });
}
