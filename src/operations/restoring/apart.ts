/** What must not lie in the folder of a backend, which is for holdfast's own objects. */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HoldfastError, systemErrorCode } from '../../errors.ts';
import type { BackendAddress } from '../backends.ts';

/** @throws `usage` for a target that is the folder of a backend, or lies in it */
export function checkTarget(target: string, backends: readonly BackendAddress[]): void {
  const name = backendAround(target, backends);
  if (name === undefined) return;
  throw new HoldfastError('usage', `the target lies in the folder of backend ${name}`, {
    hint: 'A backend is for snapshots alone: name a folder of its own for what is restored.',
  });
}

/** The backend in whose folder a path lies, links resolved as far as it is there. */
export function backendAround(path: string, backends: readonly BackendAddress[]): string | undefined {
  return backends.find(({ url }) => {
    const folder = folderOfBackend(url);
    return folder !== undefined && isIn(path, folder);
  })?.name;
}

export function isIn(path: string, folder: string): boolean {
  return !/^\.\.(?:\/|$)/.test(relative(real(folder), real(path)));
}

function folderOfBackend(url: string): string | undefined {
  try {
    return /^file:\/\/\//i.test(url) ? fileURLToPath(url) : undefined;
  } catch {
    return undefined; // what is no path is told when the backend is opened
  }
}

/** The path without links, as far as it is there. */
function real(path: string): string {
  const whole = resolve(path);
  try {
    return realpathSync(whole);
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error; // else it is not there, or not any more
  }
  const above = dirname(whole);
  return above === whole ? whole : join(real(above), basename(whole));
}
