/** Secrets are kept apart from what is backed up, and from where it goes. */
import { existsSync, realpathSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HoldfastError } from '../errors.ts';

/** @throws `usage` for a new file that would lie inside the state or a backend's folder */
export function checkApart(
  file: string,
  what: string,
  { state, backends }: { state?: string | undefined; backends: readonly { name: string; url: string }[] },
): void {
  const places = [
    ...(state === undefined ? [] : [{ place: state, name: 'the state' }]),
    ...backends.flatMap(({ name, url }) =>
      url.startsWith('file:///') ? [{ place: pathOf(url), name: `backend ${name}` }] : [],
    ),
  ];
  for (const { place, name } of places) {
    if (place === undefined || relative(real(place), real(file)).startsWith('..')) continue;
    throw new HoldfastError('usage', `the ${what} would lie inside ${name}`, {
      hint: 'Keep secrets apart from the backups: choose another place.',
    });
  }
}

function pathOf(url: string): string | undefined {
  try {
    return fileURLToPath(url);
  } catch {
    return undefined; // what is no path is told when the backend is opened
  }
}

/** The path without links, as far as it is there. */
function real(path: string): string {
  const whole = resolve(path);
  if (existsSync(whole)) return realpathSync(whole);
  const above = dirname(whole);
  return above === whole ? whole : join(real(above), whole.slice(above.length));
}
