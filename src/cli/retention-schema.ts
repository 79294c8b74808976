/** The section `retention` of holdfast.yaml. */
import { z } from 'zod';
import { duration } from './operating-schema.ts';

const most = z.int().min(0).max(100_000).optional();
const newestOf = (period: string) => most.describe(`Of each of so many ${period}, the newest snapshot stays.`);

export const retentionSection = z
  .strictObject({
    last: most.describe('The newest so many stay.'),
    hourly: newestOf('hours'),
    daily: newestOf('days'),
    weekly: newestOf('weeks, which begin on Monday'),
    monthly: newestOf('months'),
    yearly: newestOf('years'),
    within: duration.optional().describe('What is at most so much older than the newest stays, for example 48h.'),
    protect: z
      .array(z.string().min(1).max(200))
      .max(100)
      .optional()
      .describe('Snapshots with one of these tags always stay, as those tagged protected do.'),
    timeZone: z
      .string()
      .min(1)
      .max(100)
      .optional()
      .describe('In which hours and days are counted, for example Europe/Berlin; default UTC.'),
  })
  .describe('Which snapshots `holdfast forget` keeps; see docs/retention.md.');
