/** What a drill tells. Reports are made of it: nothing in it is a secret, and nothing needs to be looked up besides. */
import type { Warning } from '../entry.ts';

/** Numbers, hashes, paths: what a check has seen. Paths are for display. */
export type Evidence = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

export interface Check {
  name: string;
  ok: boolean;
  /** One line for people: what was found, or what is wrong. */
  detail: string;
  evidence: Evidence;
}

/** A check that has nothing to look at here, which says nothing about the agent. */
export interface Skipped {
  name: string;
  why: string;
}

export const STEPS = ['prepare', 'simulate', 'recover', 'check', 'measure', 'shadow', 'clean up'] as const;
export type StepName = (typeof STEPS)[number];

export interface StepResult {
  name: StepName;
  /** One line of what happened. */
  detail: string;
  seconds: number;
}

/** What a disaster now would lose, by the live state and the snapshot; null where the live state cannot be looked at. */
export interface DataLoss {
  bytes: number | null;
  files: number | null;
  /** The age of the snapshot. */
  seconds: number;
}

export interface ScenarioResult {
  /** `lost-backend:nas`: of a scenario for each backend, with its name. */
  name: string;
  title: string;
  ok: boolean;
  checks: Check[];
  skipped: Skipped[];
  steps: StepResult[];
  /** From the secret to the state on the disk; null when nothing was recovered. */
  recoverySeconds: number | null;
  dataLoss: DataLoss | null;
  /** `continuous`: proved to be the key from before. */
  identity: { continuous: boolean; publicKey: string | null };
  snapshot: { id: string; seq: number; time: string } | null;
  /** What the recovery used: words, identity, vault, shares. */
  secret: string | null;
  /** What the recovery said. */
  warnings: Warning[];
  /** Why the scenario could not be gone through to its end. */
  error?: { code: string; message: string; hint: string | null };
}

export interface NotRun {
  name: string;
  title: string;
  why: string;
  /** Why the operator does without, as the config has it: then it does not make the drill incomplete. */
  accepted?: string;
}

export interface DrillResult {
  /** Every scenario ran and passed, but for those that the config says it does without. */
  ok: boolean;
  scenarios: ScenarioResult[];
  /** What has not been proved, whoever does without it. */
  notRun: NotRun[];
  /** How each backend fared: one that cannot be reached is not asked again. */
  backends: { name: string; ok: boolean; error?: string }[];
  repository: string | null;
  agent: { handle: string; publicKey: string; fingerprint: string } | null;
  /** The worst over all scenarios that recovered, against what the config asks for. */
  objectives: { rto: Objective; rpo: Objective };
  /** RFC 3339. */
  started: string;
  seconds: number;
  warnings: Warning[];
}

export interface Objective {
  /** null: nothing was measured. */
  seconds: number | null;
  /** null: none is set. */
  mostSeconds: number | null;
  /** null without either. */
  ok: boolean | null;
}
