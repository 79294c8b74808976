/** Drills on the backends: what a drill told, signed by the agent, for whoever looks after it from elsewhere. */
import type { Random } from '../../clock.ts';
import { readRecords, sealRecord, type RecordForm, type Signed } from './agent-record.ts';
import { DRILL_RECORD_TYPE, drillSchema, type DrillRecord, type Signer } from './format.ts';
import { drillKey, parseKey, type DrillId } from './object-name.ts';
import type { Repository, RepositoryProblem } from '../open.ts';

export type StoredDrill = Signed<DrillRecord, DrillId>;

export const DRILL_FORM: RecordForm<DrillRecord, DrillId> = {
  noun: 'record of a drill',
  prefix: 'drills/',
  type: DRILL_RECORD_TYPE,
  schema: drillSchema,
  keyOf: drillKey,
  idIn: (key) => {
    const name = parseKey(key);
    return name?.kind === 'drill' ? name.id : undefined;
  },
};

/** Puts the record of a drill on every live backend. @throws `not_enough_backends` when none holds it */
export async function storeDrill(
  repository: Repository,
  said: Pick<DrillRecord, 'time' | 'host' | 'result'>,
  signer: Signer,
  { random, signal }: { random: Random; signal?: AbortSignal | undefined },
): Promise<StoredDrill> {
  const { time, host, result } = said;
  const { bytes, ...stored } = await sealRecord(repository, DRILL_FORM, { time, host, result }, signer, random);
  await repository.mirror.put(stored.key, bytes, { ifAbsent: true, signal });
  return stored;
}

/** All that any live backend lists, by time. */
export async function readStoredDrills(
  repository: Repository,
  signal?: AbortSignal,
): Promise<{ drills: StoredDrill[]; problems: RepositoryProblem[] }> {
  const { records, problems } = await readRecords(repository, DRILL_FORM, undefined, signal);
  return { drills: records, problems };
}
