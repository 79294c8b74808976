/** Where tasks run: here for the first few, then on worker threads, one for each core. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { systemRandom, type Random } from '../clock.ts';
import { HoldfastError, type ErrorCode } from '../errors.ts';
import { THREADS_MAX } from '../limits.ts';
import { perform, type Tasks } from './tasks.ts';

/** Starting a thread takes about as long as this many tasks. */
const TASKS_DONE_HERE = 4;

/** How a task goes to a thread and its answer comes back. */
export interface Question {
  number: number;
  kind: keyof Tasks;
  ask: unknown;
}
export type Reply =
  | { number: number; answer: unknown }
  | { number: number; failure: { code: ErrorCode; message: string; hint: string | undefined } };

interface Thread {
  worker: Worker;
  waiting: Map<number, { resolve: (answer: unknown) => void; reject: (error: unknown) => void }>;
}

export class Threads implements AsyncDisposable {
  readonly #random: Random;
  readonly #size: number;
  #threads: Thread[] = [];
  #asked = 0;

  /** @param random with any but the system's, everything is done here, so that a run can be repeated. */
  constructor(random: Random, size = Math.min(availableParallelism(), THREADS_MAX)) {
    this.#random = random;
    this.#size = random === systemRandom ? size : 0;
  }

  /** How many tasks keep every core busy. */
  get capacity(): number {
    return 2 * this.#size + 2;
  }

  /**
   * Does a task, maybe on another thread.
   * @param move memory that the task may take over: afterwards it cannot be used here.
   */
  async run<K extends keyof Tasks>(
    kind: K,
    ask: Tasks[K]['ask'],
    move: readonly Uint8Array[] = [],
  ): Promise<Tasks[K]['answer']> {
    const number = this.#asked++;
    if (number < TASKS_DONE_HERE || this.#size === 0) return perform[kind](ask, this.#random);
    const thread = this.#leastBusy();
    const question: Question = { number, kind, ask };
    return new Promise((resolve, reject) => {
      thread.waiting.set(number, { resolve: resolve as (answer: unknown) => void, reject });
      thread.worker.ref();
      thread.worker.postMessage(question, movable(move));
    });
  }

  #leastBusy(): Thread {
    const idle = this.#threads.find(({ waiting }) => waiting.size === 0);
    if (idle) return idle;
    if (this.#threads.length < this.#size) return this.#start();
    return this.#threads.reduce((a, b) => (b.waiting.size < a.waiting.size ? b : a));
  }

  #start(): Thread {
    // The sources run as they are, the published program as JavaScript: the worker's file is like this one.
    const worker = new Worker(
      new URL(import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js', import.meta.url),
    );
    const thread: Thread = { worker, waiting: new Map() };
    worker.unref();
    worker.on('message', (reply: Reply) => {
      const asked = thread.waiting.get(reply.number);
      thread.waiting.delete(reply.number);
      if (thread.waiting.size === 0) worker.unref(); // an idle thread keeps no process alive
      if ('answer' in reply) asked?.resolve(reply.answer);
      else
        asked?.reject(
          new HoldfastError(
            reply.failure.code,
            reply.failure.message,
            reply.failure.hint === undefined ? {} : { hint: reply.failure.hint },
          ),
        );
    });
    const fail = (cause: unknown) => {
      for (const { reject } of thread.waiting.values())
        reject(new HoldfastError('bug', 'a worker thread ended', { cause }));
      thread.waiting.clear();
      this.#threads = this.#threads.filter((one) => one !== thread);
    };
    worker.on('error', fail);
    worker.on('exit', fail);
    this.#threads.push(thread);
    return thread;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.splice(0).map(({ worker }) => worker.terminate()));
  }
}

/** Small arrays may share their memory with others (Node's pool), and are copied. */
function movable(arrays: readonly Uint8Array[]): ArrayBuffer[] {
  return arrays.flatMap(({ buffer }) =>
    buffer instanceof ArrayBuffer && buffer.byteLength > Buffer.poolSize ? [buffer] : [],
  );
}
