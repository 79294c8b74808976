/** From a URL in the config to a backend. */
import { resolve } from 'node:path';
import type { Clock, Random } from '../clock.ts';
import { HoldfastError } from '../errors.ts';
import type { Backend } from './backend.ts';
import { createDirectory, openDirectory } from './directory.ts';

export interface OpenOptions {
  clock: Clock;
  random: Random;
  /** Make the place where the objects go when it is not there yet. Only `init` does. */
  create?: boolean;
}

const HINT = 'A backend is written as file:///absolute/path.';

/**
 * Opens the backend that a URL names. For now: `file:///absolute/path`, percent-encoded as RFC 8089 and RFC 3986
 * have it (only %, ? and # must be); no host, no query.
 *
 * No error repeats the URL, which may carry what was never meant to be printed.
 *
 * @throws HoldfastError `config_invalid` on a URL that cannot be used; `backend_unavailable` as the backend's own open does.
 */
export async function openBackend(
  { name, url }: { name: string; url: string },
  { clock, random, create = false }: OpenOptions,
): Promise<Backend> {
  const folder = folderOf(name, url);
  return create ? createDirectory(folder, { name, clock, random }) : openDirectory(folder, { name, clock, random });
}

function folderOf(name: string, url: string): string {
  const refuse = (problem: string, hint = HINT) =>
    new HoldfastError('config_invalid', `backend ${name}: ${problem}`, { hint });
  const [, scheme, rest] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/is.exec(url) ?? [];
  if (scheme === undefined || rest === undefined) throw refuse('what its config gives as a URL is none');
  if (/^[^/?#@]*:[^/?#]*@/.test(rest)) {
    throw refuse('its URL carries a password', 'Take it out: the config file is no place for a password.');
  }
  if (scheme.toLowerCase() !== 'file') throw refuse(`URLs of ${scheme}: are not supported; supported is file:`);
  // By hand: the URL parser drops tabs and newlines, takes a backslash for a slash and `C|` for a drive.
  if (!rest.startsWith('/')) throw refuse('its URL names a host; a file: URL begins with three slashes');
  if (/[?#]/.test(rest)) throw refuse('its URL has a query or a fragment', 'In a path ? is written as %3F, # as %23.');
  const folder = decodePath(rest);
  if (folder === undefined || /[\x00-\x1f\x7f]/.test(folder)) throw refuse('its URL is not a valid path');
  if (resolve(folder) === '/')
    throw refuse('its URL names the root of the file system', 'Give the backend a folder of its own.');
  return folder;
}

/** The text of a percent-encoded path; undefined when it is no UTF-8, or hides a slash in a name. */
function decodePath(encoded: string): string | undefined {
  if (/%2f/i.test(encoded)) return undefined;
  try {
    return decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}
