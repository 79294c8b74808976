import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Backend, ObjectInfo } from '../../src/backend/backend.ts';
import {
  BREAKER,
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
import { decodeBreaker, encodeBreaker, memoryStore, type BreakerStore } from '../../src/policy/breaker.ts';
import { rateLimit } from '../../src/policy/rate-limit.ts';
import { collect, expectSame, keysAndSizes, patterned, rejects } from '../backend-helpers.ts';
import { anyStep, expected, perform } from '../backend-model.ts';
import { backendSuite } from '../backend-suite.ts';
import { FakeClock } from '../fake-clock.ts';
import { FaultyBackend, type Effect } from '../faulty-backend.ts';
import { randomOf, transient } from '../policy/support.ts';

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

/** Never answers, but stops when it is told to. */
function silence(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(new HoldfastError('interrupted', 'interrupted')), { once: true });
  });
}

/** Never answers, and does not stop either. */
const deafness = (): Promise<never> => new Promise(() => {});

/** A backend whose every operation does this. */
function all(operation: (signal?: AbortSignal) => Promise<never>): Backend {
  return {
    put: (_key, _bytes, options) => operation(options?.signal),
    get: (_key, _range, options) => operation(options?.signal),
    head: (_key, options) => operation(options?.signal),
    async *list(_prefix, options) {
      yield await operation(options?.signal);
    },
    delete: (_key, options) => operation(options?.signal),
    [Symbol.asyncDispose]: () => operation(),
  };
}

const operations: readonly [name: string, call: (backend: Backend, signal?: AbortSignal) => Promise<unknown>][] = [
  ['put', (backend, signal) => backend.put('a', patterned(10, 1), { signal })],
  ['get', (backend, signal) => backend.get('a', undefined, { signal })],
  ['head', (backend, signal) => backend.head('a', { signal })],
  ['list', (backend, signal) => collect(backend.list('', { signal }))],
  ['delete', (backend, signal) => backend.delete('a', { signal })],
];

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

