/** Keep-rules: which snapshots stay, and why. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  hasRules,
  judgeRetention,
  PERIODS,
  type KeepRules,
  type Retainable,
  type RetentionOptions,
} from '../../src/operations/retention.ts';
import { heldBySuspicion } from '../../src/operations/saving/suspicion.ts';
import { DAY_MS } from '../../src/units.ts';
import type { SnapshotId } from '../../src/repository/repository.ts';

const HOUR_MS = DAY_MS / 24;
const NOW = Date.parse('2026-03-31T12:00:00Z');
type Given = Partial<Omit<Retainable, 'seq' | 'timeMs'>>;
const row = (seq: number, time: string | number, more: Given = {}): Retainable => ({
  id: String(seq).padStart(64, '0') as SnapshotId,
  ...{ seq, timeMs: typeof time === 'number' ? time : Date.parse(time), tags: [], isHeld: false },
  ...more,
});
const judge = (rows: readonly Retainable[], rules: KeepRules, over: Partial<RetentionOptions> = {}) =>
  judgeRetention(rows, rules, { nowMs: NOW, ...over });
/** Numbers of those that stay, with the reasons of each. */
const kept = (...args: Parameters<typeof judge>) => {
  const reasons = judge(...args);
  return args[0].flatMap(({ id, seq }) => (reasons.get(id)?.length ? [[seq, ...(reasons.get(id) ?? [])]] : []));
};
const days = (...times: string[]) => times.map((time, seq) => row(seq, `${time}Z`));

describe('of the rules', () => {
  test('last keeps the newest by number', () => {
    expect(kept(days('2026-01-01T00:00', '2026-01-02T00:00', '2026-01-03T00:00'), { last: 2 })).toEqual([
      [1, 'last'],
      [2, 'newest', 'last'],
    ]);
  });

  test('each period keeps the newest of each of the last periods in which there is one, and skips those without', () => {
    const rows = days(
      '2025-12-30T01:00',
      '2026-01-05T01:00',
      '2026-01-05T23:59',
      '2026-01-20T08:00',
      '2026-01-20T08:30',
    );
    expect(kept(rows, { daily: 2 })).toEqual([
      [2, 'daily'],
      [4, 'newest', 'daily'],
    ]);
    expect(kept(rows, { hourly: 2 })).toEqual([
      [2, 'hourly'],
      [4, 'newest', 'hourly'],
    ]);
    expect(kept(rows, { yearly: 2 })).toEqual([
      [0, 'yearly'],
      [4, 'newest', 'yearly'],
    ]);
  });

  test('a week begins on Monday, also where a month or a year ends in it', () => {
    // 2025-12-29 is a Monday.
    const rows = days('2025-12-28T23:59', '2025-12-29T00:00', '2026-01-04T23:59', '2026-01-05T00:00');
    expect(kept(rows, { weekly: 3 })).toEqual([
      [0, 'weekly'],
      [2, 'weekly'],
      [3, 'newest', 'weekly'],
    ]);
  });

  test('the oldest stays as long as there are fewer periods than are to be kept', () => {
    const rows = days('2026-01-01T00:00', '2026-01-15T00:00', '2026-02-01T00:00');
    expect(kept(rows, { monthly: 3 })).toEqual([
      [0, 'oldest monthly'],
      [1, 'monthly'],
      [2, 'newest', 'monthly'],
    ]);
    expect(kept(rows, { monthly: 2 }).map(([seq]) => seq)).toEqual([1, 2]);
  });

  test('within counts from the newest snapshot, not from now: an agent that rests loses nothing', () => {
    const rows = days('2020-01-01T00:00', '2020-01-30T00:00', '2020-01-31T00:00');
    expect(kept(rows, { withinMs: DAY_MS })).toEqual([
      [1, 'within'],
      [2, 'newest', 'within'],
    ]);
  });

  test('tags keep all that have one of them', () => {
    const rows = [row(0, NOW - 3, { tags: ['a', 'b'] }), row(1, NOW - 2, { tags: ['c'] }), row(2, NOW - 1)];
    expect(kept(rows, { tags: ['b', 'x'] })).toEqual([
      [0, 'tag b'],
      [2, 'newest'],
    ]);
  });

  test('none at all keeps everything', () => {
    expect(kept(days('2020-01-01T00:00', '2026-01-01T00:00'), { daily: 0, tags: [] })).toEqual([
      [0, 'no rule'],
      [1, 'newest', 'no rule'],
    ]);
    expect([hasRules({}), hasRules({ last: 0 }), hasRules({ withinMs: 1 })]).toEqual([false, false, true]);
  });
});

