/** Faults for a fleet that is watched, and the judgement of all that came of them. */
import { systemClock } from '../../../src/clock.ts';
import type { FleetEvent } from '../../../src/fleet/events.ts';
import type { Dice } from '../../torture/dice.ts';
import { FAILURES, MOST_TOUCHED } from './config.ts';
import { FAULT_NAMES, FAULTS, canStrike, type FaultName } from './faults.ts';
import { until, type ChaosFleet } from './fleet.ts';
import { Incident, look, type Sight } from './incidents.ts';

/** An agent that is not back by then is given up, and that is wrong. */
const PATIENCE = { intervals: 60, leastMs: 60_000 };
/** "Seen within two intervals": with the second look at that agent after the stroke, at the latest. */
export const LOOKS = 2;
/** So many intervals an agent that was back is left alone. */
const REST_INTERVALS = 12;
/** Events that say that something was done to an agent, or would have been. */
const ACTS: readonly FleetEvent['kind'][] = ['action', 'escalated', 'breaker', 'quarantine'];

export class Chaos {
  readonly incidents: Incident[] = [];
  readonly problems: string[] = [];
  watchersKilled = 0;
  watchersFrozen = 0;
  storms = 0;
  /** Nothing is ever done to these. */
  readonly bystanders: readonly string[];
  readonly #fleet: ChaosFleet;
  readonly #log: (line: string) => void;
  readonly #pids: ReadonlyMap<string, number>;
  /** In which agents were frozen that nobody may restart. */
  readonly #storms: { fromMs: number; toMs: number; agents: readonly string[] }[] = [];
  /** In which nobody watched. */
  readonly #gaps: { fromMs: number; toMs: number }[] = [];

  constructor(fleet: ChaosFleet, { bystanders, log }: { bystanders: readonly string[]; log: (line: string) => void }) {
    this.#fleet = fleet;
    this.bystanders = bystanders;
    this.#log = log;
    this.#pids = new Map(fleet.names.map((name) => [name, fleet.pid(name)]));
  }

