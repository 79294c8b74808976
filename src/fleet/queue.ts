/**
 * Commands that wait to be run again, in the store, so that they outlive whoever queued them: each after 1, 5 and 15 minutes, and then it is a
 * dead letter that somebody has to look at.
 *
 * Of a command is kept: its arguments, its folder, and the values of environment variables that were named one by one. Not the rest of
 * the environment, where secrets are, and not its standard input.
 */
import type { Clock, Random } from '../clock.ts';
import { HoldfastError, throwIfAborted } from '../errors.ts';
import { VALUE_MAX_BYTES, type Entry, type StateStore } from './store.ts';

export interface QueuedCommand {
  id: string;
  agent: string;
  argv: readonly string[];
  cwd: string;
  /** The variables that were named. */
  env: Readonly<Record<string, string>>;
  /** Instead of what the policy of the agent says. */
  timeoutMs: number | null;
  /** Times in milliseconds since the Unix epoch. `running` until `untilMs`: then whoever has it has died. */
  state: { kind: 'waiting'; dueMs: number } | { kind: 'running'; holder: string; untilMs: number } | { kind: 'dead' };
  /** From the queue; those before it was queued do not count. */
  attempts: number;
  queuedMs: number;
  problem: string;
}

export type NewCommand = Pick<QueuedCommand, 'agent' | 'argv' | 'cwd' | 'env' | 'timeoutMs' | 'problem'>;

/** The sole right to run a command, until it is ended by one of the last three or `leaseMs` pass without `renew`. */
export interface Claim {
  command: QueuedCommand;
  /** That it is not to be run: whoever ran it was killed, every time, and it is a dead letter now. */
  isSpent: boolean;
  leaseMs: number;
  renew(): Promise<void>;
  /** Takes it out of the queue. */
  done(): Promise<void>;
  /** @returns whether it is a dead letter now: after the last attempt, or because it would fail again */
  failed(problem: string, options: { permanent: boolean }): Promise<boolean>;
  /** It was not run, and that was no attempt. */
  release(problem: string, dueMs: number): Promise<void>;
}

export interface RetryQueueOptions {
  store: StateStore;
  clock: Clock;
  random: Random;
  /** Before each attempt, so that there are as many. */
  backoffMs: readonly number[];
}

export const BACKOFF_MS: readonly number[] = [60_000, 5 * 60_000, 15 * 60_000];
/** Dead letters included: who lets so many lie does not want more. */
export const QUEUE_MAX = 1000;
const LEASE_MS = 60_000;
const PREFIX = 'queue.';
const PROBLEM_MAX_CHARACTERS = 500;

export class RetryQueue {
  readonly #options: RetryQueueOptions;

  constructor(options: RetryQueueOptions) {
    this.#options = options;
  }

  /** @param notBeforeMs when that is later than the first pause would end @throws `io` when the queue is full, `usage` when the command is too long */
  async add(command: NewCommand, notBeforeMs = 0): Promise<QueuedCommand> {
    const { store, clock, random, backoffMs } = this.#options;
    if ((await store.list(PREFIX)).length >= QUEUE_MAX) {
      throw new HoldfastError('io', `the queue is full: ${QUEUE_MAX} commands, dead letters included`, {
        hint: 'Look at them with `holdfast breaker queue list`; run or drop them.',
      });
    }
    const queuedMs = clock.now();
    // Sorted by their names, they are sorted by their age.
    const id = `${queuedMs.toString(36).padStart(9, '0')}-${Buffer.from(random.bytes(4)).toString('hex')}`;
    const dueMs = Math.max(notBeforeMs, queuedMs + (backoffMs[0] ?? 0));
    const { agent, argv, cwd, env, timeoutMs, problem } = command;
    const queued: QueuedCommand = {
      ...{ id, agent, argv, cwd, env, timeoutMs, problem: problem.slice(0, PROBLEM_MAX_CHARACTERS) },
      ...{ state: { kind: 'waiting', dueMs }, attempts: 0, queuedMs },
    };
    const value = written(queued);
    if (Buffer.byteLength(value) > VALUE_MAX_BYTES) {
      throw new HoldfastError('usage', `a command with more than ${VALUE_MAX_BYTES / 1024} KiB cannot be queued`, {
        hint: 'Put its input in a file.',
      });
    }
    if ((await store.create(PREFIX + id, value)) === undefined)
      throw new HoldfastError('bug', `internal error: there is a command ${id} already`);
    return queued;
  }