describe('whatever the rules say,', () => {
  const rules = { last: 1 };

  test('protected snapshots stay, by the tag of that name and by those of the config', () => {
    const rows = [row(0, 1, { tags: ['protected'] }), row(1, 2, { tags: ['release'] }), row(2, 3), row(3, 4)];
    expect(kept(rows, rules, { protect: ['release'] })).toEqual([
      [0, 'protected'],
      [1, 'protected'],
      [3, 'newest', 'last'],
    ]);
  });

  test('what a suspicious snapshot holds stays', () => {
    const rows = [row(0, 1, { isHeld: true }), row(1, 2, { isHeld: true }), row(2, 3), row(3, 4)];
    expect(kept(rows, rules).map(([seq, why]) => [seq, why])).toEqual([
      [0, 'held'],
      [1, 'held'],
      [3, 'newest'],
    ]);
  });

  test('a snapshot dated to come stays, and takes no place of another', () => {
    const rows = [row(0, '2026-03-01T00:00Z'), row(1, '2026-03-02T00:00Z'), row(2, '2031-01-01T00:00Z')];
    expect(kept(rows, { daily: 1, withinMs: 1 })).toEqual([
      [1, 'within', 'daily'],
      [2, 'newest', 'future'],
    ]);
  });

  test('of two snapshots with the highest number both stay', () => {
    const twins = [row(0, 1), row(1, 2), { ...row(1, 3), id: 'f'.repeat(64) as SnapshotId }];
    expect(kept(twins, rules).map(([seq]) => seq)).toEqual([1, 1]);
  });
});

test('where a clock was set back, what came later is newer', () => {
  const rows = days('2026-03-10T00:00', '2026-03-11T00:00', '2020-01-01T05:00', '2020-01-01T06:00');
  expect(kept(rows, { daily: 2 })).toEqual([
    [1, 'daily'],
    [3, 'newest', 'daily'],
  ]);
});

