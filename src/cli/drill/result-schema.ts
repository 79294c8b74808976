/** The JSON Schema of a drill, for whoever reads `drill run --json` or a report in JSON. */
import { z } from 'zod';
import { drillResultSchema } from '../../drill/history.ts';

/** What `drill run --json` prints; a report in a file is the same without what is optional here. */
export const drillReportSchema = drillResultSchema
  .extend({
    kept: z.string().nullable().optional().describe('Its id in the history of this host; null when it is not kept.'),
    stored: z.string().nullable().optional().describe('Key of the object on the backends; null without `--store`.'),
    previous: z
      .object({
        started: z.iso.datetime().describe('When it began.'),
        ok: z.boolean().describe('Whether it passed.'),
        recoverySeconds: z.number().min(0).nullable().describe('The longest recovery; null: there was none.'),
      })
      .nullable()
      .optional()
      .describe('The drill before, in the history of this host.'),
  })
  .describe('What `holdfast drill run --json` prints.');

/** Ships with the package as holdfast-drill.schema.json. Members that later versions add are no fault. */
export function drillJsonSchema(): Record<string, unknown> {
  return { title: 'holdfast drill run --json', ...z.toJSONSchema(drillReportSchema, { io: 'input' }) };
}
