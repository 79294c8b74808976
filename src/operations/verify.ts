/** `verify`: is what the backends hold what was written? */
import type { Warning } from '../entry.ts';
import { isHoldfastError } from '../errors.ts';
import {
  openRepository,
  REPOSITORY_KEY,
  scrub,
  type Access,
  type Damage,
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
  const { objects, bytes, damaged } = await scrub(repository, {
    level: options.level,
    signal: seams.signal,
    onProgress: (done, total) => seams.progress({ type: 'progress', phase: 'verifying', done, total, unit: 'objects' }),
  });
  const warnings: Warning[] = [];
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
