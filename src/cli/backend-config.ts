/** A backend in the config: a URL, and settings beside it that could stand in its query as well. */
import { resolve } from 'node:path';
import { homedir } from 'node:os';

/** As the schema has it. */
export interface BackendEntry {
  url: string;
  endpoint?: string | undefined;
  region?: string | undefined;
  pathStyle?: boolean | undefined;
  storageClass?: string | undefined;
  sse?: string | undefined;
  kmsKey?: string | undefined;
  objectLock?: { mode: 'governance' | 'compliance'; days: number } | undefined;
  key?: string | undefined;
  knownHosts?: string | undefined;
  upload?: string | undefined;
  download?: string | undefined;
}

/** Settings of each kind of backend. */
const SETTINGS: Readonly<Record<string, readonly (keyof BackendEntry)[]>> = {
  s3: ['endpoint', 'region', 'pathStyle', 'storageClass', 'sse', 'kmsKey', 'objectLock', 'upload', 'download'],
  sftp: ['key', 'knownHosts', 'upload', 'download'],
};

/** The URL with all settings in its query: what operations are given. */
export function wholeUrl(entry: BackendEntry, folder: string): string {
  const { objectLock } = entry;
  const path = (file: string | undefined) =>
    file === undefined ? undefined : resolve(folder, file.replace(/^~(?=\/)/, homedir()));
  const settings: Record<string, string | undefined> = {
    endpoint: entry.endpoint,
    region: entry.region,
    pathStyle: entry.pathStyle === undefined ? undefined : String(entry.pathStyle),
    storageClass: entry.storageClass,
    sse: entry.sse,
    kmsKey: entry.kmsKey,
    lock: objectLock && `${objectLock.mode}:${objectLock.days}d`,
    key: path(entry.key),
    knownHosts: path(entry.knownHosts),
    upload: entry.upload,
    download: entry.download,
  };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(settings)) if (value !== undefined) query.set(name, value);
  const text = query.toString().replaceAll('%2F', '/').replaceAll('%3A', ':');
  return text === '' ? entry.url : `${entry.url}${entry.url.includes('?') ? '&' : '?'}${text}`;
}

/** A setting that a backend of this kind does not have; undefined when all fit. */
export function misplacedSetting(entry: BackendEntry): string | undefined {
  const [scheme = ''] = entry.url.split(':');
  const known = SETTINGS[scheme.toLowerCase()] ?? [];
  return (Object.keys(entry) as (keyof BackendEntry)[]).find(
    (name) => name !== 'url' && entry[name] !== undefined && !known.includes(name),
  );
}
