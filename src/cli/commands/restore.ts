import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { resolve } from 'node:path';
import { HoldfastError } from '../../errors.ts';
import { restore, type RestoreResult } from '../../operations/restore.ts';
import { OVERWRITE } from '../../state/compare-tree.ts';
import { HoldfastCommand } from '../base-command.ts';
import { requireSections } from '../config.ts';
import { expectedRepository, restoreSecret } from '../context.ts';
import { restoreExitCode } from '../exit-codes.ts';
import { SNAPSHOT_FORMS } from '../render.ts';
import { restoredText } from '../restore-text.ts';
import { restoreSecretFlags } from '../secrets.ts';
import { ownProfile } from '../state-options.ts';

export default class Restore extends HoldfastCommand<typeof Restore, RestoreResult> {
  static override summary =
    'Restore a snapshot, or some paths of it, into a new or empty folder, or over what is there.';
  static override description = `Without --overwrite a target that holds anything is refused. With it each file that is replaced is written aside, checked, and then takes the place of the old one in a single step. Nothing is ever deleted.`;
  static override examples = [
    'holdfast restore latest --target ./restored --words-file words.txt',
    "holdfast restore --at 2h --path 'memory/*.md' --target ./agent --overwrite changed --dry-run",
  ];
  static override args = {
    snapshot: Args.string({ description: `${SNAPSHOT_FORMS} [default: latest]` }),
  };
  static override flags = {
    target: Flags.string({
      summary: 'A folder; new or empty unless --overwrite is given.',
      required: true,
      helpValue: 'DIR',
    }),
    path: Flags.string({
      summary: 'Only this path, or what this glob matches, and what lies below; may be given again.',
      multiple: true,
      multipleNonGreedy: true,
      helpValue: 'P',
      default: [],
    }),
    at: Flags.string({ summary: 'The newest snapshot of this time or before: @TIME.', helpValue: 'TIME' }),
    overwrite: Flags.string({
      summary: 'What becomes of files that are there: all stay, those that differ are replaced, all are replaced.',
      options: [...OVERWRITE],
    }),
    'dry-run': Flags.boolean({
      summary: 'Only list what would change (+ new, ~ replaced, m mode or time, ! in the way).',
    }),
    from: Flags.string({ summary: 'The backend to read from first.', helpValue: 'NAME' }),
    'with-secrets': Flags.boolean({ summary: 'Also restore what the profile keeps apart: keys, tokens.' }),
    'no-heal': Flags.boolean({ summary: 'Leave damaged copies on backends as they are.' }),
    ...restoreSecretFlags,
  };

  protected override readonly triesAgain = true;

  protected override async work(): Promise<RestoreResult> {
    const config = requireSections(await this.loadConfig(), 'backends');
    const { at, overwrite } = this.flags;
    if (at !== undefined && this.args.snapshot !== undefined)
      throw new HoldfastError('usage', '--at is given, and a snapshot too', { hint: 'Give one of them.' });
    return restore(
      {
        backends: config.backends,
        secret: await restoreSecret(this.flags, this.signal),
        expected: await expectedRepository(config),
        snapshot: at === undefined ? (this.args.snapshot ?? 'latest') : `@${at}`,
        target: resolve(this.flags.target),
        paths: this.flags.path,
        overwrite: OVERWRITE.find((mode) => mode === overwrite),
        dryRun: this.flags['dry-run'],
        from: this.flags.from,
        heal: !this.flags['no-heal'],
        withSecrets: this.flags['with-secrets'],
        profile: await ownProfile(config),
      },
      this.seams,
    );
  }

  protected override exitCode(result: RestoreResult) {
    return restoreExitCode(result);
  }

  protected override text(result: RestoreResult): string {
    return restoredText(result);
  }
}
