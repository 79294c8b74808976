/**
 * One round of a watchdog: what is known of the agents, what was done before and what the rules say, and then doing it. Everything that has
 * to outlive this process is in the store before it is done.
 */
import type { Clock, Random } from '../clock.ts';
import type { Warning } from '../entry.ts';
import { HoldfastError, isSurvivable, messageOf } from '../errors.ts';
import { endGroup } from '../operations/hooks.ts';
import { formatDuration } from '../units.ts';
import { act, doable, evidenceOf, type ActorOptions, type AgentCommands, type RunCommand } from './actions.ts';
import type { Breakers } from './breakers.ts';
import type { DegradationSettings, LevelAgent } from './degradation.ts';
import { appendEvents, type FleetEvent } from './events.ts';
import type { Told } from './guarded-run.ts';
import { LAYERS, VITAL, type AgentHealth, type Layer, type Quarantine } from './health.ts';
import { isLate, isRunning, noted } from './left-running.ts';
import { LevelKeeper } from './level-keeper.ts';
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
  type Evidence,
  type Held,
  type Rule,
  type RuledAgent,
  type RuleSettings,
} from './rules.ts';
import type { Entry, StateStore } from './store.ts';

export interface WatchdogOptions extends Pick<ActorOptions, 'restoreState' | 'putStateBack'> {
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
  /** Commands of a watcher that is no more, which still run: told once. By agent. */
  readonly #leftRunning = new Map<string, number>();
  #isSuspicious = false;
  readonly #levels: LevelKeeper;

  constructor(options: WatchdogOptions, seams: { clock: Clock; random: Random }) {
    this.#options = options;
    this.#seams = seams;
    this.#own = options.dryRun ? memoryStateStore(seams.clock) : options.store;
    this.#levels = new LevelKeeper({ ...options, store: this.#own, happened: (event) => this.happened(event) });
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
      if (memory.underWay && !busy.has(health.name)) memory = await this.#takeOver(health.name, memory, signal);
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
    for (const [agent, one] of asked)
      if (!agents.some(({ health, memory }) => health.name === agent && memory.underWay))
        await this.#beginAsked(agent, one, healths, signal);
    await this.#tellSuspicion(decided.suspect, agents.length);
    const held = new Map<string, Held>();
    for (const decision of decided.decisions) {
      if (decision.type === 'held') await this.#tellHeld(decision, held);
      else if (!this.#acting.has(decision.agent) && !this.#isFoundWell(decision, healths))
        this.#begin(decision, signal);
    }
    this.#held = held;
    const views = new Map(breakerViews.map((view) => [view.agent, view.state.kind]));
    await this.#levels.keep(
      healths.map((health) => levelAgent(health, views.get(health.name), quarantined.get(health.name))),
      nowMs,
      signal,
    );
  }

