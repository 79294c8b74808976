import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { resolve } from 'node:path';
import { restore, type RestoreResult } from '../../operations/restore.ts';
import { formatSize } from '../../units.ts';
import { HoldfastCommand } from '../base-command.ts';
import { requireSections } from '../config.ts';
import { expectedRepository, restoreSecret } from '../context.ts';
import { restoreExitCode } from '../exit-codes.ts';
import { count, lines, secretsLine, warningLines } from '../render.ts';
import { restoreSecretFlags } from '../secrets.ts';
import { ownProfile } from '../state-options.ts';

export default class Restore extends HoldfastCommand<typeof Restore, RestoreResult> {
  static override summary = 'Restore a snapshot, or some paths of it, into a new or empty folder.';
  static override examples = ['holdfast restore latest --target ./restored --words-file words.txt'];
  static override args = {
    snapshot: Args.string({ description: '`latest`, an id or the beginning of one', default: 'latest' }),
  };
  static override flags = {
    target: Flags.string({ summary: 'A new or empty folder.', required: true, helpValue: 'DIR' }),
    path: Flags.string({
      summary: 'Only this path and what lies below it; may be given again.',
      multiple: true,
      helpValue: 'P',
      default: [],
    }),
    from: Flags.string({ summary: 'The backend to read from first.', helpValue: 'NAME' }),
    'with-secrets': Flags.boolean({ summary: 'Also restore what the profile keeps apart: keys, tokens.' }),
    'no-heal': Flags.boolean({ summary: 'Leave damaged copies on backends as they are.' }),
    ...restoreSecretFlags,
  };

  protected override readonly triesAgain = true;

  protected override async work(): Promise<RestoreResult> {
    const config = requireSections(await this.loadConfig(), 'backends');
    return restore(
      {
        backends: config.backends,
        secret: await restoreSecret(this.flags, this.signal),
        expected: await expectedRepository(config),
        snapshot: this.args.snapshot,
        target: resolve(this.flags.target),
        paths: this.flags.path,
        from: this.flags.from,
        heal: !this.flags['no-heal'],
        withSecrets: this.flags['with-secrets'],
        profile: await ownProfile(config),
      },
      this.seams,
    );
  }

  protected override exitCode(result: RestoreResult) {
    return restoreExitCode(result);
  }

  protected override text({
    snapshot,
    target,
    files,
    bytes,
    secrets,
    healed,
    warnings,
    seconds,
    lost,
  }: RestoreResult): string {
    return (
      warningLines(warnings) +
      lines(
        `restored snapshot ${snapshot.id.slice(0, 8)} of ${snapshot.time} to ${target}: ${count(files, 'file')}, ${formatSize(bytes)}, in ${seconds} s`,
        ...secretsLine(secrets),
        ...healed.map(({ backend, key }) => `healed: ${key} on backend ${backend}`),
        ...(lost.length > 0 ? [`${count(lost.length, 'file')} could NOT be restored: see the warnings above.`] : []),
      )
    );
  }
}
