import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  admit,
  after,
  CLOSED,
  decodeBreaker,
  encodeBreaker,
  type BreakerEvent,
  type BreakerSettings,
  type BreakerState,
} from '../../src/policy/breaker.ts';

const settings: BreakerSettings = { threshold: 3, openMs: 1000, openMaxMs: 5000, trialMs: 300 };
const failure = (holder = 'a'): BreakerEvent => ({ type: 'failure', holder, error: 'no answer' });
const success = (holder = 'a'): BreakerEvent => ({ type: 'success', holder });
const abandoned = (holder = 'a'): BreakerEvent => ({ type: 'abandoned', holder });

const open: BreakerState = { kind: 'open', failures: 3, opened: 1, untilMs: 2000, lastError: 'no answer' };
const halfOpen: BreakerState = { ...open, kind: 'half-open', untilMs: 2300, holder: 'a' };
const forced: BreakerState = { kind: 'forced-open', reason: 'maintenance' };

describe('a breaker', () => {
  test('opens at the threshold of failures in a row', () => {
    let state: BreakerState = CLOSED;
    for (const event of [failure(), failure(), success(), failure(), abandoned(), failure()])
      state = after(state, event, 1000, settings);
    expect(state).toEqual({ kind: 'closed', failures: 2 });
    expect(admit(state, 'a', 1000, settings)).toEqual({ admitted: true, state });
    expect(after(state, failure(), 1000, settings)).toEqual(open);
    expect(after(CLOSED, failure(), 1000, { ...settings, threshold: 1 })).toEqual({ ...open, failures: 1 });
  });

  test('refuses everyone while it is open', () => {
    for (const now of [1000, 1999]) expect(admit(open, 'a', now, settings)).toEqual({ admitted: false, state: open });
  });

  test('then lets one try, and no other', () => {
    const first = admit(open, 'a', 2000, settings);
    expect(first).toEqual({ admitted: true, state: halfOpen });
    expect(admit(first.state, 'b', 2001, settings)).toEqual({ admitted: false, state: halfOpen });
  });

  test('gives the trial to another when its holder does not come back', () => {
    expect(admit(halfOpen, 'b', 2299, settings).admitted).toBe(false);
    const taken: BreakerState = { ...halfOpen, holder: 'b', untilMs: 2600 };
    expect(admit(halfOpen, 'b', 2300, settings)).toEqual({ admitted: true, state: taken });
    expect(after(taken, failure('a'), 2400, settings)).toBe(taken);
    expect(after(taken, abandoned('a'), 2400, settings)).toBe(taken);
    expect(after(taken, success('a'), 2400, settings)).toEqual(CLOSED);
  });

  test('closes when the trial succeeds, and stays open twice as long when it fails, up to the most', () => {
    expect(after(halfOpen, success(), 2100, settings)).toEqual(CLOSED);
    let state: BreakerState = open;
    const waits: number[] = [];
    for (let i = 0; i < 4; i++) {
      const now = state.kind === 'open' ? state.untilMs : 0;
      state = after(admit(state, 'a', now, settings).state, failure(), now, settings);
      waits.push(state.kind === 'open' ? state.untilMs - now : NaN);
    }
    expect(waits).toEqual([2000, 4000, 5000, 5000]);
    expect(state).toMatchObject({ failures: 7, opened: 5 });
    // A trial that fails is enough, whatever the threshold is by now.
    expect(after({ ...halfOpen, failures: 1 }, failure(), 0, settings).kind).toBe('open');
    const long: BreakerState = { ...halfOpen, opened: 100_000 };
    expect(after(long, failure(), 0, settings)).toMatchObject({ untilMs: 5000 });
  });

  test('a trial given up is open to the next at once', () => {
    const state = after(halfOpen, abandoned(), 2100, settings);
    expect(state).toEqual({ ...open, untilMs: 2100 });
    expect(admit(state, 'b', 2100, settings)).toMatchObject({
      admitted: true,
      state: { kind: 'half-open', holder: 'b' },
    });
  });

  test('calls under way when it opened: an answer closes it, a failure changes nothing', () => {
    expect(after(open, failure(), 1500, settings)).toBe(open);
    expect(after(open, abandoned(), 1500, settings)).toBe(open);
    expect(after(open, success(), 1500, settings)).toEqual(CLOSED);
  });

  test('a clock that was set back keeps nothing shut', () => {
    expect(admit(open, 'a', 2000 - settings.openMaxMs, settings).admitted).toBe(false);
    expect(admit(open, 'a', 2000 - settings.openMaxMs - 1, settings).admitted).toBe(true);
    expect(admit(halfOpen, 'b', 2300 - settings.trialMs - 1, settings).admitted).toBe(true);
  });

  test('forced open and disabled are left by hand only', () => {
    for (const state of [forced, { kind: 'disabled' } as const]) {
      for (const event of [failure(), success(), abandoned()]) expect(after(state, event, 9e9, settings)).toBe(state);
      expect(admit(state, 'a', 9e12, settings).admitted).toBe(state.kind === 'disabled');
    }
  });

  test('what changes nothing gives the very same state', () => {
    expect(after(CLOSED, success(), 1, settings)).toBe(CLOSED);
    expect(admit(CLOSED, 'a', 1, settings).state).toBe(CLOSED);
  });

  test('keeps the beginning only of a long error', () => {
    const event: BreakerEvent = { type: 'failure', holder: 'a', error: 'x'.repeat(10_000) };
    const state = after(CLOSED, event, 1, { ...settings, threshold: 1 });
    expect(encodeBreaker(state).length).toBeLessThan(500);
  });

  const anyEvent = fc.oneof(
    fc.record({ do: fc.constant('admit' as const), holder: fc.constantFrom('a', 'b', 'c') }),
    fc.record({
      do: fc.constantFrom('success' as const, 'failure' as const, 'abandoned' as const),
      holder: fc.constantFrom('a', 'b', 'c'),
    }),
  );

  test('whatever happens: one trial at a time, every state comes back from its JSON, and no wait is longer than the longest', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(anyEvent, fc.nat(800)), { maxLength: 60 }), (steps) => {
        let state: BreakerState = CLOSED;
        let now = 1_000_000;
        let trial: { holder: string; untilMs: number } | undefined;
        for (const [step, ms] of steps) {
          now += ms;
          if (step.do === 'admit') {
            const admission = admit(state, step.holder, now, settings);
            if (admission.admitted && admission.state.kind === 'half-open') {
              expect(state.kind === 'half-open' && trial !== undefined && now < trial.untilMs).toBe(false);
              trial = { holder: step.holder, untilMs: now + settings.trialMs };
            }
            if (!admission.admitted) {
              if (!('untilMs' in admission.state)) throw new Error('nobody forced it open');
              expect(admission.state.untilMs).toBeLessThanOrEqual(now + settings.openMaxMs);
              expect(admit(state, step.holder, admission.state.untilMs, settings).admitted).toBe(true);
            }
            ({ state } = admission);
          } else {
            const event = step.do === 'failure' ? failure(step.holder) : { type: step.do, holder: step.holder };
            const frozen = Object.freeze({ ...state });
            state = after(frozen, event, now, settings);
          }
          expect(decodeBreaker(encodeBreaker(state))).toEqual(state);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('JSON: what is no state, or of another version, is none', () => {
    for (const state of [CLOSED, open, halfOpen, forced, { kind: 'disabled' } as const]) {
      const text = encodeBreaker(state);
      expect(decodeBreaker(text)).toEqual(state);
      expect(decodeBreaker(text.replace('"version":1', '"version":2'))).toBeUndefined();
      for (let length = 0; length < text.length; length++) expect(decodeBreaker(text.slice(0, length))).toBeUndefined();
      // Each member is needed, and of its own type.
      const members = Object.keys(JSON.parse(text) as object);
      for (const member of members) {
        for (const wrong of [
          undefined,
          null,
          [],
          {},
          true,
          member === 'kind' ? 'no' : member === 'untilMs' ? '1' : -1.5,
        ]) {
          const changed = JSON.stringify({ ...(JSON.parse(text) as object), [member]: wrong });
          expect(decodeBreaker(changed), changed).toBeUndefined();
        }
      }
    }
    for (const text of ['null', '1', '"a"', '[]', '{}', '{"version":1}']) expect(decodeBreaker(text)).toBeUndefined();
  });
});
