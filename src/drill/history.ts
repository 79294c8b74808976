/**
 * The drills so far: one file a drill, `<time>-<id>.json`, a DSSE envelope that the agent's identity signed around the result. What a drill
 * proved is worth as much as the record of it: nobody without the agent's key can add a drill that passed, or mend one that failed.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { parseEnvelope, signedBy, signEnvelope } from '../crypto/dsse.ts';
import { sha256Hex, unhex } from '../crypto/hash.ts';
import { HoldfastError, messageOf } from '../errors.ts';
import type { SigningKey } from '../identity/agent-key.ts';
import { STEPS, type DrillResult } from './result.ts';

export const DRILL_PAYLOAD_TYPE = 'application/vnd.holdfast.drill.v1+json';
/** Drills that are kept; of more the oldest go. */
export const DRILLS_KEPT = 400;
const NAME = /^\d{8}T\d{6}Z-[0-9a-f]{64}\.json$/;

const seconds = z.number().min(0);
const text = z.string().max(1_000_000);
const snapshot = z.object({
  id: text.describe('Hexadecimal.'),
  seq: z.number().int().min(0).describe('Its number, from 0.'),
  time: z.iso.datetime().describe('When it was made.'),
});
const objective = z.object({
  seconds: z.number().nullable().describe('The worst that was measured; null: nothing was.'),
  mostSeconds: seconds.nullable().describe('null: no objective is set.'),
  ok: z.boolean().nullable().describe('Whether it was met; null without a measure or an objective.'),
});
const warnings = z.array(
  z.object({
    code: text.describe('Stable.'),
    message: text.describe('For people.'),
    path: text.optional().describe('The file that it is about, for display.'),
    incomplete: z.boolean().optional().describe('Something that was asked for is missing.'),
  }),
);
const name = text.describe('Of the check; docs/drill.md has the list.');
const scenario = z.object({
  name: text.describe('With the name of the backend where there is one of it for each: lost-backend:nas.'),
  title: text.describe('One line for people.'),
  ok: z.boolean().describe('It went through to its end, and no check failed.'),
  checks: z
    .array(
      z.object({
        name,
        ok: z.boolean().describe('Whether it is proved.'),
        detail: text.describe('One line for people: what was found, or what is wrong.'),
        evidence: z
          .record(text, z.union([text, z.number(), z.boolean(), z.null(), z.array(text)]))
          .describe('Numbers, hashes and paths that were seen.'),
      }),
    )
    .describe('All that were made, in their order.'),
  skipped: z
    .array(z.object({ name, why: text.describe('What there was not to look at.') }))
    .describe('Checks that had nothing to look at.'),
  steps: z
    .array(
      z.object({
        name: z.enum(STEPS).describe('What was done.'),
        detail: text.describe('One line of what happened.'),
        seconds: seconds.describe('How long it took.'),
      }),
    )
    .describe('One after the other.'),
  recoverySeconds: seconds
    .nullable()
    .describe('From the secret to the state on the disk; null when nothing was recovered.'),
  dataLoss: z
    .object({
      bytes: z.number().min(0).nullable().describe('About; null where there was no live state to look at.'),
      files: z.number().int().min(0).nullable().describe('The same.'),
      seconds: z.number().describe('The age of the snapshot.'),
    })
    .nullable()
    .describe('What a disaster at the time of the drill would have lost.'),
  identity: z
    .object({
      continuous: z.boolean().describe('Proved to be the key from before.'),
      publicKey: text.nullable().describe('Hexadecimal; null when nothing was recovered.'),
    })
    .describe('Whether the same agent came back.'),
  snapshot: snapshot.nullable().describe('The one that was restored.'),
  secret: text.nullable().describe('What the recovery used: words, identity, vault or shares.'),
  warnings: warnings.describe('What the recovery said.'),
  error: z
    .object({
      code: text.describe('Stable.'),
      message: text.describe('What happened to which thing.'),
      hint: text.nullable().describe('What to do next.'),
    })
    .optional()
    .describe('Why it could not be gone through to its end.'),
});
/** The schema of what the history keeps, and most of what `drill run --json` prints. */
export const drillResultSchema = z.object({
  ok: z.boolean().describe('Every scenario ran and passed, but for those that the config says it does without.'),
  scenarios: z.array(scenario).describe('Those that ran.'),
  notRun: z
    .array(
      z.object({
        name: text.describe('As of those that ran.'),
        title: text.describe('One line for people.'),
        why: text.describe('What is missing for it.'),
        accepted: text
          .optional()
          .describe('Why the config does without it; then it is not what makes a drill incomplete.'),
      }),
    )
    .describe('What has not been proved.'),
  backends: z
    .array(
      z.object({
        name: text.describe('As in the config.'),
        ok: z.boolean().describe('It could be read to the end.'),
        error: text.optional().describe('Why not.'),
      }),
    )
    .describe('How each fared: one that cannot be reached is not asked again.'),
  repository: text
    .nullable()
    .describe('Its id, hexadecimal; null when nothing was recovered and this host knows none.'),
  agent: z
    .object({
      handle: text.describe('Its name.'),
      publicKey: text.describe('ed25519, hexadecimal.'),
      fingerprint: text.describe('As `identity show` has it.'),
    })
    .nullable()
    .describe('Who came back; null when nobody did.'),
  objectives: z
    .object({ rto: objective.describe('The recovery time.'), rpo: objective.describe('The age of what came back.') })
    .describe('The worst over all scenarios, against what the config asks for.'),
  started: z.iso.datetime().describe('When the drill began.'),
  seconds: seconds.describe('How long it took in all.'),
  warnings: warnings.describe('What was said of the drill as a whole.'),
});

