/** Snapshots that were there and are not any more, without anybody having taken them away on purpose. */
import type { Warning } from '../../entry.ts';
import { HoldfastError } from '../../errors.ts';
import {
  chainGaps,
  forgottenIn,
  goneIn,
  hasNumbers,
  knownLosses,
  readAnnotations,
  readVerified,
  ROLLED_BACK,
  type Annotation,
  type Damage,
  type Repository,
  type ScrubResult,
  type Snapshot,
} from '../../repository/repository.ts';
import { whatLogLacks } from './continuity.ts';
import { readLocalState, type LocalFolders } from './local-state.ts';

type Seen = Pick<ScrubResult, 'known' | 'forgotten' | 'listed' | 'newest' | 'witnessed'>;

/** Whether a snapshot was taken away on purpose, by `forget` or by `repair --forget-damaged`, which is no rollback. */
function isForgotten({ id, seq }: { id: string; seq: number }, { known, forgotten }: Seen): boolean {
  return goneIn(known).has(id) || hasNumbers(forgotten, seq, seq);
}

/** Snapshots that this host, or an earlier verification, has seen and no backend shows, and what to say of each. */
function missed(found: Seen, folders: LocalFolders | undefined): { id: string; problem: string }[] {
  const missing: { id: string; problem: string }[] = [];
  const last = folders && readLocalState(folders)?.last;
  if (last && !found.listed.has(last.id) && !isForgotten(last, found)) {
    const what = `this host made snapshot ${last.id.slice(0, 8)} (number ${last.seq})`;
    missing.push({ id: last.id, problem: `${what}, and no backend shows it` });
  }
  const { witnessed, newest } = found;
  const isOlder = witnessed && (newest === null || newest.seq < witnessed.seq) && !found.listed.has(witnessed.id);
  if (isOlder && witnessed.id !== last?.id && !isForgotten(witnessed, found)) {
    const what = `a verification of ${witnessed.time} saw snapshot ${witnessed.id.slice(0, 8)} (number ${witnessed.seq})`;
    missing.push({ id: witnessed.id, problem: `${what}, and no backend shows it` });
  }
  return missing;
}

/**
 * Holds what this host, and the records of earlier verifications, have seen against what the backends show now.
 * @param isAllThere false while a backend is out of reach: what is missed may be there.
 */
export function findRollback(
  repository: Repository,
  found: ScrubResult,
  folders: LocalFolders | undefined,
  isAllThere: boolean,
): { damaged: Damage[]; warnings: Warning[] } {
  const problems = missed(found, folders).map(({ id, problem }) => ({ key: ROLLED_BACK, problem, snapshots: [id] }));
  const lacking = folders && whatLogLacks(repository.log, folders);
  if (lacking !== undefined) problems.push({ key: 'keys/', problem: lacking, snapshots: [] });
  const told = ({ problem }: { problem: string }) => `${problem}: storage was rolled back or has lost it`;
  if (!isAllThere) {
    const warnings = problems.map(({ problem }) => ({
      code: 'newest_out_of_reach',
      message: `${problem} that can be reached now`,
      incomplete: true,
    }));
    return { damaged: [], warnings };
  }
  const means = 'what was made since the storage was rolled back is not there';
  const damaged = problems.flatMap((problem) =>
    repository.mirror.live().map(({ name }) => ({
      ...{ backend: name, key: problem.key, problem: told(problem), means },
      ...{ snapshots: [...problem.snapshots], paths: [], elsewhere: [], unread: [], repaired: false },
    })),
  );
  return { damaged, warnings: [] };
}

/** What is missing of what this host remembers; one who only looks asks no more than that. */
export function missedHere(
  snapshots: readonly Snapshot[],
  annotations: readonly Annotation[],
  folders: LocalFolders | undefined,
): string | undefined {
  const listed = new Set<string>(snapshots.map(({ id }) => id));
  const said = { known: knownLosses(annotations), forgotten: forgottenIn(annotations) };
  return missed({ ...said, listed, newest: null, witnessed: null }, folders)[0]?.problem;
}

/** What `checkAllShown` has read before. */
export interface Witnesses {
  keys: Set<string>;
  newest: ScrubResult['witnessed'];
}

/**
 * What a snapshot needs that storage lost or hides looks needless: whoever deletes asks first whether all are shown that should be.
 * @param snapshots all that any live backend shows
 * @param done what was not done
 * @throws `damaged`
 */
export async function checkAllShown(
  repository: Repository,
  snapshots: readonly Snapshot[],
  witnesses: Witnesses,
  { folders, done, signal }: { folders: LocalFolders; done: string; signal: AbortSignal | undefined },
): Promise<void> {
  // After the snapshots: what is forgotten is said to be before it goes.
  const { annotations } = await readAnnotations(repository, undefined, signal);
  const { records } = await readVerified(repository, (key) => !witnesses.keys.has(key), signal);
  for (const { key, record } of records) {
    witnesses.keys.add(key);
    const { newest, time } = record;
    if (newest && newest.seq >= (witnesses.newest?.seq ?? 0)) witnesses.newest = { ...newest, time };
  }
  const inOrder = snapshots.toSorted((a, b) => a.record.seq - b.record.seq);
  const last = inOrder.at(-1);
  const [known, forgotten] = [knownLosses(annotations), forgottenIn(annotations)];
  const gone = goneIn(known);
  const problems = chainGaps(inOrder, forgotten, gone).map(({ id, record: { seq, parent } }) => {
    const what = parent === null ? 'names no parent' : `follows ${parent.slice(0, 8)}, which no backend shows`;
    return `snapshot ${id.slice(0, 8)} (number ${seq}) ${what}`;
  });
  const found = {
    ...{ known, forgotten, witnessed: witnesses.newest },
    listed: new Set<string>(snapshots.map(({ id }) => id)),
    newest: last ? { seq: last.record.seq, id: last.id } : null,
  };
  problems.push(...missed(found, folders).map(({ problem }) => problem));
  if (snapshots.length === 0 && gone.size === 0 && problems.length === 0)
    for await (const { key } of repository.mirror.list('index/', { signal })) {
      problems.push(
        `there are indexes (${key}), and not one snapshot; should there never have been one: make a backup first`,
      );
      break;
    }
  if (problems.length === 0) return;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
  const away = repository.mirror.states().filter(({ state }) => state !== 'ok');
  const names = away.map(({ name }) => name).join(', ');
  throw new HoldfastError('damaged', `snapshots are missing that nobody forgot: ${problems[0]}${more}: ${done}`, {
    hint:
      away.length > 0
        ? `They may be on what is out of reach (${names}): bring it back, and run \`holdfast sync\`. What is lost for good: \`holdfast repair --forget-damaged\`.`
        : 'Put them back: from a backend that is not in the config, or a copy of the storage, and run `holdfast sync`. `holdfast verify` says which; what is lost for good: `holdfast repair --forget-damaged`.',
  });
}
