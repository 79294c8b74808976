/**
 * Random histories of writers, forgetters and pruners side by side, with crashes, pauses, wrong clocks, backends out of reach and listings that lag: no
 * snapshot ever loses a chunk, and what is needless goes in the end. `HOLDFAST_HISTORIES=5000` makes it long; a failure prints
 * its seed, which `HOLDFAST_SEED=… HOLDFAST_HISTORIES=1` repeats, and the history.
 */
import { beforeAll, describe, expect, test, vi } from 'vitest';
import type * as Zlib from 'node:zlib';
import { History, newRepository, type Case, type Flaw, type Flaws } from './actors.ts';

// Without threads, so that a seed gives the same history each time.
vi.mock('node:zlib', async (original) => {
  const zlib = await original<typeof Zlib>();
  type Done = (error: Error | null, result?: Uint8Array) => void;
  const atOnce =
    (work: (bytes: Uint8Array, options?: object) => Uint8Array) =>
    (bytes: Uint8Array, ...rest: unknown[]) => {
      const done = rest.at(-1) as Done;
      try {
        done(null, work(bytes, rest.length > 1 ? (rest[0] as object) : undefined));
      } catch (error) {
        done(error as Error);
      }
    };
  return { ...zlib, zstdCompress: atOnce(zlib.zstdCompressSync), zstdDecompress: atOnce(zlib.zstdDecompressSync) };
});

const HISTORIES = Number(process.env['HOLDFAST_HISTORIES'] ?? 30);
const FIRST = Number(process.env['HOLDFAST_SEED'] ?? 1);
const DEEDS = 30;

let repository: Case;
beforeAll(async () => {
  repository = await newRepository();
});

/** @returns what went wrong, with the history that led there */
async function problemOf(seed: number, flaws?: Flaws): Promise<{ problem?: string; deletedPacks: number }> {
  const history = new History(seed, repository, flaws);
  try {
    await history.run(DEEDS, { isEnded: flaws === undefined });
    return { deletedPacks: history.deletedPacks };
  } catch (error) {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const { deletedPacks } = history;
    return { problem: `seed ${seed}: ${what}\n${history.world.history.join('\n')}`, deletedPacks };
  }
}

describe('whatever the order of what hosts do', () => {
  test('no snapshot loses a chunk, and what is needless goes', { timeout: 3_600_000 }, async () => {
    let deletedPacks = 0;
    for (let seed = FIRST; seed < FIRST + HISTORIES; seed++) {
      const outcome = await problemOf(seed);
      if (outcome.problem !== undefined) expect.fail(outcome.problem);
      deletedPacks += outcome.deletedPacks;
    }
    expect(deletedPacks).toBeGreaterThan(HISTORIES);
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
  test.each<[string, Flaws]>([
    ['a deletion that waits for nobody', { pruner: blindTo('runs/'), settleMs: 0 }],
    ['a writer that relies on what is condemned', { writer: blindTo('condemned/') }],
    ['a writer that does not say that it runs', { writer: unseen('runs/') }],
  ])('%s', { timeout: 3_600_000 }, async (_, flaws) => {
    for (let seed = FIRST; seed < FIRST + Math.max(HISTORIES, 60); seed++) {
      const { problem } = await problemOf(seed, flaws);
      if (!problem?.includes('has lost chunk')) continue;
      return;
    }
    expect.fail('no history showed it');
  });
});
