/** Which numbers were forgotten, as ranges, and what the chain of snapshots makes of them. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  addNumbers,
  checkChain,
  forgottenIn,
  hasNumbers,
  removeNumbers,
  type Annotation,
  type NumberRanges,
  type Snapshot,
} from '../../../src/repository/repository.ts';

const numbers = fc.uniqueArray(fc.integer({ min: 0, max: 30 }));
const said = (...all: NumberRanges[]) => all.map((forgotten) => ({ record: { forgotten } })) as unknown as Annotation[];
const listed = (ranges: NumberRanges) =>
  ranges.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i));
const sorted = (all: Iterable<number>) => [...new Set(all)].toSorted((a, b) => a - b);

describe('ranges of numbers', () => {
  test('hold what was put in and not taken out, in the fewest ranges', () => {
    fc.assert(
      fc.property(numbers, numbers, numbers, (one, other, out) => {
        const ranges = removeNumbers(addNumbers(addNumbers([], one), other), out);
        expect(listed(ranges)).toEqual(sorted([...one, ...other]).filter((n) => !out.includes(n)));
        for (const [i, [first]] of ranges.entries()) expect(first > (ranges[i - 1]?.[1] ?? -2) + 1).toBe(true);
      }),
      { seed: 1 },
    );
  });

  test('that several annotations say are their union, however they overlap', () => {
    fc.assert(
      fc.property(fc.array(numbers, { maxLength: 4 }), (all) => {
        expect(listed(forgottenIn(said(...all.map((one) => addNumbers([], one)))))).toEqual(sorted(all.flat()));
      }),
      { seed: 2 },
    );
  });

  test('tell whether all numbers of a stretch are in them', () => {
    const ranges = [[0, 3] as const, [5, 5] as const];
    expect([hasNumbers(ranges, 1, 3), hasNumbers(ranges, 5, 5), hasNumbers(ranges, 4, 3)]).toEqual([true, true, true]);
    expect([hasNumbers(ranges, 3, 5), hasNumbers(ranges, 4, 4), hasNumbers([], 0, 0)]).toEqual([false, false, false]);
  });
});

test('a chain is whole without those that were forgotten, and without any other it is not', () => {
  const link = (seq: number) => ({ id: `id ${seq}`, record: { seq, parent: seq === 0 ? null : `id ${seq - 1}` } });
  const chain = (present: readonly number[], ranges: NumberRanges) =>
    checkChain(present.map(link) as unknown as Snapshot[], ranges).map(({ snapshot }) => snapshot.record.seq);
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 12 }), { minLength: 1 }), fc.nat(20), (kept, lost) => {
      const present = sorted([...kept, 13]);
      const gone = sorted(Array.from({ length: 13 }, (_, i) => i)).filter((n) => !present.includes(n));
      expect(chain(present, addNumbers([], gone))).toEqual([]);
      // Those that came back from a backend that was away are no break, and neither is one that was not deleted after all.
      expect(chain(present, addNumbers([], sorted([...gone, ...kept])))).toEqual([]);
      const secret = gone[lost % Math.max(1, gone.length)];
      if (secret === undefined) return;
      const broken = chain(present, removeNumbers(addNumbers([], gone), [secret]));
      expect(broken).toEqual([present.find((n) => n > secret)]);
    }),
    { seed: 3 },
  );
});

test('a parent of whose number there is another one is missing, unless that number was forgotten', () => {
  const fork = [
    { id: 'a', record: { seq: 0, parent: null } },
    { id: 'b', record: { seq: 1, parent: 'a' } },
    { id: 'c', record: { seq: 2, parent: 'other b' } },
  ] as unknown as Snapshot[];
  expect(checkChain(fork, []).map(({ snapshot }) => snapshot.id)).toEqual(['c']);
  expect(checkChain(fork, [[0, 0]]).map(({ snapshot }) => snapshot.id)).toEqual(['c']);
  expect(checkChain(fork, [[1, 1]])).toEqual([]);
});
