/** Numbers that an agent tells of itself, as JSON or as a page for Prometheus, and what limits make of them. */
import type { Clock } from '../../clock.ts';
import { HoldfastError, messageOf, systemErrorCode } from '../../errors.ts';
import { formatSize } from '../../units.ts';
import { RATE_LEAST_TASKS, type AgentStats } from '../health.ts';
import { lastLine, runProbe, type CommandContext } from './command.ts';
import { aged, readSmall, timeOf } from './file.ts';
import { ask, judgeAnswer, shownUrl, statusProblem, unreached, type HttpSpec } from './http.ts';
import { failed, found, oneLine, type Finding, type StatsProbe, type Told } from './probe.ts';

type NumberKey = Exclude<keyof AgentStats, 'tasksCompleted'>;

const count = (n: number) => n >= 0 && n <= Number.MAX_SAFE_INTEGER;
const share = (n: number) => n >= 0 && n <= 1;

/** What makes sense, by field. Anything else is passed over: it is as if it were not told. */
const SENSIBLE: Readonly<Record<NumberKey, (n: number) => boolean>> = {
  ...{ queueDepth: count, tasksReceived: count, tasksInProgress: count, taskSeconds: count },
  ...{ messagesSent: count, messagesReceived: count, memoryBytes: count, memoryLimitBytes: (n) => n > 0 && count(n) },
  ...{ errorRate: share, contextUsed: share, lastActivityMs: count, lastTaskMs: count },
};

/** Other names, without `agent_`, `_total` and anything but letters, in lower case. */
const NAMES: Readonly<Record<string, NumberKey | 'success' | 'failure' | 'completed'>> = {
  ...Object.fromEntries(Object.keys(SENSIBLE).map((name) => [name.toLowerCase(), name as NumberKey])),
  ...{
    lastactivity: 'lastActivityMs',
    lastactivitytimestampseconds: 'lastActivityMs',
    lastactivityseconds: 'lastActivityMs',
  },
  ...{ lasttask: 'lastTaskMs', lasttasktimestampseconds: 'lastTaskMs', lasttasktime: 'lastTaskMs' },
  ...{ taskdurationsecondssum: 'taskSeconds', contextusedratio: 'contextUsed', contextwindowusedratio: 'contextUsed' },
  ...{ errorratio: 'errorRate', memoryusedbytes: 'memoryBytes', tasksactive: 'tasksInProgress' },
  ...{
    taskscompletedsuccess: 'success',
    taskssucceeded: 'success',
    taskscompletedfailure: 'failure',
    tasksfailed: 'failure',
  },
  ...{ taskscompleted: 'completed' },
};

function fieldOf(name: string) {
  const plain = name
    .toLowerCase()
    .replace(/^agent_/, '')
    .replace(/_total$/, '')
    .replace(/[^a-z]/g, '');
  return Object.hasOwn(NAMES, plain) ? NAMES[plain] : undefined;
}

/** What is told, whichever way; undefined when it is neither JSON nor a page for Prometheus. */
export function parseStats(text: string): AgentStats | undefined {
  const trimmed = text.trimStart();
  if (!trimmed.startsWith('{')) return parsePage(text);
  let told: unknown;
  try {
    told = JSON.parse(trimmed);
  } catch {
    return undefined;
  }
  const stats: AgentStats = {};
  for (const [name, value] of Object.entries(told as object)) {
    const field = fieldOf(name);
    if (field === undefined) continue;
    if (field !== 'completed') take(stats, field, value);
    else if (typeof value !== 'object' || value === null) take(stats, 'success', value);
    else for (const [status, n] of Object.entries(value)) takeCompleted(stats, status, n);
  }
  return stats;
}

function take(stats: AgentStats, field: NumberKey | 'success' | 'failure', value: unknown): void {
  if (field === 'success' || field === 'failure') {
    if (typeof value !== 'number' || !count(value)) return;
    stats.tasksCompleted = { ...stats.tasksCompleted, [field]: (stats.tasksCompleted?.[field] ?? 0) + value };
    return;
  }
  const isTime = field === 'lastActivityMs' || field === 'lastTaskMs';
  const n = isTime ? timeOf(value) : value;
  if (typeof n === 'number' && SENSIBLE[field](n)) stats[field] = n;
}

function takeCompleted(stats: AgentStats, status: string, value: unknown): void {
  if (/^(success|succeeded|ok|completed|done)$/i.test(status)) take(stats, 'success', value);
  else if (/^(failure|failed|error|errors)$/i.test(status)) take(stats, 'failure', value);
}

const SAMPLE = /^([A-Za-z_:][\w:]*)(?:\{([^}]*)\})?[ \t]+([+-]?(?:\d[\d.eE+-]*|Inf|NaN))(?:[ \t]+-?\d+)?$/;

