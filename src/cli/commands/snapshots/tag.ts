import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../../../errors.ts';
import { annotateSnapshot, type AnnotateResult } from '../../../operations/annotate.ts';
import { annotationText, annotator, snapshotArg } from '../../annotation.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { EXIT } from '../../exit-codes.ts';

export default class SnapshotsTag extends HoldfastCommand<typeof SnapshotsTag, AnnotateResult> {
  static override summary = 'Add tags to a snapshot, or take them away.';
  static override examples = ['holdfast snapshots tag latest --add before-upgrade --remove nightly'];
  static override args = { snapshot: snapshotArg };
  static override flags = {
    add: Flags.string({ summary: 'A tag to add.', multiple: true, helpValue: 'TAG', default: [] }),
    remove: Flags.string({ summary: 'A tag to take away.', multiple: true, helpValue: 'TAG', default: [] }),
  };

  protected override async work(): Promise<AnnotateResult> {
    const { add, remove } = this.flags;
    if (add.length + remove.length === 0)
      throw new HoldfastError('usage', 'no tag was given', { hint: 'Give --add TAG or --remove TAG.' });
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const options = { ...(await annotator(config)), snapshot: this.args.snapshot, tags: { add, remove } };
    return annotateSnapshot(options, this.seams);
  }

  protected override exitCode({ complete }: AnnotateResult) {
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text(result: AnnotateResult): string {
    return annotationText(result);
  }
}
