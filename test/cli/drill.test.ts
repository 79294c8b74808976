import { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/cli/config.ts';
import { systemRandom } from '../../src/clock.ts';
import { splitSecret } from '../../src/crypto/slip39.ts';
import { parseWordsText } from '../../src/identity/root.ts';
import type { DrillResult } from '../../src/drill/result.ts';
import { fillAnts, census } from '../drill/support.ts';
import { cheapVault, failure } from '../crypto/support.ts';
import { initArgs } from './agent-home.ts';
import { makers, WORDS } from './made-agent.ts';

const { folder, machine } = makers();

async function saved() {
  const home = machine();
  const disks = join(folder, 'disks', String(readdirSync(folder).length));
  mkdirSync(home.at('state'));
  fillAnts(home.at('state'));
  await home.json(0, ...initArgs((name) => join(disks, name)), ...WORDS);
  await home.json(0, 'backup');
  return { home, disks };
}

describe('drill run', () => {
  test('passes with 0, fails with 14 and is incomplete with 3, and changes nothing', async () => {
    const { home, disks } = await saved();
    appendFileSync(home.at('holdfast.yaml'), 'drill: { checks: ["test -f MEMORY.md"], rto: 1h, rpo: 30d }\n');
    writeFileSync(
      home.at('broken.yaml'),
      'name: broken\ntitle: something is broken\nafter: [{ step: tamper, run: "rm MEMORY.md" }]\n',
    );
    await home.holdfast('drill', 'run', 'lost-host', ...WORDS); // what Node compiles is kept from now on
    // But for the folder in which worlds come and go, the history of drills, and what is remembered of the last runs.
    const apart = new RegExp(`^${home.at('tmp')} |/holdfast/[0-9a-f]{32}/drills[/ ]|/holdfast/runs[/ ]`);
    const now = () => [home.folder, disks].map((root) => census(root).filter((line) => !apart.test(line)));
    const before = now();

    const good = await home.json<DrillResult>(0, 'drill', 'run', 'lost-host', 'lost-backend:usb', ...WORDS);
    expect(good).toMatchObject({ ok: true, notRun: [], objectives: { rto: { ok: true }, rpo: { ok: true } } });
    expect(good.scenarios.map(({ name }) => name)).toEqual(['lost-host', 'lost-backend:usb']);
    const [first] = good.scenarios;
    expect(first?.checks.map(({ name }) => name)).toContain('command-1');
    expect(first).toMatchObject({
      ok: true,
      identity: { continuous: true },
      dataLoss: { bytes: 0, files: 0 },
      secret: 'words',
    });

    const partial = await home.holdfast('drill', 'run', 'lost-host', 'lost-paper', ...WORDS);
    expect(partial.code).toBe(3);
    expect(partial.stdout).toMatch(/passed {3}lost-host .*not run {2}lost-paper/s);

    const failed = await home.holdfast('drill', 'run', 'broken', '--scenario', 'broken.yaml', ...WORDS);
    expect(failed.code).toBe(14);
    expect(failed.stdout).toMatch(/FAILED {3}broken .*\n {4}files: MEMORY\.md is not there\n/);
    expect(failed.stdout).toContain('The drill FAILED: 1 of 1 scenario.');

    expect(now()).toEqual(before);
    expect(readdirSync(home.at('tmp'))).toEqual([]);
    const unknown = await home.refused(2, 'drill', 'run', 'lost-ghost', ...WORDS);
    expect(unknown.hint).toContain('lost-backend:nas');
  });

  test('recovers with shares, or a vault, where the words are lost', async () => {
    const { home } = await saved();
    const root = parseWordsText(readFileSync(home.at('words.txt'), 'utf8'));
    const [shares = []] = splitSecret(root, [{ threshold: 2, count: 3 }], 1, systemRandom);
    const files = shares.slice(1).map((share, i) => home.secret(`share-${i}`, share));
    const secretOf = async (...args: string[]) =>
      (await home.json<DrillResult>(0, 'drill', 'run', 'lost-paper', ...args)).scenarios.map(({ secret }) => secret);
    expect(await secretOf(...files.flatMap((file) => ['--shares-file', file]))).toEqual(['shares']);
    const vault = home.secret('vault.age', await cheapVault(readFileSync(home.at('words.txt')), 'a passphrase'));
    const passphrase = ['--passphrase-file', home.secret('passphrase', 'a passphrase\n')];
    expect(await secretOf(...WORDS, '--vault', vault, ...passphrase)).toEqual(['vault']);
  });

  test('another key in place of the agent fails with 14', async () => {
    const { home } = await saved();
    writeFileSync(home.at('holdfast.identity.key'), `${'42'.repeat(32)}\n`);
    const result = await home.json<DrillResult>(14, 'drill', 'run', 'lost-host', ...WORDS);
    const failed = result.scenarios.flatMap(({ checks }) => checks.filter(({ ok }) => !ok).map(({ name }) => name));
    expect(failed).toEqual(['identity']);
  });
});

test('drill list names every scenario, with the backends of the config', async () => {
  const { home } = await saved();
  const listed = await home.json<{ name: string; builtIn: boolean }[]>(0, 'drill', 'list');
  expect(listed.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['lost-host', 'lost-all-but:usb', 'clone-beside-original']),
  );
  expect(listed.every(({ builtIn }) => builtIn)).toBe(true);
});

describe('the section drill of a config', () => {
  const path = join(folder, 'sections.yaml');
  const load = (drill: unknown) => {
    writeFileSync(path, JSON.stringify({ drill }));
    return loadConfig(path);
  };

  test('is taken, with what is usual where nothing is said', async () => {
    const { drill } = await load({ rto: '15m', checks: ['true'], scenarios: 'drills', handoff: { where: ['/A.md'] } });
    expect(drill).toEqual({
      ...{
        everyMs: 90 * 86_400_000,
        rtoMs: 900_000,
        rpoMs: undefined,
        without: {},
        timeoutMs: undefined,
        commands: ['true'],
        commandTimeoutMs: 300_000,
      },
      ...{ handoff: { where: ['/A.md'] }, scenarios: [join(folder, 'drills')], ignore: [] },
    });
  });

  test.each([
    [{ rto: 'soon' }, 'drill.rto'],
    [{ every: '5x' }, 'drill.every'],
    [{ timeout: '6' }, 'drill.timeout'],
    [{ without: { 'lost-paper': '' } }, 'drill.without'],
    [{ without: { 'lost/paper': 'x' } }, 'must be the name of a scenario'],
    [{ scenario: 'x' }, 'unknown key'],
    [{ shadow: { command: 'x', ready: { http: 'http://example.org/' } } }, 'drill.shadow.ready.http'],
    [{ shadow: { command: 'x', ready: { file: '../up' } } }, 'drill.shadow.ready.file'],
    [{ shadow: { command: 'x', ready: { file: 'up', command: 'true' } } }, 'name one'],
    [{ shadow: { command: 'x', within: '1' } }, 'drill.shadow.within'],
    [{ shadow: {} }, 'drill.shadow.command'],
  ])('that is wrong is told: %j', async (section, what) => {
    expect((await failure(() => load(section), 'config_invalid')).message).toContain(what);
  });
});
