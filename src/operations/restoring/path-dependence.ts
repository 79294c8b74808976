/** Some agents find their files by paths that are written in them: what is restored elsewhere is there, and not found. */
import { resolve } from 'node:path';
import type { Warning } from '../../entry.ts';
import { BUILT_IN_PROFILES } from '../../state/profile-names.ts';
import type { Profile } from '../../state/profile.ts';

/** What there is to say about a restore to another path than the state had; undefined when there is nothing. */
export async function pathDependence(
  sources: readonly { root: string; profile?: string | undefined }[],
  { target, profile: given }: { target: string; profile?: Profile | undefined },
): Promise<Warning | undefined> {
  const source = sources[0];
  if (!source?.profile || resolve(target) === source.root) return undefined;
  const profile = given?.name === source.profile ? given : await builtIn(source.profile);
  if (!profile?.pathDependent) return undefined;
  return {
    code: 'path_dependent',
    message: `the state was in ${source.root} and is in ${target} now: ${profile.pathDependent}`,
  };
}

async function builtIn(name: string): Promise<Profile | undefined> {
  if (!BUILT_IN_PROFILES.some((known) => known === name)) return undefined;
  const { loadProfile } = await import('../../state/profile.ts');
  return loadProfile(name);
}
