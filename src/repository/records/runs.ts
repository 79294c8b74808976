/**
 * Runs: who relies on packs that are there, or is about to delete some, says so before it looks. Nobody waits for a writer's record but who
 * deletes, and no clock is asked whether a run is over: only what is stored tells, or a person.
 */
import type { Clock, Random } from '../../clock.ts';
import { hex } from '../../crypto/hash.ts';
import { HoldfastError, isSurvivable } from '../../errors.ts';
import { readRecords, sealRecord, type RecordForm, type Signed } from './agent-record.ts';
import { RUN_PAYLOAD_TYPE, runSchema, timestamp, type RunRecord, type Signer, type SnapshotRecord } from './format.ts';
import { parseKey, runKey, type RunId } from './object-name.ts';
import type { Repository, RepositoryProblem } from '../open.ts';

export type Run = Signed<RunRecord, RunId>;

/** A run that has begun, with its object: a backend that joins later gets it before anything on it is relied upon. */
export interface BegunRun extends Run {
  bytes: Uint8Array;
  /** Names of the backends that were out before it began: nothing was sent there. */
  without: ReadonlySet<string>;
}

export const RUN_FORM: RecordForm<RunRecord, RunId> = {
  noun: 'run record',
  prefix: 'runs/',
  type: RUN_PAYLOAD_TYPE,
  schema: runSchema,
  keyOf: runKey,
  idIn: (key) => {
    const name = parseKey(key);
    return name?.kind === 'run' ? name.id : undefined;
  },
};

/**
 * Puts a run record on every live backend; when this resolves it is durable there, and the caller may list what is there and rely on it.
 * @param said.after earlier runs of the same state folder, whose processes are gone
 * @throws `not_enough_backends` when none holds it
 */
export async function beginRun(
  repository: Repository,
  said: {
    kind: RunRecord['kind'];
    host: string;
    after: readonly RunId[];
    /** Is told the id before the record is stored: should the process die right after, its next run can say that this one is over. */
    remember?: (id: RunId) => void;
  },
  signer: Signer,
  { clock, random, signal }: { clock: Clock; random: Random; signal?: AbortSignal | undefined },
): Promise<BegunRun> {
  const time = timestamp(clock.now());
  const nonce = hex(random.bytes(16));
  const what = { time, host: said.host, kind: said.kind, after: [...said.after], nonce };
  const run = await sealRecord(repository, RUN_FORM, what, signer, random);
  said.remember?.(run.id);
  const { mirror } = repository;
  const without = new Set(mirror.states().flatMap(({ name, state }) => (state === 'failed' ? [name] : [])));
  await mirror.hurry(mirror.put(run.key, run.bytes, { ifAbsent: true, signal }), 1);
  return { ...run, without };
}

/**
 * After an orderly end without a snapshot. Where it may not be taken away, the next run of this state folder says that it is over. So it is left when
 * what was sent may arrive yet: a backend has dropped out meanwhile, or all was cut off.
 */
export async function endRun(repository: Repository, run: BegunRun, signal?: AbortSignal): Promise<void> {
  const { mirror } = repository;
  if (signal?.aborted || mirror.states().some(({ name, state }) => state !== 'ok' && !run.without.has(name))) return;
  await Promise.all(
    mirror.live().map(async ({ backend }) => {
      try {
        await backend.delete(run.key, { signal });
      } catch (error) {
        if (!isSurvivable(error)) throw error;
      }
    }),
  );
}

/**
 * Takes out of the mirror the live backends on which the record of a run that is on is gone: somebody has said that it is over, and deletes what
 * it relies on. Where it is still there, whoever says so from now on sees first what was stored until now.
 * @throws `not_enough_backends` when that leaves none
 */
export async function checkRun(repository: Repository, { key }: Run, signal?: AbortSignal): Promise<void> {
  const { mirror } = repository;
  const problems = await Promise.all(
    mirror.live().map(async ({ name, backend }) => {
      try {
        if (await backend.head(key, { signal })) return undefined;
        throw new HoldfastError('not_enough_backends', `on backend ${name} somebody has declared this run to be over`, {
          hint: 'Chunks that it relies on may be deleted there. Run it again; use --presume-over only for runs that have ended, and copy no state folder to a second machine.',
          retryable: true,
        });
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        mirror.fail(name, error);
        return error;
      }
    }),
  );
  const [gone] = problems.flatMap((error) => (error?.code === 'not_enough_backends' ? error : []));
  if (gone && mirror.live().length === 0) throw gone;
}

/** All that any live backend lists. A run record that is gone before it could be read is over, and no problem. */
export async function readRuns(
  repository: Repository,
  signal?: AbortSignal,
): Promise<{ runs: Run[]; problems: RepositoryProblem[] }> {
  const { records, problems } = await readRecords(repository, RUN_FORM, undefined, signal);
  return { runs: records, problems: problems.filter(({ error }) => error.code !== 'not_found') };
}

/**
 * The runs that may still rely on what they saw: no snapshot names them, and no later run of their state folder.
 * @param snapshots also those in condemned records
 */
export function runsNotOver(runs: readonly Run[], snapshots: Iterable<Pick<SnapshotRecord, 'run'>>): Run[] {
  const over = new Set<RunId>(runs.flatMap(({ record }) => record.after));
  for (const { run } of snapshots) if (run !== undefined) over.add(run);
  return runs.filter(({ id }) => !over.has(id));
}
