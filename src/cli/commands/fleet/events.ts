import * as Flags from '@oclif/core/flags';
import { EVENT_KINDS, followEvents, listEvents } from '../../../fleet/events.ts';
import { parseDuration } from '../../../units.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { openFleet } from '../../fleet/context.ts';
import { eventLine, eventRow, type EventRow } from '../../fleet/event-text.ts';
import { toJsonLine, writeStdout } from '../../output.ts';
import { lines } from '../../render.ts';

export default class FleetEvents extends HoldfastCommand<typeof FleetEvents, EventRow[]> {
  static override summary = 'What happened to the fleet, and what was decided and why.';
  static override description =
    'Oldest first. With --follow it goes on until it is interrupted; with --json that prints one JSON document a line. Events are kept for 30 days.';
  static override examples = [
    'holdfast fleet events --since 2h --agent backend',
    'holdfast fleet events --kind action --limit 20 --json',
    'holdfast fleet events --follow',
  ];
  static override flags = {
    since: Flags.string({ summary: 'How far back.', helpValue: 'DURATION', default: '24h' }),
    agent: Flags.string({ summary: 'Of this agent alone.', helpValue: 'AGENT' }),
    kind: Flags.string({ summary: 'Of this kind alone.', options: [...EVENT_KINDS] }),
    limit: Flags.integer({ summary: 'The last so many.', min: 1, helpValue: 'N', exclusive: ['follow'] }),
    follow: Flags.boolean({ summary: 'Go on with those that come.' }),
  };
  protected override tellsItself = false;

  protected override async work(): Promise<EventRow[]> {
    const { since, agent, limit, follow, json } = this.flags;
    this.tellsItself = follow;
    const kind = EVENT_KINDS.find((one) => one === this.flags.kind);
    const filter = { sinceMs: this.clock.now() - parseDuration(since), agent, kind };
    const config = await this.loadConfig();
    if (agent !== undefined && !(agent in (config.fleet?.watched ?? {})))
      this.warnAll([{ code: 'not_configured', message: `agent ${agent} is not in \`fleet.agents\`` }]);
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random });
    if (!follow) return (await listEvents(fleet.store, { ...filter, limit })).map(eventRow);
    for await (const event of followEvents(fleet.store, filter, this.signal)) {
      const row = eventRow(event);
      if (!(await writeStdout(json ? toJsonLine(row) : lines(eventLine(row))))) break;
    }
    return [];
  }

  protected override text(events: EventRow[]): string {
    return events.length === 0 ? lines('no events') : lines(...events.map(eventLine));
  }
}
