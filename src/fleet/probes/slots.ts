/** So many things at once, and no more: whoever comes later waits, in the order of coming. */
import type { Clock } from '../../clock.ts';
import { throwIfAborted } from '../../errors.ts';

export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /**
   * @param limitMs how long to wait; undefined: until there is one
   * @returns what gives it back; undefined when there was none in time
   * @throws `interrupted`
   */
  async take(clock: Clock, limitMs: number | undefined, signal: AbortSignal): Promise<(() => void) | undefined> {
    throwIfAborted(signal);
    if (this.#free > 0) {
      this.#free--;
      return this.#release;
    }
    const over = new AbortController();
    let next = () => {};
    let stop = () => {};
    const turn = new Promise<'turn'>((resolve) => (next = () => resolve('turn')));
    const stopped = new Promise<'stopped'>((resolve) => (stop = () => resolve('stopped')));
    this.#waiting.push(next);
    signal.addEventListener('abort', stop, { once: true });
    if (limitMs !== undefined) clock.sleep(limitMs, over.signal).then(stop, () => {});
    const first = await Promise.race([turn, stopped]);
    over.abort();
    signal.removeEventListener('abort', stop);
    if (first === 'turn') return this.#release;
    const at = this.#waiting.indexOf(next);
    if (at >= 0) this.#waiting.splice(at, 1);
    else this.#release(); // it was given one meanwhile
    throwIfAborted(signal);
    return undefined;
  }

  readonly #release = (): void => {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free++;
  };
}
