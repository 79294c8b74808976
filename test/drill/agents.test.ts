/**
 * Each kind of agent, in use while it is drilled: its databases are open, with what was written last in their logs. Here each goes through some of the
 * scenarios that come with holdfast, and all of them together through all; with HOLDFAST_DRILLS=all (`npm run drill-all`) each goes through
 * all, on a folder, S3 and SFTP, and its reports are looked at. HOLDFAST_DRILL_REPORTS names a folder that keeps them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { AGENTS, makeFixture, type AgentName, type MadeAgent } from '../../fixtures/agents/generate.ts';
import { drillJunit } from '../../src/cli/drill/junit.ts';
import { drillMarkdown } from '../../src/cli/drill/markdown.ts';
import { drillPage } from '../../src/cli/drill/page.ts';
import { drillReportSchema } from '../../src/cli/drill/result-schema.ts';
import type { ShadowSettings } from '../../src/drill/checks/shadow.ts';
import type { DrillResult } from '../../src/drill/result.ts';
import { selectCases } from '../../src/drill/scenario.ts';
import { CHECKS } from '../../src/drill/scenario-schema.ts';
import type { BackendAddress } from '../../src/operations/backends.ts';
import { detectProfile } from '../../src/state/profile.ts';
import { openChromium } from '../cli/chromium.ts';
import { newBucket } from '../services/bucket.ts';
import { s3Server, sftpServer } from '../services/real.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { BUILT_IN, checkIn, drilledAgent, failures, leaving, scenarioIn } from './support.ts';

const folder = temporaryFolder();
const shadow: ShadowSettings = {
  argv: ['/bin/sh', '-c', 'echo up > shadow-is-up; while :; do sleep 0.05; done'],
  ready: { file: 'shadow-is-up' },
  ...{ withinMs: 30_000, checks: ['test -f holdfast-shadow.json'], stopMs: 5000, queues: [], mayChange: [] },
};
const made: MadeAgent[] = [];
afterAll(() => {
  for (const one of made) one[Symbol.dispose]();
  removeFolder(folder);
});

async function agentOf(name: AgentName, addresses?: readonly BackendAddress[]) {
  makeFixture(name, join(folder, name))[Symbol.dispose]();
  const { name: profile } = await detectProfile(join(folder, name));
  const fill = (state: string) => void made.push(makeFixture(name, state));
  const agent = await drilledAgent({ ...(addresses ? { addresses } : { storage: 'memory' }), profile, fill });
  return { agent, profile, fixture: made.at(-1)! };
}

/** That all is there that a drill of such an agent has to tell, and that nothing of it went wrong. */
function expectWell(result: DrillResult, profile: string, { state, secret }: MadeAgent): void {
  expect(failures(result)).toEqual({});
  expect(result).toMatchObject({ ok: true, notRun: [] });
  expect(drillReportSchema.parse(result)).toEqual(result);
  for (const { checks, identity } of result.scenarios) {
    expect(identity.continuous).toBe(true);
    for (const { detail, evidence } of checks) expect([detail, Object.keys(evidence)]).not.toEqual([detail, []]);
  }
  const { checks, skipped } = scenarioIn(result, 'lost-host');
  const looked = [...checks, ...skipped].map((one) => one.name);
  expect(looked.toSorted()).toEqual(CHECKS.toSorted());
  const hasKeys = secret.some((path) => /device\.json|\.key$/.test(path));
  const missing = [...(hasKeys ? [] : ['agent-keys']), ...(profile === 'files' ? ['handoff'] : []), 'commands'];
  const hasTasks = state.some((path) => path.endsWith('HEARTBEAT.md'));
  expect(skipped.map((one) => one.name).toSorted()).toEqual([...missing, ...(hasTasks ? [] : ['tasks'])].toSorted());
  const databases = checkIn(result, 'lost-host', 'databases').evidence['databases'];
  expect(databases).toHaveLength([...state, ...secret].filter((path) => /\.(sqlite|db)$/.test(path)).length);
}

const cases = selectCases(BUILT_IN, [], ['a', 'b']).map((one) => one.name);
/** Of each agent; the first is everyone's. */
const SOME = new Map(
  AGENTS.map((name, i) => [name, ['lost-host', ...cases.slice(1).filter((_, n) => n % AGENTS.length === i)]]),
);

