/** What a probe is, and what it may say. One never throws, except that it was interrupted. */
import type { Clock } from '../../clock.ts';
import { masked } from '../masked.ts';
import { EVIDENCE_MAX_CHARACTERS, type AgentStats, type Observation } from '../health.ts';

/** Looks once. Settles soon after the signal is aborted. Without time: whoever asks adds when it was, and how long it took. */
export type Probe = (signal: AbortSignal) => Promise<Finding>;
export type Finding = Pick<Observation, 'ok' | 'evidence' | 'absent' | 'value'>;

/** Asks an agent for its numbers. */
export type StatsProbe = (signal: AbortSignal) => Promise<Told>;

export interface Told {
  stats: AgentStats;
  /** Why nothing, or not all, was told. */
  problem?: string;
  absent?: true;
}

export const found = (evidence: string, value?: number): Finding => ({
  ok: true,
  evidence,
  ...(value !== undefined && { value }),
});

export const failed = (evidence: string, value?: number): Finding => ({
  ok: false,
  evidence,
  ...(value !== undefined && { value }),
});

/** There is nothing there that was ever there. */
export const absent = (evidence: string): Finding => ({ ok: false, evidence, absent: true });

export function observation(finding: Finding, clock: Clock, startMs: number): Observation {
  return {
    ...finding,
    evidence: oneLine(finding.evidence),
    atMs: clock.now(),
    tookMs: Math.round(clock.monotonic() - startMs),
  };
}

/** Evidence may be what a stranger wrote: one line, no control characters, no secrets as far as they look like some, and not too much of it. */
export function oneLine(text: string, max = EVIDENCE_MAX_CHARACTERS): string {
  const line = masked(text.slice(0, 4 * max))
    .replace(/[\p{Cc}\p{Cf}\s]+/gu, ' ')
    .trim()
    .toWellFormed();
  return line.length <= max ? line : `${line.slice(0, max - 1).toWellFormed()}…`;
}
