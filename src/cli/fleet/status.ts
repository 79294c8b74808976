/** The fleet as `fleet status` and `fleet check` tell it: for scripts, and on one screen for people. */
import { LEVELS } from '../../fleet/degradation.ts';
import {
  LAYERS,
  type AgentState,
  type AgentView,
  type FleetView,
  type Layer,
  type LayerStatus,
} from '../../fleet/health.ts';
import { problemsOf } from '../../fleet/view.ts';
import { escapeForDisplay } from '../../raw-path.ts';
import { formatDuration } from '../../units.ts';
import { count, facts, formatTime, lines, table } from '../render.ts';

/** What scripts rely on: `level`, `agents` and of each agent the fields up to `breaker`. */
export interface StatusResult {
  /** 0 to 3; null while nobody watches. */
  level: number | null;
  agents: AgentRow[];
  /** How many were looked at, also where only those are listed that are not well. */
  total: number;
  time: string;
  levelSince: string | null;
  levelReasons: readonly string[];
  /** Who watches; null: nobody does, and it was looked at now, once. */
  watcher: { host: string; pid: number; seen: string } | null;
  /** Commands of `breaker queue`. */
  queue: FleetView['queue'];
}

/** null: not asked for; `unknown`: what was known is too old. */
type RowStatus = LayerStatus | 'unknown' | null;

export interface AgentRow {
  name: string;
  state: AgentState;
  /** Of each layer. */
  live: RowStatus;
  ready: RowStatus;
  progress: RowStatus;
  backup: RowStatus;
  drill: RowStatus;
  breaker: AgentView['breaker']['state'];
  queue: RowStatus;
  errors: RowStatus;
  memory: RowStatus;
  critical: boolean;
  since: string;
  trend: AgentView['trend'];
  /** When it was last well in a vital layer. */
  seen: string | null;
  looked: string | null;
  retryAt?: string;
  quarantine: { since: string; reason: string } | null;
  /** Why it is not well, the most important first; empty when it is. */
  problems: string[];
  layers: Partial<
    Record<Layer, { status: LayerStatus | 'unknown'; since: string; at: string; evidence: string; value?: number }>
  >;
  /** What it tells of itself, by the names of docs/fleet.md; times in ISO 8601. */
  stats: Readonly<Record<string, unknown>>;
}

const iso = (ms: number): string => new Date(ms).toISOString();

export function statusResult(view: FleetView): StatusResult {
  const { level, watcher } = view;
  return {
    level: level && level.level,
    agents: view.agents.map(agentRow),
    total: view.agents.length,
    time: iso(view.atMs),
    levelSince: level && iso(level.sinceMs),
    levelReasons: level?.reasons ?? [],
    watcher: watcher && { host: watcher.host, pid: watcher.pid, seen: iso(watcher.seenMs) },
    queue: view.queue,
  };
}

export function agentRow(agent: AgentView): AgentRow {
  const isOld = agent.state === 'unknown';
  const statusOf = ({ status: known }: { status: LayerStatus }) => (isOld ? 'unknown' : known);
  const status = (layer: Layer): RowStatus => (agent.layers[layer] ? statusOf(agent.layers[layer]) : null);
  const { name, state, breaker, critical, trend, quarantine, stats } = agent;
  return {
    ...{ name, state, live: status('live'), ready: status('ready'), progress: status('progress') },
    ...{ backup: status('backup'), drill: status('drill'), breaker: breaker.state },
    ...{ queue: status('queue'), errors: status('errors'), memory: status('memory') },
    ...{ critical, since: iso(agent.sinceMs), trend },
    seen: agent.seenMs === null ? null : iso(agent.seenMs),
    looked: agent.lookedMs === 0 ? null : iso(agent.lookedMs),
    ...(breaker.retryAtMs !== undefined && { retryAt: iso(breaker.retryAtMs) }),
    quarantine: quarantine && { since: iso(quarantine.sinceMs), reason: quarantine.reason },
    problems: problemsOf(agent),
    layers: Object.fromEntries(
      LAYERS.flatMap((layer) => {
        const one = agent.layers[layer];
        if (!one) return [];
        const { evidence, atMs, value } = one.last;
        const told = { status: statusOf(one), since: iso(one.sinceMs), at: iso(atMs), evidence };
        return [[layer, { ...told, ...(value !== undefined && { value }) }]];
      }),
    ),
    stats: statsRow(stats),
  };
}

function statsRow({ lastActivityMs, lastTaskMs, ...stats }: AgentView['stats']): AgentRow['stats'] {
  return {
    ...stats,
    ...(lastActivityMs !== undefined && { lastActivity: iso(lastActivityMs) }),
    ...(lastTaskMs !== undefined && { lastTask: iso(lastTaskMs) }),
  };
}

/** An agent is well when nothing at all is to be said against it. */
export const isWell = ({ problems }: Pick<AgentRow, 'problems'>): boolean => problems.length === 0;

/** Worst first. */
const ORDER: readonly AgentState[] = ['unhealthy', 'unknown', 'degraded', 'starting', 'healthy'];

