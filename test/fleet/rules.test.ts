import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { doable } from '../../src/fleet/actions.ts';
import type { AgentHealth } from '../../src/fleet/health.ts';
import {
  ACTIONS,
  begun,
  decide,
  ended,
  isStillDue,
  NO_MEMORY,
  USUAL_RULES,
  USUAL_SETTINGS,
  type Action,
  type AgentMemory,
  type Decision,
  type RuledAgent,
  type RuleSettings,
} from '../../src/fleet/rules.ts';
import { health } from './healths.ts';
import { MINUTE_MS, START_MS } from './support.ts';

const NOW = START_MS;
const ALL = new Set<Action>(ACTIONS);
/** One agent of a fleet of one: the share that may be touched does not matter. */
const settings: RuleSettings = { ...USUAL_SETTINGS, suspect: null };

function agent(of: AgentHealth, memory: AgentMemory = NO_MEMORY, more: Partial<RuledAgent> = {}): RuledAgent {
  return { health: of, memory, quarantine: null, can: ALL, maxReplicas: 3, ...more };
}

const said = ({ decisions }: { decisions: Decision[] }) =>
  decisions.map(
    (one) =>
      `${one.agent} ${one.rule}: ${one.type === 'held' ? `held, ${one.why}` : `${one.type} ${one.actions.join('+')}`}`,
  );

