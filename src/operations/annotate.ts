/** Saying something of a snapshot afterwards: tags, a note, that what looked suspicious is right. */
import type { Warning } from '../entry.ts';
import { HoldfastError } from '../errors.ts';
import type { SigningKey } from '../identity/agent-key.ts';
import {
  annotate,
  openRepository,
  readAnnotations,
  timestamp,
  whatIsSaid,
  type Access,
  type Annotation,
  type Repository,
  type SnapshotId,
} from '../repository/repository.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from './backends.ts';
import { checkLogIsComplete, checkNotRevoked } from './host/continuity.ts';
import type { LocalFolders } from './host/local-state.ts';
import { unreadable } from './looking/open-look.ts';
import type { Seams } from './seams.ts';

export interface AnnotateOptions {
  backends: readonly BackendAddress[];
  access: Access;
  /** The agent's key. */
  signer: SigningKey;
  folders: LocalFolders;
  host: string;
  /** `latest`, an id, or the beginning of one. */
  snapshot: string;
  tags?: { add: readonly string[]; remove: readonly string[] };
  /** Replaces the note there was; empty takes it away. */
  note?: string | undefined;
  /** That the state is right as it is there: said of this snapshot and of each suspicious one before it. */
  acknowledged?: boolean;
}

export interface AnnotateResult {
  snapshot: SnapshotId;
  /** All annotations taken together. */
  tags: string[];
  note: string | null;
  /** Ids of the suspicious snapshots that were acknowledged by this. */
  acknowledged: SnapshotId[];
  warnings: Warning[];
  /** False when a backend did not get it: the next `sync` or `backup` brings it there. */
  complete: boolean;
}

/** @throws `not_found`, `usage`, `revoked`, `not_enough_backends`, … */
export async function annotateSnapshot(options: AnnotateOptions, seams: Seams): Promise<AnnotateResult> {
  const { signal, clock } = seams;
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openRepository(mirror, options.access, seams);
  checkLogIsComplete(repository.log, mirror, options.folders);
  checkNotRevoked(repository);
  const found = await repository.findSnapshot(options.snapshot, signal);
  const { annotations, problems } = await readAnnotations(repository, undefined, signal);
  const acknowledged = options.acknowledged ? await unacknowledgedUntil(repository, found, annotations, signal) : [];
  if (options.acknowledged && acknowledged.length === 0) {
    throw new HoldfastError('usage', `snapshot ${found.id.slice(0, 8)} is not suspicious, or acknowledged already`, {
      hint: '`holdfast snapshots` marks those that are suspicious.',
    });
  }
  // After all that was said before, whatever the clock says: the order of annotations decides.
  const last = Math.max(0, ...annotations.map(({ record }) => Date.parse(record.time)));
  let timeMs = Math.max(clock.now(), repository.state.entry.inForceFromMs, last + 1);
  const said = { host: options.host };
  const add = async (annotation: { snapshot: SnapshotId; acknowledged?: true; note?: string }) => {
    const { snapshot, ...rest } = annotation;
    const time = timestamp(timeMs++);
    annotations.push(await annotate(repository, { snapshot, time, ...said, ...rest }, options.signer, seams));
  };
  const tags = options.tags && { add: [...options.tags.add], remove: [...options.tags.remove] };
  const own = { ...(tags && { tags }), ...(options.note === undefined ? {} : { note: options.note }) };
  for (const id of acknowledged) if (id !== found.id) await add({ snapshot: id, acknowledged: true });
  const isNews = Object.keys(own).length > 0 || acknowledged.includes(found.id);
  if (isNews) {
    await add({ snapshot: found.id, ...own, ...(acknowledged.includes(found.id) ? { acknowledged: true } : {}) });
  }
  const { tags: now, note } = whatIsSaid(found, annotations);
  const warnings: Warning[] = [
    ...unreadable('annotation_damaged', problems),
    ...mishapWarnings(mirror),
    ...failedBackendWarnings(mirror).map((warning) => ({ ...warning, incomplete: true })),
  ];
  const complete = !warnings.some(({ incomplete }) => incomplete);
  return { snapshot: found.id, tags: now, note, acknowledged, warnings, complete };
}

async function unacknowledgedUntil(
  repository: Repository,
  { record }: { record: { seq: number } },
  annotations: readonly Annotation[],
  signal: AbortSignal | undefined,
): Promise<SnapshotId[]> {
  const { snapshots } = await repository.snapshots(signal);
  return snapshots
    .filter((one) => one.record.seq <= record.seq && (one.record.suspicious?.length ?? 0) > 0)
    .filter((one) => !whatIsSaid(one, annotations).isAcknowledged)
    .map(({ id }) => id);
}
