/** From the section `fleet` of the config to what operations take. */
import type { z } from 'zod';
import { HoldfastError, isHoldfastError } from '../../errors.ts';
import {
  FALLBACK_ACTIONS,
  isAction,
  type BreakerOptions,
  type FleetBreakerOptions,
} from '../../fleet/breaker-policy.ts';
import { parseDuration } from '../../units.ts';
import type { configSchema } from '../config-schema.ts';
import { nearest } from '../suggest.ts';
import { serveConfig, type ServeConfig } from './serve-config.ts';
import type { AlertThresholds } from '../../fleet/alerts.ts';

export interface FleetConfig {
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
}

type RawFleet = NonNullable<z.output<typeof configSchema>['fleet']>;
type RawBreaker = NonNullable<RawFleet['breaker']>;

/** Of a config without the section. */
export const NO_FLEET: FleetConfig = { breakers: {}, queue: { env: [] } };

/** @throws `config_invalid` */
export function fleetConfig(raw: RawFleet, resolvePath: (path: string) => string, file: string): FleetConfig {
  const { store, breaker, queue, agents = {} } = raw;
  const names = Object.keys(agents);
  const options = (place: string, of: RawBreaker | undefined) => of && breakerOptions(of, place, names, file);
  const backoffMs = queue?.backoff?.map((text) => durationAt(file, 'fleet.queue.backoff', text));
  return {
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
    ...serveConfig(raw, resolvePath, (place, text) => durationAt(file, place, text)),
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
    ratio: ratio === undefined ? undefined : Number.parseInt(ratio, 10) / 100,
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

/** Above 0: an agent that is never left alone, or may take no time at all, is a mistake. */
function durationAt(file: string, place: string, text: string): number {
  try {
    const ms = parseDuration(text, 'config_invalid');
    if (ms > 0) return ms;
  } catch (error) {
    if (!isHoldfastError(error, 'config_invalid')) throw error;
    throw invalid(file, `\`${place}\` is not valid: ${error.message}`, error.hint);
  }
  throw invalid(file, `\`${place}\` must be longer than nothing`);
}

function noFallback(name: string, place: string, agents: readonly string[], file: string): HoldfastError {
  const meant = nearest(name, [...FALLBACK_ACTIONS, ...agents]);
  return invalid(
    file,
    `\`${place}.fallback\` names ${JSON.stringify(name)}, which is neither an action nor an agent of \`fleet.agents\``,
    meant === undefined ? `Actions are ${FALLBACK_ACTIONS.join(', ')}.` : `Did you mean \`${meant}\`?`,
  );
}

function invalid(
  file: string,
  what: string,
  hint = 'Correct the config file and run the command again.',
): HoldfastError {
  return new HoldfastError('config_invalid', `${file}: ${what}`, { hint });
}
