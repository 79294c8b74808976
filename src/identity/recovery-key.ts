/**
 * The recovery key file: what is given to somebody who may replace or revoke the agent's key in an emergency, and nothing else. It reads no
 * snapshot and signs none. It serves once: the entry it signs commits to the next recovery key, which only the words give.
 */
import { publicKeyOf, PUBLIC_KEY_BYTES, SEED_BYTES } from '../crypto/ed25519.ts';
import { hex, unhex } from '../crypto/hash.ts';
import { fingerprint, type SigningKey } from './agent-key.ts';
import { readKeyFile } from './key-file.ts';
import { recoveryCommitmentOf, recoveryKey, type Root } from './root.ts';

export interface RecoveryKey {
  /** 32 lower-case hexadecimal digits. */
  repositoryId: string;
  /** The recovery authority of its generation. Secret. */
  key: SigningKey;
  /** Public key of the generation that an entry signed with this key names, 64 hexadecimal digits. */
  next: string;
  /** What commits to the generations after that, 64 hexadecimal digits. */
  afterNext: string;
}

const VERSION_LINE = 'holdfast-recovery-key v1';
const REPOSITORY_ID_BYTES = 16;
const HASH_BYTES = 32;

/** The recovery key of a generation, as `formatRecoveryKey` takes it. */
export function recoveryKeyOfGeneration(root: Root, generation: number, repositoryId: string): RecoveryKey {
  return {
    repositoryId,
    key: recoveryKey(root, generation),
    next: hex(recoveryKey(root, generation + 1).publicKey),
    afterNext: recoveryCommitmentOf(root, generation + 2),
  };
}

/** The file's text. Secret. */
export function formatRecoveryKey({ repositoryId, key, next, afterNext }: RecoveryKey): string {
  return `# holdfast recovery key ${fingerprint(key.publicKey)} of the repository ${repositoryId}
#
# Who has this file can replace the agent's key, revoke it, or replace its relays, once, if the agent does not object for three days.
# It reads no backup. Keep it away from the agent's host and from the paper (mode 600).
# To use it: holdfast recover --emergency --recovery-key THIS-FILE --from URL
${VERSION_LINE}
repository ${repositoryId}
recovery-seed ${hex(key.seed)}
next-recovery ${next}
after-next ${afterNext}
`;
}

/** Reads the file. Throws `unsupported_format` for another version, `damaged` for anything else; no message holds a secret. */
export function parseRecoveryKey(text: string): RecoveryKey {
  const { take, end } = readKeyFile(
    text,
    VERSION_LINE,
    'recovery key file',
    'Use another copy of it, or make it again from the recovery words: holdfast identity export --format recovery.',
  );
  const bytes = (name: string, length: number) => unhex(take(name), length, `"${name}" in the recovery key file`);
  const repositoryId = hex(bytes('repository', REPOSITORY_ID_BYTES));
  const seed = bytes('recovery-seed', SEED_BYTES);
  const next = hex(bytes('next-recovery', PUBLIC_KEY_BYTES));
  const afterNext = hex(bytes('after-next', HASH_BYTES));
  end();
  return { repositoryId, key: { seed, publicKey: publicKeyOf(seed) }, next, afterNext };
}
