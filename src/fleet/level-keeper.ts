/** The level of degradation of a fleet, in the store, and the commands that a change of it asks for. */
import type { Warning } from '../entry.ts';
import { isSurvivable } from '../errors.ts';
import type { RunCommand } from './actions.ts';
import {
  LEVEL_KEY,
  LEVELS,
  levelAskedFor,
  nextLevel,
  nominal,
  readLevel,
  type Behaviour,
  type DegradationSettings,
  type LevelAgent,
  type LevelState,
} from './degradation.ts';
import type { FleetEvent } from './events.ts';
import type { Told } from './guarded-run.ts';
import type { Entry, StateStore } from './store.ts';

export interface LevelKeeperOptions {
  /** Where the level is kept. */
  store: StateStore;
  degradation: DegradationSettings;
  run: RunCommand;
  tell: (event: Told) => Promise<Warning[]>;
  /** Makes sure that this is the watcher that may. */
  confirm: () => Promise<boolean>;
  dryRun: boolean;
  /** Adds to the log of events. */
  happened: (event: Omit<FleetEvent, 'atMs'>) => Promise<void>;
}

const WRITE_TRIES = 20;

export class LevelKeeper {
  readonly #options: LevelKeeperOptions;
  #behaving: Promise<void> | undefined;

  constructor(options: LevelKeeperOptions) {
    this.#options = options;
  }

  /** That commands are under way. */
  get isBehaving(): boolean {
    return this.#behaving !== undefined;
  }

  async settled(): Promise<void> {
    await this.#behaving;
  }

  /** Enters or leaves what the agents ask for, and begins the commands for it. @throws what the store throws */
  async keep(agents: readonly LevelAgent[], nowMs: number, signal: AbortSignal): Promise<void> {
    const { store, degradation, tell, dryRun, happened } = this.#options;
    const asked = levelAskedFor(agents, degradation.rules, nowMs);
    const entry = await store.get(LEVEL_KEY);
    const before = (entry && readLevel(entry.value)) ?? nominal(nowMs);
    const after = nextLevel(before, asked, degradation, nowMs);
    if (after !== before || !entry) {
      if (!(await this.#options.confirm()) || !(await this.#setLevel(after, entry))) return;
      if (after.level !== before.level) {
        const why = after.reasons.length > 0 ? `: ${after.reasons.join('; ')}` : '';
        const message = `level ${after.level} (${LEVELS[after.level]}), was ${before.level} (${LEVELS[before.level]})${why}`;
        await happened({ kind: 'level', message, evidence: { level: after.level, before: before.level } });
        if (after.level > before.level && !dryRun) await tell({ kind: 'level', agent: 'fleet', message });
      }
    }
    if (after.todo.length === 0 || this.#behaving) return;
    this.#behaving = this.#behave(signal)
      .catch((error: unknown) => {
        if (!isSurvivable(error)) throw error;
      })
      .finally(() => (this.#behaving = undefined));
  }

  async #setLevel(state: LevelState, entry: Entry | undefined): Promise<boolean> {
    const value = JSON.stringify({ version: 1, ...state });
    const revision = entry
      ? await this.#options.store.update(LEVEL_KEY, value, entry.revision)
      : await this.#options.store.create(LEVEL_KEY, value);
    return revision !== undefined;
  }

  /** Runs what a change of the level asks for, one after the other; what was begun is written down first, and never begun twice. */
  async #behave(signal: AbortSignal): Promise<void> {
    const { store, confirm, happened } = this.#options;
    for (;;) {
      const entry = await store.get(LEVEL_KEY);
      const state = entry && readLevel(entry.value);
      const [next, ...rest] = state?.todo ?? [];
      if (!entry || !state || !next || signal.aborted) return;
      if (next.begun) {
        await happened({
          kind: 'level',
          message: `the command to ${next.do} level ${next.level} was under way when its watcher ended: it is not run again`,
          evidence: { behaviour: next.do, level: next.level, finished: false },
        });
        await this.#setLevel({ ...state, todo: rest }, entry);
        continue;
      }
      if (!(await confirm())) return;
      if (!(await this.#setLevel({ ...state, todo: [{ ...next, begun: true }, ...rest] }, entry))) continue;
      await this.#runBehaviour(next, signal);
      await this.#dropBehaviour();
    }
  }

  async #runBehaviour(behaviour: Behaviour, signal: AbortSignal): Promise<void> {
    const { degradation, run, tell, dryRun, happened } = this.#options;
    const { level, before, after, reasons } = behaviour;
    const command = degradation.rules.find((rule) => rule.level === level)?.[behaviour.do];
    if (command === undefined) return; // no longer in the config
    const what = `${behaviour.do} level ${level}`;
    if (dryRun) return happened({ kind: 'level', message: `would run the command to ${what}` });
    const env = {
      HOLDFAST_LEVEL: String(after),
      HOLDFAST_LEVEL_BEFORE: String(before),
      HOLDFAST_REASON: reasons.join('; '),
    };
    const { exitCode, problem, output } = await run(command, env, signal);
    const message =
      problem === undefined ? `ran the command to ${what}` : `the command to ${what} ${problem}: ${output}`;
    await happened({ kind: 'level', message, evidence: { behaviour: behaviour.do, level, exitCode, output } });
    if (problem !== undefined)
      await tell({ kind: 'level', agent: 'fleet', message, ...(exitCode !== null && { exitCode }) });
  }

  async #dropBehaviour(): Promise<void> {
    for (let i = 0; i < WRITE_TRIES; i++) {
      const entry = await this.#options.store.get(LEVEL_KEY);
      const state = entry && readLevel(entry.value);
      if (!entry || !state?.todo[0]?.begun) return;
      if (await this.#setLevel({ ...state, todo: state.todo.slice(1) }, entry)) return;
    }
  }
}
