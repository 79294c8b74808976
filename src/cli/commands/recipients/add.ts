import { addRecipient, type RecipientsResult } from '../../../operations/recipients.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { EXIT, warningsExitCode } from '../../exit-codes.ts';
import { recipientArgs, recipientsOptions, recipientsTable } from '../../recipients.ts';
import { lines, warningLines } from '../../render.ts';
import { restoreSecretFlags } from '../../secrets.ts';

export default class RecipientsAdd extends HoldfastCommand<typeof RecipientsAdd, RecipientsResult> {
  static override summary = "Let another age key restore: an operator's, one in hardware, a colleague's.";
  static override description =
    'From the next backup on, packs are encrypted to it too; for those stored before, it is granted their keys. Needs the recovery words. By hand, without holdfast, an added key opens only what is stored after it was added.';
  static override args = recipientArgs;
  static override flags = restoreSecretFlags;

  protected override async work(): Promise<RecipientsResult> {
    const config = await this.loadConfig();
    return addRecipient(await recipientsOptions(config, this.args.recipient, this.flags, this.signal), this.seams);
  }

  protected override exitCode(result: RecipientsResult) {
    return result.unread > 0 ? EXIT.incomplete : warningsExitCode(result);
  }

  protected override text({ recipients, unread, warnings }: RecipientsResult): string {
    return (
      warningLines(warnings) +
      recipientsTable(recipients) +
      lines(
        '',
        ...(unread > 0 ? [`${unread} packs are lost or damaged on every backend: it was granted no key of them.`] : []),
        'It reads everything that is stored, and can bring back the agent with its key. Restore with: --identity-file FILE',
      )
    );
  }
}
