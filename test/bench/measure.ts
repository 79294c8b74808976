/** Runs one command and says what it cost. Linux only: it reads /proc. */
import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

export interface Command {
  file: string;
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  cwd: string;
}

export interface Cost {
  seconds: number;
  /** User and system time of the process and of all that it waited for; exact to 1/100 s. */
  cpuSeconds: number;
  /** The most resident memory that any one process of the tree had. */
  largestBytes: number;
  /** The most resident memory that the processes of the tree had together at one moment. */
  sumBytes: number;
}

const SAMPLE_MS = 20;
const STDERR_KEPT = 8192;
export const TICKS_PER_SECOND = Number(spawnSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }).stdout) || 100;

/**
 * Runs `command` to its end. One at a time: the CPU time is what this process has waited for since the start. The kernel keeps the
 * high-water mark of each process, so that sampling misses only what a process gains in its last `SAMPLE_MS`.
 *
 * @throws Error with the command and the end of its stderr when it does not exit with `exitCode`.
 */
export async function measure(command: Command, { exitCode = 0 } = {}): Promise<Cost> {
  const cpuBefore = childrenCpuSeconds();
  const start = performance.now();
  const child = spawn(command.file, command.args, {
    cwd: command.cwd,
    env: command.env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-STDERR_KEPT)));
  const cost: Cost = { seconds: 0, cpuSeconds: 0, largestBytes: 0, sumBytes: 0 };
  const timer = setInterval(() => child.pid && sample(child.pid, cost), SAMPLE_MS);
  try {
    const ended = await new Promise<string>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => (cost.seconds = (performance.now() - start) / 1000));
      child.once('close', (code, signal) => resolve(code === exitCode ? '' : (signal ?? `exit code ${code}`)));
    });
    if (ended !== '') throw new Error(`${[command.file, ...command.args].join(' ')}: ${ended}\n${stderr}`);
  } finally {
    clearInterval(timer);
    process.off('exit', kill);
  }
  cost.cpuSeconds = childrenCpuSeconds() - cpuBefore;
  // The sum is of one moment, and a high-water mark may lie between two of them.
  cost.sumBytes = Math.max(cost.sumBytes, cost.largestBytes);
  return cost;
}

/** cutime + cstime of this process, see proc_pid_stat(5); the name of the program, in brackets, may hold spaces. */
function childrenCpuSeconds(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND;
}

function sample(root: number, cost: Cost): void {
  let sum = 0;
  for (const pid of treeOf(root)) {
    const status = gone(() => readFileSync(`/proc/${pid}/status`, 'utf8'));
    const bytes = (field: string) =>
      1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status ?? '')?.[1] ?? 0);
    sum += bytes('VmRSS');
    cost.largestBytes = Math.max(cost.largestBytes, bytes('VmHWM'));
  }
  cost.sumBytes = Math.max(cost.sumBytes, sum);
}

/** The process and all below it. */
function treeOf(pid: number): number[] {
  const threads = gone(() => readdirSync(`/proc/${pid}/task`)) ?? [];
  const children = threads.flatMap((thread) =>
    (gone(() => readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8')) ?? '').split(' ').filter(Boolean),
  );
  return [pid, ...children.flatMap((child) => treeOf(Number(child)))];
}

/** A process may end while it is looked at. */
function gone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
