/** holdfast.yaml: finding it, reading it strictly, writing a new one. */
import { open } from 'node:fs/promises';
import { existsSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseDocument, stringify } from 'yaml';
import type { z } from 'zod';
import { HoldfastError, messageOf, systemErrorCode } from '../errors.ts';
import { CONFIG_MAX_BYTES } from '../limits.ts';
import { readYaml } from '../yaml-file.ts';
import { DEFAULT_PROFILE, isProfileName, type SecretHandling } from '../state/profile-names.ts';
import { DEFAULT_THRESHOLDS, type Thresholds } from '../operations/saving/suspicion.ts';
import type { configSchema } from './config-schema.ts';
import { fleetConfig, type FleetConfig } from './fleet/config.ts';
import { drillSettings, type DrillSettings } from './drill/config.ts';
import { operatingConfig, type OperatingConfig } from './operating-config.ts';
import { misplacedSetting, wholeUrl, type BackendEntry } from './backend-config.ts';
import { DEFAULT_RETENTION, retentionOf, type Retention } from './retention.ts';
import { nearest } from './suggest.ts';

const FILE_NAME = 'holdfast.yaml';

/** A config as commands use it: paths absolute, defaults filled in. A section is absent where the file has none. */
export interface Config extends OperatingConfig {
  /** The file itself. */
  path: string;
  agent?: { handle: string; identity: string; writerKey: string };
  state?: {
    /** The name of one that comes with holdfast, or the path of a file. */
    profile: string;
    root: string;
    exclude: readonly string[];
    special?: 'skip' | 'keep' | undefined;
    oneFileSystem?: boolean | undefined;
    /** What becomes of secrets; `apart` where the file does not say. */
    secrets?: SecretHandling;
  };
  /** In the order of the file. */
  backends?: readonly { name: string; url: string }[];
  commit: {
    /** How many backends must hold a snapshot; all of them where the file does not say. */
    require: number;
  };
  /** When a snapshot is suspicious; false: never. */
  suspicion?: Thresholds | false;
  /** Which snapshots `forget` keeps. */
  retention?: Retention;
  /** As it is written. */
  prune?: { grace?: string | undefined; settle?: string | undefined; repackBudget?: string | undefined };
  fleet?: FleetConfig;
  /** What a drill goes by; usual values where the file does not say. */
  drill?: DrillSettings;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The config file to read: --config, else $HOLDFAST_CONFIG, else the first that exists of ./holdfast.yaml and holdfast/holdfast.yaml in
 * the XDG config folder. Throws `config_invalid` when there is none.
 */
export function findConfigPath(flag: string | undefined, env: Environment, cwd: string): string {
  const named = flag ?? (env['HOLDFAST_CONFIG'] || undefined);
  if (named !== undefined) return resolve(cwd, named);
  const places = [
    join(cwd, FILE_NAME),
    join(env['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'holdfast', FILE_NAME),
  ];
  const found = places.find((place) => existsSync(place));
  if (found !== undefined) return found;
  throw new HoldfastError('config_invalid', `there is no config file (looked for ${places.join(' and ')})`, {
    hint: 'Make one with `holdfast init`, or name it with --config.',
  });
}

/** Where `init` and `recover` write a new config: --config, else $HOLDFAST_CONFIG, else ./holdfast.yaml. */
export function newConfigPath(flag: string | undefined, env: Environment, cwd: string): string {
  return resolve(cwd, flag ?? (env['HOLDFAST_CONFIG'] || FILE_NAME));
}

/** Where the key files lie when the config does not say: beside it, named after it. */
export function defaultKeyPaths(configPath: string): { identity: string; writerKey: string } {
  const stem = join(dirname(configPath), basename(configPath, extname(configPath)));
  return { identity: `${stem}.identity.key`, writerKey: `${stem}.writer.key` };
}

/** Reads and checks a config file. Throws `config_invalid` naming the place in the file, `io` when it cannot be read. */
export async function loadConfig(path: string): Promise<Config> {
  const file = resolve(path);
  const raw = await parseConfig(await readText(file), file);
  const folder = dirname(file);
  const keys = defaultKeyPaths(file);
  const backends = raw.backends && checkBackends(raw.backends, file);
  const require = raw.commit?.require ?? backends?.length ?? 1;
  if (backends && require > backends.length) {
    throw invalid(file, `commit.require is ${require}, but there are only ${backends.length} backends`);
  }
  return {
    path: file,
    ...(raw.agent && {
      agent: {
        handle: raw.agent.handle,
        identity: resolvePath(raw.agent.identity ?? keys.identity, folder, file),
        writerKey: resolvePath(raw.agent.writerKey ?? keys.writerKey, folder, file),
      },
    }),
    ...(raw.state && {
      state: {
        profile: profileIn(raw.state.profile ?? DEFAULT_PROFILE, folder, file),
        root: resolvePath(raw.state.root, folder, file),
        exclude: raw.state.exclude ?? [],
        special: raw.state.special,
        oneFileSystem: raw.state.oneFileSystem,
        ...(raw.state.secrets && { secrets: raw.state.secrets }),
      },
    }),
    ...(backends && { backends }),
    commit: { require },
    ...(raw.prune && { prune: raw.prune }),
    ...(raw.fleet && { fleet: fleetConfig(raw.fleet, (path) => resolvePath(path, folder, file), file) }),
    ...(raw.suspicion && { suspicion: thresholdsOf(raw.suspicion) }),
    ...(raw.retention && { retention: retentionOf(raw.retention, file) }),
    ...(raw.drill && { drill: drillSettings(raw.drill, (path) => resolvePath(path, folder, file), file) }),
    ...(await operatingConfig(raw, (path) => resolvePath(path, folder, file), file)),
  };
}

/** The config with the sections that a command cannot do without; throws `config_invalid` naming the first that is missing. */
export function requireSections<K extends 'agent' | 'state' | 'backends'>(
  config: Config,
  ...names: readonly K[]
): Config & Required<Pick<Config, K>> {
  for (const name of names) {
    if (config[name] === undefined) {
      throw invalid(
        config.path,
        `there is no section \`${name}:\`, and this command needs it`,
        'See the example in the README.',
      );
    }
  }
  return config as Config & Required<Pick<Config, K>>;
}

function thresholdsOf(raw: NonNullable<RawConfig['suspicion']>): Thresholds | false {
  if (raw.off) return false;
  const share = (text: string | undefined, usual: number) =>
    text === undefined ? usual : Number.parseInt(text, 10) / 100;
  return {
    shrink: share(raw.shrink, DEFAULT_THRESHOLDS.shrink),
    change: share(raw.change, DEFAULT_THRESHOLDS.change),
    incompressible: share(raw.incompressible, DEFAULT_THRESHOLDS.incompressible),
    history: raw.history ?? DEFAULT_THRESHOLDS.history,
  };
}

type RawConfig = z.output<typeof configSchema>;

async function readText(file: string): Promise<string> {
  try {
    await using handle = await open(file, 'r');
    const buffer = new Uint8Array(CONFIG_MAX_BYTES + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length);
      length += bytesRead;
      if (length > CONFIG_MAX_BYTES) throw invalid(file, `it is larger than ${CONFIG_MAX_BYTES} bytes`);
      if (bytesRead === 0) break;
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(buffer.subarray(0, length));
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    const code = systemErrorCode(error);
    if (code === 'ENOENT') {
      throw new HoldfastError('config_invalid', `there is no config file at ${file}`, {
        hint: 'Make one with `holdfast init`, or name another with --config.',
      });
    }
    if (code === 'EISDIR') throw invalid(file, 'it is a folder');
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') throw invalid(file, 'it is no UTF-8 text');
    throw new HoldfastError('io', `cannot read ${file}: ${messageOf(error)}`, { cause: error });
  }
}

async function parseConfig(text: string, file: string): Promise<RawConfig> {
  const rules = async () => {
    const { configSchema: schema, configJsonSchema } = await import('./config-schema.ts');
    return { schema, knownKeys: (path: readonly PropertyKey[]) => knownKeys(configJsonSchema(), path) };
  };
  const read = await readYaml(text, { file, whole: 'the config', rules });
  if ('data' in read) return read.data;
  const { place, what, unknown } = read.fault;
  if (!unknown) throw invalid(place, what);
  const meant = nearest(unknown.key, unknown.known);
  throw invalid(
    place,
    what,
    meant === undefined ? `Known here: ${unknown.known.join(', ')}.` : `Did you mean \`${meant}\`?`,
  );
}

function checkBackends(raw: NonNullable<RawConfig['backends']>, file: string): { name: string; url: string }[] {
  const names = new Map<string, string>();
  return Object.entries(raw).map(([name, entry]) => {
    const problem = urlProblem(entry.url);
    if (problem !== undefined) throw invalid(file, `\`backends.${name}.url\` ${problem}`);
    const misplaced = misplacedSetting(entry);
    if (misplaced !== undefined)
      throw invalid(file, `\`backends.${name}.${misplaced}\` is no setting of such a backend`, 'Take it out.');
    const url = wholeUrl(entry, dirname(file));
    const twin = names.get(placeOfUrl(url));
    if (twin !== undefined) throw invalid(file, `backends ${twin} and ${name} are the same place`);
    names.set(placeOfUrl(url), name);
    return { name, url };
  });
}

/** What tells one place from another: the URL without a slash at its end and without how it is reached. */
function placeOfUrl(url: string): string {
  if (url.startsWith('file:') && URL.canParse(url) && !url.includes('?')) return realPlace(new URL(url));
  const [place = '', query = ''] = url.split('?');
  const endpoint = new URLSearchParams(query).get('endpoint') ?? '';
  return `${place.replace(/\/+$/, '')} ${URL.canParse(endpoint) ? new URL(endpoint).origin : endpoint}`;
}

/** One folder has many paths: through links, and up and down again. */
function realPlace(url: URL): string {
  try {
    return pathToFileURL(realpathSync(fileURLToPath(url))).href;
  } catch {
    return url.href.replace(/\/+$/, ''); // it is not there
  }
}

/** The whole URL of an entry of a config that is not checked. */
function urlIn(entry: BackendEntry | undefined): string | undefined {
  return typeof entry?.url === 'string' ? wholeUrl(entry, '/') : undefined;
}

/** Why no backend can have this URL, whatever its kind; undefined when one may. */
export function urlProblem(url: string): string | undefined {
  if (!/^[a-z][a-z0-9+.-]*:/.test(url) || !URL.canParse(url))
    return 'is no URL; a folder is written file:///absolute/path, others s3://bucket/prefix and sftp://user@host/path';
  if (url.startsWith('file:') && !/^file:\/\/\/[^/]/.test(url))
    return 'must be an absolute path: file:///absolute/path';
  return undefined;
}

function resolvePath(path: string, folder: string, file: string): string {
  if (path === '~' || path.startsWith('~/')) return join(homedir(), path.slice(1));
  if (path.startsWith('~'))
    throw invalid(file, `cannot resolve ${path}`, 'Write the path out; only ~ and ~/… are understood.');
  return resolve(folder, path);
}

function profileIn(profile: string, folder: string, file: string): string {
  return isProfileName(profile) ? profile : resolvePath(profile, folder, file);
}

/** The keys that the schema knows at `path`. */
function knownKeys(schema: Record<string, unknown>, path: readonly PropertyKey[]): string[] {
  let here = schema as JsonSchema | undefined;
  for (const step of path) {
    const group = groupOf(here);
    here = group?.properties?.[String(step)] ?? group?.additionalProperties;
  }
  return Object.keys(groupOf(here)?.properties ?? {});
}

/** Of several forms the one with settings. */
const groupOf = (schema: JsonSchema | undefined) => schema?.anyOf?.find(({ properties }) => properties) ?? schema;

interface JsonSchema {
  anyOf?: JsonSchema[];
  properties?: Record<string, JsonSchema>;
  additionalProperties?: JsonSchema;
}

function invalid(
  place: string,
  what: string,
  hint = 'Correct the config file and run the command again.',
): HoldfastError {
  return new HoldfastError('config_invalid', `${place}: ${what}`, { hint });
}

/** What `init` and `recover` know about a new config. Paths are written as they are given. */
export interface NewConfig {
  handle: string;
  identity: string;
  writerKey: string;
  root: string;
  /** Default: every file as it is. */
  profile?: string;
  exclude?: readonly string[];
  backends: readonly { name: string; url: string }[];
  require: number;
}

/** The text of a new config file; `loadConfig` reads it back as given. */
export function renderConfig(config: NewConfig): string {
  const exclude = (config.exclude ?? []).map((pattern) => `    - ${scalar(pattern)}\n`).join('');
  const backends = config.backends.map(({ name, url }) => `  ${scalar(name)}:\n    url: ${scalar(url)}\n`).join('');
  return `# holdfast: what is backed up, and where to. Relative paths start at this file's folder, ~ is your home folder.

agent:
  handle: ${scalar(config.handle)}
  identity: ${scalar(config.identity)} # the agent's ed25519 key: secret
  writerKey: ${scalar(config.writerKey)} # adds snapshots and cannot read their files: secret

state:
  profile: ${scalar(config.profile ?? DEFAULT_PROFILE)}
  root: ${scalar(config.root)}
${exclude === '' ? '  # exclude: ["*.tmp"] # patterns as in .gitignore\n' : `  exclude:\n${exclude}`}
backends:
${backends}
commit:
  require: ${config.require} # how many backends must hold a snapshot for exit code 0

${DEFAULT_RETENTION}`;
}

/** A YAML scalar on one line that is read back as this text: bare where that is plain to see, else quoted as JSON is. */
function scalar(text: string): string {
  const bare = /^[\w./~:@+-]+$/.test(text) && stringify(text, { lineWidth: 0 }) === `${text}\n`;
  return bare ? text : JSON.stringify(text);
}

/**
 * The config of a recovered agent: the one that went into the snapshot, with the places of this machine. Where that cannot be read a new
 * one is made. `backends` are those that were recovered from, with their names in it. Its other backends stay, also those that were not recovered from: they are still where the agent's snapshots belong.
 */
export function recoveredConfig(
  old: string,
  fresh: NewConfig,
): { text: string; backends: readonly { name: string; url: string }[] } {
  const document = parseDocument(old, { stringKeys: true });
  if (document.errors.length > 0 || document.getIn(['backends']) === undefined)
    return { text: renderConfig(fresh), backends: fresh.backends };
  const places: Record<string, unknown> = {
    'agent.handle': fresh.handle,
    'agent.identity': fresh.identity,
    'agent.writerKey': fresh.writerKey,
    'state.root': fresh.root,
  };
  for (const [path, value] of Object.entries(places)) document.setIn(path.split('.'), value);
  const { backends } = document.toJS() as { backends: Record<string, BackendEntry> };
  const place = (url: string | undefined) => (url === undefined ? undefined : placeOfUrl(url));
  const names = new Set(Object.keys(backends));
  const recoveredFrom = fresh.backends.map(({ name, url }) => {
    const known = Object.keys(backends).find((one) => place(urlIn(backends[one])) === place(url));
    if (known !== undefined) return { name: known, url };
    let unused = name;
    for (let i = 2; names.has(unused); i++) unused = `${name}-${i}`;
    names.add(unused);
    document.setIn(['backends', unused], { url });
    return { name: unused, url };
  });
  return { text: document.toString({ lineWidth: 0 }), backends: recoveredFrom };
}
