/** `forget --undo`: puts forgotten snapshots back, as long as what they need is there. */
import type { Warning } from '../entry.ts';
import { HoldfastError } from '../errors.ts';
import {
  openRepository,
  parseKey,
  putBack,
  readAnnotations,
  readCondemned,
  type Condemned,
  type Repository,
  type Snapshot,
} from '../repository/repository.ts';
import { failedBackendWarnings, mishapWarnings, openMirror } from './backends.ts';
import { beginHostRun } from './begin-run.ts';
import { checkLogIsComplete, checkNotRevoked } from './host/continuity.ts';
import { backendStates, type BackendState, type ForgetOptions, type SnapshotName } from './forget.ts';
import { ForgottenMarks } from './host/forgotten-marks.ts';
import { takeLock } from './host/lock.ts';
import { unreadable } from './looking/open-look.ts';
import { secondsSince, type Seams } from './seams.ts';

export type UndoOptions = Pick<ForgetOptions, 'backends' | 'access' | 'signer' | 'folders' | 'host'> & {
  /** The id of a forgotten snapshot, or of a condemned record, of which all come back; or the beginning of either. */
  undo: string;
  /** So long the listing of a backend may lag behind what was stored; it is waited for once. */
  settleMs: number;
};

export interface UndoResult {
  /** Oldest first. */
  restored: SnapshotName[];
  backends: BackendState[];
  warnings: Warning[];
  seconds: number;
  /** False when a backend did not get them: the next `sync` or `backup` brings them there. */
  complete: boolean;
}

/** A snapshot as a condemned record holds it, opened and checked. */
interface Held {
  snapshot: Snapshot;
  object: Condemned['record']['snapshots'][number];
}

/**
 * @throws `usage` for what is no id, or begins several; `not_found` when no condemned record holds it any more; `busy` while a prune is deleting;
 *   `revoked`, `not_enough_backends`, … Whatever is thrown, no snapshot is put back whose packs may be gone.
 */
export async function undoForget(options: UndoOptions, seams: Seams): Promise<UndoResult> {
  const started = seams.clock.monotonic();
  const { clock, signal, progress } = seams;
  using _lock = takeLock(options.folders.state, 'backup, sync or forget');
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openRepository(mirror, options.access, seams);
  checkLogIsComplete(repository.log, mirror, options.folders);
  checkNotRevoked(repository);
  progress({ type: 'phase', name: 'putting back' });
  // From now on no prune deletes what is found here, but for one that is at it already.
  const run = await beginHostRun(repository, { ...options, kind: 'write' }, seams);
  try {
    const { condemned, problems } = await readCondemned(repository, undefined, signal);
    const { record, snapshots: held } = await chosen(repository, condemned, options.undo, problems);
    progress({ type: 'phase', name: 'waiting until listings have settled' });
    const some = { ...record.record, snapshots: held.map(({ object }) => object) };
    await putBack(repository, { ...record, record: some }, run, { clock, settleMs: options.settleMs, signal });

    const { annotations, problems: unsaid } = await readAnnotations(repository, undefined, signal);
    const { snapshots } = await repository.snapshots(signal);
    const marks = new ForgottenMarks(repository, annotations, options, seams);
    await marks.remove(
      held.map(({ snapshot }) => snapshot),
      snapshots,
    );
    await marks.dropOld();
    const isAllBack = record.record.snapshots.length === held.length && record.record.packs.length === 0;
    if (isAllBack) await mirror.delete(record.key, { signal });
    const warnings = [
      ...unreadable('annotation_damaged', unsaid),
      ...mishapWarnings(mirror),
      ...failedBackendWarnings(mirror, { incomplete: true }),
    ];
    return {
      restored: held
        .map(
          ({
            snapshot: {
              id,
              record: { seq, time },
            },
          }) => ({ id, seq, time }),
        )
        .toSorted((a, b) => a.seq - b.seq),
      backends: backendStates(repository),
      warnings,
      seconds: secondsSince(clock, started),
      complete: !warnings.some(({ incomplete }) => incomplete),
    };
  } finally {
    await run.end();
  }
}

/** What is meant, opened and checked as if it lay where it goes. */
async function chosen(
  repository: Repository,
  condemned: readonly Condemned[],
  undo: string,
  problems: readonly { key: string; error: HoldfastError }[],
): Promise<{ record: Condemned; snapshots: Held[] }> {
  if (!/^[0-9a-f]{4,64}$/.test(undo)) {
    throw new HoldfastError('usage', `${JSON.stringify(undo)} is no id`, {
      hint: 'Give at least 4 digits of the id of a forgotten snapshot, or of the record that `forget` told.',
    });
  }
  const withSnapshots = condemned.filter(({ record }) => record.snapshots.length > 0).toReversed();
  const open = async (object: Held['object']): Promise<Held | undefined> => {
    const name = parseKey(object.key);
    if (name?.kind !== 'snapshot') return undefined;
    const bytes = Buffer.from(object.object, 'base64');
    return { snapshot: await repository.checkSnapshot(name.id, object.key, bytes), object };
  };
  const idIn = (key: string) => {
    const name = parseKey(key);
    return name?.kind === 'snapshot' ? name.id : '';
  };
  const matches = new Map<string, { record: Condemned; objects: Condemned['record']['snapshots'] }>();
  for (const record of withSnapshots) {
    if (record.id.startsWith(undo)) matches.set(record.id, { record, objects: record.record.snapshots });
    for (const one of record.record.snapshots) {
      // One that was forgotten, came back and was forgotten again is in two records, unless all that was within the hour; the newer one lasts longer.
      const id = idIn(one.key);
      if (id.startsWith(undo) && !matches.has(id)) matches.set(id, { record, objects: [one] });
    }
  }
  const [match] = matches.values();
  if (!match) {
    if (problems[0]) throw problems[0].error;
    const newest = withSnapshots[0];
    throw new HoldfastError('not_found', `nothing that was forgotten, and could be put back, begins with ${undo}`, {
      hint: newest
        ? `The last that was forgotten is in record ${newest.id.slice(0, 8)} of ${newest.record.time}.`
        : 'Nothing can be put back: nothing was forgotten, or `holdfast prune` has swept it.',
    });
  }
  if (matches.size > 1) {
    const ids = [...matches.keys()].slice(0, 5).map((id) => id.slice(0, 12));
    throw new HoldfastError('usage', `${matches.size} forgotten snapshots or records begin with ${undo}`, {
      hint: `Give more digits: ${ids.join(', ')}${matches.size > 5 ? ', …' : ''}.`,
    });
  }
  const opened = await Promise.all(match.objects.map(open));
  return { record: match.record, snapshots: opened.filter((one) => one !== undefined) };
}
