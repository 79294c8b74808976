import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../../../errors.ts';
import { guardedRun, type GuardedRunResult } from '../../../fleet/guarded-run.ts';
import { parseDuration } from '../../../units.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { commandStreams, kept, passedSignals } from '../../command-streams.ts';
import type { ExitCode } from '../../exit-codes.ts';
import { agentArg, openFleet, reporterFlag, tellAll } from '../../fleet/context.ts';

type Result = Omit<GuardedRunResult, 'rejection'>;

export default class BreakerRun extends HoldfastCommand<typeof BreakerRun, Result> {
  static override summary = 'Run a command that calls an agent, unless its breaker is open (exit code 75).';
  static override description =
    "The command has this one's streams (with --json, its stdout goes to stderr), gets its signals, and its exit code is this one's: 124 when it was late, 3 when it was queued instead.";
  static override examples = ['holdfast breaker run backend --timeout 5m -- ask-agent backend "status?"'];
  static override usage = ['breaker run AGENT [FLAGS] -- CMD...'];
  static override strict = false;
  static override args = { agent: agentArg };
  static override flags = {
    ...reporterFlag,
    timeout: Flags.string({ summary: 'How long each try may take.', helpValue: 'DURATION' }),
    tries: Flags.integer({ summary: 'How often it is tried.', min: 1, max: 100, helpValue: 'N' }),
    'keep-env': Flags.string({
      summary: 'A variable to keep, with its value, if the command is queued. No secrets.',
      multiple: true,
      helpValue: 'NAME',
      default: [],
    }),
  };
  protected override readonly takesSignals = true;

  protected override async work(): Promise<Result> {
    const { timeout, tries, reporter, json, 'keep-env': names } = this.flags;
    const { agent } = this.args;
    const argv = this.#command();
    const timeoutMs = timeout === undefined ? undefined : parseDuration(timeout);
    const config = await this.loadConfig();
    await using fleet = openFleet(config, { env: process.env, clock: this.clock, random: this.random, reporter });
    const env = kept(process.env, [...fleet.config.queue.env, ...names]);
    const request = { agent, argv, cwd: process.cwd(), timeoutMs };
    const { rejection, ...result } = await guardedRun(
      {
        ...{ ...fleet, ...request, tries, env: process.env, streams: commandStreams({ json }), signals: passedSignals },
        tell: tellAll(config, fleet, this.seams),
        enqueue: async (problem, notBeforeMs) =>
          (await fleet.queue.add({ ...request, env, problem, timeoutMs: timeoutMs ?? null }, notBeforeMs)).id,
      },
      this.seams,
    );
    if (!json || rejection) this.warnAll(result.warnings);
    if (result.outcome === 'rejected' && rejection) throw rejection;
    return result;
  }

  /** What follows `--`, which has to be there: a flag of the command would be taken for one of ours. */
  #command(): string[] {
    const at = this.argv.indexOf('--');
    const argv = at < 0 ? [] : this.argv.slice(at + 1);
    if (argv.length > 0 && this.operands.length === argv.length + 1) return argv;
    throw new HoldfastError(
      'usage',
      at < 0 ? 'there is no -- before the command' : 'there is no command after --, or something before it',
      {
        hint: 'holdfast breaker run AGENT [FLAGS] -- CMD ARGS…',
      },
    );
  }

  /** Where the command ended by itself, its own. */
  protected override exitCode({ exitCode }: Result) {
    return exitCode as ExitCode;
  }

  protected override text(): string {
    return ''; // the command has said what there is to say
  }
}
