/** Runs that die at one step after the other. */
import { expect } from 'vitest';
import { parseKey } from '../../src/repository/repository.ts';
import type { FaultyBackend } from '../faulty-backend.ts';

const IS_LONG = process.env['HOLDFAST_LONG'] === '1';

/**
 * Does `work` at each step of a run, from 1; it tells the kinds of what was hit there. With HOLDFAST_LONG=1 that is at all steps, else at the first, the last
 * and every third from `from` on, so that sweeps with other beginnings come to all of them together, and at as many more as it takes to hit every kind.
 *
 * @param kinds of what the steps are about when nothing fails, in order; with faults the order may be another.
 */
export async function sweep(
  kinds: readonly string[],
  from: 1 | 2 | 3,
  work: (n: number) => Promise<readonly string[]>,
): Promise<void> {
  const missing = new Set(kinds);
  const left = new Set(kinds.keys());
  const go = async (at: number) => {
    left.delete(at);
    try {
      for (const kind of await work(at + 1)) missing.delete(kind);
    } catch (error) {
      if (error instanceof Error) error.message = `step ${at + 1} of ${kinds.length}: ${error.message}`;
      throw error;
    }
  };
  for (const at of [...left])
    if (IS_LONG || at === 0 || at === kinds.length - 1 || (at + 1 - from) % 3 === 0) await go(at);
  while (missing.size > 0 && left.size > 0) {
    const rest = [...left];
    await go(rest.find((at) => missing.has(kinds[at] ?? '')) ?? rest[0] ?? 0);
  }
  expect([...missing], 'was never hit').toEqual([]);
}

/** The kind of object that an operation is about; of a listing `list`. */
const kindOf = ({ operation, key }: FaultyBackend['operations'][number]): string =>
  operation === 'list' ? 'list' : (parseKey(key)?.kind ?? key);

/** Of each backend, what its first fault has hit. */
export const hitIn = (...backends: readonly FaultyBackend[]): string[] =>
  backends.flatMap(({ operations }) => {
    const hit = operations.find(({ effect }) => effect !== undefined);
    return hit ? [kindOf(hit)] : [];
  });

/** The kinds of all that was done there, or of what these operations were about, in order. */
export const kindsIn = ({ operations }: FaultyBackend, only?: 'put' | 'get'): string[] =>
  operations.filter(({ operation }) => only === undefined || operation === only).map(kindOf);
