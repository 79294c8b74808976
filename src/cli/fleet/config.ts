/** From the section `fleet` of the config to what operations take. */
import type { HoldfastError } from '../../errors.ts';
import type { AgentSettings } from '../../fleet/agent-spec.ts';
import {
  FALLBACK_ACTIONS,
  isAction,
  type BreakerOptions,
  type FleetBreakerOptions,
} from '../../fleet/breaker-policy.ts';
import { nearest } from '../suggest.ts';
import { serveConfig, type ServeConfig } from './serve-config.ts';
import type { AlertThresholds } from '../../fleet/alerts.ts';
import { watchedAgents } from './agent-config.ts';
import { durationAt, invalid, shareOf, type RawFleet } from './config-value.ts';
import { watchConfig, type WatchConfig } from './watch-config.ts';

export interface FleetConfig {
  /** How each agent is looked at, by name, in the order of the file. */
  watched: Readonly<Record<string, AgentSettings>>;
  /** An absolute path; absent for the usual place. */
  store?: string;
  breakers: FleetBreakerOptions;
  queue: {
    /** Absent for the usual pauses. */
    backoffMs?: readonly number[];
    env: readonly string[];
  };
  /** Absent where there is no section `fleet`: as usual. */
  serve?: ServeConfig;
  alerts?: AlertThresholds;
  watch?: WatchConfig;
}

type RawBreaker = NonNullable<RawFleet['breaker']>;

/** Of a config without the section. */
export const NO_FLEET: FleetConfig = { watched: {}, breakers: {}, queue: { env: [] } };

/** @throws `config_invalid` */
export function fleetConfig(raw: RawFleet, resolvePath: (path: string) => string, file: string): FleetConfig {
  const { store, breaker, queue, agents = {} } = raw;
  const names = Object.keys(agents);
  const options = (place: string, of: RawBreaker | undefined) => of && breakerOptions(of, place, names, file);
  const backoffMs = queue?.backoff?.map((text) => durationAt(file, 'fleet.queue.backoff', text));
  return {
    watched: watchedAgents(raw, resolvePath, file),
    ...(store !== undefined && { store: resolvePath(store) }),
    breakers: {
      defaults: options('fleet.breaker', breaker),
      agents: Object.fromEntries(
        Object.entries(agents).map(([name, agent]) => [
          name,
          { critical: agent.critical, breaker: options(`fleet.agents.${name}.breaker`, agent.breaker) },
        ]),
      ),
    },
    queue: { ...(backoffMs && { backoffMs }), env: queue?.env ?? [] },
    ...serveConfig(raw, resolvePath, file),
    watch: watchConfig(raw, resolvePath, file),
  };
}

function breakerOptions(raw: RawBreaker, place: string, agents: readonly string[], file: string): BreakerOptions {
  const ms = (key: string, text: string | undefined) =>
    text === undefined ? undefined : durationAt(file, `${place}.${key}`, text);
  const { ratio, retry, permanent } = raw;
  const fallback = typeof raw.fallback === 'string' ? [raw.fallback] : raw.fallback;
  for (const one of fallback ?? [])
    if (!isAction(one) && !agents.includes(one)) throw noFallback(one, place, agents, file);
  const recoveryMs = ms('recoveryTimeout', raw.recoveryTimeout);
  const recoveryMaxMs = ms('recoveryMax', raw.recoveryMax);
  if (recoveryMs !== undefined && recoveryMaxMs !== undefined && recoveryMaxMs < recoveryMs)
    throw invalid(file, `\`${place}.recoveryMax\` is shorter than recoveryTimeout`);
  return {
    failureThreshold: raw.failureThreshold,
    ...{ recoveryMs, recoveryMaxMs, recoveryGrowth: raw.recoveryGrowth },
    window: raw.window,
    ratio: ratio === undefined ? undefined : shareOf(ratio),
    slowMs: ms('slowCall', raw.slowCall),
    probeLeaseMs: ms('probeLease', raw.probeLease),
    timeoutMs: ms('timeout', raw.timeout),
    tries: retry?.tries,
    retryBaseMs: ms('retry.base', retry?.base),
    retryCapMs: ms('retry.cap', retry?.cap),
    permanentExitCodes: permanent?.exitCodes,
    permanentStderr: permanent?.stderr,
    fallback,
  };
}

function noFallback(name: string, place: string, agents: readonly string[], file: string): HoldfastError {
  const meant = nearest(name, [...FALLBACK_ACTIONS, ...agents]);
  return invalid(
    file,
    `\`${place}.fallback\` names ${JSON.stringify(name)}, which is neither an action nor an agent of \`fleet.agents\``,
    meant === undefined ? `Actions are ${FALLBACK_ACTIONS.join(', ')}.` : `Did you mean \`${meant}\`?`,
  );
}