  /** Until nothing is under way any more. */
  async settled(): Promise<void> {
    while (this.#acting.size > 0 || this.#levels.isBehaving) {
      await Promise.all(this.#acting.values());
      await this.#levels.settled();
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

  /**
   * Of a watcher that is no more, or an action whose end could not be written down. As long as a command of it runs, or the state of the agent is
   * not in its place, it is still under way.
   */
  async #takeOver(agent: string, memory: AgentMemory, signal: AbortSignal): Promise<AgentMemory> {
    const { confirm, putStateBack } = this.#options;
    const { command, rule = '', actions = [] } = memory.underWay ?? {};
    if (command && isRunning(command)) {
      await this.#awaitLeft(agent, memory);
      return memory;
    }
    this.#leftRunning.delete(agent);
    if (!putStateBack || !actions.includes('restore_state')) return this.#close(agent, memory);
    this.#work(
      { agent, rule, failed: `what ${actions.join(', ')} has left could not be put right` },
      signal,
      async () => {
        if (!(await confirm())) return;
        let evidence: Evidence | undefined;
        try {
          evidence = await putStateBack(agent, { signal, run: this.#noting(agent, memory.underWay?.by ?? '') });
        } catch (error) {
          if (!isSurvivable(error)) throw error;
          evidence = { problem: `whether its state is in its place could not be seen: ${messageOf(error)}` };
        }
        await this.#close(agent, memory, evidence);
      },
    );
    return memory;
  }

  /** Waits for what a killed watcher has left running, and ends it when its time is over. */
  async #awaitLeft(agent: string, { underWay }: AgentMemory): Promise<void> {
    const { clock } = this.#seams;
    const { command, rule = '', actions = [] } = underWay ?? {};
    if (!command) return;
    const { pid, timeoutMs } = command;
    const isOver = isLate(command, clock.now());
    const what = `${actions.join(', ')} by rule ${rule} outlived its watcher (process ${pid})`;
    const tell = (then: string) =>
      this.happened({ kind: 'action', agent, message: `${what}: ${then}`, evidence: { rule, pid, finished: false } });
    if (isOver) {
      this.#work({ agent, rule, failed: `${what} and could not be ended` }, undefined, async () => {
        if (!(await this.#options.confirm())) return;
        await tell(`not done after ${formatDuration(timeoutMs)}, it is ended`);
        await endGroup(pid, clock);
      });
    } else if (this.#leftRunning.get(agent) !== pid) {
      this.#leftRunning.set(agent, pid);
      await tell('nothing else is done to the agent until it has ended');
    }
  }

  async #close(agent: string, { underWay }: AgentMemory, found?: Evidence): Promise<AgentMemory> {
    let isOurs = false;
    const after = await this.#remember(agent, (now) => {
      isOurs = now.underWay !== undefined;
      return isOurs ? ended(now, this.#seams.clock.now()) : now;
    });
    if (!isOurs) return after;
    const { rule = '', actions = [], sinceMs = 0 } = underWay ?? {};
    const besides = found?.['problem'] ?? found?.['done'];
    const note = typeof besides === 'string' ? `; ${besides}` : '';
    const message = `${actions.join(', ')} by rule ${rule} was under way when its watcher ended: it counts as a try, and is not simply repeated${note}`;
    const evidence = { rule, since: new Date(sinceMs).toISOString(), finished: false, ...found };
    await this.happened({ kind: 'action', agent, message, evidence });
    return after;
  }

  /** Runs commands that whoever watches next can find. */
  #noting(agent: string, by: string): RunCommand {
    return (command, env, signal) =>
      this.#options.run(command, env, signal, async (pid, timeoutMs) => {
        const left = noted(pid, timeoutMs, this.#seams.clock);
        const { underWay } = await this.#remember(agent, (now) =>
          now.underWay?.by === by ? { ...now, underWay: { ...now.underWay, command: left } } : now,
        );
        if (underWay?.by !== by || underWay.command?.pid !== left?.pid)
          throw new HoldfastError('busy', 'another watcher acts on this agent');
      });
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
    const { agent, rule } = decision;
    this.#work({ agent, rule, failed: `${rule} could not be carried out` }, signal, () =>
      this.#perform(decision, signal, isAsked),
    );
  }

  /** Meanwhile nothing else is done to the agent. */
  #work(
    { agent, rule, failed }: { agent: string; rule: string; failed: string },
    signal: AbortSignal | undefined,
    work: () => Promise<void>,
  ): void {
    const whole = work()
      .catch(async (error: unknown) => {
        // What it comes to is in the store, as far as it came; the next round goes by that.
        if (signal?.aborted) return;
        await this.happened({
          ...{ kind: 'action', agent, message: `${failed}: ${messageOf(error)}` },
          evidence: { rule, finished: false },
        });
      })
      .finally(() => this.#acting.delete(agent));
    this.#acting.set(agent, whole);
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
          {
            ...{ agent, rule: name, reason, replicas, signal, run: this.#noting(agent, id) },
            look: (one) => look(agent, one, VITAL),
          },
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
