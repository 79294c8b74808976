/**
 * A thread that opens packs: what is left to the main one is to write what comes out. Worth its start (some 80 ms of processor time, and 50 MB) from
 * some ten packs on.
 */
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { ChunkId } from '../../entry.ts';
import { HoldfastError, messageOf, type ErrorCode } from '../../errors.ts';
import { owned } from '../../memory.ts';
import type { OpenedFrame, OpenedPack, PackToOpen } from './open-pack.ts';

/** What the thread starts with; secret. */
export interface ThreadKeys {
  identities: readonly string[];
  chunkIdKey: Uint8Array;
}

/** To the thread; each is answered once. */
export type ThreadRequest = { number: number } & ({ bytes: Uint8Array; pack: PackToOpen } | { nextOf: number });

export type ThreadReply =
  | { number: number; opened: true }
  | { number: number; next: { frame: number; tar: Uint8Array | undefined; wrong: ChunkId[] } | undefined }
  | { number: number; error: Told };

/** A HoldfastError on its way between threads. */
interface Told {
  code: ErrorCode;
  message: string;
  hint: string | undefined;
}

const errorOf = ({ code, message, hint }: Told): HoldfastError =>
  new HoldfastError(code, message, hint === undefined ? {} : { hint });

interface Asked {
  resolve: (reply: ThreadReply) => void;
  reject: (error: unknown) => void;
}

export class PackOpener implements AsyncDisposable {
  readonly #thread: Worker;
  readonly #asked = new Map<number, Asked>();
  #last = 0;
  #end: HoldfastError | undefined;

  constructor(keys: ThreadKeys) {
    // Beside this file, and like it TypeScript or what became of it.
    const program = new URL(`./pack-thread${extname(import.meta.url)}`, import.meta.url);
    this.#thread = new Worker(program, { workerData: keys, resourceLimits: { maxOldGenerationSizeMb: 64 } });
    const end = (why: unknown) => {
      this.#end ??= new HoldfastError('bug', `the thread that opens packs ended: ${messageOf(why)}`);
      for (const { reject } of this.#asked.values()) reject(this.#end);
      this.#asked.clear();
    };
    this.#thread.on('error', end).on('exit', end);
    this.#thread.on('message', (reply: ThreadReply) => {
      const asked = this.#asked.get(reply.number);
      this.#asked.delete(reply.number);
      if ('error' in reply) asked?.reject(errorOf(reply.error));
      else asked?.resolve(reply);
    });
  }

  /** As `openPack`. */
  async open(bytes: Uint8Array, pack: PackToOpen): Promise<OpenedPack> {
    const own = owned(bytes);
    const number = ++this.#last;
    await this.#ask({ number, bytes: own, pack }, [own.buffer]);
    return this.#frames(number);
  }

  /** The next is asked for while one is looked at. */
  async *#frames(pack: number): AsyncGenerator<OpenedFrame> {
    const ask = () => {
      const asking = this.#ask({ number: ++this.#last, nextOf: pack });
      asking.catch(() => undefined); // who gave up does not wait for it
      return asking;
    };
    for (let next = ask(); ;) {
      const reply = await next;
      if (!('next' in reply) || !reply.next) return;
      next = ask();
      yield { ...reply.next, wrong: new Set(reply.next.wrong) };
    }
  }

  #ask(request: ThreadRequest, transfer: ArrayBuffer[] = []): Promise<ThreadReply> {
    if (this.#end) return Promise.reject(this.#end);
    const { promise, resolve, reject } = Promise.withResolvers<ThreadReply>();
    this.#asked.set(request.number, { resolve, reject });
    this.#thread.postMessage(request, transfer);
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread.terminate();
  }
}