function inOrder(rows: readonly AgentRow[]): AgentRow[] {
  const rank = ({ critical, state }: AgentRow) => 2 * ORDER.indexOf(state) - Number(critical);
  return rows.toSorted((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
}

/** For one screen: who is not well and why, a line each, then the names of the others. */
export function statusText(
  result: StatusResult,
  { columns, onlyProblems }: { columns: number; onlyProblems: boolean },
): string {
  const bad = inOrder(result.agents.filter((row) => !isWell(row)));
  const well = inOrder(result.agents.filter(isWell));
  const parts = [summary(result, bad)];
  if (bad.length > 0) parts.push('\n', problemTable(bad, result, columns));
  if (!onlyProblems && well.length > 0) {
    parts.push(lines('', `well (${well.length}${well.some(({ critical }) => critical) ? ', * critical' : ''}):`));
    parts.push(nameColumns(well.map(marked), columns));
  }
  const [worst] = bad;
  if (worst) parts.push(lines('', `All that is known of one: holdfast fleet status ${worst.name}`));
  return parts.join('');
}

const marked = ({ name, critical }: AgentRow): string => (critical ? `${name}*` : name);

export function summary(result: StatusResult, bad: readonly AgentRow[]): string {
  const { total, level, levelSince, levelReasons, queue, time } = result;
  const nowMs = Date.parse(time);
  const states = ORDER.flatMap((state) => {
    const n = bad.filter((row) => row.state === state).length;
    return n === 0 ? [] : [`${n} ${state === 'healthy' ? 'healthy, but given no work' : state}`];
  });
  const queued = Object.entries(queue).flatMap(([kind, n]) => (n === 0 ? [] : [`${n} ${kind}`]));
  return lines(
    bad.length === 0
      ? `${count(total, 'agent')}, all well.`
      : `${bad.length} of ${count(total, 'agent')} not well: ${states.join(', ')}.`,
    ...(level === null
      ? []
      : [
          `level ${level} (${LEVELS[level as 0 | 1 | 2 | 3]})${levelSince === null ? '' : ` for ${formatDuration(Math.max(0, nowMs - Date.parse(levelSince)))}`}${levelReasons.length > 0 ? `: ${levelReasons.join('; ')}` : ''}`,
        ]),
    watchedBy(result),
    ...(queued.length > 0 ? [`queued commands: ${queued.join(', ')}`] : []),
  );
}

function watchedBy({ watcher, level, time }: StatusResult): string {
  // With --now the watcher was passed over; the level is its.
  const nobody = level === null ? 'nobody watches (holdfast fleet watch): ' : '';
  if (!watcher) return `${nobody}looked at just now, once`;
  const ageMs = Math.max(0, Date.parse(time) - Date.parse(watcher.seen));
  return `watched by process ${watcher.pid} on ${watcher.host}, ${formatDuration(ageMs)} ago`;
}

function problemTable(rows: readonly AgentRow[], { time, watcher }: StatusResult, columns: number): string {
  // From one look nobody knows since when.
  const [nowMs, isWatched] = [Date.parse(time), watcher !== null];
  const cells = rows.map((row) => {
    const [first = '', ...rest] = row.problems;
    const why = rest.length === 0 ? first : `${first} (and ${rest.length} more)`;
    return [marked(row), row.state, ...(isWatched ? [since(row, nowMs), trendText(row)] : []), why];
  });
  return cut(table(['agent', 'state', ...(isWatched ? ['for', 'trend'] : []), 'why'], cells), columns);
}

const since = ({ since: from }: AgentRow, nowMs: number) => formatDuration(Math.max(0, nowMs - Date.parse(from)));
const trendText = ({ trend }: AgentRow) => (trend === 'none' ? '' : trend);

/** Lines as wide as the terminal at most. */
function cut(text: string, columns: number): string {
  return text
    .split('\n')
    .map((line) =>
      Array.from(line).length <= columns
        ? line
        : `${Array.from(line)
            .slice(0, columns - 1)
            .join('')}…`,
    )
    .join('\n');
}

/** As many columns as there is room for, filled downwards. */
export function nameColumns(names: readonly string[], columns: number): string {
  const width = Math.max(...names.map((name) => name.length)) + 2;
  const across = Math.max(1, Math.floor((columns - 2 + 2) / width));
  const down = Math.ceil(names.length / across);
  return lines(
    ...Array.from({ length: down }, (_, row) =>
      Array.from({ length: across }, (__, column) => (names[column * down + row] ?? '').padEnd(width))
        .join('')
        .trimEnd(),
    ),
  );
}

/** All that is known of an agent. */
export function detailText(row: AgentRow, { time, watcher }: Pick<StatusResult, 'time' | 'watcher'>): string {
  // From one look nobody knows since when.
  const [nowMs, isWatched] = [Date.parse(time), watcher !== null];
  const ago = (text: string | null) =>
    text === null
      ? 'never'
      : `${formatTime(Date.parse(text))}, ${formatDuration(Math.max(0, nowMs - Date.parse(text)))} ago`;
  const layers = Object.entries(row.layers).map(([layer, { status, since: from, evidence }]) => [
    ...[layer, status],
    ...(isWatched ? [formatDuration(Math.max(0, nowMs - Date.parse(from)))] : []),
    evidence,
  ]);
  const numbers = Object.entries(row.stats).map(([name, value]) =>
    escapeForDisplay(`${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`),
  );
  return (
    facts({
      agent: row.critical ? `${row.name} (critical)` : row.name,
      state: isWatched ? `${row.state} for ${since(row, nowMs)}` : `${row.state}, by one look just now`,
      trend: row.trend === 'none' ? undefined : `${row.trend} over the last 30 minutes`,
      'last well': isWatched ? ago(row.seen) : undefined,
      'looked at': isWatched ? ago(row.looked) : undefined,
      breaker:
        row.retryAt === undefined ? row.breaker : `${row.breaker}, tried again ${formatTime(Date.parse(row.retryAt))}`,
      quarantine: row.quarantine === null ? undefined : `since ${row.quarantine.since}: ${row.quarantine.reason}`,
      tells: numbers.length === 0 ? undefined : numbers.join(', '),
    }) +
    (layers.length === 0
      ? lines('nothing says how to look at it')
      : `\n${table(['layer', 'status', ...(isWatched ? ['for'] : []), 'what was seen'], layers)}`)
  );
}
