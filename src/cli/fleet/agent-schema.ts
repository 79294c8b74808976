/** What is looked at of an agent: a part of the section `fleet` of holdfast.yaml. */
import { z } from 'zod';
import { duration } from '../operating-schema.ts';

const path = z.string().min(1).max(4096);
const command = z.string().min(1).max(4096);
const text = z.string().min(1).max(1024);
export const pattern = text.refine((source) => {
  try {
    return new RegExp(source, 'm') instanceof RegExp;
  } catch {
    return false;
  }
}, 'must be a regular expression');
const url = z
  .string()
  .max(4096)
  .refine(
    (address) => /^https?:\/\/[^\s@]+$/.test(address) && URL.canParse(address),
    'must be an address http://… or https://… without a password (`headers` are for that)',
  );
const percent = z.string().regex(/^(?:\d{1,2}(?:\.\d{1,2})?|100)%$/, 'must be a percentage such as 20%');

const thresholds = {
  startup: duration
    .optional()
    .describe('The grace of a start: so long what was never well is not called down; default 1m.'),
  failures: z.int().min(1).max(1000).optional().describe('Looks in a row that must fail before it is down; default 3.'),
  successes: z
    .int()
    .min(1)
    .max(1000)
    .optional()
    .describe('Looks in a row that must be well before it is up; default 2.'),
};
const pace = {
  interval: duration.optional().describe('How often it is looked at; default 10s.'),
  timeout: duration.optional().describe('How long a look may take; default 5s.'),
};
/** Of the whole fleet, and of an agent. */
export const lookKeys = { ...pace, ...thresholds };

const headers = z
  .record(
    z.string().regex(/^[A-Za-z0-9-]{1,100}$/, 'must be the name of a header'),
    z
      .strictObject({
        file: path.optional(),
        env: z
          .string()
          .regex(/^[A-Za-z_]\w{0,99}$/)
          .optional(),
      })
      .refine((from) => (from.file === undefined) !== (from.env === undefined), 'must have either file or env'),
  )
  .optional()
  .describe('Headers, each from a file or a variable: they may be secrets.');

