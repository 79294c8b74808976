/** Drills as a user has them, on one agent: the shadow, all reports, the history here and on the backends, what is told, and that nothing else changes. */
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { drillJsonSchema, drillReportSchema } from '../../src/cli/drill/result-schema.ts';
import { parseEnvelope, signedBy } from '../../src/crypto/dsse.ts';
import { unhex } from '../../src/crypto/hash.ts';
import { DRILL_PAYLOAD_TYPE } from '../../src/drill/history.ts';
import type { DrillResult } from '../../src/drill/result.ts';
import { census, fillAnts } from '../drill/support.ts';
import { initArgs } from './agent-home.ts';
import { noChromium, openChromium } from './chromium.ts';
import { makers, WORDS } from './made-agent.ts';

const { folder, machine } = makers();
const home = machine();
const disks = join(folder, 'disks-of-all');
mkdirSync(home.at('state'));
fillAnts(home.at('state'));
writeFileSync(home.at('queue'), 'one task\n');
await home.json(0, ...initArgs((name) => join(disks, name)), ...WORDS);
const sections = {
  drill: {
    every: '30d',
    shadow: {
      command: 'echo up > ready.txt; while :; do sleep 0.05; done',
      ready: { file: 'ready.txt' },
      checks: ['test -f holdfast-shadow.json'],
      queues: ['queue'],
    },
  },
  metrics: { textfile: 'drill.prom' },
  log: { to: 'runs.jsonl' },
};
const config = readFileSync(home.at('holdfast.yaml'), 'utf8');
const more = Object.entries(sections).map(([name, section]) => `${name}: ${JSON.stringify(section)}\n`);
writeFileSync(home.at('holdfast.yaml'), config + more.join(''));
await home.json(0, 'backup');

interface Told extends DrillResult {
  kept: string | null;
  stored: string | null;
}
const REPORTS = ['drill.html', 'drill.md', 'drill.xml', 'drill.json'];
const reportArgs = REPORTS.flatMap((name) => ['--report', name]);
/** What a drill writes: the history, what is remembered of the last run, metrics, log and reports. */
const written = new RegExp(
  `^${folder}/[^ ]*(?:/tmp|/holdfast/[0-9a-f]{32}/drills(?:/[^ ]*)?|/holdfast/runs(?:/[^ ]*)?|/drill\\.\\w+|/runs\\.jsonl) `,
);
// The folder of the reports is another when they are there first, and so is that of the history.
await home.holdfast('drill', 'run', 'lost-host', ...reportArgs, ...WORDS);
const now = () => [home.folder, disks].flatMap(census).filter((line) => !written.test(line));
const before = now();
const result = await home.json<Told>(
  0,
  'drill',
  'run',
  'lost-host',
  'lost-all-but',
  '--shadow',
  ...reportArgs,
  ...WORDS,
);
const after = now();
const read = (name: string) => readFileSync(home.at(name), 'utf8');

test('nothing but the history and what was asked for is another than before', () => {
  expect(before.length).toBeGreaterThan(20);
  expect(after).toEqual(before);
  expect(readdirSync(home.at('tmp'))).toEqual([]);
  expect(result.scenarios.map(({ name }) => name)).toEqual([
    ...['lost-host', 'lost-all-but:nas', 'lost-all-but:usb', 'shadow'],
  ]);
  const checks = result.scenarios.at(-1)?.checks.map(({ name }) => name);
  expect(checks).toEqual(expect.arrayContaining(['shadow: answers', 'shadow: took no work']));
});

test('what --json prints is what the published schema says, and every member is described', () => {
  expect(drillReportSchema.parse(result)).toEqual(result); // nothing of it is unknown to the schema
  expect(drillReportSchema.parse(JSON.parse(read('drill.json')))).toEqual(JSON.parse(read('drill.json')));
  const undescribed: string[] = [];
  const look = (schema: Record<string, unknown>, path: string) => {
    const properties = (schema['properties'] ?? {}) as Record<string, Record<string, unknown>>;
    for (const [name, one] of Object.entries(properties)) {
      if (typeof one['description'] !== 'string') undescribed.push(`${path}/${name}`);
      look(one, `${path}/${name}`);
    }
    for (const inner of [schema['items'], ...((schema['anyOf'] ?? []) as unknown[])])
      if (inner) look(inner as Record<string, unknown>, path);
  };
  const schema = drillJsonSchema();
  look(schema, '');
  expect(undescribed).toEqual([]);
  expect(Object.keys(schema['properties'] as object)).toEqual(expect.arrayContaining(Object.keys(result)));
  const shipped = new URL('../../holdfast-drill.schema.json', import.meta.url);
  expect(JSON.parse(readFileSync(shipped, 'utf8'))).toEqual(JSON.parse(JSON.stringify(schema)));
});

