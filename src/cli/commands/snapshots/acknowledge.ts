import * as Flags from '@oclif/core/flags';
import { annotateSnapshot, type AnnotateResult } from '../../../operations/annotate.ts';
import { annotationText, annotator, snapshotArg } from '../../annotation.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { EXIT } from '../../exit-codes.ts';

export default class SnapshotsAcknowledge extends HoldfastCommand<typeof SnapshotsAcknowledge, AnnotateResult> {
  static override summary = 'Say that the state is right as it is in a suspicious snapshot.';
  static override description =
    'It holds for this snapshot and for those before it; later ones are judged by it. Until then, nothing before it may be forgotten.';
  static override examples = ['holdfast snapshots acknowledge latest --note "cleaned up the old transcripts"'];
  static override args = { snapshot: snapshotArg };
  static override flags = { note: Flags.string({ summary: 'Why it is right.', helpValue: 'WHY' }) };

  protected override async work(): Promise<AnnotateResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const { snapshot } = this.args;
    const options = { ...(await annotator(config)), snapshot, note: this.flags.note, acknowledged: true };
    return annotateSnapshot(options, this.seams);
  }

  protected override exitCode({ complete }: AnnotateResult) {
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text(result: AnnotateResult): string {
    return annotationText(result);
  }
}
