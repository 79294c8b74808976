/** Making a repository: its secrets, its first key record, and last of all `holdfast.json`. */
import { HoldfastError } from '../errors.ts';
import type { Clock, Random } from '../clock.ts';
import type { Mirror } from '../backend/mirror.ts';
import { sealAge } from '../crypto/age.ts';
import { hex, sha256Hex } from '../crypto/hash.ts';
import { DEFAULT_CHUNKER, type ChunkerParameters } from './packs/chunker.ts';
import {
  FORMAT_VERSION,
  KEYS_TYPE,
  REPOSITORY_TYPE,
  signRecord,
  timestamp,
  type KeysRecord,
  type RepositoryRecord,
  type Signer,
} from './records/format.ts';
import { sealSecrets } from './keys/key-changes.ts';
import { keysRecordKey, REPOSITORY_KEY, wrappedIdentityKey } from './records/object-name.ts';

export interface NewRepository {
  /** 32 hex digits, and 32 secret bytes: fresh ones. */
  id: string;
  chunkIdKey: Uint8Array;
  handle: string;
  /** The agent's first key. */
  agent: Signer;
  /** `derived` from the root, or `imported`: then only its wrapped form brings it back. */
  origin: 'derived' | 'imported';
  /** The recovery authority of the root, generation 0. */
  recovery: Signer;
  /** Public key (32 bytes) of the agent's next generation, of which the hash is stored; and what commits to the recovery keys to come. */
  next: Uint8Array;
  nextRecovery: string;
  /** age recipients that restore; the first is the root's. */
  restoreRecipients: readonly string[];
  writer: { identity: string; recipient: string };
  /** The agent's key as a file, to be encrypted to the restore recipients: whoever may restore can bring the agent back whole. */
  agentKeyFile: Uint8Array;
  clock: Clock;
  random: Random;
  chunker?: ChunkerParameters;
  signal?: AbortSignal | undefined;
}

/**
 * Makes a repository on every backend of the mirror. `holdfast.json` is written last: without it there is no repository, so a crash leaves
 * nothing that looks like one.
 * @throws `exists` when a backend has one already.
 */
export async function createRepository(mirror: Mirror, options: NewRepository): Promise<void> {
  const { id, chunkIdKey, agent, recovery, writer, random, signal } = options;
  for (const { name, backend } of mirror.live()) {
    if (await backend.head(REPOSITORY_KEY, { signal })) {
      throw new HoldfastError('exists', `backend ${name} already holds a repository`, {
        hint: 'Nothing was changed. Choose another address; to add a backend to an existing repository put it in the config and run `holdfast sync`.',
      });
    }
  }
  const created = timestamp(options.clock.now());
  const publicKey = hex(agent.publicKey);
  const recoveryKey = hex(recovery.publicKey);
  const put = async (key: string, bytes: Uint8Array) => {
    await mirror.put(key, bytes, { ifAbsent: true, signal });
  };

  const secrets = await sealSecrets(
    { repository: id, chunkIdKey: hex(chunkIdKey), writer: writer.identity },
    [...options.restoreRecipients, writer.recipient],
    random,
  );
  await put(secrets.key, secrets.bytes);

  const wrapped = (await sealAge(options.agentKeyFile, options.restoreRecipients, random)).bytes;
  // The one object that may replace another: an `init` that died may have left the same key, wrapped to words that nobody has.
  await mirror.put(wrappedIdentityKey(publicKey), wrapped, { signal });

  const keys: KeysRecord = {
    version: FORMAT_VERSION,
    critical: [],
    repository: id,
    seq: 0,
    previous: null,
    created,
    agent: { handle: options.handle, publicKey, origin: options.origin },
    recovery: recoveryKey,
    recipients: { restore: [...options.restoreRecipients], writer: [writer.recipient] },
    secrets: secrets.id,
    identity: sha256Hex(wrapped),
    next: sha256Hex(options.next),
    nextRecovery: options.nextRecovery,
  };
  const signedKeys = signRecord(keys, KEYS_TYPE, [agent, recovery]);
  await put(keysRecordKey(0, sha256Hex(signedKeys)), signedKeys);

  const record: RepositoryRecord = {
    version: FORMAT_VERSION,
    critical: [],
    id,
    created,
    chunker: options.chunker ?? DEFAULT_CHUNKER,
    agent: publicKey,
    recovery: recoveryKey,
  };
  const plain = signRecord(record, REPOSITORY_TYPE, [agent, recovery]);
  // 'exists' may also be said of our own bytes, when the answer to a first try was lost.
  const isOurs = async () => {
    for (const { backend } of mirror.live())
      if (!Buffer.from(await backend.get(REPOSITORY_KEY, undefined, { signal })).equals(plain)) return false;
    return true;
  };
  if ((await mirror.put(REPOSITORY_KEY, plain, { ifAbsent: true, signal })) === 'exists' && !(await isOurs())) {
    throw new HoldfastError('exists', 'another run made a repository on these backends at the same moment', {
      hint: 'Find out which agent it belongs to, or clear the backends and start again.',
    });
  }
}
