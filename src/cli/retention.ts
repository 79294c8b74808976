/** Which snapshots stay, from the config to what operations take. */
import type { z } from 'zod';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { localTime, type KeepRules } from '../operations/retention.ts';
import { parseDuration } from '../units.ts';
import type { retentionSection } from './retention-schema.ts';

export interface Retention {
  rules: KeepRules;
  /** Tags that protect. */
  protect: readonly string[];
  timeZone?: string | undefined;
}

/** What `init` writes: hourly backups that are never thinned out fill any disk. */
export const DEFAULT_RETENTION = `# What \`holdfast forget\` keeps: the newest snapshot of each of so many days, weeks and months.
retention: {daily: 7, weekly: 5, monthly: 12}
`;

/** @throws `config_invalid` */
export function retentionOf(raw: z.output<typeof retentionSection>, file: string): Retention {
  const { within, protect = [], timeZone, ...counts } = raw;
  try {
    localTime(timeZone);
    const withinMs = within === undefined ? undefined : parseDuration(within, 'config_invalid');
    return { rules: { ...counts, ...(withinMs !== undefined && { withinMs }) }, protect, timeZone };
  } catch (error) {
    if (error instanceof RangeError) {
      throw new HoldfastError('config_invalid', `${file}: \`retention.timeZone\` is no time zone: ${timeZone}`, {
        hint: 'Write a name such as Europe/Berlin, or leave it out for UTC.',
      });
    }
    if (!isHoldfastError(error, 'config_invalid')) throw error;
    throw new HoldfastError('config_invalid', `${file}: \`retention.within\` is not valid: ${error.message}`, {
      ...(error.hint !== undefined && { hint: error.hint }),
    });
  }
}
