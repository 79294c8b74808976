import * as Flags from '@oclif/core/flags';
import { hostname } from 'node:os';
import { repair, type RepairOptions, type RepairResult } from '../../operations/repair.ts';
import { formatSize } from '../../units.ts';
import { HoldfastCommand } from '../base-command.ts';
import { requireSections } from '../config.ts';
import {
  accessOf,
  expectedRepository,
  localFolders,
  readSignerIfAny,
  readWriterKey,
  restoreSecret,
} from '../context.ts';
import { damageLines, lossLines } from '../damage-text.ts';
import { EXIT } from '../exit-codes.ts';
import { count, lines, warningLines } from '../render.ts';
import { namesRestoreSecret, restoreSecretFlags } from '../secrets.ts';

export default class Repair extends HoldfastCommand<typeof Repair, RepairResult> {
  static override summary = 'Store again what another backend has whole; give up what none has.';
  static override description =
    'Without --forget-damaged nothing is ever given up. With it, and with the restore secret: what can still be had of damaged packs is stored again, indexes are written anew without what is lost on every backend, objects that nobody can read are removed, and the snapshots that are touched are marked with what they lack. They stay signed as they are, and all the rest of them can be restored.';
  static override examples = ['holdfast repair', 'holdfast repair --forget-damaged --dry-run --words-file words.txt'];
  static override flags = {
    level: Flags.option({
      summary: 'How deep to look for damage [default: chunks with the restore secret, else objects].',
      options: ['listing', 'objects', 'chunks'] as const,
    })(),
    'forget-damaged': Flags.boolean({ summary: 'Cut out what is lost on every backend.' }),
    'dry-run': Flags.boolean({ summary: 'Only say what would be done.' }),
    ...restoreSecretFlags,
  };

  protected override readonly triesAgain = true;

  protected override async work(): Promise<RepairResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const { flags } = this;
    const forgetDamaged = flags['forget-damaged'];
    const withSecret = forgetDamaged || flags.level === 'chunks' || namesRestoreSecret(flags);
    const expected = await expectedRepository(config);
    const access: RepairOptions['access'] = withSecret
      ? { kind: 'restore', secret: await restoreSecret(flags, this.signal), expected }
      : { kind: 'writer', access: accessOf(await readWriterKey(config.agent)) };
    return repair(
      {
        ...{ backends: config.backends, access, forgetDamaged, dryRun: flags['dry-run'], host: hostname() },
        level: flags.level ?? (withSecret ? 'chunks' : 'objects'),
        folders: expected && localFolders(process.env, expected.repository),
        signer: await readSignerIfAny(config.agent),
      },
      this.seams,
    );
  }

  protected override exitCode({ left, complete }: RepairResult) {
    if (left.length > 0) return EXIT.damage;
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text({ dryRun, damaged, healed, loss, forgotten, left, warnings, seconds }: RepairResult): string {
    const todo = dryRun && this.flags['forget-damaged'] && left.length > 0;
    return (
      warningLines(warnings) +
      lines(
        ...damageLines(forgotten ? damaged.filter(({ repaired }) => repaired) : damaged),
        ...lossLines(loss),
        `${dryRun ? 'would be stored again' : 'stored again'} from another backend: ${count(healed.length, 'object')}`,
        ...(todo ? ['would be cut out: what is whole on no backend, as listed above; nothing was changed'] : []),
        ...(forgotten
          ? [
              `saved out of damaged packs: ${count(forgotten.salvaged.chunks, 'chunk')}, ${formatSize(forgotten.salvaged.bytes)}`,
              `cut out: ${count(forgotten.packs, 'pack')}, ${count(forgotten.indexes, 'index', 'indexes')} written anew, ${count(forgotten.removed.length, 'unreadable object')} removed`,
              ...forgotten.lost.map(
                ({ snapshot, whole, files, paths }) =>
                  `  snapshot ${snapshot.slice(0, 8)} ${whole ? 'cannot be restored any more' : `lacks ${count(files, 'file')}: ${paths.slice(0, 5).join(', ')}${files > 5 ? ` and ${files - 5} more` : ''}`}`,
              ),
            ]
          : []),
        left.length > 0
          ? `${dryRun ? 'would be left' : 'left'}: ${count(left.length, 'problem')}, in ${seconds} s`
          : `nothing is damaged any more, in ${seconds} s`,
        ...(forgotten ? left.map(({ backend, key, problem }) => `DAMAGED ${backend} ${key}: ${problem}`) : []),
      )
    );
  }
}
