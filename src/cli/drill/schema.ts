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
    without: z
      .record(
        z.string().regex(/^[a-z0-9][a-z0-9-]{0,63}(?::[a-z0-9-]{1,32})?$/, 'must be the name of a scenario'),
        z.string().min(1).max(500),
      )
      .optional()
      .describe('Scenarios that are done without where they cannot be run, each with the reason, which reports tell.'),
    timeout: duration.optional().describe('A scenario that takes longer is ended, and has failed; default 6h.'),
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
    shadow: z
      .strictObject({
        command: z
          .string()
          .min(1)
          .max(4096)
          .describe('For /bin/sh, in the restored state: starts the agent, and runs as long as it does.'),
        ready: z
          .strictObject({
            command: z.string().min(1).max(4096).optional().describe('For /bin/sh: ends with 0 when it is ready.'),
            http: z
              .string()
              .max(4096)
              .regex(
                /^http:\/\/(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?(?:\/\S*)?$/,
                'must be an address of this host, http://127.0.0.1:PORT/…',
              )
              .optional()
              .describe('An address of this host that answers 2xx when it is ready.'),
            file: z
              .string()
              .max(4096)
              .regex(/^(?!\/)(?!(?:.*\/)?\.\.(?:\/|$))./, 'must be a path below the root of the state')
              .optional()
              .describe('A file below the root of the state that it writes when it is ready.'),
          })
          .refine((ready) => Object.keys(ready).length === 1, 'name one: command, http or file')
          .optional()
          .describe('What says that it is ready.'),
        within: duration.optional().describe('How long it may take to be ready; default 60s.'),
        checks: z
          .array(z.string().min(1).max(4096))
          .max(HOOKS_MAX)
          .optional()
          .describe('Commands for /bin/sh that ask it something; each must end with exit code 0.'),
        stop: duration.optional().describe('How long it has to end after SIGTERM; default 10s.'),
        queues: z
          .array(path)
          .max(1000)
          .optional()
          .describe('Files and folders that the agent takes work from: they must stay as they are.'),
        mayChange: patterns
          .optional()
          .describe('Patterns of what the agent in production changes in its state by itself.'),
      })
      .optional()
      .describe('How the recovered agent is started beside the one that runs.'),
    scenarios: z
      .union([path, z.array(path).max(1000)])
      .optional()
      .describe('Scenarios of your own: files, or folders of .yaml files.'),
    ignore: patterns.optional().describe('Patterns of .json and .jsonl files that need not parse.'),
  })
  .describe('What `holdfast drill run` goes by; see docs/drill.md.');
