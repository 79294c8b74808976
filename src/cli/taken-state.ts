/** What `init` says, also about the state: which profile it is read by, what will be taken and what will not. */
import type { InitResult } from '../operations/init.ts';
import { DEFAULT_PROFILE } from '../state/profile-names.ts';
import type { Counted, Survey } from '../state/survey.ts';
import { formatSize } from '../units.ts';
import { count, facts, lines, warningLines, wordGrid } from './render.ts';

export interface TakenState {
  /** `detected`: found by what is there, not given. */
  profile: { name: string; title: string; detected: boolean };
  takes: Survey;
}

export type Initialised = InitResult & TakenState;

export function initialisedText(result: Initialised): string {
  const { agent, recovery, backends, files, words, warnings } = result;
  const written = [files.words, files.paper].filter((file) => file !== null).join(' and ');
  const shown =
    words === undefined
      ? lines(
          '',
          `The recovery words are in ${written}. Print them, put the paper away from this host, and delete the file.`,
        )
      : lines('', 'Recovery words: write them on paper now. They are shown once and kept nowhere.', '') +
        wordGrid(words);
  return (
    warningLines(warnings) +
    facts({
      agent: agent.handle,
      'agent key': `${agent.fingerprint} (${agent.origin})`,
      'recovery key': recovery,
      backends: backends.join(', '),
      config: files.config,
      identity: files.identity,
      'writer key': files.writerKey,
      ...takenFacts(result),
    }) +
    shown +
    lines('', 'Next: holdfast backup')
  );
}

function takenFacts({ profile, takes }: TakenState): Record<string, string | undefined> {
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
