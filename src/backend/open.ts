/** From a URL in the config to a backend. */
import { resolve } from 'node:path';
import type { Clock, Random } from '../clock.ts';
import { HoldfastError } from '../errors.ts';
import type { BreakerStore } from '../policy/breaker.ts';
import { rateLimit, type RateLimit } from '../policy/rate-limit.ts';
import { DAY_MS, parseDuration, parseSize } from '../units.ts';
import type { Backend } from './backend.ts';
import { createDirectory, openDirectory } from './directory.ts';
import { openGuarded, type GuardOptions } from './guarded.ts';
import type { S3Location } from './s3-client.ts';
import type { SftpLocation } from './sftp-session.ts';

export interface OpenOptions {
  clock: Clock;
  random: Random;
  /** Make the place where the objects go when it is not there yet. Only `init` does. (A bucket is never made.) */
  create?: boolean;
  /** Where the breaker of the backend with this URL is kept, so that the next run knows what this one found out. */
  breakerOf?: (url: string) => BreakerStore;
  /** The breaker is not asked: somebody wants it tried now, or nothing else is left to be tried. */
  insist?: boolean;
  /** How this host logs in to others. */
  ssh?: SshDefaults;
}

/** What an SFTP backend uses where its URL does not say. */
export interface SshDefaults {
  user: string;
  agentSocket?: string | undefined;
  keyFiles: readonly string[];
  knownHostsFiles: readonly string[];
}

const HINT =
  'A backend is written as file:///absolute/path, s3://bucket/prefix?endpoint=https://… or sftp://user@host:port/path.';

/**
 * Opens the backend that a URL names:
 *
 * - `file:///absolute/path`, percent-encoded as RFC 8089 and RFC 3986 have it (only %, ? and # must be); no host, no query.
 * - `s3://bucket/prefix`, with `endpoint`, `region`, `pathStyle` (true, false), `storageClass`, `sse` (AES256, aws:kms), `kmsKey`, and `lock`
 *   (`governance:30d`, `compliance:90d`) as its query. Credentials come from where the AWS SDK finds them, never from here.
 * - `sftp://user@host:port/path`, the path absolute, or below the user's own folder as `/~/path`; `key` and `knownHosts` (files) as its query.
 *
 * Both of the latter take `upload` and `download`, limits of bandwidth per second (`1MiB`), and are under guard (guarded.ts).
 *
 * No error repeats the URL, which may carry what was never meant to be printed.
 *
 * @throws HoldfastError `config_invalid` on a URL that cannot be used; `backend_unavailable` as the backend's own open does.
 */
export async function openBackend(
  { name, url }: { name: string; url: string },
  options: OpenOptions,
): Promise<Backend> {
  const { clock, random, create = false } = options;
  const { scheme, rest, refuse } = partsOf(name, url);
  const guard = (): GuardOptions => ({
    name,
    clock,
    random,
    ...limitsOf(url, clock, refuse),
    breaker: options.breakerOf?.(url),
  });
  switch (scheme) {
    case 'file': {
      const folder = folderOf(rest, refuse);
      return create ? createDirectory(folder, { name, clock, random }) : openDirectory(folder, { name, clock, random });
    }
    case 's3': {
      const location = s3Of(url, refuse);
      const { openS3 } = await import('./s3.ts');
      return openGuarded((signal) => openS3(location, { name, now: () => clock.now(), signal }), guard());
    }
    case 'sftp': {
      const location = sftpOf(url, refuse, options.ssh);
      const { openSftp } = await import('./sftp.ts');
      return openGuarded(() => openSftp(location, { name, clock, random, create }), guard());
    }
    default:
      throw refuse(`URLs of ${scheme}: are not supported; supported are file:, s3: and sftp:`);
  }
}

type Refuse = (problem: string, hint?: string) => HoldfastError;

