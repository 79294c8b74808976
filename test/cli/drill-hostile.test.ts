/** Drills that are stopped at once, and what they are told to do that cannot be. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { processesIn } from '../../src/drill/processes.ts';
import { fillAnts } from '../drill/support.ts';
import type { AgentHome } from './agent-home.ts';
import { initArgs } from './agent-home.ts';
import { makers, WORDS } from './made-agent.ts';

const { folder, machine } = makers();
let home: AgentHome;
beforeAll(async () => {
  home = machine();
  mkdirSync(home.at('state'));
  fillAnts(home.at('state'));
  await home.json(0, ...initArgs((name) => join(folder, 'disks', name)), ...WORDS);
  await home.json(0, 'backup');
  writeFileSync(
    home.at('slow.yaml'),
    'name: slow\ntitle: it takes long\nafter: [{ step: tamper, run: "setsid sleep 600 & trap : TERM; touch begun; sleep 600" }]\n',
  );
}, 60_000);

/** Sends the signals once the command of the scenario runs. */
async function stopped(...signals: NodeJS.Signals[]) {
  const isBegun = () => readdirSync(home.at('tmp'), { recursive: true }).some((name) => String(name).endsWith('begun'));
  let sent: Promise<void> | undefined;
  const ended = await home.holdfastWith(
    {
      meanwhile: (child) => {
        sent = (async () => {
          await expect.poll(isBegun, { timeout: 20_000 }).toBe(true);
          for (const signal of signals) {
            child.kill(signal);
            await new Promise((done) => setImmediate(done));
          }
        })();
      },
    },
    ...['drill', 'run', 'slow', '--scenario', 'slow.yaml', ...WORDS],
  );
  await sent;
  return ended;
}

describe('a drill in which a command runs', () => {
  test.each([
    ['whose terminal is closed', ['SIGHUP', 'SIGHUP']],
    ['that is told twice to stop', ['SIGTERM', 'SIGINT']],
  ] as const)('%s takes the restored state away, and what runs in it', async (_, signals) => {
    expect((await stopped(...signals)).code).toBe(130);
    expect(readdirSync(home.at('tmp'))).toEqual([]);
    await expect.poll(() => processesIn(home.at('tmp'))).toEqual([]);
  });
});

describe('what cannot be is told before the drill', () => {
  test.each([
    ['in a folder that is not there', 'none/drill.html', 'ENOENT'],
    ['in the place of a folder', 'reports.md', 'no plain file'],
  ])('a report %s', async (_, report, why) => {
    mkdirSync(home.at('reports.md'), { recursive: true });
    const { message } = await home.refused(2, 'drill', 'run', 'lost-paper', '--report', report, ...WORDS);
    expect(message).toContain(why);
  });

  test('two scenarios of one name, of which one would not be run', async () => {
    const { message } = await home.refused(2, 'drill', 'list', '--scenario', both('one: a', 'one: b'));
    expect(message).toContain('two of your scenarios are called one');
    const own = both('one: a', 'two: b');
    const listed = await home.json<{ name: string }[]>(
      0,
      'drill',
      'list',
      '--scenario',
      own,
      '--scenario',
      `${own}/a.yaml`,
    );
    expect(listed.map(({ name }) => name)).toEqual(expect.arrayContaining(['one', 'two']));
  });

  /** A folder with two scenarios, each `name: title`. */
  let folders = 0;
  const both = (...scenarios: string[]): string => {
    const path = home.at(`own-${folders++}`);
    mkdirSync(path);
    for (const [i, scenario] of scenarios.entries()) {
      const [name, title] = scenario.split(': ');
      writeFileSync(join(path, `${'ab'[i]}.yaml`), `name: ${name}\ntitle: ${title}\n`);
    }
    return path;
  };

  test('a folder without scenarios, and a file without an end', async () => {
    mkdirSync(home.at('empty'));
    const { message } = await home.refused(2, 'drill', 'list', '--scenario', 'empty');
    expect(message).toContain('there is no scenario');
    const endless = await home.refused(2, 'drill', 'list', '--scenario', '/dev/zero');
    expect(endless.message).toContain('larger than');
  });
});

test('a drill that this host cannot compare with its own key, nor keep, is incomplete', async () => {
  const config = readFileSync(home.at('holdfast.yaml'), 'utf8').replace('holdfast.identity.key', 'gone.key');
  writeFileSync(home.at('gone.yaml'), config);
  const result = await home.json<{ ok: boolean; warnings: { code: string }[] }>(
    3,
    ...['drill', 'run', 'lost-host', '--config', 'gone.yaml', ...WORDS],
  );
  expect(result.ok).toBe(true);
  expect(result.warnings.map(({ code }) => code)).toEqual(['not_on_record', 'drill_not_kept']);
});

test('the commands of a config that others can write are not run', async () => {
  writeFileSync(
    home.at('open.yaml'),
    'agent: { handle: ada }\nbackends: { nas: { url: "file:///nowhere" } }\ndrill: { checks: ["true"] }\n',
  );
  chmodSync(home.at('open.yaml'), 0o666);
  const { code, hint } = await home.refused(12, 'drill', 'run', 'lost-paper', '--config', 'open.yaml', ...WORDS);
  expect(code).toBe('insecure_permissions');
  expect(hint).toContain('`drill.checks`');
});
