import { objectToRecovery, type Appended } from '../../../operations/identity-log.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { agentChange } from '../../context.ts';
import { requireSections } from '../../config.ts';
import { warningsExitCode } from '../../exit-codes.ts';
import { lines, warningLines } from '../../render.ts';

export default class IdentityObject extends HoldfastCommand<typeof IdentityObject, Appended> {
  static override summary = 'Cancel a change that the recovery authority has begun, before it is in force.';
  static override description =
    "Signed with the agent's key of this host, without the words. `holdfast identity log` shows what is pending.";

  protected override async work(): Promise<Appended> {
    return objectToRecovery(
      await agentChange(requireSections(await this.loadConfig(), 'agent', 'backends')),
      this.seams,
    );
  }

  protected override exitCode(result: Appended) {
    return warningsExitCode(result);
  }

  protected override text({ entry, backends, warnings }: Appended): string {
    return (
      warningLines(warnings) +
      lines(
        `cancelled: entry ${entry.seq} of the identity log, on ${backends.join(', ')}`,
        'The recovery key that began it is used up. Find out who has it; a new one comes from the words: holdfast identity export --format recovery',
      )
    );
  }
}
