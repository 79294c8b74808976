import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatDuration, formatSize, parseDuration, parseMoment, parseSize } from '../src/units.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

describe('durations', () => {
  it.each([
    ['10m', 10 * MINUTE],
    ['90d', 90 * DAY],
    ['1h30m', 90 * MINUTE],
    ['2w1d', 15 * DAY],
    ['250ms', 250],
    ['1m5ms', MINUTE + 5],
    ['0s', 0],
  ])('%s is %d ms', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it.each([
    '',
    '10',
    'm',
    '10 m',
    '-1m',
    '1.5h',
    '30m1h',
    '1h1h',
    '10M',
    '5y',
    '1e3s',
    '10m ',
    '٣m',
    `${'9'.repeat(12)}w`,
  ])('refuses %j', (text) => {
    expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: 'usage' }));
    expect(() => parseDuration(text, 'config_invalid')).toThrow(expect.objectContaining({ code: 'config_invalid' }));
  });

  it.each([
    [0, '0.0 s'],
    [12_340, '12.3 s'],
    [200 * SECOND, '3m 20s'],
    [2 * HOUR + 5 * MINUTE, '2h 5m'],
    [4 * DAY + 3 * HOUR, '4d 3h'],
    [DAY, '1d'],
  ])('%d ms are shown as %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });
});

describe('sizes', () => {
  it.each([
    ['5GiB', 5 * 2 ** 30],
    ['10MB', 10_000_000],
    ['1.5 KiB', 1536],
    ['1kB', 1000],
    ['0B', 0],
    ['2TiB', 2 ** 41],
  ])('%s is %d bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each([
    '',
    '5',
    '5G',
    '5gib',
    '5  GB',
    '-1B',
    '1e3B',
    'GiB',
    '1,5GB',
    '5GBs',
    '99999999999TiB',
    'constructor',
    '1iB',
  ])('refuses %j', (text) => {
    expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: 'usage' }));
    expect(() => parseSize(text, 'config_invalid')).toThrow(expect.objectContaining({ code: 'config_invalid' }));
  });

  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1024 * 1024 - 1, '1.0 MiB'],
    [1.4 * 2 ** 30, '1.4 GiB'],
  ])('%d bytes are shown as %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });

  it('what is shown parses to about the same size', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 46 }), (bytes) => {
        const read = parseSize(formatSize(bytes));
        expect(Math.abs(read - bytes)).toBeLessThanOrEqual(bytes * 0.05 + 1);
      }),
    );
  });
});

describe('moments', () => {
  const now = Date.parse('2026-03-10T12:00:00Z');
  it.each([
    ['2h', '2026-03-10T10:00:00.000Z'],
    ['1d12h', '2026-03-09T00:00:00.000Z'],
    ['2026-03-08', '2026-03-08T23:59:59.999Z'],
    ['2026-03-08T10:00', '2026-03-08T10:00:00.000Z'],
    ['2026-03-08 10:00:07', '2026-03-08T10:00:07.000Z'],
    ['2026-03-08T10:00:07.123456789Z', '2026-03-08T10:00:07.123Z'],
    ['2026-03-08T10:00+02:00', '2026-03-08T08:00:00.000Z'],
  ])('%s is %s', (text, wanted) => {
    expect(new Date(parseMoment(text, now)).toISOString()).toBe(wanted);
  });

  it('a day begins where it is asked to', () => {
    expect(parseMoment('2026-03-08', now, 'start')).toBe(Date.parse('2026-03-08T00:00:00Z'));
  });

  it.each([
    '',
    'now',
    '2026',
    '2026-02-29',
    '2026-13-01',
    '2026-03-08T24:00',
    '2026-03-08T10',
    '10:00',
    '2',
    '-2h',
    '99999999w',
  ])('refuses %j', (text) => {
    expect(() => parseMoment(text, now)).toThrow(expect.objectContaining({ code: 'usage' }));
  });
});
