/** The section `drill` of holdfast.yaml. */
import { z } from 'zod';
import { HOOKS_MAX } from '../../limits.ts';

const duration = z.string().regex(/^\d[\da-z]{0,39}$/, 'must be a duration with a unit, such as 15m');
const path = z.string().min(1).max(4096);
const pattern = z
  .string()
  .min(1)
  .max(1024)
  .regex(/^[^\n\r]*\S[^\n\r]*$/, 'a pattern is one line that is not empty');
const patterns = z.array(pattern).max(1000);

export const drillSection = z
  .strictObject({
    every: duration.optional().describe('A drill is due so long after the last; default 90d.'),
    rto: duration.optional().describe('The recovery may take so long (recovery time objective).'),
    rpo: duration.optional().describe('The newest snapshot may be so old (recovery point objective).'),
    checks: z
      .array(z.string().min(1).max(4096))
      .max(HOOKS_MAX)
      .optional()
      .describe(
        'Commands for /bin/sh, run with the restored HOME in the restored state; each must end with exit code 0.',
      ),
    checkTimeout: duration.optional().describe('How long each of these commands may take; default 5m.'),
    handoff: z
      .strictObject({
        where: patterns.optional().describe('Files that answer: where are we?'),
        pending: patterns.optional().describe('What is pending?'),
        decided: patterns.optional().describe('What was decided?'),
        changed: patterns.optional().describe('What changed?'),
      })
      .optional()
      .describe(
        'Patterns of files of the state of which one must answer each question; default what the profile says.',
      ),
    scenarios: z
      .union([path, z.array(path).max(1000)])
      .optional()
      .describe('Scenarios of your own: files, or folders of .yaml files.'),
    ignore: patterns.optional().describe('Patterns of .json and .jsonl files that need not parse.'),
  })
  .describe('What `holdfast drill run` goes by; see docs/drill.md.');
