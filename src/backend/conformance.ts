/**
 * The contract of `Backend`, tried on real storage: what a user runs against his own provider, and what every implementation is held to besides
 * the longer suite of the tests. All keys lie below one folder of their own, and are taken away at the end.
 */
import type { Clock, Random } from '../clock.ts';
import { HoldfastError, isHoldfastError, isSurvivable, messageOf } from '../errors.ts';
import type { Backend } from './backend.ts';

export interface ConformanceCheck {
  /** Number of the line of the contract in backend.ts. */
  line: number;
  title: string;
  /**
   * False where holdfast manages without: names are hashes of contents, so two who write one key write the same; and credentials that cannot
   * delete are the better ones.
   */
  required: boolean;
  ok: boolean;
  /** What was otherwise than it should be; null when all was well. */
  problem: string | null;
  milliseconds: number;
}

/** Medians in milliseconds, and bytes per second of a large object. */
export interface Latencies {
  put: number;
  get: number;
  head: number;
  list: number;
  uploadBytesPerSecond: number;
  downloadBytesPerSecond: number;
}

export interface ConformanceResult {
  checks: ConformanceCheck[];
  latencies: Latencies | null;
  /** Keys that could not be taken away: credentials without the right to delete leave them. */
  left: string[];
}

export interface ConformanceOptions {
  clock: Clock;
  random: Random;
  signal?: AbortSignal | undefined;
  largeBytes?: number;
}

const SMALL_BYTES = 1000;
const LARGE_BYTES = 4 * 1024 * 1024;
const SAMPLES = 9;
const RACERS = 8;

/**
 * @param prefix below which all keys lie: a folder that is not there yet, without a slash at its end
 * @param largeBytes of what is called large: 4 MiB, unless it is a test that is not about size
 */
export async function checkConformance(
  backend: Backend,
  prefix: string,
  { clock, random, signal, largeBytes = LARGE_BYTES }: ConformanceOptions,
): Promise<ConformanceResult> {
  const checks: ConformanceCheck[] = [];
  const keys = new Set<string>();
  const key = (name: string): string => {
    const made = `${prefix}/${name}`;
    keys.add(made);
    return made;
  };
  const options = { signal };
  const attempt = async (line: number, title: string, work: () => Promise<void>, required = true): Promise<void> => {
    const started = clock.monotonic();
    let problem: string | null = null;
    try {
      await work();
    } catch (error) {
      if (isHoldfastError(error, 'interrupted', 'bug')) throw error;
      problem = messageOf(error);
    }
    const milliseconds = Math.round(clock.monotonic() - started);
    checks.push({ line, title, required, ok: problem === null, problem, milliseconds });
  };
  const small = random.bytes(SMALL_BYTES);
  const other = random.bytes(SMALL_BYTES);
  const large = random.bytes(largeBytes);

  try {
    await attempt(5, 'an object comes back as it was put', async () => {
      await backend.put(key('small'), small, options);
      same(await backend.get(key('small'), undefined, options), small);
    });
    await attempt(5, 'so does a large one', async () => {
      await backend.put(key('large'), large, options);
      same(await backend.get(key('large'), undefined, options), large);
    });
    await attempt(5, 'one that is absent is not found', async () => {
      const error = await backend.get(`${prefix}/absent`, undefined, options).then(
        () => undefined,
        (failure: unknown) => failure,
      );
      if (!isHoldfastError(error, 'not_found')) throw wrong('get answered otherwise than "not found"');
    });
    await attempt(13, 'an object of no bytes is an object', async () => {
      await backend.put(key('empty'), new Uint8Array(0), options);
      same(await backend.get(key('empty'), undefined, options), new Uint8Array(0));
      if ((await backend.head(key('empty'), options))?.size !== 0) throw wrong('head does not find it');
    });
    await attempt(6, 'ranges: inside, across the end, and past it', async () => {
      for (const [offset, length] of [
        [0, 10],
        [10, 20],
        [SMALL_BYTES - 5, 50],
        [SMALL_BYTES, 1],
        [5, 0],
      ] as const)
        same(await backend.get(key('small'), { offset, length }, options), small.subarray(offset, offset + length));
    });
    await attempt(7, 'head gives sizes, and tells what is absent', async () => {
      if ((await backend.head(key('large'), options))?.size !== largeBytes) throw wrong('the size is wrong');
      if (await backend.head(`${prefix}/absent`, options)) throw wrong('it finds what is not there');
    });
    await attempt(8, 'list shows what was just put, with its size, and nothing else', async () => {
      const seen = new Map<string, number>();
      for await (const { key: found, size } of backend.list(`${prefix}/`, options)) {
        if (seen.has(found)) throw wrong(`${found} is listed twice`);
        seen.set(found, size);
      }
      const wanted = [key('empty'), key('large'), key('small')];
      if ([...seen.keys()].toSorted().join() !== wanted.join()) throw wrong(`it lists ${seen.size} objects, not 3`);
      if (seen.get(key('large')) !== largeBytes) throw wrong('a size is wrong');
    });
    await attempt(3, 'put with ifAbsent never replaces', async () => {
      if ((await backend.put(key('small'), other, { ifAbsent: true, signal })) !== 'exists')
        throw wrong('it says that it created what was there');
      same(await backend.get(key('small'), undefined, options), small);
    });
    await attempt(
      3,
      `of ${RACERS} puts with ifAbsent at once, one creates`,
      async () => {
        const racers = Array.from({ length: RACERS }, () => random.bytes(SMALL_BYTES));
        const raced = key('raced');
        const answers = await Promise.all(racers.map((bytes) => backend.put(raced, bytes, { ifAbsent: true, signal })));
        const winners = racers.filter((_, i) => answers[i] === 'created');
        if (winners.length !== 1) throw wrong(`${winners.length} were told that they created it`);
        same(await backend.get(raced, undefined, options), winners[0] ?? small);
      },
      false,
    );
    await attempt(4, 'put without ifAbsent replaces', async () => {
      await backend.put(key('small'), other, options);
      same(await backend.get(key('small'), undefined, options), other);
    });
    await attempt(
      9,
      'delete removes, and an absent key is no error',
      async () => {
        await backend.delete(key('empty'), options);
        await backend.delete(`${prefix}/absent`, options);
        if (await backend.head(key('empty'), options)) throw wrong('the object is still there');
      },
      false,
    );
    const latencies = await measure(backend, prefix, key, { clock, random, signal, largeBytes }).catch(
      (error: unknown) => {
        if (!isSurvivable(error)) throw error;
        return null; // what fails has been told
      },
    );
    return { checks, latencies, left: await cleanUp(backend, keys) };
  } catch (error) {
    await cleanUp(backend, keys);
    throw error;
  }
}

