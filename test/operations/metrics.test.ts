/** What is remembered of runs, and the metrics made of it. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { renderMetrics } from '../../src/operations/metrics.ts';
import { readRuns, recordRun, type RunRecord } from '../../src/operations/host/runs.ts';
import { runTool } from '../../src/operations/schedule/run-tool.ts';
import { lacks } from '../crypto/support.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';

const run = (over: Partial<RunRecord> = {}): RunRecord => ({
  startedMs: 1_000_000,
  endedMs: 1_002_500,
  seconds: 2.5,
  exitCode: 0,
  ...over,
});

/** By the rules of the text format: every family is typed once, before its samples, which stand together and are not repeated. */
function parse(text: string): Map<string, number> {
  const samples = new Map<string, number>();
  const families = new Set<string>();
  let family = '';
  expect(text.endsWith('\n')).toBe(true);
  for (const line of text.split('\n').slice(0, -1)) {
    const [, kind, name, rest = ''] = /^# (HELP|TYPE) ([a-z_:][a-z0-9_:]*) (.+)$/.exec(line) ?? [];
    if (kind === 'HELP') {
      expect(families).not.toContain(name);
      families.add((family = name ?? ''));
    } else if (kind === 'TYPE') {
      expect([name, rest]).toEqual([family, 'gauge']);
    } else {
      const sample = /^([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\} (-?\d+(?:\.\d+)?(?:e[+-]\d+)?)$/.exec(
        line,
      );
      expect(sample?.[1], line).toBe(family);
      const key = `${sample?.[1]}{${sample?.[2]}}`;
      expect(samples.has(key)).toBe(false);
      samples.set(key, Number(sample?.[3]));
    }
  }
  return samples;
}

describe('metrics', () => {
  test('tell of each kind of run what is known of it', () => {
    const text = renderMetrics('ada', {
      backup: run({
        successMs: 900_000,
        exitCode: 3,
        files: 7,
        bytes: { read: 5 },
        committed: { nas: true, usb: false },
      }),
      verify: run({ damaged: 2 }),
      drill: run({ recoverySeconds: 12.5, dataLossSeconds: 3600, scenarios: { passed: 2, failed: 1, not_run: 0 } }),
    });
    expect(Object.fromEntries(parse(text))).toEqual({
      'holdfast_last_backup_timestamp_seconds{agent="ada"}': 1002.5,
      'holdfast_last_backup_success_timestamp_seconds{agent="ada"}': 900,
      'holdfast_last_backup_duration_seconds{agent="ada"}': 2.5,
      'holdfast_last_backup_exit_code{agent="ada"}': 3,
      'holdfast_last_backup_files{agent="ada"}': 7,
      'holdfast_last_backup_bytes{agent="ada",kind="read"}': 5,
      'holdfast_last_backup_backend_committed{agent="ada",backend="nas"}': 1,
      'holdfast_last_backup_backend_committed{agent="ada",backend="usb"}': 0,
      'holdfast_last_verify_timestamp_seconds{agent="ada"}': 1002.5,
      'holdfast_last_verify_duration_seconds{agent="ada"}': 2.5,
      'holdfast_last_verify_exit_code{agent="ada"}': 0,
      'holdfast_last_verify_damaged_objects{agent="ada"}': 2,
      'holdfast_last_drill_timestamp_seconds{agent="ada"}': 1002.5,
      'holdfast_last_drill_duration_seconds{agent="ada"}': 2.5,
      'holdfast_last_drill_exit_code{agent="ada"}': 0,
      'holdfast_last_drill_recovery_seconds{agent="ada"}': 12.5,
      'holdfast_last_drill_data_loss_seconds{agent="ada"}': 3600,
      'holdfast_last_drill_scenarios{agent="ada",outcome="passed"}': 2,
      'holdfast_last_drill_scenarios{agent="ada",outcome="failed"}': 1,
      'holdfast_last_drill_scenarios{agent="ada",outcome="not_run"}': 0,
    });
  });

  test('are well formed whatever the agent is called', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (agent) => {
        expect(parse(renderMetrics(agent, { backup: run() })).size).toBe(3);
      }),
    );
  });

  test.skipIf(lacks('promtool', '--version'))('please promtool', async () => {
    const text = renderMetrics('ada', { backup: run({ committed: { nas: true } }), verify: run({ damaged: 0 }) });
    const check = await runTool(process.env)('promtool', ['check', 'metrics'], text);
    expect(check).toMatchObject({ exitCode: 0, stderr: '' });
  });
});

describe('the record of runs', () => {
  test('keeps each kind, and the last success, through failures', () => {
    const folder = temporaryFolder();
    const path = join(folder, 'runs', 'x.json');
    recordRun(path, 'backup', run({ successMs: 5, files: 7, committed: { nas: true } }));
    recordRun(path, 'verify', run({ damaged: 0 }));
    recordRun(path, 'backup', run({ exitCode: 1, committed: { nas: false } }));
    expect(readRuns(path)).toMatchObject({
      backup: { exitCode: 1, successMs: 5, files: 7, committed: { nas: false } },
      verify: { exitCode: 0, damaged: 0 },
    });
    expect(readdirSync(join(folder, 'runs'))).toEqual(['x.json']);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    removeFolder(folder);
  });

  test('that is not there, or is none, counts as empty', () => {
    const folder = temporaryFolder();
    const path = join(folder, 'x.json');
    expect(readRuns(path)).toEqual({});
    for (const text of ['', '{', 'null', '7']) {
      writeFileSync(path, text);
      expect(readRuns(path)).toEqual({});
    }
    mkdirSync(join(folder, 'folder'));
    expect(readRuns(join(folder, 'folder'))).toEqual({});
    recordRun(path, 'sync', run());
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({ sync: run() });
    removeFolder(folder);
  });
});
