/** Hooks: commands of the operator's that run before the state is read, after it was read, and when a backup fails. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../clock.ts';
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError, messageOf, throwIfAborted } from '../errors.ts';
import { HOOK_OUTPUT_MAX_BYTES } from '../limits.ts';
import { secondsSince } from './seams.ts';

export type HookEvent = 'before' | 'after' | 'onError';

export interface HookSettings {
  before: readonly string[];
  after: readonly string[];
  onError: readonly string[];
  /** For each command. */
  timeoutMs: number;
}

export interface HookContext {
  /** Where the commands run: the config's folder. */
  folder: string;
  /** What they are given besides HOLDFAST_EVENT and, on an error, HOLDFAST_ERROR_CODE and HOLDFAST_ERROR_MESSAGE. Holds no secrets. */
  env: Readonly<Record<string, string | undefined>>;
  clock: Clock;
  /** Told of each command that has ended. */
  ended?: (result: HookResult) => void;
}

export interface HookResult {
  event: HookEvent;
  command: string;
  /** null when it was ended by a signal, or could not be started. */
  exitCode: number | null;
  seconds: number;
  /** The end of what it printed on both streams, at most `HOOK_OUTPUT_MAX_BYTES`. */
  output: string;
  /** Bytes of output before that. */
  droppedBytes: number;
  /** Why it counts as failed; absent when it ended with exit code 0 in time. */
  problem?: string;
}

/** Between SIGTERM and SIGKILL. */
const TERM_GRACE_MS = 10_000;
/** How long output is still waited for after a command has ended: something that it left running may hold the pipe. */
const OUTPUT_GRACE_MS = 500;
const POLL_MS = 50;

export class Hooks {
  /** All that ran so far, in their order. */
  readonly results: HookResult[] = [];
  readonly #settings: HookSettings;
  readonly #context: HookContext;

  constructor(settings: HookSettings, context: HookContext) {
    this.#settings = settings;
    this.#context = context;
  }

  /**
   * Runs `before`, then the work, then `after`: as soon as the work has ended, whatever came of it, an interruption included, and also when a
   * later command of `before` failed, or the first was ended (what was done until then is to be undone). What fails of `after` becomes warnings.
   * @throws `hook_failed` when a command of `before` fails, the work is not begun then; `interrupted`; what the work throws
   */
  async around<T>(work: () => Promise<T>, warnings: Warning[], signal?: AbortSignal): Promise<T> {
    const { before } = this.#settings;
    let result: T;
    try {
      for (const command of before) await this.#require('before', command, signal);
      result = await work();
    } catch (error) {
      // One that ends by itself, in vain, has done nothing; one that was ended may have done half of it.
      const isToBeUndone = this.results.some(
        ({ event, exitCode }, i) => event === 'before' && (i > 0 || exitCode === 0 || exitCode === null),
      );
      if (!isToBeUndone && before.length > 0) throw error;
      const failed = await this.#after();
      if (failed.length === 0 || !isHoldfastError(error)) throw error;
      const { code, message, hint } = error;
      throw new HoldfastError(code, [message, ...failed.map((one) => one.message)].join('; besides, '), {
        ...(hint !== undefined && { hint }),
        cause: error,
      });
    }
    warnings.push(...(await this.#after()));
    return result;
  }

  /** Runs all commands of `onError`; never rejects. Warnings tell which of them failed. */
  async onError(error: HoldfastError): Promise<Warning[]> {
    const env = { HOLDFAST_ERROR_CODE: error.code, HOLDFAST_ERROR_MESSAGE: error.message };
    return this.#all('onError', this.#settings.onError, env);
  }

  #after(): Promise<Warning[]> {
    return this.#all('after', this.#settings.after);
  }

  /** Each of them, also when one before it fails. */
  async #all(event: HookEvent, commands: readonly string[], env = {}): Promise<Warning[]> {
    const warnings: Warning[] = [];
    for (const command of commands) {
      const result = await this.#run(event, command, env);
      if (result.problem === undefined) continue;
      // Perhaps the agent is not running again: that must not look like a run in which all went well.
      warnings.push({ code: 'hook_failed', message: failureOf(result), incomplete: event === 'after' });
    }
    return warnings;
  }

