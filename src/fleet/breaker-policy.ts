/** How the breaker of an agent is set, and what is done instead of a call that it refuses. */
import { WINDOW_MAX_CALLS, type BreakerSettings } from '../policy/breaker.ts';
import type { RetrySettings } from '../policy/retry.ts';

/** What is done when no agent of the chain could do it. */
export const FALLBACK_ACTIONS = ['queue_for_retry', 'escalate_to_human', 'proceed_with_warning'] as const;
export type FallbackAction = (typeof FALLBACK_ACTIONS)[number];

export interface BreakerPolicy {
  settings: BreakerSettings;
  /** How long one call may take. */
  timeoutMs: number;
  /** Of calls that failed, but not for good. */
  retry: RetrySettings;
  /** A call that ends so failed for good, and says nothing about the agent: it is not repeated, and not counted. */
  permanent: {
    exitCodes: readonly number[];
    /** Regular expressions, each on what a command wrote to stderr last. */
    stderr: readonly string[];
  };
  /** Names of other agents, asked in this order, and actions. */
  fallback: readonly string[];
}

/** What can be said of one agent, or of all; the rest is as usual. Durations in milliseconds. */
export interface BreakerOptions {
  /** Failures in a row. Without it and with a window only the window counts. */
  failureThreshold?: number | undefined;
  recoveryMs?: number | undefined;
  recoveryGrowth?: number | undefined;
  recoveryMaxMs?: number | undefined;
  /** Calls. */
  window?: number | undefined;
  /** 0 to 1. */
  ratio?: number | undefined;
  slowMs?: number | undefined;
  probeLeaseMs?: number | undefined;
  timeoutMs?: number | undefined;
  tries?: number | undefined;
  retryBaseMs?: number | undefined;
  retryCapMs?: number | undefined;
  permanentExitCodes?: readonly number[] | undefined;
  permanentStderr?: readonly string[] | undefined;
  fallback?: readonly string[] | undefined;
}

export interface FleetBreakerOptions {
  /** Of all agents. */
  defaults?: BreakerOptions | undefined;
  agents?: Readonly<Record<string, { breaker?: BreakerOptions | undefined; critical?: boolean | undefined }>>;
}

const MINUTE_MS = 60_000;
/** What an agent of a fleet is usually given: three failures, five minutes. */
export const USUAL = {
  failureThreshold: 3,
  recoveryMs: 5 * MINUTE_MS,
  recoveryGrowth: 2,
  recoveryMaxMs: 60 * MINUTE_MS,
  window: 20,
  ratio: 0.5,
  probeLeaseMs: MINUTE_MS,
  timeoutMs: 30 * MINUTE_MS,
  tries: 1,
  retryBaseMs: 1000,
  retryCapMs: MINUTE_MS,
  /** Of sysexits.h those that say that the request was wrong, and the shell's "cannot be run". */
  permanentExitCodes: [64, 65, 66, 67, 68, 77, 78, 126, 127],
} as const;
/** Of those that the others cannot do without: noticed sooner, asked again sooner. They come before what is said of all. */
export const USUAL_OF_CRITICAL = { failureThreshold: 2, recoveryMs: 2 * MINUTE_MS } as const;

/** The agent's own word first, then what critical agents have, then what is said of all, then what is usual. */
export function breakerPolicy(agent: string, { defaults, agents = {} }: FleetBreakerOptions): BreakerPolicy {
  const { breaker, critical } = (Object.hasOwn(agents, agent) ? agents[agent] : undefined) ?? {};
  const said: Said = { ...given(defaults), ...(critical && USUAL_OF_CRITICAL), ...given(breaker) };
  const { recoveryMs, recoveryGrowth, probeLeaseMs, timeoutMs, tries, retryBaseMs, retryCapMs } = { ...USUAL, ...said };
  const isWindowed = said.window !== undefined || said.ratio !== undefined;
  return {
    settings: {
      threshold: said.failureThreshold ?? (isWindowed ? Infinity : USUAL.failureThreshold),
      openMs: recoveryMs,
      openMaxMs: Math.max(recoveryMs, said.recoveryMaxMs ?? USUAL.recoveryMaxMs),
      growth: recoveryGrowth,
      trialMs: probeLeaseMs,
      window: isWindowed
        ? { calls: Math.min(WINDOW_MAX_CALLS, said.window ?? USUAL.window), ratio: said.ratio ?? USUAL.ratio }
        : undefined,
      slowMs: said.slowMs,
      // With many callers an answer to a call from before is the rule, and says nothing.
      trialOnly: true,
    },
    timeoutMs,
    retry: { tries, baseMs: retryBaseMs, capMs: retryCapMs, budgetMs: Infinity },
    permanent: {
      exitCodes: said.permanentExitCodes ?? USUAL.permanentExitCodes,
      stderr: said.permanentStderr ?? [],
    },
    fallback: said.fallback ?? [],
  };
}

/** Without what is not said, so that it hides nothing. */
function given(options: BreakerOptions | undefined): Said {
  return Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
}

type Said = { [K in keyof BreakerOptions]?: NonNullable<BreakerOptions[K]> };

export function isAction(fallback: string): fallback is FallbackAction {
  return FALLBACK_ACTIONS.some((action) => action === fallback);
}

/**
 * Who is asked, in this order, and what is done when none of them can: after each agent its own fallback agents, each once, so that a circle ends;
 * then the actions of the first in the chain that names any.
 */
export function fallbackChain(
  agent: string,
  policyOf: (agent: string) => Pick<BreakerPolicy, 'fallback'>,
): { agents: string[]; actions: FallbackAction[] } {
  const agents: string[] = [];
  const visit = (one: string): void => {
    if (agents.includes(one)) return;
    agents.push(one);
    for (const next of policyOf(one).fallback) if (!isAction(next)) visit(next);
  };
  visit(agent);
  const actions = agents.map((one) => policyOf(one).fallback.filter(isAction)).find((some) => some.length > 0) ?? [];
  return { agents, actions };
}
