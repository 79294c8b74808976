import * as Args from '@oclif/core/args';
import { annotateSnapshot, type AnnotateResult } from '../../../operations/annotate.ts';
import { annotationText, annotator, snapshotArg } from '../../annotation.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { EXIT } from '../../exit-codes.ts';

export default class SnapshotsNote extends HoldfastCommand<typeof SnapshotsNote, AnnotateResult> {
  static override summary = 'Write a note to a snapshot; it replaces the one there was.';
  static override examples = ['holdfast snapshots note latest "before the move"'];
  static override args = {
    snapshot: snapshotArg,
    text: Args.string({ description: 'The note; empty takes it away.', required: true }),
  };

  protected override async work(): Promise<AnnotateResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const options = { ...(await annotator(config)), snapshot: this.args.snapshot, note: this.args.text };
    return annotateSnapshot(options, this.seams);
  }

  protected override exitCode({ complete }: AnnotateResult) {
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text(result: AnnotateResult): string {
    return annotationText(result);
  }
}
