/** Backends as flags name them. */
import { HoldfastError } from '../errors.ts';
import type { BackendAddress } from '../operations/backends.ts';
import { urlProblem } from './config.ts';

/** `--backend NAME=URL`. @throws `usage` */
export function parseBackendFlag(text: string): BackendAddress {
  const [, name, url] = /^([a-z0-9-]{1,32})=(.+)$/s.exec(text) ?? [];
  if (name === undefined || url === undefined) {
    throw new HoldfastError('usage', '--backend takes NAME=URL, the name of a-z, 0-9 and -', {
      hint: 'For example: --backend nas=file:///mnt/nas/agent',
    });
  }
  return { name, url: checked(url, `--backend ${name}`) };
}

/** `--from URL`; the name is for messages until the config that comes back tells the right one. @throws `usage` */
export function parseFromFlag(url: string, position: number): BackendAddress {
  return { name: `backend-${position + 1}`, url: checked(url, '--from') };
}

function checked(url: string, flag: string): string {
  const problem = urlProblem(url);
  if (problem !== undefined) throw new HoldfastError('usage', `the address of ${flag} ${problem}`);
  return url;
}

/** Two backends with one name, or one place spelt alike, would count one copy twice. @throws `usage` */
export function checkDistinct(backends: readonly BackendAddress[]): void {
  const plain = (url: string) => new URL(url).href.replace(/\/+$/, '');
  for (const [i, { name, url }] of backends.entries()) {
    const twin = backends.slice(0, i).find((other) => other.name === name || plain(other.url) === plain(url));
    if (!twin) continue;
    throw new HoldfastError('usage', `--backend ${twin.name} and --backend ${name} are the same`, {
      hint: 'Give each backend a name and a place of its own.',
    });
  }
}