function partsOf(name: string, url: string): { scheme: string; rest: string; refuse: Refuse } {
  const refuse: Refuse = (problem, hint = HINT) =>
    new HoldfastError('config_invalid', `backend ${name}: ${problem}`, { hint });
  const [, scheme, rest] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/is.exec(url) ?? [];
  if (scheme === undefined || rest === undefined) throw refuse('what its config gives as a URL is none');
  if (/^[^/?#@]*:[^/?#]*@/.test(rest)) {
    throw refuse('its URL carries a password', 'Take it out: the config file is no place for a password.');
  }
  return { scheme: scheme.toLowerCase(), rest, refuse };
}

function folderOf(rest: string, refuse: Refuse): string {
  // By hand: the URL parser drops tabs and newlines, takes a backslash for a slash and `C|` for a drive.
  if (!rest.startsWith('/')) throw refuse('its URL names a host; a file: URL begins with three slashes');
  if (/[?#]/.test(rest)) throw refuse('its URL has a query or a fragment', 'In a path ? is written as %3F, # as %23.');
  const folder = decodePath(rest);
  if (folder === undefined || /[\x00-\x1f\x7f]/.test(folder)) throw refuse('its URL is not a valid path');
  if (resolve(folder) === '/')
    throw refuse('its URL names the root of the file system', 'Give the backend a folder of its own.');
  return folder;
}

const LIMITS = ['upload', 'download'] as const;
const S3_SETTINGS = ['endpoint', 'region', 'pathStyle', 'storageClass', 'sse', 'kmsKey', 'lock', ...LIMITS] as const;

/** @throws `config_invalid` */
function s3Of(url: string, refuse: Refuse): S3Location {
  const { host, port, user, path, settings } = withSettings(url, S3_SETTINGS, refuse);
  if (port !== '' || user !== '') throw refuse('its URL has a user or a port, which no bucket has');
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(host)) throw refuse('its URL names no bucket: s3://bucket/prefix');
  const prefix = path.replace(/^\/+|\/+$/g, '');
  if (prefix.length > 400 || /[\x00-\x1f\x7f]|\/\/|(^|\/)\.{1,2}(\/|$)/.test(prefix))
    throw refuse('its prefix cannot be used');
  const { endpoint, region, pathStyle, storageClass, sse, kmsKey, lock } = settings;
  if (endpoint !== undefined && !(/^https?:\/\/[^/?#@\s]+\/?$/.test(endpoint) && URL.canParse(endpoint)))
    throw refuse('its endpoint is no address such as https://s3.example.org');
  if (pathStyle !== undefined && pathStyle !== 'true' && pathStyle !== 'false')
    throw refuse('pathStyle is true or false');
  const [, mode, days] = /^(governance|compliance):(\d+d)$/.exec(lock ?? '') ?? [];
  if (lock !== undefined && !/^[1-9]\d{0,4}d$/.test(days ?? ''))
    throw refuse('its lock is not as governance:30d or compliance:90d');
  return {
    bucket: host,
    prefix: prefix === '' ? '' : `${prefix}/`,
    endpoint: endpoint === undefined ? undefined : new URL(endpoint).origin, // one place, one spelling
    region,
    pathStyle: pathStyle === undefined ? undefined : pathStyle === 'true',
    storageClass,
    serverSideEncryption: sse,
    kmsKeyId: kmsKey,
    objectLock:
      days === undefined
        ? undefined
        : { mode: mode === 'compliance' ? 'compliance' : 'governance', days: parseDuration(days) / DAY_MS },
  };
}

const SFTP_PORT = 22;

/** @throws `config_invalid` */
function sftpOf(url: string, refuse: Refuse, ssh: SshDefaults | undefined): SftpLocation {
  const { host, port, user, path, settings } = withSettings(url, ['key', 'knownHosts', ...LIMITS], refuse);
  if (host === '') throw refuse('its URL names no host: sftp://user@host:port/path');
  const place = path.startsWith('/~/') ? path.slice('/~/'.length) : path;
  const folder = place.replace(/\/+$/, '');
  if (folder === '' || /[\x00-\x1f\x7f]|\/\/|(^|\/)\.{1,2}(\/|$)/.test(folder))
    throw refuse('its path cannot be used', 'Give the backend a folder of its own.');
  const login = user === '' ? ssh?.user : user;
  if (login === undefined) throw refuse('its URL names no user: sftp://user@host/path');
  const { key, knownHosts } = settings;
  return {
    host: host.replace(/^\[(.*)\]$/, '$1'), // an IPv6 address
    port: port === '' ? SFTP_PORT : Number(port),
    user: login,
    path: folder,
    keyFiles: key === undefined ? (ssh?.keyFiles ?? []) : [key],
    // A key that is named is the one to use.
    agentSocket: key === undefined ? ssh?.agentSocket : undefined,
    knownHostsFiles: knownHosts === undefined ? (ssh?.knownHostsFiles ?? []) : [knownHosts],
  };
}

/** @throws `config_invalid` */
function limitsOf(url: string, clock: Clock, refuse: Refuse): { upload?: RateLimit; download?: RateLimit } {
  const limits: { upload?: RateLimit; download?: RateLimit } = {};
  const query = new URL(url).searchParams;
  for (const way of LIMITS) {
    const text = query.get(way);
    if (text === null) continue;
    if (!/^\d+(\.\d+)?[KMG]iB$/.test(text)) throw refuse(`its limit ${way} is not as 500KiB or 2MiB (a second)`);
    const bytes = parseSize(text);
    if (bytes < 1) throw refuse(`its limit ${way} is 0: nothing would ever arrive`);
    limits[way] = rateLimit(bytes, clock);
  }
  return limits;
}

function withSettings<K extends string>(url: string, known: readonly K[], refuse: Refuse) {
  if (!URL.canParse(url) || /[\s\\]/.test(url)) throw refuse('what its config gives as a URL is none');
  const { hostname, port, username, pathname, searchParams, hash } = new URL(url);
  const path = decodePath(pathname);
  if (path === undefined || hash !== '') throw refuse('its URL is not a valid path');
  const settings: Partial<Record<K, string>> = {};
  for (const [name, value] of searchParams) {
    const setting = known.find((one) => one === name);
    if (setting === undefined || value === '' || settings[setting] !== undefined)
      throw refuse('its URL has a setting that is unknown, empty or given twice', `Known are: ${known.join(', ')}.`);
    settings[setting] = value;
  }
  const user = decodePath(username);
  if (user === undefined) throw refuse('the user in its URL is no valid text');
  return { host: hostname, port, user, path, settings };
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
