/**
 * Runs commands of the built program one after the other in this one process, as `bin/run.js` runs one: each message says which, where and in what
 * environment, and is answered with how it ended. What a command leaves to the end of its process is done at the end of the command.
 */
import './seeded-random.ts';
import type * as Main from '../../src/cli/main.ts';
import { PROGRAM, ROOT, type Ended } from './run.ts';

export interface WarmRun {
  args: readonly string[];
  cwd: string;
  env: Record<string, string | undefined>;
}

const { main } = (await import(`${ROOT}/dist/program/main.js`)) as typeof Main;
/** What a command listens to until its process ends. */
const EVENTS = ['exit', 'uncaughtException', 'SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const listeners = (event: (typeof EVENTS)[number]) => process.listeners(event as 'exit');

const stdout = collect(process.stdout);
const stderr = collect(process.stderr);
const exit = process.exit.bind(process);
process.exit = (code) => {
  process.exitCode = code ?? process.exitCode;
  answer(exit);
  return undefined as never;
};
process.on('message', (wanted: WarmRun) => void runOne(wanted));

async function runOne({ args, cwd, env }: WarmRun): Promise<void> {
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
  Object.assign(process.env, env);
  process.chdir(cwd);
  process.argv = [process.execPath, `${ROOT}/${PROGRAM}`, ...args];
  const before = EVENTS.map(listeners);
  await main({ root: ROOT, commands: 'dist/program/commands.js', manifest: true });
  for (const [i, event] of EVENTS.entries()) {
    for (const listener of listeners(event).filter((one) => !before[i]?.includes(one))) {
      process.off(event, listener);
      if (event === 'exit') listener(Number(process.exitCode));
    }
  }
  for (const stream of [process.stdout, process.stderr]) stream.removeAllListeners('error');
  answer();
}

/** Takes what is written to the stream; the function gives what was written since it was called last. */
function collect(stream: NodeJS.WriteStream): () => string {
  const chunks: Buffer[] = [];
  stream.write = (data: Uint8Array | string, ...rest: unknown[]): boolean => {
    chunks.push(Buffer.from(data as string));
    const written = rest.at(-1);
    if (typeof written === 'function') process.nextTick(written);
    return true;
  };
  return () => Buffer.concat(chunks.splice(0)).toString();
}

function answer(sent?: () => void): void {
  const ended: Ended = { code: Number(process.exitCode), stdout: stdout(), stderr: stderr() };
  process.send?.(ended, undefined, undefined, sent);
}
