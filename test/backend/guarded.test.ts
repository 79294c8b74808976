import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Backend, ObjectInfo } from '../../src/backend/backend.ts';
import {
  DEADLINE_MS,
  GRACE_MS,
  guarded,
  openGuarded,
  RATE_MIN_BYTES_PER_SECOND,
  RETRY,
  type GuardOptions,
} from '../../src/backend/guarded.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { systemClock } from '../../src/clock.ts';
import { HoldfastError, isHoldfastError } from '../../src/errors.ts';
import { memoryStore } from '../../src/policy/breaker.ts';
import { rateLimit } from '../../src/policy/rate-limit.ts';
import { collect, expectSame, keysAndSizes, patterned, rejects } from '../backend-helpers.ts';
import { anyStep, expected, perform } from '../backend-model.ts';
import { backendSuite } from '../backend-suite.ts';
import { FakeClock } from '../fake-clock.ts';
import { FaultyBackend, type Effect } from '../faulty-backend.ts';
import { randomOf, transient } from '../policy/support.ts';
import { all, deafness, operations, silence } from './guarded-support.ts';

const MiB = 1024 * 1024;
const noPauses = randomOf(0);
const longestPauses = randomOf(255);

backendSuite('a guarded backend', async () => {
  const backend = guarded(createMemory('memory'), { name: 'memory', clock: systemClock, random: noPauses });
  return { backend, cleanup: async () => backend[Symbol.asyncDispose]() };
});

backendSuite('a guarded backend that fails every third time', async () => {
  const inner = flaky(createMemory('memory'));
  const backend = guarded(inner, { name: 'memory', clock: systemClock, random: noPauses });
  return { backend, cleanup: async () => backend[Symbol.asyncDispose]() };
});

/** Each kind of operation on each key fails the first time, and every third time after that. */
function flaky(backend: Backend): Backend {
  const counts = new Map<string, number>();
  const toll = (operation: string, key: string) => {
    const id = `${operation} ${key}`;
    const count = counts.get(id) ?? 0;
    counts.set(id, count + 1);
    if (count % 3 === 0) throw transient();
  };
  return {
    put: async (key, ...rest) => (toll('put', key), backend.put(key, ...rest)),
    get: async (key, ...rest) => (toll('get', key), backend.get(key, ...rest)),
    head: async (key, ...rest) => (toll('head', key), backend.head(key, ...rest)),
    async *list(prefix, ...rest) {
      toll('list', prefix);
      yield* backend.list(prefix, ...rest);
    },
    delete: async (key, ...rest) => (toll('delete', key), backend.delete(key, ...rest)),
    [Symbol.asyncDispose]: async () => backend[Symbol.asyncDispose](),
  };
}

let clock: FakeClock;
let inner: FaultyBackend;
let options: GuardOptions;

beforeEach(() => {
  clock = new FakeClock();
  inner = new FaultyBackend(createMemory('memory'));
  options = { name: 'far', clock, random: longestPauses };
});

