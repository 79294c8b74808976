/**
 * Random histories of writers, forgetters and pruners side by side, with crashes, pauses, wrong clocks, backends out of reach and listings that lag: no
 * snapshot ever loses a chunk, and what is needless goes in the end. `HOLDFAST_HISTORIES=5000` makes it long, as does `npm run torture -- --only histories` (docs/testing.md); a failure prints
 * its seed, which `HOLDFAST_SEED=… HOLDFAST_HISTORIES=1` repeats, and the history.
 */
import './zlib-at-once.ts';
import { beforeAll, describe, expect, test } from 'vitest';
import { newRepository, type Case, type Flaw, type Flaws } from './actors.ts';
import { problemOf } from './histories.ts';

const ASKED = process.env['HOLDFAST_HISTORIES'];
const HISTORIES = Number(ASKED ?? (process.env['HOLDFAST_LONG'] === '1' ? 60 : 6));
const ASKED_FIRST = process.env['HOLDFAST_SEED'];
const FIRST = Number(ASKED_FIRST ?? 1);
/** So many in a row delete beside others, whatever the seed; the first six do, too. */
const MANY = 16;

let repository: Case;
beforeAll(async () => {
  repository = await newRepository();
});

describe('whatever the order of what hosts do', () => {
  test('no snapshot loses a chunk, and what is needless goes', { timeout: 3_600_000 }, async () => {
    let deletedBeside = 0;
    for (let seed = FIRST; seed < FIRST + HISTORIES; seed++) {
      const outcome = await problemOf(seed, repository);
      if (outcome.problem !== undefined) expect.fail(outcome.problem);
      deletedBeside += outcome.deletedBeside;
    }
    // While others were at work; what goes when all are at rest does not count.
    if (HISTORIES >= MANY || (ASKED ?? ASKED_FIRST) === undefined) expect(deletedBeside).toBeGreaterThan(HISTORIES);
  });
});

/** A backend whose listing hides what lies in a folder. */
const blindTo =
  (folder: string): Flaw =>
  (backend) => ({
    ...backend,
    async *list(prefix, options) {
      for await (const one of backend.list(prefix, options)) if (!one.key.startsWith(folder)) yield one;
    },
  });

/** A backend that takes what is put into a folder, and keeps none of it. */
const unseen =
  (folder: string): Flaw =>
  (backend) => ({
    ...backend,
    put: async (key, ...rest) => (key.startsWith(folder) ? 'created' : backend.put(key, ...rest)),
  });

describe('a test of the test: it finds', () => {
  // From a seed on that shows it soon, as things are.
  test.each<[string, number, Flaws]>([
    ['a deletion that waits for nobody', 10, { pruner: blindTo('runs/'), settleMs: 0 }],
    ['a deletion that lets listings settle, and waits for no run', 1, { pruner: blindTo('runs/') }],
    ['an undo that does not look for a prune', 3, { undoer: blindTo('runs/') }],
    ['a writer that relies on what is condemned', 3, { writer: blindTo('condemned/') }],
    ['a writer that does not say that it runs', 10, { writer: unseen('runs/') }],
  ])('%s', { timeout: 3_600_000 }, async (_, early, flaws) => {
    const first = Number(ASKED_FIRST ?? early);
    for (let seed = first; seed < first + Math.max(HISTORIES, 60); seed++) {
      const { problem } = await problemOf(seed, repository, flaws);
      if (!problem?.includes('has lost chunk')) continue;
      return;
    }
    expect.fail('no history showed it');
  });
});
