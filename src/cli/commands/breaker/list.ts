import { HoldfastCommand } from '../../base-command.ts';
import { EXIT } from '../../exit-codes.ts';
import { breakerRow, openFleet, whenText, type BreakerRow } from '../../fleet/context.ts';
import { table } from '../../render.ts';

export default class BreakerList extends HoldfastCommand<typeof BreakerList, BreakerRow[]> {
  static override summary = 'The breakers of the agents in the config, and of all others that ever failed.';

  protected override async work(): Promise<BreakerRow[]> {
    const config = await this.loadConfig();
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random });
    return (await fleet.breakers.list(fleet.agents)).map((view) => breakerRow(view, fleet.agents));
  }

  /** 3 when one cannot be read. */
  protected override exitCode(rows: BreakerRow[]) {
    return rows.some(({ state }) => state === 'unreadable') ? EXIT.incomplete : EXIT.done;
  }

  protected override text(rows: BreakerRow[]): string {
    if (rows.length === 0) return 'no agents yet\n';
    const nowMs = this.clock.now();
    const cells = rows.map(({ agent, state, failures, retryAt, since }) => {
      if (state === 'unreadable')
        return [agent, state, '', '', `no call is let through; anew: holdfast breaker reset ${agent}`];
      const next = retryAt === undefined ? '' : whenText(retryAt, nowMs);
      return [agent, state, String(failures), since ?? 'ever', next];
    });
    return table(['agent', 'state', 'failures', 'since', 'next'], cells, ['failures']);
  }
}