describe('the breaker', () => {
  /** A store as a file would be. */
  function jsonStore(): BreakerStore & { text: string; writes: number } {
    return {
      text: '',
      writes: 0,
      read() {
        return decodeBreaker(this.text);
      },
      write(state) {
        this.text = encodeBreaker(state);
        this.writes++;
      },
    };
  }

  test('fails calls at once after the first found the backend down, and says until when and why', async () => {
    inner.plan({ effect: 'fail', error: transient('no route to host'), times: Infinity });
    const breaker = jsonStore();
    const backend = guarded(inner, { ...options, breaker });
    await clock.through(rejects(backend.head('a'), 'backend_unavailable'));
    const [before, began] = [inner.count(), clock.monotonic()];
    const untilMs = clock.now() + BREAKER.openMs;
    for (const again of [backend, guarded(inner, { ...options, breaker })]) {
      for (const [name, call] of operations) {
        const error = await rejects(call(again), 'backend_unavailable', name);
        const until = new Date(untilMs).toTimeString().slice(0, 8);
        expect(error.message).toBe(`backend far is left alone until ${until}, after 1 failure: no route to host`);
        expect(isHoldfastError(error) && error.retryable).toBe(false);
      }
    }
    expect(inner.count()).toBe(before);
    expect(clock.monotonic()).toBe(began);
    expect(breaker.writes).toBe(1);
  });

  test('a backend that is down costs a run of 300 calls seconds', async () => {
    const silent = all(silence);
    for (const [down, mostMs] of [
      [all(() => Promise.reject(transient())), 8_000],
      [silent, 31_000],
    ] as const) {
      clock = new FakeClock();
      const backend = guarded(down, { ...options, clock });
      let failed = 0;
      const lane = async () => {
        for (let i = 0; i < 100; i++) await backend.head(`k/${i}`).catch(() => failed++);
      };
      await clock.through(Promise.all([lane(), lane(), lane()]));
      expect(failed).toBe(300);
      expect(clock.monotonic()).toBeLessThan(mostMs);
    }
  });

  test('calls under way give up when another found the backend down', async () => {
    inner.plan({ effect: 'fail', error: transient(), times: Infinity });
    const breaker = memoryStore();
    const call = rejects(guarded(inner, { ...options, breaker }).head('a'), 'backend_unavailable');
    await clock.advance(100);
    breaker.write({ kind: 'open', failures: 1, opened: 1, untilMs: clock.now() + 1000, lastError: 'another' });
    await clock.through(call);
    expect(inner.count()).toBe(1);
  });

  test('lets one call try after a while, once; the others wait for what comes of it', async () => {
    const breaker = jsonStore();
    inner.plan({ effect: 'fail', error: transient('down'), times: RETRY.tries + 1 });
    const backend = guarded(inner, { ...options, breaker });
    const other = guarded(inner, { ...options, breaker, random: randomOf(1) });
    await clock.through(rejects(backend.head('a'), 'backend_unavailable'));
    await clock.advance(BREAKER.openMs);
    const before = inner.count();
    const outcomes = await clock.through(Promise.allSettled([backend.head('a'), backend.head('b'), other.head('c')]));
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(inner.count()).toBe(before + 1);
    expect(breaker.read()).toMatchObject({ kind: 'open', failures: 2, opened: 2 });

    await clock.advance(2 * BREAKER.openMs);
    expect(await clock.through(Promise.all([backend.head('a'), backend.head('b'), other.head('c')]))).toHaveLength(3);
    expect(inner.count()).toBe(before + 4);
    expect(breaker.read()).toEqual({ kind: 'closed', failures: 0 });
  });

  test('a trial that hangs lets those who wait for it go on, and in the end another try', async () => {
    const breaker = memoryStore();
    breaker.write({
      kind: 'half-open',
      failures: 1,
      opened: 1,
      untilMs: clock.now() + BREAKER.trialMs,
      lastError: 'down',
      holder: 'dead',
    });
    const backend = guarded(inner, { ...options, breaker });
    await clock.through(rejects(backend.head('a'), 'backend_unavailable'));
    expect(clock.monotonic()).toBeLessThanOrEqual(DEADLINE_MS + GRACE_MS + 100);
    await clock.advance(BREAKER.trialMs);
    expect(await backend.head('a')).toBeUndefined();
    expect(breaker.read()).toEqual({ kind: 'closed', failures: 0 });
  });

  test('who waits for the trial of another can be told to stop', async () => {
    const breaker = memoryStore();
    const untilMs = clock.now() + BREAKER.trialMs;
    breaker.write({ kind: 'half-open', failures: 1, opened: 1, untilMs, lastError: 'down', holder: 'another' });
    const controller = new AbortController();
    const backend = guarded(inner, { ...options, breaker });
    const outcome = rejects(backend.head('a', { signal: controller.signal }), 'interrupted');
    await clock.advance(1010);
    controller.abort();
    await outcome;
    expect(clock.monotonic()).toBe(1010);
    expect(breaker.read()).toMatchObject({ holder: 'another', untilMs });
  });

  test('a trial that is given up leaves the trial to the next', async () => {
    const breaker = memoryStore();
    breaker.write({ kind: 'open', failures: 1, opened: 1, untilMs: clock.now(), lastError: 'down' });
    const controller = new AbortController();
    const outcome = rejects(
      guarded(all(silence), { ...options, breaker }).head('a', { signal: controller.signal }),
      'interrupted',
    );
    expect(breaker.read()?.kind).toBe('half-open');
    controller.abort();
    await outcome;
    expect(breaker.read()).toMatchObject({ kind: 'open', untilMs: clock.now() });
    expect(await guarded(inner, { ...options, breaker }).head('a')).toBeUndefined();
    expect(breaker.read()?.kind).toBe('closed');
  });

  test('stays closed on what is refused for good, which is an answer', async () => {
    const breaker = jsonStore();
    inner.plan({ effect: 'fail', error: new HoldfastError('backend_unavailable', 'wrong key'), times: 50 });
    const backend = guarded(inner, { ...options, breaker });
    for (let i = 0; i < 50; i++) await rejects(backend.head('a'), 'backend_unavailable');
    await rejects(backend.get('a'), 'not_found');
    inner.assertAllFired();
    expect(breaker.writes).toBe(0);
  });

  test('does not hide a defect of the caller, nor lets an aborted call through', async () => {
    const breaker = memoryStore();
    breaker.write({ kind: 'forced-open', reason: 'maintenance' });
    const upload = rateLimit(1, clock);
    const backend = guarded(inner, { ...options, breaker, upload });
    await rejects(backend.put('no//key', new Uint8Array(99)), 'bug');
    await rejects(backend.get('a', { offset: -1, length: 1 }), 'bug');
    await rejects(backend.head('a', { signal: AbortSignal.abort() }), 'interrupted');
    const error = await rejects(backend.head('a'), 'backend_unavailable');
    expect(error.message).toBe('backend far was taken out of use: maintenance');
    expect(inner.count()).toBe(0);
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
