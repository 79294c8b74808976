import { tmpdir } from 'node:os';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { HoldfastError } from '../../src/errors.ts';
import { commandRunner, lastLines, type AgentCommands } from '../../src/fleet/actions.ts';
import { breakerPolicy } from '../../src/fleet/breaker-policy.ts';
import { Breakers } from '../../src/fleet/breakers.ts';
import { usualLevels, USUAL_HOLD_MS } from '../../src/fleet/degradation.ts';
import { listEvents } from '../../src/fleet/events.ts';
import type { Told } from '../../src/fleet/guarded-run.ts';
import type { AgentHealth, LayerStatus } from '../../src/fleet/health.ts';
import { memoryStateStore } from '../../src/fleet/memory-store.ts';
import { ask, memoryOf, quarantines, release, remember } from '../../src/fleet/quarantine.ts';
import { USUAL_SETTINGS, type Evidence } from '../../src/fleet/rules.ts';
import { Watchdog, type WatchdogOptions } from '../../src/fleet/watchdog.ts';
import { seededRandom } from '../crypto/support.ts';
import { health, type HealthOptions } from './healths.ts';
import { MINUTE_MS, START_MS } from './support.ts';

const stops: AbortController[] = [];
afterEach(() => stops.splice(0).forEach((one) => one.abort()));

/** A watchdog over agents that are as the test says, in rounds that the test asks for. Commands are real. */
function kennel(over: Partial<WatchdogOptions> = {}, commands: Record<string, Partial<AgentCommands>> = {}) {
  let nowMs = START_MS;
  const clock = { ...systemClock, now: () => nowMs };
  const seams = { clock, random: seededRandom('dog') };
  const store = memoryStateStore(clock);
  const breakers = new Breakers({ store, policyOf: (name) => breakerPolicy(name, {}), reporter: 'dog', ...seams });
  const agents = new Map<string, [LayerStatus, HealthOptions]>();
  const looks: string[] = [];
  const told: Told[] = [];
  const ran: string[] = [];
  const really = commandRunner(
    { folder: tmpdir(), env: { PATH: process.env['PATH'] }, timeoutMs: 60_000 },
    systemClock,
  );
  const kept = {
    store,
    breakers,
    commandsOf: (name: string): AgentCommands => ({ canRestore: false, restart: 'exit 0', ...commands[name] }),
    run: async (...args: Parameters<typeof really>) => {
      ran.push(`${args[1]['HOLDFAST_AGENT'] ?? `level ${args[1]['HOLDFAST_LEVEL']}`}: ${args[0]}`);
      return really(...args);
    },
    tell: async (event: Told) => {
      told.push(event);
      return [];
    },
    rules: { ...USUAL_SETTINGS, maxTouched: 1, suspect: null },
    degradation: { rules: [], holdMs: USUAL_HOLD_MS },
    confirm: async () => true,
    dryRun: false,
  };
  const healths = (): AgentHealth[] =>
    [...agents].map(([name, [live, options]]) =>
      health(name, { live }, nowMs, { sinceMs: nowMs - 60_000, ...options }),
    );
  const dog = (more: Partial<WatchdogOptions> = {}, id = 'one') => {
    const stop = new AbortController();
    stops.push(stop);
    const watchdog = new Watchdog(
      {
        ...kept,
        id,
        look: async (name) => {
          looks.push(name);
          return healths().find((one) => one.name === name);
        },
        ...over,
        ...more,
      },
      seams,
    );
    const round = async (freshSinceMs?: number) => {
      await watchdog.round(healths(), stop.signal, freshSinceMs);
      await watchdog.settled();
    };
    return { watchdog, round, stop, begin: () => watchdog.round(healths(), stop.signal) };
  };
  return {
    ...{ store, breakers, looks, told, ran, dog, clock, seams },
    /** As of a watcher that is killed: what it runs goes on, and it hears of no end. */
    deaf: async (...args: Parameters<typeof really>) => (void kept.run(...args), new Promise<never>(() => {})),
    later: (ms: number) => void (nowMs += ms),
    set: (name: string, live: LayerStatus, options: HealthOptions = {}) => void agents.set(name, [live, options]),
    events: async () =>
      (await listEvents(store)).map(({ kind, agent, message }) => `${kind} ${agent ?? '-'} ${message}`),
    evidence: async (kind: string): Promise<Evidence[]> =>
      (await listEvents(store)).filter((one) => one.kind === kind).map(({ evidence = {} }) => evidence),
    memory: async (name: string) => (await memoryOf(store, name)).memory,
  };
}

