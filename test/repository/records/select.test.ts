import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { HoldfastError } from '../../../src/errors.ts';
import { stampOf, type SnapshotId } from '../../../src/repository/records/object-name.ts';
import { selectSnapshot, type Selectable } from '../../../src/repository/records/select.ts';

const NOW = Date.parse('2026-03-10T12:00:00Z');
const HOUR = 3_600_000;

function snapshot(id: string, timeMs: number, tags: string[] = []): Selectable {
  const full = id.padEnd(64, '0') as SnapshotId;
  const time = new Date(timeMs).toISOString();
  return { id: full, key: `snapshots/${stampOf(timeMs)}-${full}.age`, record: { time, tags } };
}

const problem = (timeMs: number, id = 'dddd') => ({
  key: snapshot(id, timeMs).key,
  error: new HoldfastError('damaged', `damaged ${id}`),
});

const three = [
  snapshot('aaaa1', NOW - 72 * HOUR, ['first', 'keep']),
  snapshot('aaaa2', NOW - 48 * HOUR, ['keep']),
  snapshot('bbbb', NOW - HOUR),
];
const [oldest, middle, newest] = three;
const select = (selector: string, list = three, problems: ReturnType<typeof problem>[] = []) =>
  selectSnapshot(selector, list, problems, NOW);

function refusal(selector: string, list = three, problems: ReturnType<typeof problem>[] = []): HoldfastError {
  try {
    select(selector, list, problems);
  } catch (error) {
    if (error instanceof HoldfastError) return error;
    throw error;
  }
  throw new Error(`${selector} was taken`);
}

test.each([
  ['latest', newest],
  ['latest~0', newest],
  ['latest~1', middle],
  ['latest~2', oldest],
  ['bbbb', newest],
  ['bbbb~2', oldest],
  ['aaaa2', middle],
  ['@0s', newest],
  ['@2h', middle],
  ['@1h', newest],
  ['@2026-03-10', newest],
  ['@2026-03-09', middle],
  ['@2026-03-08T12:00', middle],
  ['@2026-03-08T11:59:59', oldest],
  ['@2026-03-08T13:00+01:00', middle],
  ['@2026-03-08T12:59+01:00', oldest],
  ['tag:first', oldest],
  ['tag:keep', middle],
])('%s is the snapshot that it says', (selector, wanted) => {
  expect(select(selector)).toEqual({ snapshot: wanted, passedOver: [] });
});

describe('a selector that finds nothing', () => {
  test.each([
    ['latest~3', 'not_found', 'The oldest is aaaa1000'],
    ['@2026-03-01', 'not_found', 'The oldest is aaaa1000'],
    ['@4d', 'not_found', 'The oldest is aaaa1000'],
    ['cccc', 'not_found', 'The newest is bbbb0000'],
    ['tag:other', 'not_found', 'The tags are "first", "keep".'],
    ['aaaa', 'usage', 'aaaa1000 of 2026-03-07T12:00:00.000Z, aaaa2000'],
  ])('%s: names what is nearest', (selector, code, hint) => {
    expect(refusal(selector)).toMatchObject({ code, hint: expect.stringContaining(hint) as string });
  });

  test.each([
    '',
    'newest',
    'bbb',
    'LATEST',
    'latest~',
    'latest~-1',
    'latest~x',
    'tag:',
    '@',
    '@yesterday',
    '@2026-02-30',
    '@1',
    'b'.repeat(65),
  ])('%j is none', (selector) => {
    expect(refusal(selector).code).toBe('usage');
  });

  it('says that there is none yet', () => {
    for (const selector of ['latest', 'latest~1', '@2h'])
      expect(refusal(selector, []).message).toContain('no snapshot yet');
  });
});

describe('snapshots that cannot be read', () => {
  it('are told where they may have been meant', () => {
    const [early, between, late] = [problem(NOW - 60 * HOUR), problem(NOW - 24 * HOUR), problem(NOW - 60_000)];
    const passed = (selector: string) => select(selector, three, [early, between, late]).passedOver;
    expect(passed('latest')).toEqual([late]);
    expect(passed('latest~1')).toEqual([between, late]);
    expect(passed('@2h')).toEqual([between]);
    expect(passed('@2d')).toEqual([]);
    expect(passed('tag:keep')).toEqual([between, late]);
    expect(passed('aaaa2')).toEqual([]);
  });

  it('are the answer where they were meant, and nothing else is', () => {
    expect(refusal('dddd', three, [problem(NOW)]).message).toBe('damaged dddd');
    expect(refusal('@4d', three, [problem(NOW - 100 * HOUR)]).message).toBe('damaged dddd');
    expect(refusal('latest', [], [problem(NOW)]).message).toBe('damaged dddd');
  });
});

it('moments and steps select what a plain search over the list selects', () => {
  const times = fc.uniqueArray(fc.integer({ min: 0, max: 500 }), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(times, fc.integer({ min: 0, max: 500 }), fc.nat(14), (minutes, ago, steps) => {
      const list = minutes
        .toSorted((a, b) => b - a)
        .map((minute, i) => snapshot(`${i}`.padStart(4, 'e'), NOW - minute * 60_000));
      const before = list.filter(({ record }) => Date.parse(record.time) <= NOW - ago * 60_000);
      if (before.length > 0) {
        expect(select(`@${ago}m`, list).snapshot).toBe(before.at(-1));
        const moment = new Date(NOW - ago * 60_000).toISOString();
        expect(select(`@${moment}`, list).snapshot).toBe(before.at(-1));
      } else expect(refusal(`@${ago}m`, list).code).toBe('not_found');
      const back = list.toReversed()[steps];
      if (back) expect(select(`latest~${steps}`, list).snapshot).toBe(back);
      else expect(refusal(`latest~${steps}`, list).code).toBe('not_found');
    }),
  );
});

it('where a clock was set back, what came later counts', () => {
  const list = [snapshot('eeee', NOW - HOUR), snapshot('ffff', NOW - 2 * HOUR)];
  expect(select('@0s', list).snapshot).toBe(list[1]);
  expect(select('@90m', list).snapshot).toBe(list[1]);
});
