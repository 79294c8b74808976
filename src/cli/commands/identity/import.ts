import * as Args from '@oclif/core/args';
import { resolve } from 'node:path';
import { rotateIdentity, type RotateResult } from '../../../operations/rotate.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { localFolders, readAgentKey, readWriterKey, restoreSecret } from '../../context.ts';
import { EXIT } from '../../exit-codes.ts';
import { rotationText } from '../../rotation.ts';
import { restoreSecretFlags } from '../../secrets.ts';

export default class IdentityImport extends HoldfastCommand<typeof IdentityImport, RotateResult> {
  static override summary = "Make an existing ed25519 key the agent's key, in place of the one it has.";
  static override description =
    "OpenSSH (plain or encrypted), PKCS#8, an OpenClaw device.json, or hexadecimal digits. The key is encrypted to the restore recipients and stored on every backend; the file that was given stays as it is. Needs the recovery words. (To begin with a key of the agent's own: holdfast init --identity FILE.)";
  static override examples = ['holdfast identity import ~/.openclaw/identity/device.json'];
  static override args = { file: Args.string({ description: 'The private key (mode 0600).', required: true }) };
  static override flags = restoreSecretFlags;

  protected override async work(): Promise<RotateResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const writerKey = await readWriterKey(config.agent);
    const { key } = await readAgentKey(resolve(this.args.file), this.flags, this.signal);
    return rotateIdentity(
      {
        backends: config.backends,
        secret: await restoreSecret(this.flags, this.signal),
        importedKey: key,
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
