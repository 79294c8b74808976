/**
 * The shadow: the recovered agent itself, started in the restored state beside the one that runs, fenced off from work, asked, and stopped. What
 * it does to production is looked for afterwards: a marker keeps only an agent from work that heeds it.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { lstatSync, rmSync, writeFileSync, type BigIntStats } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import type { Clock } from '../../clock.ts';
import { HoldfastError, isHoldfastError, messageOf, throwIfAborted } from '../../errors.ts';
import { HOOK_OUTPUT_MAX_BYTES } from '../../limits.ts';
import { runCommand, Tail } from '../../operations/hooks.ts';
import { secondsSince } from '../../operations/seams.ts';
import { withDeadline } from '../../policy/deadline.ts';
import { rawForDisplay } from '../../raw-path.ts';
import { scan, type ScanOptions } from '../../state/scan.ts';
import { formatDuration } from '../../units.ts';
import { endAll, killNow, type Ending } from '../processes.ts';
import { checkOf, skip, type Outcome, type Scene } from '../scene.ts';
import { redacted, secretsIn } from './commands.ts';

/** How the user's agent is started and asked. */
export interface ShadowSettings {
  /** Program and arguments. */
  argv: readonly string[];
  /** What says that it is ready: a command for /bin/sh that ends with 0, an address of this host that answers 2xx, a file of the restored state that is written. */
  ready?: { command: string } | { http: string } | { file: string } | undefined;
  /** How long it may take to be ready. */
  withinMs: number;
  /** For /bin/sh; each must end with exit code 0 while it runs. */
  checks: readonly string[];
  /** Between SIGTERM and SIGKILL. */
  stopMs: number;
  /** Files and folders that the agent takes work from: absolute. */
  queues: readonly string[];
  /** Patterns of what the agent in production changes in its state by itself. */
  mayChange: readonly string[];
}

/** Lies in the root of the state of a shadow, for an agent to find. */
export const SHADOW_MARKER = 'holdfast-shadow.json';
/** Without anything that says when it is ready, it must run for so long. */
const SETTLE_MS = 2000;
const POLL_MS = 200;
/** For one look at whether it is ready. */
const LOOK_MS = 10_000;
const PATHS_TOLD = 20;

/** @throws `interrupted`, `io` when the marker cannot be written; the shadow has ended then too */
export async function checkShadow(scene: Scene): Promise<Outcome[]> {
  const { options, seams } = scene;
  const { shadow } = options;
  if (!shadow) throw new HoldfastError('bug', 'no shadow');
  const before = production(scene, shadow);
  let running: Shadow;
  try {
    running = await Shadow.start(scene, shadow);
  } catch (error) {
    if (!isHoldfastError(error, 'hook_failed')) throw error;
    return [checkOf('shadow: starts', [error.message], '', { command: shadow.argv })];
  }
  let outcomes: Outcome[];
  try {
    outcomes = await running.ask();
  } finally {
    await running.stop();
  }
  throwIfAborted(seams.signal);
  return [await running.started(), ...outcomes, tookNoWork(before, production(scene, shadow), shadow)];
}

class Shadow {
  readonly #scene: Scene;
  readonly #settings: ShadowSettings;
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #env: Readonly<Record<string, string>>;
  readonly #output = new Tail(HOOK_OUTPUT_MAX_BYTES);
  readonly #startedMs: number;
  readonly #end: Promise<void>;
  readonly #atExitNoMore: (() => void) | undefined;
  /** Something answered before it was started. */
  readonly #isTaken: boolean | undefined;
  /** The file that says that it is ready, as it was restored. */
  readonly #fileBefore: string | undefined;
  /** How it ended, when it did so before it was asked to. */
  #problem: string | undefined;
  #ending: Ending | undefined;
  #seconds = 0;

