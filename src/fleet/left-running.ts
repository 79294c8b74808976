/**
 * A command that was begun for an agent, written down so that it can be found again: it goes on when the process that began it is killed. A number
 * alone names a process only as long as it runs; with the moment that it was started and the boot of the host it is this one for ever.
 */
import { readFileSync } from 'node:fs';
import type { Clock } from '../clock.ts';

export interface LeftRunning {
  /** Of a shell that leads a process group. */
  pid: number;
  /** In ticks of the kernel since the host was booted. */
  started: string;
  /** The id of that boot. */
  boot: string;
  /** Milliseconds since the Unix epoch, and how long it may take from then on. */
  sinceMs: number;
  timeoutMs: number;
}

/** @returns undefined where there is no /proc, or the process has ended already */
export function noted(pid: number, timeoutMs: number, clock: Clock): LeftRunning | undefined {
  const boot = bootId();
  const started = startOf(pid);
  if (boot === undefined || started === undefined) return undefined;
  return { pid, started, boot, sinceMs: clock.now(), timeoutMs };
}

export function isRunning({ pid, started, boot }: LeftRunning): boolean {
  return bootId() === boot && startOf(pid) === started;
}

/** A clock that was set back makes no deadline longer. */
export function isLate({ sinceMs, timeoutMs }: LeftRunning, nowMs: number): boolean {
  return nowMs < sinceMs || nowMs - sinceMs >= timeoutMs;
}

const bootId = (): string | undefined => read('/proc/sys/kernel/random/boot_id')?.trim();

/** Of one that runs: a zombie does not. */
function startOf(pid: number): string | undefined {
  const stat = read(`/proc/${pid}/stat`);
  // From the state on: the name before it, in brackets, may hold anything, brackets too.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
