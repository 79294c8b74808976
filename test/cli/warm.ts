/** Runs commands as `run` does, but not each in a process of its own: to start one is most of what a short command costs. */
import { fork, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { environment, PROGRAM, ROOT, run, type Ended, type RunOptions } from './run.ts';
import type { WarmAnswer, WarmRun } from './warm-program.ts';

/** These hand their streams on, or run until they are told to end. */
const OF_THEIR_OWN = new Set(['breaker:run', 'browse', 'fleet:serve', 'fleet:watch']);

/** Commands that were run as a process of their own. */
const seen = new Set<string>();
let warm: ChildProcess | undefined;
let previous: Promise<unknown> = Promise.resolve();

/**
 * The first run of each command in a test file is a process of its own, as users have it; all others are done by one process, one after the other.
 * For commands that need no signal, no stdin and no terminal, and that need not run at the same time.
 */
export function runWarm(
  args: readonly string[],
  { cwd = ROOT, env = {}, program = PROGRAM }: Pick<RunOptions, 'cwd' | 'env'> & { program?: string } = {},
): Promise<Ended> {
  const id = commandOf(args);
  const command = `${program} ${id}`;
  const isEndless = OF_THEIR_OWN.has(id) && !args.includes('--once') && !args.includes('--print-unit');
  if (isEndless || !seen.has(command)) {
    seen.add(command);
    return run(program, args, { cwd, env });
  }
  const ended = previous.then(() => ask({ program, args, cwd, env: environment(env) }));
  previous = ended.catch(() => {});
  return ended;
}

/** The id of the command that the arguments begin with, the longest that fits; '' for none. */
function commandOf(args: readonly string[]): string {
  const { commands } = JSON.parse(readFileSync(`${ROOT}/oclif.manifest.json`, 'utf8')) as { commands: object };
  const ids = new Set(Object.keys(commands));
  return [3, 2, 1].map((length) => args.slice(0, length).join(':')).find((id) => ids.has(id)) ?? '';
}

function ask(wanted: WarmRun): Promise<Ended> {
  const child = (warm ??= start());
  return new Promise((resolve, reject) => {
    const answered = (answer: unknown) => {
      const { ended, isLast } = answer as WarmAnswer;
      child.off('exit', died);
      if (isLast) warm = undefined;
      resolve(ended);
    };
    const died = (code: number | null, signal: string | null) => {
      child.off('message', answered);
      warm = undefined;
      reject(new Error(`the program ended (${signal ?? code}) in: ${wanted.args.join(' ')}`));
    };
    child.once('message', answered).once('exit', died);
    child.send(wanted);
  });
}

/** It ends when this process does, as its channel closes then. */
function start(): ChildProcess {
  const child = fork(new URL('warm-program.ts', import.meta.url), {
    env: environment(),
    execArgv: ['--disable-warning=ExperimentalWarning'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  child.unref();
  child.channel?.unref();
  return child;
}
