import { expect, it } from 'vitest';
import { count, facts, formatTime, table, warningLines } from '../../src/cli/render.ts';

it('a table pads its columns, and numbers to the right', () => {
  expect(
    table(
      ['id', 'files', 'tags'],
      [
        ['a1', '7', ''],
        ['b', '1200', 'weekly'],
      ],
      ['files'],
    ),
  ).toBe('id  files  tags\na1      7\nb    1200  weekly\n');
});

it('nothing that comes from storage reaches the terminal as a control character', () => {
  const evil = 'a\x1b]0;title\x07\nb\u202e';
  for (const text of [
    table(['x'], [[evil]]),
    facts({ x: evil }),
    warningLines([{ code: 'c', path: evil, message: evil }]),
  ]) {
    expect(text.replaceAll('\n', '')).not.toMatch(/[\x00-\x1f\x7f\u202e]/);
    expect(text).toContain('a\\x1b]0;title\\x07\\nb\\u202e');
  }
});

it('facts are aligned, and left out where there are none', () => {
  expect(facts({ snapshot: 'a', size: undefined, id: 'b' })).toBe('snapshot: a\nid:       b\n');
});

it('warnings are cut after some', () => {
  const warnings = Array.from({ length: 5 }, (_, i) => ({ code: 'c', message: `m${i}` }));
  expect(warningLines(warnings, 2)).toBe('Warning: m0\nWarning: m1\nWarning: and 3 more (see --json)\n');
});

it('counts and times', () => {
  expect([count(1, 'file'), count(2500, 'file'), count(0, 'entry', 'entries')]).toEqual([
    '1 file',
    '2,500 files',
    '0 entries',
  ]);
  expect(formatTime(0)).toBe('1970-01-01T00:00:00Z');
});
