/**
 * Alert rules for Prometheus over the metrics of src/fleet/metrics.ts. Each says what is wrong with which thing, since when, and what to do next:
 * whoever reads it has just woken up. docs/monitoring.md lists them, and promtool tests that each fires when it should and else does not.
 */
import { RATE_LEAST_TASKS } from './health.ts';

export interface AlertThresholds {
  /** The job_name under which Prometheus scrapes `fleet serve`. */
  job: string;
  stuckSeconds: number;
  /** Tasks. */
  queueDepth: number;
  /** 0 to 1. */
  errorRatio: number;
  unhealthyRatio: number;
  backupSeconds: number;
  verifySeconds: number;
  drillSeconds: number;
}

/** Ages that the config of single agents asks for, where they are others. */
export interface AgentAges {
  name: string;
  backupSeconds?: number | undefined;
  drillSeconds?: number | undefined;
}

export interface AlertRule {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: 'warning' | 'critical' };
  annotations: { summary: string; description: string };
}

export interface RuleFile {
  groups: { name: string; rules: AlertRule[] }[];
}

const HOUR = 3600;
const DAY = 24 * HOUR;
export const DEFAULT_ALERTS: AlertThresholds = {
  job: 'holdfast',
  stuckSeconds: 600,
  queueDepth: 20,
  errorRatio: 0.2,
  unhealthyRatio: 0.3,
  backupSeconds: 26 * HOUR,
  verifySeconds: 3 * DAY,
  drillSeconds: 90 * DAY,
};
const WATCHER_SECONDS = 120;
/** What tells one agent from another, also with several fleets in one Prometheus. */
const BY_AGENT = 'job, instance, agent';
const BY_FLEET = 'job, instance';

/** @param agents those whose config asks for another age of backups or drills */
export function alertRules(thresholds: AlertThresholds, agents: readonly AgentAges[] = []): RuleFile {
  return {
    groups: [
      { name: 'holdfast-fleet', rules: fleetRules(thresholds) },
      { name: 'holdfast-agents', rules: agentRules(thresholds) },
      { name: 'holdfast-backups', rules: backupRules(thresholds, agents) },
    ],
  };
}

function fleetRules({ job, unhealthyRatio }: AlertThresholds): AlertRule[] {
  return [
    {
      alert: 'HoldfastFleetNotScraped',
      expr: `up{job="${job}"} == 0 or absent(up{job="${job}"})`,
      for: '5m',
      labels: { severity: 'critical' },
      annotations: {
        summary: 'Nothing is heard of the fleet',
        description: `Prometheus could not scrape \`holdfast fleet serve\` (job ${job}) for 5 minutes: no other alert of the fleet can fire. See whether the service runs, and whether curl -H "Authorization: Bearer $(cat TOKEN-FILE)" http://ADDRESS/metrics answers; a 503 says that the state store cannot be read.`,
      },
    },
    {
      alert: 'HoldfastWatcherGone',
      expr: `count by (${BY_FLEET}) (holdfast_fleet_agents) unless on (${BY_FLEET}) (time() - holdfast_fleet_watcher_last_seen_timestamp_seconds < ${WATCHER_SECONDS})`,
      for: '3m',
      labels: { severity: 'critical' },
      annotations: {
        summary: 'Nobody watches the fleet of {{ $labels.instance }}',
        description:
          'The watcher has given no sign of life for 2 minutes: nothing is restarted, no breaker is opened. Run `systemctl status` of the unit that runs `holdfast fleet watch`, start it again, and look at `holdfast fleet events`.',
      },
    },
    {
      alert: 'HoldfastFleetDegraded',
      expr: `sum by (${BY_FLEET}) (holdfast_fleet_agents{state="unhealthy"}) / sum by (${BY_FLEET}) (holdfast_fleet_agents) > ${unhealthyRatio}`,
      for: '2m',
      labels: { severity: 'critical' },
      annotations: {
        summary: '{{ $value | humanizePercentage }} of the fleet of {{ $labels.instance }} is unhealthy',
        description: `More than ${percent(unhealthyRatio)} of the agents are unhealthy for 2 minutes. Look for what they share (host, network, model, messaging) before single agents: \`holdfast fleet status --problems\`.`,
      },
    },
    {
      alert: 'HoldfastFleetLevel',
      expr: 'holdfast_fleet_level > 0 and holdfast_fleet_level < 3',
      for: '1m',
      labels: { severity: 'warning' },
      annotations: {
        summary: 'The fleet of {{ $labels.instance }} works at level {{ $value }}',
        description:
          'Level 1 is reduced, 2 does essential work only. `holdfast fleet status` has the reasons; the level is left by itself when they are gone for a while.',
      },
    },
    {
      alert: 'HoldfastFleetEmergency',
      expr: 'holdfast_fleet_level >= 3',
      labels: { severity: 'critical' },
      annotations: {
        summary: 'The fleet of {{ $labels.instance }} is in emergency (level 3)',
        description:
          'A critical agent is out, messaging cannot be reached, or more than half of the fleet fails. `holdfast fleet status` has the reasons, `holdfast fleet events --since 1h` what was done about it.',
      },
    },
  ];
}

