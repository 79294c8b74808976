/** Records of verifications: what was looked at, when, and what was found. Like an annotation signed by the agent, sealed, and never changed. */
import type { Random } from '../../clock.ts';
import { sealAge } from '../../crypto/age.ts';
import { signEnvelope } from '../../crypto/dsse.ts';
import { sha256Hex } from '../../crypto/hash.ts';
import { drain } from '../../drain.ts';
import { isSurvivable } from '../../errors.ts';
import { RECORDS_IN_FLIGHT } from '../../limits.ts';
import { FORMAT_VERSION, VERIFIED_PAYLOAD_TYPE, verifiedSchema, type Signer, type VerifiedRecord } from './format.ts';
import type { Generation } from '../keys/key-log.ts';
import { parseKey, verifiedKey, type VerifiedId } from './object-name.ts';
import type { Repository, RepositoryProblem } from '../open.ts';
import { openSigned } from './snapshot.ts';

/** A record of a verification whose signature and name were checked. */
export interface Verified {
  id: VerifiedId;
  record: VerifiedRecord;
  /** The object it was read from. */
  key: string;
}

/** @throws `damaged`, `forged`, `wrong_key`, `unsupported_format` */
export async function openVerified(
  bytes: Uint8Array,
  expected: { id: VerifiedId; key: string; generations: readonly Generation[]; repository: string },
  identities: readonly string[],
): Promise<Verified> {
  const form = {
    what: `record ${expected.id.slice(0, 8)} of a verification`,
    type: VERIFIED_PAYLOAD_TYPE,
    schema: verifiedSchema,
    keyOf: ({ time }: VerifiedRecord) => verifiedKey(Date.parse(time), expected.id),
  };
  const { record } = await openSigned(bytes, expected, form, identities);
  return { id: expected.id, record, key: expected.key };
}

/** Stores the record of a verification on the live backends of the mirror. @returns its key */
export async function storeVerified(
  repository: Repository,
  found: Omit<VerifiedRecord, 'version' | 'critical' | 'repository' | 'agent'>,
  signer: Signer,
  { random, signal }: { random: Random; signal?: AbortSignal | undefined },
): Promise<string> {
  const { handle, publicKey } = repository.keys.agent;
  const { time, host, level, backends, objects, bytes, covered, damaged, newest } = found;
  const record: VerifiedRecord = {
    version: FORMAT_VERSION,
    critical: [],
    repository: repository.id,
    agent: { handle, publicKey },
    ...{ time, host, level, backends, objects, bytes, covered, damaged, newest },
  };
  const payload = Buffer.from(JSON.stringify(record));
  const id = sha256Hex(payload) as VerifiedId;
  const { restore, writer } = repository.keys.recipients;
  const envelope = signEnvelope(VERIFIED_PAYLOAD_TYPE, payload, [signer]);
  const sealed = await sealAge(envelope, [...restore, ...writer], random);
  const key = verifiedKey(Date.parse(time), id);
  await repository.mirror.put(key, sealed.bytes, { ifAbsent: true, signal });
  return key;
}

/** The records that can be opened and verified, of those that `isWanted` by their keys, oldest first, and all keys of such records that are listed. */
export async function readVerified(
  repository: Repository,
  isWanted: (key: string) => boolean,
  signal?: AbortSignal,
): Promise<{ records: Verified[]; keys: string[]; problems: RepositoryProblem[] }> {
  const keys: string[] = [];
  for await (const { key } of repository.mirror.list('verified/', { signal })) if (parseKey(key)) keys.push(key);
  const records: Verified[] = [];
  const problems: RepositoryProblem[] = [];
  await drain(keys.filter(isWanted), RECORDS_IN_FLIGHT, async (key) => {
    const name = parseKey(key);
    if (name?.kind !== 'verified') return;
    try {
      const open = (bytes: Uint8Array) => repository.checkVerified(name.id, key, bytes);
      records.push(await repository.mirror.read(key, open, { signal, quiet: true }));
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      problems.push({ key, error });
    }
  });
  records.sort((a, b) => (a.key < b.key ? -1 : 1));
  return { records, keys, problems };
}
