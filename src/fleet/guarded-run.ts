/** `breaker run`: a command under the breaker of an agent, tried again where that may help, and what is done when it cannot be done. */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError, isSurvivable, messageOf, throwIfAborted } from '../errors.ts';
import type { Seams } from '../operations/seams.ts';
import { retry } from '../policy/retry.ts';
import { fallbackChain, type BreakerPolicy, type FallbackAction } from './breaker-policy.ts';
import { keepLease, type Breakers, type Outcome, type Permit } from './breakers.ts';
import { startCommand, type CommandEnd, type CommandStreams, type RunningCommand } from './command.ts';

export interface GuardedRunOptions {
  breakers: Breakers;
  policyOf: (agent: string) => BreakerPolicy;
  agent: string;
  /** The program and its arguments; no shell reads them. */
  argv: readonly string[];
  cwd: string;
  env: Readonly<Record<string, string | undefined>>;
  streams: CommandStreams;
  /** Instead of what the policy of the agent says. */
  timeoutMs?: number | undefined;
  tries?: number | undefined;
  /** Is given a function that is to be called with each signal that this process gets. */
  signals?: ((receive: (name: NodeJS.Signals) => void) => Disposable) | undefined;
  /** How a person is told; never rejects. */
  tell: (event: Told) => Promise<Warning[]>;
  /** Queues this very command, to be run from the moment given on at the earliest; resolves to its id. Undefined: no fallback but other agents. */
  enqueue?: ((problem: string, notBeforeMs: number) => Promise<string>) | undefined;
}

export interface Told {
  kind: 'breaker_opened' | 'escalated' | 'dead_letter' | 'watchdog' | 'level';
  agent: string;
  message: string;
  /** Of the command that it is about: absent where none was run, or it was not its end that counted. */
  exitCode?: number;
}

export interface Try {
  agent: string;
  exitCode: number;
  problem: string | null;
  seconds: number;
}

export interface GuardedRunResult {
  agent: string;
  /**
   * `done`: with exit code 0. `failed`: the command's own exit code. `rejected`: nothing ran. `queued`: it will be run later. `proceeded`: it was
   * not done, and that is accepted.
   */
  outcome: 'done' | 'failed' | 'rejected' | 'queued' | 'proceeded';
  /** 0, the command's, 75 (rejected) or 3 (queued). */
  exitCode: number;
  /** That the command would fail again. */
  permanent: boolean;
  /** That it was ended by a signal that was passed on. */
  interrupted: boolean;
  /** Under which agent's breaker, in their order; empty when nothing ran. */
  tries: Try[];
  /** The breakers that were open. */
  rejections: { agent: string; message: string; retryAt: string | null }[];
  /** The id in the queue. */
  queued: string | null;
  warnings: Warning[];
  /** Of the agent asked first, when nothing ran. */
  rejection?: HoldfastError;
}

const REJECTED = 75;
const QUEUED = 3;
/** Signals that ask for an end. Others are passed on and change nothing. */
const ENDING: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];

/**
 * Runs the command under the breaker of the agent; each try counts by itself. When that breaker is open, or the command fails other than for good, its
 * fallback agents follow (the command finds the name of the one it is tried with in HOLDFAST_AGENT), then the actions.
 *
 * @throws `interrupted` when a signal came while nothing ran; what the store throws before anything ran
 */
export async function guardedRun(options: GuardedRunOptions, seams: Seams): Promise<GuardedRunResult> {
  const run = new GuardedRun(options, seams);
  using _signals = options.signals?.((name) => run.receive(name));
  return await run.run(); // the signals are ours until it has ended
}

/** What one agent of the chain came to. */
type Ending = { type: 'rejected'; error: HoldfastError } | { type: 'ended'; end: CommandEnd };

class GuardedRun {
  readonly #options: GuardedRunOptions;
  readonly #seams: Seams;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #result: GuardedRunResult;
  #running: RunningCommand | undefined;
  /** When the breaker of the agent asked first lets a call through again. */
  #retryAtMs = 0;

