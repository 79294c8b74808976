/** docs/drill.md: its configs and its scenario are such, its workflow runs, its units are what systemd takes, and its tables leave out nothing. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../../src/cli/config.ts';
import { ageRecipientOf, newAgeIdentity } from '../../src/crypto/age.ts';
import { systemRandom } from '../../src/clock.ts';
import { BUILT_IN_SCENARIOS, parseScenario } from '../../src/drill/scenario.ts';
import { CHECKS } from '../../src/drill/scenario-schema.ts';
import { agentHome, initArgs } from '../cli/agent-home.ts';
import { PROGRAM, ROOT } from '../cli/run.ts';
import { runTool } from '../../src/operations/schedule/run-tool.ts';
import { lacks } from '../crypto/support.ts';
import { fillAnts } from '../drill/support.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';

const folder = temporaryFolder();
afterAll(() => removeFolder(folder));
const page = readFileSync(join(ROOT, 'docs', 'drill.md'), 'utf8');
const blocks = (kind: string) =>
  [...page.matchAll(new RegExp(`^\`\`\`${kind}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(([, text = '']) => text);
const yaml = blocks('yaml');

test('its configs are taken, and its scenario', async () => {
  const configs = yaml.filter((text) => text.startsWith('drill:'));
  expect(configs).toHaveLength(3);
  for (const [i, text] of configs.entries()) {
    const path = join(folder, `config-${i}.yaml`);
    writeFileSync(path, text);
    expect((await loadConfig(path)).drill).toBeDefined();
  }
  const { shadow } = (await loadConfig(join(folder, 'config-2.yaml'))).drill ?? {};
  expect(shadow).toMatchObject({ withinMs: 60_000, stopMs: 10_000, queues: ['/var/spool/agent'] });
  const own = yaml.filter((text) => text.startsWith('name: lost-office'));
  expect((await parseScenario(Buffer.from(own[0] ?? ''), 'own.yaml')).name).toBe('lost-office');
});

test('every scenario and every check has a row', () => {
  const rows = [...page.matchAll(/^\| `([^`]+)`/gm)].map(([, name = '']) => name.replace(':NAME', ''));
  expect(rows).toEqual(expect.arrayContaining([...BUILT_IN_SCENARIOS]));
  expect(rows).toEqual(expect.arrayContaining(CHECKS.filter((name) => name !== 'commands')));
  const shadow = ['starts', 'ready', 'answers', 'took no work'].map((name) => `shadow: ${name}`);
  expect(rows).toEqual(expect.arrayContaining(shadow));
});

test(
  'the workflow goes through its steps, on an agent whose backends the runner reaches',
  { timeout: 60_000 },
  async () => {
    interface Step {
      uses?: string;
      run?: string;
      env?: Record<string, string>;
    }
    const text = yaml.find((one) => one.startsWith('name: drill\n')) ?? '';
    const { jobs } = parse(text) as { jobs: { drill: { steps: Step[] } } };
    const { steps } = jobs.drill;
    const home = agentHome(join(folder, 'home'));
    mkdirSync(home.at('state'));
    fillAnts(home.at('state'));
    const disk = (name: string) => join(folder, 'disks', name);
    await home.json(0, ...initArgs(disk), '--words-file', 'words.txt');
    const key = await newAgeIdentity(systemRandom);
    await home.json(0, 'backup');
    await home.json(0, 'recipients', 'add', await ageRecipientOf(key), '--words-file', 'words.txt');

    const bin = join(folder, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'holdfast'), `#!/bin/sh\nexec '${process.execPath}' '${join(ROOT, PROGRAM)}' "$@"\n`);
    chmodSync(join(bin, 'holdfast'), 0o755);
    const runner = join(folder, 'runner');
    mkdirSync(join(runner, 'tmp'), { recursive: true });
    const backends = ['nas', 'usb'].map((name) => `  ${name}: { url: "file://${disk(name)}" }`);
    const given: Record<string, string> = {
      'vars.HOLDFAST_CONFIG': ['backends:', ...backends].join('\n'),
      'secrets.HOLDFAST_DRILL_KEY': key,
      'secrets.AWS_ACCESS_KEY_ID': '',
      'secrets.AWS_SECRET_ACCESS_KEY': '',
    };
    const own = {
      ...{ PATH: `${bin}:/usr/bin:/bin`, HOME: runner, TMPDIR: join(runner, 'tmp') },
      ...{ RUNNER_TEMP: runner, GITHUB_STEP_SUMMARY: join(runner, 'summary.md') },
    };
    const ran = steps.filter(({ run }) => run !== undefined && !run.startsWith('npm install'));
    expect(ran).toHaveLength(3);
    for (const { run = '', env = {} } of ran) {
      const values = Object.entries(env).map(([name, value]) => {
        const [, what = ''] = /^\$\{\{ (\S+) \}\}$/.exec(value) ?? [];
        return [name, given[what] ?? expect.fail(`${value} is not known`)] as const;
      });
      // As GitHub runs a step: bash -e {0}
      execFileSync('bash', ['-e', '-c', run], { cwd: runner, env: { ...own, ...Object.fromEntries(values) } });
    }
    for (const name of ['drill.html', 'drill.md', 'junit.xml'])
      expect(existsSync(join(runner, 'reports', name))).toBe(true);
    expect(readFileSync(join(runner, 'summary.md'), 'utf8')).toContain('# Migration drill of ada: passed');
  },
);

test.skipIf(lacks('systemd-analyze', '--version'))('the units please systemd', async () => {
  const units = blocks('ini');
  const names = units.map((text) => /holdfast-drill\.\w+/.exec(text)?.[0] ?? '');
  expect(names).toEqual(['holdfast-drill.service', 'holdfast-drill.timer']);
  const program = join(folder, 'holdfast');
  writeFileSync(program, '#!/bin/sh\n', { mode: 0o755 });
  for (const [i, text] of units.entries())
    writeFileSync(join(folder, names[i] ?? ''), text.replace('/usr/local/bin/holdfast', program));
  const files = names.map((name) => join(folder, name));
  // What it does not know it passes over, and says so.
  const { exitCode, stderr } = await runTool(process.env)('systemd-analyze', ['verify', '--man=no', ...files]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
});
