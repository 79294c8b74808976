/** The alert rules: Prometheus takes them, and each fires when it should, for as long as it should, and else does not. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { alertRules, DEFAULT_ALERTS, type AgentAges, type AlertThresholds } from '../../src/fleet/alerts.ts';
import { runTool } from '../../src/operations/schedule/run-tool.ts';
import { lacks } from '../crypto/support.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';

const HOUR = 60;
const DAY = 24 * HOUR;

/** Alerts that fire, as `Name` or `Name agent`, at minutes after the start. */
interface Case {
  name: string;
  /** Minutes from one sample and one evaluation to the next; default 1. */
  step?: 20;
  series: Record<string, string>;
  fires: Record<number, string[]>;
}

const AGENT = 'job="holdfast",instance="f:1",agent="ada"';
const FLEET = 'job="holdfast",instance="f:1"';
/** The same number for so many minutes. */
const steady = (value: number, minutes: number) => `${value}x${minutes}`;
/** A fleet that is scraped and watched, so that nothing but what a case is about can fire. */
const WELL = {
  [`up{${FLEET}}`]: steady(1, 200),
  [`holdfast_fleet_agents{${FLEET},state="healthy"}`]: steady(10, 200),
  [`holdfast_fleet_agents{${FLEET},state="unhealthy"}`]: steady(0, 200),
  [`holdfast_fleet_watcher_last_seen_timestamp_seconds{${FLEET}}`]: '0+60x200',
  [`holdfast_fleet_level{${FLEET}}`]: steady(0, 200),
};
/** Five days, a sample every twenty minutes. */
const LONG = (5 * DAY) / 20;
const NEVER_AGAIN = `0x${LONG}`;
const AGAIN_AND_AGAIN = `0+1200x${LONG}`;
const WELL_LONG = Object.fromEntries(
  Object.entries(WELL).map(([name, values]) => [name, values.replace('+60x', '+1200x').replace('x200', `x${LONG}`)]),
);

