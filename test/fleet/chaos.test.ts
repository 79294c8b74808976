/** The short form of the chaos, with a plan that is always the same; and that it notices what it looks for. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { run } from '../cli/run.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { Chaos } from './chaos/chaos.ts';
import { timesOf } from './chaos/config.ts';
import { ChaosFleet } from './chaos/fleet.ts';
import { options } from './chaos/options.ts';

const folder = temporaryFolder();
afterAll(() => removeFolder(folder));

interface Printed {
  ok: boolean;
  faults: { fault: string; times: number; seen: number; acted: number; back: number; looksMax: number }[];
  watchersKilled: number;
  touched: number;
  atOnce: number;
  most: number;
  problems: string[];
}

it(
  'of thirty processes each that is harmed is seen, helped and back, and no other one is touched',
  { timeout: 240_000 },
  async () => {
    const args = ['--short', '--seed', 'short', '--dir', folder, '--json'];
    const { code, stdout, stderr } = await run('test/fleet/chaos.ts', args);
    expect(code, `${stdout}${stderr}`).toBe(0);
    const { faults, ...printed } = JSON.parse(stdout) as Printed;
    expect(printed).toMatchObject({ ok: true, touched: 0, watchersKilled: 1, most: 6, problems: [] });
    expect(printed.atOnce).toBeLessThanOrEqual(6);
    expect(faults.map(({ fault }) => fault)).toHaveLength(9);
    for (const { fault, times, seen, acted, back, looksMax } of faults) {
      expect([seen, acted, back], fault).toEqual([times, times, times]);
      expect(times, fault).toBeGreaterThan(0);
      expect(looksMax, fault).toBeLessThanOrEqual(2);
    }
  },
);

it('notices healthy agents that were restarted, and too many at once', async () => {
  await using fleet = new ChaosFleet(join(folder, 'noticed'), 2, timesOf(2000));
  await fleet.start();
  const chaos = new Chaos(fleet, { bystanders: [], log: () => {} });
  expect(await chaos.judge()).toMatchObject({ touched: 0, atOnce: 0, most: 1 });
  await Promise.all(
    fleet.names.map(async (name) => {
      const [file = '', ...args] = fleet.command('restart', name);
      await once(spawn(file, args, { stdio: 'ignore', env: { ...process.env, HOLDFAST_RULE: 'dead' } }), 'exit');
    }),
  );
  expect(await chaos.judge()).toMatchObject({ touched: 4, atOnce: 2 });
  expect(chaos.problems).toEqual([
    'agent-01 is another process, and nothing was done to it',
    'agent-02 is another process, and nothing was done to it',
    'agent-01 was restarted by rule dead, and was well',
    'agent-02 was restarted by rule dead, and was well',
    '2 were restarted at once, and not 1 at most',
  ]);
});

it.each([
  [['--minutes', 'x'], '--minutes'],
  [['--interval', '10'], '--interval'],
])('refuses %j', (args, message) => {
  expect(() => options(args)).toThrow(message);
});

it('ends with 2 when it is told what it cannot do', async () => {
  const { code, stdout, stderr } = await run('test/fleet/chaos.ts', ['--minutes', 'x']);
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toContain('--minutes');
});