/** Prometheus text format. Of a name with labels other than a status the samples are added up. */
function parsePage(text: string): AgentStats | undefined {
  const sums = new Map<NumberKey, number>();
  const stats: AgentStats = {};
  let isPage = false;
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) {
      isPage ||= /^# (HELP|TYPE) /.test(line);
      continue;
    }
    const [, name = '', labels = '', number = ''] = SAMPLE.exec(line.trimEnd()) ?? [];
    if (name === '') continue;
    isPage = true;
    const [field, value] = [fieldOf(name), Number(number)];
    if (field === undefined || !Number.isFinite(value)) continue;
    const status = /(?:^|,)\s*status="([^"]*)"/.exec(labels)?.[1];
    if (field === 'completed') takeCompleted(stats, status ?? 'success', value);
    else if (field === 'success' || field === 'failure') take(stats, field, value);
    else sums.set(field, (sums.get(field) ?? 0) + value);
  }
  for (const [field, value] of sums) take(stats, field, value);
  return isPage ? stats : undefined;
}

export type StatsSpec = { http: HttpSpec } | { file: string } | { command: string };

export function statsProbe(spec: StatsSpec, context: CommandContext): StatsProbe {
  return async (signal) => {
    const told = await textOf(spec, context, signal);
    if (typeof told !== 'string') return told;
    const stats = parseStats(told);
    return stats ? { stats } : { stats: {}, problem: 'what it tells is neither JSON nor a page for Prometheus' };
  };
}

async function textOf(spec: StatsSpec, context: CommandContext, signal: AbortSignal): Promise<string | Told> {
  const nothing = ({ evidence, absent }: Finding): Told => ({
    stats: {},
    problem: evidence,
    ...(absent && { absent }),
  });
  try {
    if ('http' in spec) {
      const answer = await ask(spec.http, context.env, signal);
      const problem = statusProblem(answer, spec.http, shownUrl(spec.http.url));
      return problem === undefined ? answer.body : nothing(failed(problem));
    }
    if ('file' in spec) return (await readSmall(spec.file, true)).text;
    const { exitCode, problem, output } = await runProbe(spec.command, context, signal);
    return exitCode === 0 ? output : nothing(failed(`the command for stats: ${problem ?? `exit code ${exitCode}`}`));
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    if ('http' in spec) return nothing(unreached(error, shownUrl(spec.http.url)));
    if (systemErrorCode(error) !== 'ENOENT') return nothing(failed(messageOf(error)));
    return nothing({
      ok: false,
      evidence: 'file' in spec ? `${spec.file} is not there` : messageOf(error),
      absent: true,
    });
  }
}

/** The last line of a command is how many tasks wait. */
export function depthByCommand(command: string, context: CommandContext): StatsProbe {
  return async (signal) => {
    const { exitCode, problem, output } = await runProbe(command, context, signal);
    const said = lastLine(output);
    if (exitCode === 0 && /^\d{1,12}$/.test(said)) return { stats: { queueDepth: Number(said) } };
    const what = exitCode === 0 ? `told no number, but ${JSON.stringify(said)}` : (problem ?? `exit code ${exitCode}`);
    return { stats: {}, problem: `the command for the queue: ${what}` };
  };
}

/** Of several sources what each tells; of two that tell the same the later counts. */
export function together(sources: readonly StatsProbe[]): StatsProbe {
  const [only] = sources;
  if (only && sources.length === 1) return only;
  return async (signal) => {
    const all = await Promise.all(sources.map((source) => source(signal)));
    const problems = all.flatMap(({ problem }) => (problem === undefined ? [] : [problem]));
    return {
      stats: Object.assign({}, ...all.map(({ stats }) => stats)) as AgentStats,
      ...(problems.length > 0 && { problem: problems.join('; ') }),
      ...(all.every(({ absent }) => absent) && { absent: true }),
    };
  };
}

/** Of agents that count their tasks and tell no error rate: over so long. */
const RATE_WINDOW_MS = 5 * 60_000;
const RATE_LOOKS_MAX = 100;

/**
 * Adds the error rate where it is not told, by what the counters have grown since; by all of them where there was no look before. Of too few
 * tasks there is none.
 */
export function withErrorRate(source: StatsProbe, clock: Clock): StatsProbe {
  let looks: { atMs: number; success: number; failure: number }[] = [];
  return async (signal) => {
    const told = await source(signal);
    const { tasksCompleted, errorRate } = told.stats;
    if (!tasksCompleted || errorRate !== undefined) return told;
    const now = { atMs: clock.monotonic(), success: tasksCompleted.success ?? 0, failure: tasksCompleted.failure ?? 0 };
    const last = looks.at(-1);
    // Counters that shrank begin anew, as the agent did.
    if (last && (now.success < last.success || now.failure < last.failure)) looks = [];
    const first = looks[0] ?? { success: 0, failure: 0 };
    looks = [...looks, now].filter(({ atMs }) => now.atMs - atMs <= RATE_WINDOW_MS).slice(-RATE_LOOKS_MAX);
    const [failures, all] = [now.failure - first.failure, now.failure - first.failure + now.success - first.success];
    if (all > 0 && all < RATE_LEAST_TASKS) return told;
    return { ...told, stats: { ...told.stats, errorRate: all === 0 ? 0 : failures / all } };
  };
}

