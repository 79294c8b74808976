/** Thirty agents as real processes, each with an address of its own on loopback, and the program that watches them. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { systemClock, systemRandom } from '../../../src/clock.ts';
import { openSqliteStore } from '../../../src/fleet/sqlite-store.ts';
import type { StateStore } from '../../../src/fleet/store.ts';
import { PROGRAM, ROOT, run, type Ended } from '../../cli/run.ts';
import { watchConfig, type Times } from './config.ts';

const PORT = 8080;
const CROWD = 30;
const SUPERVISE = join(import.meta.dirname, 'supervise.sh');

/** What the restart command wrote down of one run. */
export interface Restart {
  agent: string;
  begunMs: number;
  /** Undefined when it did not come to its end. */
  doneMs?: number;
  rule: string;
}

export class ChaosFleet implements AsyncDisposable {
  readonly names: readonly string[];
  readonly times: Times;
  readonly #folder: string;
  /** All of 127.0.0.0/8 is this host's: no other run, and no outgoing connection, takes an agent's port while it restarts. */
  readonly #network: string;
  #watcher: ChildProcess | undefined;
  #store: StateStore | undefined;

  constructor(folder: string, agents: number, times: Times) {
    this.#folder = folder;
    this.times = times;
    this.names = Array.from({ length: agents }, (_, i) => `agent-${String(i + 1).padStart(2, '0')}`);
    const own = process.pid & 0x3fffff;
    this.#network = `127.${64 + (own >> 16)}.${(own >> 8) & 0xff}`;
  }

  at(...names: string[]): string {
    return join(this.#folder, ...names);
  }

  address(name: string): string {
    // The last of the three bytes of the process number chooses among the ports, of which each agent has one.
    return `${this.#network}.${this.names.indexOf(name) + 1}:${this.#port}`;
  }

  get #port(): number {
    return PORT + (process.pid & 0xff);
  }

  command(action: 'start' | 'restart' | 'scale', name: string): string[] {
    return ['sh', SUPERVISE, action, this.at(name), process.execPath];
  }

  /** Starts the agents, and waits until each of them would work. */
  async start(): Promise<void> {
    const { beatMs, warmUpMs, slowMs } = this.times;
    for (const name of this.names) {
      mkdirSync(this.at(name, 'queue'), { recursive: true });
      const [address, port] = [this.address(name).split(':')[0], this.#port];
      const settings = { address, port, beatMs, warmUpMs, slowMs, ownerPid: process.pid };
      writeFileSync(this.at(name, 'settings.json'), JSON.stringify(settings));
    }
    await Promise.all(
      this.names.map(async (name) => {
        const [file = '', ...args] = this.command('start', name);
        const [code] = (await once(spawn(file, args, { stdio: 'ignore' }), 'exit')) as [number | null];
        if (code !== 0) throw new Error(`${name} does not start`);
      }),
    );
    for (const name of this.names) await until(`${name} works`, () => this.answers(name));
    writeFileSync(this.at('holdfast.yaml'), watchConfig(this));
  }

  pid(name: string): number {
    return Number(readFileSync(this.at(name, 'pid'), 'utf8'));
  }

  /** Whether it runs: it is there, and neither a zombie nor stopped. */
  runs(name: string): boolean {
    try {
      const stat = readFileSync(`/proc/${this.pid(name)}/stat`, 'utf8');
      return !'ZTt'.includes(stat.slice(stat.lastIndexOf(')') + 2)[0] ?? 'Z');
    } catch {
      return false;
    }
  }

  /** Whether it says, when it is asked, that it could work. */
  answers(name: string): Promise<boolean> {
    return new Promise((resolve) => {
      const request = get(`http://${this.address(name)}/health/ready`, { timeout: 2000, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      });
      request.on('timeout', () => request.destroy()).on('error', () => resolve(false));
    });
  }

  kill(name: string, signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    process.kill(this.pid(name), signal);
  }

  /** Of the agent, to each of whose beats and calls it matters at once; '' heals it. */
  fault(name: string, word: string): void {
    writeFileSync(this.at(name, 'fault'), word);
  }

  /** Its queue is at once longer than it may be, and more comes in than its replicas can do. */
  crowd(name: string): void {
    const replicas = existsSync(this.at(name, 'replicas'))
      ? readFileSync(this.at(name, 'replicas'), 'utf8').trim()
      : '1';
    for (let i = 0; i < CROWD; i++) writeFileSync(this.at(name, 'queue', `crowd-${i}`), '');
    this.fault(name, `growing ${replicas}`);
  }

  restarts(): Restart[] {
    return this.names.flatMap((agent) => {
      const found: Restart[] = [];
      for (const line of this.#lines(agent, 'restarts')) {
        const [ms, what, rule = ''] = line.split(' ');
        const last = found.at(-1);
        if (what === 'begun') found.push({ agent, begunMs: Number(ms), rule });
        else if (last) last.doneMs = Number(ms);
      }
      return found;
    });
  }

  /** When each was asked for. */
  scalings(): { agent: string; atMs: number }[] {
    return this.names.flatMap((agent) =>
      this.#lines(agent, 'scalings').map((line) => ({ agent, atMs: Number(line.split(' ')[0]) })),
    );
  }

  #lines(name: string, file: string): string[] {
    return existsSync(this.at(name, file)) ? readFileSync(this.at(name, file), 'utf8').trim().split('\n') : [];
  }