const CASES: Case[] = [
  { name: 'all is well', series: WELL, fires: { 0: [], 10: [], 45: [] } },
  {
    name: 'an agent that shows no activity for ten minutes, for five',
    series: {
      ...WELL,
      [`holdfast_agent_last_activity_timestamp_seconds{${AGENT}}`]: steady(0, 60),
      [`holdfast_agent_tasks_in_progress{${AGENT}}`]: steady(1, 60),
    },
    fires: { 10: [], 14: [], 17: ['HoldfastAgentStuck ada'] },
  },
  {
    name: 'an agent that goes on is not stuck',
    series: { ...WELL, [`holdfast_agent_last_activity_timestamp_seconds{${AGENT}}`]: '0+60x60' },
    fires: { 17: [], 60: [] },
  },
  {
    name: 'an agent that has nothing to do is not stuck',
    series: {
      ...WELL,
      [`holdfast_agent_last_activity_timestamp_seconds{${AGENT}}`]: steady(0, 60),
      [`holdfast_agent_tasks_in_progress{${AGENT}}`]: steady(0, 60),
    },
    fires: { 60: [] },
  },
  {
    name: 'an agent whose progress is down is stuck, whatever it tells',
    series: { ...WELL, [`holdfast_agent_layer_ok{${AGENT},layer="progress"}`]: '1x10 0x50' },
    fires: { 12: [], 17: ['HoldfastAgentStuck ada'] },
  },
  {
    name: 'a queue of more than 20 for ten minutes',
    series: { ...WELL, [`holdfast_agent_queue_depth{${AGENT}}`]: '21x40' },
    fires: { 9: [], 10: ['HoldfastAgentQueueDeep ada'] },
  },
  {
    name: 'a queue of 20, and one that was longer for a moment',
    series: { ...WELL, [`holdfast_agent_queue_depth{${AGENT}}`]: '20x8 90x5 20x40' },
    fires: { 13: [], 30: [] },
  },
  {
    name: 'one of four tasks fails',
    series: {
      ...WELL,
      [`holdfast_agent_tasks_completed_total{${AGENT},status="success"}`]: '0+3x30',
      [`holdfast_agent_tasks_completed_total{${AGENT},status="failure"}`]: '0+1x30',
    },
    fires: { 10: ['HoldfastAgentErrors ada'] },
  },
  {
    name: 'the only task of five minutes fails, and so do the only four of another agent',
    series: {
      ...WELL,
      [`holdfast_agent_tasks_completed_total{${AGENT},status="success"}`]: '0x60',
      [`holdfast_agent_tasks_completed_total{${AGENT},status="failure"}`]: '0x20 1x40',
      [`holdfast_agent_tasks_completed_total{${FLEET},agent="bob",status="failure"}`]: '0x20 2x1 4x40',
    },
    fires: { 22: [], 24: [], 26: [] },
  },
  {
    name: 'six tasks in five minutes fail',
    series: {
      ...WELL,
      [`holdfast_agent_tasks_completed_total{${AGENT},status="success"}`]: '0x60',
      [`holdfast_agent_tasks_completed_total{${AGENT},status="failure"}`]: '0x20 2 4 6x40',
    },
    fires: { 21: [], 24: ['HoldfastAgentErrors ada'], 40: [] },
  },
  {
    name: 'one of five tasks fails, and then nothing is done',
    series: {
      ...WELL,
      [`holdfast_agent_tasks_completed_total{${AGENT},status="success"}`]: '0+4x30 120x30',
      [`holdfast_agent_tasks_completed_total{${AGENT},status="failure"}`]: '0+1x30 30x30',
    },
    fires: { 10: [], 50: [] },
  },
  {
    name: 'an agent that tells its error rate alone',
    series: { ...WELL, [`holdfast_agent_error_ratio{${AGENT}}`]: '0.1x10 0.5x20' },
    fires: { 9: [], 18: ['HoldfastAgentErrors ada'] },
  },
  {
    name: 'more than 30 % of the fleet unhealthy for two minutes',
    series: {
      ...WELL,
      [`holdfast_fleet_agents{${FLEET},state="healthy"}`]: '10x9 6x30',
      [`holdfast_fleet_agents{${FLEET},state="unhealthy"}`]: '0x9 4x30',
    },
    fires: { 11: [], 12: ['HoldfastFleetDegraded'] },
  },
  {
    name: '30 % of the fleet unhealthy',
    series: {
      ...WELL,
      [`holdfast_fleet_agents{${FLEET},state="healthy"}`]: steady(7, 40),
      [`holdfast_fleet_agents{${FLEET},state="unhealthy"}`]: steady(3, 40),
    },
    fires: { 30: [] },
  },
  {
    name: 'levels of degradation',
    series: { ...WELL, [`holdfast_fleet_level{${FLEET}}`]: '0x4 2x4 3x4 0x20' },
    fires: { 4: [], 7: ['HoldfastFleetLevel'], 10: ['HoldfastFleetEmergency'], 20: [] },
  },
  {
    name: 'an unhealthy agent, and one of which nothing is known',
    series: {
      ...WELL,
      [`holdfast_agent_state{${AGENT},state="unhealthy"}`]: '0x4 1x4 0x2 1x30',
      [`holdfast_agent_state{${FLEET},agent="bob",state="unknown"}`]: steady(1, 40),
    },
    fires: {
      9: [],
      14: [],
      16: ['HoldfastAgentUnknown bob'],
      18: ['HoldfastAgentUnhealthy ada', 'HoldfastAgentUnknown bob'],
    },
  },
  {
    name: 'a breaker that goes from open to half-open and back',
    series: {
      ...WELL,
      [`holdfast_agent_breaker_state{${AGENT},state="open"}`]: '0x1 1 0 1 0 1 0 1 0 0x20',
      [`holdfast_agent_breaker_state{${AGENT},state="half-open"}`]: '0x1 0 1 0 1 0 1 0 1 0x20',
      [`holdfast_agent_breaker_state{${AGENT},state="closed"}`]: '1x1 0x7 1x20',
      [`holdfast_agent_breaker_state{${AGENT},state="disabled"}`]: steady(1, 30),
    },
    fires: { 2: [], 6: ['HoldfastBreakerOpen ada'], 15: [] },
  },
  {
    name: 'a watcher that gave no sign of life for two minutes, for three',
    series: { ...WELL, [`holdfast_fleet_watcher_last_seen_timestamp_seconds{${FLEET}}`]: '0+60x10 600x30' },
    fires: { 11: [], 14: [], 16: ['HoldfastWatcherGone'] },
  },
  {
    name: 'no watcher at all',
    series: { ...WELL, [`holdfast_fleet_watcher_last_seen_timestamp_seconds{${FLEET}}`]: '_x30' },
    fires: { 2: [], 4: ['HoldfastWatcherGone'] },
  },
  {
    name: 'a server that cannot be scraped',
    series: { [`up{${FLEET}}`]: '1x4 0x30' },
    fires: { 8: [], 11: ['HoldfastFleetNotScraped'] },
  },
  {
    name: 'no server at all',
    series: { 'up{job="other",instance="f:2"}': steady(1, 30) },
    fires: { 4: [], 6: ['HoldfastFleetNotScraped'] },
  },
  {
    name: 'a backend that lacks the last snapshot for an hour',
    series: {
      ...WELL,
      [`holdfast_last_backup_backend_committed{${AGENT},backend="nas"}`]: '0x70',
      [`holdfast_last_backup_backend_committed{${AGENT},backend="cloud"}`]: '0x30 1x70',
    },
    fires: { 59: [], 61: ['HoldfastBackendBehind ada'] },
  },
  {
    name: 'a snapshot of more than 26 hours, whatever the record of the host says',
    step: 20,
    series: {
      ...WELL_LONG,
      [`holdfast_agent_snapshot_timestamp_seconds{${AGENT}}`]: NEVER_AGAIN,
      [`holdfast_last_backup_success_timestamp_seconds{${AGENT}}`]: AGAIN_AND_AGAIN,
      [`holdfast_last_verify_success_timestamp_seconds{${AGENT}}`]: AGAIN_AND_AGAIN,
    },
    fires: { [26 * HOUR]: [], [26 * HOUR + 40]: ['HoldfastBackupTooOld ada'] },
  },
  {
    name: 'the record of the host counts where nobody looks at the backends; a snapshot that is fresh is enough',
    step: 20,
    series: {
      ...WELL_LONG,
      [`holdfast_last_backup_success_timestamp_seconds{${AGENT}}`]: NEVER_AGAIN,
      [`holdfast_last_verify_success_timestamp_seconds{${AGENT}}`]: AGAIN_AND_AGAIN,
      [`holdfast_last_backup_success_timestamp_seconds{${FLEET},agent="bob"}`]: NEVER_AGAIN,
      [`holdfast_last_verify_success_timestamp_seconds{${FLEET},agent="bob"}`]: AGAIN_AND_AGAIN,
      [`holdfast_agent_snapshot_timestamp_seconds{${FLEET},agent="bob"}`]: AGAIN_AND_AGAIN,
    },
    fires: { [26 * HOUR]: [], [27 * HOUR]: ['HoldfastBackupTooOld ada'] },
  },
  {
    name: 'agents whose config asks for another age',
    step: 20,
    series: {
      ...WELL_LONG,
      [`holdfast_agent_snapshot_timestamp_seconds{${FLEET},agent="hour.ly"}`]: NEVER_AGAIN,
      [`holdfast_agent_snapshot_timestamp_seconds{${FLEET},agent="weekly"}`]: NEVER_AGAIN,
      [`holdfast_agent_snapshot_timestamp_seconds{${FLEET},agent="hourxly"}`]: NEVER_AGAIN,
      [`holdfast_agent_drill_timestamp_seconds{${FLEET},agent="weekly"}`]: NEVER_AGAIN,
    },
    fires: {
      [2 * HOUR]: [],
      [2 * HOUR + 40]: ['HoldfastBackupTooOld hour.ly'],
      [27 * HOUR]: ['HoldfastBackupTooOld hour.ly', 'HoldfastBackupTooOld hourxly'],
      [4 * DAY]: ['HoldfastBackupTooOld hour.ly', 'HoldfastBackupTooOld hourxly', 'HoldfastDrillOverdue weekly'],
    },
  },
  {
    name: 'a backup or drill that its probe does not find fresh',
    series: {
      ...WELL,
      [`holdfast_agent_layer_ok{${AGENT},layer="backup"}`]: steady(0, 100),
      [`holdfast_agent_layer_ok{${AGENT},layer="drill"}`]: steady(0, 100),
    },
    fires: { 9: [], 12: ['HoldfastBackupTooOld ada'], 62: ['HoldfastBackupTooOld ada', 'HoldfastDrillOverdue ada'] },
  },
  {
    name: 'a verify that was last three days ago, and none ever',
    step: 20,
    series: {
      ...WELL_LONG,
      [`holdfast_last_verify_success_timestamp_seconds{${AGENT}}`]: NEVER_AGAIN,
      [`holdfast_last_backup_success_timestamp_seconds{${FLEET},agent="bob"}`]: AGAIN_AND_AGAIN,
    },
    fires: {
      40: [],
      60: ['HoldfastVerifyOverdue bob'],
      [3 * DAY + 60]: ['HoldfastVerifyOverdue bob'],
      [3 * DAY + 80]: ['HoldfastVerifyOverdue ada', 'HoldfastVerifyOverdue bob'],
    },
  },
];
const AGES: AgentAges[] = [
  { name: 'hour.ly', backupSeconds: 2 * 3600 },
  { name: 'weekly', backupSeconds: 7 * 86_400, drillSeconds: 3 * 86_400 },
];