function agentRules({ stuckSeconds, queueDepth, errorRatio }: AlertThresholds): AlertRule[] {
  const ended = (labels: string) =>
    `sum by (${BY_AGENT}) (increase(holdfast_agent_tasks_completed_total{${labels}}[5m]))`;
  // Prometheus makes a little more of what it saw (5 of 4 with a sample a minute): more than five is five at least.
  const share = `(${ended('status="failure"')} / ${ended('')}) > ${errorRatio} and on (${BY_AGENT}) (${ended('')} > ${RATE_LEAST_TASKS})`;
  return [
    {
      alert: 'HoldfastAgentUnhealthy',
      expr: 'holdfast_agent_state{state="unhealthy"} == 1',
      for: '5m',
      labels: { severity: 'warning' },
      annotations: {
        summary: 'Agent {{ $labels.agent }} is unhealthy',
        description:
          'It does not live, is not ready or makes no progress for 5 minutes. `holdfast fleet status {{ $labels.agent }}` says what was seen, `holdfast fleet events --agent {{ $labels.agent }}` what was tried.',
      },
    },
    {
      alert: 'HoldfastAgentUnknown',
      expr: 'holdfast_agent_state{state="unknown"} == 1',
      for: '15m',
      labels: { severity: 'warning' },
      annotations: {
        summary: 'Nothing is known of agent {{ $labels.agent }}',
        description:
          'It was not looked at for a while, or nothing in the config says how. Give it `live`, `ready` or `progress` in `fleet.agents`, and see that `holdfast fleet watch` runs.',
      },
    },
    {
      alert: 'HoldfastAgentStuck',
      // Who has nothing to do is not stuck.
      expr: `((time() - holdfast_agent_last_activity_timestamp_seconds > ${stuckSeconds}) unless on (${BY_AGENT}) (holdfast_agent_tasks_in_progress == 0)) or on (${BY_AGENT}) (holdfast_agent_layer_ok{layer="progress"} == 0)`,
      for: '5m',
      labels: { severity: 'warning' },
      annotations: {
        summary: 'Agent {{ $labels.agent }} is stuck',
        description: `It shows no activity for ${span(stuckSeconds)}, or its probe of progress fails. Read its log; if it hangs, restart it. \`holdfast fleet status {{ $labels.agent }}\` says what was seen.`,
      },
    },
    {
      alert: 'HoldfastAgentQueueDeep',
      expr: `holdfast_agent_queue_depth > ${queueDepth}`,
      for: '10m',
      labels: { severity: 'warning' },
      annotations: {
        summary: '{{ $value }} tasks wait for agent {{ $labels.agent }}',
        description: `More than ${queueDepth} tasks wait for 10 minutes. See whether it works at all (\`holdfast fleet status {{ $labels.agent }}\`); if it does, it needs another replica, or fewer tasks.`,
      },
    },
    {
      alert: 'HoldfastAgentErrors',
      expr: `(${share}) or on (${BY_AGENT}) (avg_over_time(holdfast_agent_error_ratio[5m]) > ${errorRatio})`,
      labels: { severity: 'critical' },
      annotations: {
        summary: '{{ $value | humanizePercentage }} of the tasks of agent {{ $labels.agent }} fail',
        description: `More than ${percent(errorRatio)} of at least ${RATE_LEAST_TASKS} tasks failed over 5 minutes. Look at its log. To stop calls until it is repaired: \`holdfast breaker trip {{ $labels.agent }} --reason "…"\`.`,
      },
    },
    {
      alert: 'HoldfastBreakerOpen',
      // Over the states, for it goes from open to half-open and back.
      expr: `max by (${BY_AGENT}) (holdfast_agent_breaker_state{state=~"open|half-open|forced-open|unreadable"}) == 1`,
      for: '2m',
      labels: { severity: 'warning' },
      annotations: {
        summary: 'The breaker of agent {{ $labels.agent }} is open',
        description:
          'Calls of it are refused. `holdfast breaker show {{ $labels.agent }}` says why and until when; if the agent is well: `holdfast breaker reset {{ $labels.agent }}`.',
      },
    },
  ];
}

