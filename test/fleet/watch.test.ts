import { afterEach, describe, expect, test } from 'vitest';
import type { Clock } from '../../src/clock.ts';
import { breakerPolicy } from '../../src/fleet/breaker-policy.ts';
import { Breakers } from '../../src/fleet/breakers.ts';
import { USUAL_HOLD_MS } from '../../src/fleet/degradation.ts';
import { listEvents } from '../../src/fleet/events.ts';
import type { AgentHealth, LayerStatus } from '../../src/fleet/health.ts';
import { leaseHolder } from '../../src/fleet/lease.ts';
import { memoryStateStore } from '../../src/fleet/memory-store.ts';
import { memoryOf } from '../../src/fleet/quarantine.ts';
import { USUAL_SETTINGS } from '../../src/fleet/rules.ts';
import type { StateStore } from '../../src/fleet/store.ts';
import { LEASE_KEY, watch, watchOnce, type Looker, type WatchOptions } from '../../src/fleet/watch.ts';
import { HoldfastError } from '../../src/errors.ts';
import { seededRandom } from '../crypto/support.ts';
import { health } from './healths.ts';
import { ManualTime, idle } from './manual-clock.ts';

const INTERVAL_MS = 10_000;
const LEASE_MS = 15_000;
const stops: AbortController[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) stop.abort();
  await idle();
});

/** A store, agents that are as the test says, and any number of watchers of them, each a process of its own. */
function fleet({ leaseMs = LEASE_MS } = {}) {
  const time = new ManualTime();
  const outside = time.clock();
  const store = memoryStateStore(outside);
  const agents = new Map<string, LayerStatus>([['a', 'ok']]);
  const ran: string[] = [];
  const looksOf = (clock: Clock) =>
    [...agents].map(([name, live]) => health(name, { live }, clock.now(), { sinceMs: clock.now() - 1000 }));

  function watcher(name: string, over: Partial<WatchOptions> = {}) {
    const clock = time.clock();
    const seams = { clock, random: seededRandom(name) };
    const own: StateStore = { ...store };
    const breakers = new Breakers({
      store: own,
      policyOf: (agent) => breakerPolicy(agent, {}),
      reporter: name,
      ...seams,
    });
    let known: AgentHealth[] = [...agents.keys()].map((agent) =>
      health(agent, { live: 'starting' }, clock.now(), { lookedMs: 0 }),
    );
    const looker: Looker = {
      health: () => known,
      once: async (_deadline, _signal, names) => looksOf(clock).filter((one) => names?.includes(one.name)),
      run: async (looked, signal) => {
        while (!signal.aborted) {
          const before = known;
          known = looksOf(clock);
          known.forEach((one, i) => looked(one, before[i] ?? one));
          await clock.sleep(INTERVAL_MS, signal).catch(() => {});
        }
      },
    };
    const sent: string[] = [];
    const logged: string[] = [];
    const written: number[] = [];
    const stop = new AbortController();
    stops.push(stop);
    const options: WatchOptions = {
      ...{ store: own, breakers, dryRun: false, host: 'here', pid: 1, intervalMs: INTERVAL_MS, leaseMs },
      lookedWithinMs: () => 3 * INTERVAL_MS,
      commandsOf: () => ({ restart: 'restart', canRestore: false }),
      run: async (_command, env) => {
        ran.push(`${name}: ${env['HOLDFAST_AGENT']}`);
        return { exitCode: 0, output: '' };
      },
      tell: async () => [],
      rules: { ...USUAL_SETTINGS, suspect: null },
      degradation: { rules: [], holdMs: USUAL_HOLD_MS },
      looker: async () => looker,
      records: () => ({
        write: async () => void written.push(clock.now()),
        end: async () => void written.push(-1),
      }),
      service: { watchdogMs: 20_000, notify: async (...lines) => void sent.push(...lines) },
      happened: () => {},
      log: (line) => logged.push(line),
      ...over,
    };
    const running = { ...seams, signal: stop.signal };
    return {
      ...{ clock, own, sent, logged, written, stop, looker, options },
      start: () => watch(options, running),
      once: () => watchOnce(options, running),
    };
  }
  const events = async () => (await listEvents(store)).map(({ kind, message }) => `${kind}: ${message}`);
  const holder = () => leaseHolder(store, LEASE_KEY);
  return { time, store, agents, ran, watcher, events, holder };
}

