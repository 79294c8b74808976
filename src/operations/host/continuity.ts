/** What this host remembers of the repository, held against what the backends show now. */
import type { Warning } from '../../entry.ts';
import { HoldfastError } from '../../errors.ts';
import type { Mirror } from '../../backend/mirror.ts';
import {
  describePending,
  lastEntry,
  type KeyLog,
  type ListedSnapshots,
  type Repository,
  type SnapshotId,
} from '../../repository/repository.ts';
import {
  readKnownSnapshots,
  readLocalState,
  writeKnownSnapshots,
  writeLocalState,
  type LocalFolders,
  type SeenEntry,
} from './local-state.ts';

/** So high no agent comes: a snapshot in ten milliseconds for a million years. */
const SEQ_MAX = 2 ** 52;

/**
 * The snapshot to follow. What this host remembers is held against what the backends show: storage that lost or hides the newest snapshots is
 * told, and the chain goes on from what is remembered, so that the gap stays visible.
 * @returns `secrets`: how many files it keeps apart, where that is known.
 */
export async function findParent(
  repository: Repository,
  listed: ListedSnapshots,
  folders: LocalFolders,
  { warnings, signal }: { warnings: Warning[]; signal: AbortSignal | undefined },
): Promise<{ parent: { id: SnapshotId; secrets?: number | undefined } | undefined; seq: number }> {
  const last = readLocalState(folders)?.last;
  const known = readKnownSnapshots(folders);
  const trusted = new Map(known);
  if (last) trusted.delete(last.id); // what an alarm may depend on is not taken from a cache
  const { newest, numbers, problems } = await repository.newestSnapshot(trusted, listed, signal);
  writeKnownSnapshots(folders, numbers, known);
  for (const { key, error } of problems)
    warnings.push({ code: 'snapshot_damaged', message: `${key}: ${error.message}`, incomplete: true });
  if (last && (!newest || newest.record.seq < last.seq)) {
    const what = `this host made snapshot ${last.id.slice(0, 8)} (number ${last.seq})`;
    const down = repository.mirror.states().filter(({ state }) => state === 'failed');
    warnings.push(
      down.length === 0
        ? {
            code: 'rolled_back',
            message: `${what}, but no backend shows it: storage was rolled back or has lost it`,
            incomplete: true,
          }
        : { code: 'newest_out_of_reach', message: `${what}, which is on none of the backends that can be reached now` },
    );
    return { parent: last, seq: last.seq + 1 };
  }
  // Whichever of the two comes last in the order of their names.
  const twin = last && [...numbers].find(([id, number]) => number === last.seq && id !== last.id);
  if (last && twin) {
    warnings.push({
      code: 'forked',
      message: `snapshot ${twin[0].slice(0, 8)} has the number ${last.seq} of this host's own last snapshot: another copy of the agent is writing`,
      incomplete: true,
    });
  }
  if (newest && newest.record.seq >= SEQ_MAX) {
    throw new HoldfastError('forged', `snapshot ${newest.id.slice(0, 8)} has the highest number there can be`, {
      hint: "Whoever wrote it has the agent's key. Exchange the key, and name the last snapshot before it: holdfast identity rotate --last-snapshot ID",
    });
  }
  return {
    parent: newest && { id: newest.id, secrets: newest.record.secrets?.files },
    seq: newest ? newest.record.seq + 1 : 0,
  };
}

/** In the root of a state that was restored, for the agent to read; never part of a snapshot. */
export const MARKER = 'holdfast-restored.json';

/** What a host remembers of a log: its newest entry. */
export function seen(log: KeyLog): SeenEntry {
  const { id, record, weight } = lastEntry(log);
  return { seq: record.seq, id, weight };
}

/** Remembers the log as this host has seen it, or made it. */
export function rememberLog(folders: LocalFolders, log: KeyLog): void {
  writeLocalState(folders, { keys: seen(log) });
}

/**
 * Storage that hides entries of the identity log would have a removed recipient read again, or a replaced key sign: nothing is written then.
 * @throws `forged`, or `not_enough_backends` while a backend that may have them is out of reach
 */
export function checkLogIsComplete(log: KeyLog, mirror: Mirror, folders: LocalFolders): void {
  const problem = whatLogLacks(log, folders);
  if (problem === undefined) return;
  const isAllThere = mirror.states().every(({ state }) => state === 'ok');
  throw new HoldfastError(isAllThere ? 'forged' : 'not_enough_backends', problem, {
    hint: isAllThere
      ? 'Storage was rolled back, or hides it: find out who can write there. Nothing was written.'
      : 'Bring the missing backend back first: it has changes of keys that the others lack.',
  });
}

/** @throws `revoked` */
export function checkNotRevoked({ state }: Repository): void {
  if (!state.entry.isRevoked) return;
  throw new HoldfastError('revoked', "the agent's key was revoked: nothing it signs counts", {
    hint: 'Give the agent a new key with `holdfast identity rotate` and the recovery words.',
  });
}

/** An entry in the place of the remembered one is right when it needed as many keys: two hosts may have written at the same moment. */
export function whatLogLacks(log: KeyLog, folders: LocalFolders): string | undefined {
  const known = readLocalState(folders)?.keys;
  if (!known) return undefined;
  const there = log[known.seq];
  if (there?.id === known.id || (there && there.weight >= known.weight)) return undefined;
  return `this host knows entry ${known.seq} of the identity log (${known.id.slice(0, 8)}), and no backend that can be reached shows it`;
}

/** That somebody with the recovery key is about to change the agent's keys: the agent's host is where it can be stopped. */
export function pendingChangeWarnings({ state: { pending } }: Repository): Warning[] {
  if (!pending) return [];
  return [
    {
      code: 'contested_change',
      message: `${describePending(pending)}; if nobody you trust did this: \`holdfast identity object\``,
      incomplete: true,
    },
  ];
}
