/** Whether the watching of the fleet itself works: what a load balancer or another watchdog asks. */
import type { Clock } from '../../../clock.ts';
import { HoldfastError, isHoldfastError } from '../../../errors.ts';
import { withDeadline } from '../../../policy/deadline.ts';
import { formatDuration } from '../../../units.ts';

export interface HealthAnswer {
  ok: boolean;
  /** Names no agent, path or host: it is told to whoever asks. */
  evidence: string;
}

interface Given {
  clock: Clock;
  /** How long the store may take. */
  ms: number;
  /** The last sign of life of a watcher, from the store. */
  watcher: () => Promise<{ seenMs: number } | null>;
  nowMs: number;
  withinMs: number;
}

/** The store can be read. */
export async function readinessOf(given: Given): Promise<HealthAnswer> {
  const startMs = given.clock.monotonic();
  const read = await readWatcher(given);
  const tookMs = Math.round(given.clock.monotonic() - startMs);
  return 'problem' in read
    ? { ok: false, evidence: `the state store cannot be read: ${read.problem}` }
    : { ok: true, evidence: `the state store was read in ${tookMs} ms` };
}

/** Somebody has looked at the agents lately. */
export async function progressOf(given: Given): Promise<HealthAnswer> {
  const read = await readWatcher(given);
  if ('problem' in read) return { ok: false, evidence: `the state store cannot be read: ${read.problem}` };
  if (!read.watcher) return { ok: false, evidence: 'nobody watches: holdfast fleet watch does not run' };
  const ageMs = given.nowMs - read.watcher.seenMs;
  const text = `the watcher gave a sign of life ${formatDuration(Math.max(0, ageMs))} ago, ${formatDuration(given.withinMs)} at most are wanted`;
  return { ok: ageMs <= given.withinMs, evidence: text };
}

async function readWatcher({
  clock,
  ms,
  watcher,
}: Given): Promise<{ problem: string } | { watcher: { seenMs: number } | null }> {
  try {
    const expired = () => new HoldfastError('busy', 'it takes too long');
    return { watcher: await withDeadline(watcher, { clock, ms, graceMs: 0, expired }) };
  } catch (error) {
    return { problem: isHoldfastError(error) ? error.code : 'an internal error' };
  }
}
