/**
 * Runs commands of a program one after the other in this one process, as `bin/run.js` runs one: each message says which, where and in what
 * environment, and is answered with how it ended. What a command leaves to the end of its process is done at the end of the command.
 */
import './seeded-random.ts';
import type * as Main from '../../src/cli/main.ts';
import { FIXTURE, PROGRAM, ROOT, type Ended } from './run.ts';

export interface WarmRun {
  /** PROGRAM or FIXTURE. */
  program: string;
  args: readonly string[];
  cwd: string;
  env: Record<string, string | undefined>;
}

export interface WarmAnswer {
  ended: Ended;
  /** The command ended the process. */
  isLast: boolean;
}

/** What these files give to `main`, and where it is. */
const PROGRAMS: Record<string, { frame: string } & Omit<Main.Program, 'root'>> = {
  [PROGRAM]: { frame: 'dist/program/main.js', commands: 'dist/program/commands.js', manifest: true },
  [FIXTURE]: { frame: 'src/cli/main.ts', commands: 'test/cli/fixture/commands.ts', manifest: false },
};
/** What a command listens to until its process ends. */
const EVENTS = ['exit', 'uncaughtException', 'SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const listeners = (event: (typeof EVENTS)[number]) => process.listeners(event as 'exit');

const stdout = collect(process.stdout);
const stderr = collect(process.stderr);
const exit = process.exit.bind(process);
process.exit = (code) => {
  process.exitCode = code ?? process.exitCode;
  answer({ isLast: true }, exit);
  return undefined as never;
};
process.on('message', (wanted: WarmRun) => void runOne(wanted));

async function runOne({ program, args, cwd, env }: WarmRun): Promise<void> {
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
  Object.assign(process.env, env);
  process.chdir(cwd);
  process.argv = [process.execPath, `${ROOT}/${program}`, ...args];
  const { frame, ...described } = PROGRAMS[program]!;
  const { main } = (await import(`${ROOT}/${frame}`)) as typeof Main;
  const before = EVENTS.map(listeners);
  await main({ root: ROOT, ...described });
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

function answer({ isLast = false } = {}, sent?: () => void): void {
  const ended: Ended = { code: Number(process.exitCode), stdout: stdout(), stderr: stderr() };
  process.send?.({ ended, isLast } satisfies WarmAnswer, undefined, undefined, sent);
}
