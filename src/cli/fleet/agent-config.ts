/** From what the config says of agents to how they are looked at: paths absolute, defaults filled in. */
import { sha256Hex } from '../../crypto/hash.ts';
import { messageOf } from '../../errors.ts';
import type { AgentSettings, ProbeSpec, ProgressSpec } from '../../fleet/agent-spec.ts';
import type { LayerPolicy } from '../../fleet/health.ts';
import type { HttpSpec } from '../../fleet/probes/http.ts';
import type { StatsSpec } from '../../fleet/probes/stats.ts';
import { parseSize } from '../../units.ts';
import { durationAt, invalid, shareOf, spanAt, type RawFleet } from './config-value.ts';

type RawAgent = NonNullable<RawFleet['agents']>[string];
type RawLook = NonNullable<RawAgent['progress']>;
type RawPace = { [K in 'interval' | 'timeout' | 'startup']?: string | undefined } & {
  [K in 'failures' | 'successes']?: number | undefined;
};

/** What is usual: of agents that are asked, and of backends. */
const USUAL: LayerPolicy = { intervalMs: 10_000, timeoutMs: 5000, startupMs: 60_000, failures: 3, successes: 2 };
const USUAL_RARE: LayerPolicy = { intervalMs: 300_000, timeoutMs: 60_000, startupMs: 0, failures: 1, successes: 1 };
const PACE: ReadonlySet<string> = new Set(['interval', 'timeout', 'startup', 'failures', 'successes']);
const INTERVAL_MIN_MS = 100;
const QUEUE_MAX = 10;
const ERRORS_MAX = '20%';
const MEMORY_MAX = '90%';

/** @throws `config_invalid` */
export function watchedAgents(
  fleet: RawFleet,
  resolvePath: (path: string) => string,
  file: string,
): Record<string, AgentSettings> {
  const reader = { resolvePath, file };
  const ofFleet = policyOf(fleet, USUAL, 'fleet', file);
  return Object.fromEntries(
    Object.entries(fleet.agents ?? {}).map(([name, agent]) => {
      const place = `fleet.agents.${name}`;
      return [name, agentSettings(agent, policyOf(agent, ofFleet, place, file), place, reader)];
    }),
  );
}

interface Reader {
  resolvePath: (path: string) => string;
  file: string;
}

function policyOf(raw: RawPace, usual: LayerPolicy, place: string, file: string): LayerPolicy {
  const ms = (key: 'interval' | 'timeout', usualMs: number) =>
    raw[key] === undefined ? usualMs : durationAt(file, `${place}.${key}`, raw[key]);
  const intervalMs = ms('interval', usual.intervalMs);
  if (intervalMs < INTERVAL_MIN_MS) throw invalid(file, `\`${place}.interval\` is shorter than ${INTERVAL_MIN_MS}ms`);
  return {
    intervalMs,
    timeoutMs: ms('timeout', usual.timeoutMs),
    startupMs: raw.startup === undefined ? usual.startupMs : spanAt(file, `${place}.startup`, raw.startup),
    failures: raw.failures ?? usual.failures,
    successes: raw.successes ?? usual.successes,
  };
}

function agentSettings(agent: RawAgent, usual: LayerPolicy, place: string, reader: Reader): AgentSettings {
  const { live, ready, progress, stats, queue, errors, memory, backup, drill } = agent;
  const { file, resolvePath } = reader;
  const policy = (raw: string | RawPace, key: string, base = usual) =>
    typeof raw === 'string' ? base : policyOf(raw, base, `${place}.${key}`, file);
  const told = stats === undefined ? usual : policy(stats, 'stats');
  const needs = (key: string) =>
    invalid(file, `\`${place}.${key}\` needs \`${place}.stats\`: where the agent tells it`);
  const tells = stats !== undefined;
  if (errors && !tells) throw needs('errors');
  if (queue && !tells && (queue.folder ?? queue.command) === undefined) throw needs('queue');
  if (memory && !tells && !(typeof live === 'object' && live.process)) throw needs('memory');
  if (typeof progress === 'object' && (progress.stats ?? (progress.idle ? '' : undefined)) !== undefined && !tells)
    throw needs('progress');
  return {
    critical: agent.critical ?? false,
    asked: askedOf(agent),
    ...(live !== undefined && { live: { look: lookOf(live, `${place}.live`, reader), policy: policy(live, 'live') } }),
    ...(ready !== undefined && {
      ready: { look: lookOf(ready, `${place}.ready`, reader), policy: policy(ready, 'ready') },
    }),
    ...(progress !== undefined && {
      progress: {
        look: progressOf(progress, `${place}.progress`, reader),
        idle: typeof progress === 'object' && progress.idle === true,
        policy: policy(progress, 'progress'),
      },
    }),
    ...(stats !== undefined && { stats: { look: statsOf(stats, reader), policy: told } }),
    ...(queue && {
      queue: {
        max: queue.max ?? QUEUE_MAX,
        ...(queue.folder !== undefined && { folder: resolvePath(queue.folder) }),
        ...(queue.command !== undefined && { command: queue.command }),
        policy: policy(queue, 'queue', told),
      },
    }),
    ...(errors && { errors: { max: shareOf(errors.max ?? ERRORS_MAX), policy: policy(errors, 'errors', told) } }),
    ...(memory && {
      memory: { max: memoryMax(memory.max ?? MEMORY_MAX, place, file), policy: policy(memory, 'memory', told) },
    }),
    ...(backup !== undefined && {
      backup: {
        config: resolvePath(typeof backup === 'string' ? backup : backup.config),
        ...(typeof backup === 'object' &&
          backup.within !== undefined && { withinMs: durationAt(file, `${place}.backup.within`, backup.within) }),
        policy: policy(backup, 'backup', USUAL_RARE),
      },
    }),
    ...(drill !== undefined && {
      drill: {
        config: resolvePath(typeof drill === 'string' ? drill : drill.config),
        policy: policy(drill, 'drill', USUAL_RARE),
      },
    }),
  };
}

