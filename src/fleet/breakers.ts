/** The breakers of agents, by name, in a store that many processes share. The states and their table: docs/breakers.md. */
import type { Clock, Random } from '../clock.ts';
import { HoldfastError, messageOf } from '../errors.ts';
import { objectIn } from '../json.ts';
import {
  admit,
  after,
  CLOSED,
  commanded,
  decodeBreaker,
  encodeBreaker,
  type BreakerCommand,
  type BreakerEvent,
  type BreakerState,
} from '../policy/breaker.ts';
import { fullJitterMs } from '../policy/retry.ts';
import type { BreakerPolicy } from './breaker-policy.ts';
import { formatDuration } from '../units.ts';
import { isKey, type StateStore } from './store.ts';

export interface BreakersOptions {
  store: StateStore;
  policyOf: (agent: string) => BreakerPolicy;
  /** Under whose name failures are remembered: a host, a script. */
  reporter: string;
  clock: Clock;
  random: Random;
}

export interface BreakerView {
  agent: string;
  state: BreakerState;
  /** Since when it is of this kind, and who made it so; null when nothing was ever written. */
  since: { ms: number; by: string } | null;
  /** Of the store; 0 when nothing was ever written. */
  revision: number;
}

/** One that cannot be read: calls are refused until a person has tripped or reset it. */
export interface UnreadableBreaker extends Omit<BreakerView, 'state'> {
  state: { kind: 'unreadable' };
}

/** How a call went. */
export type Outcome =
  | { type: 'success'; tookMs?: number }
  | { type: 'failure'; error: string }
  /** Nothing was learned about the agent. */
  | { type: 'abandoned' };

/** To make one call. Its `end` must be told. */
export interface Permit {
  agent: string;
  /** That it is the one probe of a half-open breaker: `renew` must be called before `leaseMs` are over, again and again. */
  onTrial: boolean;
  leaseMs: number;
  /** The revision of the state that admitted it. */
  revision: number;
  renew(): Promise<void>;
  /** @returns what the breaker is now, and whether this call opened it */
  end(outcome: Outcome): Promise<{ view: BreakerView; opened: boolean }>;
}

const PREFIX = 'breaker.';
const AGENT_MAX_CHARACTERS = 64;
const REPORTER_MAX_CHARACTERS = 100;
/** How often a write is tried that others were faster with, and the pauses between the tries. Each time one of them has come through. */
const WRITE = { tries: 1000, baseMs: 1, capMs: 30, budgetMs: Infinity };

/** @throws `usage` on what no agent is called: 1 to 64 letters, digits, `_`, `-`, and single dots between them */
export function checkAgentName(agent: string): void {
  if (isAgentName(agent)) return;
  throw new HoldfastError('usage', 'that is no name of an agent', {
    hint: `A name is 1 to ${AGENT_MAX_CHARACTERS} letters, digits, _ and -, with single dots between them.`,
  });
}

export function isAgentName(text: string): boolean {
  return text.length <= AGENT_MAX_CHARACTERS && isKey(text);
}

/** Making one writes nothing: a breaker that never failed leaves no trace. Every method but the constructor may throw what the store throws. */
export class Breakers {
  readonly #options: BreakersOptions;
  readonly #reporter: string;
  readonly #own: string;
  #calls = 0;

  constructor(options: BreakersOptions) {
    this.#options = options;
    this.#reporter = options.reporter.slice(0, REPORTER_MAX_CHARACTERS);
    this.#own = `${this.#reporter}/${Buffer.from(options.random.bytes(8)).toString('hex')}`;
  }

  /**
   * One that nothing is known of is closed.
   * @param unreadable what one that cannot be read is taken for
   * @throws `damaged` when it cannot be read
   */
  async look(agent: string, unreadable?: BreakerState): Promise<BreakerView> {
    checkAgentName(agent);
    const entry = await this.#options.store.get(PREFIX + agent);
    if (!entry) return { agent, state: CLOSED, since: null, revision: 0 };
    const { value, revision } = entry;
    const view = readable(agent, value, revision);
    if (!view && !unreadable) throw damaged(agent);
    return view ?? { agent, state: unreadable ?? CLOSED, since: null, revision };
  }