async function measure(
  backend: Backend,
  prefix: string,
  key: (name: string) => string,
  { clock, random, signal, largeBytes = LARGE_BYTES }: ConformanceOptions,
): Promise<Latencies> {
  const timed = async (work: (i: number) => Promise<unknown>): Promise<number> => {
    const times: number[] = [];
    for (let i = 0; i < SAMPLES; i++) {
      const started = clock.monotonic();
      await work(i);
      times.push(clock.monotonic() - started);
    }
    return times.toSorted((a, b) => a - b)[Math.floor(SAMPLES / 2)] ?? 0;
  };
  const bytes = random.bytes(SMALL_BYTES);
  const large = random.bytes(largeBytes);
  const put = await timed((i) => backend.put(key(`timed-${i}`), bytes, { signal }));
  const get = await timed((i) => backend.get(key(`timed-${i}`), undefined, { signal }));
  const head = await timed((i) => backend.head(key(`timed-${i}`), { signal }));
  const list = await timed(async () => {
    for await (const _ of backend.list(`${prefix}/`, { signal }));
  });
  const up = clock.monotonic();
  await backend.put(key('timed-large'), large, { signal });
  const down = clock.monotonic();
  await backend.get(key('timed-large'), undefined, { signal });
  const end = clock.monotonic();
  const rate = (ms: number) => Math.round(largeBytes / Math.max(ms / 1000, 1e-6));
  return {
    ...{ put, get, head, list },
    uploadBytesPerSecond: rate(down - up),
    downloadBytesPerSecond: rate(end - down),
  };
}

/** Also after an interruption, and so without its signal. @returns what is left */
async function cleanUp(backend: Backend, keys: ReadonlySet<string>): Promise<string[]> {
  const left: string[] = [];
  for (const key of keys) await backend.delete(key).catch(() => left.push(key));
  return left;
}

function same(actual: Uint8Array, wanted: Uint8Array): void {
  if (Buffer.compare(actual, wanted) === 0) return;
  throw wrong(`it gave ${actual.length} bytes that are not the ${wanted.length} that were stored`);
}

function wrong(problem: string): HoldfastError {
  return new HoldfastError('damaged', problem);
}
