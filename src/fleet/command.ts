/** A command that runs in our place: our streams, its exit code, a deadline, and whatever signal we are sent. */
import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import type { Clock } from '../clock.ts';
import { messageOf, systemErrorCode } from '../errors.ts';
import { endGroup, signalGroup } from '../operations/hooks.ts';
import { foundIn } from './patterns.ts';
import type { BreakerPolicy } from './breaker-policy.ts';

export interface CommandStreams {
  /** Ours, or nothing to read. */
  stdin: 'inherit' | 'ignore';
  /** Ours, or our stderr, where stdout is for something else. */
  stdout: 'inherit' | 'stderr';
  /** Is given what the command writes to stderr, where that has to be looked at; otherwise it goes to ours without passing through us. */
  stderr: (bytes: Uint8Array) => void;
  /** That a person sits at the terminal: the command stays in our process group, or it could not read what is typed. */
  isInteractive: boolean;
}

export interface CommandOptions {
  argv: readonly string[];
  cwd: string;
  env: Readonly<Record<string, string | undefined>>;
  timeoutMs: number;
  permanent: BreakerPolicy['permanent'];
  streams: CommandStreams;
  clock: Clock;
  /** Ends the command when it is aborted. */
  signal?: AbortSignal | undefined;
}

export interface CommandEnd {
  /** As a shell tells it: 128 and the number of the signal that ended it, 127 and 126 when it could not be started, and 124, as of timeout(1), when it was late. */
  exitCode: number;
  /** `permanent`: it will fail again. `failed`: anything else that is not 0, being late included. */
  kind: 'done' | 'failed' | 'permanent';
  /** Never what the command printed. */
  problem: string | null;
  /** That the command itself could not say what went wrong: it was not started, or ended by us. */
  isOurs?: true;
  tookMs: number;
}

export interface RunningCommand {
  end: Promise<CommandEnd>;
  pass(name: NodeJS.Signals): void;
}

const LATE = 124;
const [CANNOT_RUN, NOT_FOUND] = [126, 127];
/** What a pattern is looked for in: what was written last. */
const STDERR_MAX_CHARACTERS = 64 * 1024;
/** How long stderr is still read after the end: something that the command left running may hold it. */
const STDERR_GRACE_MS = 500;
const KILL_GRACE_MS = 10_000;

/** Starts the command; nothing here throws, and `end` never rejects. */
export function startCommand(options: CommandOptions): RunningCommand {
  const { argv, cwd, env, permanent, streams, clock } = options;
  const [program = '', ...args] = argv;
  const isLookedAt = permanent.stderr.length > 0;
  const startedMs = clock.monotonic();
  let child: ChildProcess;
  try {
    child = spawn(program, args, {
      cwd,
      env: { ...env },
      stdio: [streams.stdin, streams.stdout === 'inherit' ? 'inherit' : 2, isLookedAt ? 'pipe' : 'inherit'],
      detached: !streams.isInteractive,
    });
  } catch (error) {
    return { pass: () => {}, end: Promise.resolve(notStarted(error)) }; // such as a NUL in an argument
  }
  let stderr = '';
  child.stderr?.on('data', (bytes: Buffer) => {
    streams.stderr(bytes);
    stderr = (stderr + bytes.toString('latin1')).slice(-STDERR_MAX_CHARACTERS);
  });
  const pass = (name: NodeJS.Signals): void => {
    if (!streams.isInteractive && child.pid !== undefined) signalGroup(child.pid, name);
    // What is typed (Ctrl-C) the terminal sends to the whole group by itself.
    else if (name !== 'SIGINT' && name !== 'SIGQUIT') child.kill(name);
  };
  const judged = async (): Promise<CommandEnd> => {
    const { error, code, killedBy, isLate } = await ended(child, options);
    if (error !== undefined) return notStarted(error);
    const tookMs = clock.monotonic() - startedMs;
    const exitCode = isLate ? LATE : (code ?? 128 + (killedBy === null ? 0 : constants.signals[killedBy]));
    if (isLate)
      return {
        ...{ exitCode, kind: 'failed', problem: `not done after ${options.timeoutMs / 1000} s, and ended` },
        ...{ tookMs, isOurs: true },
      };
    if (exitCode === 0) return { exitCode, kind: 'done', problem: null, tookMs };
    const text = Buffer.from(stderr, 'latin1').toString('utf8');
    const pattern = permanent.stderr.find((one) => isIn(one, text));
    const isPermanent = pattern !== undefined || (code !== null && permanent.exitCodes.includes(code));
    const how = code === null ? `ended by ${killedBy}` : `exit code ${code}`;
    const problem = pattern === undefined ? how : `${how}, and stderr matches ${JSON.stringify(pattern)}`;
    return { exitCode, kind: isPermanent ? 'permanent' : 'failed', problem, tookMs };
  };
  return { pass, end: judged() };
}

/** One that takes too long tells nothing: what failed is tried again. */
function isIn(pattern: string, text: string): boolean {
  try {
    return foundIn(new RegExp(pattern, 'm'), [text])[0] === true;
  } catch {
    return false;
  }
}

function notStarted(error: unknown): CommandEnd {
  const exitCode = systemErrorCode(error) === 'ENOENT' ? NOT_FOUND : CANNOT_RUN;
  return { exitCode, kind: 'permanent', problem: `could not be started: ${messageOf(error)}`, tookMs: 0, isOurs: true };
}

interface ChildEnd {
  error?: unknown;
  code: number | null;
  killedBy: NodeJS.Signals | null;
  isLate: boolean;
}

async function ended(child: ChildProcess, { timeoutMs, clock, streams, signal }: CommandOptions): Promise<ChildEnd> {
  const over = new AbortController();
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const end = new Promise<Omit<ChildEnd, 'isLate'>>((resolve) => {
    child.once('error', (error) => resolve({ error, code: null, killedBy: null }));
    child.once('exit', (code, killedBy) => resolve({ code, killedBy }));
  });
  const stop = new Promise<'late' | 'aborted'>((resolve) => {
    signal?.addEventListener('abort', () => resolve('aborted'), { signal: over.signal });
    if (signal?.aborted) resolve('aborted');
    clock.sleep(timeoutMs, over.signal).then(
      () => resolve('late'),
      () => {},
    );
  });
  try {
    const first = await Promise.race([end, stop]);
    if (typeof first !== 'string') return { ...first, isLate: false };
    if (streams.isInteractive) {
      child.kill('SIGTERM');
      const grace = clock.sleep(KILL_GRACE_MS, over.signal).then(
        () => child.kill('SIGKILL'),
        () => {},
      );
      await Promise.race([end, grace]);
    } else {
      await endGroup(child.pid, clock);
    }
    return { ...(await end), isLate: first === 'late' };
  } finally {
    if (child.stderr) await Promise.race([closed, clock.sleep(STDERR_GRACE_MS, over.signal).catch(() => {})]);
    over.abort();
    child.stderr?.destroy();
  }
}