function backupRules(
  { backupSeconds, verifySeconds, drillSeconds }: AlertThresholds,
  agents: readonly AgentAges[],
): AlertRule[] {
  // What was found in the repositories counts; the record of the host, where nobody looks at them.
  const tooOld = (found: string, onRecord: string, usual: number, key: 'backupSeconds' | 'drillSeconds') => {
    const limits = byThreshold(usual, agents, key);
    const older = (metric: string) =>
      limits.map(({ selector, limit }) => `(time() - ${metric}${selector} > ${limit})`).join(` or on (${BY_AGENT}) `);
    return `(${older(found)}) or on (${BY_AGENT}) ((${older(onRecord)}) unless on (${BY_AGENT}) ${found})`;
  };
  const isDown = (layer: string) => `holdfast_agent_layer_ok{layer="${layer}"} == 0`;
  return [
    {
      alert: 'HoldfastBackupTooOld',
      expr: `${tooOld('holdfast_agent_snapshot_timestamp_seconds', 'holdfast_last_backup_success_timestamp_seconds', backupSeconds, 'backupSeconds')} or on (${BY_AGENT}) (${isDown('backup')})`,
      for: '10m',
      labels: { severity: 'critical' },
      annotations: {
        summary: 'The backup of agent {{ $labels.agent }} is too old',
        description:
          'No backend is known to hold a snapshot that is young enough: what the agent has learned since would be lost with its host. Run `holdfast backup` with its config and read what it says; see whether its timer runs (`holdfast schedule show`).',
      },
    },
    {
      alert: 'HoldfastBackendBehind',
      expr: 'holdfast_last_backup_backend_committed == 0',
      for: '1h',
      labels: { severity: 'warning' },
      annotations: {
        summary: 'Backend {{ $labels.backend }} of agent {{ $labels.agent }} is behind',
        description:
          'It lacks the last snapshot for an hour: one place fewer holds it. `holdfast backend test {{ $labels.backend }}` says what is wrong, `holdfast sync` brings it level.',
      },
    },
    {
      alert: 'HoldfastVerifyOverdue',
      expr: `time() - holdfast_last_verify_success_timestamp_seconds > ${verifySeconds} or on (${BY_AGENT}) (holdfast_last_backup_success_timestamp_seconds unless on (${BY_AGENT}) holdfast_last_verify_success_timestamp_seconds)`,
      for: '1h',
      labels: { severity: 'warning' },
      annotations: {
        summary: 'The backups of agent {{ $labels.agent }} were not verified lately',
        description: `No verify without a fault for ${span(verifySeconds)}. Run \`holdfast verify\` with its config; exit code 13 is damage, and \`holdfast repair\` heals it from another backend.`,
      },
    },
    {
      alert: 'HoldfastDrillOverdue',
      expr: `${tooOld('holdfast_agent_drill_timestamp_seconds', 'holdfast_last_drill_success_timestamp_seconds', drillSeconds, 'drillSeconds')} or on (${BY_AGENT}) (${isDown('drill')})`,
      for: '1h',
      labels: { severity: 'warning' },
      annotations: {
        summary: 'A drill of agent {{ $labels.agent }} is overdue',
        description:
          'Nobody has shown lately that it can be recovered. Run `holdfast drill run` with its config; `holdfast drill due` says when the last one passed.',
      },
    },
  ];
}

/** One selector for each age that the config asks for, and one for all other agents. */
function byThreshold(
  usual: number,
  agents: readonly AgentAges[],
  key: 'backupSeconds' | 'drillSeconds',
): { selector: string; limit: number }[] {
  const groups = new Map<number, string[]>();
  for (const { name, [key]: limit } of agents) {
    if (limit === undefined || limit === usual) continue;
    groups.set(limit, [...(groups.get(limit) ?? []), name]);
  }
  if (groups.size === 0) return [{ selector: '', limit: usual }];
  // Names are letters, digits, _, - and dots: of these only the dot means something in a pattern.
  const pattern = (names: readonly string[]) => names.map((name) => name.replaceAll('.', '[.]')).join('|');
  const others = { selector: `{agent!~"${pattern([...groups.values()].flat())}"}`, limit: usual };
  return [others, ...[...groups].map(([limit, names]) => ({ selector: `{agent=~"${pattern(names)}"}`, limit }))];
}

const percent = (ratio: number): string => `${Math.round(ratio * 100)} %`;

function span(seconds: number): string {
  if (seconds % DAY === 0) return `${seconds / DAY} days`;
  if (seconds % HOUR === 0) return `${seconds / HOUR} hours`;
  return seconds % 60 === 0 ? `${seconds / 60} minutes` : `${seconds} seconds`;
}
