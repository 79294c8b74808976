import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  levelAskedFor,
  nextLevel,
  nominal,
  usualLevels,
  USUAL_HOLD_MS,
  type DegradationSettings,
  type Level,
  type LevelAgent,
  type LevelState,
} from '../../src/fleet/degradation.ts';
import type { BreakerState } from '../../src/policy/breaker.ts';
import { health } from './healths.ts';
import { MINUTE_MS, START_MS } from './support.ts';

const NOW = START_MS;

interface Of {
  critical?: boolean;
  breaker?: BreakerState['kind'];
  downForMs?: number;
  isQuarantined?: boolean;
}

/** A fleet of ten, of which the first are as they are given. */
function fleet(first: readonly Of[], size = 10): LevelAgent[] {
  return Array.from({ length: size }, (_, i) => {
    const { critical = false, breaker = 'closed', downForMs, isQuarantined = false } = first[i] ?? {};
    const status = downForMs === undefined ? 'ok' : 'down';
    return {
      health: health(`a${i}`, { live: status }, NOW, { critical, sinceMs: NOW - (downForMs ?? 0) }),
      breaker,
      quarantine: isQuarantined ? { sinceMs: NOW, reason: 'x' } : null,
    };
  });
}

const MESSAGING = ['a8', 'a9'];
/** The lines of the table in docs/watchdog.md, and what each looks like. */
const WHEN: Readonly<Record<string, LevelAgent[]>> = {
  'all agents are well': fleet([]),
  'a breaker is open': fleet([{ breaker: 'open' }]),
  'a breaker is forced open': fleet([{ breaker: 'forced-open' }]),
  'an agent is unhealthy, for less than 5 minutes': fleet([{ downForMs: 5 * MINUTE_MS - 1 }]),
  'an agent is unhealthy, for 5 minutes': fleet([{ downForMs: 5 * MINUTE_MS }]),
  'an agent is in quarantine': fleet([{ isQuarantined: true }]),
  'two agents are out': fleet([{ breaker: 'open' }, { downForMs: 5 * MINUTE_MS }]),
  'three agents are out': fleet([{ breaker: 'open' }, { downForMs: 0 }, { isQuarantined: true }]),
  'an agent of `messaging` is out': fleet([...Array<Of>(8).fill({}), { downForMs: 0 }]),
  'all agents of `messaging` are out': fleet([...Array<Of>(8).fill({}), { downForMs: 0 }, { breaker: 'open' }]),
  'a critical agent is unhealthy': fleet([{ critical: true, downForMs: 0 }]),
  'the breaker of a critical agent is open': fleet([{ critical: true, breaker: 'open' }]),
  'half of the agents are unhealthy': fleet(Array<Of>(5).fill({ downForMs: 0 })),
  'more than half of the agents are unhealthy': fleet(Array<Of>(6).fill({ downForMs: 0 })),
};

describe('the table in docs/watchdog.md', () => {
  const text = readFileSync(new URL('../../docs/watchdog.md', import.meta.url), 'utf8');
  const rows = [...text.matchAll(/^\| ([^|]+?) +\| +([0-3]) +\|$/gm)].map(
    ([, when = '', level]) => [when, Number(level)] as const,
  );
  test('has a line for each of these', () => {
    expect(rows.map(([when]) => when)).toEqual(Object.keys(WHEN));
  });
  test.each(rows)('%s: level %i', (when, level) => {
    expect(levelAskedFor(WHEN[when] ?? [], usualLevels(MESSAGING), NOW).level).toBe(level);
  });
});

test('a fleet without agents, or with agents of which nothing is known, is at level 0', () => {
  expect(levelAskedFor([], usualLevels(MESSAGING), NOW).level).toBe(0);
  const unknown = fleet([]).map((one) => ({ ...one, health: { ...one.health, state: 'unknown' as const } }));
  expect(levelAskedFor(unknown, usualLevels(), NOW).level).toBe(0);
});

const rules = usualLevels().map((rule) => ({ ...rule, enter: `enter ${rule.level}`, leave: `leave ${rule.level}` }));
const settings: DegradationSettings = { rules, holdMs: USUAL_HOLD_MS };
const asked = (level: Level) => ({ level, reasons: level === 0 ? [] : [`for ${level}`] });
const behaviours = ({ todo }: LevelState) => todo.map((one) => `${one.do} ${one.level}`);

test('a level is entered at once, with what each level between does; it is left one by one, each after its time of calm', () => {
  let state = nextLevel(nominal(NOW), asked(3), settings, NOW);
  expect([state.level, behaviours(state)]).toEqual([3, ['enter 1', 'enter 2', 'enter 3']]);
  state = { ...state, todo: [] };
  const levels: Level[] = [];
  for (let second = 0; second <= 20 * 60; second++) {
    state = nextLevel(state, asked(0), settings, NOW + second * 1000);
    if (levels.at(-1) !== state.level) levels.push(state.level);
    if (second === 5 * 60 - 1) expect(state.level).toBe(3);
    if (second === 5 * 60) expect(state.level).toBe(2);
    if (second === 10 * 60 - 1) expect(state.level).toBe(2);
  }
  expect(levels).toEqual([3, 2, 1, 0]);
  expect(behaviours(state)).toEqual(['leave 3', 'leave 2', 'leave 1']);
});

test('a relapse begins the time of calm anew', () => {
  let state = nextLevel(nominal(NOW), asked(1), settings, NOW);
  state = nextLevel(state, asked(0), settings, NOW + MINUTE_MS);
  state = nextLevel(state, asked(1), settings, NOW + 5 * MINUTE_MS);
  state = nextLevel(state, asked(0), settings, NOW + 6 * MINUTE_MS);
  expect(nextLevel(state, asked(0), settings, NOW + 11 * MINUTE_MS - 1).level).toBe(1);
  expect(nextLevel(state, asked(0), settings, NOW + 11 * MINUTE_MS).level).toBe(0);
});

test('whatever is asked for: never lower than that, down by one at a time and only after the calm, each behaviour in its order', () => {
  const step = fc.record({
    level: fc.integer({ min: 0, max: 3 }),
    passedMs: fc.integer({ min: 0, max: 10 * MINUTE_MS }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let state = nominal(NOW);
      let nowMs = NOW;
      let lastNotCalmMs = NOW;
      for (const { level, passedMs } of steps) {
        nowMs += passedMs;
        const before = state;
        state = nextLevel(before, asked(level as Level), settings, nowMs);
        expect(state.level).toBeGreaterThanOrEqual(level);
        if (state.level < before.level) {
          expect(before.level - state.level).toBe(1);
          expect(nowMs - lastNotCalmMs).toBeGreaterThanOrEqual(USUAL_HOLD_MS);
        }
        if (level >= state.level || state.level !== before.level) lastNotCalmMs = nowMs;
      }
      // What is done and undone in the end: the levels that are entered now.
      const open: string[] = [];
      for (const one of state.todo) {
        if (one.do === 'enter') open.push(`${one.level}`);
        else expect(open.pop()).toBe(`${one.level}`);
      }
      expect(open).toEqual(['1', '2', '3'].slice(0, state.level));
    }),
  );
});
