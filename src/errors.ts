/**
 * The one error class of the product. An error says what happened and to which thing (`message`), what to do next
 * (`hint`), and which kind of failure it is (`code`); the command line turns codes into exit codes with one table.
 * Neither message nor hint ever carries a secret.
 */

/** Every kind of failure that callers may tell apart. Adding one means adding it to the exit-code table too. */
export type ErrorCode =
  | 'usage' // wrong arguments or flags
  | 'config_invalid' // the config file cannot be used
  | 'exists' // something is in the way and would have to be overwritten
  | 'not_found' // a snapshot, path or object that was asked for is not there
  | 'no_repository' // no repository at that place
  | 'foreign_repository' // a repository, but another one than expected
  | 'unsupported_format' // made by a newer version, or uses a feature this one lacks
  | 'wrong_key' // the key is valid but does not open or match this repository
  | 'missing_key' // a secret is needed and none was given
  | 'bad_words' // recovery words that cannot be right
  | 'insecure_permissions' // a secret file that others can read
  | 'damaged' // stored bytes are not what was written
  | 'forged' // a signature or chain that does not hold
  | 'contested' // a change of keys that the agent may still object to is in the way
  | 'revoked' // the agent's key was revoked
  | 'backend_unavailable' // a backend cannot be reached or written
  | 'not_enough_backends' // no backend, or too few, hold what was asked for
  | 'source_unreadable' // the state to back up cannot be read
  | 'hook_failed' // a command of the operator's that must succeed first did not
  | 'busy' // another run on this host is at it
  | 'timed_out' // it was not done in the time it was given
  | 'breaker_open' // an agent that failed too often is left alone for now
  | 'interrupted' // cancelled by a signal
  | 'io' // the local file system refused
  | 'bug'; // an assertion failed: a defect of holdfast

export interface ErrorOptions {
  /** What the user can do next, one sentence. */
  hint?: string;
  /** True when the same call may succeed later without anything being changed. */
  retryable?: boolean;
  /** When that is, where it is known; milliseconds since the Unix epoch. */
  retryAtMs?: number;
  cause?: unknown;
}

/** A failure the user can act on (every code but `bug`). */
export class HoldfastError extends Error {
  override readonly name = 'HoldfastError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly retryable: boolean;
  readonly retryAtMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.retryable = options.retryable ?? false;
    this.retryAtMs = options.retryAtMs;
  }
}

/** True when `error` is a HoldfastError, optionally with one of the codes. */
export function isHoldfastError(error: unknown, ...codes: ErrorCode[]): error is HoldfastError {
  return error instanceof HoldfastError && (codes.length === 0 || codes.includes(error.code));
}

/** True for what went wrong with one thing of several, without which the others go on: neither an interruption nor a defect. */
export function isSurvivable(error: unknown): error is HoldfastError {
  return error instanceof HoldfastError && error.code !== 'interrupted' && error.code !== 'bug';
}

/** The `code` of a Node system error (`ENOENT`, …), or undefined. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** The message of anything that was thrown, on one line. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s+/g, ' ').trim();
}

/** Throws a `bug` when a condition that the code relies on does not hold. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition)
    throw new HoldfastError('bug', `internal error: ${what}`, { hint: 'Please report this as a defect.' });
}

/** Throws `interrupted` when the signal was aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new HoldfastError('interrupted', 'interrupted', { cause: signal.reason });
}
