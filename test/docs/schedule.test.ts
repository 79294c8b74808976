/** docs/schedule.md: its config is one, its table of metrics is that of the program, its webhook is what is sent. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadConfig, type Config } from '../../src/cli/config.ts';
import { renderMetrics } from '../../src/operations/metrics.ts';
import type { RunMessage } from '../../src/operations/notify.ts';

let page: string;
let folder: string;
let config: Config;
const block = (kind: string) => new RegExp(`^\`\`\`${kind}\\n([\\s\\S]*?)^\`\`\`$`, 'm').exec(page)?.[1] ?? '';

beforeAll(async () => {
  page = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'schedule.md'), 'utf8');
  folder = await mkdtemp(join(tmpdir(), 'holdfast-docs-'));
  await writeFile(join(folder, 'holdfast.yaml'), block('yaml'));
  config = await loadConfig(join(folder, 'holdfast.yaml'));
});
afterAll(() => rm(folder, { recursive: true }));

it('the config of the example is taken, and shows every section', () => {
  expect(config.hooks).toMatchObject({ timeoutMs: 120_000 });
  expect(Object.keys(config)).toEqual(expect.arrayContaining(['hooks', 'schedule', 'notify', 'metrics', 'log']));
});

it('the table of metrics names those of a backup, and the alerts use what is there', () => {
  const run = { startedMs: 0, endedMs: 1, seconds: 1, exitCode: 0, successMs: 1, files: 1, bytes: { read: 1 } };
  const scenarios = { passed: 1, failed: 0, not_run: 0 };
  const drill = { ...run, bytes: {}, recoverySeconds: 1, dataLossSeconds: 1, scenarios };
  const text = renderMetrics('ada', {
    backup: { ...run, committed: { nas: true } },
    verify: { ...run, damaged: 0 },
    drill,
  });
  const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map((match) => match[1] ?? '');
  const told = [...page.matchAll(/^\| `(holdfast_\w+)`/gm)].map((match) => match[1] ?? '');
  expect(told).toEqual(
    names.filter((name) => /_backup_|damaged_objects$|_drill_(?:recovery|data_loss|scenarios)/.test(name)),
  );
  const used = [...block('promql').matchAll(/holdfast_\w+/g)].map(([name]) => name);
  expect(used).toHaveLength(4);
  expect(names).toEqual(expect.arrayContaining(used));
});

it('the webhook of the example has the members of a message', () => {
  const example = JSON.parse(block('json')) as RunMessage;
  const members: Record<keyof RunMessage, true> = {
    ...{ agent: true, event: true, outcome: true, exitCode: true, snapshot: true, error: true },
    ...{ warnings: true, seconds: true, time: true },
  };
  expect(Object.keys(example)).toEqual(Object.keys(members));
});
