/** An agent that is tortured: its state, two backends, and a copy of everything that it ever saved. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { contentDifference, inventory, removeFolder } from '../state/trees.ts';
import type { Dice } from './dice.ts';
import type { Tally } from './kind.ts';
import { describe, mustEndWith, runProgram, type How, type Ran } from './program.ts';

export const BACKENDS = ['nas', 'usb'] as const;
export type BackendName = (typeof BACKENDS)[number];
export const WORDS = ['--words-file', 'words.txt'];
const KiB = 1024;

export interface AgentOptions {
  dice: Dice;
  tally: Tally;
  /** What does not compress of each state; it says how long a run takes. */
  noiseBytes?: number;
  /** Runs as this user, who owns the folder. */
  uid?: number;
  env?: Record<string, string>;
  /** Runs to which no harm is done, and that look at what others did, share one process. */
  isWarm?: boolean;
}

export class Agent {
  readonly folder: string;
  /** By id of the snapshot: the folder with what it must restore to. */
  readonly kept = new Map<string, string>();
  readonly #options: Required<Omit<AgentOptions, 'uid'>> & { uid: number | undefined };
  readonly #givenUp = new Set<string>();
  readonly #places = new Map<BackendName | 'home', string>();
  #changes = 0;
  #restores = 0;

  /** Nothing is made yet: see `found`. The folder is made. */
  constructor(folder: string, options: AgentOptions) {
    this.folder = folder;
    this.#options = { noiseBytes: 2048 * KiB, env: {}, uid: undefined, isWarm: false, ...options };
    for (const name of ['state', 'home', 'tmp', 'kept']) mkdirSync(this.at(name), { recursive: true });
    if (options.uid !== undefined) execFileSync('chown', ['-R', `${options.uid}:${options.uid}`, folder]);
  }

  /** Where a backend or the home folder is, if not in the folder. */
  place(name: BackendName | 'home', path: string): void {
    this.#places.set(name, path);
  }

  /** Of a backend, or the home folder. */
  placeOf(name: BackendName | 'home'): string {
    return this.#places.get(name) ?? this.at(name);
  }

  at(...names: string[]): string {
    return join(this.folder, ...names);
  }

  get tally(): Tally {
    return this.#options.tally;
  }

