/** Words for what the operating system said. */
import { getSystemErrorMessage } from 'node:util';
import { messageOf, systemErrorCode } from '../errors.ts';
import { escapeForDisplay } from '../raw-path.ts';

/** True for an error of the operating system, as `node:fs` throws it. */
export function isSystemError(error: unknown): error is Error & { errno: number } {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number';
}

/**
 * Why a file system call failed, like 'permission denied (EACCES)'. Node's own messages carry the path with its raw
 * bytes; this one never does, so it may be shown on a terminal.
 */
export function reasonOf(error: unknown): string {
  if (!isSystemError(error)) return escapeForDisplay(messageOf(error));
  return `${getSystemErrorMessage(error.errno)} (${systemErrorCode(error)})`;
}

/** True when the error says that the path names nothing (any more). */
export function isGone(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}
