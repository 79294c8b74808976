import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { longestRecovery } from '../../../drill/history.ts';
import type { DrillResult } from '../../../drill/result.ts';
import { drill } from '../../../drill/run.ts';
import type { Seams } from '../../../operations/seams.ts';
import { requireSections } from '../../config.ts';
import { allScenarios, askedOf, drillOptions, drillSecrets } from '../../drill/context.ts';
import { drillDueOf, keep, readKeptDrills, store } from '../../drill/kept.ts';
import { planReports, writeReports } from '../../drill/report.ts';
import { drillText, type DrillBefore } from '../../drill/text.ts';
import { EXIT } from '../../exit-codes.ts';
import { dueFlag, ReportedCommand } from '../../reported-command.ts';
import { passphraseFlags } from '../../secrets.ts';
import { sshDefaults } from '../../ssh.ts';

const file = (summary: string) => Flags.string({ summary, helpValue: 'FILE' });
const files = (summary: string) =>
  Flags.string({ summary, helpValue: 'FILE', multiple: true, multipleNonGreedy: true });

interface RunResult extends DrillResult {
  /** Its id in the history of this host; null when it is not kept. */
  kept: string | null;
  /** Key of the object on the backends; null unless `--store` asked for it. */
  stored: string | null;
  /** The one before it that is kept. */
  previous: DrillBefore | null;
}

export default class DrillRun extends ReportedCommand<typeof DrillRun, RunResult> {
  static override summary =
    'Prove that the agent can be brought back: lose it, recover it, check it, in a clean folder.';
  static override description = `Every scenario has a folder of its own, with its own HOME, and sees the backends as if what it loses were lost: nothing outside is changed, and nothing is left but the drill in the history, signed by the agent. Ends with 14 when a check fails, with 3 when a scenario could not be run. See docs/drill.md.`;
  static override examples = [
    'holdfast drill run --words-file words.txt',
    'holdfast drill run lost-host lost-backend:nas --words-file words.txt --json',
    'holdfast drill run --words-file words.txt --vault vault.age',
    'holdfast drill run --identity-file drill.age-key --report drill.html --report junit.xml',
    'holdfast drill run --shadow --words-file words.txt -- ./bin/agent --port 18999',
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
    shadow: Flags.boolean({
      summary: 'Start the recovered agent beside the one that runs, with the command after -- or that of the config.',
    }),
    store: Flags.boolean({ summary: 'Put the drill, signed, on every backend too.' }),
    ...dueFlag,
    report: Flags.string({
      summary:
        'Write a report too, in the form that its name ends in: .md, .html, .xml (JUnit) or .json; may be given again.',
      helpValue: 'FILE',
      multiple: true,
      multipleNonGreedy: true,
      default: [],
    }),
  };

  protected override readonly kind = 'drill';
  /** A terminal that is closed must leave neither the restored state nor an agent that runs in it. */
  protected override readonly interruptedBy = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

  protected override async work(): Promise<RunResult> {
    const config = requireSections(await this.loadConfig(), 'backends');
    const reports = planReports(this.flags.report);
    const scenarios = await allScenarios(config, this.flags.scenario);
    const secrets = await drillSecrets(this.flags, this.signal);
    const { shadow } = this.flags;
    const what = askedOf({ argv: this.argv, operands: this.operands, shadow }, config);
    const asked = { ...what, secrets, scenarios, tool: this.tool };
    const { options, warnings } = await drillOptions(config, asked);
    const before = config.agent ? (await readKeptDrills({ agent: config.agent })).drills : [];
    const done = await drill(options, this.#readingSeams);
    const result = { ...done, warnings: [...warnings, ...done.warnings] };
    const kept = await keep(config, result);
    writeReports(reports, result, before);
    const { stored, warnings: late } = this.flags.store
      ? await store(config, result, this.seams)
      : { stored: null, warnings: [] };
    const last = before.at(-1)?.result;
    return {
      ...result,
      warnings: [...result.warnings, ...('warning' in kept ? [kept.warning] : []), ...late],
      stored,
      kept: 'id' in kept ? kept.id : null,
      previous: last ? { started: last.started, ok: last.ok, recoverySeconds: longestRecovery(last) } : null,
    };
  }

  /** By the history, and not by the last run: one that failed does not count. */
  protected override async isDue(): Promise<boolean> {
    return (await drillDueOf(requireSections(await this.loadConfig(), 'agent'), this.clock.now())).due;
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

  protected override exitCode({ ok, scenarios, warnings }: RunResult) {
    if (scenarios.some((one) => !one.ok)) return EXIT.drillFailed;
    return ok && !warnings.some(({ incomplete }) => incomplete) ? EXIT.done : EXIT.incomplete;
  }

  protected override text(result: RunResult): string {
    return drillText(result, result.previous);
  }
}
