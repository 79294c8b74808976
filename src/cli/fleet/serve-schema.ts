/** The parts of the section `fleet` about being looked at: the server and the alert rules. */
import { z } from 'zod';
import { duration } from '../operating-schema.ts';

const percent = z.string().regex(/^(?:[1-9]\d?|100)%$/, 'must be a percentage from 1% to 100%');

export const serveKeys = {
  serve: z
    .strictObject({
      listen: z
        .string()
        .min(1)
        .max(300)
        .optional()
        .describe('ADDRESS:PORT, the address as digits or localhost; default 127.0.0.1:8790.'),
      remote: z
        .boolean()
        .optional()
        .describe('That `listen` may be another address than loopback. It is no HTTPS: see docs/monitoring.md.'),
      hosts: z
        .array(z.string().regex(/^[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?$/, 'must be a host name in small letters'))
        .max(20)
        .optional()
        .describe('Names under which it may be asked, besides localhost and addresses.'),
      tokenFile: z
        .string()
        .min(1)
        .max(4096)
        .optional()
        .describe('A file with the token, mode 0600; default one that is made below the XDG state folder.'),
      openMetrics: z.boolean().optional().describe('That /metrics needs no token; on loopback only.'),
      watcherWithin: duration
        .optional()
        .describe('/health/progress fails when the watcher gave no sign of life for so long; default 1m.'),
    })
    .optional()
    .describe('What `fleet serve` goes by.'),
  alerts: z
    .strictObject({
      job: z
        .string()
        .regex(/^[\w.-]{1,100}$/, 'must be letters, digits, _, . and -')
        .optional()
        .describe('The job_name in the config of Prometheus; default holdfast.'),
      stuck: duration.optional().describe('An agent that did nothing for so long is stuck; default 10m.'),
      queueDepth: z.int().min(1).max(1_000_000).optional().describe('So many tasks may wait for an agent; default 20.'),
      errorRate: percent.optional().describe('The share of tasks that may fail; default 20%.'),
      unhealthy: percent.optional().describe('The share of the fleet that may be unhealthy; default 30%.'),
      backupAge: duration
        .optional()
        .describe('How old the newest snapshot may be; default 26h, or what the agent says.'),
      verifyAge: duration.optional().describe('How long ago the last verify without a fault may be; default 3d.'),
      drillAge: duration.optional().describe('How long ago the last drill that passed may be; default 90d.'),
    })
    .optional()
    .describe('Thresholds of the rules that `fleet alerts` writes.'),
};
