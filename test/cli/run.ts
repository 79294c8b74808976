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

export function run(
  program: string,
  args: readonly string[],
  { env, cwd, stdout: output, meanwhile }: RunOptions = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [`${ROOT}/${program}`, ...args], {
    cwd: cwd ?? ROOT,
    env: { ...inheritedEnvironment(), ...env },
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

/** What a run finds in its environment: of this process's what does not change what it does, and one place for the compiled program of all homes. */
export function inheritedEnvironment(): NodeJS.ProcessEnv {
  const inherited: NodeJS.ProcessEnv = { ...process.env, NODE_COMPILE_CACHE: `${ROOT}/.cache/compiled` };
  for (const name of ['HOLDFAST_CONFIG', 'HOLDFAST_RESTORE_IDENTITY_FILE', 'FORCE_COLOR', 'NO_COLOR', 'NODE_ENV'])
    delete inherited[name];
  return inherited;
}
