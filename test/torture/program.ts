/** Runs the real program, kills it, and does not wait for ever. */
import { spawn } from 'node:child_process';
import { PROGRAM, ROOT } from '../cli/run.ts';
import { runWarm } from '../cli/warm.ts';
import type { Tally } from './kind.ts';

/** Nothing here takes a tenth of it, on the slowest machine. */
const DEADLINE_MS = 120_000;

export interface Ran {
  args: readonly string[];
  /** null when it was killed. */
  code: number | null;
  /** Of stdout; undefined when it is none. */
  json: unknown;
  stderr: string;
  ms: number;
}

export interface How {
  cwd: string;
  env: Record<string, string>;
  /** SIGKILL after so many milliseconds, unless it has ended. */
  killAfterMs?: number | undefined;
  /** Runs as this user. */
  uid?: number | undefined;
  /** System calls fail, also those with which Node loads the program: then it may end before it is one. */
  mayNotLoad?: boolean;
  /** Something is done to the world so many milliseconds after the start, unless it has ended. */
  meanwhile?: { afterMs: number; act: () => void } | undefined;
  /** Not in a process of its own: no harm is done to it. */
  isWarm?: boolean;
}

/** Runs a command with --json to its end, counts it, and blames a hang, a crash and an error that is a defect. */
export async function runProgram(args: readonly string[], how: How, tally: Tally): Promise<Ran> {
  if (how.isWarm) return runHere(args, how, tally);
  const inherited = { ...process.env };
  for (const name of ['HOLDFAST_CONFIG', 'HOLDFAST_RESTORE_IDENTITY_FILE', 'FORCE_COLOR', 'NODE_ENV', 'NODE_OPTIONS'])
    delete inherited[name];
  const startedMs = performance.now();
  const child = spawn(process.execPath, [`${ROOT}/${PROGRAM}`, ...args, '--json'], {
    cwd: how.cwd,
    env: { ...inherited, NODE_COMPILE_CACHE: `${ROOT}/.cache/compiled`, ...how.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(how.uid === undefined ? {} : { uid: how.uid, gid: how.uid }),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  let isHung = false;
  const timers = [
    setTimeout(() => {
      isHung = true;
      child.kill('SIGKILL');
    }, DEADLINE_MS),
  ];
  if (how.killAfterMs !== undefined) timers.push(setTimeout(() => child.kill('SIGKILL'), how.killAfterMs));
  let failedAct: unknown;
  const act = (): void => {
    try {
      how.meanwhile?.act();
    } catch (error) {
      failedAct = error; // thrown in a timer, it would end everything
    }
  };
  if (how.meanwhile) timers.push(setTimeout(act, how.meanwhile.afterMs));
  const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exitCode, exitSignal) => resolve({ code: exitCode, signal: exitSignal }));
  });
  for (const timer of timers) clearTimeout(timer);
  const ran = { args, code, json: parsed(stdout), stderr, ms: performance.now() - startedMs };
  tally.add('operations');
  if (failedAct !== undefined) throw failedAct;
  if (isHung) tally.blame('hung', `${args.join(' ')} did not end within ${DEADLINE_MS / 1000} s`);
  else if (code === null && signal === 'SIGKILL' && how.killAfterMs !== undefined) tally.add('kills');
  else if (code === null) tally.blame('wrong', `${args.join(' ')} was ended by ${signal}: ${stderr.slice(-500)}`);
  else if (how.mayNotLoad && code === 1 && ran.json === undefined && /Node\.js v\d|i\/o error|EIO/.test(stderr))
    return ran;
  else blameDefect(ran, tally);
  return ran;
}

async function runHere(args: readonly string[], { cwd, env }: How, tally: Tally): Promise<Ran> {
  const startedMs = performance.now();
  // It also keeps this process alive, which that one does not.
  let timer: NodeJS.Timeout | undefined;
  const hung = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      tally.blame('hung', `${args.join(' ')} did not end within ${DEADLINE_MS / 1000} s`);
      reject(new Error('nothing more can be run'));
    }, DEADLINE_MS);
  });
  const running = runWarm([...args, '--json'], { cwd, env });
  const { code, stdout, stderr } = await Promise.race([running, hung]).finally(() => clearTimeout(timer));
  const ran = { args, code, json: parsed(stdout), stderr, ms: performance.now() - startedMs };
  tally.add('operations');
  blameDefect(ran, tally);
  return ran;
}

function blameDefect(ran: Ran, tally: Tally): void {
  if (errorOf(ran)?.code === 'bug' || (ran.code !== 0 && ran.json === undefined))
    tally.blame('wrong', `${describe(ran)}: a defect, not an error`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Of a run that failed. */
export function errorOf({ json }: Ran): { code: string; message: string } | undefined {
  if (typeof json !== 'object' || json === null || !('error' in json)) return undefined;
  return json.error as { code: string; message: string };
}

/** A run and how it ended, in one line. */
export function describe(ran: Ran): string {
  const error = errorOf(ran);
  const said = error ? `${error.code}: ${error.message}` : JSON.stringify(ran.json)?.slice(0, 600);
  return `${ran.args.join(' ')} ended with ${ran.code ?? 'SIGKILL'} (${said ?? ''}) ${ran.stderr.slice(-600)}`.trim();
}

/** Blames it when it did not end with one of the codes, and was not killed; says whether all is well. */
export function mustEndWith(codes: readonly number[], ran: Ran, tally: Tally): boolean {
  if (ran.code !== null && codes.includes(ran.code)) return true;
  tally.blame('wrong', `${describe(ran)}, and not with ${codes.join(' or ')}`);
  return false;
}
