import * as Flags from '@oclif/core/flags';
import { hostname } from 'node:os';
import { repair, type RepairOptions, type RepairResult } from '../../operations/repair.ts';
import { isLost } from '../../repository/repository.ts';
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
import { CAN_FORGET, damageLines, lossLines } from '../damage-text.ts';
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
    const withSecret = isWithSecret(flags);
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

  protected override exitCode({ dryRun, damaged, left, complete }: RepairResult) {
    if (left.length > 0 || (dryRun && damaged.length > 0)) return EXIT.damage;
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text(result: RepairResult): string {
    const { dryRun, damaged, healed, loss, forgotten, left, warnings } = result;
    const { flags } = this;
    const todo = dryRun && flags['forget-damaged'] && left.length > 0;
    const canForget = left.some(isLost) && !flags['forget-damaged'];
    const unread = dryRun ? damaged.filter(({ elsewhere, unread }) => elsewhere.length === 0 && unread.length > 0) : [];
    return (
      warningLines(warnings) +
      lines(
        ...damageLines(forgotten ? damaged.filter(({ repaired }) => repaired) : damaged),
        ...lossLines(loss, { withSecret: isWithSecret(flags) }),
        `${dryRun ? 'would be stored again' : 'stored again'} from another backend: ${count(healed.length, 'object')}`,
        ...(unread.length > 0
          ? [`of them only where the copy that was not read is whole: ${count(unread.length, 'object')}`]
          : []),
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
        endLine(result),
        ...(canForget ? [CAN_FORGET] : []),
        ...(forgotten ? left.map(({ backend, key, problem }) => `DAMAGED ${backend} ${key}: ${problem}`) : []),
      )
    );
  }
}

const isWithSecret = (
  flags: { 'forget-damaged': boolean; level?: string | undefined } & Parameters<typeof namesRestoreSecret>[0],
): boolean => flags['forget-damaged'] || flags.level === 'chunks' || namesRestoreSecret(flags);

/** How it ended, and how far that is known. */
function endLine({ dryRun, level, damaged, left, warnings, complete, seconds }: RepairResult): string {
  const time = `in ${seconds} s`;
  if (left.length > 0) return `${dryRun ? 'would be left' : 'left'}: ${count(left.length, 'problem')}, ${time}`;
  if (dryRun && damaged.length > 0) return `nothing was changed: ${count(damaged.length, 'problem')} still, ${time}`;
  const far = `as far as level ${level} tells${complete && warnings.length === 0 ? '' : ', and the warnings above'}`;
  return `${damaged.length > 0 ? 'nothing is damaged any more' : 'no damage found'}, ${time}, ${far}`;
}