describe('a guarded backend repeats', () => {
  test.each(operations)('%s that fails for now, up to the number of tries', async (_, call) => {
    inner.plan({ effect: 'fail', error: transient(), times: RETRY.tries - 1 });
    await clock.through(
      call(guarded(inner, options)).catch((error) => isHoldfastError(error, 'not_found') || Promise.reject(error)),
    );
    inner.assertAllFired();
    expect(inner.count()).toBe(RETRY.tries);
    expect(clock.monotonic()).toBeLessThan(7_750);
  });

  test.each(operations)('%s no more often than that', async (_, call) => {
    inner.plan({ effect: 'fail', error: transient('down'), times: Infinity });
    const error = await clock.through(rejects(call(guarded(inner, options)), 'backend_unavailable'));
    expect(error.message).toBe('down');
    expect(inner.count()).toBe(RETRY.tries);
  });

  test.each(operations)('%s never when it fails for good', async (_, call) => {
    for (const error of [
      new HoldfastError('backend_unavailable', 'wrong key'),
      new HoldfastError('damaged', 'bad'),
      new TypeError('a defect'),
    ]) {
      inner = new FaultyBackend(createMemory('memory'), { plan: [{ effect: 'fail', error: error as HoldfastError }] });
      await expect(call(guarded(inner, options))).rejects.toBe(error);
      expect(inner.count()).toBe(1);
    }
    expect(clock.monotonic()).toBe(0);
  });

  test('whatever faults: every operation comes to what it comes to without them', { timeout: 60_000 }, async () => {
    /** Rows of faults shorter than the tries, each followed by at least one operation without. */
    const anyEffect = fc.constantFrom<Effect>('fail', 'fail-after');
    const rows = fc.array(
      fc.record({
        gap: fc.integer({ min: 1, max: 4 }),
        faults: fc.array(anyEffect, { minLength: 1, maxLength: RETRY.tries - 1 }),
      }),
      { minLength: 1, maxLength: 12 },
    );
    let fired = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { minLength: 1, maxLength: 20 }), rows, async (steps, plan) => {
        clock = new FakeClock();
        const memory = createMemory('memory');
        const faulty = new FaultyBackend(memory);
        let nth = 0;
        for (const { gap, faults } of plan) {
          nth += gap;
          for (const effect of faults) faulty.plan({ effect, nth: ++nth, error: transient() });
        }
        const backend = guarded(faulty, { ...options, clock, random: noPauses });
        const model = new Map<string, Uint8Array>();
        for (const step of steps) {
          const before = faulty.operations.length;
          const outcome = await clock.through(perform(backend, step));
          const wanted = expected(model, step);
          const isAnswerLost = faulty.operations.slice(before).some(({ effect }) => effect === 'fail-after');
          if (step.do === 'put' && step.ifAbsent && isAnswerLost) expect([wanted, 'exists']).toContain(outcome);
          else expect(outcome).toEqual(wanted);
        }
        while (faulty.count() <= nth) await clock.through(backend.head('a'));
        faulty.assertAllFired();
        fired += nth;
        for (const [key, bytes] of model) expectSame(await memory.get(key), bytes);
        expect(await keysAndSizes(memory, '')).toHaveLength(model.size);
      }),
      { numRuns: 60, seed: 20_260_101 },
    );
    expect(fired).toBeGreaterThan(1000);
  });
});

describe('a deadline ends', () => {
  test.each(operations)('%s on a silent backend, also when it does not stop', async (name, call) => {
    for (const [operation, graces] of [
      [silence, 0],
      [deafness, 1],
    ] as const) {
      clock = new FakeClock();
      const error = await clock.through(
        rejects(call(guarded(all(operation), { ...options, clock })), 'backend_unavailable'),
      );
      expect(error.message).toMatch(/^backend far did not .* in time$/);
      // A get may be one of a large object: whether the backend is alive is asked for.
      const deadlines = name === 'get' ? 2 : 1;
      expect(clock.monotonic()).toBeLessThanOrEqual(2 * deadlines * (DEADLINE_MS + graces * GRACE_MS) + RETRY.baseMs);
      expect(clock.sleeping).toBe(0);
    }
  });

  test('a transfer on a backend that went silent, after two deadlines each try', async () => {
    for (const call of [
      (backend: Backend) => backend.put('a', new Uint8Array(16 * MiB)),
      (backend: Backend) => backend.get('a'),
      (backend: Backend) => backend.get('a', { offset: 0, length: 16 * MiB }),
    ]) {
      clock = new FakeClock();
      await clock.through(rejects(call(guarded(all(silence), { ...options, clock })), 'backend_unavailable'));
      expect(clock.monotonic()).toBeLessThanOrEqual(4 * DEADLINE_MS + RETRY.baseMs);
    }
  });

  test('no transfer that is slow, as long as the backend answers', async () => {
    const memory = createMemory('memory');
    const slowMs = DEADLINE_MS + ((16 * MiB) / RATE_MIN_BYTES_PER_SECOND) * 1000 - 1;
    const backend = guarded(
      {
        ...memory,
        put: async (key, bytes, { signal } = {}) => {
          await clock.sleep(slowMs, signal);
          return memory.put(key, bytes);
        },
        get: async (key, range, { signal } = {}) => {
          await clock.sleep(slowMs, signal);
          return memory.get(key, range);
        },
      },
      options,
    );
    const bytes = patterned(16 * MiB, 1);
    expect(await clock.through(backend.put('a', bytes, { ifAbsent: true }))).toBe('created');
    expectSame(await clock.through(backend.get('a')), bytes);
    expect(clock.monotonic()).toBe(2 * slowMs);
  });

  test('a transfer slower than the slowest line, though the backend answers', async () => {
    const bytes = new Uint8Array(MiB);
    const allowedMs = DEADLINE_MS + (MiB / RATE_MIN_BYTES_PER_SECOND) * 1000;
    const memory = createMemory('memory');
    const crawling = { ...memory, put: all(silence).put, get: all(silence).get };
    await memory.put('a', bytes);
    for (const call of [
      (b: Backend) => b.put('a', bytes),
      (b: Backend) => b.get('a'),
      (b: Backend) => b.get('a', { offset: 0, length: MiB }),
    ]) {
      clock = new FakeClock();
      await clock.through(rejects(call(guarded(crawling, { ...options, clock })), 'backend_unavailable'));
      expect(clock.monotonic()).toBeGreaterThanOrEqual(2 * allowedMs);
      expect(clock.monotonic()).toBeLessThanOrEqual(2 * allowedMs + RETRY.baseMs);
    }
  });

  test('no listing that is slow, as long as objects keep coming', async () => {
    const backend = guarded(
      {
        ...createMemory('memory'),
        async *list() {
          for (let i = 0; i < 20; i++) {
            await clock.sleep(DEADLINE_MS - 1);
            yield { key: `k/${i}`, size: i };
          }
        },
      },
      options,
    );
    expect(await clock.through(collect(backend.list('')))).toHaveLength(20);
  });

  test('a call that was told to stop and repeated succeeds', async () => {
    const memory = createMemory('memory');
    let calls = 0;
    const head: Backend['head'] = (key, how) => (calls++ === 0 ? silence(how?.signal) : memory.head(key, how));
    expect(await clock.through(guarded({ ...memory, head }, options).head('a'))).toBeUndefined();
    expect(calls).toBe(2);
  });

  test.each(operations)('nothing of %s when the caller gives it up: that is at once', async (_, call) => {
    for (const [operation, ms] of [
      [silence, 0],
      [deafness, GRACE_MS],
    ] as const) {
      clock = new FakeClock();
      const store = memoryStore();
      const controller = new AbortController();
      const backend = guarded(all(operation), { ...options, clock, breaker: store });
      const outcome = rejects(call(backend, controller.signal), 'interrupted');
      await clock.advance(100);
      controller.abort();
      await clock.through(outcome);
      expect(clock.monotonic()).toBe(100 + ms);
      expect(store.read()).toBeUndefined(); // it says nothing about the backend
    }
  });

  test('a close that hangs', async () => {
    await clock.through(Promise.resolve(guarded(all(deafness), options)[Symbol.asyncDispose]()));
    expect(clock.monotonic()).toBe(DEADLINE_MS + GRACE_MS);
  });
});

