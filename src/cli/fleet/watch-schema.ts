/** What of the section `fleet` is about the watchdog: its rules, what it may do to an agent, degradation levels. */
import { z } from 'zod';
import { LAYERS } from '../../fleet/health.ts';
import { ACTIONS } from '../../fleet/rules.ts';
import { duration } from '../operating-schema.ts';

const command = z.string().min(1).max(4096);
const path = z.string().min(1).max(4096);
const share = z.string().regex(/^(?:\d{1,2}|100)%$/, 'must be a percentage from 0% to 100%');
const name = z.string().min(1).max(64);
const names = z.array(name).min(1).max(1000);

const trigger = z
  .strictObject({
    down: z.enum(LAYERS).optional().describe('This layer is down, or was never seen; of `progress` its age counts.'),
    idle: duration.optional().describe('It tells that it has tasks, and of no activity for so long.'),
    queue: z.int().min(0).optional().describe('More tasks than this wait.'),
    errors: share.optional().describe('A greater share of its tasks fails.'),
    memory: share.optional().describe('It uses more of its memory than this.'),
    spent: z.union([name, names]).optional().describe('These rules were tried in vain.'),
    for: duration.optional().describe('… and for so long; default 0s.'),
  })
  .describe('One condition, and how long it has to hold.');
const actions = z.array(z.enum(ACTIONS)).min(1).max(ACTIONS.length);

const rule = z.union([
  z.literal('off'),
  z.strictObject({
    when: z
      .union([trigger, z.array(trigger).min(1).max(10)])
      .optional()
      .describe('Any of them.'),
    actions: actions.optional().describe('In this order; when one fails, those after it are not done.'),
    coolDown: duration.optional().describe('Between two tries.'),
    tries: z.int().min(1).max(1000).optional().describe('Then it is escalated; default 3.'),
    escalate: z.array(z.enum(ACTIONS)).max(ACTIONS.length).optional().describe('Default [notify].'),
    agents: z
      .union([z.literal('critical'), names])
      .optional()
      .describe('Whom it is for: `critical`, or names; default all.'),
  }),
]);

const level = z.strictObject({
  when: z
    .array(
      z.strictObject({
        agents: z
          .union([z.enum(['all', 'critical', 'specialists']), names])
          .optional()
          .describe('Who counts: all (the default), critical, specialists (all others), or names.'),
        are: z
          .enum(['unhealthy', 'breaker', 'out'])
          .describe('unhealthy or in quarantine; with a breaker that is not closed; or one of the two.'),
        for: duration.optional().describe('How long they are unhealthy at least; default 0s.'),
        least: z.int().min(1).optional().describe('So many of them; default 1.'),
        over: share.optional().describe('… or more than this share of them.'),
        all: z.literal(true).optional().describe('… or all of them.'),
      }),
    )
    .max(20)
    .optional()
    .describe('Any of these; [] for never. In the place of what is usual.'),
  enter: command
    .optional()
    .describe('A command for /bin/sh that is run when the level is entered, also on the way up.'),
  leave: command.optional().describe('… and when it is left.'),
});

/** Of `fleet`. */
export const watchKeys = {
  rules: z
    .record(z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be letters, digits, _ and -'), rule)
    .optional()
    .describe(
      'What is done about an agent. `dead`, `stuck`, `queue`, `errors`, `corrupted` and `quarantine` are there; `off` takes one away.',
    ),
  watch: z
    .strictObject({
      maxTouched: share
        .optional()
        .describe('The share of the fleet that is acted on at once; default 20%, at least one agent.'),
      settle: duration.optional().describe('What an agent has after an action to become well; default 2m.'),
      forget: duration.optional().describe('Tries are forgotten when their reason was gone for so long; default 30m.'),
      commandTimeout: duration.optional().describe('How long a command may take; default 5m.'),
      lease: duration
        .optional()
        .describe('A watcher that died is replaced by one that stands by after this; default 15s.'),
      suspect: z
        .union([
          z.literal('off'),
          z.strictObject({
            over: share.optional().describe('Default 50%.'),
            within: duration.optional().describe('Default 1m.'),
          }),
        ])
        .optional()
        .describe(
          'More than this share down at once, and it may be the watcher that is cut off: nothing is touched then.',
        ),
    })
    .optional()
    .describe('How `fleet watch` goes about it.'),
  degradation: z
    .union([
      z.literal('off'),
      z.strictObject({
        hold: duration.optional().describe('A level is left when it was calm for so long; default 5m.'),
        messaging: names.optional().describe('The agents that carry the messages.'),
        reduced: level.optional().describe('Level 1.'),
        essential: level.optional().describe('Level 2.'),
        emergency: level.optional().describe('Level 3.'),
      }),
    ])
    .optional()
    .describe('The levels 0 to 3 of what the fleet can still be relied on for.'),
};

/** Of one agent. */
export const watchAgentKeys = {
  restart: command.optional().describe('The command that starts it anew, whatever it is doing.'),
  scale: z
    .strictObject({
      command: command.describe('Is told the number of replicas in $HOLDFAST_REPLICAS.'),
      max: z.int().min(2).max(1000).describe('The most replicas.'),
    })
    .optional()
    .describe('How it gets more replicas.'),
  restore: z
    .strictObject({
      config: path.describe("The agent's own holdfast.yaml: its state and backends."),
      stop: command.describe('The command that stops the agent.'),
      start: command.describe('The command that starts it.'),
      within: duration.optional().describe('How long it may take until it is well; default 2m.'),
      snapshots: z.int().min(1).max(100).optional().describe('How many are tried, newest first; default 3.'),
      identityFile: path
        .optional()
        .describe('age key file (mode 0600) of a restore recipient; default $HOLDFAST_RESTORE_IDENTITY_FILE.'),
    })
    .optional()
    .describe('How its state is brought back.'),
};
