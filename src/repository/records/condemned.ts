/**
 * Condemned records: what is to go. From then on no writer relies on the packs that one names; the snapshots that one holds can be put back for
 * as long as it is there.
 */
import type { Clock, Random } from '../../clock.ts';
import { HoldfastError } from '../../errors.ts';
import { readRecords, sealRecord, type RecordForm, type Signed } from './agent-record.ts';
import { CONDEMNED_PAYLOAD_TYPE, condemnedSchema, type CondemnedRecord, type Signer } from './format.ts';
import { condemnedKey, parseKey, type CondemnedId } from './object-name.ts';
import type { Repository, RepositoryProblem } from '../open.ts';
import { readRuns, runsNotOver, type Run } from './runs.ts';

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

/**
 * Puts back the snapshots that a condemned record holds. The caller's run is on record: who deletes from now on waits for it. So it is enough to see that
 * nobody is deleting already, and that the record, without which nothing holds what they need, is still there.
 * @param run of kind `write`, begun by the caller
 * @param settleMs how long listings may lag, and that twice
 * @throws `busy` while somebody deletes; `not_found` when the record is not on every live backend
 */
export async function putBack(
  repository: Repository,
  { key, record }: Condemned,
  run: Run,
  { clock, settleMs, signal }: { clock: Clock; settleMs: number; signal?: AbortSignal | undefined },
): Promise<void> {
  const { mirror } = repository;
  await clock.sleep(settleMs, signal);
  const { runs, problems } = await readRuns(repository, signal);
  const sweeping = runsNotOver(runs, []).find((one) => one.record.kind === 'sweep' && one.id !== run.id);
  if (sweeping || problems.length > 0) {
    const whose = sweeping ? `on host ${sweeping.record.host} since ${sweeping.record.time}` : 'as it seems';
    throw new HoldfastError('busy', `a prune is under way, ${whose}, and may be deleting what the snapshots need`, {
      hint: 'Nothing was put back. Repeat it when the prune is done; one that was cut off is ended by the next prune on that host.',
      retryable: true,
    });
  }
  const lacking: string[] = [];
  for (const { name, backend } of mirror.live()) if (!(await backend.head(key, { signal }))) lacking.push(name);
  if (lacking.length > 0) throw notEverywhere(key, lacking, lacking.length < mirror.live().length);
  for (const snapshot of record.snapshots)
    await mirror.put(snapshot.key, Buffer.from(snapshot.object, 'base64'), { ifAbsent: true, signal });
}

/** @param isElsewhere that a backend has the record still: one that lacks it may have been away when the snapshots were forgotten */
function notEverywhere(key: string, lacking: readonly string[], isElsewhere: boolean): HoldfastError {
  const where = `backend${lacking.length > 1 ? 's' : ''} ${lacking.join(', ')}`;
  if (isElsewhere) {
    return new HoldfastError('not_found', `${key} is not on ${where}, only on others`, {
      hint: 'Nothing was put back. Run `holdfast sync` first, which copies it, and brings back what a backend that was away still has; then repeat it if the snapshot is not there.',
    });
  }
  return new HoldfastError('not_found', `${key} is on no backend any more: its grace was over`, {
    hint: 'Nothing was put back: what the snapshots need may be gone.',
  });
}
