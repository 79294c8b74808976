import type { BreakerPolicy } from '../../../fleet/breaker-policy.ts';
import type { BreakerState, Evidence } from '../../../policy/breaker.ts';
import { formatDuration } from '../../../units.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { agentArg, breakerRow, openFleet, whenText, type BreakerRow } from '../../fleet/context.ts';
import { facts, table } from '../../render.ts';

interface BreakerDetails extends BreakerRow {
  /** All that is stored. */
  detail: BreakerState;
  /** Who brought it into this state. */
  by: string | null;
  evidence: readonly Evidence[];
  policy: BreakerPolicy;
  /** Commands for this agent in the queue, dead letters included. */
  queued: number;
}

export default class BreakerShow extends HoldfastCommand<typeof BreakerShow, BreakerDetails> {
  static override summary = 'One breaker: its state, who saw what fail, and how it is set.';
  static override args = { agent: agentArg };

  protected override async work(): Promise<BreakerDetails> {
    const { agent } = this.args;
    const config = await this.loadConfig();
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random });
    const view = await fleet.breakers.look(agent);
    const evidence = 'evidence' in view.state ? (view.state.evidence ?? []) : [];
    const queued = (await fleet.queue.readable()).commands.filter((command) => command.agent === agent).length;
    const [row, policy] = [breakerRow(view, fleet.agents), fleet.policyOf(agent)];
    return { ...row, detail: view.state, by: view.since?.by ?? null, evidence, policy, queued };
  }

  protected override text({ detail, policy, evidence, ...row }: BreakerDetails): string {
    const { settings, timeoutMs, fallback } = policy;
    const { threshold, openMs, openMaxMs, window, slowMs } = settings;
    const inARow = Number.isFinite(threshold) ? `${threshold} failures in a row` : undefined;
    const share = window && `${window.ratio * 100} % of the last ${window.calls} calls`;
    const slow = slowMs === undefined ? '' : `; slower than ${formatDuration(slowMs)} is a failure`;
    const reports = evidence.map((one) => [
      one.reporter,
      String(one.failures),
      new Date(one.atMs).toISOString(),
      one.lastError,
    ]);
    return (
      facts({
        agent: row.configured ? row.agent : `${row.agent} (not in the config: defaults)`,
        state: row.state,
        since: row.since === null ? undefined : `${row.since}, by ${row.by}`,
        failures: `${row.failures} in a row`,
        next: row.retryAt === undefined ? undefined : whenText(row.retryAt, this.clock.now()),
        last: 'lastError' in detail ? detail.lastError : undefined,
        reason: 'reason' in detail ? detail.reason : undefined,
        probe: 'holder' in detail ? detail.holder : undefined,
        'opens at': [inARow, share].filter((one) => one !== undefined).join(', or ') + slow,
        'stays open': `${formatDuration(openMs)}, at most ${formatDuration(openMaxMs)}`,
        timeout: formatDuration(timeoutMs),
        fallback: fallback.length === 0 ? undefined : fallback.join(', '),
        queued: row.queued === 0 ? undefined : String(row.queued),
      }) + (reports.length === 0 ? '' : table(['reporter', 'failures', 'last', 'what'], reports, ['failures']))
    );
  }
}
