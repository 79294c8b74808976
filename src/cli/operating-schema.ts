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
      forget: time.optional().describe('The same; default "03:30" where there is a section retention, else off.'),
      drill: time
        .optional()
        .describe('When it is looked whether a drill is due (`drill.every`); off unless it is said here.'),
      jitter: duration.optional().describe('Each run begins so much later at most; default 15m.'),
    })
    .describe('What `holdfast schedule install` sets up.'),
  prune: z
    .strictObject({
      grace: duration.optional().describe('How long condemned packs stay before they may be deleted; default 7d.'),
      repackBudget: z
        .string()
        .regex(/^\d[\da-zA-Z.]{0,39}$/, 'must be a size with a unit, such as 1GiB')
        .optional()
        .describe('How much one run may read to rewrite packs of which little is needed; default 1GiB.'),
      settle: duration
        .optional()
        .describe('How long a listing of a backend may lag behind what was stored; default 2m.'),
    })
    .describe('How `holdfast prune` deletes what no snapshot needs.'),
  notify: z
    .strictObject({
      ping: address.optional().describe('A check in the manner of healthchecks.io: is told how backups go.'),
      pingVerify: address.optional().describe('A second one, for `verify`.'),
      pingDrill: address.optional().describe('A third one, for `drill run`.'),
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
