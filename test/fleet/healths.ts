/** Made-up healths of agents. */
import { stateOf, type AgentHealth, type AgentStats, type Layer, type LayerStatus } from '../../src/fleet/health.ts';

export interface HealthOptions {
  critical?: boolean;
  /** Since when each layer is as it is; default: an hour ago. */
  sinceMs?: number;
  lookedMs?: number;
  stats?: AgentStats;
  /** What was measured last, by layer. */
  values?: Partial<Record<Layer, number>>;
}

/** As after a look at `nowMs`, with these layers; the others are not looked at. */
export function health(
  name: string,
  layers: Partial<Record<Layer, LayerStatus>>,
  nowMs: number,
  { critical = false, sinceMs = nowMs - 3_600_000, lookedMs = nowMs, stats = {}, values = {} }: HealthOptions = {},
): AgentHealth {
  const made = Object.fromEntries(
    Object.entries(layers).map(([layer, status]) => {
      const ok = status === 'ok' || status === 'recovering';
      const value = values[layer as Layer];
      const last = {
        ...{ ok, evidence: ok ? 'HTTP 200' : 'connection refused', atMs: lookedMs, tookMs: 1 },
        ...(value !== undefined && { value }),
      };
      return [layer, { status, sinceMs, failures: ok ? 0 : 3, successes: ok ? 3 : 0, last }];
    }),
  );
  return {
    ...{ name, critical, state: stateOf(made), sinceMs, layers: made, history: [], trend: 'none' },
    ...{ seenMs: null, lookedMs, stats },
  };
}
