import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../../../errors.ts';
import { identityLog, setRelays } from '../../../operations/identity-log.ts';
import type { Warning } from '../../../entry.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { agentChange, logOptions } from '../../context.ts';
import { warningsExitCode } from '../../exit-codes.ts';
import { lines, warningLines } from '../../render.ts';

interface Relays {
  relays: readonly string[];
  warnings: Warning[];
}

export default class IdentityRelays extends HoldfastCommand<typeof IdentityRelays, Relays> {
  static override summary = 'Show the relays at which the agent can be met, or replace the list.';
  static override description = "The list is public and signed with the agent's key of this host.";
  static override examples = [
    'holdfast identity relays',
    'holdfast identity relays wss://one.example wss://two.example',
  ];
  static override strict = false;
  static override args = { relay: Args.string({ description: 'A relay of the new list; may be given again.' }) };
  static override flags = { none: Flags.boolean({ summary: 'Empty the list.' }) };

  protected override async work(): Promise<Relays> {
    const relays = this.operands;
    if (this.flags.none && relays.length > 0)
      throw new HoldfastError('usage', '--none empties the list, and relays were given', { hint: 'Give one of them.' });
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    if (relays.length === 0 && !this.flags.none) {
      const { relays: known, warnings } = await identityLog(await logOptions(config), this.seams);
      return { relays: known, warnings };
    }
    const { entry, warnings } = await setRelays({ ...(await agentChange(config)), relays }, this.seams);
    return { relays: entry.relays, warnings };
  }

  protected override exitCode(result: Relays) {
    return warningsExitCode(result);
  }

  protected override text({ relays, warnings }: Relays): string {
    return warningLines(warnings) + lines(...relays);
  }
}
