/** What a kind of torture is, and what is counted of it. */
import type { Dice } from './dice.ts';

/** Columns of the table. The last three are what must stay 0. */
export const COUNTED = {
  operations: 'runs of holdfast, or inputs given to a parser',
  kills: 'of them ended by SIGKILL while they ran',
  faults: 'faults that fired',
  checked: 'restores of a snapshot compared with what was saved, byte for byte',
  lost: 'snapshots, files or objects that are gone or differ',
  wrong: 'runs that ended otherwise than they must',
  hung: 'runs or parsers that did not end in time',
} as const;
export type Counted = keyof typeof COUNTED;
export const MUST_BE_NONE = ['lost', 'wrong', 'hung'] as const;

export class Tally {
  readonly counts: Record<Counted, number> = {
    operations: 0,
    kills: 0,
    faults: 0,
    checked: 0,
    lost: 0,
    wrong: 0,
    hung: 0,
  };
  readonly #told: (line: string) => void;
  /** What is going on, for messages. */
  doing = '';

  constructor(told: (line: string) => void) {
    this.#told = told;
  }

  add(what: Counted, number = 1): void {
    this.counts[what] += number;
  }

  /** Something that must not be. */
  blame(what: (typeof MUST_BE_NONE)[number], message: string): void {
    this.counts[what]++;
    this.#told(`${what.toUpperCase()}: ${this.doing}: ${message}`);
  }

  get failures(): number {
    return MUST_BE_NONE.reduce((sum, what) => sum + this.counts[what], 0);
  }
}

export interface Torment {
  /** Of the kind: what the first round finds. */
  dice: Dice;
  /** Empty, of the kind's own, and removed afterwards. */
  folder: string;
  tally: Tally;
  log: (line: string) => void;
  /** The short form: smaller trees, fewer of everything. */
  isShort: boolean;
}

/** Rounds on one and the same agent: what one leaves behind the next has to live with. */
export interface Rounds {
  round(number: number, dice: Dice): Promise<void>;
  /** The last look: at everything. */
  finish(): Promise<void>;
}

export interface Kind {
  title: string;
  /** Rounds of the short form; and those that the long one does at least, however little time there is. */
  rounds: { short: number; long: number };
  /** Why it cannot run here; undefined when it can. */
  missing?: () => string | undefined;
  start: (torment: Torment) => Promise<Rounds>;
}