  /** Runs a command, as `runProgram` does. */
  holdfast(args: readonly string[], how: Partial<How> = {}): Promise<Ran> {
    const home = this.placeOf('home');
    const env = {
      HOME: home,
      XDG_STATE_HOME: join(home, 'state'),
      XDG_CACHE_HOME: join(home, 'cache'),
      XDG_CONFIG_HOME: join(home, 'config'),
      TMPDIR: this.at('tmp'),
    };
    const { uid } = this.#options;
    return runProgram(
      args,
      { cwd: this.folder, uid, ...how, env: { ...env, ...this.#options.env, ...how.env } },
      this.tally,
    );
  }

  /** As `holdfast`, where nothing is done to the run. */
  #quietly(args: readonly string[]): Promise<Ran> {
    // One of another user is a process of his.
    return this.holdfast(args, { isWarm: this.#options.isWarm && this.#options.uid === undefined });
  }

  /** `init` over two backends, and the first snapshot. */
  async found(): Promise<void> {
    this.change();
    const backends = BACKENDS.flatMap((name) => ['--backend', `${name}=file://${this.placeOf(name)}`]);
    const made = await this.#quietly(['init', '--handle', 'ada', '--state', 'state', ...backends, ...WORDS]);
    if (made.code !== 0) throw new Error(`no agent to torture: ${describe(made)}`);
    // Half of its files have new contents every time: suspicious, and rightly.
    appendFileSync(this.at('holdfast.yaml'), 'suspicion: { off: true }\n');
    await this.backup();
  }

  /** The agent has worked. */
  change(): void {
    const dice = this.#options.dice.of(`change ${this.#changes++}`);
    const state = (...names: string[]) => this.at('state', ...names);
    mkdirSync(state('memory', 'empty'), { recursive: true });
    writeFileSync(state('noise'), dice.bytes(this.#options.noiseBytes));
    const lines = Array.from({ length: 200 + dice.below(2000) }, (_, i) => `{"n":${i},"of":${this.#changes}}\n`);
    appendFileSync(state('log.jsonl'), lines.join(''));
    for (let i = 0; i < 20; i++) {
      const note = state('memory', `note-${dice.below(60)}.md`);
      if (existsSync(note) && dice.chance(0.3)) rmSync(note);
      else writeFileSync(note, dice.bytes(dice.below(20 * KiB)).toString('hex'));
    }
    const { uid } = this.#options;
    if (uid !== undefined) execFileSync('chown', ['-R', `${uid}:${uid}`, state()]);
  }

  /** A backup that must be done, in full unless other codes will do too. */
  async backup(how: Partial<How> = {}, codes: readonly number[] = [0]): Promise<Ran> {
    const ran = await (Object.keys(how).length === 0 ? this.#quietly(['backup']) : this.holdfast(['backup'], how));
    mustEndWith(codes, ran, this.tally);
    const { snapshot } = (ran.json ?? {}) as { snapshot?: { id: string } };
    if (snapshot) this.keep(snapshot.id);
    return ran;
  }

  /** The state as it is now is what this snapshot must restore to. */
  keep(id: string): void {
    if (this.kept.has(id)) return;
    const copy = this.at('kept', id);
    execFileSync('cp', ['-a', '--reflink=auto', this.at('state'), copy]);
    this.kept.set(id, copy);
  }

  /**
   * All that were ever made are still listed; one that is not known was made by a run that was ended before it could say so, of the state as it is
   * now, and is kept.
   */
  async recount(): Promise<void> {
    const ran = await this.#quietly(['snapshots']);
    if (!mustEndWith([0], ran, this.tally)) return;
    const listed = new Set((ran.json as { id: string }[]).map(({ id }) => id));
    for (const id of this.kept.keys())
      if (!listed.has(id)) this.tally.blame('lost', `snapshot ${id} is listed no more`);
    for (const id of listed) if (!this.#givenUp.has(id)) this.keep(id);
  }

  /** Restores a snapshot and compares it with what was saved. */
  async check(id: string, args: readonly string[] = []): Promise<void> {
    const target = this.at('tmp', `check-${this.#restores++}`);
    const ran = await this.#quietly(['restore', id, '--target', target, ...WORDS, ...args]);
    if (mustEndWith([0], ran, this.tally)) this.compare(id, target);
    else this.tally.blame('lost', `snapshot ${id} does not restore`);
    removeFolder(target);
  }

  /** Whether a folder is what was saved with this snapshot; blames it if not. */
  compare(id: string, restored: string): boolean {
    const copy = this.kept.get(id);
    if (copy === undefined) throw new Error(`nothing is known of snapshot ${id}`);
    this.tally.add('checked');
    const difference = contentDifference(copy, restored) || namesThatDiffer(inventory(copy), inventory(restored));
    if (difference !== '') this.tally.blame('lost', `snapshot ${id} differs: ${difference.slice(0, 500)}`);
    return difference === '';
  }

  /** The newest ones, or all. */
  async checkAll({ most = Number.POSITIVE_INFINITY }: { most?: number | undefined } = {}): Promise<void> {
    for (const id of [...this.kept.keys()].reverse().slice(0, most)) await this.check(id);
  }

  /** Everything in the repository is whole, down to the chunks. */
  async verify(codes: readonly number[] = [0], args: readonly string[] = []): Promise<Ran> {
    const ran = await this.#quietly(['verify', '--level', 'chunks', ...WORDS, ...args]);
    mustEndWith(codes, ran, this.tally);
    return ran;
  }

  /** Of a snapshot, as the dice fall. */
  some(dice: Dice): string {
    return dice.pick([...this.kept.keys()]);
  }

  /** Nothing grows for ever: copies of all but so many are given up, at random. They are checked before. */
  async thin(dice: Dice, most: number): Promise<void> {
    while (this.kept.size > most) {
      const id = this.some(dice);
      await this.check(id);
      this.giveUp(id);
    }
  }

  /** Nothing is asked of this snapshot any more. */
  giveUp(id: string): void {
    const copy = this.kept.get(id);
    if (copy !== undefined) removeFolder(copy);
    this.kept.delete(id);
    this.#givenUp.add(id);
  }

  /** Only the newest so many of all that are listed must stay. */
  async giveUpAllBut(most: number): Promise<void> {
    const { json } = await this.#quietly(['snapshots']);
    const newestFirst = (json as { id: string; seq: number }[]).toSorted((a, b) => b.seq - a.seq);
    for (const { id } of newestFirst.slice(most)) this.giveUp(id);
  }

  /** The keys of what a backend holds. */
  objects(name: BackendName): string[] {
    const top = this.placeOf(name);
    return readdirSync(top, { recursive: true, encoding: 'utf8' })
      .filter((path) => !path.startsWith('tmp') && statSync(join(top, path)).isFile())
      .map((path) => relative(top, join(top, path)))
      .sort();
  }
}

function namesThatDiffer(wanted: readonly string[], found: readonly string[]): string {
  const [a, b] = [new Set(wanted), new Set(found)];
  const only = [...wanted.filter((one) => !b.has(one)), ...found.filter((one) => !a.has(one))];
  return only.length === 0 ? '' : JSON.stringify(only.slice(0, 4));
}
