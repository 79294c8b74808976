import { identityLog, type IdentityLog } from '../../../operations/identity-log.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { logOptions } from '../../context.ts';
import { warningsExitCode } from '../../exit-codes.ts';
import { lines, table, warningLines } from '../../render.ts';

export default class IdentityLogCommand extends HoldfastCommand<typeof IdentityLogCommand, IdentityLog> {
  static override summary = "Show the identity log: every change of the agent's keys, recipients and relays.";

  protected override async work(): Promise<IdentityLog> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    return identityLog(await logOptions(config), this.seams);
  }

  protected override exitCode(result: IdentityLog) {
    return warningsExitCode(result);
  }

  protected override text({ entries, relays, isRevoked, warnings }: IdentityLog): string {
    const pending = entries.find(({ state }) => state === 'pending');
    const rows = entries.map(({ seq, created, change, by, state, inForceFrom, agent }) => [
      String(seq),
      created,
      change,
      by,
      state === 'pending' ? `pending until ${inForceFrom}` : state,
      agent.fingerprint,
    ]);
    return (
      warningLines(warnings) +
      table(['entry', 'time', 'change', 'signed by', 'state', 'agent key'], rows, ['entry']) +
      lines(...(relays.length > 0 ? [`relays: ${relays.join(' ')}`] : [])) +
      lines(...(isRevoked ? ["The agent's key is REVOKED: nothing it signs counts."] : [])) +
      lines(...(pending ? ['If nobody you trust began what is pending, cancel it: holdfast identity object'] : []))
    );
  }
}