test('the history has it, signed by the agent', async () => {
  const [repository = ''] = readdirSync(home.at('xdg', 'state', 'holdfast')).filter((name) =>
    /^[0-9a-f]{32}$/.test(name),
  );
  const drills = home.at('xdg', 'state', 'holdfast', repository, 'drills');
  const file = readdirSync(drills).find((name) => name.includes(result.kept ?? '?')) ?? '';
  const envelope = parseEnvelope(readFileSync(join(drills, file)), DRILL_PAYLOAD_TYPE);
  expect(signedBy(envelope, unhex(result.agent?.publicKey ?? ''))).toBe(true);
  const { drills: rows } = await home.json<{ drills: { id: string }[] }>(0, 'drill', 'history');
  expect(rows.map(({ id }) => id)).toContain(result.kept);
});

test('counts in Markdown and JUnit are those of the JSON, and the page asks for nothing', async () => {
  const checks = result.scenarios.flatMap((one) => one.checks);
  const skipped = result.scenarios.flatMap((one) => one.skipped);
  expect(read('drill.md').match(/^- ok /gm)).toHaveLength(checks.length);
  const xml = read('drill.xml');
  expect(xml.match(/<testcase /g)).toHaveLength(checks.length + skipped.length + result.scenarios.length);
  expect(xml.match(/<skipped /g) ?? []).toHaveLength(skipped.length);
  expect(xml).not.toMatch(/<failure|<error/);
  if (noChromium) return;
  await using tab = await openChromium();
  await tab.goto(pathToFileURL(home.at('drill.html')).href);
  const rows = await tab.evaluate<number>(`document.querySelectorAll('.scenario tbody tr').length`);
  expect(rows).toBe(checks.length + skipped.length);
  expect(await tab.text()).toContain('shadow: took no work');
  const isWell = `new DOMParser().parseFromString(${JSON.stringify(xml)}, 'text/xml').querySelector('parsererror') === null`;
  expect(await tab.evaluate(isWell)).toBe(true);
  expect(tab.requests.filter((url) => !url.startsWith('file:'))).toEqual([]);
  expect([...tab.complaints, ...tab.dialogs]).toEqual([]);
});

test('metrics and the log tell of it, and with --if-due it is not repeated', async () => {
  expect(read('drill.prom')).toContain('holdfast_last_drill_scenarios{agent="ada",outcome="passed"} 4\n');
  expect(read('drill.prom')).toMatch(/^holdfast_last_drill_recovery_seconds\{agent="ada"\} \d/m);
  const ends = read('runs.jsonl')
    .split('\n')
    .filter((line) => line.includes('"event":"end"'));
  expect(JSON.parse(ends.at(-1) ?? '')).toMatchObject({ run: 'drill', outcome: 'done', scenarios: { passed: 4 } });
  expect(await home.json(0, 'drill', 'run', '--if-due')).toEqual({ skipped: 'not due' });
});

test('with --store every backend has it, where another history finds it', async () => {
  const stored = await home.json<Told>(0, 'drill', 'run', 'stolen-writer-key', '--store', ...WORDS);
  for (const name of ['nas', 'usb'])
    expect(readdirSync(join(disks, name, 'drills')).map((file) => `drills/${file}`)).toEqual([stored.stored]);
  const [repository = ''] = readdirSync(home.at('xdg', 'state', 'holdfast')).filter((name) =>
    /^[0-9a-f]{32}$/.test(name),
  );
  const drills = home.at('xdg', 'state', 'holdfast', repository, 'drills');
  const here = readdirSync(drills).length;
  interface History {
    drills: { id: string; isCurrent: boolean }[];
  }
  const merged = await home.json<History>(0, 'drill', 'history', '--from-backends');
  expect(merged.drills).toHaveLength(here); // once, though it is in both
  for (const file of readdirSync(drills)) writeFileSync(join(drills, file), '');
  const { code, stdout } = await home.holdfast('drill', 'history', '--from-backends', '--json');
  expect(code).toBe(0);
  const { drills: left } = JSON.parse(stdout) as History;
  expect(left.map(({ id, isCurrent }) => [id, isCurrent])).toEqual([[stored.kept, true]]);
});

test('--shadow takes the command after --, and says what is missing', async () => {
  const none = await home.holdfast('drill', 'run', ...WORDS, '--', 'sleep', '60');
  expect(none).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('drill run --shadow [FLAGS] -- CMD') as string,
  });
  const { code, stdout } = await home.holdfast('drill', 'run', '--shadow', ...WORDS, '--', '/bin/sh', '-c', 'exit 9');
  expect(code).toBe(14);
  expect(stdout).toMatch(/FAILED {3}shadow .*\n {4}shadow: starts: it ended with exit code 9/);
});
