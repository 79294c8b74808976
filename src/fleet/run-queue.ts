/** `breaker queue run`: the commands of the queue that are due, under the breakers of their agents. */
import type { Warning } from '../entry.ts';
import { isHoldfastError } from '../errors.ts';
import type { Seams } from '../operations/seams.ts';
import { keepLease } from './breakers.ts';
import { guardedRun, type GuardedRunOptions, type GuardedRunResult } from './guarded-run.ts';
import { unreadableCommand, type Claim, type RetryQueue } from './queue.ts';

export interface RunQueueOptions extends Omit<
  GuardedRunOptions,
  'agent' | 'argv' | 'cwd' | 'enqueue' | 'timeoutMs' | 'tries'
> {
  queue: RetryQueue;
  /** Those, whenever they are due; otherwise those that are due. */
  ids?: readonly string[] | undefined;
}

export interface RunQueueResult {
  ran: {
    id: string;
    agent: string;
    /** `waiting`: failed, and will be tried again. `rejected`: the breaker is open, and it was not run. */
    outcome: 'done' | 'waiting' | 'dead' | 'rejected';
    exitCode: number | null;
    problem: string | null;
  }[];
  /** What is in the queue now. */
  left: { waiting: number; running: number; dead: number; unreadable?: number };
  warnings: Warning[];
}

/**
 * One after the other, oldest first; several processes may do so at once, and share them. A command whose agent's breaker is open waits until that
 * may be tried, and that is no attempt. The environment is ours, with the variables that were queued with the command.
 * @throws `interrupted`: the command that was under way stays in the queue
 */
export async function runQueue(options: RunQueueOptions, seams: Seams): Promise<RunQueueResult> {
  const { queue, ids } = options;
  const result: RunQueueResult = { ran: [], left: { waiting: 0, running: 0, dead: 0 }, warnings: [] };
  for await (const claim of queue.claims(ids, seams.signal)) {
    const isInterrupted = await runClaimed(claim, options, seams, result);
    if (isInterrupted) break;
  }
  result.left = await queue.count();
  for (const id of (await queue.readable()).unreadable)
    result.warnings.push({ code: 'unreadable_command', message: unreadableCommand(id).message });
  return result;
}

async function runClaimed(
  claim: Claim,
  options: RunQueueOptions,
  seams: Seams,
  { ran, warnings }: RunQueueResult,
): Promise<boolean> {
  const { id, agent, argv, cwd, env, timeoutMs, problem: before } = claim.command;
  const tellOfDeadLetter = async (why: string | null, exitCode: number | null): Promise<void> => {
    const message = `the command ${id} for agent ${agent} is a dead letter now: ${why}`;
    warnings.push({ code: 'dead_letter', message });
    const event = { kind: 'dead_letter', agent, message, ...(exitCode !== null && { exitCode }) } as const;
    warnings.push(...(await options.tell(event)));
  };
  if (claim.isSpent) {
    ran.push({ id, agent, outcome: 'dead', exitCode: null, problem: before });
    await tellOfDeadLetter(before, null);
    return false;
  }
  const { clock } = seams;
  const ended = new AbortController();
  const renewing = keepLease({ ...claim, onTrial: true }, clock, ended.signal);
  const request = { agent, argv, cwd, env: { ...options.env, ...env }, timeoutMs: timeoutMs ?? undefined };
  let run: GuardedRunResult;
  try {
    run = await guardedRun({ ...options, ...request, enqueue: undefined, tries: 1 }, seams);
  } catch (error) {
    ended.abort();
    await renewing;
    const why = isHoldfastError(error) ? error.message : 'an internal error';
    await claim.release(why, clock.now());
    throw error;
  }
  ended.abort();
  await renewing;
  warnings.push(...run.warnings);
  const { problem = null, exitCode = null } = run.tries.at(-1) ?? {};
  const told = { id, agent, exitCode, problem: problem ?? run.rejection?.message ?? null };
  if (run.outcome === 'done') {
    await claim.done();
    ran.push({ ...told, outcome: 'done' });
  } else if (run.outcome === 'rejected' || run.interrupted) {
    const dueMs = run.rejection?.retryAtMs ?? clock.now();
    await claim.release(told.problem ?? 'interrupted', dueMs);
    ran.push({ ...told, outcome: run.interrupted ? 'waiting' : 'rejected' });
  } else {
    const isDead = await claim.failed(told.problem ?? 'failed', { permanent: run.permanent });
    ran.push({ ...told, outcome: isDead ? 'dead' : 'waiting' });
    if (isDead) await tellOfDeadLetter(told.problem, exitCode);
  }
  return run.interrupted;
}
