import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../../errors.ts';
import { forget, type ForgetResult } from '../../operations/forget.ts';
import { undoForget, type UndoResult } from '../../operations/undo-forget.ts';
import { annotator } from '../annotation.ts';
import { requireSections, type Config } from '../config.ts';
import { EXIT } from '../exit-codes.ts';
import { parseDuration } from '../../units.ts';
import { keepFlags, rulesOf } from '../keep-flags.ts';
import { count, lines, SNAPSHOT_FORMS, warningLines } from '../render.ts';
import { dueFlag, ReportedCommand } from '../reported-command.ts';
import { retentionCalendar } from '../retention-calendar.ts';

/** As `prune` has it. */
const SETTLE = '2m';

export default class Forget extends ReportedCommand<typeof Forget, ForgetResult | UndoResult> {
  static override summary = 'Delete snapshots that no rule keeps; `prune` then takes what only they needed.';
  static override examples = [
    'holdfast forget --dry-run',
    'holdfast forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12',
    'holdfast forget 5a65dcf6',
    'holdfast forget --undo 5a65dcf6',
  ];
  static override strict = false;
  static override args = {
    snapshot: Args.string({ description: `Only these, whatever the rules say: ${SNAPSHOT_FORMS}.` }),
  };
  static override flags = {
    ...keepFlags,
    'dry-run': Flags.boolean({
      summary: 'Change nothing; show a calendar of what stays, and why.',
      default: false,
    }),
    undo: Flags.string({
      summary: 'Put back a forgotten snapshot, or all that one run forgot; until `prune` has swept them.',
      helpValue: 'SNAPSHOT|RECORD',
      exclusive: ['dry-run', ...Object.keys(keepFlags).filter((name) => name !== 'keep-tag')],
    }),
    ...dueFlag,
  };
  protected override readonly kind = 'forget';
  #timeZone: string | undefined;

  /** What only looks, or goes back, is no run of the schedule. */
  protected override perform(): Promise<ForgetResult | UndoResult> {
    return this.flags['dry-run'] || this.flags.undo !== undefined ? this.work() : super.perform();
  }

  protected override async work(): Promise<ForgetResult | UndoResult> {
    const { undo, 'dry-run': dryRun } = this.flags;
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const who = await annotator(config);
    const settleMs = parseDuration(config.prune?.settle ?? SETTLE);
    if (undo === undefined) return forget({ ...who, ...this.#what(config), dryRun }, this.seams);
    if (this.operands.length + this.flags['keep-tag'].length === 0)
      return undoForget({ ...who, undo, settleMs }, this.seams);
    throw new HoldfastError('usage', '--undo takes one snapshot or record, and nothing besides', {
      hint: 'Run it once for each.',
    });
  }

  #what({ retention }: Config) {
    const rules = rulesOf(this.flags);
    const { operands: snapshots } = this;
    if (snapshots.length > 0 && Object.keys(rules).length > 0) {
      throw new HoldfastError('usage', 'snapshots are named, and rules are given', {
        hint: 'Name those that go, or say by rules what stays.',
      });
    }
    this.#timeZone = retention?.timeZone;
    const protect = retention?.protect ?? [];
    return { snapshots, rules: { ...retention?.rules, ...rules }, protect, timeZone: this.#timeZone };
  }

  protected override exitCode({ complete }: ForgetResult | UndoResult) {
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text(result: ForgetResult | UndoResult): string {
    const backends = result.backends.map(({ name, state, error }) => {
      return `  ${name}: ${state}${error ? ` (${error.message})` : ''}`;
    });
    if ('restored' in result) {
      return (
        warningLines(result.warnings) + lines(`put back ${count(result.restored.length, 'snapshot')}`, ...backends)
      );
    }
    const { kept, forgotten, records, warnings, dryRun, seconds } = result;
    if (dryRun) return warningLines(warnings) + retentionCalendar(result, this.#timeZone);
    const undo = records.map((id) => `holdfast forget --undo ${id.slice(0, 8)}`).join(' ; ');
    return (
      warningLines(warnings) +
      lines(
        `forgot ${count(forgotten.length, 'snapshot')}, kept ${kept.length}, in ${seconds} s`,
        ...backends,
        ...(records.length > 0 ? [`Until \`holdfast prune\` has swept them they can be put back: ${undo}`] : []),
      )
    );
  }
}
