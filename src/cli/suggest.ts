import { closest, distance } from 'fastest-levenshtein';

/** The known name that `name` was probably meant to be; undefined when none is near. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const candidate = known.length === 0 ? undefined : closest(name, known);
  if (candidate === undefined) return undefined;
  return distance(name, candidate) <= Math.max(2, Math.floor(candidate.length / 3)) ? candidate : undefined;
}