describe('within, beside a clock that is wrong,', () => {
  const good = [10, 11, 12, 13, 14].map((day, seq) => row(seq, `2026-02-${day}T12:00Z`));
  const seqs = (rows: readonly Retainable[], withinMs: number, nowMs = NOW + 500 * DAY_MS) =>
    kept(rows, { withinMs }, { nowMs }).map(([seq]) => seq);

  test('keeps all good ones when it jumped ahead, after one snapshot and after several', () => {
    const ahead = (count: number) =>
      Array.from({ length: count }, (_, i) => row(5 + i, NOW + 400 * DAY_MS + i * HOUR_MS));
    expect(seqs([...good, ...ahead(1)], 30 * DAY_MS)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(seqs([...good, ...ahead(3)], 30 * DAY_MS)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    // The newest good one with those before it, also where the window is shorter than a day.
    const hourly = [1, 2, 3, 4].map((hour, seq) => row(seq, `2026-02-10T0${hour}:00Z`));
    expect(seqs([...hourly, { ...ahead(1)[0], seq: 4 } as Retainable], 2 * HOUR_MS)).toEqual([1, 2, 3, 4]);
  });

  test('keeps those that it misdated, and all good ones, when it was set back or is right again', () => {
    const back = row(5, NOW - 400 * DAY_MS);
    const right = row(6, '2026-02-15T12:00Z');
    expect(seqs([...good, back], 30 * DAY_MS, NOW - 399 * DAY_MS)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(seqs([...good, back], 30 * DAY_MS)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(seqs([...good, back, right], 30 * DAY_MS)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test('still lets go what is older, day for day', () => {
    expect(seqs(good, 2 * DAY_MS, NOW)).toEqual([2, 3, 4]);
    expect(seqs([...good, row(5, '2026-02-15T12:00Z')], 2 * DAY_MS, NOW)).toEqual([3, 4, 5]);
    // A snapshot of the wrong clock delays that by a day.
    const ahead = [row(5, '2027-02-15T12:00Z'), row(6, '2027-02-15T13:00Z')];
    expect(seqs([...good, ...ahead], 2 * DAY_MS)).toEqual([4, 5, 6]);
  });
});

test('hours and days are those of the time zone', () => {
  const rows = days('2026-01-31T22:30', '2026-01-31T23:30', '2026-02-01T22:30'); // in Berlin: 23:30, 00:30, 23:30
  expect(kept(rows, { daily: 9 }).map(([seq]) => seq)).toEqual([0, 1, 2]);
  const inBerlin = kept(rows, { monthly: 2 }, { timeZone: 'Europe/Berlin' });
  expect(inBerlin).toEqual([
    [0, 'monthly'],
    [2, 'newest', 'monthly'],
  ]);
  expect(kept(rows, { monthly: 2 })).toEqual([
    [1, 'monthly'],
    [2, 'newest', 'monthly'],
  ]);
  expect(() => judge(rows, { daily: 1 }, { timeZone: 'Nowhere/City' })).toThrow(RangeError);
});

describe('for any history and any rules,', () => {
  const count = fc.option(fc.integer({ min: 0, max: 6 }), { nil: undefined });
  const anyRules: fc.Arbitrary<KeepRules> = fc.record({
    ...{ last: count, hourly: count, daily: count, weekly: count, monthly: count, yearly: count },
    withinMs: fc.option(fc.integer({ min: 0, max: 40 * 24 }).map((hours) => hours * HOUR_MS)),
    tags: fc.subarray(['a', 'b']),
  }) as fc.Arbitrary<KeepRules>;
  const one = fc.record({
    stepHours: fc.integer({ min: -60, max: 900 }), // clocks go back, too
    tags: fc.subarray(['a', 'b', 'protected', 'mine']),
    isSuspicious: fc.integer({ min: 0, max: 9 }).map((chance) => chance === 0),
  });
  const history = fc.array(one, { minLength: 1, maxLength: 40 }).map((steps) => {
    let timeMs = NOW - 200 * DAY_MS;
    return steps.map((step, seq) => ({
      ...row(seq, (timeMs += step.stepHours * HOUR_MS), { tags: step.tags }),
      ...{ isSuspicious: step.isSuspicious, isAcknowledged: false },
    }));
  });
  const idsKept = (rows: (Retainable & { isSuspicious: boolean; isAcknowledged: boolean })[], rules: KeepRules) => {
    const held = heldBySuspicion(rows);
    const given = rows.map((each) => ({ ...each, isHeld: held.has(each.id) }));
    const reasons = judge(given, rules, { protect: ['mine'] });
    return rows.filter(({ id }) => reasons.get(id)?.length);
  };

  test('applying them again removes nothing more', () => {
    fc.assert(
      fc.property(history, anyRules, (rows, rules) => {
        const once = idsKept(rows, rules);
        expect(idsKept(once, rules)).toEqual(once);
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  test('a rule that keeps more takes nothing away from what is kept', () => {
    const more = fc.record({
      add: fc.integer({ min: 0, max: 4 }),
      to: fc.constantFrom('last', 'withinMs', ...PERIODS),
    });
    fc.assert(
      fc.property(history, anyRules, more, (rows, rules, { add, to }) => {
        fc.pre(hasRules(rules)); // none keeps all
        const larger = { ...rules, [to]: (rules[to] ?? 0) + add * (to === 'withinMs' ? DAY_MS : 1) };
        const ids = new Set(idsKept(rows, larger).map(({ id }) => id));
        for (const { id } of idsKept(rows, rules)) expect(ids.has(id)).toBe(true);
      }),
      { seed: 2, numRuns: 300 },
    );
  });

  test('the newest stays, and all up to the last suspicious one, and what is protected', () => {
    fc.assert(
      fc.property(history, anyRules, (rows, rules) => {
        const ids = new Set(idsKept(rows, rules).map(({ id }) => id));
        const held = rows.findLastIndex(({ isSuspicious }) => isSuspicious);
        const must = rows.filter(
          ({ tags }, i) => i <= held || i === rows.length - 1 || tags.includes('protected') || tags.includes('mine'),
        );
        for (const { id } of must) expect(ids.has(id)).toBe(true);
      }),
      { seed: 3, numRuns: 300 },
    );
  });
});
