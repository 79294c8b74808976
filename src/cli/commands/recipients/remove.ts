import { removeRecipient, type RecipientsResult } from '../../../operations/recipients.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { warningsExitCode } from '../../exit-codes.ts';
import { recipientArgs, recipientsOptions, recipientsTable } from '../../recipients.ts';
import { lines, warningLines } from '../../render.ts';
import { restoreSecretFlags } from '../../secrets.ts';

export default class RecipientsRemove extends HoldfastCommand<typeof RecipientsRemove, RecipientsResult> {
  static override summary = 'Encrypt to an added age key no more.';
  static override description =
    'Takes nothing back: what was stored while the key was a recipient stays readable to whoever has it. Needs the recovery words.';
  static override args = recipientArgs;
  static override flags = restoreSecretFlags;

  protected override async work(): Promise<RecipientsResult> {
    const config = await this.loadConfig();
    return removeRecipient(await recipientsOptions(config, this.args.recipient, this.flags, this.signal), this.seams);
  }

  protected override exitCode(result: RecipientsResult) {
    return warningsExitCode(result);
  }

  protected override text({ recipients, warnings }: RecipientsResult): string {
    return (
      warningLines(warnings) +
      recipientsTable(recipients) +
      lines(
        '',
        'What cannot be taken back: who has this key can still read every copy of what was stored until now, knows which snapshots come',
        "(times, counts, sizes), and may have the agent's own key, which was encrypted to it. So give the agent a new one: holdfast identity rotate",
        'If even that is too much, make a new repository with new words (holdfast init), and delete the old one everywhere.',
      )
    );
  }
}
