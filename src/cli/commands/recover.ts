import * as Flags from '@oclif/core/flags';
import { basename, resolve } from 'node:path';
import { HoldfastError } from '../../errors.ts';
import { parseRecoveryKey } from '../../identity/recovery-key.ts';
import { readSecretText } from '../../identity/secret-file.ts';
import type { RestoreSecret } from '../../operations/access.ts';
import type { BackendAddress } from '../../operations/backends.ts';
import type { EmergencyResult } from '../../operations/emergency.ts';
import { recover, type RecoverResult } from '../../operations/recover.ts';
import { parseFromFlag } from '../backend-flags.ts';
import { HoldfastCommand } from '../base-command.ts';
import { defaultKeyPaths, newConfigPath, recoveredConfig } from '../config.ts';
import { askPassphrase, localFolders, restoreSecret } from '../context.ts';
import { restoreExitCode, warningsExitCode } from '../exit-codes.ts';
import { SNAPSHOT_FORMS } from '../render.ts';
import { emergencyText, recoveredText } from '../restore-text.ts';
import { restoreSecretFlags } from '../secrets.ts';
import { missingProfile } from '../state-options.ts';

type Recovered = RecoverResult | EmergencyResult;

export default class Recover extends HoldfastCommand<typeof Recover, Recovered> {
  static override summary = 'On a new machine: bring the agent back from its recovery words and a backend.';
  static override description = `The words (or shares, scanned codes, a vault file) are asked for where none are given. They are compared with the repository before anything is written. Nothing that is there is replaced: the key files and the config of another agent stop it.

With --emergency a recovery key that was given out beforehand adds to the identity log, and nothing is restored: it replaces the agent's key (the default), revokes it (--revoke) or replaces the relays (--relay). That holds after three days, in which the agent can object.`;
  static override examples = [
    'holdfast recover --from file:///mnt/nas/ada --target ~/agent-state',
    'zbarimg --quiet paper.png | holdfast recover --from file:///mnt/nas/ada --target ~/agent-state --words-file -',
    'holdfast recover --emergency --recovery-key recovery.key --from file:///mnt/nas/ada',
  ];
  static override flags = {
    from: Flags.string({
      summary: 'A backend to recover from; may be given again.',
      required: true,
      multiple: true,
      helpValue: 'URL',
    }),
    target: Flags.string({
      summary: 'A new or empty folder for the state; needed but for --emergency.',
      helpValue: 'DIR',
    }),
    snapshot: Flags.string({ summary: `${SNAPSHOT_FORMS}.`, default: 'latest', helpValue: 'SNAPSHOT' }),
    'with-secrets': Flags.boolean({ summary: 'Also restore what the profile keeps apart: keys, tokens.' }),
    'no-heal': Flags.boolean({ summary: 'Leave damaged copies on backends as they are.' }),
    ...restoreSecretFlags,
    'stored-vault': Flags.boolean({
      summary: 'Take the words from a vault file on the backends (identity export --to-backends).',
      exclusive: ['words-file', 'identity-file', 'vault'],
    }),
    emergency: Flags.boolean({
      summary: 'Use a recovery key instead of the words.',
      dependsOn: ['recovery-key'],
      exclusive: ['target', 'words-file', 'identity-file', 'vault', 'stored-vault'],
    }),
    'recovery-key': Flags.string({
      summary: 'With --emergency: its file (mode 0600).',
      dependsOn: ['emergency'],
      helpValue: 'FILE',
    }),
    revoke: Flags.boolean({
      summary: "With --emergency: revoke the agent's key.",
      dependsOn: ['emergency'],
      exclusive: ['relay'],
    }),
    relay: Flags.string({
      summary: 'With --emergency: a relay of the new list; may be given again.',
      multiple: true,
      multipleNonGreedy: true,
      dependsOn: ['emergency'],
      helpValue: 'URL',
    }),
  };

  protected override readonly triesAgain = true;

  protected override async work(): Promise<Recovered> {
    const { flags } = this;
    const config = newConfigPath(flags.config, process.env, process.cwd());
    const keys = defaultKeyPaths(config);
    const backends = flags.from.map(parseFromFlag);
    if (flags.emergency) return this.#emergency(backends, keys.identity);
    if (flags.target === undefined)
      throw new HoldfastError('usage', 'Missing required flag target', {
        hint: 'Give --target DIR, a new or empty folder.',
      });
    const target = resolve(flags.target);
    const result = await recover(
      {
        backends,
        secret: await this.#secret(backends),
        snapshot: flags.snapshot,
        heal: !flags['no-heal'],
        withSecrets: flags['with-secrets'],
        target,
        files: { ...keys, config },
        foldersOf: (repository) => localFolders(process.env, repository),
        renderConfig: (old, handle) =>
          recoveredConfig(old, {
            handle,
            identity: basename(keys.identity),
            writerKey: basename(keys.writerKey),
            root: target,
            backends,
            require: backends.length,
          }),
      },
      this.seams,
    );
    result.warnings.push(...(await missingProfile(config)));
    return result;
  }

  async #secret(backends: readonly BackendAddress[]): Promise<RestoreSecret> {
    if (!this.flags['stored-vault']) return restoreSecret(this.flags, this.signal);
    const { openStoredVault } = await import('../../operations/export-secret.ts');
    const about = { what: 'the vault on the backends', confirm: false };
    const passphrase = await askPassphrase(this.flags, this.signal, about);
    const { parseRecoveryText } = await import('../../identity/recovery-text.ts');
    return parseRecoveryText([await openStoredVault(backends, passphrase, this.seams)]);
  }

  async #emergency(backends: readonly BackendAddress[], identityFile: string): Promise<EmergencyResult> {
    const { relay, revoke, 'recovery-key': file = '' } = this.flags;
    const { emergency } = await import('../../operations/emergency.ts');
    const recoveryKey = parseRecoveryKey(await readSecretText(file));
    const action = revoke
      ? ({ kind: 'revoke' } as const)
      : relay
        ? ({ kind: 'relays', relays: relay } as const)
        : ({ kind: 'rotate', identityFile } as const);
    return emergency({ backends, recoveryKey, action }, this.seams);
  }

  protected override exitCode(result: Recovered) {
    return 'lost' in result ? restoreExitCode(result) : warningsExitCode(result);
  }

  protected override text(result: Recovered): string {
    return 'lost' in result ? recoveredText(result) : emergencyText(result);
  }
}