describe('an action', () => {
  test('is a command with its agent, rule and reason; its exit code and last lines are evidence', async () => {
    const { dog, set, evidence, memory } = kennel(
      {},
      { a: { restart: 'echo "for $HOLDFAST_AGENT by $HOLDFAST_RULE: $HOLDFAST_REASON"; echo token=hush; exit 3' } },
    );
    set('a', 'down');
    await dog().round();
    const [found] = await evidence('action');
    expect(found).toMatchObject({
      rule: 'dead',
      try: 1,
      'restart.ok': false,
      'restart.exitCode': 3,
      layer: 'live',
      seen: 'connection refused',
    });
    expect(found?.['restart.output']).toBe('for a by dead: live is down for 1m: connection refused / token=***');
    expect(await memory('a')).toMatchObject({ rules: { dead: { tries: 1 } } });
    expect((await memory('a')).underWay).toBeUndefined();
  });

  test('whose command has a secret in it does not tell it', async () => {
    const { dog, set, evidence } = kennel({}, { a: { restart: 'true "Authorization: Bearer abc"' } });
    set('a', 'down');
    await dog().round();
    expect((await evidence('action'))[0]?.['restart.command']).toBe('true "Authorization: Bearer ***"');
  });

  test('that hangs is killed with all it started when its time is over', async () => {
    const { dog, set, evidence } = kennel(
      {
        run: commandRunner({ folder: tmpdir(), env: { PATH: process.env['PATH'] }, timeoutMs: 200 }, systemClock),
      },
      { a: { restart: 'sleep 1000 & echo started; sleep 1000' } },
    );
    set('a', 'down');
    await dog().round();
    const [found] = await evidence('action');
    expect(found).toMatchObject({ 'restart.ok': false, 'restart.output': 'started' });
    expect(String(found?.['restart.problem'])).toContain('was not done after 0.2 s');
  });

  test('is not done to an agent that is well when looked at once more, which is told once', async () => {
    const { dog, set, looks, ran, events, later } = kennel({
      look: async (name) => health(name, { live: 'ok' }, START_MS),
    });
    set('a', 'down', { lookedMs: START_MS });
    const one = dog();
    await one.round();
    await one.round();
    later(1000);
    set('a', 'down', { lookedMs: START_MS + 1000 });
    await one.round();
    expect([looks, ran]).toEqual([[], []]);
    expect(await events()).toEqual([
      expect.stringContaining('action_held a dead did not act: it was well when looked at once more'),
    ]);
  });

  test('on an agent that cannot be looked at just before is not done either', async () => {
    const { dog, set, ran } = kennel({ look: async () => undefined });
    set('a', 'down');
    await dog().round();
    expect(ran).toEqual([]);
  });

  test('of which the first part fails ends there', async () => {
    const rule = {
      name: 'both',
      when: [{ kind: 'down', layer: 'live', forMs: 0 }],
      actions: ['restart', 'quarantine'],
      coolDownMs: 1,
      tries: 1,
      escalate: [],
    } as const;
    const { dog, set, store } = kennel({ rules: { ...USUAL_SETTINGS, rules: [rule] } }, { a: { restart: 'exit 1' } });
    set('a', 'down');
    await dog().round();
    expect((await quarantines(store)).size).toBe(0);
  });
});

