/** The short form of the torture, of each kind that can run here, with a plan that is always the same; and that it notices what it looks for. */
import { appendFileSync, chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { run } from '../cli/run.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { Agent } from './agent.ts';
import { Dice } from './dice.ts';
import { Tally, type Counted } from './kind.ts';
import { mutate } from './mutate.ts';
import { NAMES, options } from './options.ts';

const folder = temporaryFolder();
chmodSync(folder, 0o755); // one agent is another user's
afterAll(() => removeFolder(folder));

interface Printed {
  seed: string;
  ok: boolean;
  kinds: { name: string; rounds: number; counts: Record<Counted, number>; notRun?: string }[];
}

/** One round of each kind at its full size, with each run a process of its own; or the short form. */
const HOW = process.env['HOLDFAST_LONG'] === '1' ? ['--rounds', '1'] : ['--short'];

it('nothing is lost, wrong or hung', { timeout: 600_000 }, async () => {
  const args = [...HOW, '--seed', 'short', '--dir', folder, '--json'];
  const { code, stdout, stderr } = await run('test/torture/main.ts', args, { env: { CI: process.env['CI'] ?? '' } });
  expect(code, stderr).toBe(0);
  const { kinds, ok } = JSON.parse(stdout) as Printed;
  expect(ok).toBe(true);
  expect(kinds.map(({ name }) => name)).toEqual(NAMES);
  for (const { name, rounds, counts, notRun } of kinds) {
    expect(counts, name).toMatchObject({ lost: 0, wrong: 0, hung: 0 });
    if (notRun !== undefined) continue;
    expect(rounds, name).toBeGreaterThan(0);
    expect(counts.operations, name).toBeGreaterThan(5);
    if (name === 'parsers') expect(counts.faults).toBeGreaterThan(100);
    else expect(counts.checked, name).toBeGreaterThan(0);
  }
});

it('what is lost, changed or ends otherwise than it must is noticed', { timeout: 120_000 }, async () => {
  const told: string[] = [];
  const tally = new Tally((line) => told.push(line));
  const agent = new Agent(join(folder, 'noticed'), {
    dice: new Dice('noticed'),
    tally,
    noiseBytes: 1000,
    isWarm: true,
  });
  await agent.found();
  const [id = ''] = agent.kept.keys();
  await agent.check(id);
  expect(tally.failures).toBe(0);
  appendFileSync(join(agent.kept.get(id) ?? '', 'log.jsonl'), 'x');
  await agent.check(id);
  agent.kept.set('f'.repeat(64), agent.at('state'));
  await agent.recount();
  for (const name of ['nas', 'usb'] as const) {
    const pack = agent.objects(name).find((key) => key.startsWith('packs/')) ?? '';
    writeFileSync(join(agent.at(name), pack), readFileSync(join(agent.at(name), pack)).subarray(1));
  }
  await agent.verify();
  for (const name of ['nas', 'usb']) rmSync(agent.at(name, 'holdfast.json'));
  await agent.backup();
  expect(told.map((line) => line.replace(/^(\w+).*/s, '$1'))).toEqual(['LOST', 'LOST', 'WRONG', 'WRONG']);
});

it('a seed gives the same plan, another one another, whatever was thrown before', () => {
  const input = (seed: string) =>
    mutate(Buffer.from('{"a":[1,2,3],"b":"text"}'), new Dice(seed), Buffer.from('other'), true);
  const inputs = Array.from({ length: 50 }, (_, i) => input(`seed ${i}`).toString('hex'));
  expect(inputs).toEqual(Array.from({ length: 50 }, (_, i) => input(`seed ${i}`).toString('hex')));
  expect(new Set(inputs).size).toBeGreaterThan(30);
  const dice = new Dice('seed');
  const before = dice.of('name').fraction();
  dice.fraction();
  expect(dice.of('name').fraction()).toBe(before);
});

it.each([
  [['--only', 'tickling'], 'tickling'],
  [['--rounds', '0'], '--rounds'],
  [['--minutes', 'x'], '--minutes'],
])('refuses %j', (args, message) => {
  expect(() => options(args)).toThrow(message);
});

it('ends with 2 when it is told what it cannot do', async () => {
  const { code, stdout, stderr } = await run('test/torture/main.ts', ['--only', 'tickling']);
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toContain('tickling');
});