async function promtool(
  args: string[],
  files: Record<string, unknown>,
): Promise<{ exitCode: number | null; output: string }> {
  const folder = temporaryFolder();
  try {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), stringify(content));
    const { exitCode, stdout, stderr } = await runTool(process.env)(
      'promtool',
      args.map((arg) => (arg in files ? join(folder, arg) : arg)),
      '',
    );
    return { exitCode, output: stdout + stderr };
  } finally {
    removeFolder(folder);
  }
}

function ruleTests(step: 1 | 20): object {
  return {
    rule_files: ['rules.yaml'],
    evaluation_interval: `${step}m`,
    tests: CASES.filter((one) => (one.step ?? 1) === step).map(({ name, series, fires }) => ({
      name,
      interval: `${step}m`,
      input_series: Object.entries(series).map(([series, values]) => ({ series, values })),
      promql_expr_test: Object.entries(fires).map(([minute, alerts]) => ({
        expr: 'count by (alertname, agent) (ALERTS{alertstate="firing"})',
        eval_time: `${minute}m`,
        exp_samples: alerts.map((alert) => {
          const [alertname = '', agent] = alert.split(' ');
          return { labels: `{alertname="${alertname}"${agent === undefined ? '' : `,agent="${agent}"`}}`, value: 1 };
        }),
      })),
    })),
  };
}

