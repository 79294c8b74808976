/**
 * Grants: what a restore recipient that is added later needs to read what was stored before. Packs are encrypted to the recipients of their
 * time; a grant is a list of their file keys (age's: 16 bytes each), encrypted to the one new recipient. The packs stay as they are.
 */
import { openAge, openFileKey, sealAge } from '../../crypto/age.ts';
import { sha256Hex } from '../../crypto/hash.ts';
import { drain } from '../../drain.ts';
import { HoldfastError, isHoldfastError } from '../../errors.ts';
import type { Mirror } from '../../backend/mirror.ts';
import type { Random } from '../../clock.ts';
import { FORMAT_VERSION, grantSchema, parseRecord, type GrantRecord } from '../records/format.ts';
import { checkContentName, packKey, secretsKey, type PackId } from '../records/object-name.ts';
import type { Repository } from '../open.ts';

/** File keys of packs, for who cannot open their headers. Secret. */
export type FileKeys = ReadonlyMap<PackId, Uint8Array>;

/** So that a grant stays well below the limit of a record. */
const PACKS_IN_GRANT = 50_000;
const HEADERS_IN_FLIGHT = 8;

/**
 * Stores grants of every pack for a recipient.
 * @returns what belongs into `grants` of the key record, and the packs that no backend could give
 * @throws `wrong_key` unless the repository was opened with restore access
 */
export async function putGrants(
  repository: Repository,
  recipient: string,
  { random, signal }: { random: Random; signal?: AbortSignal | undefined },
): Promise<{ ids: string[]; lost: PackId[] }> {
  const { mirror, identities, fileKeys } = repository;
  const { index } = await repository.loadIndex(signal);
  const found: [PackId, string][] = [];
  const lost: PackId[] = [];
  await drain([...index.packs], HEADERS_IN_FLIGHT, async ({ id, payloadOffset }) => {
    const range = { offset: 0, length: payloadOffset };
    try {
      const open = (head: Uint8Array) => openFileKey(head, identities, fileKeys.get(id));
      found.push([id, Buffer.from(await mirror.read(packKey(id), open, { range, signal })).toString('base64')]);
    } catch (error) {
      if (!isHoldfastError(error, 'damaged', 'not_found', 'not_enough_backends')) throw error;
      lost.push(id);
    }
  });
  found.sort(([one], [other]) => (one < other ? -1 : 1));
  const ids: string[] = [];
  for (let at = 0; at < found.length; at += PACKS_IN_GRANT) {
    const packs = Object.fromEntries(found.slice(at, at + PACKS_IN_GRANT));
    const record: GrantRecord = { version: FORMAT_VERSION, critical: [], repository: repository.id, packs };
    const { bytes } = await sealAge(Buffer.from(JSON.stringify(record)), [recipient], random);
    const id = sha256Hex(bytes);
    await mirror.put(secretsKey(id), bytes, { ifAbsent: true, signal });
    ids.push(id);
  }
  return { ids, lost };
}

/** The file keys in the grants that these identities open. */
export async function readGrants(
  mirror: Mirror,
  ids: readonly string[],
  repository: string,
  identities: readonly string[],
  signal: AbortSignal | undefined,
): Promise<FileKeys> {
  const fileKeys = new Map<PackId, Uint8Array>();
  for (const id of ids) {
    const key = secretsKey(id);
    const open = async (bytes: Uint8Array): Promise<GrantRecord | undefined> => {
      checkContentName(bytes, id, key);
      try {
        return parseRecord(await openAge(bytes, identities), grantSchema, 'a grant');
      } catch (error) {
        if (isHoldfastError(error, 'wrong_key')) return undefined; // somebody else's
        throw error;
      }
    };
    const grant = await mirror.read(key, open, { signal }).catch((error: unknown) => {
      if (isHoldfastError(error, 'not_found', 'damaged')) return undefined; // then its packs do not open, and say so
      throw error;
    });
    if (!grant) continue;
    if (grant.repository !== repository) throw new HoldfastError('forged', 'a grant belongs to another repository');
    for (const [pack, fileKey] of Object.entries(grant.packs))
      fileKeys.set(pack as PackId, Buffer.from(fileKey, 'base64'));
  }
  return fileKeys;
}
