import { HoldfastCommand } from '../../base-command.ts';
import { agentArg, breakerText, commandBreaker, type BreakerRow } from '../../fleet/context.ts';

export default class BreakerReset extends HoldfastCommand<typeof BreakerReset, BreakerRow> {
  static override summary = 'Close a breaker, whatever opened it, and forget its failures. What is disabled stays so.';
  static override args = { agent: agentArg };

  protected override async work(): Promise<BreakerRow> {
    const { clock, random } = this;
    const config = await this.loadConfig();
    return commandBreaker(config, this.args.agent, { type: 'reset' }, { env: process.env, clock, random });
  }

  protected override text(row: BreakerRow): string {
    return breakerText(row, this.clock.now());
  }
}
