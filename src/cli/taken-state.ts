/** What `init` says about the state: which profile it is read by, what will be taken and what will not. */
import { DEFAULT_PROFILE } from '../state/profile-names.ts';
import type { Counted, Survey } from '../state/survey.ts';
import { formatSize } from '../units.ts';
import { count } from './render.ts';

export interface TakenState {
  /** `detected`: found by what is there, not given. */
  profile: { name: string; title: string; detected: boolean };
  takes: Survey;
}

export function takenFacts({ profile, takes }: TakenState): Record<string, string | undefined> {
  const { state, secret, cache, databases, logs } = takes;
  const kinds = [
    ...(databases.files > 0 ? [count(databases.files, 'database')] : []),
    ...(logs.files > 0 ? [count(logs.files, 'log')] : []),
  ];
  const among = kinds.length > 0 ? `, ${kinds.join(' and ')} among them` : '';
  return {
    profile: `${profile.name}: ${profile.title}${profile.detected && profile.name !== DEFAULT_PROFILE ? ', recognised by its files' : ''}`,
    state: `${sizeOf(state)}${among}`,
    secrets: secret.files > 0 ? `${shown(secret)}: saved apart, restored only with --with-secrets` : undefined,
    'left out': cache.files > 0 ? `${shown(cache)}: cache, not saved` : undefined,
  };
}

const sizeOf = ({ files, bytes }: Counted): string => `${count(files, 'file')}, ${formatSize(bytes)}`;

function shown(what: Counted): string {
  return `${sizeOf(what)} (${what.examples.join(', ')}${what.examples.length < what.files ? ', …' : ''})`;
}
