/** The section `fleet` of holdfast.yaml. */
import { z } from 'zod';
import { WINDOW_MAX_CALLS } from '../../policy/breaker.ts';
import { duration } from '../operating-schema.ts';
import { serveKeys } from './serve-schema.ts';
import { agentKeys, lookKeys, pattern } from './agent-schema.ts';
import { watchAgentKeys, watchKeys } from './watch-schema.ts';

/** As `checkAgentName` has it: it becomes part of keys. */
const agentName = z
  .string()
  .max(64)
  .regex(/^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$/, 'must be letters, digits, _ and -, with single dots between them');
const exitCode = z.int().min(1).max(255);
const fallback = z.string().min(1).max(64);

const breaker = z
  .strictObject({
    failureThreshold: z
      .int()
      .min(1)
      .max(1000)
      .optional()
      .describe(
        'Failures in a row that open it; default 3, of critical agents 2; none where `window` or `ratio` is set.',
      ),
    recoveryTimeout: duration
      .optional()
      .describe('How long it stays open before one call may try; default 5m, of critical agents 2m.'),
    recoveryGrowth: z
      .number()
      .min(1)
      .max(10)
      .optional()
      .describe('After a trial that failed it stays open so many times as long as before; default 2.'),
    recoveryMax: duration.optional().describe('… but not longer than this; default 1h.'),
    window: z
      .int()
      .min(2)
      .max(WINDOW_MAX_CALLS)
      .optional()
      .describe('For frequent calls: of so many last calls `ratio` may not fail; default 20 where `ratio` is set.'),
    ratio: z
      .string()
      .regex(/^(?:[1-9]\d?|100)%$/, 'must be a percentage from 1% to 100%')
      .optional()
      .describe('The share of failures in `window` that opens it; default 50% where `window` is set.'),
    slowCall: duration.optional().describe('A call that took longer counts as a failure.'),
    probeLease: duration
      .optional()
      .describe('When whoever tries a half-open breaker out dies, another may after this time; default 1m.'),
    timeout: duration.optional().describe('How long a command of `breaker run` may take; default 30m.'),
    retry: z
      .strictObject({
        tries: z.int().min(1).max(100).optional().describe('How often a command is tried; default 1.'),
        base: duration
          .optional()
          .describe('The first pause is random, up to this, the next up to twice as long; default 1s.'),
        cap: duration.optional().describe('No pause is longer; default 1m.'),
      })
      .optional()
      .describe('What `breaker run` does about failures that may pass.'),
    permanent: z
      .strictObject({
        exitCodes: z.array(exitCode).max(100).optional().describe('Default 64 to 68, 77, 78, 126, 127.'),
        stderr: z
          .array(pattern)
          .max(32)
          .optional()
          .describe('Regular expressions for what the command wrote to stderr.'),
      })
      .optional()
      .describe('Failures that would come again: not repeated, not counted, no fallback.'),
    fallback: z
      .union([fallback, z.array(fallback).min(1).max(16)])
      .optional()
      .describe(
        'Other agents of `fleet.agents`, in this order, and queue_for_retry, escalate_to_human, proceed_with_warning.',
      ),
  })
  .optional();

export const fleetSection = {
  fleet: z
    .strictObject({
      store: z
        .string()
        .min(1)
        .max(4096)
        .optional()
        .describe('The file that processes share; default below the XDG state folder, one for each config.'),
      breaker: breaker.describe('Of all agents, where they say nothing else.'),
      ...lookKeys,
      queue: z
        .strictObject({
          backoff: z
            .array(duration)
            .min(1)
            .max(20)
            .optional()
            .describe('The pause before each attempt at a queued command; default 1m, 5m, 15m.'),
          env: z
            .array(z.string().regex(/^[A-Za-z_]\w{0,99}$/, 'must be the name of a variable'))
            .max(100)
            .optional()
            .describe('Variables that are kept, with their values, with a queued command. No secrets.'),
        })
        .optional()
        .describe('Commands that wait to be run again.'),
      ...serveKeys,
      ...watchKeys,
      agents: z
        .record(
          agentName,
          z.strictObject({
            critical: z.boolean().optional().describe('That the others cannot do without it.'),
            breaker: breaker.describe('When calls of this agent are stopped.'),
            ...agentKeys,
            ...watchAgentKeys,
          }),
        )
        .optional()
        .describe('The agents, by name.'),
    })
    .describe('Agents whose health is watched, and whose calls are guarded.'),
};