  /** Those of the agents given and of all that something is known of, by name. One that cannot be read is told, and keeps nobody from the others. */
  async list(agents: readonly string[] = []): Promise<(BreakerView | UnreadableBreaker)[]> {
    const known = (await this.#options.store.list(PREFIX)).map(({ key, value, revision }) => {
      const agent = key.slice(PREFIX.length);
      return (
        readable(agent, value, revision) ?? { agent, state: { kind: 'unreadable' as const }, since: null, revision }
      );
    });
    const others = [...new Set(agents)].filter((agent) => !known.some((one) => one.agent === agent));
    const all = [...known, ...others.map((agent) => ({ agent, state: CLOSED, since: null, revision: 0 }))];
    return all.toSorted((a, b) => (a.agent < b.agent ? -1 : 1));
  }

  /** @throws `breaker_open` when the call may not be made, with `retryAtMs` where it is known */
  async enter(agent: string): Promise<Permit> {
    const { clock, policyOf } = this.#options;
    const { settings } = policyOf(agent);
    const holder = `${this.#own}-${++this.#calls}`;
    const { view } = await this.#change(agent, (state) => {
      const admission = admit(state, holder, clock.now(), settings);
      if (!admission.admitted) throw refusal(agent, admission.state, clock.now());
      return admission.state;
    });
    const report = (event: BreakerEvent) => this.#change(agent, (state) => after(state, event, clock.now(), settings));
    const reporter = this.#reporter;
    return {
      agent,
      onTrial: view.state.kind === 'half-open',
      leaseMs: settings.trialMs,
      revision: view.revision,
      renew: async () => void (await report({ type: 'renewed', holder })),
      end: async (outcome) => {
        const event: BreakerEvent =
          outcome.type === 'abandoned' ? { ...outcome, holder } : { ...outcome, holder, reporter };
        const { view: now, before } = await report(event);
        return { view: now, opened: now.state.kind === 'open' && before.kind === 'closed' };
      },
    };
  }

  /** Does what somebody says, and tells what the breaker is then. One that cannot be read is made anew where calls are stopped or let through for good. */
  async command(agent: string, command: BreakerCommand): Promise<BreakerView> {
    const { clock, policyOf } = this.#options;
    const { settings } = policyOf(agent);
    const said = command.type === 'open' ? { reporter: this.#reporter, ...command } : command;
    const change = (state: BreakerState) => commanded(state, said, clock.now(), settings);
    const isAnew = command.type === 'trip' || command.type === 'reset';
    return (await this.#change(agent, change, isAnew ? UNREADABLE : undefined)).view;
  }

  /**
   * Makes the call under the breaker: renews the lease of a probe while it runs, and counts what comes of it.
   * @param judge of what the call threw: by default that the agent failed, except for an interruption, of which nothing is learned
   * @throws `breaker_open` and what the call throws
   */
  async guard<T>(agent: string, call: () => Promise<T>, judge: (error: unknown) => Outcome = judgeError): Promise<T> {
    const { clock } = this.#options;
    const permit = await this.enter(agent);
    const ended = new AbortController();
    const renewing = keepLease(permit, clock, ended.signal);
    const startedMs = clock.monotonic();
    let outcome: Outcome = { type: 'abandoned' };
    try {
      const result = await call();
      outcome = { type: 'success', tookMs: clock.monotonic() - startedMs };
      return result;
    } catch (error) {
      outcome = judge(error);
      throw error;
    } finally {
      ended.abort();
      await renewing;
      // What came of the call matters more than that it is counted; the lease of a probe runs out by itself.
      await permit.end(outcome).catch(() => {});
    }
  }

  /**
   * Compare-and-swap until it holds. A change that gives the very state it was given writes nothing.
   * @param unreadable what one that cannot be read is taken for; by default it is refused
   */
  async #change(
    agent: string,
    change: (state: BreakerState) => BreakerState,
    unreadable?: BreakerState,
  ): Promise<{ view: BreakerView; before: BreakerState }> {
    const { store, clock, random } = this.#options;
    for (let lost = 0; lost < WRITE.tries; lost++) {
      if (lost > 0) await clock.sleep(fullJitterMs(lost, WRITE, random));
      const now = await this.look(agent, unreadable);
      const state = change(now.state);
      if (state === now.state) return { view: now, before: now.state };
      const isSameKind = state.kind === now.state.kind && now.since !== null;
      const since = isSameKind && now.since ? now.since : { ms: clock.now(), by: this.#reporter };
      const value = written(state, since);
      const key = PREFIX + agent;
      const revision =
        now.revision === 0 ? await store.create(key, value) : await store.update(key, value, now.revision);
      if (revision !== undefined) return { view: { agent, state, since, revision }, before: now.state };
    }
    throw new HoldfastError('busy', `the breaker of agent ${agent} is changed by others all the time`, {
      hint: 'Try again.',
      retryable: true,
    });
  }
}

/** Renews the lease of a probe in good time until the signal is aborted; never rejects. What cannot be renewed may be taken over. */
export async function keepLease(
  { onTrial, leaseMs, renew }: Pick<Permit, 'onTrial' | 'leaseMs' | 'renew'>,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  if (!onTrial) return;
  for (;;) {
    try {
      await clock.sleep(leaseMs / 3, signal);
    } catch {
      return;
    }
    await renew().catch(() => {}); // the store may be there again next time
  }
}

function judgeError(error: unknown): Outcome {
  const isInterrupted = error instanceof HoldfastError && error.code === 'interrupted';
  return isInterrupted ? { type: 'abandoned' } : { type: 'failure', error: messageOf(error) };
}

/** When a refused call may be made; undefined when that is for somebody to say. While a probe is out: at the latest. */
export function retryAt(state: BreakerState): number | undefined {
  return state.kind === 'open' || state.kind === 'half-open' ? state.untilMs : undefined;
}

function refusal(
  agent: string,
  state: Exclude<BreakerState, { kind: 'closed' | 'disabled' }>,
  nowMs: number,
): HoldfastError {
  const who = `the breaker of agent ${agent}`;
  if (state.kind === 'forced-open') {
    return new HoldfastError('breaker_open', `${who} was opened by hand: ${messageOf(state.reason)}`, {
      hint: `When that is settled: holdfast breaker reset ${agent}`,
    });
  }
  const waitMs = Math.max(0, state.untilMs - nowMs);
  const when = `${new Date(state.untilMs).toISOString()}, in ${formatDuration(waitMs)}`;
  const many = `${state.failures} ${state.failures === 1 ? 'failure' : 'failures'}, the last: ${messageOf(state.lastError)}`;
  const what =
    state.kind === 'open'
      ? `${who} is open (${many}); it is tried again at ${when}`
      : `${who} is being tried out by another caller (${many}); ask again then, or at the latest at ${when}`;
  return new HoldfastError('breaker_open', what, {
    hint: `Try again then, or if the agent is well: holdfast breaker reset ${agent}`,
    retryable: true,
    retryAtMs: state.untilMs,
  });
}

const VERSION = 1;

function written(state: BreakerState, { ms, by }: NonNullable<BreakerView['since']>): string {
  return JSON.stringify({ version: VERSION, sinceMs: ms, by, state: encodeBreaker(state) });
}

/** Not the state that `reset` and `trip` make of it: they have to write. */
const UNREADABLE: BreakerState = { kind: 'forced-open', reason: 'what is stored of it cannot be read' };

/** @returns undefined for what cannot be read: it is not taken for a closed one */
function readable(agent: string, value: string, revision: number): BreakerView | undefined {
  const { version, sinceMs, by, state: text } = objectIn(value) ?? {};
  const state = typeof text === 'string' ? decodeBreaker(text) : undefined;
  const isWhole = version === VERSION && typeof sinceMs === 'number' && typeof by === 'string';
  return state && isWhole ? { agent, state, since: { ms: sinceMs, by }, revision } : undefined;
}

function damaged(agent: string): HoldfastError {
  return new HoldfastError('damaged', `what is stored of the breaker of agent ${agent} cannot be read`, {
    hint: `A newer holdfast may have written it, then use that. Else begin anew, and let calls through: holdfast breaker reset ${agent}`,
  });
}
