/** The numbers of snapshots that were forgotten on purpose: what tells a gap in the chain that is meant from one that is not. */
import type { Annotation } from './annotation.ts';
import { parseKey } from './object-name.ts';
import type { Snapshot } from './snapshot.ts';

/** Ranges of numbers, both ends included, rising, with a number between any two of them that is in none. */
export type NumberRanges = readonly (readonly [first: number, last: number])[];

/** All that any annotation says was forgotten. */
export function forgottenIn(annotations: readonly Annotation[]): NumberRanges {
  return joined(annotations.flatMap(({ record }) => record.forgotten ?? []));
}

/** Whether it is a snapshot that was forgotten, what was said of one, or what a later annotation says in full of what was forgotten. */
export function wasForgotten(
  key: string,
  forgotten: NumberRanges,
  snapshots: ReadonlyMap<string, Snapshot>,
  annotations: ReadonlyMap<string, Annotation>,
): boolean {
  const isGone = (id: string) => {
    const seq = snapshots.get(id)?.record.seq;
    return seq !== undefined && hasNumbers(forgotten, seq, seq);
  };
  const name = parseKey(key);
  if (name?.kind === 'snapshot') return isGone(name.id);
  const said = annotations.get(key)?.record;
  if (!said) return false;
  const { tags, note, acknowledged, lost, time } = said;
  const saysMore = tags !== undefined || note !== undefined || acknowledged !== undefined || lost !== undefined;
  const isReplaced = [...annotations.values()].some(({ record }) => record.forgotten && record.time > time);
  return isGone(said.snapshot) || (said.forgotten !== undefined && !saysMore && isReplaced);
}

export function addNumbers(ranges: NumberRanges, numbers: Iterable<number>): NumberRanges {
  return joined([...ranges, ...[...numbers].map((number) => [number, number] as const)]);
}

export function removeNumbers(ranges: NumberRanges, numbers: Iterable<number>): NumberRanges {
  let left = ranges;
  for (const number of numbers) {
    left = left.flatMap(([first, last]) => {
      if (number < first || number > last) return [[first, last] as const];
      return [[first, number - 1] as const, [number + 1, last] as const].filter(([from, to]) => from <= to);
    });
  }
  return left;
}

/** Whether each number from `first` to `last` is in a range; true where there is none between. */
export function hasNumbers(ranges: NumberRanges, first: number, last: number): boolean {
  return first > last || ranges.some(([from, to]) => from <= first && last <= to);
}

function joined(ranges: NumberRanges): NumberRanges {
  const out: [number, number][] = [];
  for (const [first, last] of ranges.toSorted(([a], [b]) => a - b)) {
    const before = out.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else out.push([first, last]);
  }
  return out;
}
