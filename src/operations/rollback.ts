/** Snapshots that were there and are not any more, without anybody having taken them away on purpose. */
import type { Warning } from '../entry.ts';
import {
  goneIn,
  hasNumbers,
  ROLLED_BACK,
  type Damage,
  type Repository,
  type ScrubResult,
} from '../repository/repository.ts';
import { whatLogLacks } from './continuity.ts';
import { readLocalState, type LocalFolders } from './local-state.ts';

/** Whether a snapshot was taken away on purpose, by `forget` or by `repair --forget-damaged`, which is no rollback. */
function isForgotten({ id, seq }: { id: string; seq: number }, { known, forgotten }: ScrubResult): boolean {
  return goneIn(known).has(id) || hasNumbers(forgotten, seq, seq);
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
  const problems: { key: string; problem: string; snapshots: string[] }[] = [];
  const last = folders && readLocalState(folders)?.last;
  if (last && !found.listed.has(last.id) && !isForgotten(last, found)) {
    const what = `this host made snapshot ${last.id.slice(0, 8)} (number ${last.seq})`;
    problems.push({ key: ROLLED_BACK, problem: `${what}, and no backend shows it`, snapshots: [last.id] });
  }
  const { witnessed, newest } = found;
  const isOlder = witnessed && (newest === null || newest.seq < witnessed.seq) && !found.listed.has(witnessed.id);
  if (isOlder && witnessed.id !== last?.id && !isForgotten(witnessed, found)) {
    const what = `a verification of ${witnessed.time} saw snapshot ${witnessed.id.slice(0, 8)} (number ${witnessed.seq})`;
    problems.push({ key: ROLLED_BACK, problem: `${what}, and no backend shows it`, snapshots: [witnessed.id] });
  }
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
