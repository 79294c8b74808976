/** The one table of exit codes. What scripts rely on: a code is never given another meaning. */
import type { ErrorCode } from '../errors.ts';

export const EXIT = {
  done: 0,
  failed: 1,
  /** Wrong arguments, flags or config. */
  usage: 2,
  /** Done but incomplete: a source file could not be read, or fewer backends hold the snapshot than required. */
  incomplete: 3,
  noRepository: 10,
  /** Another run on this host is at it. */
  busy: 11,
  /** A secret is wrong, missing, or lies open to others. */
  key: 12,
  damage: 13,
  drillFailed: 14,
  unhealthy: 15,
  /** Breaker open. The number is EX_TEMPFAIL of sysexits.h. */
  tryLater: 75,
  /** By SIGINT or SIGTERM. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The exit code of each kind of failure; one that is missing here does not compile. */
export const EXIT_CODE_OF: Readonly<Record<ErrorCode, ExitCode>> = {
  usage: EXIT.usage,
  config_invalid: EXIT.usage,
  exists: EXIT.failed,
  not_found: EXIT.failed,
  no_repository: EXIT.noRepository,
  // Scripts ask "is my repository there?": somebody else's is not it.
  foreign_repository: EXIT.noRepository,
  // The repository is there and whole, and no key or repair helps: only another version of holdfast does.
  unsupported_format: EXIT.failed,
  wrong_key: EXIT.key,
  missing_key: EXIT.key,
  bad_words: EXIT.key,
  insecure_permissions: EXIT.key,
  damaged: EXIT.damage,
  forged: EXIT.damage,
  contested: EXIT.failed,
  revoked: EXIT.key,
  backend_unavailable: EXIT.failed,
  // Nothing was done. A run that did its work on too few backends is a result with exit code 3, not this error.
  not_enough_backends: EXIT.failed,
  source_unreadable: EXIT.failed,
  hook_failed: EXIT.failed,
  busy: EXIT.busy,
  timed_out: EXIT.failed,
  breaker_open: EXIT.tryLater,
  interrupted: EXIT.interrupted,
  io: EXIT.failed,
  bug: EXIT.failed,
};

/** Of what tells by warnings that something lacks. */
export function warningsExitCode({ warnings }: { warnings: readonly unknown[] }): ExitCode {
  return warnings.length > 0 ? EXIT.incomplete : EXIT.done;
}

/** Of a restore or recovery: 13 when something could not be had from any backend, 3 when the target could not hold something. */
export function restoreExitCode(result: { lost: readonly string[]; complete: boolean }): ExitCode {
  if (result.lost.length > 0) return EXIT.damage;
  return result.complete ? EXIT.done : EXIT.incomplete;
}
