/**
 * One round of a watchdog: what is known of the agents, what was done before and what the rules say, and then doing it. Everything that has
 * to outlive this process is in the store before it is done.
 */
import type { Clock, Random } from '../clock.ts';
import type { Warning } from '../entry.ts';
import { isSurvivable, messageOf } from '../errors.ts';
import { act, doable, evidenceOf, type ActorOptions, type AgentCommands, type RunCommand } from './actions.ts';
import type { Breakers } from './breakers.ts';
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
import { appendEvents, type FleetEvent } from './events.ts';
import type { Told } from './guarded-run.ts';
import { LAYERS, VITAL, type AgentHealth, type Layer, type Quarantine } from './health.ts';
import { memoryStateStore } from './memory-store.ts';
import { askedFor, memories, memoryOf, quarantines, remember, type Asked } from './quarantine.ts';
import {
  areHarmless,
  begun,
  decide,
  ended,
  isStillDue,
  NO_MEMORY,
  type Action,
  type AgentMemory,
  type Decision,
  type Held,
  type Rule,
  type RuledAgent,
  type RuleSettings,
} from './rules.ts';
import type { Entry, StateStore } from './store.ts';

export interface WatchdogOptions extends Pick<ActorOptions, 'restoreState'> {
  store: StateStore;
  breakers: Breakers;
  commandsOf: (agent: string) => AgentCommands;
  run: RunCommand;
  tell: (event: Told) => Promise<Warning[]>;
  rules: RuleSettings;
  degradation: DegradationSettings;
  /** One look at an agent, now, without hysteresis. */
  look: (agent: string, signal: AbortSignal, layers: readonly Layer[]) => Promise<AgentHealth | undefined>;
  /** Makes sure, right before something is done, that this is the watcher that may. */
  confirm: () => Promise<boolean>;
  /** This watcher: its lease. */
  id: string;
  /** Decide and tell; touch nothing. */
  dryRun: boolean;
  /** Told of each event. */
  happened?: ((event: FleetEvent) => void) | undefined;
}

type Acting = Extract<Decision, { type: 'act' | 'escalate' }>;
/** Of what a person asked for. */
const ASKED = 'asked';
const WRITE_TRIES = 20;

export class Watchdog {
  readonly #options: WatchdogOptions;
  readonly #seams: { clock: Clock; random: Random };
  /** Where memory and level are kept: in a dry run nowhere that lasts. */
  readonly #own: StateStore;
  readonly #acting = new Map<string, Promise<void>>();
  /** Rules that were due and did nothing, and why: told once. */
  #held = new Map<string, Held>();
  /** When an agent was found to be well after all. */
  readonly #foundWell = new Map<string, number>();
  #isSuspicious = false;
  #behaving: Promise<void> | undefined;

  constructor(options: WatchdogOptions, seams: { clock: Clock; random: Random }) {
    this.#options = options;
    this.#seams = seams;
    this.#own = options.dryRun ? memoryStateStore(seams.clock) : options.store;
  }