describe('each rule acts on what it is for', () => {
  const rows: [string, AgentHealth, string[]][] = [
    ['a well agent', health('a', { live: 'ok', ready: 'ok', progress: 'ok' }, NOW), []],
    ['a dead one', health('a', { live: 'down' }, NOW), ['a dead: act restart']],
    ['one that was never seen', health('a', { live: 'unseen' }, NOW), ['a dead: act restart']],
    ['one that starts', health('a', { live: 'starting' }, NOW), []],
    ['one that failed once', health('a', { live: 'failing' }, NOW), []],
    ['one that comes back', health('a', { live: 'recovering' }, NOW), []],
    ['one that is not ready', health('a', { live: 'ok', ready: 'down' }, NOW), []],
    [
      'one without progress for 14 minutes',
      health('a', { live: 'ok', progress: 'down' }, NOW, { sinceMs: NOW - 14 * MINUTE_MS }),
      [],
    ],
    [
      '… for 15',
      health('a', { live: 'ok', progress: 'down' }, NOW, { sinceMs: NOW - 15 * MINUTE_MS }),
      ['a stuck: act restart'],
    ],
    [
      '… as the age of its file tells',
      health('a', { live: 'ok', progress: 'down' }, NOW, { sinceMs: NOW - MINUTE_MS, values: { progress: 15 * 60 } }),
      ['a stuck: act restart'],
    ],
    [
      'one with a task and no activity',
      health('a', { live: 'ok' }, NOW, { stats: { tasksInProgress: 1, lastActivityMs: NOW - 15 * MINUTE_MS } }),
      ['a stuck: act restart'],
    ],
    [
      'one without a task and without activity',
      health('a', { live: 'ok' }, NOW, { stats: { tasksInProgress: 0, lastActivityMs: NOW - 60 * MINUTE_MS } }),
      [],
    ],
    ['ten tasks in the queue', health('a', { live: 'ok' }, NOW, { stats: { queueDepth: 10 } }), []],
    ['eleven', health('a', { live: 'ok' }, NOW, { stats: { queueDepth: 11 } }), ['a queue: act scale']],
    ['eleven, told by a dead one', health('a', { live: 'failing' }, NOW, { stats: { queueDepth: 11 } }), []],
    ['an error rate of 20 %', health('a', { live: 'ok' }, NOW, { stats: { errorRate: 0.2 } }), []],
    [
      'of 21 %',
      health('a', { live: 'ok' }, NOW, { stats: { errorRate: 0.21 } }),
      ['a errors: act open_breaker+notify'],
    ],
    [
      'a dead one, seen too long ago',
      health('a', { live: 'down' }, NOW, { lookedMs: NOW - 2 * MINUTE_MS }),
      ['a dead: held, stale'],
    ],
  ];
  test.each(rows)('%s', (_what, of, expected) => {
    expect(said(decide([agent(of)], settings, NOW))).toEqual(expected);
  });

  test('a dead one in quarantine is left alone', () => {
    const one = agent(health('a', { live: 'down' }, NOW), NO_MEMORY, { quarantine: { sinceMs: NOW, reason: 'x' } });
    expect(said(decide([one], settings, NOW))).toEqual(['a dead: held, quarantine']);
  });

  test('what the config has no command for is told to a person, once', () => {
    const one = agent(health('a', { live: 'down' }, NOW), NO_MEMORY, { can: doable({ canRestore: false }) });
    const { decisions } = decide([one], settings, NOW);
    expect(decisions).toMatchObject([
      { type: 'escalate', actions: ['notify'], evidence: { why: expect.stringContaining('restart') } },
    ]);
    const [decision] = decisions;
    if (decision?.type !== 'escalate') throw new Error('no escalation');
    const after = ended(begun(NO_MEMORY, decision, 'w', NOW), NOW);
    expect(said(decide([{ ...one, memory: after }], settings, NOW + 10 * MINUTE_MS))).toEqual([]);
  });

  test('a number has to be over its limit for as long as the rule says', () => {
    const rule = {
      ...(USUAL_RULES[2] as (typeof USUAL_RULES)[number]),
      when: [{ kind: 'over', what: 'queue', limit: 10, forMs: MINUTE_MS }] as const,
    };
    const slow = { ...settings, rules: [rule] };
    const at = (nowMs: number, depth: number) => health('a', { live: 'ok' }, nowMs, { stats: { queueDepth: depth } });
    const first = decide([agent(at(NOW, 11))], slow, NOW);
    expect(said(first)).toEqual([]);
    const memory = first.memories.get('a');
    expect(said(decide([agent(at(NOW + MINUTE_MS, 11), memory)], slow, NOW + MINUTE_MS))).toEqual([
      'a queue: act scale',
    ]);
    const dropped = decide([agent(at(NOW + 30_000, 3), memory)], slow, NOW + 30_000).memories.get('a');
    const again = decide([agent(at(NOW + MINUTE_MS, 11), dropped)], slow, NOW + MINUTE_MS);
    expect(said(again)).toEqual([]);
  });

  test('one that has all its replicas is not scaled, but told', () => {
    const busy = health('a', { live: 'ok' }, NOW, { stats: { queueDepth: 50 } });
    expect(said(decide([agent(busy, { rules: {}, replicas: 2 })], settings, NOW))).toEqual(['a queue: act scale']);
    expect(said(decide([agent(busy, { rules: {}, replicas: 3 })], settings, NOW))).toEqual([
      'a queue: escalate notify',
    ]);
  });
});

describe('a look just before the act', () => {
  const dead = USUAL_RULES[0] as (typeof USUAL_RULES)[number];
  const corrupted = USUAL_RULES.find(({ name }) => name === 'corrupted') as (typeof USUAL_RULES)[number];
  test('says whether the reason is still there', () => {
    expect(isStillDue(health('a', { live: 'down' }, NOW), dead, settings)).toBe(true);
    expect(isStillDue(health('a', { live: 'ok' }, NOW), dead, settings)).toBe(false);
    expect(isStillDue(health('a', { live: 'down' }, NOW), corrupted, settings)).toBe(true);
    expect(isStillDue(health('a', { live: 'ok', progress: 'ok' }, NOW), corrupted, settings)).toBe(false);
  });
});