  /** What the watcher and every command use, as another process of it. */
  get store(): StateStore {
    return (this.#store ??= openSqliteStore(this.at('fleet.sqlite'), { clock: systemClock, random: systemRandom }));
  }

  holdfast(...args: string[]): Promise<Ended> {
    return run(PROGRAM, [...args, '--config', this.at('holdfast.yaml')], { cwd: this.#folder, env: this.#env });
  }

  get #env(): Record<string, string> {
    return { HOME: this.#folder, XDG_STATE_HOME: this.at('state'), XDG_CACHE_HOME: this.at('cache') };
  }

  get watcherPid(): number | undefined {
    return this.#watcher?.pid;
  }

  startWatcher(): void {
    const log = openSync(this.at('watch.log'), 'a');
    this.#watcher = spawn(
      process.execPath,
      [join(ROOT, PROGRAM), 'fleet', 'watch', '--config', this.at('holdfast.yaml')],
      {
        cwd: this.#folder,
        env: { ...process.env, NODE_COMPILE_CACHE: `${ROOT}/.cache/compiled`, ...this.#env },
        stdio: ['ignore', log, log],
      },
    );
    closeSync(log);
  }

  /** @returns its exit code; null when it was killed. */
  stopWatcher(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    const watcher = this.#watcher;
    this.#watcher = undefined;
    if (!watcher) return Promise.resolve(null);
    if (watcher.exitCode !== null || watcher.signalCode !== null) return Promise.resolve(watcher.exitCode);
    return new Promise((resolve) => {
      watcher.once('exit', resolve);
      watcher.kill(signal);
    });
  }

  signalWatcher(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#watcher?.kill(signal);
  }

  /** Why it is gone, when it should not be. */
  get watcherEnded(): string | undefined {
    const { exitCode, signalCode } = this.#watcher ?? {};
    return exitCode === undefined || (exitCode === null && signalCode === null)
      ? undefined
      : `fleet watch ended with ${exitCode ?? signalCode}: ${readFileSync(this.at('watch.log'), 'utf8').slice(-2000)}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopWatcher('SIGKILL');
    await this.#store?.[Symbol.asyncDispose]();
    for (const name of this.names) {
      try {
        const pid = this.pid(name);
        if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(this.at(name)))
          process.kill(pid, 'SIGKILL');
      } catch {
        // never started, or gone
      }
    }
  }
}

const UNTIL_TRIES = 1200;

/** Looks 20 times a second, for a minute. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < UNTIL_TRIES; tries++) {
    if (await holds()) return;
    await systemClock.sleep(50);
  }
  throw new Error(`it is not so that ${what}, after a minute`);
}
