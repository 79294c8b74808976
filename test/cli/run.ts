/** Runs the command line as a user does: a child process. */
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** What is published; it is built anew for each test run (test/build.ts). */
export const PROGRAM = 'bin/run.js';
/** The frame with the commands of test/cli/fixture. */
export const FIXTURE = 'test/cli/fixture/program.ts';

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  env?: Record<string, string>;
  cwd?: string;
  /** A descriptor that takes stdout instead of a pipe; `Ended.stdout` is then ''. */
  stdout?: number;
  /** Given to the child as soon as it runs. */
  meanwhile?: (child: ChildProcess) => void;
}

/** The variables of this process, without those that would change what a command does; the compiled program is for all, wherever their home is. */
export function environment(more: Record<string, string> = {}): Record<string, string | undefined> {
  const inherited = { ...process.env };
  for (const name of ['HOLDFAST_CONFIG', 'HOLDFAST_RESTORE_IDENTITY_FILE', 'FORCE_COLOR', 'NO_COLOR', 'NODE_ENV'])
    delete inherited[name];
  return { ...inherited, NODE_COMPILE_CACHE: `${ROOT}/.cache/compiled`, ...more };
}

export function run(
  program: string,
  args: readonly string[],
  { env, cwd, stdout: output, meanwhile }: RunOptions = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [`${ROOT}/${program}`, ...args], {
    cwd: cwd ?? ROOT,
    env: environment(env),
    stdio: ['ignore', output ?? 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  meanwhile?.(child);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
}
