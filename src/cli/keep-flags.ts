/** Keep-rules as flags. */
import * as Flags from '@oclif/core/flags';
import { PERIODS, type KeepRules, type Period } from '../operations/retention.ts';
import { parseDuration } from '../units.ts';

const newestOf = (period: string) =>
  Flags.integer({ summary: `Keep the newest of each of so many ${period}.`, helpValue: 'N', min: 0 });

/** Beside what the config says, and in the place of the rule of the same name. */
export const keepFlags = {
  'keep-last': Flags.integer({ summary: 'Keep the newest so many.', helpValue: 'N', min: 0 }),
  'keep-hourly': newestOf('hours'),
  'keep-daily': newestOf('days'),
  'keep-weekly': newestOf('weeks'),
  'keep-monthly': newestOf('months'),
  'keep-yearly': newestOf('years'),
  'keep-within': Flags.string({
    summary: 'Keep what is at most so much older than the newest, for example 30d.',
    helpValue: 'DURATION',
  }),
  'keep-tag': Flags.string({ summary: 'Keep all with this tag.', multiple: true, helpValue: 'TAG', default: [] }),
};

export type KeepFlagValues = { [name in `keep-${'last' | Period}`]?: number | undefined } & {
  'keep-within'?: string | undefined;
  'keep-tag': readonly string[];
};

/** The rules that flags give, those that are not given left out. @throws `usage` */
export function rulesOf(flags: KeepFlagValues): KeepRules {
  const counts = (['last', ...PERIODS] as const).map((name) => [name, flags[`keep-${name}`]] as const);
  const within = flags['keep-within'];
  return {
    ...Object.fromEntries(counts.filter(([, count]) => count !== undefined)),
    ...(within !== undefined && { withinMs: parseDuration(within) }),
    ...(flags['keep-tag'].length > 0 && { tags: flags['keep-tag'] }),
  };
}
