/** `verify`: is what the backends hold what was written? */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import {
  heal,
  openRepository,
  REPOSITORY_KEY,
  scrub,
  type Access,
  type Damage,
  type HealResult,
  type Repository,
  type ScrubLevel,
} from '../repository/repository.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from './access.ts';
import { aboutBackend, openMirror, type BackendAddress } from './backends.ts';
import { secondsSince, type Seams } from './seams.ts';

export interface VerifyOptions {
  backends: readonly BackendAddress[];
  /** The writer's key serves for `listing` and `objects`; `chunks` needs the restore key, with which damage is also told as paths. */
  access:
    | { kind: 'writer'; access: Access }
    | { kind: 'restore'; secret: RestoreSecret; expected?: ExpectedRepository | undefined };
  level: ScrubLevel;
  /** Store again what is damaged or missing on a backend and whole on another. */
  repair?: boolean | undefined;
}

export interface VerifyResult {
  level: ScrubLevel;
  objects: number;
  bytes: number;
  damaged: Damage[];
  /** Backends that could not be looked at. */
  warnings: Warning[];
  seconds: number;
  complete: boolean;
}

export async function verify(options: VerifyOptions, seams: Seams): Promise<VerifyResult> {
  const started = seams.clock.monotonic();
  await using mirror = await openMirror(options.backends, seams);
  const { access } = options;
  const repository =
    access.kind === 'writer'
      ? await openRepository(mirror, access.access, seams)
      : await openForRestore(mirror, access.secret, access.expected, seams);
  seams.progress({ type: 'phase', name: 'verifying' });
  const { objects, bytes, damaged, unread } = await scrub(repository, {
    level: options.level,
    signal: seams.signal,
    onProgress: (done, total) => seams.progress({ type: 'progress', phase: 'verifying', done, total, unit: 'objects' }),
  });
  const warnings: Warning[] = unread.map(({ backend, key, problem }) => ({
    code: 'not_read',
    message: `not verified: ${key} on backend ${backend}: ${problem}`,
    incomplete: true,
  }));
  if (options.repair) {
    // An index that is whole again may show packs that are missing: until nothing is found, or nothing more can be done.
    for (let todo = damaged.filter((one) => !one.repaired); todo.length > 0;) {
      const failed = await repair(repository, todo, seams.signal);
      const left = await scrub(repository, { level: options.level, signal: seams.signal });
      const isLeft = (one: Damage) =>
        left.damaged.some(({ backend, key }) => backend === one.backend && key === one.key);
      for (const one of damaged) one.repaired = !isLeft(one);
      const isNew = (one: Damage) => !damaged.some(({ backend, key }) => backend === one.backend && key === one.key);
      todo = left.damaged.filter(isNew);
      damaged.push(...todo);
      for (const { backend, key, error } of failed)
        warnings.push({
          code: 'not_healed',
          message: `${key} on backend ${backend} could not be repaired: ${error.message}`,
        });
    }
  }
  for (const { name, error } of mirror.states()) {
    if (!error) continue;
    // What it is is damaged: none of it was looked at, and none of it serves.
    if (isHoldfastError(error, 'damaged', 'forged')) {
      damaged.push({
        backend: name,
        key: REPOSITORY_KEY,
        problem: error.message,
        snapshots: [],
        paths: [],
        repaired: false,
      });
    }
    const message = `not verified: ${aboutBackend(name, error)}`;
    warnings.push({ code: 'backend_failed', message, incomplete: true });
  }
  return {
    level: options.level,
    objects,
    bytes,
    damaged,
    warnings,
    seconds: secondsSince(seams.clock, started),
    complete: warnings.length === 0,
  };
}

/** Stores again what another backend has whole. @returns what could not be */
async function repair(
  repository: Repository,
  damaged: readonly Damage[],
  signal: AbortSignal | undefined,
): Promise<HealResult['failed']> {
  const live = repository.mirror.live().map(({ name }) => name);
  const mishaps = damaged.map(({ backend, key, problem }) => ({
    ...{ backend, key, problem, error: new HoldfastError('damaged', problem) },
    servedBy: live.find((name) => name !== backend),
  }));
  return (await heal(repository, mishaps, signal)).failed;
}