  get #open(): Incident[] {
    return this.incidents.filter(({ isOver }) => !isOver);
  }

  /** Agents that are well, and have been for a while, and to which this can be done. */
  free(fault: FaultName): string[] {
    const restingMs = Date.now() - REST_INTERVALS * this.#fleet.times.intervalMs;
    const isBusy = (name: string) =>
      this.incidents.some(({ agent, backMs = Infinity }) => agent === name && backMs > restingMs);
    return this.#fleet.names.filter(
      (name) => canStrike(fault, name) && !this.bystanders.includes(name) && !isBusy(name),
    );
  }

  strike(fault: FaultName, agent: string): void {
    this.#log(`${agent}: ${FAULTS[fault].title}`);
    this.incidents.push(new Incident(this.#fleet, agent, fault));
  }

  /** Looks at what comes of it, for so long or until nothing is under way any more. */
  async pass(ms: number | 'until all are well'): Promise<void> {
    const endMs = ms === 'until all are well' ? Infinity : Date.now() + ms;
    while (Date.now() < endMs && (ms !== 'until all are well' || this.#open.length > 0)) {
      await systemClock.sleep(Math.min(this.#fleet.times.intervalMs / 2, Math.max(1, endMs - Date.now())));
      await this.#follow();
    }
  }

  async #follow(): Promise<void> {
    if (this.#fleet.watcherEnded !== undefined) throw new Error(this.#fleet.watcherEnded);
    const sight = await look(this.#fleet);
    const patienceMs = Math.max(PATIENCE.leastMs, PATIENCE.intervals * this.#fleet.times.intervalMs);
    for (const incident of this.#open) {
      await incident.follow(this.#fleet, sight);
      if (incident.isOver) this.#log(`${incident.agent}: well again`);
      else if (Date.now() - incident.atMs > patienceMs) {
        this.#wrong(`${incident.lacks}: ${JSON.stringify(sight.health.get(incident.agent)?.layers)}`);
        incident.giveUp();
      }
    }
  }

  /** In the midst of what it does; another one takes over. */
  async killWatcher(): Promise<void> {
    this.#log('the watcher: killed, and started again');
    this.watchersKilled++;
    const fromMs = Date.now();
    await this.#fleet.stopWatcher('SIGKILL');
    this.#fleet.startWatcher();
    await this.#watchedAgain(fromMs);
  }

  /** As a host that was suspended: the clock goes on. */
  async freezeWatcher(): Promise<void> {
    this.#log('the watcher: frozen, and goes on');
    this.watchersFrozen++;
    const fromMs = Date.now();
    this.#fleet.signalWatcher('SIGSTOP');
    await systemClock.sleep(8 * this.#fleet.times.intervalMs);
    this.#fleet.signalWatcher('SIGCONT');
    this.#gaps.push({ fromMs, toMs: Date.now() });
    for (const incident of this.#open)
      if (!incident.seen) incident.watchedMs = Math.max(incident.watchedMs, Date.now());
  }

  async #watchedAgain(fromMs: number): Promise<void> {
    const started = ({ events }: Sight) => events.find(({ kind, atMs }) => kind === 'watch_started' && atMs > fromMs);
    await until('another one watches', async () => {
      if (this.#fleet.watcherEnded !== undefined) throw new Error(this.#fleet.watcherEnded);
      return started(await look(this.#fleet)) !== undefined;
    });
    const sight = await look(this.#fleet);
    const toMs = started(sight)?.atMs ?? NaN;
    // What the one before has done is known, even if it died before it could write down what it saw.
    for (const incident of this.#open) incident.note(sight);
    this.#gaps.push({ fromMs, toMs });
    for (const incident of this.#open) if (!incident.seen) incident.watchedMs = Math.max(incident.watchedMs, toMs);
  }

  /** More than half of all stop at once, long enough to be down, and go on: it could as well be the watcher that is cut off. */
  async storm(agents: readonly string[]): Promise<void> {
    this.#log(`${agents.length} agents at once: frozen, and go on`);
    this.storms++;
    const fromMs = Date.now();
    for (const name of agents) this.#fleet.kill(name, 'SIGSTOP');
    await this.pass((FAILURES + 3) * this.#fleet.times.intervalMs);
    for (const name of agents) this.#fleet.kill(name, 'SIGCONT');
    await until('all are well after it', async () => this.#allWell(await look(this.#fleet)));
    // A look that ended with it is told in the round after it.
    this.#storms.push({ fromMs, toMs: Date.now() + this.#fleet.times.intervalMs, agents });
    const { events } = await look(this.#fleet);
    const held = events.filter(({ kind, atMs }) => kind === 'action_held' && atMs >= fromMs);
    if (held.length === 0) this.#wrong(`no event says that nothing was done about the ${agents.length}`);
  }

  #allWell({ health }: Sight): boolean {
    return this.#fleet.names.every((name) => health.get(name)?.state === 'healthy');
  }

  /** Waits until the watcher has seen each of them well. */
  async healthy(): Promise<void> {
    await until('the watcher finds all well', async () => {
      if (this.#fleet.watcherEnded !== undefined) throw new Error(this.#fleet.watcherEnded);
      return this.#allWell(await look(this.#fleet));
    });
  }

  #wrong(what: string): void {
    this.problems.push(what);
    this.#log(`WRONG: ${what}`);
  }

  /** Once all is over. What must not be is in `problems`. */
  async judge(): Promise<Verdict> {
    const sight = await look(this.#fleet);
    for (const { agent, fault, seen } of this.incidents)
      if (seen && seen.looks > LOOKS) this.#wrong(`${agent}, ${fault.title}, was seen with look ${seen.looks} only`);
    const touched = this.#touched(sight);
    for (const one of touched) this.#wrong(one);
    const most = Math.max(1, Math.floor(MOST_TOUCHED * this.#fleet.names.length));
    const atOnce = this.#atOnce(sight);
    if (atOnce > most) this.#wrong(`${atOnce} were restarted at once, and not ${most} at most`);
    const falseAlarms = [...sight.health.values()].reduce(
      (sum, { name, history }) => sum + history.filter(({ atMs, ok }) => !ok && !this.#isExcused(name, atMs)).length,
      0,
    );
    return { incidents: this.incidents, touched: touched.length, atOnce, most, falseAlarms };
  }

  /** Healthy ones to which something was done; and those to which it was done twice. */
  #touched({ restarts, scalings, events }: Sight): string[] {
    const found: string[] = [];
    for (const [name, pid] of this.#pids)
      if (
        !this.incidents.some(({ agent, fault }) => agent === name && fault.answer === 'restart') &&
        this.#fleet.pid(name) !== pid
      )
        found.push(`${name} is another process, and nothing was done to it`);
    for (const { agent, begunMs, rule } of restarts)
      if (!this.#during(agent, begunMs, 'restart')) found.push(`${agent} was restarted by rule ${rule}, and was well`);
    for (const { agent, atMs } of scalings)
      if (!this.#during(agent, atMs, 'scale')) found.push(`${agent} was scaled, and was well`);
    for (const { kind, agent, atMs, message } of events)
      if (agent !== undefined && ACTS.includes(kind) && !this.#during(agent, atMs) && !this.#isTold(kind, agent, atMs))
        found.push(`${agent} was well, and there is an event: ${message}`);
    for (const incident of this.incidents) {
      const { agent, atMs, backMs = Infinity, fault } = incident;
      const times = restarts.filter(
        (one) => one.agent === agent && one.begunMs >= atMs && one.begunMs <= backMs,
      ).length;
      // A watcher that died may not know what came of its try.
      const may = this.#gaps.some(({ fromMs, toMs }) => fromMs <= backMs && toMs >= atMs) ? 2 : 1;
      if (times > may) found.push(`${agent}, ${fault.title}, was restarted ${times} times`);
    }
    return found;
  }

  /** Of agents that stood still with many others a person may be told. */
  #isTold(kind: FleetEvent['kind'], name: string, ms: number): boolean {
    return kind === 'escalated' && this.#inStorm(name, ms);
  }

  #inStorm(name: string, ms: number): boolean {
    return this.#storms.some(({ fromMs, toMs, agents }) => agents.includes(name) && ms >= fromMs && ms <= toMs);
  }

  #during(name: string, ms: number, answer?: string): boolean {
    return this.incidents.some(
      ({ agent, atMs, backMs = Infinity, fault }) =>
        agent === name && ms >= atMs && ms <= backMs && (answer === undefined || fault.answer === answer),
    );
  }

  #isExcused(name: string, ms: number): boolean {
    const { intervalMs } = this.#fleet.times;
    const isStorm = this.#storms.some(
      ({ fromMs, toMs, agents }) => agents.includes(name) && ms >= fromMs && ms <= toMs,
    );
    return isStorm || this.#during(name, ms) || this.#during(name, ms - intervalMs);
  }

  /** The most that were being restarted, or had not warmed up after it, at one moment: by what the restart command wrote down. */
  #atOnce({ restarts }: Sight): number {
    const spans = restarts.map(
      ({ begunMs, doneMs = begunMs }) => [begunMs, doneMs + this.#fleet.times.warmUpMs] as const,
    );
    return Math.max(0, ...spans.map(([at]) => spans.filter(([from, to]) => from <= at && to >= at).length));
  }
}

export interface Verdict {
  incidents: readonly Incident[];
  touched: number;
  /** Restarted at once, and allowed. */
  atOnce: number;
  most: number;
  /** Looks that failed at an agent that was well: fewer in a row than bring it down. */
  falseAlarms: number;
}

/** Each kind once, more than may be restarted at once; and a watcher that dies when it has begun to act. */
export async function shortPlan(chaos: Chaos, { times }: ChaosFleet, dice: Dice): Promise<void> {
  const strikeOne = (fault: FaultName) => chaos.strike(fault, dice.pick(chaos.free(fault)));
  for (const fault of FAULT_NAMES) strikeOne(fault);
  for (let i = 0; i < 3; i++) strikeOne('killed');
  await chaos.pass((FAILURES + 2) * times.intervalMs);
  await chaos.killWatcher();
  await chaos.pass('until all are well');
}

/** Waves of a few faults at random moments, until it is time; of every few waves one is another kind of trouble. */
export async function longPlan(chaos: Chaos, fleet: ChaosFleet, dice: Dice, endMs: number): Promise<void> {
  const { intervalMs } = fleet.times;
  const strike = (fault: FaultName, from: Dice): void => {
    const free = chaos.free(fault);
    if (free.length > 0) chaos.strike(fault, from.pick(free));
  };
  const others = ['watcher killed', 'crowd', 'watcher frozen', 'storm'] as const;
  for (let wave = 0; Date.now() < endMs; wave++) {
    const thrown = dice.of(`wave ${wave}`);
    const other = wave % 3 === 2 ? others[((wave - 2) / 3) % others.length] : undefined;
    if (other === 'crowd' || other === 'storm') await chaos.pass('until all are well');
    if (other === 'crowd') {
      for (const name of thrown.shuffled(chaos.free('killed')).slice(0, 10)) chaos.strike('killed', name);
    } else if (other === 'storm') {
      // The bystanders stay what they are; of the others more than half of the whole fleet.
      const able = fleet.names.filter((name) => !chaos.bystanders.includes(name));
      await chaos.storm(thrown.shuffled(able).slice(0, Math.floor(fleet.names.length / 2) + 2));
    } else {
      for (let i = 0, n = 1 + thrown.below(4); i < n; i++) strike(thrown.pick(FAULT_NAMES), thrown);
    }
    if (other === 'watcher killed') {
      await chaos.pass(thrown.fraction() * 5 * intervalMs);
      await chaos.killWatcher();
    } else if (other === 'watcher frozen') {
      await chaos.pass(thrown.fraction() * 5 * intervalMs);
      await chaos.freezeWatcher();
    }
    await chaos.pass(thrown.fraction() * 10 * intervalMs);
  }
  await chaos.pass('until all are well');
}
