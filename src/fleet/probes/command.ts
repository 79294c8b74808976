/** A command whose exit code says how it is. */
import type { Clock } from '../../clock.ts';
import { throwIfAborted } from '../../errors.ts';
import { runCommand, Tail } from '../../operations/hooks.ts';
import { failed, found, oneLine, type Probe } from './probe.ts';

export interface CommandContext {
  /** Where it runs: the config's folder. */
  folder: string;
  env: Readonly<Record<string, string | undefined>>;
  clock: Clock;
}

const OUTPUT_MAX_BYTES = 16 * 1024;
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
  const how = { clock, output, only: 'stdout', signal, graceMs: 0, leavesNothing: true } as const;
  const { exitCode, problem } = await runCommand(command, { folder, env }, how);
  throwIfAborted(signal);
  return { exitCode, output: output.text(), ...(exitCode === null && problem !== undefined && { problem }) };
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