  async #require(event: HookEvent, command: string, signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal);
    const result = await this.#run(event, command, {}, signal);
    throwIfAborted(signal);
    if (result.problem === undefined) return;
    throw new HoldfastError('hook_failed', `nothing was backed up: ${failureOf(result)}`, {
      hint: 'Run the command by itself to see what it lacks; see `state.before` and `state.hookTimeout` in the config.',
    });
  }

  async #run(
    event: HookEvent,
    command: string,
    env: Readonly<Record<string, string>>,
    signal?: AbortSignal,
  ): Promise<HookResult> {
    const { clock, folder, ended } = this.#context;
    const started = clock.monotonic();
    const output = new Tail(HOOK_OUTPUT_MAX_BYTES);
    const how = { folder, env: { ...this.#context.env, ...env, HOLDFAST_EVENT: event } };
    const { timeoutMs } = this.#settings;
    const { exitCode, problem } = await runCommand(command, how, { clock, output, timeoutMs, signal });
    const result: HookResult = {
      event,
      command,
      exitCode,
      seconds: secondsSince(clock, started),
      output: output.text(),
      droppedBytes: output.droppedBytes,
      ...(problem !== undefined && { problem }),
    };
    this.results.push(result);
    ended?.(result);
    return result;
  }
}

/** With the last lines that it printed: the reason is mostly there. */
function failureOf({ event, command, problem, output }: HookResult): string {
  const last = output.trim().split('\n').slice(-3).join(' / ').slice(-500);
  const what = `the hook ${event} ${JSON.stringify(command.slice(0, 200))} ${problem ?? 'failed'}`;
  return messageOf(last === '' ? what : `${what}: ${last}`);
}

export interface CommandEnd {
  exitCode: number | null;
  problem?: string;
}

/** Waits for a line before it becomes the command: without it, nothing is run. */
const GATE = 'read -r _ && exec /bin/sh -c "$1" </dev/null';

export interface RunOptions {
  clock: Clock;
  /** Is given what the command writes. */
  output: Tail;
  /** Default: both streams. */
  only?: 'stdout';
  /** Without it the command may run for ever. */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
  /** Between SIGTERM and SIGKILL, when it has to be ended; default: ten seconds. */
  graceMs?: number;
  /** What the command has left running is ended too. */
  leavesNothing?: boolean;
  /** Is given the leader of the group before the command is begun, which it is only when this resolves, and this process lives. */
  begins?: ((pid: number) => Promise<void>) | undefined;
}

/** Runs a command as a process group of its own, which is ended as a whole when its time is over or the signal is aborted. Never rejects. */
export async function runCommand(
  command: string,
  { folder, env }: Pick<HookContext, 'folder' | 'env'>,
  { clock, output, only, timeoutMs, signal, graceMs = TERM_GRACE_MS, leavesNothing = false, begins }: RunOptions,
): Promise<CommandEnd> {
  let child: ChildProcessByStdio<Writable | null, Readable, Readable | null>;
  try {
    child = spawn('/bin/sh', begins ? ['-c', GATE, 'sh', command] : ['-c', command], {
      cwd: folder,
      env: { ...env },
      stdio: [begins ? 'pipe' : 'ignore', 'pipe', only === 'stdout' ? 'ignore' : 'pipe'],
      detached: true, // the leader of a group; and Ctrl-C on the terminal is ours to pass on
    }) as typeof child;
  } catch (error) {
    return { exitCode: null, problem: `could not be started: ${messageOf(error)}` }; // some reasons come as an event, others at once
  }
  child.stdout.on('data', (bytes: Buffer) => output.push(bytes));
  child.stderr?.on('data', (bytes: Buffer) => output.push(bytes));
  let notBegun: string | undefined;
  child.stdin?.on('error', () => {}); // it has ended already
  if (begins && child.pid !== undefined)
    begins(child.pid).then(
      () => child.stdin?.end('\n'),
      (error: unknown) => {
        notBegun = `was not begun: ${messageOf(error)}`;
        child.stdin?.end();
      },
    );
  const ended = new AbortController();
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const end = new Promise<CommandEnd>((resolve) => {
    child.once('error', (error) => resolve({ exitCode: null, problem: `could not be started: ${messageOf(error)}` }));
    child.once('exit', (code, killedBy) => {
      const problem = notBegun ?? (code === null ? `was ended by ${killedBy}` : `ended with exit code ${code}`);
      resolve({ exitCode: code, ...(code !== 0 && { problem }) });
    });
  });
  const stop = new Promise<string>((resolve) => {
    const interrupt = () => resolve('was interrupted');
    signal?.addEventListener('abort', interrupt, { signal: ended.signal });
    if (signal?.aborted) interrupt();
    if (timeoutMs === undefined) return;
    const late = () => resolve(`was not done after ${timeoutMs / 1000} s and was ended`);
    clock.sleep(timeoutMs, ended.signal).then(late, () => {});
  });
  try {
    const first = await Promise.race([end, stop]);
    if (typeof first !== 'string') {
      if (leavesNothing) await endGroup(child.pid, clock, graceMs);
      return first;
    }
    await endGroup(child.pid, clock, graceMs);
    return { exitCode: (await end).exitCode, problem: first };
  } finally {
    await Promise.race([closed, clock.sleep(OUTPUT_GRACE_MS, ended.signal).catch(() => {})]);
    ended.abort();
    child.stdout.destroy();
    child.stderr?.destroy();
  }
}

/** SIGTERM, and SIGKILL to what is left of the group after the grace. */
export async function endGroup(pid: number | undefined, clock: Clock, graceMs = TERM_GRACE_MS): Promise<void> {
  if (pid === undefined) return;
  const untilMs = clock.monotonic() + graceMs;
  let isThere = signalGroup(pid, graceMs > 0 ? 'SIGTERM' : 0);
  while (isThere && clock.monotonic() < untilMs) {
    await clock.sleep(POLL_MS);
    isThere = signalGroup(pid, 0);
  }
  if (isThere) signalGroup(pid, 'SIGKILL');
}

/** False when the group has no member any more. */
export const signalGroup = (leader: number, signal: NodeJS.Signals | 0): boolean => signalProcess(-leader, signal);

/** @param id of a process; negative: of the leader of a group. @returns false when there is none */
export function signalProcess(id: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(id, signal);
  } catch {
    return false;
  }
}

/** The last bytes of a stream. */
export class Tail {
  droppedBytes = 0;
  readonly #max: number;
  #kept = Buffer.alloc(0);

  constructor(max: number) {
    this.#max = max;
  }

  push(bytes: Buffer): void {
    const all = Buffer.concat([this.#kept, bytes]);
    const excess = Math.max(0, all.length - this.#max);
    this.droppedBytes += excess;
    this.#kept = all.subarray(excess);
  }

  text(): string {
    return this.#kept.toString('utf8');
  }
}
