import * as Args from '@oclif/core/args';
import { resolve } from 'node:path';
import { rotateIdentity, type RotateResult } from '../../../operations/rotate.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { readAgentKey } from '../../context.ts';
import { warningsExitCode } from '../../exit-codes.ts';
import { rotationOptions, rotationText } from '../../rotation.ts';
import { restoreSecretFlags } from '../../secrets.ts';

export default class IdentityImport extends HoldfastCommand<typeof IdentityImport, RotateResult> {
  static override summary = "Make an existing ed25519 key the agent's key, in place of the one it has.";
  static override description =
    "OpenSSH (plain or encrypted), PKCS#8, an OpenClaw device.json, or hexadecimal digits. The key is encrypted to the restore recipients and stored on every backend; the file that was given stays as it is. Needs the recovery words. (To begin with a key of the agent's own: holdfast init --identity FILE.)";
  static override examples = ['holdfast identity import ~/.openclaw/identity/device.json'];
  static override args = { file: Args.string({ description: 'The private key (mode 0600).', required: true }) };
  static override flags = restoreSecretFlags;

  protected override async work(): Promise<RotateResult> {
    const config = await this.loadConfig();
    const { key } = await readAgentKey(resolve(this.args.file), this.flags, this.signal);
    const options = await rotationOptions(config, this.flags, this.signal);
    return rotateIdentity({ ...options, importedKey: key }, this.seams);
  }

  protected override exitCode(result: RotateResult) {
    return warningsExitCode(result);
  }

  protected override text(result: RotateResult): string {
    return rotationText(result);
  }
}
