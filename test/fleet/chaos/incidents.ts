/** One fault of one agent, from the stroke to its end: when it was seen, what was done, and when the agent was back. */
import { readHealth } from '../../../src/fleet/health-store.ts';
import { listEvents, type FleetEvent } from '../../../src/fleet/events.ts';
import type { AgentHealth } from '../../../src/fleet/health.ts';
import { VITAL } from '../../../src/fleet/health.ts';
import { FAULTS, type Fault, type FaultName } from './faults.ts';
import type { ChaosFleet } from './fleet.ts';

/** All that can be known from outside at one moment. */
export interface Sight {
  health: ReadonlyMap<string, AgentHealth>;
  /** Of the whole run. */
  events: readonly FleetEvent[];
  restarts: ReturnType<ChaosFleet['restarts']>;
  scalings: ReturnType<ChaosFleet['scalings']>;
}

export async function look(fleet: ChaosFleet): Promise<Sight> {
  const known = await readHealth(fleet.store, Date.now());
  const events = await listEvents(fleet.store, {});
  const health = new Map(known.map((agent) => [agent.name, agent]));
  return { health, events, restarts: fleet.restarts(), scalings: fleet.scalings() };
}

export class Incident {
  readonly agent: string;
  readonly name: FaultName;
  readonly fault: Fault;
  readonly pidBefore: number;
  readonly atMs: number;
  /** Since then it can be seen: later than `atMs` where it takes its time to show, or the watcher was struck at the same time. */
  watchedMs: number;
  /** The first look that found it, and which one it was since somebody watches. */
  seen: { atMs: number; looks: number } | undefined;
  actedMs: number | undefined;
  healedMs: number | undefined;
  backMs: number | undefined;

  constructor(fleet: ChaosFleet, agent: string, name: FaultName) {
    this.agent = agent;
    this.name = name;
    this.fault = FAULTS[name];
    this.pidBefore = fleet.pid(agent);
    this.atMs = this.watchedMs = Date.now();
    if (this.fault.isSeenByAge) this.watchedMs += fleet.times.heartbeatMs;
    this.fault.strike(fleet, agent);
  }

  #isGivenUp = false;

  get isOver(): boolean {
    return this.backMs !== undefined || this.#isGivenUp;
  }

  giveUp(): void {
    this.#isGivenUp = true;
  }

  /** What was done, by all that tells of it. */
  note(sight: Sight): void {
    this.actedMs ??= this.#acted(sight);
    const health = sight.health.get(this.agent);
    if (this.seen || this.actedMs === undefined || !health) return;
    const { actedMs } = this;
    const looks = health.history.filter(({ atMs }) => atMs > this.watchedMs && atMs <= actedMs).length;
    this.seen = { atMs: actedMs, looks: Math.max(1, looks) };
  }

  async follow(fleet: ChaosFleet, sight: Sight): Promise<void> {
    const health = sight.health.get(this.agent);
    if (!health || this.isOver) return;
    this.seen ??= this.#seen(health, fleet.times.timeoutMs);
    this.note(sight);
    if (this.seen && this.actedMs !== undefined && this.healedMs === undefined) {
      await this.fault.heal?.(fleet, this.agent);
      this.healedMs = Date.now();
    }
    if (this.healedMs === undefined || health.state !== 'healthy' || health.lookedMs < this.healedMs) return;
    const isNew = fleet.pid(this.agent) !== this.pidBefore;
    if (isNew === (this.fault.answer === 'restart') && fleet.runs(this.agent) && (await fleet.answers(this.agent)))
      this.backMs = health.lookedMs;
  }

  /** What has not come about yet, for messages. */
  get lacks(): string {
    const lacks = !this.seen ? 'seen' : this.actedMs === undefined ? `acted on (${this.fault.answer})` : 'well again';
    return `${this.agent}, ${this.fault.title}, was never ${lacks}`;
  }

  #seen({ history, layers }: AgentHealth, timeoutMs: number): Incident['seen'] {
    // By their ends: one that found all well may have begun before the stroke, when it ended soon after it.
    const looks = history.filter(({ atMs, ok }) => atMs > this.watchedMs + (ok ? timeoutMs : 0));
    const number = this.fault.layers.some((layer) => VITAL.includes(layer))
      ? looks.findIndex(({ ok }) => !ok)
      : // The looks at a number are those at the agent; of those in a row that were not ok the first is meant.
        Math.max(
          ...this.fault.layers.map((layer) => {
            const { last, failures = 0 } = layers[layer] ?? {};
            return last && !last.ok && last.atMs > this.watchedMs ? Math.max(0, looks.length - failures) : -1;
          }),
        );
    const first = looks[number];
    return first && { atMs: first.atMs, looks: number + 1 };
  }

  #acted({ restarts, scalings, events }: Sight): number | undefined {
    const since = ({ agent, atMs }: { agent?: string; atMs: number }) => agent === this.agent && atMs >= this.atMs;
    switch (this.fault.answer) {
      case 'restart':
        return restarts.find(({ agent, begunMs }) => since({ agent, atMs: begunMs }))?.begunMs;
      case 'scale':
        return scalings.find(since)?.atMs;
      case 'breaker':
        return events.find((event) => since(event) && event.kind === 'breaker')?.atMs;
      case 'told':
        return events.find((event) => since(event) && event.kind === 'escalated')?.atMs;
    }
  }
}
