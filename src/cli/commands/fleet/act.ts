import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../../../errors.ts';
import { leaseHolder } from '../../../fleet/lease.ts';
import { ask } from '../../../fleet/quarantine.ts';
import { ACTIONS } from '../../../fleet/rules.ts';
import { LEASE_KEY } from '../../../fleet/watch.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { agentArg, openFleet } from '../../fleet/context.ts';
import { lines } from '../../render.ts';
import { nearest } from '../../suggest.ts';

interface AskedFor {
  agent: string;
  action: string;
  /** That a watcher runs, which will see to it. */
  watched: boolean;
}

export default class FleetAct extends HoldfastCommand<typeof FleetAct, AskedFor> {
  static override summary = 'Have the watchdog do something to an agent now, whatever its rules say.';
  static override description =
    'The wish is left in the store, for an hour; the watcher that runs fulfils it and tells in `fleet events` what came of it. Cap, cool-down and quarantine do not hold it back.';
  static override examples = [
    "holdfast fleet act backend restart --reason 'new version'",
    'holdfast fleet act backend restore_state',
  ];
  static override args = {
    agent: agentArg,
    action: Args.string({ description: 'What to do.', required: true, options: [...ACTIONS] }),
  };
  static override flags = {
    reason: Flags.string({ summary: 'What the event says.', helpValue: 'TEXT', default: 'no reason given' }),
  };

  protected override async work(): Promise<AskedFor> {
    const { agent } = this.args;
    const { clock, random } = this;
    const action = ACTIONS.find((one) => one === this.args.action) ?? 'notify';
    const config = await this.loadConfig();
    await using fleet = openFleet(config, { env: process.env, clock, random });
    if (!fleet.agents.includes(agent)) {
      const meant = nearest(agent, [...fleet.agents]);
      throw new HoldfastError('usage', `the config has no agent ${JSON.stringify(agent)}`, {
        hint: meant === undefined ? 'See `holdfast fleet status`.' : `Did you mean \`${meant}\`?`,
      });
    }
    await ask({ store: fleet.store, clock }, agent, action, this.flags.reason);
    return { agent, action, watched: (await leaseHolder(fleet.store, LEASE_KEY)) !== null };
  }

  protected override text({ agent, action, watched }: AskedFor): string {
    return lines(
      watched
        ? `asked the watcher: ${action} for ${agent}; see \`holdfast fleet events --agent ${agent}\``
        : `asked: ${action} for ${agent}; no watcher runs now, and the wish is forgotten after an hour`,
    );
  }
}
