/**
 * `fleet watch`: looks, remembers, decides, acts, for as long as it runs. Of several watchers of one store one does so, and the others stand by.
 */
import { messageOf, isHoldfastError, isSurvivable, HoldfastError, throwIfAborted } from '../errors.ts';
import type { Clock, Random } from '../clock.ts';
import { formatDuration } from '../units.ts';
import type { FleetEvent } from './events.ts';
import { isBad, type AgentHealth, type Layer } from './health.ts';
import { Lease, leaseHolder } from './lease.ts';
import type { ServiceManager } from './sd-notify.ts';
import type { StateStore } from './store.ts';
import { Watchdog, type WatchdogOptions } from './watchdog.ts';

/** Who looks at the agents: `Prober`. */
export interface Looker {
  health(): AgentHealth[];
  run(looked: (health: AgentHealth, before: AgentHealth) => void, signal: AbortSignal): Promise<void>;
  once(
    deadlineMs: number,
    signal: AbortSignal,
    names?: readonly string[],
    only?: readonly Layer[],
  ): Promise<AgentHealth[]>;
}

/** Who writes down what is known of them: `HealthWriter`. */
export interface Records {
  write(healths: readonly AgentHealth[], paceMs: number): Promise<void>;
  end(): Promise<void>;
}

export interface WatchOptions extends Omit<WatchdogOptions, 'look' | 'confirm' | 'id' | 'happened'> {
  store: StateStore;
  /** Made when this watcher is the one that acts: it goes on from what is in the store then. */
  looker: () => Promise<Looker>;
  records: () => Records;
  /** Between two looks at an agent, mostly. */
  intervalMs: number;
  /** How long after a look at this agent the next one should have ended at the latest. */
  lookedWithinMs: (agent: string) => number;
  leaseMs: number;
  host: string;
  pid: number;
  service?: ServiceManager | undefined;
  /** Told of each event. */
  happened: (event: FleetEvent) => void;
  /** A line for the log that is no event. */
  log: (line: string) => void;
}

interface WatchSeams {
  clock: Clock;
  random: Random;
  signal: AbortSignal;
}

export const LEASE_KEY = 'watch.lease';
/** One look right before something is done. */
const LOOK_MS = 5000;
const ROUND_MAX_MS = 1000;
/** What is known is written down so often: as often as there is something new, in between. */
const WRITE_MS = { least: 500, most: 5000 };
/** For how long `once` looks at all agents. */
const ONCE_MS = 10_000;
/** Changes that are told one by one; of more at once a sum. */
const TOLD_AT_ONCE = 50;
/** What is known should have been written by now, when the time for it is over so many times. */
const LATE_WRITES = 3;

/** Until the signal is aborted. */
export async function watch(options: WatchOptions, seams: WatchSeams): Promise<void> {
  const { service, leaseMs, dryRun, store, log } = options;
  const { clock, signal } = seams;
  let isReady = false;
  const ready = async (status: string) => {
    await service?.notify(...(isReady ? [] : ['READY=1']), `STATUS=${status}`, 'WATCHDOG=1');
    isReady = true;
  };
  try {
    let told = '';
    while (!signal.aborted) {
      const turn = new Turn(options, seams);
      let isTaken = false;
      try {
        isTaken = dryRun || (await turn.lease.take(signal));
        if (!isTaken) {
          const other = await leaseHolder(store, LEASE_KEY);
          const status = other ? `standing by: process ${other.pid} on ${other.host} watches` : 'standing by';
          if (status !== told) log(status);
          told = status;
          await ready(status);
        }
      } catch (error) {
        // One that is damaged or gone does not come back for this process.
        if (!isSurvivable(error) || isHoldfastError(error, 'damaged')) throw error;
        log(`the store cannot be used: ${messageOf(error)}`);
      }
      if (isTaken) {
        told = '';
        await ready('watching');
        await turn.run();
        if (!signal.aborted) log('the lease is lost');
      } else await clock.sleep(leaseMs / 3, signal).catch(() => {});
    }
  } finally {
    await service?.notify('STOPPING=1', 'STATUS=stopping');
  }
}

/**
 * Looks at every agent once, goes by what was known before, decides and acts once, and waits for the end of that.
 * @throws `busy` while another watcher has the lease
 */
export async function watchOnce(options: WatchOptions, seams: WatchSeams): Promise<void> {
  const turn = new Turn(options, seams);
  if (!options.dryRun && !(await turn.lease.take(seams.signal))) {
    const other = await leaseHolder(options.store, LEASE_KEY);
    throw new HoldfastError(
      'busy',
      `process ${other?.pid ?? '?'} on ${other?.host ?? 'another host'} watches this fleet`,
      {
        hint: 'It does what is to be done. To see what would be done: --dry-run.',
        retryable: true,
      },
    );
  }
  await turn.once();
}

