import * as Flags from '@oclif/core/flags';
import { verify, type VerifyResult } from '../../operations/verify.ts';
import { formatSize } from '../../units.ts';
import { requireSections } from '../config.ts';
import { accessOf, expectedRepository, readWriterKey, restoreSecret } from '../context.ts';
import { EXIT } from '../exit-codes.ts';
import { count, lines, warningLines } from '../render.ts';
import { dueFlag, ReportedCommand } from '../reported-command.ts';
import { namesRestoreSecret, restoreSecretFlags } from '../secrets.ts';

export default class Verify extends ReportedCommand<typeof Verify, VerifyResult> {
  static override summary = 'Check that every backend holds what was written.';
  static override description =
    'listing: everything needed is there, indexes and snapshots are whole and signed. objects: besides, every object is read and compared with its name. chunks: besides, every pack is opened and every chunk of every snapshot accounted for; this needs the restore secret. With the secret, damage is also told as snapshots and paths.';
  static override flags = {
    level: Flags.option({
      summary: 'How deep to look.',
      options: ['listing', 'objects', 'chunks'] as const,
      default: 'listing' as const,
    })(),
    repair: Flags.boolean({ summary: 'Store again, from another backend, what is damaged or missing.' }),
    ...restoreSecretFlags,
    ...dueFlag,
  };
  protected override readonly kind = 'verify';

  protected override readonly triesAgain = true;

  protected override async work(): Promise<VerifyResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const { flags } = this;
    const withSecret = flags.level === 'chunks' || namesRestoreSecret(flags);
    const access = withSecret
      ? ({
          kind: 'restore',
          secret: await restoreSecret(flags, this.signal),
          expected: await expectedRepository(config),
        } as const)
      : ({ kind: 'writer', access: accessOf(await readWriterKey(config.agent)) } as const);
    return verify({ backends: config.backends, access, level: flags.level, repair: flags.repair }, this.seams);
  }

  protected override exitCode({ damaged, complete }: VerifyResult) {
    if (damaged.some(({ repaired }) => !repaired)) return EXIT.damage;
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text({ level, objects, bytes, damaged, warnings, seconds }: VerifyResult): string {
    return (
      warningLines(warnings) +
      lines(
        ...damaged.map(({ backend, key, problem, snapshots, paths, repaired }) => {
          const touched = snapshots.length > 0 ? `; needed by ${count(snapshots.length, 'snapshot')}` : '';
          const files =
            paths.length > 0
              ? `: ${paths.slice(0, 5).join(', ')}${paths.length > 5 ? ` and ${paths.length - 5} more` : ''}`
              : '';
          return `${repaired ? 'REPAIRED' : 'DAMAGED'} ${backend} ${key}: ${problem}${touched}${files}`;
        }),
        `verified (${level}): ${count(objects, 'object')}, ${formatSize(bytes)} read, in ${seconds} s: ${damaged.length === 0 ? 'no damage found' : `${count(damaged.length, 'problem')} found`}`,
        ...(damaged.some(({ repaired }) => !repaired) && !this.flags.repair
          ? ['What another backend has whole is stored again by `holdfast verify --repair`.']
          : []),
      )
    );
  }
}