describe('what keeps it from doing harm', () => {
  test('the cap holds while actions are under way and until agents are well again', async () => {
    const { dog, set, ran, later, events } = kennel({ rules: { ...USUAL_SETTINGS, suspect: null } });
    for (let i = 0; i < 10; i++) set(`a${i}`, i < 5 ? 'down' : 'ok');
    const one = dog();
    await one.round();
    await one.round();
    expect(ran.map((line) => line.slice(0, 2))).toEqual(['a0', 'a1']);
    expect((await events()).filter((line) => line.includes('enough other agents'))).toHaveLength(3); // told once
    later(10_000);
    set('a0', 'ok');
    await one.round();
    expect(ran.map((line) => line.slice(0, 2))).toEqual(['a0', 'a1', 'a2']);
    later(USUAL_SETTINGS.settleMs); // a1 and a2 had their time
    await one.round();
    expect(ran.map((line) => line.slice(0, 2)).slice(3)).toEqual(['a1', 'a2']);
  });

  test('when most of the fleet goes down at once nothing is done, and a person is told once', async () => {
    const { dog, set, ran, told, events, later } = kennel({ rules: USUAL_SETTINGS });
    for (let i = 0; i < 4; i++) set(`a${i}`, i < 3 ? 'down' : 'ok');
    const one = dog();
    await one.round();
    later(10_000);
    await one.round();
    expect(ran).toEqual([]);
    expect(told.map(({ message }) => message)).toEqual([
      expect.stringContaining("3 of 4 agents went down at once: is it the watcher's network?"),
    ]);
    expect(await events()).toHaveLength(1);
  });

  test('a process that stood still acts on nothing that it saw before', async () => {
    const { dog, set, ran } = kennel();
    set('a', 'down', { lookedMs: START_MS - 10 });
    const one = dog();
    await one.round(START_MS);
    expect(ran).toEqual([]);
    set('a', 'down', { lookedMs: START_MS });
    await one.round(START_MS);
    expect(ran).toEqual(['a: exit 0']);
  });

  test('one that may not be the watcher any more begins nothing, and ends what it has begun', async () => {
    let isMine = false;
    const { dog, set, ran, memory, events } = kennel(
      { confirm: async () => isMine },
      { a: { restart: 'echo there; sleep 1000' } },
    );
    set('a', 'down');
    const one = dog();
    await one.round();
    expect([ran, await memory('a')]).toEqual([[], { rules: {} }]);
    isMine = true;
    await one.begin();
    while (ran.length === 0) await systemClock.sleep(5);
    one.stop.abort();
    await one.watchdog.settled();
    expect((await events()).at(-1)).toContain('it failed: was interrupted');
  });

  test('in quarantine nothing is done, the breaker is forced open, and both end with its release', async () => {
    const { dog, set, ran, breakers, store, clock, later } = kennel();
    set('a', 'down');
    await ask({ store, clock }, 'a', 'quarantine', 'looks odd');
    const one = dog();
    await one.round();
    const before = ran.length;
    later(10 * MINUTE_MS);
    await one.round();
    expect(ran).toHaveLength(before);
    expect((await breakers.look('a')).state).toMatchObject({
      kind: 'forced-open',
      reason: expect.stringContaining('looks odd'),
    });
    await release({ store, breakers, clock }, 'a');
    expect((await breakers.look('a')).state.kind).toBe('closed');
    later(10 * MINUTE_MS);
    await one.round();
    expect(ran.length).toBeGreaterThan(before);
    await expect(release({ store, breakers, clock }, 'a')).rejects.toMatchObject({ code: 'not_found' });
  });
});

test('a breaker that cannot be read keeps no other agent from being helped, and counts as one that refuses', async () => {
  const { dog, set, ran, store } = kennel({ degradation: { rules: usualLevels(), holdMs: USUAL_HOLD_MS } });
  await store.create('breaker.b', 'rubbish');
  set('a', 'down');
  set('b', 'ok');
  await dog().round();
  expect(ran).toEqual(['a: exit 0']);
  expect(JSON.parse((await store.get('level'))?.value ?? '{}')).toMatchObject({ level: 1 });
});

