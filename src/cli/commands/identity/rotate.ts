import { rotateIdentity, type RotateResult } from '../../../operations/rotate.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { localFolders, readWriterKey, restoreSecret } from '../../context.ts';
import { EXIT } from '../../exit-codes.ts';
import { restoreSecretFlags } from '../../secrets.ts';
import { rotationText } from '../../rotation.ts';

export default class IdentityRotate extends HoldfastCommand<typeof IdentityRotate, RotateResult> {
  static override summary = 'Give the agent the next key that derives from the recovery words.';
  static override description =
    'The old key signs the hand-over in the identity log, and counts no more from then on; snapshots that it signed stay valid. The files of this host are replaced, the old key is kept beside. After an interruption, run it again: it finishes what was begun. The paper stays as it is.';
  static override flags = restoreSecretFlags;

  protected override async work(): Promise<RotateResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const writerKey = await readWriterKey(config.agent);
    return rotateIdentity(
      {
        backends: config.backends,
        secret: await restoreSecret(this.flags, this.signal),
        files: { identity: config.agent.identity, writerKey: config.agent.writerKey },
        writerKey,
        folders: localFolders(process.env, writerKey.repositoryId),
      },
      this.seams,
    );
  }

  protected override exitCode({ warnings }: RotateResult) {
    return warnings.length > 0 ? EXIT.incomplete : EXIT.done;
  }

  protected override text(result: RotateResult): string {
    return rotationText(result);
  }
}
