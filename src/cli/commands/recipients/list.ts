import { listRecipients, type RecipientsResult } from '../../../operations/recipients.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { readWriterKey } from '../../context.ts';
import { recipientsTable } from '../../recipients.ts';
import { warningLines } from '../../render.ts';

export default class RecipientsList extends HoldfastCommand<typeof RecipientsList, RecipientsResult> {
  static override summary = 'Show who the backups are encrypted to.';

  protected override async work(): Promise<RecipientsResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const { repositoryId } = await readWriterKey(config.agent);
    return listRecipients({ backends: config.backends, access: { repository: repositoryId } }, this.seams);
  }

  protected override text({ recipients, warnings }: RecipientsResult): string {
    return warningLines(warnings) + recipientsTable(recipients);
  }
}
