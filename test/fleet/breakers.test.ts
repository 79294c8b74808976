import { describe, expect, test } from 'vitest';
import { HoldfastError } from '../../src/errors.ts';
import { breakerPolicy, fallbackChain } from '../../src/fleet/breaker-policy.ts';
import type { StateStore } from '../../src/fleet/store.ts';
import { failure } from '../crypto/support.ts';
import { MINUTE_MS, START_MS, testFleet } from './support.ts';

const fails = () => Promise.reject(new Error('no answer'));
const iso = (ms: number) => new Date(ms).toISOString();

describe('the breakers of a fleet', () => {
  test('a call is refused with what happened, when to try again, and what to do', async () => {
    const fleet = testFleet();
    for (let i = 0; i < 3; i++) await expect(fleet.breakers.guard('backend', fails)).rejects.toThrow('no answer');
    const refused = await failure(() => fleet.breakers.guard('backend', fails), 'breaker_open');
    expect(refused).toMatchObject({ retryAtMs: START_MS + 5 * MINUTE_MS, retryable: true });
    expect(refused.message).toBe(
      `the breaker of agent backend is open (3 failures, the last: no answer); it is tried again at ${iso(START_MS + 5 * MINUTE_MS)}, in 5m`,
    );
    expect(refused.hint).toContain('holdfast breaker reset backend');
    fleet.later(5 * MINUTE_MS);
    expect(await fleet.breakers.guard('backend', () => Promise.resolve('well'))).toBe('well');
    expect(await fleet.state('backend')).toBe('closed');
  });

  test('a breaker that never failed leaves no trace, whoever asks', async () => {
    const fleet = testFleet();
    await fleet.breakers.guard('backend', () => Promise.resolve());
    await fleet.breakers.look('backend');
    await fleet.breakers.list(['backend']);
    await fleet.breakers.command('backend', { type: 'reset' });
    await fleet.breakers.command('backend', { type: 'enable' });
    expect(await fleet.store.list('')).toEqual([]);
  });

  test('an interrupted call says nothing about the agent, and an own judgement counts', async () => {
    const fleet = testFleet({ backend: { failureThreshold: 1 } });
    const interrupted = () => Promise.reject(new HoldfastError('interrupted', 'interrupted'));
    await failure(() => fleet.breakers.guard('backend', interrupted), 'interrupted');
    await expect(fleet.breakers.guard('backend', fails, () => ({ type: 'success' }))).rejects.toThrow('no answer');
    expect(await fleet.state('backend')).toBe('closed');
    await expect(fleet.breakers.guard('backend', fails)).rejects.toThrow('no answer');
    expect(await fleet.state('backend')).toBe('open');
  });

  test('who saw what fail is kept, for each reporter, until it is well again', async () => {
    const fleet = testFleet();
    await expect(fleet.breakers.guard('a', fails)).rejects.toThrow('no answer');
    fleet.later(1000);
    await expect(fleet.breakers.guard('a', fails)).rejects.toThrow('no answer');
    const { state, since } = await fleet.breakers.look('a');
    expect(state).toMatchObject({
      evidence: [{ reporter: 'here', failures: 2, lastError: 'no answer', atMs: START_MS + 1000 }],
    });
    expect(since).toEqual({ ms: START_MS, by: 'here' });
    await fleet.breakers.guard('a', () => Promise.resolve());
    expect((await fleet.breakers.look('a')).state).toEqual({ kind: 'closed', failures: 0 });
  });

  test('a breaker opened by hand says why, and never by itself when it is over', async () => {
    const fleet = testFleet();
    await fleet.breakers.command('a', { type: 'trip', reason: 'deploying' });
    fleet.later(1e9);
    const refused = await failure(() => fleet.breakers.enter('a'), 'breaker_open');
    expect(refused).toMatchObject({ retryAtMs: undefined, retryable: false });
    expect(refused.message).toContain('opened by hand: deploying');
    await fleet.breakers.command('a', { type: 'reset' });
    await (await fleet.breakers.enter('a')).end({ type: 'success' });
  });

  test('those of the config and those that are known are listed, each once, by name', async () => {
    const fleet = testFleet();
    for (const agent of ['z', 'b.c', 'b']) await fleet.breakers.command(agent, { type: 'disable' });
    const listed = await fleet.breakers.list(['b', 'm', 'm']);
    expect(listed.map(({ agent, state }) => `${agent} ${state.kind}`)).toEqual([
      'b disabled',
      'b.c disabled',
      'm closed',
      'z disabled',
    ]);
  });

  test('names that are none are refused', async () => {
    const { breakers } = testFleet();
    for (const name of ['', 'a b', 'a/b', '.a', 'a..b', 'x'.repeat(65), '../a', 'ä']) {
      await failure(() => breakers.look(name), 'usage');
      await failure(() => breakers.enter(name), 'usage');
    }
  });

  test('a probe that lives keeps its lease; one that is gone loses it', async () => {
    const fleet = testFleet({ a: { failureThreshold: 1, recoveryMs: 1000, probeLeaseMs: 500 } });
    await expect(fleet.breakers.guard('a', fails)).rejects.toThrow('no answer');
    fleet.later(1000);
    const probe = await fleet.breakers.enter('a');
    expect(probe).toMatchObject({ onTrial: true, leaseMs: 500 });
    fleet.later(400);
    await probe.renew();
    fleet.later(400);
    expect(await failure(() => fleet.breakers.enter('a'), 'breaker_open')).toMatchObject({
      retryAtMs: START_MS + 1900,
    });
    fleet.later(100);
    const second = await fleet.breakers.enter('a');
    expect(second.onTrial).toBe(true);
    await probe.renew();
    await probe.end({ type: 'success' }); // too late: what it says counts for nothing
    expect(await fleet.state('a')).toBe('half-open');
    await second.end({ type: 'success' });
    expect(await fleet.state('a')).toBe('closed');
  });

  test('a write that others were faster with is made again, on what they wrote', async () => {
    let races = 0;
    const fleet = testFleet(
      {},
      {
        wrap: (store): StateStore => {
          const lose = async (key: string): Promise<boolean> => {
            if (++races % 3 === 0) return false;
            const now = await store.get(key);
            if (now) await store.update(key, now.value, now.revision);
            return now !== undefined;
          };
          return {
            ...store,
            update: async (key, ...rest) => ((await lose(key)) ? undefined : store.update(key, ...rest)),
          };
        },
      },
    );
    for (let i = 0; i < 3; i++) await expect(fleet.breakers.guard('a', fails)).rejects.toThrow('no answer');
    expect(races).toBeGreaterThan(3);
    expect((await fleet.breakers.look('a')).state).toMatchObject({ kind: 'open', failures: 3, opened: 1 });
  });

  test('one that cannot be read keeps nobody from the others, and is made anew by whoever trips or resets it', async () => {
    const fleet = testFleet();
    await fleet.breakers.command('a', { type: 'trip', reason: 'x' });
    await fleet.store.create('breaker.b', 'rubbish');
    const listed = async () => (await fleet.breakers.list(['c'])).map(({ agent, state }) => `${agent} ${state.kind}`);
    expect(await listed()).toEqual(['a forced-open', 'b unreadable', 'c closed']);
    await failure(() => fleet.breakers.command('b', { type: 'open', error: 'x' }), 'damaged');
    await failure(() => fleet.breakers.command('b', { type: 'disable' }), 'damaged');
    expect((await failure(() => fleet.breakers.enter('b'), 'damaged')).hint).toContain('holdfast breaker reset b');
    await fleet.breakers.command('b', { type: 'reset' });
    await (await fleet.breakers.enter('b')).end({ type: 'success' });
    const damaged = await fleet.store.get('breaker.a');
    await fleet.store.update('breaker.a', '{"version":2}', damaged?.revision ?? 0);
    await fleet.breakers.command('a', { type: 'trip', reason: 'y' });
    expect(await listed()).toEqual(['a forced-open', 'b closed', 'c closed']);
  });

  test('a record that cannot be read is no closed breaker', async () => {
    const fleet = testFleet();
    const values = [
      '',
      '{}',
      '{"version":2,"sinceMs":1,"by":"x","state":"{}"}',
      'null',
      '{"version":1,"sinceMs":1,"by":"x","state":"{}"}',
    ];
    for (const [i, value] of values.entries()) {
      await fleet.store.create(`breaker.a${i}`, value);
      expect((await failure(() => fleet.breakers.enter(`a${i}`), 'damaged')).message).toContain(`a${i}`);
    }
  });
});

