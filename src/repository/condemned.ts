/**
 * Condemned records: what is to go. From then on no writer relies on the packs that one names; the snapshots that one holds can be put back for
 * as long as it is there.
 */
import type { Random } from '../clock.ts';
import { readRecords, sealRecord, type RecordForm, type Signed } from './agent-record.ts';
import { CONDEMNED_PAYLOAD_TYPE, condemnedSchema, type CondemnedRecord, type Signer } from './format.ts';
import { condemnedKey, parseKey, type CondemnedId } from './object-name.ts';
import type { Repository, RepositoryProblem } from './open.ts';

export type Condemned = Signed<CondemnedRecord, CondemnedId>;

export const CONDEMNED_FORM: RecordForm<CondemnedRecord, CondemnedId> = {
  noun: 'condemned record',
  prefix: 'condemned/',
  type: CONDEMNED_PAYLOAD_TYPE,
  schema: condemnedSchema,
  keyOf: condemnedKey,
  idIn: (key) => {
    const name = parseKey(key);
    return name?.kind === 'condemned' ? name.id : undefined;
  },
};

/**
 * Puts a condemned record on every live backend of the mirror, durable when this resolves. At most `CONDEMNED_PACKS_MAX` packs and
 * `CONDEMNED_SNAPSHOT_BYTES_MAX` bytes of snapshot objects go into one.
 * @throws `not_enough_backends` when none holds it
 */
export async function condemn(
  repository: Repository,
  said: Pick<CondemnedRecord, 'time' | 'host' | 'packs' | 'snapshots'>,
  signer: Signer,
  { random, signal }: { random: Random; signal?: AbortSignal | undefined },
): Promise<Condemned> {
  const { time, host, packs, snapshots } = said;
  const { bytes, ...condemned } = await sealRecord(
    repository,
    CONDEMNED_FORM,
    { time, host, packs, snapshots },
    signer,
    random,
  );
  await repository.mirror.put(condemned.key, bytes, { ifAbsent: true, signal });
  return condemned;
}

/** @param keys of those that are wanted; all that any live backend lists when not given */
export async function readCondemned(
  repository: Repository,
  keys?: Iterable<string>,
  signal?: AbortSignal,
): Promise<{ condemned: Condemned[]; problems: RepositoryProblem[] }> {
  const { records, problems } = await readRecords(repository, CONDEMNED_FORM, keys, signal);
  return { condemned: records, problems };
}
