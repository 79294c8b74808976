/**
 * A backend as if, for drills: what is read comes from a real one, what is written or deleted lands in a scratch backend and is seen from then on.
 * The real one is never changed: no more than reading is asked of it. Losses can be planted, and look as they would.
 */
import { HoldfastError, isHoldfastError, isSurvivable } from '../errors.ts';
import { checkKey, objectNotFound, type Backend, type ByteRange } from './backend.ts';
import type { ReadableBackend } from './cutoff.ts';

export interface OverlayOptions {
  /** What errors call it. */
  name: string;
  base: ReadableBackend;
  /** Empty, and of nobody else. Disposed of with the overlay. */
  scratch: Backend;
}

export class Overlay implements AsyncDisposable {
  readonly name: string;
  readonly #base: ReadableBackend;
  readonly #scratch: Backend;
  /** Keys of the base that are not there any more. */
  readonly #gone = new Set<string>();
  /** Where in an object of the base a byte is another one. */
  readonly #flipped = new Map<string, number>();
  #lost: HoldfastError | undefined;
  #isListed: (key: string) => boolean = () => true;
  /** Says at which `put` the process that writes dies. */
  #diesAt: ((key: string) => boolean) | undefined;

  constructor({ name, base, scratch }: OverlayOptions) {
    this.name = name;
    this.#base = base;
    this.#scratch = scratch;
  }

  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /** It cannot be reached any more. */
  lose(error = lossOf(this.name, 'the drill has taken it away')): void {
    this.#lost = error;
  }

  /** It can be reached again, after `lose` or a death. */
  bringBack(): void {
    this.#lost = undefined;
    this.#diesAt = undefined;
  }

  /** Of the base nothing else is listed from now on: somebody may be writing there meanwhile. */
  listOnly(isListed: (key: string) => boolean): void {
    this.#isListed = isListed;
  }

  /** The object is missing. */
  hide(key: string): void {
    this.#gone.add(key);
  }

  /** A bit of the byte at `offset`, by default in the middle, is another one. @throws `not_found` when the object has no such byte */
  async damage(key: string, offset?: number): Promise<void> {
    const size = (await this.#base.head(key))?.size ?? 0;
    if (size <= (offset ?? 0)) throw objectNotFound(key, `backend ${this.name}`);
    this.#flipped.set(key, offset ?? size >> 1);
  }

  /** The first `put` of such a key fails, and with it everything after: as if the process had died there. */
  dieAt(isIt: (key: string) => boolean): void {
    this.#diesAt = isIt;
  }

  /** Keys of what was written, and is still there. */
  async written(): Promise<string[]> {
    const keys: string[] = [];
    for await (const { key } of this.#scratch.list('')) keys.push(key);
    return keys.toSorted();
  }

  /**
   * What was written and is not as it lies in the real storage, planted losses apart: `missing` there, or `damaged`, since it was written again. What is
   * new in this world is missing in every real storage.
   */
  async mended(signal?: AbortSignal): Promise<{ key: string; was: 'missing' | 'damaged' }[]> {
    const found: { key: string; was: 'missing' | 'damaged' }[] = [];
    for (const key of await this.written()) {
      if (this.#gone.has(key) || this.#flipped.has(key)) continue;
      found.push({ key, was: (await this.#base.head(key, { signal })) ? 'damaged' : 'missing' });
    }
    return found;
  }

  /** Whether the real storage has the object; false when it cannot be asked. */
  async hasForReal(key: string, signal?: AbortSignal): Promise<boolean> {
    try {
      return (await this.#base.head(key, { signal })) !== undefined;
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      return false;
    }
  }

  /** A handle; disposing of it closes nothing. @throws `backend_unavailable` while it is lost */
  async open(): Promise<Backend> {
    this.#check();
    return {
      put: async (key, bytes, { ifAbsent = false, signal } = {}) => {
        this.#check();
        checkKey(key);
        if (this.#diesAt?.(key)) this.lose(lossOf(this.name, 'the drill has ended the process that was writing'));
        this.#check();
        // Bytes and signal are checked by the scratch backend, before anything is done.
        const isTaken =
          ifAbsent && !signal?.aborted && !this.#gone.has(key) && (await this.#base.head(key, { signal }));
        if (isTaken) return 'exists';
        return this.#scratch.put(key, bytes, { ifAbsent, signal });
      },
      get: async (key, range, { signal } = {}) => {
        this.#check();
        try {
          return await this.#scratch.get(key, range, { signal });
        } catch (error) {
          if (!isHoldfastError(error, 'not_found')) throw error;
        }
        if (this.#gone.has(key)) throw objectNotFound(key, `backend ${this.name}`);
        return this.#asPlanted(key, await this.#base.get(key, range, { signal }), range);
      },
      head: async (key, { signal } = {}) => {
        this.#check();
        const own = await this.#scratch.head(key, { signal });
        return own ?? (this.#gone.has(key) ? undefined : this.#base.head(key, { signal }));
      },
      list: (prefix, options) => this.#list(prefix, options),
      delete: async (key, { signal } = {}) => {
        this.#check();
        await this.#scratch.delete(key, { signal });
        this.#gone.add(key);
      },
      [Symbol.asyncDispose]: async () => {},
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scratch[Symbol.asyncDispose]();
  }

  async *#list(prefix: string, options: { signal?: AbortSignal | undefined } = {}) {
    this.#check();
    const own = new Set<string>();
    for await (const object of this.#scratch.list(prefix, options)) {
      own.add(object.key);
      yield object;
    }
    for await (const object of this.#base.list(prefix, options)) {
      this.#check();
      if (!own.has(object.key) && !this.#gone.has(object.key) && this.#isListed(object.key)) yield object;
    }
  }

  #asPlanted(key: string, bytes: Uint8Array, range: ByteRange | undefined): Uint8Array {
    const at = (this.#flipped.get(key) ?? Number.NaN) - (range?.offset ?? 0);
    const byte = bytes[at];
    if (byte === undefined) return bytes;
    bytes[at] = byte ^ 0x10;
    return bytes;
  }

  #check(): void {
    if (this.#lost) throw this.#lost;
  }
}

function lossOf(name: string, why: string): HoldfastError {
  return new HoldfastError('backend_unavailable', `backend ${name} cannot be reached: ${why}`);
}
