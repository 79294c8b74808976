/** The breaker of a guarded backend: one that was found down is left alone for a while. */
import { beforeEach, describe, expect, test } from 'vitest';
import { BREAKER, DEADLINE_MS, GRACE_MS, guarded, RETRY, type GuardOptions } from '../../src/backend/guarded.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { HoldfastError, isHoldfastError } from '../../src/errors.ts';
import { decodeBreaker, encodeBreaker, memoryStore, type BreakerStore } from '../../src/policy/breaker.ts';
import { rateLimit } from '../../src/policy/rate-limit.ts';
import { rejects } from '../backend-helpers.ts';
import { FakeClock } from '../fake-clock.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import { randomOf, transient } from '../policy/support.ts';
import { all, operations, silence } from './guarded-support.ts';

let clock: FakeClock;
let inner: FaultyBackend;
let options: GuardOptions;

beforeEach(() => {
  clock = new FakeClock();
  inner = new FaultyBackend(createMemory('memory'));
  options = { name: 'far', clock, random: randomOf(255) };
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
