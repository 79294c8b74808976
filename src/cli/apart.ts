/** Secrets are kept apart from what is backed up, and from where it goes. */
import { HoldfastError } from '../errors.ts';
import { backendAround, isIn } from '../operations/restoring/apart.ts';

/** @throws `usage` for a new file that would lie inside the state or a backend's folder */
export function checkApart(
  file: string,
  what: string,
  { state, backends }: { state?: string | undefined; backends: readonly { name: string; url: string }[] },
): void {
  const backend = backendAround(file, backends);
  const isInState = state !== undefined && isIn(file, state);
  if (!isInState && backend === undefined) return;
  throw new HoldfastError('usage', `the ${what} would lie inside ${isInState ? 'the state' : `backend ${backend}`}`, {
    hint: 'Keep secrets apart from the backups: choose another place.',
  });
}
