/** Runs a program of the system and takes what it prints. */
import { spawn } from 'node:child_process';
import { messageOf, systemErrorCode } from '../../errors.ts';

export interface ToolEnd {
  /** null when it is not there, or was ended by a signal. */
  exitCode: number | null;
  stdout: string;
  /** One line, for messages. */
  stderr: string;
}

export type RunTool = (program: string, args: readonly string[], input?: string) => Promise<ToolEnd>;

/** With `env`, which also says where programs are looked for. */
export const runTool =
  (env: Readonly<Record<string, string | undefined>>): RunTool =>
  (program, args, input = '') =>
    new Promise((resolve) => {
      const child = spawn(program, args, { env: { ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
      let stdout = '';
      let stderr = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
      child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
      child.stdin.on('error', () => {}); // one that does not read its input says by its exit code what is wrong
      child.once('error', (error) => {
        const why = systemErrorCode(error) === 'ENOENT' ? `${program} is not there` : messageOf(error);
        resolve({ exitCode: null, stdout, stderr: why });
      });
      child.once('close', (exitCode) => resolve({ exitCode, stdout, stderr: messageOf(stderr) }));
      child.stdin.end(input);
    });
