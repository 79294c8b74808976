import * as Flags from '@oclif/core/flags';
import { HoldfastCommand } from '../../base-command.ts';
import { agentArg, breakerText, commandBreaker, reporterFlag, type BreakerRow } from '../../fleet/context.ts';

export default class BreakerTrip extends HoldfastCommand<typeof BreakerTrip, BreakerRow> {
  static override summary = 'Stop all calls of an agent, until `breaker reset`.';
  static override examples = ["holdfast breaker trip backend --reason 'deploying'"];
  static override args = { agent: agentArg };
  static override flags = {
    ...reporterFlag,
    reason: Flags.string({ summary: 'What callers are told.', helpValue: 'TEXT', default: 'no reason given' }),
    temporary: Flags.boolean({ summary: 'As failures would: it is tried again after the recovery time.' }),
  };

  protected override async work(): Promise<BreakerRow> {
    const { reason, temporary, reporter } = this.flags;
    const { clock, random } = this;
    const config = await this.loadConfig();
    const command = temporary ? ({ type: 'open', error: reason } as const) : ({ type: 'trip', reason } as const);
    return commandBreaker(config, this.args.agent, command, { env: process.env, clock, random, reporter });
  }

  protected override text(row: BreakerRow): string {
    return breakerText(row, this.clock.now());
  }
}
