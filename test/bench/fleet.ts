/** What it costs to watch a large fleet, and how long a look at one takes in which some never answer. Linux only: it reads /proc. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { measure, TICKS_PER_SECOND } from './measure.ts';
import { series, type FleetResult } from './results.ts';
import { holdfastCommand } from './tools.ts';

const AGENTS = 1000;
const INTERVAL_SECONDS = 10;
/** Two intervals in which the watcher starts and warms up, and six that count. */
const [WARM_UP_SECONDS, WATCHED_SECONDS] = [20, 60];
const CHECKED = 200;
/** Of those that are checked: they take the call and never answer; nobody listens. */
const [SILENT, REFUSING] = [15, 5];
const UNHEALTHY = 15;
/** Calls of one look at an agent that go to the server: live and ready. */
const CALLS = 2;

/** `scale` makes fleet and time smaller, for trials. `work` is an empty folder. */
export async function measureFleet(
  program: string,
  work: string,
  { scale, runs }: { scale: number; runs: number },
): Promise<FleetResult> {
  const small = Math.min(1, scale);
  const size = (full: number) => Math.max(2, Math.round(full * small));
  const watched = await watchCost(program, join(work, 'watch'), size(AGENTS), small);
  const check = await checkTime(program, join(work, 'check'), [size(CHECKED), size(SILENT), size(REFUSING)], runs);
  rmSync(work, { recursive: true });
  return { ...watched, check };
}

async function watchCost(
  program: string,
  folder: string,
  agents: number,
  scale: number,
): Promise<Omit<FleetResult, 'check'>> {
  mkdirSync(folder, { recursive: true });
  const [warmUp, seconds] = [Math.max(2, WARM_UP_SECONDS * scale), Math.max(2, WATCHED_SECONDS * scale)];
  const intervalSeconds = Math.max(1, INTERVAL_SECONDS * scale);
  const server = await startServer(agents, 0);
  let watcher: ChildProcess | undefined;
  try {
    writeConfig(folder, server.answering, `${Math.round(intervalSeconds * 1000)}ms`);
    const { file, args, env, cwd } = command(program, folder, 'watch');
    watcher = spawn(file, args, { cwd, env, stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    watcher.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-4000)));
    const kill = () => watcher?.kill('SIGKILL');
    process.once('exit', kill);
    await pause(warmUp * 1000);
    const before = { cpu: cpuSeconds(watcher), calls: await server.calls(), at: performance.now() };
    await pause(seconds * 1000);
    const cpu = cpuSeconds(watcher) - before.cpu;
    const calls = (await server.calls()) - before.calls;
    const took = (performance.now() - before.at) / 1000;
    const memory = peakMemory(watcher);
    process.off('exit', kill);
    if (watcher.exitCode !== null) throw new Error(`fleet watch ended with ${watcher.exitCode}: ${stderr}`);
    const looks = calls / CALLS;
    return {
      agents,
      intervalSeconds,
      seconds: took,
      looksDue: (agents * took) / intervalSeconds,
      looks,
      cpu: cpu / took,
      memory,
    };
  } finally {
    watcher?.kill('SIGKILL');
    server.end();
  }
}

/** Wall time of `fleet check`, which must find exactly those that cannot be reached. */
async function checkTime(
  program: string,
  folder: string,
  [agents, silent, refusing]: [number, number, number],
  runs: number,
): Promise<FleetResult['check']> {
  mkdirSync(folder, { recursive: true });
  const server = await startServer(agents - silent - refusing, silent);
  try {
    const closed = await Promise.all(Array.from({ length: refusing }, closedPort));
    writeConfig(folder, [...server.answering, ...server.silent, ...closed], '10s');
    const seconds: number[] = [];
    for (let run = 0; run < runs; run++) {
      const cost = await measure(command(program, folder, 'check'), { exitCode: UNHEALTHY });
      seconds.push(cost.seconds);
    }
    return { agents, unreachable: silent + refusing, seconds: series(seconds) };
  } finally {
    server.end();
  }
}

function command(program: string, folder: string, ...args: string[]) {
  return holdfastCommand(program, ['fleet', ...args, '--config', join(folder, 'holdfast.yaml')], join(folder, 'home'));
}

/** Each agent as the manual has it: two addresses, and a heartbeat file. */
function writeConfig(folder: string, ports: readonly number[], interval: string): void {
  const agents = ports.map((port, i) => {
    const heartbeat = join(folder, `HEARTBEAT-${i}.md`);
    writeFileSync(heartbeat, 'last_beat: now\n');
    return [
      `    agent-${i}:`,
      `      live: http://127.0.0.1:${port}/health/live`,
      `      ready: http://127.0.0.1:${port}/health/ready`,
      `      progress: {file: ${JSON.stringify(heartbeat)}, within: 1d}`,
    ].join('\n');
  });
  writeFileSync(join(folder, 'holdfast.yaml'), `fleet:\n  interval: ${interval}\n  agents:\n${agents.join('\n')}\n`);
}

interface Server {
  answering: number[];
  silent: number[];
  calls(): Promise<number>;
  end(): void;
}

async function startServer(answering: number, silent: number): Promise<Server> {
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'fleet-server.js'), String(answering), String(silent)],
    {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    },
  );
  const [ports] = (await once(child, 'message')) as [{ answering: number[]; silent: number[] }];
  return {
    ...ports,
    async calls() {
      child.send('how many');
      const [{ calls }] = (await once(child, 'message')) as [{ calls: number }];
      return calls;
    },
    end: () => void child.kill('SIGKILL'),
  };
}

/** One that nobody listens on any more. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address ? address.port : 1;
}

/** utime + stime, and those of what it waited for. */
function cpuSeconds({ pid }: ChildProcess): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
}

function peakMemory({ pid }: ChildProcess): number {
  return 1024 * Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
}