/** A drill of the history. */
export interface KeptDrill {
  /** SHA-256 of the result as it was signed. */
  id: string;
  result: DrillResult;
  /** False for what an earlier key of the agent signed: it proved that the earlier one would come back. */
  isCurrent: boolean;
}

export interface DrillHistory {
  /** Oldest first. */
  drills: KeptDrill[];
  /** Files that are no drill of this agent, or were changed. */
  problems: { file: string; message: string }[];
}

/** The last that a Date can be: in the year 275760. */
const LAST_DATE_MS = 8.64e15;

const folderOf = (state: string): string => join(state, 'drills');

/**
 * Adds a drill. @param state the repository's state folder on this host.
 * @throws `io` when it cannot be written
 */
export function keepDrill(state: string, result: DrillResult, signer: SigningKey): KeptDrill {
  const payload = Buffer.from(JSON.stringify(result));
  const id = sha256Hex(payload);
  const stamp = new Date(result.started).toISOString().replace(/[-:]|\.\d+/g, '');
  const folder = folderOf(state);
  const path = join(folder, `${stamp}-${id}.json`);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(`${path}.new`, signEnvelope(DRILL_PAYLOAD_TYPE, payload, [signer]), { mode: 0o600, flush: true });
    renameSync(`${path}.new`, path);
    for (const name of names(folder).slice(0, -DRILLS_KEPT)) rmSync(join(folder, name), { force: true });
  } catch (cause) {
    throw new HoldfastError('io', `the drill cannot be kept in ${folder}: ${messageOf(cause)}`, {
      hint: "The folder for holdfast's own state must be writable.",
      cause,
    });
  }
  return { id, result, isCurrent: true };
}

/** @param publicKey of the agent (32 bytes). */
export function readDrills(state: string, publicKey: Uint8Array): DrillHistory {
  const folder = folderOf(state);
  const history: DrillHistory = { drills: [], problems: [] };
  for (const file of names(folder)) {
    try {
      const envelope = parseEnvelope(readFileSync(join(folder, file)), DRILL_PAYLOAD_TYPE);
      const id = sha256Hex(envelope.payload);
      if (!file.includes(id)) throw new HoldfastError('damaged', 'its name is that of another');
      const result = drillResultSchema.parse(JSON.parse(Buffer.from(envelope.payload).toString('utf8'))) as DrillResult;
      const isCurrent = signedBy(envelope, publicKey);
      if (!isCurrent && !(result.agent && signedBy(envelope, unhex(result.agent.publicKey))))
        throw new HoldfastError('forged', 'the key of the agent in it did not sign it');
      history.drills.push({ id, result, isCurrent });
    } catch (error) {
      const message = error instanceof HoldfastError ? error.message : 'it is no drill that this holdfast can read';
      history.problems.push({ file, message });
    }
  }
  history.drills.sort((a, b) => Date.parse(a.result.started) - Date.parse(b.result.started));
  return history;
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => NAME.test(name))
      .sort();
  } catch {
    return [];
  }
}

/** When the next drill is due, as far as the history tells: `every` after the last that proved a whole recovery, and at once when the last one failed. */
export function drillDue(
  history: DrillHistory,
  everyMs: number,
  nowMs: number,
): { due: boolean; last: KeptDrill | undefined; failed: KeptDrill | undefined; dueMs: number } {
  // One from the future says nothing: the clock was wrong then, or is now.
  const drills = history.drills.filter(({ isCurrent, result }) => isCurrent && Date.parse(result.started) <= nowMs);
  const last = drills.findLast(({ result }) => isProof(result));
  const newest = drills.at(-1);
  const failed = newest && hasFailed(newest.result) ? newest : undefined;
  const dueMs =
    last === undefined || failed ? nowMs : Math.min(Date.parse(last.result.started) + everyMs, LAST_DATE_MS);
  return { due: dueMs <= nowMs, last, failed, dueMs };
}

/** What a scenario must have looked at to show that the whole agent would come back; the other checks depend on what there is. */
const WHOLE = ['identity', 'chain', 'files', 'databases', 'memory', 'scaffold', 'backends'] as const;

/**
 * Whether it shows that the agent would come back: nothing failed, and at least one recovery was looked at as a whole. A scenario of a few checks (that of
 * the shadow, of the writer key, an own one) is none. (What was not run is told, not counted.)
 */
export function isProof({ scenarios }: DrillResult): boolean {
  const isWhole = ({ recoverySeconds, checks }: DrillResult['scenarios'][number]) =>
    recoverySeconds !== null && WHOLE.every((name) => checks.some((check) => check.name === name));
  return scenarios.every(({ ok }) => ok) && scenarios.some(isWhole);
}

export const hasFailed = ({ scenarios }: DrillResult): boolean => scenarios.some(({ ok }) => !ok);

/** Seconds of the scenario that took the longest to recover; null when none did. */
export function longestRecovery({ scenarios }: Pick<DrillResult, 'scenarios'>): number | null {
  const seconds = scenarios.flatMap(({ recoverySeconds }) => recoverySeconds ?? []);
  return seconds.length === 0 ? null : Math.max(...seconds);
}
