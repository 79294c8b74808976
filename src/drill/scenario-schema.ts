/** The shape of a scenario file; docs/drill.md explains it. Apart from scenario.ts, because loading zod takes as long as starting Node. */
import { z } from 'zod';

const text = z.string().min(1).max(4096);
const duration = z.string().regex(/^\d[\da-z]{0,39}$/, 'must be a duration with a unit, such as 15m');
const backendName = z.string().regex(/^[a-z0-9-]{1,32}$/, 'a backend name is 1 to 32 characters of a-z, 0-9 and -');

/** What can restore, as it lies where a human keeps it. */
export const SECRET_KINDS = ['words', 'identity', 'vault', 'shares'] as const;
export type SecretKind = (typeof SECRET_KINDS)[number];

/** The checks that every scenario can have. Those of its steps come by themselves. */
export const CHECKS = [
  'identity',
  'agent-keys',
  'chain',
  'newest',
  'files',
  'parse',
  'databases',
  'memory',
  'scaffold',
  'tasks',
  'handoff',
  'backends',
  'freshness',
  'commands',
] as const;
export type CheckName = (typeof CHECKS)[number];
const checks = z.array(z.enum(CHECKS)).min(1).max(CHECKS.length);

const simulate = z.discriminatedUnion('step', [
  z.strictObject({
    step: z.literal('lose'),
    backends: z.union([z.enum(['each', 'others']), z.array(backendName).min(1).max(16)]),
  }),
  z.strictObject({ step: z.literal('damage'), what: z.enum(['one-each', 'newest']) }),
  z.strictObject({ step: z.literal('hide'), what: z.literal('newest') }),
  z.strictObject({ step: z.literal('rotate') }),
  z.strictObject({ step: z.literal('crash') }),
]);

const after = z.discriminatedUnion('step', [
  z.strictObject({ step: z.literal('tamper'), run: text }),
  z.strictObject({ step: z.literal('backup') }),
  z.strictObject({ step: z.literal('clone') }),
  z.strictObject({ step: z.literal('steal') }),
  z.strictObject({ step: z.literal('shadow') }),
]);

export const scenarioSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,63}$/, 'a name is 1 to 64 characters of a-z, 0-9 and -'),
  title: text,
  description: text.optional(),
  each: z.literal('backend').optional(),
  simulate: z.array(simulate).max(32).default([]),
  recover: z
    .strictObject({
      with: z
        .array(z.enum(SECRET_KINDS))
        .min(1)
        .max(SECRET_KINDS.length)
        .default([...SECRET_KINDS]),
      snapshot: z.enum(['latest', 'older']).default('latest'),
    })
    .default({ with: [...SECRET_KINDS], snapshot: 'latest' }),
  after: z.array(after).max(32).default([]),
  checks: z
    .union([z.literal('all'), z.strictObject({ only: checks }), z.strictObject({ except: checks })])
    .default('all'),
  objectives: z.strictObject({ rto: duration.optional(), rpo: duration.optional() }).optional(),
});
export type ScenarioData = z.output<typeof scenarioSchema>;
export type SimulateStep = ScenarioData['simulate'][number];
export type AfterStep = ScenarioData['after'][number];

/** The keys known at `path`, for a hint; empty where any is allowed. */
export function knownScenarioKeys(path: readonly PropertyKey[]): string[] {
  const [first] = path;
  if (first === undefined) return Object.keys(scenarioSchema.shape);
  if (first === 'simulate') return ['step', 'backends (of lose)', 'what (of damage, hide)'];
  if (first === 'after') return ['step', 'run (of tamper)'];
  if (first === 'recover') return ['with', 'snapshot'];
  if (first === 'checks') return ['only', 'except'];
  if (first === 'objectives') return ['rto', 'rpo'];
  return [];
}
