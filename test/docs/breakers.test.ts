/** docs/breakers.md: its config is one, and what it says is usual is. (Its table of states: test/fleet/breaker-model.test.ts.) */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fleetSection } from '../../src/cli/fleet/schema.ts';
import { loadConfig, type Config } from '../../src/cli/config.ts';
import { breakerPolicy, FALLBACK_ACTIONS, USUAL, USUAL_OF_CRITICAL } from '../../src/fleet/breaker-policy.ts';
import { BACKOFF_MS, QUEUE_MAX } from '../../src/fleet/queue.ts';
import { formatDuration, parseDuration } from '../../src/units.ts';

let page: string;
let folder: string;
let config: Config;

beforeAll(async () => {
  page = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'breakers.md'), 'utf8');
  folder = await mkdtemp(join(tmpdir(), 'holdfast-docs-'));
  const yaml = /^```yaml\n([\s\S]*?)^```$/m.exec(page)?.[1] ?? '';
  await writeFile(join(folder, 'holdfast.yaml'), yaml);
  config = await loadConfig(join(folder, 'holdfast.yaml'));
});
afterAll(() => rm(folder, { recursive: true }));

it('the config of the example is taken', () => {
  const of = (agent: string) => breakerPolicy(agent, config.fleet?.breakers ?? {});
  expect(of('backend')).toMatchObject({
    settings: { threshold: 3, openMs: 300_000, window: undefined },
    retry: { tries: 3, baseMs: 1000, capMs: 60_000 },
    permanent: { exitCodes: [2, 64], stderr: ['^invalid request'] },
    fallback: ['backend-2', 'queue_for_retry'],
    timeoutMs: 600_000,
  });
  expect(of('backend-2').settings).toMatchObject({
    threshold: Infinity,
    window: { calls: 50, ratio: 0.2 },
    slowMs: 30_000,
  });
  expect(config.fleet?.queue).toEqual({ backoffMs: BACKOFF_MS, env: ['LANG'] });
});

it('the table of what is usual is what the program does, and has every key', () => {
  const usual = new Map(
    [...page.matchAll(/^\| `(\w+)` +\| (.*?) +\| (.*?) +\|$/gm)].map(([, key = '', all = '', critical = '']) => [
      key,
      { all, critical },
    ]),
  );
  const ms = (text: string | undefined) => parseDuration(text ?? '');
  expect(usual.get('failureThreshold')).toEqual({
    all: `${USUAL.failureThreshold}`,
    critical: `${USUAL_OF_CRITICAL.failureThreshold}`,
  });
  expect(ms(usual.get('recoveryTimeout')?.all)).toBe(USUAL.recoveryMs);
  expect(ms(usual.get('recoveryTimeout')?.critical)).toBe(USUAL_OF_CRITICAL.recoveryMs);
  expect(usual.get('recoveryGrowth')?.all).toBe(`${USUAL.recoveryGrowth}`);
  expect(ms(usual.get('recoveryMax')?.all)).toBe(USUAL.recoveryMaxMs);
  expect(usual.get('window')?.all).toContain(`${USUAL.window},`);
  expect(usual.get('ratio')?.all).toContain(`${USUAL.ratio * 100}%`);
  expect(ms(usual.get('probeLease')?.all)).toBe(USUAL.probeLeaseMs);
  expect(ms(usual.get('timeout')?.all)).toBe(USUAL.timeoutMs);
  expect(usual.get('retry')?.all).toBe(`${USUAL.tries} try; pauses from 1s, up to 1m`);
  expect([USUAL.retryBaseMs, USUAL.retryCapMs]).toEqual([1000, 60_000]);
  expect(usual.get('permanent')?.all).toBe('exit codes 64 to 68, 77, 78, 126, 127');
  expect(USUAL.permanentExitCodes).toEqual([64, 65, 66, 67, 68, 77, 78, 126, 127]);
  const breaker = fleetSection.fleet.shape.breaker.unwrap().shape;
  expect([...usual.keys(), 'slowCall', 'fallback'].toSorted()).toEqual(Object.keys(breaker).toSorted());
});

it('the actions, the pauses of the queue and its most are those of the program', () => {
  for (const action of FALLBACK_ACTIONS) expect(page).toContain(`- \`${action}\`: `);
  expect(BACKOFF_MS.map(formatDuration)).toEqual(['1m', '5m', '15m']);
  expect(page).toContain('after 1, 5 and 15 minutes');
  expect(page).toContain(`At most ${QUEUE_MAX.toLocaleString('en')} commands`);
});