  constructor(options: GuardedRunOptions, seams: Seams) {
    this.#options = options;
    this.#seams = seams;
    this.#signal = seams.signal ? AbortSignal.any([seams.signal, this.#stop.signal]) : this.#stop.signal;
    this.#result = {
      ...{ agent: options.agent, outcome: 'rejected', exitCode: REJECTED, permanent: false, interrupted: false },
      ...{ tries: [], rejections: [], queued: null, warnings: [] },
    };
  }

  receive(name: NodeJS.Signals): void {
    const isEnding = ENDING.includes(name);
    if (isEnding) this.#result.interrupted = true;
    if (this.#running) this.#running.pass(name);
    else if (isEnding) this.#stop.abort();
  }

  async run(): Promise<GuardedRunResult> {
    const { agent, policyOf } = this.#options;
    const result = this.#result;
    const { agents, actions } = fallbackChain(agent, policyOf);
    for (const one of agents) {
      const ending = await this.#tryAgent(one);
      if (ending.type === 'rejected' || ending.end.kind !== 'done') throwIfAborted(this.#seams.signal);
      if (ending.type === 'rejected') {
        const { message, retryAtMs } = ending.error;
        const retryAt = retryAtMs === undefined ? null : new Date(retryAtMs).toISOString();
        result.rejections.push({ agent: one, message, retryAt });
        if (one === agent) {
          result.rejection = ending.error;
          this.#retryAtMs = retryAtMs ?? 0;
        }
        continue;
      }
      delete result.rejection;
      const { kind, exitCode } = ending.end;
      result.exitCode = exitCode;
      result.outcome = kind === 'done' ? 'done' : 'failed';
      result.permanent = kind === 'permanent';
      // Somebody wants an end; or nobody else could do it either.
      if (kind !== 'failed' || result.interrupted) return result;
    }
    await this.#act(actions);
    return result;
  }

  /** As often as the policy allows, until the breaker is open. */
  async #tryAgent(agent: string): Promise<Ending> {
    const { policyOf, tries } = this.#options;
    const { retry: settings } = policyOf(agent);
    const again = { clock: this.#seams.clock, random: this.#seams.random, signal: this.#signal };
    let last: Ending | undefined;
    const once = async (): Promise<Ending> => {
      const ending = await this.#once(agent);
      // Open by now, and by our own tries: what they came to says more.
      if (ending.type === 'rejected') return last ?? ending;
      last = ending;
      const { kind, problem } = ending.end;
      if (kind !== 'failed' || this.#result.interrupted) return ending;
      throw new HoldfastError('hook_failed', problem ?? 'failed', { retryable: true });
    };
    try {
      return await retry(once, { settings: { ...settings, ...(tries !== undefined && { tries }) }, ...again });
    } catch (error) {
      if (isHoldfastError(error, 'hook_failed') && last) return last;
      throw error;
    }
  }

  async #once(agent: string): Promise<Ending> {
    const { breakers } = this.#options;
    throwIfAborted(this.#signal);
    let permit: Permit;
    try {
      permit = await breakers.enter(agent);
    } catch (error) {
      if (!isHoldfastError(error, 'breaker_open')) throw error;
      return { type: 'rejected', error };
    }
    const ended = new AbortController();
    const renewing = keepLease(permit, this.#seams.clock, ended.signal);
    const end = await this.#command(agent);
    ended.abort();
    await renewing;
    if (end.isOurs) this.#result.warnings.push({ code: 'not_done', message: `the command: ${end.problem}` });
    await this.#report(permit, end);
    const seconds = Math.round(end.tookMs) / 1000;
    this.#result.tries.push({ agent, exitCode: end.exitCode, problem: end.problem, seconds });
    return { type: 'ended', end };
  }

  async #command(agent: string): Promise<CommandEnd> {
    const { argv, cwd, env, streams, timeoutMs, policyOf } = this.#options;
    const policy = policyOf(agent);
    const running = startCommand({
      ...{ argv, cwd, streams, permanent: policy.permanent, clock: this.#seams.clock, signal: this.#seams.signal },
      env: { ...env, HOLDFAST_AGENT: agent },
      timeoutMs: timeoutMs ?? policy.timeoutMs,
    });
    this.#running = running;
    try {
      return await running.end;
    } finally {
      this.#running = undefined;
    }
  }

  /** The command has run: a store that fails now must not hide what came of it. */
  async #report(permit: Permit, end: CommandEnd): Promise<void> {
    const { agent } = permit;
    const { warnings } = this.#result;
    try {
      const { view, opened } = await permit.end(this.#outcome(end));
      if (!opened || view.state.kind !== 'open') return;
      const { failures, untilMs } = view.state;
      const message = `the breaker of agent ${agent} opened after failure ${failures} (${end.problem ?? 'too slow'}); it is tried again at ${new Date(untilMs).toISOString()}`;
      warnings.push({ code: 'breaker_opened', message });
      const exitCode = end.kind === 'done' ? {} : { exitCode: end.exitCode };
      warnings.push(...(await this.#options.tell({ kind: 'breaker_opened', agent, message, ...exitCode })));
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      warnings.push({ code: 'not_counted', message: `what came of it was not counted: ${error.message}` });
    }
  }

  #outcome({ kind, problem, tookMs }: CommandEnd): Outcome {
    if (kind === 'done') return { type: 'success', tookMs };
    const isLearned = kind === 'failed' && !this.#result.interrupted && !this.#signal.aborted;
    return isLearned ? { type: 'failure', error: problem ?? 'failed' } : { type: 'abandoned' };
  }

  async #act(actions: readonly FallbackAction[]): Promise<void> {
    const { agent, enqueue } = this.#options;
    const result = this.#result;
    if (!enqueue) return;
    const { problem } = result.tries.at(-1) ?? {};
    const why = problem ?? result.rejection?.message ?? 'its breaker is open';
    if (actions.includes('escalate_to_human')) {
      const message = `a command for agent ${agent} could not be run: ${why}`;
      result.warnings.push(
        ...(await this.#options.tell({ kind: 'escalated', agent, message, exitCode: result.exitCode })),
      );
    }
    if (actions.includes('queue_for_retry')) {
      try {
        result.queued = await enqueue(why, this.#retryAtMs);
        Object.assign(result, { outcome: 'queued', exitCode: QUEUED });
        result.warnings.push({
          code: 'queued',
          message: `not done (${why}); queued as ${result.queued}: see \`holdfast breaker queue list\``,
        });
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        result.warnings.push({ code: 'not_queued', message: `could not be queued: ${messageOf(error)}` });
      }
    }
    if (actions.includes('proceed_with_warning')) {
      const message = `going on without agent ${agent}: ${why}`;
      result.warnings.push({ code: 'proceeded', message });
      Object.assign(result, { outcome: result.queued === null ? 'proceeded' : 'queued', exitCode: 0 });
    }
  }
}
