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
const snapshot = z.object({ id: text, seq: z.number().int().min(0), time: z.iso.datetime() });
const objective = z.object({
  seconds: z.number().nullable().describe('The worst that was measured; null: nothing was.'),
  mostSeconds: seconds.nullable().describe('null: no objective is set.'),
  ok: z.boolean().nullable(),
});
const warnings = z.array(
  z.object({ code: text, message: text, path: text.optional(), incomplete: z.boolean().optional() }),
);
const scenario = z.object({
  name: text,
  title: text,
  ok: z.boolean(),
  checks: z.array(
    z.object({
      name: text,
      ok: z.boolean(),
      detail: text.describe('One line for people.'),
      evidence: z.record(text, z.union([text, z.number(), z.boolean(), z.null(), z.array(text)])),
    }),
  ),
  skipped: z.array(z.object({ name: text, why: text })),
  steps: z.array(z.object({ name: z.enum(STEPS), detail: text, seconds })),
  recoverySeconds: seconds.nullable().describe('From the secret to the state on the disk.'),
  dataLoss: z
    .object({ bytes: z.number().min(0).nullable(), files: z.number().int().min(0).nullable(), seconds: z.number() })
    .nullable()
    .describe('What a disaster at the time of the drill would have lost.'),
  identity: z.object({ continuous: z.boolean(), publicKey: text.nullable().describe('Hexadecimal.') }),
  snapshot: snapshot.nullable(),
  secret: text.nullable().describe('What the recovery used: words, identity, vault or shares.'),
  warnings,
  error: z.object({ code: text, message: text, hint: text.nullable() }).optional(),
});
/** The schema of `drill run --json`, and of what the history keeps. */
export const drillResultSchema = z
  .object({
    ok: z.boolean().describe('Every scenario ran, and passed.'),
    scenarios: z.array(scenario),
    notRun: z.array(z.object({ name: text, title: text, why: text })).describe('What has not been proved.'),
    backends: z.array(z.object({ name: text, ok: z.boolean(), error: text.optional() })),
    repository: text.nullable(),
    agent: z.object({ handle: text, publicKey: text, fingerprint: text }).nullable(),
    objectives: z.object({ rto: objective, rpo: objective }),
    started: z.iso.datetime(),
    seconds,
    warnings,
  })
  .describe('What `holdfast drill run --json` prints.');

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

/** When the next drill is due, as far as the history tells. A drill that failed, or did less than a whole recovery, does not count. */
export function drillDue(
  { drills }: DrillHistory,
  everyMs: number,
  nowMs: number,
): { due: boolean; last: KeptDrill | undefined; dueMs: number } {
  // One from the future says nothing: the clock was wrong then, or is now.
  const last = drills.findLast(
    ({ result, isCurrent }) => isCurrent && isProof(result) && Date.parse(result.started) <= nowMs,
  );
  const dueMs = last === undefined ? nowMs : Date.parse(last.result.started) + everyMs;
  return { due: last === undefined || dueMs <= nowMs, last, dueMs };
}

/** Whether it shows that the agent would come back: at least one recovery, and nothing failed. (What was not run is told, not counted.) */
export function isProof({ scenarios }: DrillResult): boolean {
  return scenarios.some(({ recoverySeconds }) => recoverySeconds !== null) && scenarios.every(({ ok }) => ok);
}

/** Seconds of the scenario that took the longest to recover; null when none did. */
export function longestRecovery({ scenarios }: Pick<DrillResult, 'scenarios'>): number | null {
  const seconds = scenarios.flatMap(({ recoverySeconds }) => recoverySeconds ?? []);
  return seconds.length === 0 ? null : Math.max(...seconds);
}
