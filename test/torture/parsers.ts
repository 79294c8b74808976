/** Thousands of mutated objects, keys and configs through every parser: each gives a result or an error with a code, in time and in little memory. */
import { spawn, type ChildProcess } from 'node:child_process';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Kind, Tally, Torment } from './kind.ts';
import { CHANNEL, type Job, type Told } from './parser-channel.ts';

const INPUTS_A_ROUND = 1000;
/** For one input; the slowest that is meant to be slow, a key under many rounds of bcrypt, takes some seconds. */
const DEADLINE_MS = 30_000;
/** One that waits for what never comes takes no time of the processor: so many times the deadline by the clock is too long on any machine. */
const WAIT_FACTOR = 10;
const LOOK_MS = 100;
/** Of the process, all in all: an index may decompress to 256 MiB, and is then text. */
const MEMORY_MAX_BYTES = 1.5 * 2 ** 30;
const CHILD = fileURLToPath(new URL('./parser-child.ts', import.meta.url));

/** The process with the parsers, which is started anew when an input has ended it. */
class Parsers {
  readonly #seed: string;
  readonly #folder: string;
  readonly #tally: Tally;
  #child: ChildProcess | undefined;

  constructor(seed: string, folder: string, tally: Tally) {
    this.#seed = seed;
    this.#folder = folder;
    this.#tally = tally;
  }

  /** @returns the number of the input to go on with. */
  async run(job: Job): Promise<number> {
    const child = (this.#child ??= spawn(process.execPath, [CHILD, this.#seed, this.#folder], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'ipc'],
    }));
    let current: { number: number; parser: string } | undefined;
    let sinceMs = performance.now();
    let sinceCpuMs = cpuOf(child.pid ?? 0);
    let fate: string | undefined;
    let stderr = '';
    const heard = (text: string) => (stderr = (stderr + text).slice(-4000));
    child.stderr?.setEncoding('utf8').on('data', heard);
    const lines = createInterface({ input: child.stdio[CHANNEL] as Readable });
    const watchdog = setInterval(() => {
      const taken = memoryOf(child.pid ?? 0);
      const cpuMs = cpuOf(child.pid ?? 0) - sinceCpuMs;
      if (current !== undefined && (cpuMs > DEADLINE_MS || performance.now() - sinceMs > DEADLINE_MS * WAIT_FACTOR)) {
        fate = `was not read within ${DEADLINE_MS / 1000} s of the processor, or ${WAIT_FACTOR} times that by the clock`;
        this.#tally.blame('hung', `input ${current.number} for ${current.parser} ${fate}`);
      } else if (taken > MEMORY_MAX_BYTES) {
        fate = `took ${(taken / 2 ** 20).toFixed(0)} MiB`;
        this.#tally.blame('wrong', `input ${current?.number} for ${current?.parser} ${fate}`);
      } else return;
      clearInterval(watchdog);
      child.kill('SIGKILL');
    }, LOOK_MS);
    const isDone = await new Promise<boolean>((resolve) => {
      child.once('exit', () => resolve(false));
      lines.on('line', (line) => {
        const told = JSON.parse(line) as Told;
        sinceMs = performance.now();
        sinceCpuMs = cpuOf(child.pid ?? 0);
        if (told.kind === 'done') return resolve(true);
        if (told.kind === 'starts') return void (current = told);
        this.#tally.add('operations');
        if (told.kind === 'refused') this.#tally.add('faults');
        if (told.kind === 'wrong')
          this.#tally.blame('wrong', `input ${told.number} for ${current?.parser}, ${this.#folder}: ${told.error}`);
      });
      child.send(job);
    });
    clearInterval(watchdog);
    lines.close();
    child.stderr?.off('data', heard);
    if (isDone) return job.end;
    this.#child = undefined;
    if (current === undefined) throw new Error(`the parsers do not start: ${stderr}`);
    copyFileSync(join(this.#folder, 'input'), join(this.#folder, `input-${current.number}`));
    if (fate === undefined)
      this.#tally.blame('wrong', `input ${current.number} for ${current.parser} ended the process: ${stderr}`);
    return current.number + 1;
  }

  end(): void {
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }
}

/** Milliseconds of the processor that a process and its threads have taken, where that can be asked. */
function cpuOf(pid: number): number {
  try {
    // The name may have spaces, and stands in parentheses. User and system time are the 12th and 13th after it, in ticks of 10 ms.
    const rest = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return (Number(rest[11]) + Number(rest[12])) * 10;
  } catch {
    return 0;
  }
}

/** What a process has in memory, where that can be asked. */
function memoryOf(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
  } catch {
    return 0;
  }
}

export const parsers: Kind = {
  title: 'mutated inputs through every parser',
  rounds: { short: 2, long: 10 },
  async start({ dice, folder, log, isShort, tally }: Torment) {
    const running = new Parsers(dice.bytes(8).toString('hex'), join(folder, 'work'), tally);
    const many = isShort ? INPUTS_A_ROUND / 10 : INPUTS_A_ROUND;
    return {
      async round(round) {
        const end = (round + 1) * many;
        for (let from = round * many; from < end;) from = await running.run({ from, end });
        log(`${end} inputs`);
      },
      async finish() {
        running.end();
      },
    };
  },
};
