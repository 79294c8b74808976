/** Passes things on in the order in which they came, though some take longer than those after them. */

/** Something that is being made elsewhere. */
export interface Later<T> {
  isReady: () => boolean;
  /** Does what is left to do here, once it is ready; nothing may come of it. */
  finish: () => Promise<T | undefined>;
}

export class InOrder<T> {
  readonly #pass: (one: T) => void;
  /** Each of `laters` with what came after it. */
  readonly #waiting: { later: Later<T>; behind: T[] }[] = [];
  #behind = 0;

  constructor(pass: (one: T) => void) {
    this.#pass = pass;
  }

  /** How many wait that are no `Later`. */
  get behind(): number {
    return this.#behind;
  }

  /** Whether the first that is waited for is there. */
  get isReady(): boolean {
    return this.#waiting[0]?.later.isReady() ?? false;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  add(one: T): void {
    const last = this.#waiting.at(-1);
    if (!last) return this.#pass(one);
    last.behind.push(one);
    this.#behind++;
  }

  addLater(later: Later<T>): void {
    this.#waiting.push({ later, behind: [] });
  }

  /** Finishes the first that is waited for, and passes on what waited for it alone. */
  async next(): Promise<void> {
    const first = this.#waiting[0];
    if (!first) return;
    const made = await first.later.finish();
    if (made !== undefined) this.#pass(made);
    for (const one of first.behind) this.#pass(one);
    this.#behind -= first.behind.length;
    this.#waiting.shift();
  }
}
