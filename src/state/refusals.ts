/** What stops a restore, what only costs an entry of it, and what is let pass. */
import { HoldfastError, systemErrorCode } from '../errors.ts';
import { ROOT, rawForDisplay, type RawPath } from '../raw-path.ts';
import { reasonOf } from './system-error.ts';

/** What the system says when the entry, and not the disk, is the problem: path too long, a name or a kind that this file system lacks. */
export const CANNOT_HOLD = ['ENAMETOOLONG', 'EILSEQ', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'EPERM', 'ENOSYS'];

/** What it says of a second name for a file, when the file can still be written once more: other file systems have no such thing, or no more. */
export const CANNOT_LINK = ['ENOENT', 'EPERM', 'EMLINK', 'EXDEV', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'];

/** Metadata that a file system (FAT, a network share) or a container refuses is no reason to stop; the comparison afterwards tells. */
export function leniently(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (['EPERM', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(systemErrorCode(error) ?? '')) return false;
    throw error;
  }
}

export function damagedEntry(path: RawPath, what: string): HoldfastError {
  return new HoldfastError('damaged', `the entry ${path === ROOT ? '.' : rawForDisplay(path)} ${what}`, {
    hint: 'The restore stopped before it. Restore another snapshot, and find out who could have written this one.',
  });
}

export function refusedBySystem(what: string, error: unknown): HoldfastError {
  const full = ['ENOSPC', 'EDQUOT'].includes(systemErrorCode(error) ?? '');
  return new HoldfastError('io', `${what}: ${reasonOf(error)}`, {
    hint: full ? 'Free some space or choose another disk, and restore again.' : 'Check the target and its permissions.',
    cause: error,
  });
}