/** From having the lease to losing it. */
class Turn {
  readonly lease: Lease;
  readonly #options: WatchOptions;
  readonly #seams: WatchSeams;
  readonly #lost = new AbortController();
  readonly #signal: AbortSignal;
  readonly #dog: Watchdog;
  #looker: Looker | undefined;
  /** Changes of agents that are not in the log yet. */
  #changes: Omit<FleetEvent, 'atMs'>[] = [];
  #isNews = true;
  #freshSinceMs: number;
  /** Monotonic. */
  #writtenMs: number;
  #pingedMs = -Infinity;

  constructor(options: WatchOptions, seams: WatchSeams) {
    const { store, leaseMs, host, pid, dryRun } = options;
    this.#options = options;
    this.#seams = seams;
    this.#signal = AbortSignal.any([seams.signal, this.#lost.signal]);
    this.lease = new Lease({ store, ...seams, key: LEASE_KEY, ms: leaseMs, host, pid });
    this.#freshSinceMs = seams.clock.now();
    this.#writtenMs = seams.clock.monotonic();
    const once: WatchdogOptions['look'] = async (agent, signal, layers) =>
      (await this.#looker?.once(LOOK_MS, signal, [agent], layers))?.[0];
    this.#dog = new Watchdog(
      {
        ...options,
        id: this.lease.id,
        look: once,
        confirm: async () => !this.#signal.aborted && (dryRun || (await this.#renew())),
      },
      seams,
    );
  }