describe('what was decided is written before it is done', () => {
  test('an action that was under way when its watcher was killed counts as a try and is not repeated at once', async () => {
    const { dog, set, ran, later, events, memory } = kennel({}, { a: { restart: 'sleep 1000' } });
    set('a', 'down');
    const run = async () => (ran.push('a: sleep 1000'), new Promise<never>(() => {}));
    await dog({ run }).begin(); // and is never heard of again
    while (ran.length === 0) await systemClock.sleep(5);
    expect((await memory('a')).underWay).toMatchObject({ rule: 'dead', by: 'one' });
    const other = dog({}, 'other');
    later(1000);
    await other.round();
    await other.round();
    expect(ran).toHaveLength(1);
    expect(
      (await events()).filter((line) => line.includes('it counts as a try, and is not simply repeated')),
    ).toHaveLength(1);
    expect((await memory('a')).rules['dead']?.tries).toBe(1);
    later(5 * MINUTE_MS);
    await other.begin();
    while (ran.length === 1) await systemClock.sleep(5);
    expect((await memory('a')).rules['dead']?.tries).toBe(2);
  });

  test('a command that outlives its killed watcher is waited for, and then it goes on', async () => {
    const { dog, set, ran, later, events, memory, store, clock, deaf } = kennel({}, { a: { restart: 'sleep 1000' } });
    set('a', 'down');
    await dog({ run: deaf }).begin();
    const { pid } = await vi.waitUntil(async () => (await memory('a')).underWay?.command);
    const other = dog({}, 'other');
    later(10_000);
    await ask({ store, clock }, 'a', 'restart', 'somebody wants it');
    await other.round();
    await other.round();
    expect(ran).toHaveLength(1);
    expect((await events()).filter((line) => line.includes('outlived its watcher'))).toEqual([
      `action a restart by rule dead outlived its watcher (process ${pid}): nothing else is done to the agent until it has ended`,
    ]);
    expect(await memory('a')).toMatchObject({ underWay: { by: 'one' } });
    process.kill(-pid, 'SIGKILL');
    await vi.waitUntil(async () => {
      await other.begin();
      return (await memory('a')).underWay?.by !== 'one';
    });
    expect((await events()).join('\n')).toContain('restart by rule dead was under way when its watcher ended');
    // What was asked for meanwhile is not lost.
    await vi.waitUntil(async () => {
      await other.begin();
      return ran.length === 2;
    });
    other.stop.abort();
  });

  test('… no longer than it may take: then it is ended, with all it started', async () => {
    const { dog, set, ran, later, events, memory, deaf } = kennel({}, { a: { restart: 'sleep 1000 & sleep 1000' } });
    set('a', 'down');
    await dog({ run: deaf }).begin();
    const { pid } = await vi.waitUntil(async () => (await memory('a')).underWay?.command);
    const other = dog({}, 'other');
    later(60_000);
    await other.round();
    expect(() => process.kill(-pid, 0)).toThrow('ESRCH');
    await other.round();
    expect(ran).toHaveLength(1);
    expect((await memory('a')).underWay).toBeUndefined();
    const lines = (await events()).filter((line) => line.startsWith('action a restart by rule dead'));
    expect(lines).toEqual([
      expect.stringContaining('not done after 1m, it is ended'),
      expect.stringContaining('it counts as a try, and is not simply repeated'),
    ]);
  });

  test('a command that cannot be written down is not begun', async () => {
    const { dog, set, store, evidence } = kennel({}, { a: { restart: 'echo ran; cat' } });
    set('a', 'down');
    const { update } = store;
    store.update = async (key, value, ...rest) => {
      if (value.includes('"pid"')) throw new HoldfastError('busy', 'the store is held');
      return update.call(store, key, value, ...rest);
    };
    await dog().round();
    expect(await evidence('action')).toEqual([
      expect.objectContaining({ 'restart.ok': false, 'restart.problem': 'was not begun: the store is held' }),
    ]);
    expect((await evidence('action'))[0]).not.toHaveProperty('restart.output');
  });

  test('after a restore that was cut off the state is put in its place first', async () => {
    const { dog, set, events, memory, store, seams } = kennel({}, { a: { canRestore: true } });
    set('a', 'down');
    const underWay = { rule: 'corrupted', actions: ['restore_state' as const], sinceMs: START_MS, by: 'one' };
    await remember(store, 'a', { rules: {}, underWay }, 0);
    const putStateBack = vi.fn<() => Promise<Evidence>>(async () => ({
      done: 'its state is in its place again',
      exitCode: 0,
    }));
    await dog({ putStateBack, confirm: async () => false }, 'other').round();
    expect(putStateBack).not.toHaveBeenCalled(); // not by a watcher that may not
    await dog({ putStateBack }, 'other').round();
    expect(putStateBack).toHaveBeenCalledOnce();
    expect((await events()).join('\n')).toContain(
      'restore_state by rule corrupted was under way when its watcher ended: it counts as a try, and is not simply repeated; its state is in its place again',
    );
    expect(await memory('a')).toMatchObject({ touchedMs: seams.clock.now() });
  });

  test('of two watchdogs that both believe to be the one, one acts', async () => {
    const { dog, set, ran } = kennel();
    set('a', 'down');
    await Promise.all([dog({}, 'x').round(), dog({}, 'y').round()]);
    expect(ran).toEqual(['a: exit 0']);
  });

  test('a store that fails while an action is written leaves nothing done', async () => {
    const { dog, set, ran, store } = kennel();
    set('a', 'down');
    const one = dog();
    const { create } = store;
    store.create = async (key, ...rest) => (key.startsWith('acts.') ? undefined : create.call(store, key, ...rest));
    await one.round();
    expect(ran).toEqual([]);
  });
});

