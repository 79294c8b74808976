/** For commands that run others: the streams of this process, its signals, its environment. */
import { isatty } from 'node:tty';
import { HoldfastError } from '../errors.ts';
import type { CommandStreams } from '../fleet/command.ts';

/** With `json`, stdout is for our document. Asked of the descriptor: `process.stdin` would change the pipe that the command is to read. */
export function commandStreams({ json }: { json: boolean }): CommandStreams {
  return {
    stdin: 'inherit',
    stdout: json ? 'stderr' : 'inherit',
    stderr: (bytes) => void process.stderr.write(bytes),
    isInteractive: isatty(0),
  };
}

/** For commands that were queued: nobody types, and stdout is for what became of them. */
export function queuedStreams(): CommandStreams {
  return { ...commandStreams({ json: true }), stdin: 'ignore', isInteractive: false };
}

const PASSED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGCONT'] as const;

export function passedSignals(receive: (name: NodeJS.Signals) => void): Disposable {
  for (const name of PASSED) process.on(name, receive);
  return {
    [Symbol.dispose]: () => {
      for (const name of PASSED) process.off(name, receive);
    },
  };
}

/** The variables named, as far as they are set. @throws `usage` for what holds secrets of ours, or says where they are */
export function kept(
  env: Readonly<Record<string, string | undefined>>,
  names: readonly string[],
): Record<string, string> {
  const own = names.find((name) => name.startsWith('HOLDFAST_') || !/^[A-Za-z_]\w*$/.test(name));
  if (own !== undefined) {
    throw new HoldfastError('usage', `the variable ${JSON.stringify(own.slice(0, 40))} is not kept`, {
      hint: 'Name variables of the command, without HOLDFAST_ in front, and without values.',
    });
  }
  return Object.fromEntries(names.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])));
}
