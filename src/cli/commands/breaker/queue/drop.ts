import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../../../../errors.ts';
import { HoldfastCommand } from '../../../base-command.ts';
import { openFleet } from '../../../fleet/context.ts';
import { lines } from '../../../render.ts';

interface DropResult {
  dropped: { id: string; agent: string | null; argv: readonly string[] | null }[];
}

export default class BreakerQueueDrop extends HoldfastCommand<typeof BreakerQueueDrop, DropResult> {
  static override summary = 'Take commands out of the queue: they will not be run.';
  static override usage = ['breaker queue drop ID... | --dead'];
  static override strict = false;
  static override flags = { dead: Flags.boolean({ summary: 'All dead letters.', default: false }) };

  protected override async work(): Promise<DropResult> {
    if (this.operands.length > 0 === this.flags.dead)
      throw new HoldfastError('usage', 'say which commands: by their ids, or --dead', {
        hint: 'See `holdfast breaker queue list`.',
      });
    const config = await this.loadConfig();
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random });
    const dropped = await fleet.queue.drop(this.flags.dead ? await fleet.queue.dead() : this.operands);
    return { dropped: dropped.map(({ id, agent, argv }) => ({ id, agent, argv })) };
  }

  protected override text({ dropped }: DropResult): string {
    return lines(
      ...dropped.map(({ id, agent }) => `${id} (${agent ?? 'unreadable'}): dropped`),
      ...(dropped.length ? [] : ['nothing to drop']),
    );
  }
}