describe('a guarded listing', () => {
  const keys = Array.from({ length: 2500 }, (_, i) => `packs/${String(i).padStart(4, '0')}`);

  /** Lists `keys`, in another order each time, and breaks off where it is told to. */
  function breaking(breaks: number[]): Backend & { lists: number } {
    const backend = {
      ...createMemory('memory'),
      lists: 0,
      async *list(): AsyncGenerator<ObjectInfo> {
        const turn = backend.lists++ * 977;
        const end = breaks.shift();
        for (let i = 0; i < keys.length; i++) {
          if (i === end) throw transient('broke off');
          yield { key: keys[(i + turn) % keys.length] ?? '', size: 1 };
        }
        if (end === keys.length) throw transient('broke off');
      },
    };
    return backend;
  }

  test('gives each object once, however often and wherever it broke off', async () => {
    const anyBreaks = fc.array(fc.integer({ min: 0, max: keys.length }), { maxLength: RETRY.tries - 1 });
    await fc.assert(
      fc.asyncProperty(anyBreaks, async (breaks) => {
        clock = new FakeClock();
        const source = breaking([...breaks]);
        const listing = collect(guarded(source, { ...options, clock, random: noPauses }).list(''));
        const objects = await clock.through(listing);
        expect(objects.map(({ key }) => key).toSorted()).toEqual(keys);
        expect(source.lists).toBe(breaks.length + 1);
      }),
      { numRuns: 25, examples: [[[0]], [[2500]], [[1000, 1000]]] },
    );
  });

  test('gives up when it breaks off in one place again and again', async () => {
    const source = breaking(Array.from({ length: 99 }, () => 0));
    await clock.through(rejects(collect(guarded(source, options).list('')), 'backend_unavailable'));
    expect(source.lists).toBe(RETRY.tries);
  });

  test('left early, lets go of the listing inside', async () => {
    let isLeft = false;
    const source: Backend = {
      ...createMemory('memory'),
      async *list() {
        try {
          for (const key of keys) yield { key, size: 1 };
        } finally {
          isLeft = true;
        }
      },
    };
    for await (const { key } of guarded(source, options).list('')) {
      expect(key).toBe(keys[0]);
      break;
    }
    expect(isLeft).toBe(true);
  });

  test('an answer that comes after it was given up does not hide the object from the repetition', async () => {
    let lists = 0;
    const source: Backend = {
      ...createMemory('memory'),
      async *list() {
        // Deaf to its signal: left behind at the end of the grace, and answers a moment later …
        const isRepetition = lists++ > 0;
        if (!isRepetition) await clock.sleep(DEADLINE_MS + GRACE_MS + 1);
        else for (const key of keys.slice(1, 1001)) yield { key, size: 1 };
        // … while the repetition has handed out its first thousand, and waits here.
        if (isRepetition) await clock.sleep(5000);
        yield { key: keys[0] ?? '', size: 1 };
      },
    };
    const listing = collect(guarded(source, { ...options, random: noPauses }).list(''));
    const found = (await clock.through(listing)).map(({ key }) => key);
    expect(found.toSorted()).toEqual(keys.slice(0, 1001));
    expect(lists).toBe(2);
  });
});

