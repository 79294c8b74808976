/**
 * The writer key file: what an agent's host keeps to add snapshots. It names its repository and agent, and carries the
 * key of the chunk ids and the age identity that reads indexes and snapshot records. Nothing in it opens a pack.
 */
import { checkAgeIdentity } from '../crypto/age.ts';
import { PUBLIC_KEY_BYTES } from '../crypto/ed25519.ts';
import { hex, unhex } from '../crypto/hash.ts';
import { HoldfastError } from '../errors.ts';
import { fingerprint } from './agent-key.ts';

export interface WriterKey {
  /** 32 lower-case hexadecimal digits. */
  repositoryId: string;
  /** 32 bytes, Ed25519: who signs the snapshots. */
  agentPublicKey: Uint8Array;
  /** 32 bytes, secret. */
  chunkIdKey: Uint8Array;
  /** `AGE-SECRET-KEY-1…`, secret. */
  ageIdentity: string;
  /** When it was made, as ISO 8601 text (UTC). */
  created: string;
}

const VERSION_LINE = 'holdfast-writer-key v1';
const CHUNK_ID_KEY_BYTES = 32;
const REPOSITORY_ID_BYTES = 16;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z$/;

/** The file's text. */
export function formatWriterKey(key: WriterKey): string {
  return `# holdfast writer key of the repository ${key.repositoryId}
# agent: ${fingerprint(key.agentPublicKey)}
# created: ${key.created}
#
# Who has this file can add chunks and indexes to the repository, see which snapshots there are (times, counts, sizes), and test
# whether known content is stored. It cannot read what is stored, nor sign a snapshot. It can be made again from the recovery words.
# Keep it readable by its owner only (mode 600).
${VERSION_LINE}
created ${key.created}
repository ${key.repositoryId}
agent ${hex(key.agentPublicKey)}
chunk-id-key ${hex(key.chunkIdKey)}
age-identity ${key.ageIdentity}
`;
}

/**
 * Reads the file. Throws `unsupported_format` for another version, `damaged` for anything else that is not as
 * `formatWriterKey` writes it (comment and empty lines aside); no message holds a secret.
 */
export function parseWriterKey(text: string): WriterKey {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  const version = lines.shift() ?? '';
  if (version !== VERSION_LINE) {
    if (/^holdfast-writer-key v\d{1,9}$/.test(version)) {
      throw new HoldfastError(
        'unsupported_format',
        `the writer key file is of the form "${version}", and this version reads "${VERSION_LINE}"`,
        {
          hint: 'Use a newer version of holdfast.',
        },
      );
    }
    throw damaged(`it does not start with "${VERSION_LINE}"`);
  }
  const take = (name: string): string => {
    const [found, value, ...more] = (lines.shift() ?? '').split(' ');
    if (found !== name || value === undefined || more.length > 0)
      throw damaged(`expected the line "${name} …" in its place`);
    return value;
  };
  const created = take('created');
  if (!TIME.test(created)) throw damaged('"created" is not a time');
  const repositoryId = take('repository');
  unhex(repositoryId, REPOSITORY_ID_BYTES, 'the repository id in the writer key file');
  const agentPublicKey = unhex(take('agent'), PUBLIC_KEY_BYTES, 'the agent key in the writer key file');
  const chunkIdKey = unhex(take('chunk-id-key'), CHUNK_ID_KEY_BYTES, 'the chunk-id key in the writer key file');
  const ageIdentity = take('age-identity');
  checkAgeIdentity(ageIdentity, 'the age identity in the writer key file');
  if (lines.length > 0) throw damaged(`it has ${lines.length} lines too many`);
  return { repositoryId, agentPublicKey, chunkIdKey, ageIdentity, created };
}

function damaged(problem: string): HoldfastError {
  return new HoldfastError('damaged', `the writer key file is damaged: ${problem}`, {
    hint: 'Use another copy of it, or make it again from the recovery words (holdfast recover).',
  });
}
