import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import type { DrillResult } from '../../../drill/result.ts';
import { drill } from '../../../drill/run.ts';
import type { Seams } from '../../../operations/seams.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { allScenarios, drillOptions, drillSecrets } from '../../drill-context.ts';
import { drillText } from '../../drill-text.ts';
import { EXIT } from '../../exit-codes.ts';
import { passphraseFlags } from '../../secrets.ts';
import { sshDefaults } from '../../ssh.ts';

const file = (summary: string) => Flags.string({ summary, helpValue: 'FILE' });
const files = (summary: string) =>
  Flags.string({ summary, helpValue: 'FILE', multiple: true, multipleNonGreedy: true });

export default class DrillRun extends HoldfastCommand<typeof DrillRun, DrillResult> {
  static override summary =
    'Prove that the agent can be brought back: lose it, recover it, check it, in a clean folder.';
  static override description = `Every scenario has a folder of its own, with its own HOME, and sees the backends as if what it loses were lost: nothing outside is changed, and nothing is left. Ends with 14 when a check fails, with 3 when a scenario could not be run. See docs/drill.md.`;
  static override examples = [
    'holdfast drill run --words-file words.txt',
    'holdfast drill run lost-host lost-backend:nas --words-file words.txt --json',
    'holdfast drill run --words-file words.txt --vault vault.age',
  ];
  static override args = {
    scenario: Args.string({ description: 'scenarios, any number (lost-host, lost-backend:NAME); all without' }),
  };
  static override strict = false;
  static override flags = {
    'words-file': files('File with the recovery words (mode 0600); - reads stdin; may be given again.'),
    'identity-file': file('age key file (mode 0600) of a restore recipient.'),
    vault: file('age file with the words, which a passphrase opens.'),
    'shares-file': files('File with shares (mode 0600); may be given again.'),
    ...passphraseFlags,
    scenario: Flags.string({
      summary: 'A scenario of your own, or a folder of them; may be given again.',
      helpValue: 'FILE',
      multiple: true,
      multipleNonGreedy: true,
      default: [],
    }),
  };

  protected override async work(): Promise<DrillResult> {
    const config = requireSections(await this.loadConfig(), 'backends');
    const scenarios = await allScenarios(config, this.flags.scenario);
    const secrets = await drillSecrets(this.flags, this.signal);
    const asked = { names: this.operands, secrets, scenarios, tool: this.tool };
    const { options, warnings } = await drillOptions(config, asked);
    const result = await drill(options, this.#readingSeams);
    return { ...result, warnings: [...warnings, ...result.warnings] };
  }

  /** Without what is remembered of how backends fare: a drill leaves no trace there either. */
  get #readingSeams(): Seams {
    return {
      ...this.seams,
      openBackend: async (address, options) => {
        const { openBackend } = await import('../../../backend/open.ts');
        return openBackend(address, { ...options, ssh: sshDefaults(process.env) });
      },
    };
  }

  protected override exitCode({ ok, scenarios }: DrillResult) {
    if (ok) return EXIT.done;
    return scenarios.some((one) => !one.ok) ? EXIT.drillFailed : EXIT.incomplete;
  }

  protected override text(result: DrillResult): string {
    return drillText(result);
  }
}