describe('the policy of an agent', () => {
  test('is its own word, then what critical agents have, then that of all, then what is usual', () => {
    const of = (agent: string) =>
      breakerPolicy(agent, {
        defaults: { failureThreshold: 9, recoveryMs: 9, fallback: ['escalate_to_human'], probeLeaseMs: undefined },
        agents: {
          own: { critical: true, breaker: { recoveryMs: 7, fallback: ['queue_for_retry'] } },
          critical: { critical: true },
          plain: {},
        },
      });
    expect(of('own')).toMatchObject({ settings: { threshold: 2, openMs: 7 }, fallback: ['queue_for_retry'] });
    expect(of('critical')).toMatchObject({ settings: { threshold: 2, openMs: 2 * MINUTE_MS, trialMs: MINUTE_MS } });
    for (const agent of ['plain', 'unlisted', 'constructor'])
      expect(of(agent)).toMatchObject({ settings: { threshold: 9, openMs: 9 }, fallback: ['escalate_to_human'] });
    expect(breakerPolicy('a', {})).toMatchObject({
      settings: { threshold: 3, openMs: 5 * MINUTE_MS, openMaxMs: 60 * MINUTE_MS, growth: 2, window: undefined },
      retry: { tries: 1 },
      timeoutMs: 30 * MINUTE_MS,
    });
  });

  test('with a window, failures in a row count only where that is said', () => {
    const settings = (breaker: object) => breakerPolicy('a', { defaults: breaker }).settings;
    expect(settings({ window: 50 })).toMatchObject({ threshold: Infinity, window: { calls: 50, ratio: 0.5 } });
    expect(settings({ ratio: 0.2 })).toMatchObject({ threshold: Infinity, window: { calls: 20, ratio: 0.2 } });
    expect(settings({ ratio: 0.2, failureThreshold: 4 })).toMatchObject({ threshold: 4, window: { calls: 20 } });
    expect(settings({ recoveryMs: 90 * MINUTE_MS })).toMatchObject({ openMaxMs: 90 * MINUTE_MS });
  });

  test('a chain of fallbacks asks each agent once, also in a circle', () => {
    const fallbacks: Record<string, string[]> = {
      a: ['queue_for_retry', 'b', 'escalate_to_human', 'e'],
      b: ['c', 'a', 'proceed_with_warning'],
      c: ['b', 'c', 'a'],
      d: ['c'],
      e: [],
    };
    const chain = (agent: string) => fallbackChain(agent, (one) => ({ fallback: fallbacks[one] ?? [] }));
    expect(chain('a')).toEqual({ agents: ['a', 'b', 'c', 'e'], actions: ['queue_for_retry', 'escalate_to_human'] });
    expect(chain('d')).toEqual({
      agents: ['d', 'c', 'b', 'a', 'e'],
      actions: ['proceed_with_warning'],
    });
    expect(chain('e')).toEqual({ agents: ['e'], actions: [] });
  });
});