test('after its tries a person is told, then the rule is through with the agent', async () => {
  const { dog, set, ran, told, later, events } = kennel();
  const one = dog();
  for (let minute = 0; minute < 20; minute++) {
    set('a', 'down');
    await one.round();
    later(MINUTE_MS);
  }
  expect(ran).toHaveLength(3);
  expect(told.map(({ message }) => message)).toEqual([
    expect.stringMatching(/^agent a, rule dead: live is down .*tried 3 times in vain/),
  ]);
  expect((await events()).filter((line) => line.startsWith('escalated'))).toHaveLength(1);
});

test('scaling goes up by one replica at a time, to the most there may be', async () => {
  const { dog, set, evidence, later, told } = kennel(
    {},
    { a: { scale: { command: 'echo "$HOLDFAST_REPLICAS"', max: 3 } } },
  );
  const one = dog();
  for (let i = 0; i < 5; i++) {
    set('a', 'ok', { stats: { queueDepth: 99 } });
    await one.round();
    later(5 * MINUTE_MS);
  }
  expect((await evidence('action')).map((found) => found['scale.output'])).toEqual(['2', '3']);
  expect(told.map(({ message }) => message)).toEqual([expect.stringContaining('it has 3 replicas already')]);
});

test('an error rate opens the breaker and tells a person', async () => {
  const { dog, set, breakers, told } = kennel();
  set('a', 'ok', { stats: { errorRate: 0.5 } });
  await dog().round();
  expect((await breakers.look('a')).state).toMatchObject({
    kind: 'open',
    lastError: 'errors: the error rate is 50 %, more than 20 %',
  });
  expect(told).toHaveLength(1);
});

test('an action that is asked for is done once, whatever the rules say', async () => {
  const { dog, set, ran, store, clock, events } = kennel();
  set('a', 'ok');
  await ask({ store, clock }, 'a', 'restart', 'new version');
  const one = dog();
  await one.round();
  await one.round();
  expect(ran).toEqual(['a: exit 0']);
  expect(await events()).toEqual(['action a asked: restart (new version)']);
});

test('a dry run decides and tells as usual, and touches nothing', async () => {
  const rules = [...usualLevels().map((rule) => ({ ...rule, enter: 'exit 0' }))];
  const { dog, set, ran, told, store, breakers, events, later } = kennel({
    dryRun: true,
    degradation: { rules, holdMs: USUAL_HOLD_MS },
  });
  set('a', 'down', { critical: true });
  set('b', 'ok', { stats: { errorRate: 0.5 } });
  const one = dog();
  for (let minute = 0; minute < 30; minute++) {
    await one.round();
    later(MINUTE_MS);
  }
  expect([ran, told]).toEqual([[], []]);
  expect((await breakers.look('b')).state.kind).toBe('closed');
  const keys = (await store.list('')).map(({ key }) => key.split('.')[0]);
  expect([...new Set(keys)]).toEqual(['events']);
  const lines = await events();
  expect(lines.filter((line) => line.includes('would do: restart'))).toHaveLength(3);
  expect(lines.filter((line) => line.startsWith('level'))).toContain('level - would run the command to enter level 3');
  expect((await listEvents(store)).every(({ dryRun }) => dryRun)).toBe(true);
});

