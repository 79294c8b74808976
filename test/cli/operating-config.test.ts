/** What the config says about running by itself: hooks, schedule, notifications, metrics, log. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/cli/config.ts';
import { isDue } from '../../src/cli/schedule-context.ts';
import { runsPath } from '../../src/cli/run-report.ts';
import { recordRun } from '../../src/operations/host/runs.ts';
import { failure } from '../crypto/support.ts';

const folder = mkdtempSync(join(tmpdir(), 'holdfast-config-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'holdfast.yaml');
const load = (sections: Record<string, unknown>) => {
  writeFileSync(path, JSON.stringify(sections));
  return loadConfig(path);
};

test('everything is taken, with what is usual where nothing is said, and paths from the folder of the file', async () => {
  const config = await load({
    state: { root: 's', before: ['a'], hookTimeout: '1m' },
    schedule: { backup: '03:00' },
    notify: { ping: 'https://hc.example.org/x' },
    metrics: { textfile: 'm.prom' },
    log: { to: 'l.jsonl' },
  });
  expect(config).toMatchObject({
    hooks: { before: ['a'], after: [], onError: [], timeoutMs: 60_000 },
    schedule: { times: { backup: '03:00' }, jitterMs: 900_000 },
    notify: { ping: 'https://hc.example.org/x', pingFailure: 'fail' },
    metrics: { textfile: join(folder, 'm.prom') },
    log: { to: { file: join(folder, 'l.jsonl') }, level: 'info' },
  });
  expect(await load({ state: { root: 's' } })).not.toHaveProperty('hooks');
});

test.each([
  [{ notify: { ping: 'https://user:swordfish@example.org/' } }, 'notify.ping'],
  [{ notify: { webhook: 'ftp://swordfish' } }, 'notify.webhook'],
  [{ schedule: { backup: 'often' } }, 'schedule.backup'],
  [{ schedule: { drill: 'daily' } }, 'schedule.drill'],
  [{ schedule: { jitter: '5 minutes' } }, 'schedule.jitter'],
  [{ metrics: { textfile: 'x.txt' } }, 'metrics.textfile'],
  [{ log: { to: 'syslog' } }, 'log.to'],
])('a config that says %j is refused, with its place and without its secret', async (sections, place) => {
  const { message } = await failure(() => load(sections), 'config_invalid');
  expect(message).toContain(`\`${place}\``);
  expect(message).not.toContain('swordfish');
});

describe('what is due', () => {
  const hour = 3_600_000;
  const noon = Date.UTC(2026, 0, 1, 12);
  const env = { XDG_STATE_HOME: join(folder, 'state') };
  const ran = (startedMs: number, exitCode = 0) =>
    recordRun(runsPath(env, path), 'backup', { startedMs, endedMs: startedMs, seconds: 0, exitCode });

  test('is what has not been begun since its last time', async () => {
    const config = await load({ schedule: { backup: 'hourly' } });
    expect(isDue(config, 'backup', noon, env)).toBe(true); // never was
    ran(noon - 1);
    expect(isDue(config, 'backup', noon - 1, env)).toBe(false);
    expect(isDue(config, 'backup', noon, env)).toBe(true);
    ran(noon);
    expect(isDue(config, 'backup', noon + hour - 1, env)).toBe(false);
    expect(isDue(config, 'backup', noon + hour, env)).toBe(true);
    // What failed, or is dated to come by a clock that was wrong, was no backup.
    ran(noon, 1);
    expect(isDue(config, 'backup', noon + 1, env)).toBe(true);
    ran(noon + 9 * hour);
    expect(isDue(config, 'backup', noon + 1, env)).toBe(true);
  });

  test('is always what has no time of its own', async () => {
    const config = await load({ schedule: { backup: 'off' } });
    ran(noon);
    expect(isDue(config, 'backup', noon, env)).toBe(true);
    expect(isDue(config, 'sync', noon, env)).toBe(true);
  });
});
