/** A command whose exit code says how it is. */
import { spawn } from 'node:child_process';
import type { Clock } from '../../clock.ts';
import { HoldfastError, messageOf } from '../../errors.ts';
import { signalGroup, Tail } from '../../operations/hooks.ts';
import { failed, found, oneLine, type Probe } from './probe.ts';

export interface CommandContext {
  /** Where it runs: the config's folder. */
  folder: string;
  env: Readonly<Record<string, string | undefined>>;
  clock: Clock;
}

const OUTPUT_MAX_BYTES = 16 * 1024;
/** How long output is still waited for after the end: something that it left running may hold the pipe. */
const OUTPUT_GRACE_MS = 200;

export interface CommandResult {
  /** null when it was ended by a signal, or not started. */
  exitCode: number | null;
  /** The end of what it wrote to stdout. */
  output: string;
  /** Why it was not done, where the exit code does not say it. */
  problem?: string;
}

/**
 * Runs it as a process group of its own; all of it is killed when the signal is aborted, and what it has left running when it ends.
 * @throws `interrupted`
 */
export async function runProbe(
  command: string,
  { folder, env, clock }: CommandContext,
  signal: AbortSignal,
): Promise<CommandResult> {
  const output = new Tail(OUTPUT_MAX_BYTES);
  const child = spawn('/bin/sh', ['-c', command], {
    cwd: folder,
    env: { ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  child.stdout.on('data', (bytes: Buffer) => output.push(bytes));
  const { promise, resolve, reject } = Promise.withResolvers<Omit<CommandResult, 'output'>>();
  child.once('error', (error) => resolve({ exitCode: null, problem: `could not be started: ${messageOf(error)}` }));
  child.once('exit', (exitCode, killedBy) =>
    resolve({ exitCode, ...(killedBy !== null && { problem: `was ended by ${killedBy}` }) }),
  );
  const closed = new Promise<void>((settle) => child.once('close', () => settle()));
  const end = () => void (child.pid !== undefined && signalGroup(child.pid, 'SIGKILL'));
  const interrupt = () => {
    end();
    reject(new HoldfastError('interrupted', 'interrupted'));
  };
  signal.addEventListener('abort', interrupt, { once: true });
  if (signal.aborted) interrupt();
  const over = new AbortController();
  try {
    const result = await promise;
    end();
    await Promise.race([closed, clock.sleep(OUTPUT_GRACE_MS, over.signal).catch(() => {})]);
    return { ...result, output: output.text() };
  } finally {
    over.abort();
    signal.removeEventListener('abort', interrupt);
    child.stdout.destroy();
  }
}

export function lastLine(output: string): string {
  return oneLine(output.trimEnd().split('\n').at(-1) ?? '', 200);
}

export function commandProbe(command: string, context: CommandContext): Probe {
  return async (signal) => {
    const { exitCode, problem, output } = await runProbe(command, context, signal);
    const said = lastLine(output);
    if (exitCode === 0) return found(said === '' ? 'exit code 0' : said);
    const how = problem ?? `exit code ${exitCode}`;
    return failed(`the command ${how.startsWith('exit') ? 'ended with ' : ''}${how}${said === '' ? '' : `: ${said}`}`);
  };
}
