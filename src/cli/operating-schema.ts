/** The part of holdfast.yaml that is about running by itself: hooks, schedule, notifications, metrics, log. */
import { z } from 'zod';
import { HOOKS_MAX } from '../limits.ts';

export const duration = z.string().regex(/^\d[\da-z]{0,39}$/, 'must be a duration with a unit, such as 5m');
const commands = z.array(z.string().min(1).max(4096)).max(HOOKS_MAX).optional();
const time = z.string().min(1).max(200);
/** What could be sent a request; a password in it would not be. */
const address = z
  .string()
  .max(4096)
  .refine(
    (text) => /^https?:\/\/[^\s@]+$/.test(text) && URL.canParse(text),
    'must be an address https://… without a password before the host',
  );

/** Of the section `state`. */
export const hookKeys = {
  before: commands.describe('Commands for /bin/sh that run before the state is read; one that fails ends the run.'),
  after: commands.describe('Commands that run as soon as the state was read, also when that failed.'),
  onError: commands.describe('Commands that run when a backup failed.'),
  hookTimeout: duration.optional().describe('How long each of these commands may take; default 5m.'),
};

export const operatingSections = {
  schedule: z
    .strictObject({
      backup: time.optional().describe('hourly (the default), daily, "03:00", "Mon..Fri *-*-* 03:00", cron, or off.'),
      verify: time.optional().describe('The same; default daily.'),
      jitter: duration.optional().describe('Each run begins so much later at most; default 15m.'),
    })
    .describe('What `holdfast schedule install` sets up.'),
  notify: z
    .strictObject({
      ping: address.optional().describe('A check in the manner of healthchecks.io: is told how backups go.'),
      pingVerify: address.optional().describe('A second one, for `verify`.'),
      pingFailure: z
        .enum(['fail', 'exit-code'])
        .optional()
        .describe('Failures are told at URL/fail (the default) or URL/<exit code>.'),
      webhook: address.optional().describe('Is sent the outcome of each run as JSON.'),
    })
    .describe('Who is told how a run went. The addresses are secrets.'),
  metrics: z
    .strictObject({
      textfile: z
        .string()
        .min(1)
        .max(4096)
        .regex(/\.prom$/, 'must end in .prom, or the collector does not read it')
        .describe("File for the textfile collector of Prometheus' node_exporter."),
    })
    .describe('Measurements of the last runs.'),
  log: z
    .strictObject({
      to: z
        .string()
        .regex(
          /^(journald|stderr-json|.{1,4096}\.jsonl)$/,
          'must be journald, stderr-json or a file that ends in .jsonl',
        )
        .describe('journald, stderr-json, or a file that ends in .jsonl.'),
      level: z.enum(['debug', 'info', 'warning', 'error']).optional().describe('The least that is told; default info.'),
    })
    .describe('A log of the runs, a JSON document a line.'),
};
