import { HoldfastCommand } from '../../base-command.ts';
import { agentArg, breakerText, commandBreaker, type BreakerRow } from '../../fleet/context.ts';

export default class BreakerDisable extends HoldfastCommand<typeof BreakerDisable, BreakerRow> {
  static override summary = 'Let every call of an agent through, whatever comes of it.';
  static override args = { agent: agentArg };

  protected override async work(): Promise<BreakerRow> {
    const { clock, random } = this;
    const config = await this.loadConfig();
    return commandBreaker(config, this.args.agent, { type: 'disable' }, { env: process.env, clock, random });
  }

  protected override text(row: BreakerRow): string {
    return breakerText(row, this.clock.now());
  }
}
