/** What the commands of the topic `recipients` share. */
import * as Args from '@oclif/core/args';
import type { Recipient, RecipientsOptions } from '../operations/recipients.ts';
import { requireSections, type Config } from './config.ts';
import { localFolders, readWriterKey, restoreSecret } from './context.ts';
import { table } from './render.ts';
import type { RestoreSecretFlagValues } from './secrets.ts';

export const recipientArgs = {
  recipient: Args.string({ description: 'age1…; `age-keygen -y FILE` prints it.', required: true }),
};

const MEANING: Readonly<Record<Recipient['kind'], string>> = {
  words: 'the recovery words: reads everything',
  added: 'added: reads everything',
  writer: 'hosts that make snapshots: reads indexes and snapshot records, no files',
};

export function recipientsTable(recipients: readonly Recipient[]): string {
  return table(
    ['recipient', 'what it is'],
    recipients.map(({ recipient, kind }) => [recipient, MEANING[kind]]),
  );
}

export async function recipientsOptions(
  config: Config,
  recipient: string,
  flags: RestoreSecretFlagValues,
  signal: AbortSignal,
): Promise<RecipientsOptions> {
  const { agent, backends } = requireSections(config, 'agent', 'backends');
  const { repositoryId } = await readWriterKey(agent);
  return {
    backends,
    secret: await restoreSecret(flags, signal),
    repository: repositoryId,
    recipient,
    folders: localFolders(process.env, repositoryId),
  };
}
