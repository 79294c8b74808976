import * as Flags from '@oclif/core/flags';
import { hostname } from 'node:os';
import { prune, type PruneResult } from '../../operations/prune.ts';
import { formatSize, parseDuration, parseSize } from '../../units.ts';
import { HoldfastCommand } from '../base-command.ts';
import { requireSections } from '../config.ts';
import { expectedRepository, localFolders, restoreSecret } from '../context.ts';
import { EXIT } from '../exit-codes.ts';
import { count, lines, warningLines } from '../render.ts';
import { restoreSecretFlags } from '../secrets.ts';

export default class Prune extends HoldfastCommand<typeof Prune, PruneResult> {
  static override summary = 'Delete what no snapshot needs any more.';
  static override description =
    'In two steps: what is not needed is condemned, and deleted by a run after the grace, once no backup is under way that began before. Needs the restore secret, for only who restores can see what a snapshot needs: run it where that is, not on the agent’s host.';
  static override flags = {
    'dry-run': Flags.boolean({ summary: 'Say what would go, and change nothing.' }),
    grace: Flags.string({ summary: 'How long condemned packs stay; default prune.grace, or 7d.', helpValue: 'TIME' }),
    'repack-budget': Flags.string({
      summary: 'How much may be read to rewrite packs of which little is needed; default prune.repackBudget, or 1GiB.',
      helpValue: 'SIZE',
    }),
    settle: Flags.string({
      summary:
        'How long a listing may lag behind; waited for twice before anything is deleted; default prune.settle, or 2m.',
      helpValue: 'TIME',
    }),
    wait: Flags.string({ summary: 'How long to wait for an unfinished backup.', helpValue: 'TIME', default: '10m' }),
    'presume-over': Flags.string({
      summary: 'This run, or every run of this host, is over: its process does not exist any more.',
      multiple: true,
      helpValue: 'RUN|HOST',
      default: [],
    }),
    ...restoreSecretFlags,
  };

  protected override async work(): Promise<PruneResult> {
    const { flags } = this;
    const config = requireSections(await this.loadConfig(), 'backends');
    const { grace, settle, repackBudget } = config.prune ?? {};
    return prune(
      {
        backends: config.backends,
        secret: await restoreSecret(flags, this.signal),
        expected: await expectedRepository(config),
        foldersOf: (id) => localFolders(process.env, id),
        host: hostname(),
        graceMs: parseDuration(flags.grace ?? grace ?? '7d'),
        settleMs: parseDuration(flags.settle ?? settle ?? '2m'),
        waitMs: parseDuration(flags.wait),
        repackBytes: parseSize(flags['repack-budget'] ?? repackBudget ?? '1GiB'),
        presumeOver: flags['presume-over'],
        dryRun: flags['dry-run'],
      },
      this.seams,
    );
  }

  protected override exitCode({ complete }: PruneResult) {
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text(result: PruneResult): string {
    const { condemned, repacked, due, deleted, tidied, kept, dryRun, warnings, seconds } = result;
    const packs = (one: { packs: number; bytes: number }) => `${count(one.packs, 'pack')}, ${formatSize(one.bytes)}`;
    const would = dryRun ? 'would be ' : '';
    return (
      warningLines(warnings) +
      lines(
        `${would}condemned: ${packs(condemned)}`,
        ...(repacked.packs > 0
          ? [`${would}rewritten: ${packs({ packs: repacked.packs, bytes: repacked.readBytes })}`]
          : []),
        ...(dryRun ? [`would be deleted: ${packs(due)}`] : []),
        ...deleted.byBackend.map(
          ({ name, locked, ...gone }) =>
            `deleted on ${name}: ${packs(gone)}${locked ? ' (kept by the bucket until their lock is over)' : ''}`,
        ),
        ...(tidied.verifications > 0 ? [`removed: ${count(tidied.verifications, 'old record')} of verifications`] : []),
        ...(tidied.drills > 0 ? [`removed: ${count(tidied.drills, 'old record')} of drills`] : []),
        ...(tidied.annotations > 0
          ? [`removed: ${count(tidied.annotations, 'annotation')} of forgotten snapshots`]
          : []),
        `kept: ${packs(kept)}, of which snapshots need ${formatSize(kept.neededBytes)} before compression, and ${packs({ packs: kept.condemnedPacks, bytes: kept.condemnedBytes })} wait for their grace`,
        `done in ${seconds} s`,
      )
    );
  }
}