const kinds = {
  http: url.optional().describe('An address that answers 200 to 299. Redirections are not followed.'),
  tcp: z
    .string()
    .regex(/^(?:[\w.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):\d{1,5}$/, 'must be HOST:PORT')
    .optional()
    .describe('HOST:PORT that accepts a connection.'),
  command: command.optional().describe('For /bin/sh: exit code 0 is well; its last line is the evidence.'),
  process: z
    .strictObject({
      pidFile: path.optional().describe('The file with its number.'),
      command: pattern
        .optional()
        .describe('A pattern for its command line; so a number that was used again is found out.'),
    })
    .refine((one) => one.pidFile !== undefined || one.command !== undefined, 'must have pidFile or command')
    .optional()
    .describe('A process that runs; one that is stopped or a zombie does not.'),
  file: path.optional().describe('A file that is there, and fresh where `within` says so.'),
};
const httpKeys = {
  status: z.array(z.int().min(100).max(599)).min(1).max(50).optional().describe('HTTP: the answers that are well.'),
  checks: z.array(text).max(100).optional().describe('HTTP: checks in a JSON answer that must be there and pass.'),
  headers,
};
const contentKeys = {
  contains: text.optional().describe('HTTP, file: what must be in it.'),
  pattern: pattern.optional().describe('File: a regular expression that must match something in it.'),
  time: pattern.optional().describe('File: matches a time in it (the first group); the latest says how old it is.'),
};

/** Which settings belong to which kind. */
const BELONGS: Readonly<Record<string, readonly string[]>> = {
  status: ['http'],
  checks: ['http'],
  headers: ['http'],
  field: ['http'],
  contains: ['http', 'file'],
  pattern: ['file'],
  time: ['file'],
};

type Keys = Readonly<Record<string, unknown>>;
const kindsIn = (one: Keys, of: readonly string[]) => of.filter((kind) => one[kind] !== undefined);

function checkKinds(of: readonly string[], fresh: readonly string[]) {
  return (one: Keys, context: z.core.$RefinementCtx): void => {
    const [kind, another] = kindsIn(one, of);
    const say = (message: string): void => context.addIssue({ code: 'custom', message });
    if (kind === undefined || another !== undefined) return say(`must have one of ${of.join(', ')}`);
    for (const [key, belongs] of Object.entries(BELONGS))
      if (one[key] !== undefined && !belongs.includes(kind))
        return say(`${key} is a setting of ${belongs.join(' and ')}`);
    if (one['within'] !== undefined && !fresh.includes(kind))
      return say(`within is a setting of ${fresh.join(' and ')}`);
    if (one['within'] === undefined && one['time'] !== undefined) say('time needs within');
  };
}

const KINDS = ['http', 'tcp', 'command', 'process', 'file'];
const within = duration.optional().describe('How old it may be.');

const look = z
  .union([
    url,
    z
      .strictObject({ ...kinds, ...httpKeys, ...contentKeys, within, ...lookKeys })
      .superRefine(checkKinds(KINDS, ['file'])),
  ])
  .optional();

const TOLD = ['lastActivity', 'lastTask'] as const;
const progress = z
  .union([
    url,
    z
      .strictObject({
        ...kinds,
        ...httpKeys,
        ...contentKeys,
        stats: z.enum(TOLD).optional().describe('What `stats` tells: lastActivity or lastTask.'),
        within,
        field: text.optional().describe('HTTP: where in the JSON answer the time is, a.b for one inside another.'),
        idle: z.boolean().optional().describe('True: where `stats` tells tasksInProgress 0, no progress is needed.'),
        ...lookKeys,
      })
      .superRefine(checkKinds([...KINDS, 'stats'], ['file', 'http', 'stats']))
      .refine(
        ({ within: age, file, stats: told, field }) => age !== undefined || (file ?? told ?? field) === undefined,
        'needs within: how old the last sign of progress may be',
      ),
  ])
  .optional();

const stats = z
  .union([
    url,
    z
      .strictObject({ http: kinds.http, file: path.optional(), command: command.optional(), headers, ...pace })
      .superRefine(checkKinds(['http', 'file', 'command'], [])),
  ])
  .optional();

const limit = { startup: thresholds.startup, failures: thresholds.failures, successes: thresholds.successes };
const rare = {
  interval: duration.optional().describe('How often the backends are asked; default 5m.'),
  timeout: duration.optional().describe('How long that may take; default 1m.'),
  failures: thresholds.failures.describe('Default 1.'),
  successes: thresholds.successes.describe('Default 1.'),
};

/** Of one agent, beside `critical` and `breaker`. */
export const agentKeys = {
  ...lookKeys,
  live: look.describe('Does it run? An address, or how else to look.'),
  ready: look.describe('Could it work? The same; checks that fail in a JSON answer are named.'),
  progress: progress.describe('Does it get anywhere?'),
  stats: stats.describe('Where it tells numbers of itself, as JSON or for Prometheus.'),
  queue: z
    .strictObject({
      max: z.int().min(0).max(1_000_000_000).optional().describe('Tasks that may wait; default 10.'),
      folder: path.optional().describe('Each file in it is a task.'),
      command: command.optional().describe('Its last line is the number of tasks.'),
      ...limit,
    })
    .optional()
    .describe('How many tasks wait, by `stats` unless it says otherwise.'),
  errors: z
    .strictObject({ max: percent.optional().describe('Tasks that may fail; default 20%.'), ...limit })
    .optional()
    .describe('How many of its tasks fail, by `stats`.'),
  memory: z
    .strictObject({
      max: z
        .string()
        .regex(/^(?:\d{1,2}%|100%|\d[\da-zA-Z. ]{0,39})$/, 'must be a size such as 2GiB or a percentage')
        .optional()
        .describe('A size, or a percentage of what it may have; default 90%.'),
      ...limit,
    })
    .optional()
    .describe('How much memory it has taken, by `stats`, or of the process of `live`.'),
  backup: z
    .union([
      path,
      z.strictObject({
        config: path,
        within: duration.optional().describe('How old the newest snapshot may be.'),
        ...rare,
      }),
    ])
    .optional()
    .describe('The holdfast.yaml of the agent: is its newest snapshot fresh? Default: within its `drill.rpo`, or 26h.'),
  drill: z
    .union([path, z.strictObject({ config: path, ...rare })])
    .optional()
    .describe('The holdfast.yaml of the agent: was a recovery rehearsed within its `drill.every`?'),
};
