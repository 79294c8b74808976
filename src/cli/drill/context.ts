/** From the config, the flags and the files of this host to what a drill takes. */
import { homedir, hostname, tmpdir } from 'node:os';
import { hex } from '../../crypto/hash.ts';
import type { Warning } from '../../entry.ts';
import { isSurvivable } from '../../errors.ts';
import type { RestoreSecret } from '../../operations/access.ts';
import { builtInScenarios, loadScenarios, type Scenario } from '../../drill/scenario.ts';
import type { DrillOptions, OnRecord } from '../../drill/scene.ts';
import type { SecretKind } from '../../drill/scenario-schema.ts';
import { renderConfig, type Config } from '../config.ts';
import { localFolders, localRoots, ownPlaces, readSigner, readWriterKeyIfAny, restoreSecret } from '../context.ts';
import { drillSettings } from './config.ts';
import type { PassphraseFlagValues } from '../secrets.ts';
import { ownProfile, stateOptions } from '../state-options.ts';

/** Those that come with holdfast, those of the config, and those of these files or folders. @throws `config_invalid` */
export async function allScenarios(config: Config | undefined, more: readonly string[]): Promise<Scenario[]> {
  const all = await builtInScenarios();
  for (const path of [...(config?.drill?.scenarios ?? []), ...more]) all.push(...(await loadScenarios(path)));
  return all;
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
  asked: Pick<DrillOptions, 'names' | 'secrets' | 'scenarios' | 'tool'>,
): Promise<{ options: DrillOptions; warnings: Warning[] }> {
  const { record, warnings } = await recordOf(config);
  const { drill: settings = drillSettings({}, (path) => path, config.path) } = config;
  const env = Object.entries(process.env).filter(
    (pair): pair is [string, string] => OF_ANY_MACHINE.test(pair[0]) && pair[1] !== undefined,
  );
  const profile = config.state?.profile;
  const options: DrillOptions = {
    ...asked,
    backends: config.backends,
    record,
    state: config.state && (await stateOptions(config.state, [...ownPlaces(config), ...localRoots(process.env)])),
    profile: await ownProfile(config),
    home: homedir(),
    commands: settings.commands,
    commandTimeoutMs: settings.commandTimeoutMs,
    env: Object.fromEntries(env),
    handoff: settings.handoff,
    ignore: settings.ignore,
    objectives: { rtoMs: settings.rtoMs, rpoMs: settings.rpoMs },
    renderConfig: ({ files, state }, handle, backends) =>
      renderConfig({
        ...{ handle, identity: files.identity, writerKey: files.writerKey, root: state, backends, require: 1 },
        ...(profile !== undefined && { profile }),
      }),
    folder: tmpdir(),
    hostname: hostname(),
  };
  return { options, warnings };
}
