/** From the config to what a backup takes of the state, by its profile. */
import { resolve } from 'node:path';
import type { Warning } from '../entry.ts';
import { isHoldfastError } from '../errors.ts';
import type { StateOptions } from '../operations/saving/save-tree.ts';
import { isProfileName } from '../state/profile-names.ts';
import { detectProfile, loadProfile, scaffoldJudge, type Profile } from '../state/profile.ts';
import { loadConfig, type Config } from './config.ts';

/** The profile's own patterns come first, so that the config can take one back (`!`). @throws `config_invalid` for a profile that cannot be used */
export async function stateOptions(
  { profile: named, root, exclude, secrets = 'apart', special, oneFileSystem }: NonNullable<Config['state']>,
  keepOut: readonly string[],
): Promise<StateOptions> {
  const profile = await loadProfile(named);
  const { name, cache, secret, logs } = profile;
  return {
    root,
    exclude: [...cache, ...exclude],
    keepOut,
    special,
    oneFileSystem,
    secret: { patterns: secret, handling: secrets },
    profile: name,
    appendOnly: logs,
    isScaffold: scaffoldJudge(profile),
  };
}

/** The user's own profile, where the config names one and it can be read: a restore does without. */
export async function ownProfile({ state }: Pick<Config, 'state'>): Promise<Profile | undefined> {
  if (!state || isProfileName(state.profile)) return undefined;
  try {
    return await loadProfile(state.profile);
  } catch (error) {
    if (isHoldfastError(error, 'config_invalid')) return undefined;
    throw error;
  }
}

/** Of a config that came out of a snapshot: a profile of the user's is a file of its own, and may not be on this machine. */
export async function missingProfile(configFile: string): Promise<Warning[]> {
  try {
    const { state } = await loadConfig(configFile);
    if (state) await loadProfile(state.profile);
    return [];
  } catch (error) {
    if (!isHoldfastError(error, 'config_invalid')) throw error;
    return [{ code: 'profile_missing', message: `no backup can be made yet: ${error.message}` }];
  }
}

/** The one that is named, or found by what is in the folder; with how the config names it. */
export async function chosenProfile(
  given: string | undefined,
  root: string,
): Promise<{ data: Profile; named: string }> {
  if (given === undefined) {
    const data = await detectProfile(root);
    return { data, named: data.name };
  }
  const named = isProfileName(given) ? given : resolve(given);
  return { data: await loadProfile(named), named };
}
