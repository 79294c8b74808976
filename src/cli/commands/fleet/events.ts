import * as Flags from '@oclif/core/flags';
import { EVENT_KINDS, followEvents, readEvents, unreadableEvent } from '../../../fleet/events.ts';
import { parseDuration } from '../../../units.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { openFleet, unreadableText } from '../../fleet/context.ts';
import { EXIT } from '../../exit-codes.ts';
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
  #isWhole = true;

  protected override async work(): Promise<EventRow[]> {
    const { since, agent, limit, follow, json } = this.flags;
    this.tellsItself = follow;
    const kind = EVENT_KINDS.find((one) => one === this.flags.kind);
    const filter = { sinceMs: this.clock.now() - parseDuration(since), agent, kind };
    const config = await this.loadConfig();
    if (agent !== undefined && !(agent in (config.fleet?.watched ?? {})))
      this.warnAll([{ code: 'not_configured', message: `agent ${agent} is not in \`fleet.agents\`` }]);
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random });
    const tell = (id: string) => this.#tellUnreadable(id);
    if (!follow) {
      const { events, unreadable } = await readEvents(fleet.store, { ...filter, limit });
      for (const id of unreadable) tell(id);
      return events.map(eventRow);
    }
    for await (const event of followEvents(fleet.store, filter, this.signal, tell)) {
      const row = eventRow(event);
      if (!(await writeStdout(json ? toJsonLine(row) : lines(eventLine(row))))) break;
    }
    return [];
  }

  #tellUnreadable(id: string): void {
    this.#isWhole = false;
    this.warnAll([{ code: 'unreadable_event', message: unreadableText(unreadableEvent(id)) }]);
  }

  /** 3 when one cannot be read. */
  protected override exitCode() {
    return this.#isWhole ? EXIT.done : EXIT.incomplete;
  }

  protected override text(events: EventRow[]): string {
    return events.length === 0 ? lines('no events') : lines(...events.map(eventLine));
  }
}