  /** What answers, or is there, before it was started says nothing of it. */
  static async start(scene: Scene, settings: ShadowSettings): Promise<Shadow> {
    const { ready } = settings;
    const isTaken =
      ready && 'http' in ready ? (await httpProblem(ready.http, scene.seams.clock)) !== NO_ANSWER : undefined;
    throwIfAborted(scene.seams.signal);
    return new Shadow(scene, settings, isTaken);
  }

  private constructor(scene: Scene, settings: ShadowSettings, isTaken: boolean | undefined) {
    const { host, options, seams, snapshot } = scene;
    this.#scene = scene;
    this.#settings = settings;
    this.#isTaken = isTaken;
    const marker = join(host.state, SHADOW_MARKER);
    const said = { shadow: true, since: new Date(seams.clock.now()).toISOString(), snapshot: snapshot.id, note: NOTE };
    try {
      rmSync(marker, { recursive: true, force: true }); // whatever was restored under its name
      writeFileSync(marker, `${JSON.stringify(said, undefined, 2)}\n`, { mode: 0o600, flag: 'wx' });
    } catch (cause) {
      throw new HoldfastError('io', `the marker of the shadow cannot be written: ${messageOf(cause)}`, { cause });
    }
    if (this.#file) this.#fileBefore = stampOf(this.#file);
    this.#env = { ...options.env, ...host.env, HOLDFAST_SHADOW: '1' };
    this.#startedMs = seams.clock.monotonic();
    const [program = '', ...args] = settings.argv;
    let child: ChildProcessByStdio<null, Readable, Readable>;
    try {
      child = spawn(program, args, {
        cwd: host.state,
        env: { ...this.#env },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true, // the leader of a group
      });
    } catch (cause) {
      throw new HoldfastError('hook_failed', `it could not be started: ${messageOf(cause)}`, { cause });
    }
    this.#child = child;
    child.stdout.on('data', (bytes: Buffer) => this.#output.push(bytes));
    child.stderr.on('data', (bytes: Buffer) => this.#output.push(bytes));
    this.#end = new Promise((done) => {
      const ended = (problem: string) => {
        this.#problem ??= problem;
        done();
      };
      child.once('error', (error) => ended(`could not be started: ${messageOf(error)}`));
      child.once('exit', (code, signal) => {
        if (this.#ending === undefined)
          ended(
            code === null ? `was ended by ${signal}` : `ended with exit code ${code} after ${formatDuration(this.#ms)}`,
          );
        done();
      });
    });
    // For an end of this process that waits for nothing.
    this.#atExitNoMore = options.atExit?.(() => killNow(child.pid, scene.world.folder));
  }

  get #file(): string | undefined {
    const { ready } = this.#settings;
    return ready && 'file' in ready ? resolve(this.#scene.host.state, ready.file) : undefined;
  }

  get #ms(): number {
    return this.#scene.seams.clock.monotonic() - this.#startedMs;
  }

  /** Waits until it is ready, and runs the checks. */
  async ask(): Promise<Outcome[]> {
    const { ready, checks } = this.#settings;
    const named = (name: string, why: string) => skip(`shadow: ${name}`, why);
    let isReady = true;
    const outcomes: Outcome[] = [];
    if (!ready) {
      await this.#wait(SETTLE_MS);
      outcomes.push(named('ready', 'nothing says when it is ready (`drill.shadow.ready`)'));
    } else {
      const problem = await this.#untilReady();
      isReady = problem === undefined;
      const seconds = this.#ms / 1000;
      const told = isReady ? `ready after ${formatDuration(this.#ms)}` : '';
      outcomes.push(checkOf('shadow: ready', problem === undefined ? [] : [problem], told, { ...ready, seconds }));
    }
    if (checks.length === 0) outcomes.push(named('answers', 'the config asks it nothing (`drill.shadow.checks`)'));
    else if (!isReady || this.#problem !== undefined)
      outcomes.push(named('answers', 'it was not asked: it did not get ready'));
    else outcomes.push(await this.#answers(checks));
    return outcomes;
  }

  async #untilReady(): Promise<string | undefined> {
    const { clock, signal } = this.#scene.seams;
    const { withinMs } = this.#settings;
    if (this.#isTaken)
      return 'something answers there that was running before the shadow: let the shadow have an address of its own';
    for (;;) {
      throwIfAborted(signal);
      const problem = await this.#look();
      throwIfAborted(signal);
      if (this.#problem !== undefined) return `it ${this.#problem}, before it was ready`;
      if (problem === undefined) return undefined;
      const leftMs = withinMs - (clock.monotonic() - this.#startedMs);
      if (leftMs <= 0) return `it was not ready after ${formatDuration(withinMs)}: ${problem}`;
      await this.#wait(Math.min(POLL_MS, leftMs));
    }
  }

  async #look(): Promise<string | undefined> {
    const { ready } = this.#settings;
    const { clock } = this.#scene.seams;
    if (ready && 'http' in ready) return httpProblem(ready.http, clock);
    if (ready && 'command' in ready) return (await this.#run(ready.command, LOOK_MS)).problem;
    const now = this.#file === undefined ? undefined : stampOf(this.#file);
    return now === undefined || now === this.#fileBefore ? 'the file was not written' : undefined;
  }

  async #answers(checks: readonly string[]): Promise<Outcome> {
    const secrets = await secretsIn(this.#scene);
    const problems: string[] = [];
    const outputs: string[] = [];
    for (const command of checks) {
      const { problem, output } = await this.#run(command, this.#scene.options.commandTimeoutMs);
      throwIfAborted(this.#scene.seams.signal);
      const shown = redacted(output, secrets);
      outputs.push(shown);
      const what = JSON.stringify(command.slice(0, 200));
      if (problem !== undefined) problems.push(`${what} ${problem}${shown && `: ${shown}`}`);
    }
    if (this.#problem !== undefined) problems.push(`the shadow ${this.#problem} while it was asked`);
    const detail = `${checks.length} of ${checks.length} commands ended with exit code 0`;
    return checkOf('shadow: answers', problems, detail, { commands: checks, outputs });
  }

  async #run(command: string, ms: number): Promise<{ problem?: string; output: string }> {
    const { host, seams } = this.#scene;
    const output = new Tail(HOOK_OUTPUT_MAX_BYTES);
    const how = { folder: host.state, env: this.#env };
    const { clock, signal } = seams;
    const end = await runCommand(command, how, { clock, output, timeoutMs: ms, signal, leavesNothing: true });
    return { ...end, output: output.text() };
  }

  /** Until the time is over, the shadow has ended, or the drill was interrupted. */
  async #wait(ms: number): Promise<void> {
    const { clock, signal } = this.#scene.seams;
    const over = new AbortController();
    const either = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
    await Promise.race([this.#end, clock.sleep(ms, either).catch(() => {})]);
    over.abort();
  }

  /** The whole group, and what has left it. */
  async stop(): Promise<void> {
    const { world, seams } = this.#scene;
    this.#seconds = secondsSince(seams.clock, this.#startedMs);
    if (this.#problem === undefined) this.#ending = 'SIGTERM';
    const how = await endAll(this.#child.pid, world.folder, this.#settings.stopMs, seams.clock);
    this.#ending = this.#problem === undefined ? how : 'by itself';
    await this.#end;
    this.#child.stdout.destroy();
    this.#child.stderr.destroy();
    this.#atExitNoMore?.();
  }

  async started(): Promise<Outcome> {
    const output = redacted(this.#output.text(), await secretsIn(this.#scene));
    const [program = '', ...args] = this.#settings.argv;
    const problems = this.#problem === undefined ? [] : [`it ${this.#problem}${output && `: ${output}`}`];
    const detail = `it ran for ${formatDuration(this.#seconds * 1000)} and was stopped with ${this.#ending}`;
    const command = [program, ...args];
    const seconds = this.#seconds;
    return checkOf('shadow: starts', problems, detail, { command, seconds, stopped: this.#ending ?? null, output });
  }
}

const NOTE =
  'This is a copy of the agent that a drill of holdfast has started. It must take no work, send nothing and write nothing outside its HOME.';

const NO_ANSWER = 'nothing answers';

/** Undefined when it answers with 2xx; `NO_ANSWER` when there is nothing. */
async function httpProblem(url: string, clock: Clock): Promise<string | undefined> {
  const late = () => new HoldfastError('io', 'it does not answer in time');
  try {
    const ask = async (signal: AbortSignal) => {
      const response = await fetch(url, { redirect: 'manual', signal });
      await response.body?.cancel();
      return response;
    };
    const { ok, status } = await withDeadline(ask, { clock, ms: LOOK_MS, graceMs: 0, expired: late });
    return ok ? undefined : `it answers with HTTP ${status}`;
  } catch (error) {
    return isHoldfastError(error) ? error.message : NO_ANSWER;
  }
}

/** What tells that a file is another, or was written. */
function stampOf(path: string): string | undefined {
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return found && stampText(found);
}
const stampText = ({ ino, size, mtimeNs, ctimeNs }: Pick<BigIntStats, 'ino' | 'size' | 'mtimeNs' | 'ctimeNs'>) =>
  [ino, size, mtimeNs, ctimeNs].join(' ');

interface Production {
  /** By path as it is told. */
  stamps: Map<string, string>;
  /** What was looked at. */
  places: string[];
  problems: string[];
}

/** The live state but for what the agent there changes by itself, and the queues. */
function production(
  { options: { state }, seams: { signal } }: Scene,
  { queues, mayChange }: ShadowSettings,
): Production {
  const seen: Production = { stamps: new Map(), places: [], problems: [] };
  const look = (root: string, options: ScanOptions) => {
    seen.places.push(root);
    try {
      const folder = lstatSync(root, { bigint: true, throwIfNoEntry: false });
      if (folder && !folder.isDirectory() && !folder.isSymbolicLink()) {
        seen.stamps.set(root, stampText(folder));
        return;
      }
      if (!folder) return;
      for (const item of scan(root, options)) {
        // The times of a folder change when something in it does that may.
        if (item.kind === 'problem' || item.kind === 'folder') continue;
        const size = item.kind === 'file' ? item.size : 0;
        seen.stamps.set(join(root, rawForDisplay(item.path)), stampText({ ...item, size: BigInt(size) }));
      }
    } catch (error) {
      if (!isHoldfastError(error, 'source_unreadable')) throw error;
      seen.problems.push(error.message);
    }
  };
  if (state) {
    const { root, exclude, keepOut } = state;
    look(root, { exclude: [...exclude, ...mayChange], keepOut, signal });
  }
  for (const queue of queues) look(queue, { signal });
  return seen;
}

function tookNoWork(before: Production, after: Production, { queues }: ShadowSettings): Outcome {
  const name = 'shadow: took no work';
  if (before.places.length === 0)
    return skip(name, 'this host has no live state, and the config names no queue (`drill.shadow.queues`)');
  const paths = new Set([...before.stamps.keys(), ...after.stamps.keys()]);
  const changed = [...paths].filter((path) => before.stamps.get(path) !== after.stamps.get(path)).toSorted();
  const problems = [...new Set([...before.problems, ...after.problems])];
  if (changed.length > 0) {
    const more = changed.length > 3 ? ` and ${changed.length - 3} more` : '';
    problems.push(
      `${changed.slice(0, 3).join(', ')}${more} changed while the shadow ran: it took work, or what runs in production did that (\`drill.shadow.mayChange\`)`,
    );
  }
  const told = `${before.stamps.size} files of production are as before`;
  const evidence = { looked: before.places, queues: queues.length, files: before.stamps.size };
  return checkOf(name, problems, told, { ...evidence, changed: changed.slice(0, PATHS_TOLD) });
}