type Judge = (seen: Finding | undefined, told: Told | undefined, nowMs: number) => Finding;

function untold(told: Told | undefined, what: string): Finding {
  const problem = told?.problem;
  return { ...failed(problem ?? `it does not tell ${what}`), ...(told?.absent && { absent: true }) };
}

export const queueJudge =
  (max: number): Judge =>
  (_seen, told) => {
    const depth = told?.stats.queueDepth;
    if (depth === undefined) return untold(told, 'how many tasks wait (queueDepth)');
    return depth > max ? failed(`${depth} tasks wait, more than ${max}`, depth) : found(`${depth} tasks wait`, depth);
  };

export const errorsJudge =
  (max: number): Judge =>
  (_seen, told) => {
    const rate = told?.stats.errorRate;
    if (rate === undefined && told?.stats.tasksCompleted)
      return found(`fewer than ${RATE_LEAST_TASKS} tasks in 5 minutes: how many of them fail cannot be said`);
    if (rate === undefined) return untold(told, 'how many of its tasks fail (errorRate, or tasksCompleted)');
    const shown = `${percent(rate)} of its tasks fail`;
    return rate > max ? failed(`${shown}, more than ${percent(max)}`, rate) : found(shown, rate);
  };

/** @param max bytes, or of what it may have */
export const memoryJudge =
  (max: { bytes: number } | { share: number }): Judge =>
  (_seen, told) => {
    const { memoryBytes, memoryLimitBytes } = told?.stats ?? {};
    if (memoryBytes === undefined) return untold(told, 'how much memory it has taken (memoryBytes)');
    if ('share' in max && memoryLimitBytes === undefined)
      return failed('it does not tell how much memory it may have (memoryLimitBytes)', memoryBytes);
    const most = 'bytes' in max ? max.bytes : max.share * (memoryLimitBytes ?? 0);
    const shown = `${formatSize(memoryBytes)} of memory`;
    if (memoryBytes <= most) return found(shown, memoryBytes);
    const of = 'share' in max ? ` (${percent(max.share)} of ${formatSize(memoryLimitBytes ?? 0)})` : '';
    return failed(`${shown}, more than ${formatSize(most)}${of}`, memoryBytes);
  };

const percent = (ratio: number) => `${Number((ratio * 100).toFixed(1))} %`;

/** By the time of its last activity or task, as it tells. */
export const activityJudge =
  (field: 'lastActivityMs' | 'lastTaskMs', withinMs: number): Judge =>
  (_seen, told, nowMs) => {
    const atMs = told?.stats[field];
    const what = field === 'lastTaskMs' ? 'its last task' : 'its last activity';
    if (atMs === undefined) return untold(told, `${what} (${field.replace(/Ms$/, '')})`);
    return aged(what, atMs, withinMs, nowMs);
  };

/** An agent that has no task need make no progress. */
export const idleJudge =
  (judge?: Judge): Judge =>
  (seen, told, nowMs) => {
    const finding = judge ? judge(seen, told, nowMs) : (seen ?? failed('nothing says how to look'));
    if (finding.ok || told?.stats.tasksInProgress !== 0) return finding;
    return { ok: true, evidence: oneLine(`idle: no task in progress (${finding.evidence})`) };
  };

/** Progress by HTTP: what the answer says, and where `withinMs` is given a time in it, under `field` (`a.b` for one inside another) or under the usual names. */
export function httpProgress(
  spec: HttpSpec & { withinMs?: number; field?: string },
  { clock, env }: Pick<CommandContext, 'clock' | 'env'>,
): (signal: AbortSignal) => Promise<Finding> {
  const where = shownUrl(spec.url);
  return async (signal) => {
    try {
      const answer = await ask(spec, env, signal);
      const said = judgeAnswer(answer, spec, where);
      if (!said.ok || spec.withinMs === undefined) return said;
      const atMs = spec.field === undefined ? usualTime(answer.body) : fieldTime(answer.body, spec.field);
      if (atMs === undefined)
        return failed(
          `${where} tells no time${spec.field === undefined ? ' (lastActivity or lastTask)' : ` under ${spec.field}`}`,
        );
      return aged(spec.field ?? 'its last activity', atMs, spec.withinMs, clock.now());
    } catch (error) {
      if (error instanceof HoldfastError) throw error;
      return unreached(error, where);
    }
  };
}

function usualTime(body: string): number | undefined {
  const { lastActivityMs, lastTaskMs } = parseStats(body) ?? {};
  return lastActivityMs === undefined ? lastTaskMs : Math.max(lastActivityMs, lastTaskMs ?? 0);
}

function fieldTime(body: string, field: string): number | undefined {
  let here: unknown;
  try {
    here = JSON.parse(body);
  } catch {
    return undefined;
  }
  for (const step of field.split('.')) {
    if (typeof here !== 'object' || here === null || !Object.hasOwn(here, step)) return undefined;
    here = (here as Record<string, unknown>)[step];
  }
  return timeOf(here);
}
