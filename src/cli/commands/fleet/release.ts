import { appendEvent } from '../../../fleet/events.ts';
import { release } from '../../../fleet/quarantine.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { agentArg, openFleet } from '../../fleet/context.ts';
import { lines } from '../../render.ts';

interface Released {
  agent: string;
  /** Since when it was in quarantine. */
  since: string;
  reason: string;
}

export default class FleetRelease extends HoldfastCommand<typeof FleetRelease, Released> {
  static override summary = 'Let an agent out of quarantine: its breaker is closed, and rules act on it again.';
  static override description = 'What was tried in vain before is forgotten.';
  static override examples = ['holdfast fleet release backend'];
  static override args = { agent: agentArg };

  protected override async work(): Promise<Released> {
    const { agent } = this.args;
    const { clock, random } = this;
    const config = await this.loadConfig();
    await using fleet = openFleet(config, { env: process.env, clock, random });
    const { sinceMs, reason } = await release({ ...fleet, clock }, agent);
    const since = new Date(sinceMs).toISOString();
    const message = `released by hand; in quarantine since ${since}: ${reason}`;
    await appendEvent({ store: fleet.store, clock, random }, { kind: 'quarantine', agent, message });
    return { agent, since, reason };
  }

  protected override text({ agent, since, reason }: Released): string {
    return lines(`${agent} is released; it was in quarantine since ${since}: ${reason}`);
  }
}