describe.skipIf(process.env['HOLDFAST_DRILLS'] === 'all')('on two backends', () => {
  test('all scenarios are gone through by one agent or another', () => {
    expect(new Set([...SOME.values()].flat())).toEqual(new Set(cases));
  });

  test.each(AGENTS)('%s comes back with all that it is, and is left as it is', async (name) => {
    const { agent, profile, fixture } = await agentOf(name);
    await using _ = agent;
    const secret = { kind: 'root', root: agent.root } as const;
    const given = { secrets: { words: secret, vault: secret }, shadow };
    const result = await leaving([agent.state, agent.folders.state], () => agent.drill(SOME.get(name), given));
    expectWell(result, profile, fixture);
  });
});

describe.runIf(process.env['HOLDFAST_DRILLS'] === 'all')('on a folder, S3 and SFTP', () => {
  const reports = process.env['HOLDFAST_DRILL_REPORTS'] ?? join(folder, 'reports');
  let addressesOf: (name: string) => BackendAddress[];
  let browser: Awaited<ReturnType<typeof openChromium>>;
  beforeAll(async () => {
    const { server: s3 } = await s3Server('every drill of every agent');
    const { server: sftp } = await sftpServer('every drill of every agent');
    vi.stubEnv('AWS_ACCESS_KEY_ID', s3.credentials.accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', s3.credentials.secretAccessKey);
    const bucket = await newBucket(s3);
    const { host, port, user, keyFile, knownHostsFile, folder: place } = sftp;
    addressesOf = (name) => [
      { name: 'disk', url: pathToFileURL(join(folder, 'disk', name)).href },
      { name: 'cloud', url: `s3://${bucket.name}/${name}?endpoint=${s3.endpoint}` },
      {
        name: 'ship',
        url: `sftp://${user}@${host}:${port}${place}/all-${process.pid}-${name}?key=${keyFile}&knownHosts=${knownHostsFile}`,
      },
    ];
    mkdirSync(join(folder, 'disk'));
    mkdirSync(reports, { recursive: true });
    browser = await openChromium();
  }, 180_000);
  afterAll(async () => {
    vi.unstubAllEnvs();
    await browser[Symbol.asyncDispose]();
  });

  test.each(AGENTS)('%s passes every scenario, and its reports say so', { timeout: 600_000 }, async (name) => {
    mkdirSync(join(folder, 'disk', name));
    const { agent, profile, fixture } = await agentOf(name, addressesOf(name));
    await using _ = agent;
    const secret = { kind: 'root', root: agent.root } as const;
    const given = { secrets: { words: secret, vault: secret, shares: secret }, shadow };
    const result = await leaving([agent.state, agent.folders.state, join(folder, 'disk')], () =>
      agent.drill([], given),
    );
    const file = (end: string) => join(reports, `${name}.${end}`);
    writeFileSync(file('json'), `${JSON.stringify(result, undefined, 2)}\n`);
    writeFileSync(file('md'), drillMarkdown(result));
    writeFileSync(file('xml'), drillJunit(result));
    writeFileSync(file('html'), drillPage(result, []));
    const names = selectCases(BUILT_IN, [], ['disk', 'cloud', 'ship']).map((one) => one.name);
    expect(result.scenarios.map((one) => one.name)).toEqual(names);
    expectWell(result, profile, fixture);

    const all = result.scenarios.flatMap(({ checks, skipped }) => [...checks, ...skipped]);
    await browser.goto(pathToFileURL(file('html')).href);
    expect(await browser.text()).toContain('Migration drill of ada: passed');
    const count = (selector: string) => browser.evaluate<number>(`document.querySelectorAll('${selector}').length`);
    expect(await count('.scenario')).toBe(names.length);
    expect(await count('.scenario tbody tr')).toBe(all.length);
    expect(await count('.bad, .bad-row, .failed')).toBe(0);
    const xml = await browser.evaluate<number[]>(`(() => {
      const root = new DOMParser().parseFromString(${JSON.stringify(drillJunit(result))}, 'text/xml');
      return ['parsererror', 'testsuite', 'testcase', 'failure', 'error'].map((name) => root.querySelectorAll(name).length);
    })()`);
    expect(xml).toEqual([0, names.length, all.length + names.length, 0, 0]);
    expect([...browser.complaints, ...browser.dialogs]).toEqual([]);
    expect(browser.requests.filter((url) => !url.startsWith('file:'))).toEqual([]);
  });
});