describe('the rules', () => {
  const rules = alertRules(DEFAULT_ALERTS, AGES);
  const all = rules.groups.flatMap((group) => group.rules);

  test('each says what is wrong with what, how bad it is, and what to do', () => {
    for (const { alert, labels, annotations } of all) {
      expect(['warning', 'critical'], alert).toContain(labels.severity);
      expect(annotations.summary, alert).toMatch(/^.{20,100}$/);
      expect(annotations.description, alert).toMatch(/^.{80,}$/);
    }
    expect(new Set(all.map(({ alert }) => alert)).size).toBe(all.length);
  });

  test('each is fired by some case', () => {
    const fired = CASES.flatMap(({ fires }) => Object.values(fires).flat()).map((alert) => alert.split(' ')[0]);
    expect([...new Set(fired)].toSorted()).toEqual(all.map(({ alert }) => alert).toSorted());
  });

  test('docs/monitoring.md lists exactly these', () => {
    const text = readFileSync(new URL('../../docs/monitoring.md', import.meta.url), 'utf8');
    const listed = [...text.matchAll(/^\| `(Holdfast\w+)` +\| (\w+)/gm)].map(
      ([, name, severity]) => `${name} ${severity}`,
    );
    expect(listed).toEqual(all.map(({ alert, labels }) => `${alert} ${labels.severity}`));
  });

  test('thresholds of the config are those of the rules', () => {
    const other: AlertThresholds = {
      job: 'j',
      stuckSeconds: 77,
      queueDepth: 78,
      errorRatio: 0.79,
      unhealthyRatio: 0.81,
      backupSeconds: 82,
      verifySeconds: 83,
      drillSeconds: 84,
    };
    const text = JSON.stringify(alertRules(other));
    for (const value of ['> 77)', '> 78"', '> 0.79', '> 0.81', '> 82)', '> 83 ', '> 84)', 'job=\\"j\\"'])
      expect(text).toContain(value);
  });

  test.skipIf(lacks('promtool', '--version'))('are taken by Prometheus', async () => {
    const check = await promtool(['check', 'rules', 'rules.yaml'], { 'rules.yaml': rules });
    expect(check).toEqual({ exitCode: 0, output: expect.stringContaining(`SUCCESS: ${all.length} rules found`) });
  });

  test.skipIf(lacks('promtool', '--version'))('fire when they should, and only then', async () => {
    const files = { 'rules.yaml': rules, 'minutes.yaml': ruleTests(1), 'days.yaml': ruleTests(20) };
    const { exitCode, output } = await promtool(['test', 'rules', 'minutes.yaml', 'days.yaml'], files);
    expect(output).not.toContain('FAILED');
    expect(exitCode).toBe(0);
  });
});