  /**
   * Decides, and begins what was decided; `settled` waits for its end.
   * @param freshSinceMs what was seen before is no reason to act: this process did not run for a while
   * @throws what the store throws
   */
  async round(healths: readonly AgentHealth[], signal: AbortSignal, freshSinceMs = 0): Promise<void> {
    const { store, rules, breakers, commandsOf } = this.#options;
    const nowMs = this.#seams.clock.now();
    const busy = new Set(this.#acting.keys()); // before the store is read: what ends meanwhile may not be in what is read
    const [quarantined, known, asked, breakerViews] = await Promise.all([
      quarantines(store),
      memories(this.#own),
      this.#options.dryRun ? new Map<string, Asked & { entry: Entry }>() : askedFor(store),
      breakers.list(),
    ]);
    const agents: RuledAgent[] = [];
    for (const health of healths) {
      let { memory } = known.get(health.name) ?? { memory: NO_MEMORY };
      if (memory.underWay && !busy.has(health.name)) memory = await this.#takeOver(health.name, memory);
      const commands = commandsOf(health.name);
      agents.push({
        ...{ health, quarantine: quarantined.get(health.name) ?? null, can: doable(commands) },
        ...(commands.scale && { maxReplicas: commands.scale.max }),
        memory: busy.has(health.name) ? acting(memory, this.#options.id, nowMs) : memory,
      });
    }
    const staleMs = Math.min(rules.staleMs, Math.max(0, nowMs - freshSinceMs));
    const decided = decide(agents, { ...rules, staleMs }, nowMs);
    for (const [agent, memory] of decided.memories) {
      if (busy.has(agent)) continue;
      await remember(this.#own, agent, memory, known.get(agent)?.revision ?? 0);
    }
    for (const [agent, one] of asked) await this.#beginAsked(agent, one, healths, signal);
    await this.#tellSuspicion(decided.suspect, agents.length);
    const held = new Map<string, Held>();
    for (const decision of decided.decisions) {
      if (decision.type === 'held') await this.#tellHeld(decision, held);
      else if (!this.#acting.has(decision.agent) && !this.#isFoundWell(decision, healths))
        this.#begin(decision, signal);
    }
    this.#held = held;
    const views = new Map(breakerViews.map((view) => [view.agent, view.state.kind]));
    await this.#level(
      healths.map((health) => levelAgent(health, views.get(health.name), quarantined.get(health.name))),
      nowMs,
      signal,
    );
  }

  /** Until nothing is under way any more. */
  async settled(): Promise<void> {
    while (this.#acting.size > 0 || this.#behaving) {
      await Promise.all(this.#acting.values());
      await this.#behaving;
    }
  }

  /** Adds to the log; a log that cannot be written is no reason to stop. */
  async happened(...events: readonly Omit<FleetEvent, 'atMs'>[]): Promise<void> {
    const { store, dryRun, happened } = this.#options;
    const whole = events.map((event) => (dryRun ? { ...event, dryRun: true as const } : event));
    try {
      for (const stored of await appendEvents({ store, ...this.#seams }, whole)) happened?.(stored);
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      const problem = `this could not be written down: ${messageOf(error)}`;
      for (const event of whole)
        happened?.({ ...event, message: `${event.message} (${problem})`, atMs: this.#seams.clock.now() });
    }
  }

  /** Looked at once more it was well, and it has not been looked at since. */
  #isFoundWell({ agent, rule }: Acting, healths: readonly AgentHealth[]): boolean {
    const foundMs = this.#foundWell.get(`${agent} ${rule}`);
    return foundMs !== undefined && healths.some(({ name, lookedMs }) => name === agent && lookedMs <= foundMs);
  }

  /** Of a watcher that is no more, or an action whose end could not be written down. */
  async #takeOver(agent: string, memory: AgentMemory): Promise<AgentMemory> {
    const { underWay } = memory;
    let isOurs = false;
    const after = await this.#remember(agent, (now) => {
      isOurs = now.underWay !== undefined;
      return isOurs ? ended(now, this.#seams.clock.now()) : now;
    });
    if (!isOurs) return after;
    const what = underWay?.actions.join(', ') ?? '';
    await this.happened({
      ...{ kind: 'action', agent },
      message: `${what} by rule ${underWay?.rule} was under way when its watcher ended: it counts as a try, and is not simply repeated`,
      evidence: {
        rule: underWay?.rule ?? null,
        since: new Date(underWay?.sinceMs ?? 0).toISOString(),
        finished: false,
      },
    });
    return after;
  }

  /** Reads and writes until nobody came between. */
  async #remember(agent: string, change: (memory: AgentMemory) => AgentMemory): Promise<AgentMemory> {
    for (let i = 0; i < WRITE_TRIES; i++) {
      const { memory, revision } = await memoryOf(this.#own, agent);
      const after = change(memory);
      if (after === memory || (await remember(this.#own, agent, after, revision)) !== undefined) return after;
    }
    return (await memoryOf(this.#own, agent)).memory; // somebody else is at it: a newer watcher
  }

  async #tellSuspicion(suspect: readonly string[], agents: number): Promise<void> {
    const isSuspicious = suspect.length > 0;
    if (isSuspicious === this.#isSuspicious) return;
    this.#isSuspicious = isSuspicious;
    if (!isSuspicious) return;
    const shown = suspect.slice(0, 10).join(', ');
    const message = `${suspect.length} of ${agents} agents went down at once: is it the watcher's network? Nothing is done to any agent until it is clear (fleet.watch.suspect)`;
    await this.happened({ kind: 'action_held', message, evidence: { down: suspect.length, agents, names: shown } });
    if (!this.#options.dryRun) await this.#options.tell({ kind: 'watchdog', agent: 'fleet', message });
  }

  async #tellHeld(decision: Extract<Decision, { type: 'held' }>, held: Map<string, Held>): Promise<void> {
    const { agent, rule, why, reason, evidence } = decision;
    const key = `${agent} ${rule}`;
    held.set(key, why);
    // That something is under way has been told; and those of the whole fleet are told together.
    if (this.#held.get(key) === why || why === 'settling' || why === 'watcher') return;
    const message = `${rule} did not act: ${HELD[why]} (${reason})`;
    await this.happened({ kind: 'action_held', agent, message, evidence: { rule, why, ...evidence } });
  }

  #begin(decision: Acting, signal: AbortSignal, isAsked = false): void {
    const { agent } = decision;
    const work = this.#perform(decision, signal, isAsked)
      .catch(async (error: unknown) => {
        // What it comes to is in the store, as far as it came; the next round goes by that.
        if (signal.aborted) return;
        const message = `${decision.rule} could not be carried out: ${messageOf(error)}`;
        await this.happened({ kind: 'action', agent, message, evidence: { rule: decision.rule, finished: false } });
      })
      .finally(() => this.#acting.delete(agent));
    this.#acting.set(agent, work);
  }

  async #perform(decision: Acting, signal: AbortSignal, isAsked: boolean): Promise<void> {
    const { agent, rule: name, reason, evidence, actions, type } = decision;
    const { look, confirm, id, dryRun, rules } = this.#options;
    const { clock } = this.#seams;
    const rule = rules.rules.find((one) => one.name === name);
    if (rule && !areHarmless(actions) && !isAsked) {
      const fresh = await look(agent, signal, layersFor(rule));
      if (signal.aborted) return;
      if (!fresh || !isStillDue(fresh, rule, rules)) {
        if (this.#foundWell.get(`${agent} ${name}`) === undefined) {
          const message = `${name} did not act: ${HELD.recovered} (${reason})`;
          await this.happened({
            kind: 'action_held',
            agent,
            message,
            evidence: { rule: name, why: 'recovered', ...evidence },
          });
        }
        this.#foundWell.set(`${agent} ${name}`, clock.now());
        return;
      }
    }
    this.#foundWell.delete(`${agent} ${name}`);
    if (!(await confirm())) return;
    const { memory, revision } = await memoryOf(this.#own, agent);
    if (memory.underWay) return;
    const before = begun(memory, decision, id, clock.now());
    if ((await remember(this.#own, agent, before, revision)) === undefined) return;
    const replicas = (memory.replicas ?? 1) + 1;
    const ends = dryRun
      ? []
      : await act(
          actions,
          { agent, rule: name, reason, replicas, signal, look: (one) => look(agent, one, VITAL) },
          { ...this.#options, ...this.#seams },
        );
    const problem = ends.find(({ ok }) => !ok)?.problem;
    const isScaled = actions.includes('scale') && (dryRun || ends.some(({ action, ok }) => action === 'scale' && ok));
    const what = dryRun ? `would do: ${actions.join(', ')}` : actions.join(', ');
    const tries =
      type === 'act' && !isAsked
        ? `, try ${decision.try}${rule && rule.tries < 100 ? ` of ${decision.tries}` : ''}`
        : '';
    const notTold = ends.flatMap(({ evidence: one }) => (typeof one['notTold'] === 'string' ? [one['notTold']] : []));
    const came = [...(problem === undefined ? [] : [`it failed: ${problem}`]), ...notTold]
      .map((one) => `; ${one}`)
      .join('');
    await this.happened({
      ...{ kind: type === 'act' ? 'action' : 'escalated', agent },
      message: `${name}: ${what}${tries} (${reason})${came}`,
      evidence: { rule: name, try: decision.try, ...evidence, ...evidenceOf(ends) },
    });
    if (!dryRun)
      await this.#besides(
        agent,
        ends.flatMap(({ action, ok }) => (ok ? [action] : [])),
        reason,
      );
    await this.#remember(agent, (now) =>
      now.underWay?.by === id ? ended(now, clock.now(), isScaled ? { replicas } : {}) : now,
    );
  }

  /** The events by which others look for breakers and quarantine. */
  async #besides(agent: string, done: readonly Action[], reason: string): Promise<void> {
    if (done.includes('open_breaker'))
      await this.happened({ kind: 'breaker', agent, message: `the breaker was opened by the watchdog: ${reason}` });
    if (done.includes('quarantine'))
      await this.happened({ kind: 'quarantine', agent, message: `put into quarantine by the watchdog: ${reason}` });
  }

  /** Once: the wish is taken out of the store before it is fulfilled. */
  async #beginAsked(
    agent: string,
    asked: Asked & { entry: Entry },
    healths: readonly AgentHealth[],
    signal: AbortSignal,
  ) {
    if (this.#acting.has(agent)) return;
    const { entry, action, reason } = asked;
    if (!(await this.#options.store.delete(entry.key, entry.revision))) return;
    if (!healths.some(({ name }) => name === agent)) return;
    const evidence = { askedAt: new Date(asked.atMs).toISOString() };
    const common = { agent, rule: ASKED, reason, evidence, try: 1, tries: 1 };
    this.#begin({ ...common, type: 'act', actions: [action] }, signal, true);
  }

  async #level(agents: readonly LevelAgent[], nowMs: number, signal: AbortSignal): Promise<void> {
    const { degradation, tell, dryRun } = this.#options;
    const asked = levelAskedFor(agents, degradation.rules, nowMs);
    const entry = await this.#own.get(LEVEL_KEY);
    const before = (entry && readLevel(entry.value)) ?? nominal(nowMs);
    const after = nextLevel(before, asked, degradation, nowMs);
    if (after !== before || !entry) {
      if (!(await this.#options.confirm()) || !(await this.#setLevel(after, entry))) return;
      if (after.level !== before.level) {
        const why = after.reasons.length > 0 ? `: ${after.reasons.join('; ')}` : '';
        const message = `level ${after.level} (${LEVELS[after.level]}), was ${before.level} (${LEVELS[before.level]})${why}`;
        await this.happened({ kind: 'level', message, evidence: { level: after.level, before: before.level } });
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
      ? await this.#own.update(LEVEL_KEY, value, entry.revision)
      : await this.#own.create(LEVEL_KEY, value);
    return revision !== undefined;
  }

  /** Runs what a change of the level asks for, one after the other; what was begun is written down first, and never begun twice. */
  async #behave(signal: AbortSignal): Promise<void> {
    for (;;) {
      const entry = await this.#own.get(LEVEL_KEY);
      const state = entry && readLevel(entry.value);
      const [next, ...rest] = state?.todo ?? [];
      if (!entry || !state || !next || signal.aborted) return;
      if (next.begun) {
        await this.happened({
          kind: 'level',
          message: `the command to ${next.do} level ${next.level} was under way when its watcher ended: it is not run again`,
          evidence: { behaviour: next.do, level: next.level, finished: false },
        });
        if (!(await this.#setLevel({ ...state, todo: rest }, entry))) continue;
        continue;
      }
      if (!(await this.#options.confirm())) return;
      if (!(await this.#setLevel({ ...state, todo: [{ ...next, begun: true }, ...rest] }, entry))) continue;
      await this.#runBehaviour(next, signal);
      await this.#dropBehaviour();
    }
  }

  async #runBehaviour(behaviour: Behaviour, signal: AbortSignal): Promise<void> {
    const { degradation, run, tell, dryRun } = this.#options;
    const { level, before, after, reasons } = behaviour;
    const command = degradation.rules.find((rule) => rule.level === level)?.[behaviour.do];
    if (command === undefined) return; // no longer in the config
    const what = `${behaviour.do} level ${level}`;
    if (dryRun) return this.happened({ kind: 'level', message: `would run the command to ${what}` });
    const env = {
      HOLDFAST_LEVEL: String(after),
      HOLDFAST_LEVEL_BEFORE: String(before),
      HOLDFAST_REASON: reasons.join('; '),
    };
    const { exitCode, problem, output } = await run(command, env, signal);
    const message =
      problem === undefined ? `ran the command to ${what}` : `the command to ${what} ${problem}: ${output}`;
    await this.happened({ kind: 'level', message, evidence: { behaviour: behaviour.do, level, exitCode, output } });
    if (problem !== undefined)
      await tell({ kind: 'level', agent: 'fleet', message, ...(exitCode !== null && { exitCode }) });
  }

  async #dropBehaviour(): Promise<void> {
    for (let i = 0; i < WRITE_TRIES; i++) {
      const entry = await this.#own.get(LEVEL_KEY);
      const state = entry && readLevel(entry.value);
      if (!entry || !state?.todo[0]?.begun) return;
      if (await this.#setLevel({ ...state, todo: state.todo.slice(1) }, entry)) return;
    }
  }
}

const HELD: Readonly<Record<Held, string>> = {
  stale: 'what is known of it is too old',
  quarantine: 'it is in quarantine',
  settling: 'it has its time to settle',
  cool_down: 'its cool-down is not over',
  cap: 'enough other agents are being acted on',
  watcher: 'the watcher itself may be cut off',
  recovered: 'it was well when looked at once more',
};

/** A look at a repository takes long: only for rules that are about it. */
function layersFor({ when }: Rule): readonly Layer[] {
  return LAYERS.filter(
    (layer) =>
      (layer !== 'backup' && layer !== 'drill') || when.some((one) => one.kind === 'down' && one.layer === layer),
  );
}

/** Something is about to be done, which is not written down yet. */
function acting(memory: AgentMemory, by: string, nowMs: number): AgentMemory {
  return memory.underWay ? memory : { ...memory, underWay: { rule: '', actions: [], sinceMs: nowMs, by } };
}

function levelAgent(
  health: AgentHealth,
  breaker: LevelAgent['breaker'] | undefined,
  quarantine: Quarantine | undefined,
): LevelAgent {
  return { health, breaker: breaker ?? 'closed', quarantine: quarantine ?? null };
}