describe('of two watchers of one store', () => {
  test('one acts, and the other stands by', async () => {
    const { time, agents, ran, watcher } = fleet();
    const [one, two] = [watcher('one'), watcher('two', { pid: 2 })];
    void one.start();
    await idle();
    void two.start();
    await time.pass(1000);
    agents.set('a', 'down');
    await time.pass(30_000);
    expect(ran).toEqual(['one: a']);
    expect(two.logged).toEqual(['standing by: process 1 on here watches']);
    expect(two.sent).toContain('READY=1');
  });

  test('one whose store is damaged or gone ends, and does not stand by for ever', async () => {
    const { watcher } = fleet();
    const one = watcher('one');
    one.own.create = async () => {
      throw new HoldfastError('damaged', 'the state store was removed while it was in use');
    };
    await expect(one.start()).rejects.toMatchObject({ code: 'damaged' });
  });

  test('the other takes over when the first ends, at once, and when it is killed, after its lease', async () => {
    const { time, agents, ran, watcher, holder } = fleet();
    const [one, two, three] = [watcher('one'), watcher('two'), watcher('three')];
    void one.start();
    await idle();
    void two.start();
    await time.pass(5000);
    one.stop.abort();
    await time.pass(LEASE_MS);
    expect(two.written.length).toBeGreaterThan(0);
    expect(one.written.at(-1)).toBe(-1);
    void three.start();
    await time.pass(1000);
    time.stop(two.clock); // never to come back
    await time.pass(LEASE_MS + LEASE_MS / 3);
    agents.set('a', 'down');
    await time.pass(15_000);
    expect(ran).toEqual(['three: a']);
    expect(await holder()).not.toBeNull();
  });

  test('one that was frozen while the other took over does nothing any more, and stands by', async () => {
    const { time, agents, ran, watcher } = fleet();
    const [one, two] = [watcher('one'), watcher('two', { pid: 2 })];
    void one.start();
    await idle();
    void two.start();
    await time.pass(1000);
    time.stop(one.clock);
    agents.set('a', 'down');
    await time.pass(60_000);
    expect(ran).toEqual(['two: a']);
    time.goOn(one.clock);
    await time.pass(60_000);
    expect(ran.every((line) => line.startsWith('two'))).toBe(true);
    expect(one.logged).toContain('the lease is lost');
    expect(one.logged.at(-1)).toBe('standing by: process 2 on here watches');
    expect(one.written.filter((at) => at === -1)).toEqual([]); // what is known is the other's to tell
  });

  test('one that is cut off from the store gives up before the other can begin', async () => {
    const { time, agents, ran, watcher } = fleet();
    const [one, two] = [watcher('one'), watcher('two')];
    void one.start();
    await idle();
    void two.start();
    await time.pass(1000);
    const broken = () => Promise.reject(new HoldfastError('busy', 'the store is held', { retryable: true }));
    one.own.update = broken;
    one.own.create = broken;
    agents.set('a', 'down');
    await time.pass(60_000);
    expect(ran.every((line) => line.startsWith('two'))).toBe(true);
    expect(ran.length).toBeGreaterThan(0);
  });
});

test('a watcher that stood still looks anew before it acts', async () => {
  const { time, agents, ran, watcher } = fleet({ leaseMs: 600_000 });
  const one = watcher('one', {
    rules: { ...USUAL_SETTINGS, suspect: null, staleMs: 600_000 },
  });
  void one.start();
  await time.pass(1000);
  const known = one.looker
    .health()
    .map((of) => ({ ...of, layers: health(of.name, { live: 'down' }, 0).layers, state: 'unhealthy' as const }));
  one.looker.health = () => known; // what it saw last; it never gets to look again
  one.looker.once = async () => known;
  time.stop(one.clock);
  await time.pass(300_000);
  time.goOn(one.clock);
  await time.pass(5000);
  expect(one.logged).toEqual([expect.stringMatching(/^this process stood still, or the clock jumped, by 4m 59s/)]);
  expect(ran).toEqual([]);
  expect(agents.get('a')).toBe('ok');
});

/** Looks at `a` a first time, and at nothing after that. */
function looksOnce({ looker, clock }: Pick<ReturnType<ReturnType<typeof fleet>['watcher']>, 'looker' | 'clock'>): void {
  looker.run = async (looked, signal) => {
    const [first] = await looker.once(0, signal, ['a']);
    if (first) looked(first, first);
    looker.health = () => (first ? [first] : []);
    await clock.sleep(10_000_000, signal).catch(() => {});
  };
}

