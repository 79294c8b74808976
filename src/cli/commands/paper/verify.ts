import * as Flags from '@oclif/core/flags';
import { verifyPaper, type PaperVerifyResult } from '../../../operations/paper-verify.ts';
import { recordPaper } from '../../../operations/host/runs.ts';
import { messageOf } from '../../../errors.ts';
import { parseFromFlag } from '../../backend-flags.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections, type Config } from '../../config.ts';
import { expectedRepository, restoreSecret } from '../../context.ts';
import { EXIT } from '../../exit-codes.ts';
import { facts, lines, warningLines } from '../../render.ts';
import { runsPath } from '../../run-report.ts';
import { restoreSecretFlags } from '../../secrets.ts';

type Verified = PaperVerifyResult & { kind: Awaited<ReturnType<typeof restoreSecret>>['source'] };

export default class PaperVerify extends HoldfastCommand<typeof PaperVerify, Verified> {
  static override summary = 'Check that the recovery words, shares or scanned codes on paper belong to the repository.';
  static override description =
    'Asks for the words row by row, or takes what a scanner printed as --words-file. Compares them with the repository on the configured backends, or on those of --from. Nothing is written but the date, on this host.';
  static override examples = [
    'holdfast paper verify',
    'zbarimg --quiet scan.png | holdfast paper verify --words-file -',
  ];
  static override flags = {
    from: Flags.string({
      summary: 'A backend to compare with, in place of those of the config; may be given again.',
      multiple: true,
      multipleNonGreedy: true,
      helpValue: 'URL',
    }),
    ...restoreSecretFlags,
  };

  protected override async work(): Promise<Verified> {
    const { from } = this.flags;
    const config = from === undefined ? requireSections(await this.loadConfig(), 'backends') : undefined;
    const backends = config?.backends ?? (from ?? []).map(parseFromFlag);
    const expected = config === undefined ? undefined : await expectedRepository(config);
    // The key file that this host may have is not what is on paper.
    const { HOLDFAST_RESTORE_IDENTITY_FILE: _, ...env } = process.env;
    const { source: kind, ...secret } = await restoreSecret(this.flags, this.signal, env);
    const verified = { kind, ...(await verifyPaper({ backends, secret, expected }, this.seams)) };
    if (config !== undefined && kind !== 'age-key') this.#remember(config, verified);
    return verified;
  }

  /** For `doctor`, which asks when somebody last looked at the paper. */
  #remember(config: Config, { warnings }: Verified): void {
    try {
      recordPaper(runsPath(process.env, config.path), this.clock.now());
    } catch (error) {
      const message = `that the paper was verified is not remembered: ${messageOf(error)}`;
      warnings.push({ code: 'state_not_saved', message });
    }
  }

  protected override exitCode({ warnings }: Verified) {
    return warnings.some(({ incomplete }) => incomplete === true) ? EXIT.incomplete : EXIT.done;
  }

  protected override text({ kind, fingerprint, agent, repository, backends, warnings }: Verified): string {
    const what = { words: 'words', shares: 'shares', 'age-key': 'age key', vault: 'vault file' }[kind];
    return (
      warningLines(warnings) +
      lines(`The ${what} and the repository belong together. Write today's date on the paper.`) +
      facts({
        agent: `${agent.handle}, key ${agent.fingerprint}`,
        'recovery key': fingerprint,
        repository,
        backends: backends.join(', '),
      })
    );
  }
}
