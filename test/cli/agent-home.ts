/** A home folder of its own for the command line: whatever a command writes for itself lies below it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { PROGRAM, run, type Ended, type RunOptions } from './run.ts';
import { runWarm } from './warm.ts';

const SEEDED = `--import=${new URL('seeded-random.ts', import.meta.url).href}`;

export interface Failure {
  code: string;
  message: string;
  hint: string | null;
}

export interface AgentHome {
  readonly folder: string;
  /** A path below the folder. */
  at(...names: string[]): string;
  /** A new file that only its owner can use; its path. */
  secret(name: string, content: string | Uint8Array): string;
  holdfast(...args: string[]): Promise<Ended>;
  /** The same, always in a process of its own; something can be done while it runs. */
  holdfastWith(options: Pick<RunOptions, 'meanwhile'>, ...args: string[]): Promise<Ended>;
  /** What a command prints with --json; it must end with `code`, and print nothing on stderr. */
  json<T>(code: number, ...args: string[]): Promise<T>;
  /** The error of a command with --json; it must end with exit code `code` and say what to do. */
  refused(code: number, ...args: string[]): Promise<Failure>;
}

export interface HomeOptions {
  /** More than, or instead of, what is set by itself. */
  env?: Record<string, string>;
  /** What the commands take for random depends on it, and on how many there were before. Without it: as ever. */
  seed?: string;
  /** Commands run in one process, but for the first of each kind in a test file: see `runWarm`. */
  warm?: boolean;
  /** Told of each command that has ended. */
  ended?: (args: readonly string[], ended: Ended) => void;
}

/** HOME, the working folder and every XDG and temporary folder are `folder`, which is made, or lie below it. */
export function agentHome(folder: string, { env, seed, warm = false, ended }: HomeOptions = {}): AgentHome {
  const at = (...names: string[]) => join(folder, ...names);
  mkdirSync(at('tmp'), { recursive: true });
  const own = {
    HOME: folder,
    XDG_CONFIG_HOME: at('xdg', 'config'),
    XDG_STATE_HOME: at('xdg', 'state'),
    XDG_CACHE_HOME: at('xdg', 'cache'),
    XDG_DATA_HOME: at('xdg', 'data'),
    TMPDIR: at('tmp'),
    HOLDFAST_PASSPHRASE_COMMAND: '',
  };
  let commands = 0;
  const runBy = async (how: typeof run, args: string[], options?: Pick<RunOptions, 'meanwhile'>): Promise<Ended> => {
    const seeded = seed === undefined ? {} : { NODE_OPTIONS: SEEDED, HOLDFAST_TEST_SEED: `${seed}/${commands++}` };
    const result = await how(PROGRAM, args, { cwd: folder, env: { ...own, ...seeded, ...env }, ...options });
    ended?.(args, result);
    return result;
  };
  const holdfast = (...args: string[]) => runBy(warm ? (_, words, place) => runWarm(words, place) : run, args);
  const holdfastWith = (options: Pick<RunOptions, 'meanwhile'>, ...args: string[]) => runBy(run, args, options);
  return {
    folder,
    at,
    secret(name, content) {
      writeFileSync(at(name), content, { mode: 0o600, flag: 'wx' });
      return at(name);
    },
    holdfast,
    holdfastWith,
    async json<T>(code: number, ...args: string[]): Promise<T> {
      const result = await holdfast(...args, '--json');
      expect(result, args.join(' ')).toMatchObject({ code, stderr: '' });
      return JSON.parse(result.stdout) as T;
    },
    async refused(code, ...args) {
      const result = await holdfast(...args, '--json');
      expect(result, args.join(' ')).toMatchObject({ code, stderr: '' });
      const { error } = JSON.parse(result.stdout) as { error: Failure };
      expect(error, args.join(' ')).toEqual({
        code: expect.stringMatching(/^[a-z_]+$/) as string,
        message: expect.stringMatching(/^.{10,}$/) as string,
        hint: expect.stringMatching(/^.{10,}$/) as string,
      });
      return error;
    },
  };
}

/** `init` of ada, whose state is the folder `state`, with backends (two, unless they are named), which lie where `disk` says. */
export const initArgs = (disk: (name: string) => string, names: readonly string[] = ['nas', 'usb']): string[] => [
  'init',
  '--handle',
  'ada',
  '--state',
  'state',
  ...names.flatMap((name) => ['--backend', `${name}=file://${disk(name)}`]),
];
