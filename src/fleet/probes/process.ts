/** Whether a process runs, by what Linux tells in /proc. One that is stopped, or a zombie, does not. */
import { readdir, readFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import type { Clock } from '../../clock.ts';
import { messageOf, systemErrorCode } from '../../errors.ts';
import { foundIn } from '../patterns.ts';
import { absent, failed, found, type Finding, type Probe, type StatsProbe } from './probe.ts';

export interface ProcessSpec {
  /** The file that its number stands in. */
  pidFile?: string;
  /** A pattern for its command line, the arguments joined by spaces: of the process in the file, or else of any. */
  command?: RegExp;
}

const PROC = '/proc';
/** All processes are looked through at most so often, however many agents are found by their command lines. */
const LIST_KEPT_MS = 1000;

interface Running {
  pid: number;
  command: string;
}

/** @returns the process, or why there is none */
async function locate(spec: ProcessSpec, clock: Clock): Promise<{ pid: number } | Finding> {
  const { pidFile, command } = spec;
  if (pidFile === undefined) {
    if (!command) return failed('nothing says which process');
    const all = await processes(clock);
    const fits = foundIn(
      command,
      all.map((one) => one.command),
    );
    const fitting = all.filter((_, i) => fits[i]);
    if (fitting.length === 0) return absent(`no process whose command line matches ${command.source}`);
    const problems: string[] = [];
    for (const { pid } of fitting) {
      const problem = await stateProblem(pid);
      if (problem === undefined) return { pid };
      problems.push(problem);
    }
    return failed(problems[0] ?? 'it is gone');
  }
  let text: string;
  try {
    text = await readFile(pidFile, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return absent(`${pidFile} is not there`);
    return failed(messageOf(error));
  }
  const pid = Number(/^\s*(\d{1,10})\b/.exec(text.slice(0, 100))?.[1] ?? 0);
  if (pid < 1) return failed(`${pidFile} has no process number in it`);
  const problem = await stateProblem(pid);
  if (problem !== undefined) return failed(problem);
  if (command && !foundIn(command, [(await commandLine(pid)) ?? ''])[0])
    return failed(`process ${pid} is another program: its command line does not match ${command.source}`);
  return { pid };
}

async function commandLine(pid: number): Promise<string | undefined> {
  try {
    return (await readFile(`${PROC}/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ').trim();
  } catch {
    return undefined; // it has ended
  }
}

const STATES: Readonly<Record<string, string>> = { T: 'stopped', t: 'stopped by a debugger', Z: 'a zombie', X: 'dead' };

/** Why a process cannot do anything; undefined when it can. */
async function stateProblem(pid: number): Promise<string | undefined> {
  let stat: string;
  try {
    stat = await readFile(`${PROC}/${pid}/stat`, 'utf8');
  } catch (error) {
    const code = systemErrorCode(error);
    if (code !== 'ENOENT' && code !== 'ESRCH') return messageOf(error);
    return `process ${pid} is gone`;
  }
  // The name in brackets may hold anything, brackets too.
  const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
  const bad = STATES[state];
  return bad === undefined ? undefined : `process ${pid} is ${bad} (state ${state})`;
}

let listed: { atMs: number; processes: Promise<Running[]> } | undefined;

function processes(clock: Clock): Promise<Running[]> {
  const nowMs = clock.monotonic();
  if (!listed || nowMs - listed.atMs > LIST_KEPT_MS || nowMs < listed.atMs)
    listed = { atMs: nowMs, processes: listProcesses() };
  return listed.processes;
}

/** Without our own, and what was started by us: commands that look for the agent have its name in their command lines. */
async function listProcesses(): Promise<Running[]> {
  const pids = (await readdir(PROC)).filter((name) => /^\d+$/.test(name)).map(Number);
  const all: Running[] = [];
  for (const pid of pids) {
    if (pid === process.pid) continue;
    const command = await commandLine(pid);
    if (command === undefined || command === '') continue;
    if ((await parentOf(pid)) !== process.pid) all.push({ pid, command });
  }
  return all;
}

async function parentOf(pid: number): Promise<number> {
  const stat = await readFile(`${PROC}/${pid}/stat`, 'utf8').catch(() => '');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0);
}

export function processProbe(spec: ProcessSpec, clock: Clock): Probe {
  return async () => {
    const one = await locate(spec, clock);
    return 'pid' in one ? found(`process ${one.pid}`) : one;
  };
}

/** The memory that the process has taken, and what it may have: of its control group, or the host. */
export function processStats(spec: ProcessSpec, clock: Clock): StatsProbe {
  return async () => {
    const one = await locate(spec, clock);
    if (!('pid' in one)) return { stats: {}, problem: one.evidence, ...(one.absent && { absent: true }) };
    const status = await readFile(`${PROC}/${one.pid}/status`, 'utf8');
    const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
    if (kibibytes === undefined) return { stats: {}, problem: `process ${one.pid} has no memory` };
    return { stats: { memoryBytes: Number(kibibytes) * 1024, memoryLimitBytes: await memoryLimit(one.pid) } };
  };
}

async function memoryLimit(pid: number): Promise<number> {
  const groups = await readFile(`${PROC}/${pid}/cgroup`, 'utf8').catch(() => '');
  const group = /^0::(\/.*)$/m.exec(groups)?.[1];
  const max = group === undefined ? '' : await readFile(`/sys/fs/cgroup${group}/memory.max`, 'utf8').catch(() => '');
  return /^\d+\s*$/.test(max) ? Math.min(Number(max), totalmem()) : totalmem();
}