describe('many down at once', () => {
  const fleet = (down: number, apartMs = 0) =>
    Array.from({ length: 10 }, (_, i) =>
      agent(health(`a${i}`, { live: i < down ? 'down' : 'ok' }, NOW, { sinceMs: NOW - 60 * MINUTE_MS + i * apartMs })),
    );
  const watched: RuleSettings = { ...USUAL_SETTINGS, maxTouched: 1 };

  test('more than half: nothing is touched, for it may be the watcher', () => {
    const { decisions, suspect } = decide(fleet(6), watched, NOW);
    expect(suspect).toHaveLength(6);
    expect(decisions.map((one) => one.type === 'held' && one.why)).toEqual(Array(6).fill('watcher'));
  });

  test('half of them, or one after the other: they are what is broken', () => {
    expect(said(decide(fleet(5), watched, NOW)).every((one) => one.endsWith('act restart'))).toBe(true);
    expect(said(decide(fleet(6, 5 * MINUTE_MS), watched, NOW))).toHaveLength(6);
    expect(decide(fleet(6, 5 * MINUTE_MS), watched, NOW).suspect).toEqual([]);
  });

  test('in a fleet of two it is no sign of anything', () => {
    const two = fleet(2).slice(0, 2);
    expect(decide(two, watched, NOW).suspect).toEqual([]);
  });

  test('those that only begin to fail count, too: the first that is down is not touched', () => {
    const all = fleet(0).map((one, i) =>
      agent(
        health(one.health.name, { live: i === 0 ? 'down' : i < 7 ? 'failing' : 'ok' }, NOW, { sinceMs: NOW - 20_000 }),
      ),
    );
    expect(said(decide(all, watched, NOW))).toEqual(['a0 dead: held, watcher']);
  });
});

/** A fleet that is played through: what it is told to do is done at once, and does nothing. */
class Played {
  readonly memories = new Map<string, AgentMemory>();
  readonly acts: { atMs: number; agent: string; rule: string; type: string; actions: readonly Action[] }[] = [];
  readonly settings: RuleSettings;

  constructor(of: RuleSettings) {
    this.settings = of;
  }

  round(healths: readonly AgentHealth[], nowMs: number): void {
    const agents = healths.map((one) => agent(one, this.memories.get(one.name) ?? NO_MEMORY));
    const { decisions, memories } = decide(agents, this.settings, nowMs);
    for (const [name, memory] of memories) this.memories.set(name, memory);
    for (const one of decisions) {
      if (one.type === 'held') continue;
      const before = this.memories.get(one.agent) ?? NO_MEMORY;
      this.memories.set(one.agent, ended(begun(before, one, 'w', nowMs), nowMs));
      this.acts.push({ atMs: nowMs, agent: one.agent, rule: one.rule, type: one.type, actions: one.actions });
    }
  }
}