describe('a limit of the bandwidth', () => {
  test('slows down what is sent, also what is sent again, and nothing else', async () => {
    inner.plan({ effect: 'fail', on: 'put', error: transient() });
    const backend = guarded(inner, { ...options, random: noPauses, upload: rateLimit(MiB, clock) });
    await clock.through(backend.put('a', new Uint8Array(10 * MiB)));
    expect(clock.monotonic()).toBe(19_000);
    await backend.get('a');
    await backend.head('a');
    expect(clock.monotonic()).toBe(19_000);
  });

  test('slows down what comes after something large was received', async () => {
    const backend = guarded(inner, { ...options, download: rateLimit(MiB, clock) });
    await backend.put('a', new Uint8Array(10 * MiB));
    await backend.get('a');
    expect(clock.monotonic()).toBe(0);
    await backend.head('a');
    await clock.through(backend.get('a', { offset: 0, length: 1 }));
    expect(clock.monotonic()).toBe(9_000);
  });

  test('the wait for it is not the time of the call', async () => {
    const backend = guarded(inner, { ...options, upload: rateLimit(1000, clock) });
    expect(await clock.through(backend.put('a', new Uint8Array(MiB)))).toBe('created');
    expect(clock.monotonic()).toBeGreaterThan(1_000_000);
    expect(inner.count()).toBe(1);
  });
});

describe('opening under guard', () => {
  test('is repeated, and the backend opened is under the same guard', async () => {
    let opens = 0;
    const open = async () => {
      if (opens++ < 2) throw transient();
      return inner;
    };
    const backend = await clock.through(openGuarded(open, options));
    expect(opens).toBe(3);
    inner.plan({ effect: 'fail', error: transient(), times: 2 });
    expect(await clock.through(backend.head('a'))).toBeUndefined();
  });

  test('is not tried while the breaker is open, and opens it', async () => {
    let opens = 0;
    const open = async () => {
      opens++;
      throw transient('no route to host');
    };
    const breaker = memoryStore();
    await clock.through(rejects(openGuarded(open, { ...options, breaker }), 'backend_unavailable'));
    expect(opens).toBe(RETRY.tries);
    const error = await rejects(openGuarded(open, { ...options, breaker }), 'backend_unavailable');
    expect(error.message).toMatch(/left alone until .*: no route to host/);
    expect(opens).toBe(RETRY.tries);
  });

  test('what opens too late is closed', async () => {
    let closed = 0;
    const late: Backend = { ...createMemory('late'), [Symbol.asyncDispose]: async () => void closed++ };
    const open = () => clock.sleep(DEADLINE_MS + 1).then(() => late);
    await clock.through(rejects(openGuarded(open, options), 'backend_unavailable'));
    await clock.advance(DEADLINE_MS);
    expect(closed).toBe(2);
  });

  test('passes on what the backend offers, when it says so', async () => {
    let asked = 0;
    const capabilities = async () => {
      if (asked++ === 0) throw transient();
      return { fsync: true };
    };
    const backend = guarded({ ...createMemory('memory'), capabilities }, options);
    const answer = backend.capabilities?.() ?? Promise.reject(new Error('not passed on'));
    expect(await clock.through(answer)).toEqual({ fsync: true });
    expect('capabilities' in guarded(createMemory('memory'), options)).toBe(false);
  });

  test('says where the objects are, when the backend does', () => {
    expect(guarded({ ...createMemory('memory'), place: 's3:x' }, options).place).toBe('s3:x');
    expect('place' in guarded(createMemory('memory'), options)).toBe(false);
  });
});
