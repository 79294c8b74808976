/**
 * The writer key file: what an agent's host keeps to add snapshots. It names its repository and agent, and carries the
 * key of the chunk ids and the age identity that reads indexes and snapshot records. Nothing in it opens a pack.
 */
import { checkAgeIdentity } from '../crypto/age.ts';
import { PUBLIC_KEY_BYTES } from '../crypto/ed25519.ts';
import { hex, unhex } from '../crypto/hash.ts';
import { fingerprint } from './agent-key.ts';
import { readKeyFile } from './key-file.ts';

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
  const { take, end, damaged } = readKeyFile(
    text,
    VERSION_LINE,
    'writer key file',
    'Use another copy of it, or make it again from the recovery words (holdfast recover).',
  );
  const created = take('created');
  if (!TIME.test(created)) throw damaged('"created" is not a time');
  const repositoryId = take('repository');
  unhex(repositoryId, REPOSITORY_ID_BYTES, 'the repository id in the writer key file');
  const agentPublicKey = unhex(take('agent'), PUBLIC_KEY_BYTES, 'the agent key in the writer key file');
  const chunkIdKey = unhex(take('chunk-id-key'), CHUNK_ID_KEY_BYTES, 'the chunk-id key in the writer key file');
  const ageIdentity = take('age-identity');
  checkAgeIdentity(ageIdentity, 'the age identity in the writer key file');
  end();
  return { repositoryId, agentPublicKey, chunkIdKey, ageIdentity, created };
}