describe('over time', () => {
  test('an agent that stays dead: three restarts, a person, its state restored, quarantine; then nothing more', () => {
    const played = new Played(settings);
    for (let minute = 0; minute < 120; minute++) {
      const nowMs = NOW + minute * MINUTE_MS;
      played.round([health('a', { live: 'down' }, nowMs, { sinceMs: NOW - MINUTE_MS })], nowMs);
    }
    expect(played.acts.map(({ rule, type, actions }) => `${rule} ${type} ${actions.join('+')}`)).toEqual([
      'dead act restart',
      'dead act restart',
      'dead act restart',
      'dead escalate notify',
      'corrupted act restore_state',
      'corrupted escalate notify',
      'quarantine act quarantine+notify',
    ]);
    const restarts = played.acts.filter(({ actions }) => actions.includes('restart')).map(({ atMs }) => atMs);
    const gaps = restarts.slice(1).map((atMs, i) => atMs - (restarts[i] ?? 0));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(2 * MINUTE_MS);
  });

  test('tries are forgotten when it was well for half an hour, and not before', () => {
    const played = new Played(settings);
    const at = (minute: number, status: 'ok' | 'down') => {
      const nowMs = NOW + minute * MINUTE_MS;
      played.round([health('a', { live: status }, nowMs, { sinceMs: nowMs })], nowMs);
    };
    at(0, 'down');
    at(1, 'ok');
    at(30, 'ok');
    expect(played.memories.get('a')?.rules['dead']?.tries).toBe(1);
    at(31, 'ok');
    expect(played.memories.get('a')?.rules['dead']).toBeUndefined();
  });

  const status = fc.constantFrom('ok', 'failing', 'down', 'unseen', 'recovering', 'starting');
  const looks = fc.record({
    live: status,
    progress: fc.option(status, { nil: undefined }),
    queueDepth: fc.integer({ min: 0, max: 20 }),
    errorRate: fc.double({ min: 0, max: 1, noNaN: true }),
    ageMs: fc.constantFrom(0, 5 * MINUTE_MS, 60 * MINUTE_MS),
    lateMs: fc.constantFrom(0, 0, 0, 5 * MINUTE_MS),
  });
  const story = fc.integer({ min: 1, max: 12 }).chain((size) =>
    fc.record({
      maxTouched: fc.constantFrom(0, 0.2, 0.5),
      rounds: fc.array(
        fc.record({
          passedMs: fc.constantFrom(1000, 30_000, 3 * MINUTE_MS, 40 * MINUTE_MS),
          agents: fc.array(looks, { minLength: size, maxLength: size }),
        }),
        { minLength: 1, maxLength: 25 },
      ),
    }),
  );

  test('whatever happens: no well agent is touched, never too many at once, no rule more often than it may', () => {
    fc.assert(
      fc.property(story, ({ maxTouched, rounds }) => {
        const played = new Played({ ...USUAL_SETTINGS, maxTouched });
        let nowMs = NOW;
        for (const { passedMs, agents } of rounds) {
          nowMs += passedMs;
          const healths = agents.map(({ live, progress, queueDepth, errorRate, ageMs, lateMs }, i) =>
            health(`a${i}`, { live, ...(progress && { progress }) }, nowMs, {
              ...{ sinceMs: nowMs - ageMs, lookedMs: nowMs - lateMs, stats: { queueDepth, errorRate } },
            }),
          );
          const before = played.acts.length;
          played.round(healths, nowMs);
          const touching = played.acts.slice(before).filter(({ actions }) => actions.some((one) => one !== 'notify'));
          for (const { agent: name, rule } of touching) {
            const one = healths.find((of) => of.name === name) as AgentHealth;
            expect(nowMs - one.lookedMs).toBeLessThanOrEqual(USUAL_SETTINGS.staleMs);
            const isBad = Object.values(one.layers).some(
              (layer) => layer.status === 'down' || layer.status === 'unseen',
            );
            const isOver = (one.stats.queueDepth ?? 0) > 10 || (one.stats.errorRate ?? 0) > 0.2;
            expect([rule, isBad || isOver]).toEqual([rule, true]);
          }
          const most = Math.max(1, Math.floor(maxTouched * healths.length));
          const lately = new Set(
            played.acts
              .filter(
                ({ atMs, actions }) =>
                  nowMs - atMs < USUAL_SETTINGS.settleMs && actions.some((one) => one !== 'notify'),
              )
              .map((one) => one.agent)
              .filter((name) => healths.some((of) => of.name === name && of.state !== 'healthy')),
          );
          if (touching.length > 0) expect(lately.size).toBeLessThanOrEqual(most);
        }
        for (const { agent: name, rule: ruleName } of played.acts) {
          const rule = USUAL_RULES.find((one) => one.name === ruleName);
          const times = played.acts
            .filter((one) => one.agent === name && one.rule === ruleName && one.type === 'act')
            .map(({ atMs }) => atMs);
          for (const [i, atMs] of times.entries()) {
            if (i > 0) expect(atMs - (times[i - 1] ?? 0)).toBeGreaterThanOrEqual(rule?.coolDownMs ?? 0);
            // So many within the time in which nothing is forgotten, and no more.
            const within = times.filter((one) => one >= atMs && one < atMs + USUAL_SETTINGS.forgetMs);
            expect(within.length).toBeLessThanOrEqual(rule?.tries ?? 0);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
