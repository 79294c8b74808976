import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { fleetView } from '../../../fleet/view.ts';
import { formatDuration, parseDuration } from '../../../units.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { EXIT } from '../../exit-codes.ts';
import { agentSpecs, checkNames } from '../../fleet/agents.ts';
import { openFleet } from '../../fleet/context.ts';
import { isWell, statusResult, summary, type AgentRow, type StatusResult } from '../../fleet/status.ts';
import { lines } from '../../render.ts';

interface CheckResult extends Omit<StatusResult, 'agents'> {
  ok: boolean;
  agents: number;
  problems: Pick<AgentRow, 'name' | 'state' | 'critical' | 'since' | 'problems'>[];
}

/** Of the deadline: for what comes after the looks, on a busy host. */
const RESERVE_MS = 600;
const LOOK_MIN_MS = 100;

export default class FleetCheck extends HoldfastCommand<typeof FleetCheck, CheckResult> {
  static override summary = 'Whether all agents are well: exit code 15 and a line for each problem where they are not.';
  static override description =
    'For cron and monitoring. Goes by what `fleet watch` knows; where nobody watches, or with --now, it looks once by itself, and who has not answered by the deadline is not well. An agent of which nothing is looked at is not well either.';
  static override examples = [
    'holdfast fleet check',
    'holdfast fleet check backend-agent --now --deadline 2s',
    'out=$(holdfast fleet check) || echo "$out" | mail -s "the fleet is not well" ops@example.org',
  ];
  static override strict = false;
  static override args = { agent: Args.string({ description: 'These alone.', ignoreStdin: true }) };
  static override flags = {
    deadline: Flags.string({ summary: 'How long it may take, all in all.', helpValue: 'DURATION', default: '5s' }),
    now: Flags.boolean({ summary: 'Look now, also where somebody watches.' }),
  };
  #status: StatusResult | undefined;
  #rows: AgentRow[] = [];

  protected override async work(): Promise<CheckResult> {
    const allMs = parseDuration(this.flags.deadline);
    const config = await this.loadConfig();
    checkNames(config, this.operands);
    const agents = agentSpecs(config, process.env, this.seams);
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random });
    // The monotonic clock began with this process.
    const deadlineMs = Math.max(LOOK_MIN_MS, allMs - this.clock.monotonic() - RESERVE_MS);
    const names = this.operands.length > 0 ? this.operands : undefined;
    const options = { ...fleet, agents, names, now: this.flags.now, deadlineMs };
    const { agents: rows, ...rest } = (this.#status = statusResult(await fleetView(options, this.clock, this.signal)));
    this.#rows = rows.filter((row) => !isWell(row));
    const problems = this.#rows.map(({ name, state, critical, since, problems: why }) => ({
      ...{ name, state, critical, since, problems: why },
    }));
    return { ok: problems.length === 0, ...rest, agents: rows.length, problems };
  }

  protected override exitCode({ ok }: CheckResult) {
    return ok ? EXIT.done : EXIT.unhealthy;
  }

  protected override text({ problems, time }: CheckResult): string {
    const nowMs = Date.parse(time);
    const told = problems.map(({ name, state, critical, since, problems: why }) => {
      const forText = formatDuration(Math.max(0, nowMs - Date.parse(since)));
      const lasting = this.#status?.watcher ? ` for ${forText}` : '';
      return `${name}${critical ? ' (critical)' : ''}: ${state}${lasting}: ${why.join('; ')}`;
    });
    return lines(...told) + (this.#status ? summary(this.#status, this.#rows) : '');
  }

  /** The end is the end: a look-up of a host name that nobody answers would keep the process beyond its deadline. */
  override async run(): Promise<void> {
    await super.run();
    process.exit();
  }
}
