/** The breakers of a fleet against the table of docs/breakers.md: whatever happens, in whatever order, every row of it holds. */
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isHoldfastError } from '../../src/errors.ts';
import { breakerPolicy, type BreakerOptions } from '../../src/fleet/breaker-policy.ts';
import { Breakers, type Permit } from '../../src/fleet/breakers.ts';
import { memoryStateStore } from '../../src/fleet/memory-store.ts';
import type { BreakerCommand } from '../../src/policy/breaker.ts';
import { seededRandom } from '../crypto/support.ts';
import { FakeClock } from '../fake-clock.ts';

interface Row {
  from: string[];
  event: string;
  when: string;
  next: string;
  call: string;
}

const page = readFileSync(join(import.meta.dirname, '../../docs/breakers.md'), 'utf8');
const table: Row[] = page
  .slice(page.indexOf('| state '), page.indexOf('- **Limits**'))
  .split('\n')
  .filter((line) => line.startsWith('| '))
  .slice(2) // head and rule
  .map((line) => {
    const [from = '', event = '', when = '', next = '', call = ''] = line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
    return { from: from.split(', '), event, when, next, call };
  });

const STATES = ['closed', 'open', 'half-open', 'forced-open', 'disabled'];

test('the table has a row for whatever can happen in each state', () => {
  const events = [...new Set(table.map(({ event }) => event))];
  expect(events.toSorted()).toEqual(
    ['abandoned', 'call', 'disable', 'enable', 'failure', 'open', 'renewed', 'reset', 'success', 'trip'].toSorted(),
  );
  expect([...new Set(table.flatMap(({ from, next }) => [...from, next]))].toSorted()).toEqual(STATES.toSorted());
  for (const state of STATES) {
    for (const event of events.filter((one) => one !== 'renewed'))
      expect(
        table.filter((row) => row.from.includes(state) && row.event === event).length,
        `${state}, ${event}`,
      ).not.toBe(0);
  }
});

/** What the text around the table says, apart from the program. */
interface Expected {
  kind: string;
  failures: number;
  window: boolean[];
  recoveries: number;
  untilMs: number;
  probe: number | undefined;
}

const FRESH: Expected = { kind: 'closed', failures: 0, window: [], recoveries: 0, untilMs: 0, probe: undefined };

interface Model {
  nowMs: number;
  expected: Expected;
  /** Calls that are under way. */
  calls: number[];
  nextCall: number;
}

interface Real {
  breakers: Breakers;
  clock: FakeClock;
  permits: Map<number, Permit>;
}

const used = new Set<Row>();

interface Options extends BreakerOptions {
  recoveryMs: number;
  recoveryMaxMs: number;
  recoveryGrowth: number;
  probeLeaseMs: number;
}

class Happening implements fc.AsyncCommand<Model, Real> {
  readonly event: string;
  readonly which: number;
  readonly ms: number;
  readonly options: Options;

  constructor(event: string, which: number, ms: number, options: Options) {
    this.event = event;
    this.which = which;
    this.ms = ms;
    this.options = options;
  }

  get needsCall(): boolean {
    return ['success', 'slow', 'failure', 'abandoned', 'renewed'].includes(this.event);
  }

  check(model: Readonly<Model>): boolean {
    return !this.needsCall || model.calls.length > 0;
  }

  async run(model: Model, real: Real): Promise<void> {
    if (this.event === 'time') {
      model.nowMs += this.ms;
      await real.clock.advance(this.ms);
      return;
    }
    const call = this.needsCall ? model.calls[this.which % model.calls.length] : undefined;
    const row = this.#row(model, call);
    used.add(row);
    const admitted = await this.#really(model, real, call);
    this.#expect(model, row, admitted ? model.nextCall - 1 : call);
    if (this.event === 'call') expect(admitted !== undefined ? 'admitted' : 'refused', this.toString()).toBe(row.call);
    const { state } = await real.breakers.look('agent');
    const { kind, failures, untilMs, window } = model.expected;
    expect(state.kind, this.toString()).toBe(kind);
    if ('failures' in state) expect(state.failures).toBe(failures);
    if ('untilMs' in state) expect(state.untilMs).toBe(untilMs);
    if (state.kind === 'closed') expect(state.window ?? '').toBe(window.map((one) => (one ? '1' : '0')).join(''));
  }

