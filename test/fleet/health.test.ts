/** What is known of an agent after each look, against the table of docs/fleet.md. */
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  AGENT_STATES,
  HISTORY_MAX,
  LAYER_STATUSES,
  LAYERS,
  observe,
  resumed,
  stateOf,
  trendOf,
  unlooked,
  VITAL,
  type AgentHealth,
  type Layer,
  type LayerHealth,
  type LayerStatus,
  type Observation,
} from '../../src/fleet/health.ts';

const page = readFileSync(join(import.meta.dirname, '../../docs/fleet.md'), 'utf8');

function rows(from: string, to: string): string[][] {
  return page
    .slice(page.indexOf(from), page.indexOf(to))
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(2)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

const table = rows('| status ', '- **Nothing was ever there**');
const POLICY = { intervalMs: 10_000, timeoutMs: 5000, startupMs: 60_000, failures: 3, successes: 2 };

const seen = (ok: boolean, atMs: number, isAbsent = false): Observation => ({
  ...{ ok, evidence: ok ? 'fine' : 'not fine', atMs, tookMs: 1 },
  ...(isAbsent && { absent: true }),
});

const looked = (health: AgentHealth, observation: Observation, policy = POLICY): AgentHealth =>
  observe(health, { atMs: observation.atMs, layers: { live: observation } }, () => policy);

/** The row of the table that holds, or what is wrong with the table. */
function expected(before: LayerHealth, look: Observation, policy: typeof POLICY): LayerStatus {
  const failures = look.ok ? 0 : before.failures + 1;
  const successes = look.ok ? before.successes + 1 : 0;
  const nothing = look.absent === true && before.okMs === undefined;
  const inGrace = look.atMs - before.sinceMs < policy.startupMs;
  const holds: Record<string, boolean> = {
    '': true,
    'within `startup`': inGrace,
    'after `startup`, nothing was ever there': !inGrace && nothing,
    'after `startup`, something was there': !inGrace && !nothing,
    'nothing was ever there': nothing,
    'something was there': !nothing,
    'fewer than `failures`': failures < policy.failures,
    '`failures` in a row': failures >= policy.failures,
    'fewer than `successes`': successes < policy.successes,
    '`successes` in a row': successes >= policy.successes,
  };
  const fitting = table.filter(
    ([status, what, when]) => status === before.status && what === (look.ok ? 'ok' : 'not ok') && holds[when ?? '-'],
  );
  expect(fitting.length, `rows for ${before.status}, ${look.ok}`).toBe(1);
  used.add(fitting[0]!.join());
  return fitting[0]![3] as LayerStatus;
}
const used = new Set<string>();

test('the table knows every status, and nothing else', () => {
  expect([...new Set(table.flatMap(([status, , , next]) => [status, next]))].toSorted()).toEqual(
    [...LAYER_STATUSES].toSorted(),
  );
  expect(
    rows('| state ', 'Too old is')
      .map(([state]) => state)
      .toSorted(),
  ).toEqual(AGENT_STATES.map((state) => `\`${state}\``).toSorted());
  const layers = rows('| layer ', 'Only what the config asks');
  expect(layers.map(([layer]) => layer)).toEqual(LAYERS.map((layer) => `\`${layer}\``));
  expect(layers.flatMap(([layer, , vital]) => (vital === 'yes' ? [layer] : []))).toEqual(
    VITAL.map((layer) => `\`${layer}\``),
  );
});

const looks = fc.array(
  fc.record({
    ok: fc.boolean(),
    isAbsent: fc.boolean(),
    afterMs: fc.constantFrom(1000, 10_000, 70_000),
    times: fc.integer({ min: 1, max: 4 }),
  }),
  { maxLength: 12 },
);

const thresholds = fc.record({ failures: fc.integer({ min: 1, max: 3 }), successes: fc.integer({ min: 1, max: 3 }) });

test('whatever is seen in whatever order, every row of the table holds', () => {
  fc.assert(
    fc.property(looks, thresholds, (sequence, set) => {
      const policy = { ...POLICY, ...set };
      let nowMs = 1_000_000;
      let health = unlooked('a', false, ['live'], nowMs);
      for (const { ok, isAbsent, afterMs, times } of sequence) {
        for (let i = 0; i < times; i++) {
          nowMs += afterMs;
          const look = seen(ok, nowMs, !ok && isAbsent);
          const before = health.layers.live!;
          const next = expected(before, look, policy);
          health = looked(health, look, policy);
          expect(health.layers.live?.status).toBe(next);
          expect(health.layers.live?.sinceMs).toBe(next === before.status ? before.sinceMs : nowMs);
          expect(health.layers.live).toMatchObject({ last: look });
        }
      }
    }),
    { numRuns: 500, seed: 1 },
  );
  expect(table.map((row) => row.join()).filter((row) => !used.has(row))).toEqual([]);
});

describe('the state of an agent', () => {
  const layer = (status: LayerStatus): LayerHealth => ({
    ...{ status, sinceMs: 0, failures: 0, successes: 0, last: seen(true, 0) },
  });
  const layers = (of: Partial<Record<Layer, LayerStatus>>) =>
    Object.fromEntries(Object.entries(of).map(([name, status]) => [name, layer(status)]));

  test('is unknown where nothing is asked for', () => expect(stateOf({})).toBe('unknown'));

  test('is healthy only where each layer was ok when it was last counted', () => {
    const statuses = fc.dictionary(fc.constantFrom(...LAYERS), fc.constantFrom(...LAYER_STATUSES), { minKeys: 1 });
    fc.assert(
      fc.property(statuses, (of) => {
        const all = Object.values(of);
        expect(stateOf(layers(of)) === 'healthy').toBe(all.every((one) => one === 'ok' || one === 'failing'));
        const bad = Object.entries(of).filter(([, one]) => ['down', 'recovering', 'unseen'].includes(one));
        expect(stateOf(layers(of)) === 'unhealthy').toBe(bad.some(([name]) => VITAL.includes(name as Layer)));
        expect(stateOf(layers(of)) === 'degraded').toBe(
          bad.length > 0 && !bad.some(([name]) => VITAL.includes(name as Layer)),
        );
      }),
      { seed: 2 },
    );
  });

  test('begins anew only when it changes', () => {
    let health = unlooked('a', false, ['live', 'queue'], 0);
    health = observe(health, { atMs: 10, layers: { live: seen(true, 10) } }, () => POLICY);
    expect(health).toMatchObject({ state: 'starting', sinceMs: 0 });
    health = observe(health, { atMs: 20, layers: { queue: seen(true, 20) } }, () => POLICY);
    expect(health).toMatchObject({ state: 'healthy', sinceMs: 20, seenMs: 10 });
    health = observe(health, { atMs: 30, layers: { queue: seen(false, 30) } }, () => ({ ...POLICY, failures: 1 }));
    expect(health).toMatchObject({ state: 'degraded', sinceMs: 30, seenMs: 10, lookedMs: 30 });
  });
});

test('flickering that is shorter than the thresholds changes no state', () => {
  let nowMs = 0;
  let health = looked(unlooked('a', false, ['live'], 0), seen(true, 1));
  for (let i = 0; i < 50; i++) health = looked(health, seen(i % 3 === 0, (nowMs += 1000)));
  expect(health).toMatchObject({ state: 'healthy', sinceMs: 1 });
  for (let i = 0; i < 3; i++) health = looked(health, seen(false, (nowMs += 1000)));
  const { sinceMs } = health;
  for (let i = 0; i < 50; i++) health = looked(health, seen(i % 2 === 0, (nowMs += 1000)));
  expect(health).toMatchObject({ state: 'unhealthy', sinceMs });
});

test('history is bounded, and the trend goes by its last 30 minutes', () => {
  let health = unlooked('a', false, ['live'], 0);
  for (let i = 1; i <= 3 * HISTORY_MAX; i++) health = looked(health, seen(true, i * 1000));
  expect(health.history.length).toBe(HISTORY_MAX);
  expect(health.trend).toBe('healthy');
  const of = (...oks: boolean[]) => oks.map((ok, i) => ({ atMs: i + 1, ok }));
  const share = (good: number, all: number) => of(...Array.from({ length: all }, (_, i) => i < good));
  expect(trendOf(share(2, 2), 100)).toBe('none');
  expect(trendOf(share(19, 20), 100)).toBe('healthy');
  expect(trendOf(share(18, 20), 100)).toBe('degrading');
  expect(trendOf(share(14, 20), 100)).toBe('degrading');
  expect(trendOf(share(13, 20), 100)).toBe('unhealthy');
  expect(trendOf(share(20, 20), 100 + 30 * 60_000)).toBe('none'); // too long ago
  expect(trendOf(share(20, 20), 0)).toBe('none'); // the clock was set back
});

describe('whoever watches next', () => {
  const spec = { critical: true, policies: { live: POLICY } };
  const well = looked(unlooked('a', false, ['live', 'ready'], 0), seen(true, 1000));

  test('goes on where the last one was', () => {
    const failing = looked(well, seen(false, 2000));
    const next = resumed(failing, spec, 15_000);
    expect(next.layers).toEqual({ live: failing.layers.live });
    expect(next).toMatchObject({ critical: true, history: failing.history, state: 'healthy' });
  });

  test('gives grace to what was well when nobody has watched for long, and calls it down, not unseen, after that', () => {
    let health = resumed(well, spec, 1_000_000);
    expect(health).toMatchObject({ state: 'starting', layers: { live: { status: 'starting', sinceMs: 1_000_000 } } });
    health = looked(health, seen(false, 1_010_000, true));
    expect(health.state).toBe('starting');
    expect(looked(health, seen(false, 1_060_000, true)).layers.live?.status).toBe('down');
    expect(looked(health, seen(true, 1_060_000)).layers.live?.status).toBe('ok');
  });

  test('gives none to what was down', () => {
    let down = well;
    for (let i = 2; i < 5; i++) down = looked(down, seen(false, i * 1000));
    expect(resumed(down, spec, 1_000_000)).toMatchObject({ state: 'unhealthy', layers: { live: { status: 'down' } } });
  });
});

test('the grace of a start that began at a time to come, before the clock was set back, is over', () => {
  const health = unlooked('a', false, ['live'], 400 * 86_400_000);
  expect(looked(health, seen(false, 1000)).layers.live?.status).toBe('down');
  expect(looked(health, seen(true, 1000)).layers.live?.status).toBe('ok');
});
