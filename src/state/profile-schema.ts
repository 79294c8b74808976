/** The shape of a profile file; docs/profiles.md explains it. Apart from profile.ts, because loading zod takes as long as starting Node. */
import { z } from 'zod';
import { isProfileName } from './profile-names.ts';

const text = z.string().min(1).max(1024);
/** gitignore syntax, one line each, relative to the root. */
const pattern = text
  .regex(/^[^\n\r]*\S[^\n\r]*$/, 'a pattern is one line that is not empty')
  .refine((line) => !line.startsWith('#'), 'a pattern that begins with # is a comment; write \\#');
const patterns = z.array(pattern).max(1000).default([]);
/** A path from the root; `*` stands for any name, `{a,b}` for one of several. */
const place = text.refine(
  (path) => !path.startsWith('/') && !path.split('/').includes('..'),
  'must lie below the root',
);

const check = z.discriminatedUnion('check', [
  z.strictObject({ check: z.literal('newest'), files: pattern }),
  z.strictObject({ check: z.literal('rows'), files: pattern, table: text.optional() }),
  z.strictObject({ check: z.literal('lines'), files: pattern }),
  z.strictObject({ check: z.literal('same'), files: pattern }),
  z.strictObject({ check: z.literal('absent'), files: pattern }),
]);

export const profileSchema = z.strictObject({
  name: z.string().refine(isProfileName, 'a name is 1 to 32 characters of a-z, 0-9 and -'),
  title: text,
  roots: z.array(text).max(100).default([]),
  detect: z
    .strictObject({ required: z.array(place).min(1).max(100), typical: z.array(place).max(100).default([]) })
    .optional(),
  secret: patterns,
  cache: patterns,
  databases: patterns,
  logs: patterns,
  templates: z
    .array(
      z.strictObject({
        files: pattern,
        lines: z.array(text).max(1000).default([]),
        sha256: z
          .array(z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits'))
          .max(1000)
          .default([]),
      }),
    )
    .max(1000)
    .default([]),
  continuity: z.array(check).max(1000).default([]),
  handoff: z.strictObject({ where: patterns, pending: patterns, decided: patterns, changed: patterns }).optional(),
  pathDependent: text.optional(),
});

export type ProfileData = z.output<typeof profileSchema>;

/** The keys known at `path`, for a hint; empty where any is allowed. */
export function knownProfileKeys(path: readonly PropertyKey[]): string[] {
  const [first] = path;
  if (first === undefined) return Object.keys(profileSchema.shape);
  if (first === 'detect') return ['required', 'typical'];
  if (first === 'handoff') return ['where', 'pending', 'decided', 'changed'];
  if (first === 'templates') return ['files', 'lines', 'sha256'];
  if (first === 'continuity') return ['check', 'files', 'table (of rows)'];
  return [];
}
