import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { DEADLINE_MS, fleetView } from '../../../fleet/view.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { agentSpecs, checkNames } from '../../fleet/agents.ts';
import { openFleet, type Fleet } from '../../fleet/context.ts';
import { detailText, isWell, statusResult, statusText, type StatusResult } from '../../fleet/status.ts';
import { toJsonLine, writeStdout } from '../../output.ts';

const REDRAW_MS = 2000;
const ANEW = '\x1b[H\x1b[2J\x1b[3J';

export default class FleetStatus extends HoldfastCommand<typeof FleetStatus, StatusResult> {
  static override summary = 'Who is alive, who makes progress, whose backups and drills are fresh, and why not.';
  static override description =
    'Shows what `fleet watch` knows; where nobody watches, or with --now, it looks once by itself. With --watch it goes on until Ctrl-C; with --json one document a line then. For scripts that go by an exit code there is `fleet check`.';
  static override examples = [
    'holdfast fleet status',
    'holdfast fleet status backend-agent',
    'holdfast fleet status --problems --watch',
    'holdfast fleet status --json | jq \'.agents[] | select(.state != "healthy")\'',
  ];
  static override strict = false;
  static override args = {
    agent: Args.string({ description: 'These alone, with all that is known.', ignoreStdin: true }),
  };
  static override flags = {
    watch: Flags.boolean({ summary: 'Show it again and again.' }),
    now: Flags.boolean({ summary: 'Look now, also where somebody watches.' }),
    problems: Flags.boolean({ summary: 'Only those that are not well.' }),
  };
  protected override tellsItself = false;

  protected override async work(): Promise<StatusResult> {
    const config = await this.loadConfig();
    checkNames(config, this.operands);
    const agents = agentSpecs(config, process.env, this.seams);
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random });
    const look = () => this.#look(fleet, agents);
    if (!this.flags.watch) return await look();
    this.tellsItself = true;
    let result = await look();
    while (!this.signal.aborted) {
      const text = this.flags.json ? toJsonLine(result) : `${process.stdout.isTTY ? ANEW : ''}${this.text(result)}`;
      if (!(await writeStdout(text))) break;
      try {
        await this.clock.sleep(REDRAW_MS, this.signal);
        result = await look();
      } catch (error) {
        if (!this.signal.aborted) throw error;
      }
    }
    return result;
  }

  async #look(fleet: Fleet, agents: ReturnType<typeof agentSpecs>): Promise<StatusResult> {
    const names = this.operands.length > 0 ? this.operands : undefined;
    const options = { ...fleet, agents, names, now: this.flags.now, deadlineMs: DEADLINE_MS };
    const result = statusResult(await fleetView(options, this.clock, this.signal));
    return this.flags.problems ? { ...result, agents: result.agents.filter((row) => !isWell(row)) } : result;
  }

  protected override text(result: StatusResult): string {
    if (this.operands.length > 0) return result.agents.map((row) => detailText(row, result)).join('\n');
    return statusText(result, { columns: process.stdout.columns || 100, onlyProblems: this.flags.problems });
  }
}