  /** The one row that says what comes of it. */
  #row({ expected, nowMs }: Model, call: number | undefined): Row {
    const event = this.event === 'slow' ? (this.options.slowMs === undefined ? 'success' : 'failure') : this.event;
    const holds: Record<string, boolean> = {
      '': true,
      'its time is over': nowMs >= expected.untilMs,
      'before its time': nowMs < expected.untilMs,
      'of the probe': call === expected.probe,
      'of another call': call !== expected.probe,
      'a limit is reached': this.#reachesLimit(expected),
      'below the limits': !this.#reachesLimit(expected),
    };
    const rows = table.filter((row) => row.from.includes(expected.kind) && row.event === event && holds[row.when]);
    // A renewal is a probe's: elsewhere it says nothing, and the table leaves it out.
    if (rows.length === 0 && event === 'renewed')
      return { from: [expected.kind], event, when: '', next: expected.kind, call: '' };
    expect(rows, `${expected.kind}, ${event}`).toHaveLength(1);
    return rows[0] as Row;
  }

  #reachesLimit({ failures, window }: Expected): boolean {
    const { failureThreshold, window: calls, ratio = 0.5 } = this.options;
    if (failureThreshold !== undefined && failures + 1 >= failureThreshold) return true;
    if (calls === undefined) return false;
    const last = [...window, true].slice(-calls);
    return last.length === calls && last.filter(Boolean).length / calls >= ratio;
  }

  async #really(
    { nextCall }: Model,
    { breakers, permits }: Real,
    call: number | undefined,
  ): Promise<Permit | undefined> {
    if (this.event === 'call') {
      try {
        const permit = await breakers.enter('agent');
        permits.set(nextCall, permit);
        return permit;
      } catch (error) {
        if (!isHoldfastError(error, 'breaker_open')) throw error;
        return undefined;
      }
    }
    if (call === undefined) {
      const command = { type: this.event, reason: 'r', error: 'e' } as BreakerCommand;
      await breakers.command('agent', command);
      return undefined;
    }
    const permit = permits.get(call);
    if (this.event === 'renewed') await permit?.renew();
    else if (this.event === 'failure') await permit?.end({ type: 'failure', error: 'e' });
    else if (this.event === 'abandoned') await permit?.end({ type: 'abandoned' });
    else await permit?.end({ type: 'success', tookMs: this.event === 'slow' ? 60_001 : 60_000 });
    return undefined;
  }

  #expect(model: Model, row: Row, call: number | undefined): void {
    const { recoveryMs, recoveryMaxMs, recoveryGrowth, probeLeaseMs, window: calls } = this.options;
    const before = model.expected;
    const after = { ...before, kind: row.next };
    const counts = (failed: boolean) => (calls === undefined ? [] : [...before.window, failed].slice(-calls));
    if (this.event === 'call' && row.call === 'admitted') {
      model.calls.push(model.nextCall++);
      if (row.next === 'half-open')
        Object.assign(after, { probe: model.nextCall - 1, untilMs: model.nowMs + probeLeaseMs });
    }
    if (this.needsCall && this.event !== 'renewed') model.calls = model.calls.filter((one) => one !== call);
    const isProbe = call === before.probe && before.kind === 'half-open';
    if (this.event === 'renewed' && isProbe) after.untilMs = model.nowMs + probeLeaseMs;
    if (row.event === 'success' && before.kind === 'closed')
      Object.assign(after, { failures: 0, window: counts(false) });
    if (row.event === 'failure' && (before.kind === 'closed' || isProbe))
      Object.assign(after, { failures: before.failures + 1, window: counts(true) });
    if (row.event === 'open' && before.kind === 'closed') after.failures++;
    if (row.next === 'open' && before.kind !== 'open') {
      const openMs = Math.min(recoveryMaxMs, recoveryMs * recoveryGrowth ** before.recoveries);
      const isGivenUp = row.event === 'abandoned';
      Object.assign(after, {
        untilMs: model.nowMs + (isGivenUp ? 0 : openMs),
        recoveries: before.recoveries + (isGivenUp ? 0 : 1),
      });
    }
    const isFresh = row.next === 'closed' && before.kind !== 'closed';
    model.expected = isFresh || (row.event === 'reset' && row.next === 'closed') ? FRESH : after;
  }

  toString(): string {
    return this.event === 'time' ? `${this.ms} ms` : this.needsCall ? `${this.event} of ${this.which}` : this.event;
  }
}

const RECOVERY = { recoveryMs: 1000, recoveryMaxMs: 3500, recoveryGrowth: 2, probeLeaseMs: 400 };
const SETTINGS: Record<string, Options> = {
  'failures in a row': { ...RECOVERY, failureThreshold: 3 },
  'a share of the last calls, and slow ones': { ...RECOVERY, window: 4, ratio: 0.5, slowMs: 60_000 },
  'both limits, constant recovery': { ...RECOVERY, recoveryGrowth: 1, failureThreshold: 2, window: 5, ratio: 0.4 },
};

test.each(Object.entries(SETTINGS))('the table holds with %s', async (_name, options) => {
  const often = ['call', 'call', 'call', 'failure', 'failure', 'failure', 'success', 'slow', 'abandoned', 'renewed'];
  const commands = ['trip', 'disable', 'reset', 'enable', 'enable', 'open'];
  const some = (events: string[]) =>
    fc
      .tuple(fc.constantFrom(...events), fc.nat(20), fc.nat(4000))
      .map(([event, which, ms]) => new Happening(event, which, ms, options));
  const happenings = fc.commands(
    [some(often), some(often), some(often), some(often), some(often), some(['time']), some(['time']), some(commands)],
    {
      maxCommands: 60,
      size: 'max',
    },
  );
  await fc.assert(
    fc.asyncProperty(happenings, async (list) => {
      const setup = () => {
        const clock = new FakeClock(1_000_000);
        const policyOf = () => breakerPolicy('agent', { defaults: options });
        const seams = { clock, random: seededRandom('model') };
        const breakers = new Breakers({ store: memoryStateStore(clock), policyOf, reporter: 'test', ...seams });
        const model: Model = { nowMs: 1_000_000, expected: FRESH, calls: [], nextCall: 0 };
        return { model, real: { breakers, clock, permits: new Map<number, Permit>() } };
      };
      await fc.asyncModelRun(setup, list);
    }),
    { numRuns: 150, seed: 9 },
  );
});

test('and all of it was tried', () => {
  expect(
    table.filter((row) => !used.has(row)).map(({ from, event, when }) => `${from.join()} ${event} ${when}`),
  ).toEqual([]);
});