describe('the service manager hears that the watcher is alive', () => {
  const pings = (sent: readonly string[]) => sent.filter((line) => line === 'WATCHDOG=1').length;

  test('while agents are looked at and the store is written; and of start and end', async () => {
    const { time, watcher, store } = fleet();
    const one = watcher('one');
    const running = one.start();
    await time.pass(60_000);
    expect(one.sent[0]).toBe('READY=1');
    expect(one.sent).toContain('STATUS=1 of 1 agents healthy');
    expect(pings(one.sent)).toBeGreaterThanOrEqual(6);
    one.stop.abort();
    await running;
    expect(one.sent).toContain('STOPPING=1');
    expect(await store.get(LEASE_KEY)).toBeUndefined();
  });

  test('not when nobody is looked at any more', async () => {
    const { time, watcher } = fleet();
    const one = watcher('one');
    looksOnce(one);
    void one.start();
    await time.pass(40_000);
    const before = pings(one.sent);
    await time.pass(120_000);
    expect(pings(one.sent)).toBe(before);
  });

  test('also while an agent that is looked at rarely is not looked at', async () => {
    const { time, watcher } = fleet();
    const one = watcher('one', { lookedWithinMs: () => 900_000 });
    looksOnce(one);
    void one.start();
    await time.pass(840_000);
    expect(pings(one.sent)).toBeGreaterThan(100);
    await time.pass(70_000);
    const before = pings(one.sent);
    await time.pass(60_000);
    expect(pings(one.sent)).toBe(before);
  });

  test('not when what is known cannot be written', async () => {
    const { time, watcher } = fleet();
    const one = watcher('one', {
      records: () => ({
        write: () => Promise.reject(new HoldfastError('io', 'the disk is full')),
        end: async () => {},
      }),
    });
    void one.start();
    await time.pass(40_000);
    const before = pings(one.sent);
    await time.pass(120_000);
    expect(pings(one.sent)).toBe(before);
    expect(one.logged).toEqual(['a round failed: the disk is full']); // once
  });
});

test('changes of agents are in the log: what went down, and that it came back; not that all began well', async () => {
  const { time, agents, watcher, events } = fleet();
  agents.set('b', 'ok');
  void watcher('one', { commandsOf: () => ({ canRestore: false }) }).start();
  await time.pass(15_000);
  expect(await events()).toEqual(['watch_started: watching 2 agents']);
  agents.set('b', 'down');
  await time.pass(15_000);
  agents.set('b', 'ok');
  await time.pass(15_000);
  expect((await events()).filter((line) => /^(layer|agent)/.test(line))).toEqual([
    'layer_down: live is down: connection refused',
    'agent_state: unhealthy, was healthy',
    'layer_ok: live is ok again: HTTP 200',
    'agent_state: healthy, was unhealthy',
  ]);
});

test('of very many changes at once a sum is told', async () => {
  const { time, agents, watcher, events } = fleet();
  for (let i = 0; i < 200; i++) agents.set(`n${i}`, 'ok');
  void watcher('one', { dryRun: true, rules: { ...USUAL_SETTINGS, rules: [] } }).start();
  await time.pass(15_000);
  for (let i = 0; i < 200; i++) agents.set(`n${i}`, 'down');
  await time.pass(15_000);
  const lines = await events();
  expect(lines.length).toBeLessThan(60);
  expect(lines.filter((line) => line.includes('more such changes'))).toHaveLength(2);
});

describe('once', () => {
  test('looks, decides, waits for the end of what it does, and leaves the lease', async () => {
    const { time, agents, ran, watcher, store, events } = fleet();
    agents.set('a', 'down');
    const one = watcher('one');
    const running = one.once();
    await time.pass(20_000);
    await running;
    expect(ran).toEqual(['one: a']);
    expect((await events()).map((line) => line.split(':')[0])).toEqual([
      'watch_started',
      'layer_down',
      'agent_state',
      'action',
      'watch_stopped',
    ]);
    expect(await store.get(LEASE_KEY)).toBeUndefined();
    expect((await memoryOf(store, 'a')).memory.rules['dead']?.tries).toBe(1);
  });

  test('is refused while another watches', async () => {
    const { time, watcher } = fleet();
    void watcher('one').start();
    await time.pass(1000);
    await expect(watcher('two').once()).rejects.toMatchObject({ code: 'busy' });
  });
});
