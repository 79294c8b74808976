import { HoldfastCommand } from '../../base-command.ts';
import { agentArg, breakerText, commandBreaker, type BreakerRow } from '../../fleet/context.ts';

export default class BreakerEnable extends HoldfastCommand<typeof BreakerEnable, BreakerRow> {
  static override summary = 'Put a breaker that was disabled back in use.';
  static override args = { agent: agentArg };

  protected override async work(): Promise<BreakerRow> {
    const { clock, random } = this;
    const config = await this.loadConfig();
    return commandBreaker(config, this.args.agent, { type: 'enable' }, { env: process.env, clock, random });
  }

  protected override text(row: BreakerRow): string {
    return breakerText(row, this.clock.now());
  }
}