describe('behaviours of a level', () => {
  const rules = usualLevels().map((rule) => ({
    ...rule,
    enter: `echo enter ${rule.level}`,
    leave: `echo leave ${rule.level}`,
  }));
  const degradation = { rules, holdMs: USUAL_HOLD_MS };

  test('run once for each change, in their order, and a person is told of a higher level', async () => {
    const { dog, set, ran, told, later } = kennel({ degradation }, { a: { restart: undefined } });
    set('a', 'down', { critical: true });
    const one = dog();
    await one.round();
    await one.round();
    expect(ran).toEqual(['level 3: echo enter 1', 'level 3: echo enter 2', 'level 3: echo enter 3']);
    expect(told.filter(({ kind }) => kind === 'level')).toHaveLength(1);
    set('a', 'ok', { critical: true });
    for (let minute = 0; minute <= 15; minute++) {
      await one.round();
      later(MINUTE_MS);
    }
    expect(ran.slice(3)).toEqual(['level 2: echo leave 3', 'level 1: echo leave 2', 'level 0: echo leave 1']);
  });

  test('one that was under way when its watcher was killed is not run again, the others are', async () => {
    const slow = {
      rules: rules.map((rule) => (rule.level === 1 ? { ...rule, enter: 'sleep 1000' } : rule)),
      holdMs: USUAL_HOLD_MS,
    };
    const { dog, set, ran, events } = kennel({}, { a: { restart: undefined } });
    set('a', 'down', { critical: true });
    await dog({ degradation: slow }).begin();
    while (ran.length === 0) await systemClock.sleep(5);
    await dog({ degradation }, 'other').round();
    expect(ran).toEqual(['level 3: sleep 1000', 'level 3: echo enter 2', 'level 3: echo enter 3']);
    expect(await events()).toContainEqual(
      expect.stringContaining('enter level 1 was under way when its watcher ended: it is not run again'),
    );
  });

  test('one that fails is told', async () => {
    const broken = {
      rules: rules.map((rule) => ({ ...rule, enter: 'echo no such thing; exit 7' })),
      holdMs: USUAL_HOLD_MS,
    };
    const { dog, set, told } = kennel({ degradation: broken }, { a: { restart: undefined } });
    set('a', 'down', { sinceMs: START_MS - 6 * MINUTE_MS });
    set('b', 'ok');
    set('c', 'ok');
    await dog().round();
    expect(told.map(({ message, exitCode }) => [message, exitCode])).toContainEqual([
      'the command to enter level 1 ended with exit code 7: no such thing',
      7,
    ]);
    // That the level was entered is no command, and no run.
    expect(told.map(({ message, exitCode }) => [message, exitCode])).toContainEqual([
      expect.stringContaining('level 1 (reduced)'),
      undefined,
    ]);
  });
});

test('of what commands print the last lines are kept, and no secrets', () => {
  expect(lastLines('1\n2\n3\n4\n')).toBe('2 / 3 / 4');
  expect(lastLines('https://me:pw@host/x\nAuthorization: Bearer abc\npassword = "hush", ok')).toBe(
    '***@host/x / Authorization: Bearer *** / password = "***", ok',
  );
  expect(lastLines('\u001B[31mred')).toBe(' [31mred'.trim());
  expect(lastLines('AGE-SECRET-KEY-1ABC')).toBe('***');
  expect(lastLines('a\u009B31m\u202Eb')).toBe('a 31m b');
});

test('what an agent says of itself cannot keep its restart from being run', async () => {
  const run = commandRunner({ folder: tmpdir(), env: {}, timeoutMs: 60_000 }, systemClock);
  const reason = 'HTTP 503: a\0b $(touch /tmp/no) ; exit 9';
  expect(await run('echo "$HOLDFAST_REASON"', { HOLDFAST_REASON: reason }, undefined)).toEqual({
    exitCode: 0,
    problem: undefined,
    output: reason.replace('\0', ' '),
  });
});
