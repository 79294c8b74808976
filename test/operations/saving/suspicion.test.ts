/** What counts as a sign of loss, and what is held until somebody has looked. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DEFAULT_THRESHOLDS,
  heldBySuspicion,
  judge,
  type Measured,
  type Past,
} from '../../../src/operations/saving/suspicion.ts';
import type { SnapshotId, SnapshotStatistics } from '../../../src/repository/repository.ts';
import { AGENTS, encrypt, simulate } from '../ordinary-days.ts';

const idOf = (n: number) => n.toString(16).padStart(64, '0') as SnapshotId;

function measured(files: number, over: Partial<SnapshotStatistics> = {}, bytes = files * 1000): Measured {
  return {
    files,
    bytes,
    statistics: {
      new: 0,
      changed: 0,
      removed: 0,
      rewritten: 0,
      changedBytes: 0,
      addedBytes: 0,
      storedBytes: 0,
      compressible: { files, bytes },
      incompressible: { files: 0, bytes: 0 },
      ...over,
    },
  };
}
const past = (all: readonly Measured[], over: Partial<Past> = {}): Past[] =>
  all.map((one, i) => ({ id: idOf(i), ...one, isSuspicious: false, isAcknowledged: false, ...over }));
const codes = (...given: Parameters<typeof judge>) => judge(...given).map(({ code }) => code);
const turned = (files: number, noise: number) =>
  measured(files, {
    compressible: { files: files - noise, bytes: (files - noise) * 1000 },
    incompressible: { files: noise, bytes: noise * 1000 },
  });
const quiet = (n: number, files = 100) => past(Array.from({ length: n }, () => measured(files, { rewritten: 3 })));

describe('a snapshot is', () => {
  const TABLE: [string, string[], Past[], Parameters<typeof judge>[1]][] = [
    ['the first', [], [], measured(0)],
    ['like the one before', [], quiet(1), measured(100)],
    ['empty where nothing was', [], past([measured(0)]), measured(0)],
    ['empty where files were', ['empty'], quiet(1, 3), measured(0)],
    ['half gone', ['shrunk'], quiet(1), measured(50)],
    ['less than half gone', [], quiet(1), measured(51)],
    ['of a few files, most of which are gone', [], quiet(1, 9), measured(1)],
    ['as many files, and half of the bytes gone', ['shrunk'], past([measured(9, {}, 4e6)]), measured(9, {}, 2e6)],
    ['as many files, and half of a few bytes gone', [], past([measured(9, {}, 4e5)]), measured(9, {}, 2e5)],
    ['half rewritten, and nothing known of what is usual', [], quiet(3), measured(100, { rewritten: 60 })],
    ['half rewritten', ['changed'], quiet(7), measured(100, { rewritten: 60 })],
    ['half rewritten, of few files', [], quiet(7, 30), measured(30, { rewritten: 19 })],
    ['a fourth encrypted', ['incompressible'], quiet(1), turned(100, 25)],
    ['less than a fourth encrypted', [], quiet(1), turned(100, 24)],
    ['of four files, two of which are encrypted', ['incompressible'], quiet(1, 4), turned(4, 2)],
    ['with many downloads', [], quiet(1), turned(100 + 300, 300)],
    ['after a clean-up of what can be compressed', [], quiet(1), measured(70)],
    [
      'with one large file encrypted',
      ['incompressible'],
      past([measured(9, {}, 4e6)]),
      {
        ...measured(9, { compressible: { files: 8, bytes: 1e5 }, incompressible: { files: 1, bytes: 3.9e6 } }, 4e6),
      },
    ],
    ['on another device with all files', [], quiet(1), { ...measured(100), isOtherDevice: true }],
    ['on another device with few files', ['unmounted'], quiet(1), { ...measured(3), isOtherDevice: true }],
    [
      'on another device with other files',
      ['unmounted'],
      quiet(1),
      { ...measured(100, { new: 90 }), isOtherDevice: true },
    ],
    ['on another device and empty', ['unmounted'], quiet(1, 3), { ...measured(0), isOtherDevice: true }],
    ['with a template in place of memory', ['scaffold'], quiet(1), { ...measured(100), scaffolds: ['MEMORY.md'] }],
    ['after snapshots without statistics', [], past([{ files: 100, bytes: 1e5 }]), turned(100, 100)],
  ];
  test.each(TABLE)('%s: %j', (_, wanted, history, now) => {
    const findings = judge(history, now);
    expect(findings.map(({ code }) => code)).toEqual(wanted);
    for (const { code, message } of findings) expect(message).toMatch(new RegExp(`^${code}: .{20,}$`));
  });

  test('told with what is usual', () => {
    const rewritten = [10, 12, 14, 9, 12, 20, 12, 3];
    const history = past(rewritten.map((n) => measured(1000, { rewritten: n })));
    expect(judge(history, measured(1000, { rewritten: 512 }))).toEqual([
      {
        code: 'changed',
        message:
          'changed: 512 of 1,000 files have new contents; usual is 12 ± 2 a snapshot, from 500 on it is suspicious',
        value: 512,
        usual: { median: 12, mad: 2 },
        bound: 500,
      },
    ]);
  });
});

describe('what is usual', () => {
  test('raises no alarm: an agent that rewrites all its files every day', () => {
    const history = past(Array.from({ length: 8 }, () => measured(50, { rewritten: 48 })));
    expect(codes(history, measured(50, { rewritten: 50 }))).toEqual([]);
  });

  test('is what happened twice: the third large clean-up is one of them, but nearly all gone never is', () => {
    const sizes = [100, 110, 40, 100, 110, 45, 100, 110];
    expect(codes(past(sizes.map((n) => measured(n))), measured(42))).toEqual([]);
    expect(codes(past(sizes.map((n) => measured(n))), measured(9))).toEqual(['shrunk']);
  });

  test('is not moved by one that was suspicious, until somebody says that it was right', () => {
    const [bad] = past([measured(10)]);
    if (!bad) throw new Error('none');
    const with_ = (isAcknowledged: boolean) => [...quiet(7), { ...bad, isSuspicious: true, isAcknowledged }];
    expect(codes(with_(false), measured(10))).toEqual(['shrunk']);
    expect(codes(with_(true), measured(10))).toEqual([]);
    expect(codes(with_(false), measured(100))).toEqual([]);
  });

  test('is asked only of what came since somebody acknowledged: the history before says nothing more', () => {
    const encrypted = past([turned(100, 40)]).map((one) => ({ ...one, isSuspicious: true, isAcknowledged: true }));
    expect(codes([...quiet(10), ...encrypted], turned(100, 40))).toEqual([]);
    expect(codes([...quiet(10), ...encrypted], turned(100, 70))).toEqual(['incompressible']);
  });

  test('shows what is done slowly: an eighth of the files encrypted in each snapshot', () => {
    const history = quiet(20);
    const found: string[] = [];
    for (let noise = 12; noise <= 96; noise += 12) {
      const now = turned(100, noise);
      found.push(...codes(history, now));
      history.push(...past([now]));
    }
    expect(found).toContain('incompressible');
  });
});

const anyMeasured = fc
  .record({ files: fc.nat(300), noise: fc.nat(300), rewritten: fc.nat(300), bytes: fc.nat(5e6) })
  .map(({ files, noise, rewritten, bytes }) => {
    const turnedFiles = Math.min(files, noise);
    return measured(
      files,
      {
        rewritten,
        compressible: { files: files - turnedFiles, bytes: 0 },
        incompressible: { files: turnedFiles, bytes },
      },
      bytes,
    );
  });

test('whatever the history: the same state again is never suspicious, and an empty one always is', () => {
  fc.assert(
    fc.property(fc.array(anyMeasured, { minLength: 1, maxLength: 40 }), (all) => {
      const history = past(all);
      const last = all.at(-1) ?? measured(1);
      const same = { ...last, statistics: { ...(last.statistics as SnapshotStatistics), rewritten: 0 } };
      const found = judge(history, same).filter(({ message }) => !message.includes('middle of the history'));
      expect(found).toEqual([]);
      const isLoss = last.files > 0;
      expect(codes(history, measured(0)).includes('empty')).toBe(isLoss);
    }),
    { seed: 90 },
  );
});

test('what it finds fits into a record: whole numbers, the value not below its bound', () => {
  fc.assert(
    fc.property(fc.array(anyMeasured, { maxLength: 40 }), anyMeasured, (all, now) => {
      for (const { code, value, bound, usual } of judge(past(all), now, { ...DEFAULT_THRESHOLDS, history: 12 })) {
        for (const one of [value, bound, usual?.mad ?? 0, usual?.median ?? 0])
          expect(Number.isSafeInteger(one) && one >= 0, code).toBe(true);
        if (code !== 'empty') expect(value).toBeGreaterThanOrEqual(bound);
      }
    }),
    { seed: 91 },
  );
});

describe('ninety ordinary days', () => {
  test.each(Object.keys(AGENTS))('of a %s raise no alarm, and the day of the malware does', (kind) => {
    for (const seed of [1, 2]) {
      const { falseAlarms, attack } = simulate(kind, seed, 90, (files, random) =>
        encrypt(files, 0.6, seed === 1 ? '' : '.locked', random),
      );
      expect(falseAlarms).toEqual([]);
      expect(attack).toContain('incompressible');
    }
  });
});

describe('held until it is acknowledged is', () => {
  const row = (n: number, isSuspicious = false, isAcknowledged = false) => ({
    id: idOf(n),
    isSuspicious,
    isAcknowledged,
  });
  test.each([
    ['nothing when there is no suspicion', [row(0), row(1)], 0],
    ['nothing when all is acknowledged', [row(0), row(1, true, true), row(2)], 0],
    ['the suspicious one and all before it', [row(0), row(1), row(2, true), row(3)], 3],
    ['all before the last of several', [row(0), row(1, true), row(2, true, true), row(3, true), row(4)], 4],
    ['what an earlier one holds, when a later one is acknowledged', [row(0), row(1, true), row(2, true, true)], 2],
  ])('%s', (_, rows, held) => {
    expect([...heldBySuspicion(rows)]).toEqual(rows.slice(0, held).map(({ id }) => id));
  });
});
