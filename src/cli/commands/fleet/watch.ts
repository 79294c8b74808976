import * as Flags from '@oclif/core/flags';
import { realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { isHoldfastError } from '../../../errors.ts';
import { sendsItself } from '../../../fleet/sd-notify.ts';
import { watch, watchOnce } from '../../../fleet/watch.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { agentSpecs } from '../../fleet/agents.ts';
import { openFleet } from '../../fleet/context.ts';
import { eventLine, eventRow, type EventRow } from '../../fleet/event-text.ts';
import { watchOptions } from '../../fleet/watch-context.ts';
import { watchUnit } from '../../fleet/watch-unit.ts';
import { toJson, toJsonLine, writeStdout } from '../../output.ts';
import { lines } from '../../render.ts';

export default class FleetWatch extends HoldfastCommand<typeof FleetWatch, EventRow[]> {
  static override summary = 'Watch the agents: look at them, and do what the rules say. A service.';
  static override description =
    'Ends on SIGTERM and SIGINT. What happens goes to stderr, a line each; with --json to stdout, one JSON document a line (with --once: one for all). Several watchers of one store stand by for each other. --dry-run decides and tells, and touches nothing.';
  static override examples = [
    'holdfast fleet watch --dry-run',
    'holdfast fleet watch --print-unit | sudo tee /etc/systemd/system/holdfast-watch.service',
  ];
  static override flags = {
    'dry-run': Flags.boolean({ summary: 'Decide and tell; run no command, change no breaker.' }),
    once: Flags.boolean({ summary: 'One look at each agent, one decision, for cron.', exclusive: ['print-unit'] }),
    'print-unit': Flags.boolean({ summary: 'Print a systemd service instead.', exclusive: ['dry-run', 'json'] }),
  };
  protected override readonly tellsItself = true;

  protected override async work(): Promise<EventRow[]> {
    const config = await this.loadConfig();
    if (this.flags['print-unit'])
      return this.#printUnit(config.path, (config.fleet?.watch?.commandTimeoutMs ?? 0) / 1000);
    const { once, json, 'dry-run': dryRun } = this.flags;
    const { clock, random, signal } = this;
    await using fleet = openFleet(config, { env: process.env, clock, random });
    const rows: EventRow[] = [];
    const log = (line: string) => void process.stderr.write(lines(line));
    const options = watchOptions(
      config,
      fleet,
      agentSpecs(config, process.env, this.seams),
      {
        ...{ env: process.env, pid: process.pid, dryRun, log },
        happened: (event) => {
          const row = eventRow(event);
          if (once) rows.push(row);
          if (json && !once) void writeStdout(toJsonLine(row));
          else if (!json) log(eventLine(row));
        },
      },
      this.seams,
    );
    try {
      await (once ? watchOnce : watch)(options, { clock, random, signal });
    } catch (error) {
      if (once || !isHoldfastError(error, 'interrupted')) throw error;
    }
    if (once && json) await writeStdout(toJson(rows));
    return rows;
  }

  async #printUnit(config: string, commandSeconds: number): Promise<EventRow[]> {
    const kept = ['XDG_CONFIG_HOME', 'XDG_STATE_HOME', 'HOLDFAST_RESTORE_IDENTITY_FILE'];
    const env = kept.flatMap((name) => (process.env[name] ? [[name, process.env[name]] as const] : []));
    const unit = watchUnit({
      ...{ config: realpathSync(config), program: [process.execPath, realpathSync(process.argv[1] ?? '')] },
      env: { HOME: homedir(), ...Object.fromEntries(env) },
      ...{
        isSystem: process.getuid?.() === 0,
        sendsItself: sendsItself(),
        stopSeconds: Math.max(30, commandSeconds / 10),
      },
    });
    await writeStdout(unit);
    return [];
  }

  protected override text(): string {
    return ''; // told while it ran
  }
}
