/**
 * Runs the built program in the process of the test: no Node to start, and each module is loaded once for a test file, which is most of what a
 * short command costs. For tests of what a command does and says. What a process is needed for has one of its own: signals, inherited streams,
 * an environment that Node reads when it starts, a deadline counted from the start.
 */
import type { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { main } from '../../src/cli/main.ts';
import { inheritedEnvironment, PROGRAM, ROOT, run, type Ended, type RunOptions } from './run.ts';

/** These hand their streams on, or run until they are told to end. */
const OF_THEIR_OWN = ['breaker run', 'browse', 'fleet serve', 'fleet watch'];

const begun = new Set<string>();

/**
 * As `run(PROGRAM, …)`: of each of the commands `first` the first run in a test file is a process, as users have it, and those after it are none;
 * nor is any run of the other commands. One at a time. (`fleet check` counts its deadline from the start of the process: give it a late one.)
 */
export async function runFrugally(
  first: readonly string[],
  args: readonly string[],
  options: Pick<RunOptions, 'env' | 'cwd'>,
): Promise<Ended> {
  const command = commandOf(args);
  const isFirst = first.includes(command) && !begun.has(command);
  begun.add(command);
  const isEndless = OF_THEIR_OWN.includes(command) && !args.includes('--once') && !args.includes('--print-unit');
  return isFirst || isEndless ? run(PROGRAM, args, options) : runHere(args, options);
}

let commands: readonly string[] | undefined;

/** The words that name the command. */
function commandOf(args: readonly string[]): string {
  commands ??= Object.keys(
    (JSON.parse(readFileSync(join(ROOT, 'oclif.manifest.json'), 'utf8')) as { commands: object }).commands,
  );
  const flags = args.findIndex((arg) => arg.startsWith('-'));
  const words = args.slice(0, flags < 0 ? args.length : flags);
  while (words.length > 1 && !commands.includes(words.join(':'))) words.pop();
  return words.join(' ');
}

let busy = false;

async function runHere(args: readonly string[], { env, cwd = ROOT }: Pick<RunOptions, 'env' | 'cwd'>): Promise<Ended> {
  if (busy) throw new Error('one command at a time: they share this process');
  busy = true;
  const program = createRequire(import.meta.url)(join(ROOT, 'dist/program/main.js')) as { main: typeof main };
  const before = { argv: process.argv, cwd: process.cwd(), env: { ...process.env }, exitCode: process.exitCode };
  const listeners = LISTENED.map(([emitter, event]) => ({ emitter, event, kept: emitter.rawListeners(event) }));
  const [{ exit }, streams] = [process, { stdout: process.stdout.write, stderr: process.stderr.write }];
  const ended: Ended = { code: null, stdout: '', stderr: '' };
  const take = (name: 'stdout' | 'stderr'): typeof process.stdout.write => {
    const decoder = new TextDecoder();
    return (data, encodingOrDone?: unknown, done?: () => void) => {
      ended[name] += typeof data === 'string' ? data : decoder.decode(data, { stream: true });
      const told = typeof encodingOrDone === 'function' ? (encodingOrDone as () => void) : done;
      if (told) process.nextTick(told);
      return true;
    };
  };
  try {
    process.argv = [process.execPath, join(ROOT, PROGRAM), ...args];
    process.chdir(cwd);
    setEnvironment({ ...inheritedEnvironment(), ...env });
    process.stdout.write = take('stdout');
    process.stderr.write = take('stderr');
    process.exit = (() => {}) as typeof exit; // a command does that last of all, if it does
    await program.main({ root: ROOT, commands: 'dist/program/commands.js', manifest: true });
    ended.code = Number(process.exitCode);
    return ended;
  } finally {
    process.exit = exit;
    Object.assign(process.stdout, { write: streams.stdout });
    Object.assign(process.stderr, { write: streams.stderr });
    for (const { emitter, event, kept } of listeners) {
      emitter.removeAllListeners(event);
      for (const listener of kept) emitter.on(event, listener as () => void);
    }
    setEnvironment(before.env);
    process.chdir(before.cwd);
    process.argv = before.argv;
    process.exitCode = before.exitCode;
    busy = false;
  }
}

/** To what the program listens, and stops others from listening. */
const LISTENED: readonly (readonly [EventEmitter, string])[] = [
  ...['uncaughtException', 'exit', 'SIGINT', 'SIGTERM', 'SIGHUP'].map((event) => [process, event] as const),
  [process.stdout, 'error'],
  [process.stderr, 'error'],
];

/** In place: what is not JavaScript (the folder of the user, programs that are started) reads the environment, too. */
function setEnvironment(wanted: NodeJS.ProcessEnv): void {
  for (const name of Object.keys(process.env)) if (wanted[name] === undefined) delete process.env[name];
  for (const [name, value] of Object.entries(wanted))
    if (value !== undefined && process.env[name] !== value) process.env[name] = value;
}
