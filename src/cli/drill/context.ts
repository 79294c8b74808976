/** From the config, the flags and the files of this host to what a drill takes. */
import { homedir, hostname, tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { hex } from '../../crypto/hash.ts';
import type { Warning } from '../../entry.ts';
import { HoldfastError, isSurvivable } from '../../errors.ts';
import type { RestoreSecret } from '../../operations/access.ts';
import { builtInScenarios, loadScenarios, type Scenario } from '../../drill/scenario.ts';
import type { DrillOptions, OnRecord } from '../../drill/scene.ts';
import type { SecretKind } from '../../drill/scenario-schema.ts';
import { renderConfig, type Config } from '../config.ts';
import { localFolders, localRoots, ownPlaces, readSigner, readWriterKeyIfAny, restoreSecret } from '../context.ts';
import { drillSettings, USUAL_SHADOW } from './config.ts';
import type { PassphraseFlagValues } from '../secrets.ts';
import { ownProfile, stateOptions } from '../state-options.ts';

/** Those that come with holdfast, those of the config, and those of these files or folders. @throws `config_invalid` */
export async function allScenarios(config: Config | undefined, more: readonly string[]): Promise<Scenario[]> {
  const own: Scenario[] = [];
  const paths = new Set([...(config?.drill?.scenarios ?? []), ...more.map((path) => resolve(path))]);
  for (const path of paths) own.push(...(await loadScenarios(path)));
  // The same file may be named twice, by itself and by its folder.
  const twice = own.find((one) =>
    own.some((other) => other.name === one.name && JSON.stringify(other) !== JSON.stringify(one)),
  );
  if (twice) {
    throw new HoldfastError('config_invalid', `two of your scenarios are called ${twice.name}: one would not be run`, {
      hint: 'Give each a name of its own.',
    });
  }
  return [...(await builtInScenarios()), ...own];
}

/** Names of scenarios, and the command after `--`. @throws `usage` */
export function askedOf(
  { argv, operands, shadow }: { argv: readonly string[]; operands: readonly string[]; shadow: boolean },
  config: Pick<Config, 'drill'>,
): { names: string[]; shadowArgv?: string[] } {
  const at = argv.indexOf('--');
  const command = at < 0 ? [] : argv.slice(at + 1);
  const names = operands.slice(0, operands.length - command.length);
  if (!shadow) {
    if (at < 0) return { names };
    throw new HoldfastError('usage', 'a command after -- is for --shadow', {
      hint: 'holdfast drill run --shadow [FLAGS] -- CMD ARGS…',
    });
  }
  if (command.length === 0 && !config.drill?.shadow) {
    throw new HoldfastError('usage', 'nothing says how the agent is started', {
      hint: 'Give the command after --, or put it into the config: `drill: { shadow: { command: … } }`.',
    });
  }
  return { names: [...new Set([...names, 'shadow'])], ...(command.length > 0 && { shadowArgv: command }) };
}

export interface DrillSecretFlags extends PassphraseFlagValues {
  'words-file'?: string[] | undefined;
  'identity-file'?: string | undefined;
  vault?: string | undefined;
  'shares-file'?: string[] | undefined;
}

/** Each that is named, by what it turns out to be; where none is, one is asked for. */
export async function drillSecrets(flags: DrillSecretFlags, signal: AbortSignal): Promise<DrillOptions['secrets']> {
  const { vault, 'passphrase-file': passphraseFile, 'shares-file': shares } = flags;
  const named = [
    ...(flags['words-file'] ? [{ 'words-file': flags['words-file'] }] : []),
    ...(flags['identity-file'] === undefined ? [] : [{ 'identity-file': flags['identity-file'] }]),
    ...(vault === undefined ? [] : [{ vault, 'passphrase-file': passphraseFile }]),
    ...(shares ? [{ 'words-file': shares }] : []),
  ];
  const secrets: Partial<Record<SecretKind, RestoreSecret>> = {};
  for (const one of named.length > 0 ? named : [{}]) {
    const { source, ...secret } = await restoreSecret(one, signal);
    secrets[source === 'age-key' ? 'identity' : source] ??= secret;
  }
  return secrets;
}

/** What this host has on record of the agent; what cannot be read is told, and not compared with. */
async function recordOf({ agent }: Config): Promise<{ record: OnRecord; warnings: Warning[] }> {
  const warnings: Warning[] = [];
  if (!agent) return { record: {}, warnings };
  const orNone = async <T>(path: string, read: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await read();
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      const message = `${path} is not compared with: ${error.message}`;
      warnings.push({ code: 'not_on_record', message, incomplete: true });
      return undefined;
    }
  };
  const writerKey = await orNone(agent.writerKey, () => readWriterKeyIfAny(agent));
  const signer = await orNone(agent.identity, () => readSigner(agent));
  const record: OnRecord = {
    handle: agent.handle,
    ...(writerKey && {
      repository: writerKey.repositoryId,
      writerKeyFile: { path: agent.writerKey, publicKey: hex(writerKey.agentPublicKey) },
      folders: localFolders(process.env, writerKey.repositoryId),
    }),
    ...(signer && { identityFile: { path: agent.identity, publicKey: hex(signer.publicKey) } }),
  };
  return { record, warnings };
}

/** What the environment of a machine has, whoever's it is. */
const OF_ANY_MACHINE = /^(?:PATH|LANG|LC_\w+|TERM|TZ|USER|LOGNAME|SHELL)$/;

export async function drillOptions(
  config: Config & Required<Pick<Config, 'backends'>>,
  asked: Pick<DrillOptions, 'names' | 'secrets' | 'scenarios' | 'tool'> & {
    shadowArgv?: readonly string[] | undefined;
  },
): Promise<{ options: DrillOptions; warnings: Warning[] }> {
  const { record, warnings } = await recordOf(config);
  const { drill: settings = drillSettings({}, (path) => path, config.path) } = config;
  const env = Object.entries(process.env).filter(
    (pair): pair is [string, string] => OF_ANY_MACHINE.test(pair[0]) && pair[1] !== undefined,
  );
  const profile = config.state?.profile;
  const options: DrillOptions = {
    ...{ names: asked.names, secrets: asked.secrets, scenarios: asked.scenarios, tool: asked.tool },
    backends: config.backends,
    record,
    state: config.state && (await stateOptions(config.state, [...ownPlaces(config), ...localRoots(process.env)])),
    profile: await ownProfile(config),
    home: homedir(),
    commands: settings.commands,
    commandTimeoutMs: settings.commandTimeoutMs,
    timeoutMs: settings.timeoutMs,
    without: settings.without,
    env: Object.fromEntries(env),
    handoff: settings.handoff,
    shadow: asked.shadowArgv ? { ...USUAL_SHADOW, ...settings.shadow, argv: asked.shadowArgv } : settings.shadow,
    ignore: settings.ignore,
    objectives: { rtoMs: settings.rtoMs, rpoMs: settings.rpoMs },
    renderConfig: ({ files, state }, handle, backends) =>
      renderConfig({
        ...{ handle, identity: files.identity, writerKey: files.writerKey, root: state, backends, require: 1 },
        ...(profile !== undefined && { profile }),
      }),
    atExit: (work) => {
      process.once('exit', work);
      return () => process.off('exit', work);
    },
    folder: resolve(tmpdir()), // which may be relative: commands run elsewhere
    hostname: hostname(),
  };
  return { options, warnings };
}