/**
 * A digest of what is looked at, as it is written: `~` is another folder for whoever else asks. How often, and how often in a row, is no matter: what was
 * seen holds.
 */
function askedOf({ live, ready, progress, stats, queue, errors, memory, backup, drill }: RawAgent): string {
  const asked = { live, ready, progress, stats, queue, errors, memory, backup, drill };
  const text = JSON.stringify(asked, (key, value: unknown) => (PACE.has(key) ? undefined : value));
  return sha256Hex(Buffer.from(text)).slice(0, 16);
}

function memoryMax(text: string, place: string, file: string): { bytes: number } | { share: number } {
  if (text.endsWith('%')) return { share: shareOf(text) };
  try {
    return { bytes: parseSize(text, 'config_invalid') };
  } catch (error) {
    throw invalid(file, `\`${place}.memory.max\` is not valid: ${messageOf(error)}`);
  }
}

type LookObject = Exclude<RawLook, string>;

/** Exactly one kind is there: the schema has seen to it. */
function lookOf(look: string | Omit<LookObject, 'stats' | 'field' | 'idle'>, place: string, reader: Reader): ProbeSpec {
  if (typeof look === 'string') return { http: { url: look } };
  const { http, tcp, command, process, file } = look;
  if (http !== undefined) return { http: httpOf(look, http, reader) };
  if (tcp !== undefined) return { tcp: tcpOf(tcp, place, reader) };
  if (command !== undefined) return { command };
  if (process) {
    const { pidFile, command: line } = process;
    return {
      process: {
        ...(pidFile !== undefined && { pidFile: reader.resolvePath(pidFile) }),
        ...(line !== undefined && { command: new RegExp(line) }),
      },
    };
  }
  const { within, contains, pattern, time } = look;
  return {
    file: {
      path: reader.resolvePath(file ?? ''),
      ...(within !== undefined && { withinMs: durationAt(reader.file, `${place}.within`, within) }),
      ...(contains !== undefined && { contains }),
      ...(pattern !== undefined && { pattern: new RegExp(pattern, 'm') }),
      ...(time !== undefined && { time: new RegExp(time, 'm') }),
    },
  };
}

function httpOf(
  { status, contains, checks, headers }: Pick<LookObject, 'status' | 'contains' | 'checks' | 'headers'>,
  url: string,
  { resolvePath }: Reader,
): HttpSpec {
  const from = ({ file, env }: { file?: string | undefined; env?: string | undefined }) =>
    file === undefined ? { env: env ?? '' } : { file: resolvePath(file) };
  return {
    url,
    ...(status && { status }),
    ...(contains !== undefined && { contains }),
    ...(checks && { checks }),
    ...(headers && {
      headers: Object.fromEntries(Object.entries(headers).map(([name, where]) => [name, from(where)])),
    }),
  };
}

function tcpOf(address: string, place: string, { file }: Reader): { host: string; port: number } {
  const at = address.lastIndexOf(':');
  const port = Number(address.slice(at + 1));
  if (port < 1 || port > 65_535) throw invalid(file, `\`${place}.tcp\` has no port from 1 to 65535`);
  return { host: address.slice(0, at).replace(/^\[|\]$/g, ''), port };
}

function progressOf(look: RawLook, place: string, reader: Reader): ProgressSpec {
  if (typeof look === 'string') return { http: { url: look } };
  const withinMs = look.within === undefined ? undefined : durationAt(reader.file, `${place}.within`, look.within);
  if (look.stats !== undefined)
    return { told: look.stats === 'lastTask' ? 'lastTaskMs' : 'lastActivityMs', withinMs: withinMs ?? 0 };
  if (look.http === undefined) return lookOf(look, place, reader);
  return {
    http: {
      ...httpOf(look, look.http, reader),
      ...(withinMs !== undefined && { withinMs }),
      ...(look.field !== undefined && { field: look.field }),
    },
  };
}

function statsOf(stats: NonNullable<RawAgent['stats']>, reader: Reader): StatsSpec {
  if (typeof stats === 'string') return { http: { url: stats } };
  const { http, file, command, headers } = stats;
  if (http !== undefined) return { http: httpOf({ headers }, http, reader) };
  return command === undefined ? { file: reader.resolvePath(file ?? '') } : { command };
}
