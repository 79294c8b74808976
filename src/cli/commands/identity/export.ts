import * as Flags from '@oclif/core/flags';
import { resolve } from 'node:path';
import { HoldfastError } from '../../../errors.ts';
import { AGENT_KEY_FORMATS, type AgentKeyFormat } from '../../../identity/agent-key.ts';
import { exportAgentKey, exportSecret, type ExportResult } from '../../../operations/export-secret.ts';
import { checkApart } from '../../apart.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { askPassphrase, expectedRepository, readSigner, restoreSecret } from '../../context.ts';
import { EXIT } from '../../exit-codes.ts';
import { lines, warningLines } from '../../render.ts';
import { restoreSecretFlags } from '../../secrets.ts';

export default class IdentityExport extends HoldfastCommand<typeof IdentityExport, ExportResult> {
  static override summary = "Write the agent's key, or what the recovery words give, to a new file (mode 0600).";
  static override description = `openssh, pkcs8, device (OpenClaw's device.json) and hex write the agent's key of this host. The others need the recovery words: words writes the words themselves, for a password manager, so give --passphrase with it; age writes the restore key, with which \`age -d -i FILE\` opens every object of the repository; recovery writes a key that can replace or revoke the agent's key, once, and nothing else (holdfast recover --emergency).

With --passphrase the file is encrypted: openssh as ssh-keygen does it, all others as an age file, which \`age -d FILE\` opens. The passphrase comes from --passphrase-file, $HOLDFAST_PASSPHRASE_COMMAND or a prompt.`;
  static override examples = [
    'holdfast identity export --passphrase --output vault.age',
    'holdfast identity export --format age --output restore.key --words-file words.txt',
    'holdfast identity export --format recovery --output recovery.key',
  ];
  static override flags = {
    format: Flags.option({
      summary: 'What to write; default words with --passphrase.',
      options: [...AGENT_KEY_FORMATS, 'age', 'words', 'recovery'] as const,
    })(),
    output: Flags.string({ summary: 'The new file.', helpValue: 'FILE' }),
    passphrase: Flags.boolean({ summary: 'Encrypt it with a passphrase.' }),
    'to-backends': Flags.boolean({
      summary: 'With --passphrase and words: store it on every backend too (recover --stored-vault).',
      dependsOn: ['passphrase'],
    }),
    'post-quantum': Flags.boolean({ summary: 'With age, and no repository to ask: the hybrid key.' }),
    ...restoreSecretFlags,
  };

  protected override async work(): Promise<ExportResult> {
    const { flags } = this;
    const format = flags.format ?? (flags.passphrase ? 'words' : undefined);
    const toBackends = flags['to-backends'];
    if (format === undefined)
      throw usage('--format says what to export', 'Give --format, or --passphrase for a vault.');
    if (format === 'words' && !flags.passphrase)
      throw usage(
        'the words are exported with a passphrase only',
        'Add --passphrase; for paper: holdfast paper create',
      );
    if (toBackends && format !== 'words')
      throw usage('only the words can be stored on the backends', 'Leave out --format or --to-backends.');
    if (flags.output === undefined && !toBackends) throw usage('--output FILE is missing', 'Name the new file.');
    const output = flags.output === undefined ? undefined : resolve(flags.output);
    const config = await this.loadConfigIfAny();
    if (output !== undefined)
      checkApart(output, 'file', { state: config?.state?.root, backends: config?.backends ?? [] });
    if (format !== 'words' && format !== 'age' && format !== 'recovery') return this.#agentKey(format, output ?? '');
    const secret = await restoreSecret(flags, this.signal);
    return exportSecret(
      {
        format,
        secret,
        backends: config?.backends,
        expected: config && (await expectedRepository(config)),
        kind: flags['post-quantum'] ? 'hybrid' : 'x25519',
        passphrase: flags.passphrase ? await this.#passphrase(output, toBackends) : undefined,
        output,
        toBackends,
      },
      this.seams,
    );
  }

  async #agentKey(format: AgentKeyFormat, output: string): Promise<ExportResult> {
    const { agent } = requireSections(await this.loadConfig(), 'agent');
    const key = await readSigner(agent);
    const passphrase = this.flags.passphrase ? await this.#passphrase(output, false) : undefined;
    return exportAgentKey({ format, key, handle: agent.handle, passphrase, output }, this.seams);
  }

  async #passphrase(output: string | undefined, toBackends: boolean): Promise<string> {
    const { checkPassphrase, MIN_GUESSES_LOG10 } = await import('../../../identity/passphrase.ts');
    const about = { what: output ?? 'the vault on the backends', confirm: true };
    const passphrase = await askPassphrase(this.flags, this.signal, about);
    const { kept, onStorage } = MIN_GUESSES_LOG10;
    await checkPassphrase(passphrase, { minGuessesLog10: toBackends ? onStorage : kept });
    return passphrase;
  }

  protected override exitCode({ warnings }: ExportResult) {
    return warnings.some(({ code }) => code === 'backend_failed') ? EXIT.incomplete : EXIT.done;
  }

  protected override text({ file, object, backends, warnings }: ExportResult): string {
    return (
      warningLines(warnings) +
      lines(
        ...(file === null ? [] : [`written: ${file}`]),
        ...(object === null ? [] : [`stored: ${object} on ${backends.join(', ')}`]),
      )
    );
  }
}

function usage(message: string, hint: string): HoldfastError {
  return new HoldfastError('usage', message, { hint });
}
