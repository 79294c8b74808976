import * as Flags from '@oclif/core/flags';
import { rotateIdentity, type RotateResult } from '../../../operations/rotate.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { warningsExitCode } from '../../exit-codes.ts';
import { restoreSecretFlags } from '../../secrets.ts';
import { rotationOptions, rotationText } from '../../rotation.ts';

export default class IdentityRotate extends HoldfastCommand<typeof IdentityRotate, RotateResult> {
  static override summary = 'Give the agent the next key that derives from the recovery words.';
  static override description =
    'The old key signs the hand-over in the identity log, and counts no more from then on; snapshots that it signed stay valid. The files of this host are replaced, the old key is kept beside. After an interruption, run it again: it finishes what was begun. The paper stays as it is.';
  static override flags = {
    'last-snapshot': Flags.string({
      summary: 'The last snapshot of the old key that is to be believed; after a theft, one from before it.',
      default: 'latest',
      helpValue: 'ID',
    }),
    ...restoreSecretFlags,
  };

  protected override async work(): Promise<RotateResult> {
    const options = await rotationOptions(await this.loadConfig(), this.flags, this.signal);
    const selector = this.flags['last-snapshot'];
    return rotateIdentity({ ...options, lastSnapshot: selector === 'latest' ? undefined : selector }, this.seams);
  }

  protected override exitCode(result: RotateResult) {
    return warningsExitCode(result);
  }

  protected override text(result: RotateResult): string {
    return rotationText(result);
  }
}