  async run(): Promise<void> {
    const { options, records, looker } = await this.#begin();
    try {
      const looking = looker.run((health, before) => this.#looked(health, before), this.#signal);
      const renewing = this.#keepLease();
      // Whatever fails of them ends the others, and is told.
      const all = [looking, renewing, this.#rounds(looker, records)].map((one) =>
        one.catch((error: unknown) => {
          this.#lost.abort();
          throw error;
        }),
      );
      const [failed] = (await Promise.allSettled(all)).filter(({ status }) => status === 'rejected');
      if (failed?.status === 'rejected') throw failed.reason;
    } finally {
      await this.#end(records);
      options.log('stopped');
    }
  }

  async once(): Promise<void> {
    const { records, looker } = await this.#begin();
    try {
      const { clock } = this.#seams;
      const over = new AbortController();
      const waited = new Set(
        looker
          .health()
          .filter(isLookedAt)
          .map(({ name }) => name),
      );
      const stop = AbortSignal.any([this.#signal, over.signal]);
      const limit = clock.sleep(ONCE_MS, stop).then(
        () => over.abort(),
        () => {},
      );
      if (waited.size === 0) over.abort();
      const renewing = this.#keepLease();
      await looker.run((health, before) => {
        this.#looked(health, before);
        if (Object.values(health.layers).every(({ last }) => last.atMs >= this.#freshSinceMs))
          waited.delete(health.name);
        if (waited.size === 0) over.abort();
      }, stop);
      await limit;
      throwIfAborted(this.#signal);
      await this.#tellChanges();
      await this.#dog.round(looker.health(), this.#signal, this.#freshSinceMs);
      await this.#dog.settled();
      if (!this.#options.dryRun) await records.write(looker.health(), this.#paceMs);
      this.#lost.abort();
      await renewing;
    } finally {
      await this.#end(records);
    }
  }

  async #begin(): Promise<{ options: WatchOptions; records: Records; looker: Looker }> {
    const options = this.#options;
    const { dryRun, host, pid } = options;
    const looker = await options.looker();
    this.#looker = looker;
    const agents = looker.health().length;
    const message = `watching ${agents} ${agents === 1 ? 'agent' : 'agents'}${dryRun ? ', touching none (dry run)' : ''}`;
    await this.#dog.happened({ kind: 'watch_started', message, evidence: { host, pid, agents } });
    return { options, records: options.records(), looker };
  }

  async #end(records: Records): Promise<void> {
    this.#lost.abort();
    await this.#dog.settled();
    const { host, pid, dryRun } = this.#options;
    const wasLost = !dryRun && !this.lease.isHeld();
    const message = wasLost
      ? 'stopped: the lease is lost (this process stood still, or the store was out of reach)'
      : 'stopped watching';
    try {
      await this.#tellChanges();
      await this.#dog.happened({ kind: 'watch_stopped', message, evidence: { host, pid } });
      if (dryRun || wasLost) return;
      await records.end();
      await this.lease.release();
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      this.#options.log(messageOf(error)); // it expires by itself
    }
  }

  async #rounds(looker: Looker, records: Records): Promise<void> {
    const { clock } = this.#seams;
    const { intervalMs, log } = this.#options;
    const everyMs = Math.max(50, Math.min(ROUND_MAX_MS, intervalMs / 2));
    // Late by so much: this process was stopped, or the host asleep.
    const lateMs = Math.max(2000, intervalMs);
    let problem = '';
    let before = { wall: clock.now(), monotonic: clock.monotonic() };
    while (!this.#signal.aborted) {
      await clock.sleep(everyMs, this.#signal).catch(() => {});
      const now = { wall: clock.now(), monotonic: clock.monotonic() };
      const gap = Math.max(now.monotonic - before.monotonic, Math.abs(now.wall - before.wall)) - everyMs;
      if (gap > lateMs) {
        this.#freshSinceMs = now.wall;
        log(`this process stood still, or the clock jumped, by ${formatDuration(gap)}: it looks anew before it acts`);
      }
      before = now;
      if (this.#signal.aborted || !(await this.#isEntitled())) continue;
      try {
        await this.#tellChanges();
        await this.#dog.round(looker.health(), this.#signal, this.#freshSinceMs);
        await this.#write(looker, records);
        await this.#ping(looker);
        problem = '';
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        if (error.message !== problem) log(`a round failed: ${error.message}`);
        problem = error.message;
      }
      // The time that the round itself took is not a pause of this process.
      const after = { wall: clock.now(), monotonic: clock.monotonic() };
      const tookMs = after.monotonic - now.monotonic;
      if (Math.abs(after.wall - now.wall - tookMs) < lateMs && tookMs < lateMs) before = after;
    }
  }

  async #isEntitled(): Promise<boolean> {
    return this.#options.dryRun || this.lease.isHeld() || (await this.#renew());
  }

  async #keepLease(): Promise<void> {
    const { clock } = this.#seams;
    while (!this.#signal.aborted && !this.#options.dryRun) {
      await clock.sleep(this.#options.leaseMs / 3, this.#signal).catch(() => {});
      if (!this.#signal.aborted) await this.#renew();
    }
  }

  /** What is under way is ended at once when it is lost. */
  async #renew(): Promise<boolean> {
    if (await this.lease.renew()) return true;
    this.#lost.abort();
    return false;
  }

  get #paceMs(): number {
    return Math.min(WRITE_MS.most, Math.max(WRITE_MS.least, this.#options.intervalMs));
  }

  async #write(looker: Looker, records: Records): Promise<void> {
    const { clock } = this.#seams;
    const dueMs = this.#writtenMs + (this.#isNews ? ROUND_MAX_MS : this.#paceMs);
    if (clock.monotonic() < dueMs || this.#options.dryRun) return;
    this.#isNews = false; // what is news while it is written is so for the next time
    try {
      await records.write(looker.health(), this.#paceMs);
    } catch (error) {
      this.#isNews = true;
      throw error;
    }
    this.#writtenMs = clock.monotonic();
  }

  /** Only when what it is there for was done in time: every agent looked at, and the store written. */
  async #ping(looker: Looker): Promise<void> {
    const { service, dryRun, lookedWithinMs } = this.#options;
    const { clock } = this.#seams;
    if (service?.watchdogMs === undefined) return;
    const [nowMs, monotonicMs] = [clock.now(), clock.monotonic()];
    if (monotonicMs - this.#pingedMs < service.watchdogMs / 4) return;
    const healths = looker.health().filter(isLookedAt);
    const late = healths.filter(
      ({ name, lookedMs }) => nowMs - Math.max(lookedMs, this.#freshSinceMs) > lookedWithinMs(name) + LOOK_MS,
    );
    const isWritten = dryRun || monotonicMs - this.#writtenMs <= LATE_WRITES * WRITE_MS.most;
    if (late.length > 0 || !isWritten) return;
    this.#pingedMs = monotonicMs;
    const well = healths.filter(({ state }) => state === 'healthy').length;
    await service.notify('WATCHDOG=1', `STATUS=${well} of ${healths.length} agents healthy`);
  }

  #looked(health: AgentHealth, before: AgentHealth): void {
    const agent = health.name;
    for (const layer of Object.keys(health.layers) as Layer[]) {
      const [now, then] = [health.layers[layer], before.layers[layer]];
      if (now && then && isBad(now) !== isBad(then) && !(isBad(then) && now.status !== 'ok')) {
        const kind = isBad(now) ? 'layer_down' : 'layer_ok';
        const word = isBad(now) ? (now.status === 'unseen' ? 'was never ok' : 'is down') : 'is ok again';
        const evidence = { layer, status: now.status, failures: now.failures, seen: now.last.evidence };
        this.#changes.push({ kind, agent, message: `${layer} ${word}: ${now.last.evidence}`, evidence });
      }
    }
    if (health.state === before.state) return;
    this.#isNews = true;
    const isBeginning = before.state === 'unknown' || before.state === 'starting';
    if (isBeginning && (health.state === 'healthy' || health.state === 'starting')) return;
    const evidence = { state: health.state, before: before.state };
    this.#changes.push({ kind: 'agent_state', agent, message: `${health.state}, was ${before.state}`, evidence });
  }

  async #tellChanges(): Promise<void> {
    const changes = this.#changes;
    this.#changes = [];
    await this.#dog.happened(...changes.slice(0, TOLD_AT_ONCE));
    const rest = changes.slice(TOLD_AT_ONCE);
    for (const kind of new Set(rest.map((one) => one.kind))) {
      const many = rest.filter((one) => one.kind === kind);
      const names = [...new Set(many.map(({ agent }) => agent))];
      const message = `${many.length} more such changes, of ${names.length} agents: ${names.slice(0, 20).join(', ')}`;
      await this.#dog.happened({ kind, message, evidence: { changes: many.length, agents: names.length } });
    }
  }
}

const isLookedAt = ({ layers }: AgentHealth): boolean => Object.keys(layers).length > 0;