  /** All of them, oldest first. @throws `damaged` */
  async list(): Promise<QueuedCommand[]> {
    return (await this.#options.store.list(PREFIX)).map(read);
  }

  /** Those that can be read, oldest first, and the ids of the others. */
  async readable(): Promise<{ commands: QueuedCommand[]; unreadable: string[] }> {
    const entries = (await this.#options.store.list(PREFIX)).map((entry) => ({
      id: idOf(entry),
      command: readable(entry),
    }));
    return {
      commands: entries.flatMap(({ command }) => command ?? []),
      unreadable: entries.flatMap(({ id, command }) => (command ? [] : [id])),
    };
  }

  /** How many are in it. One that cannot be read is told. */
  async count(): Promise<{ waiting: number; running: number; dead: number; unreadable?: number }> {
    const { commands, unreadable } = await this.readable();
    const counted = { waiting: 0, running: 0, dead: 0 };
    for (const { state } of commands) counted[state.kind]++;
    return { ...counted, ...(unreadable.length > 0 && { unreadable: unreadable.length }) };
  }

  /**
   * Those that are due now, or, with `ids`, those named, due or not, dead letters included; each is claimed when its turn comes, so that others
   * can run the rest meanwhile. What another has claimed is left to it, and what cannot be read keeps nobody from the rest.
   *
   * @throws `not_found`; `damaged` when one of those named cannot be read
   */
  async *claims(ids: readonly string[] | undefined, signal?: AbortSignal): AsyncIterable<Claim> {
    if (ids) await this.#require(ids);
    const { store, clock } = this.#options;
    for (const { key } of await store.list(PREFIX)) {
      throwIfAborted(signal);
      const entry = await store.get(key);
      if (!entry) continue;
      if (ids && !ids.includes(idOf(entry))) continue;
      const command = ids ? read(entry) : readable(entry);
      if (!command) continue;
      if (!isToBeRun(command, clock.now(), ids !== undefined)) continue;
      const claim = await this.#claim(entry, command);
      if (claim) yield claim;
    }
  }

  /** Also what cannot be read. @throws `not_found` before any is dropped; `busy` when one is being run */
  async drop(ids: readonly string[]): Promise<(QueuedCommand | { id: string; agent: null; argv: null })[]> {
    const { store, clock } = this.#options;
    const entries = await this.#require(ids);
    for (const entry of entries) {
      const state = readable(entry)?.state;
      const isRunning = state?.kind === 'running' && state.untilMs > clock.now();
      if (!isRunning && (await store.delete(entry.key, entry.revision))) continue;
      throw new HoldfastError('busy', `the command ${idOf(entry)} is being run`, {
        hint: 'Wait for its end; if it fails, drop it then.',
        retryable: true,
      });
    }
    return entries.map((entry) => readable(entry) ?? { id: idOf(entry), agent: null, argv: null });
  }

  /** Ids of dead letters. */
  async dead(): Promise<string[]> {
    return (await this.readable()).commands.filter(({ state }) => state.kind === 'dead').map(({ id }) => id);
  }

  async #require(ids: readonly string[]): Promise<Entry[]> {
    const all = await this.#options.store.list(PREFIX);
    return [...new Set(ids)].map((id) => {
      const entry = all.find((one) => idOf(one) === id);
      if (entry) return entry;
      throw new HoldfastError('not_found', `there is no command ${id.slice(0, 40)} in the queue`, {
        hint: 'See `holdfast breaker queue list`.',
      });
    });
  }

  async #claim(entry: Entry, before: QueuedCommand): Promise<Claim | undefined> {
    const { store, clock, random, backoffMs } = this.#options;
    const holder = Buffer.from(random.bytes(8)).toString('hex');
    const running = (): QueuedCommand['state'] => ({ kind: 'running', holder, untilMs: clock.now() + LEASE_MS });
    // One whose runs were killed again and again is not run for ever. Counted as begun, it is counted also when we are killed.
    const isSpent = before.state.kind === 'running' && before.attempts >= backoffMs.length;
    const command: QueuedCommand = isSpent
      ? { ...before, state: { kind: 'dead' }, problem: 'whoever ran it was killed, every time' }
      : { ...before, state: running(), attempts: before.attempts + 1 };
    let revision = await store.update(entry.key, written(command), entry.revision);
    if (revision === undefined) return undefined;
    /** Once somebody else has it, it is theirs. */
    const change = async (after: QueuedCommand): Promise<void> => {
      if (revision !== undefined) revision = await store.update(entry.key, written(after), revision);
    };
    return {
      ...{ command, isSpent },
      leaseMs: LEASE_MS,
      renew: () => change({ ...command, state: running() }),
      done: async () => {
        if (revision !== undefined) await store.delete(entry.key, revision);
      },
      failed: async (text, { permanent }) => {
        const isDead = permanent || command.attempts >= backoffMs.length;
        const dueMs = clock.now() + (backoffMs[command.attempts] ?? 0);
        const state: QueuedCommand['state'] = isDead ? { kind: 'dead' } : { kind: 'waiting', dueMs };
        await change({ ...command, state, problem: text.slice(0, PROBLEM_MAX_CHARACTERS) });
        return isDead;
      },
      release: (text, dueMs) => {
        const state: QueuedCommand['state'] = before.state.kind === 'dead' ? before.state : { kind: 'waiting', dueMs };
        return change({ ...command, state, attempts: before.attempts, problem: text.slice(0, PROBLEM_MAX_CHARACTERS) });
      },
    };
  }
}

function isToBeRun({ state }: QueuedCommand, nowMs: number, isNamed: boolean): boolean {
  switch (state.kind) {
    case 'waiting':
      return isNamed || state.dueMs <= nowMs;
    case 'running':
      return state.untilMs <= nowMs;
    case 'dead':
      return isNamed;
  }
}

const VERSION = 1;
const idOf = ({ key }: Entry): string => key.slice(PREFIX.length);

function written({ id: _inKey, ...command }: QueuedCommand): string {
  return JSON.stringify({ version: VERSION, ...command });
}

function readable(entry: Entry): QueuedCommand | undefined {
  try {
    const value = JSON.parse(entry.value) as QueuedCommand & { version: number };
    const { version, ...command } = value;
    const isCommand =
      Array.isArray(command.argv) && typeof command.agent === 'string' && typeof command.cwd === 'string';
    if (version === VERSION && isCommand && ['waiting', 'running', 'dead'].includes(command.state.kind))
      return { ...command, id: idOf(entry) };
  } catch {
    // told by who asks
  }
  return undefined;
}

export function unreadableCommand(id: string): HoldfastError {
  return new HoldfastError('damaged', `the command ${id} of the queue cannot be read`, {
    hint: `A newer holdfast may have queued it, then use that. Else: holdfast breaker queue drop ${id}`,
  });
}

/** @throws `damaged` */
function read(entry: Entry): QueuedCommand {
  const command = readable(entry);
  if (command) return command;
  throw unreadableCommand(idOf(entry));
}
