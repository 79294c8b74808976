import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../../errors.ts';
import { findEntries, type FindResult, type FoundIn } from '../../operations/find.ts';
import { parseSize } from '../../units.ts';
import { HoldfastCommand } from '../base-command.ts';
import { requireSections } from '../config.ts';
import { expectedRepository, restoreSecret } from '../context.ts';
import { EXIT } from '../exit-codes.ts';
import { count, lines, SNAPSHOT_FORMS, table, warningLines } from '../render.ts';
import { restoreSecretFlags } from '../secrets.ts';

const TYPES = ['file', 'folder', 'symlink'] as const;

export default class Find extends HoldfastCommand<typeof Find, FindResult> {
  static override summary = 'Find entries of a snapshot, or all versions of a file in all snapshots.';
  static override description = `A pattern without a slash matches a name in any folder, one with a slash the whole path from the root of the state. ** stands for any number of folders, and names that begin with a dot are like others. A time is a day (2026-01-31), a time (2026-01-31T10:00, UTC) or how long ago (2h, 3d).`;
  static override examples = [
    "holdfast find '*.jsonl' --larger 1MiB",
    'holdfast find MEMORY.md --all',
    "holdfast find 'memory/**' --newer 2d --snapshot latest~1",
  ];
  static override args = { pattern: Args.string({ description: 'globs, any number; everything without' }) };
  static override strict = false;
  static override flags = {
    snapshot: Flags.string({ summary: `${SNAPSHOT_FORMS} [default: latest].`, helpValue: 'SNAPSHOT' }),
    all: Flags.boolean({ summary: 'In all snapshots: each content once, with the first and last that have it.' }),
    since: Flags.string({ summary: 'As --all, in snapshots from this time on.', helpValue: 'TIME' }),
    until: Flags.string({ summary: 'As --all, in snapshots up to this time.', helpValue: 'TIME' }),
    path: Flags.string({
      summary: 'Only at and below this path or glob; may be given again.',
      multiple: true,
      multipleNonGreedy: true,
      helpValue: 'P',
      default: [],
    }),
    type: Flags.string({ summary: 'Only these.', options: [...TYPES] }),
    newer: Flags.string({ summary: 'Modified after this time.', helpValue: 'TIME' }),
    older: Flags.string({ summary: 'Modified before this time.', helpValue: 'TIME' }),
    larger: Flags.string({ summary: 'Files of more than this size.', helpValue: 'SIZE' }),
    smaller: Flags.string({ summary: 'Files of less than this size.', helpValue: 'SIZE' }),
    secrets: Flags.boolean({ summary: 'In what the profile keeps apart, instead of the state.' }),
    ...restoreSecretFlags,
  };

  protected override async work(): Promise<FindResult> {
    const config = requireSections(await this.loadConfig(), 'backends');
    const { snapshot, all, since, until, path, type, newer, older, larger, smaller, secrets } = this.flags;
    const isAll = all || since !== undefined || until !== undefined;
    if (isAll && snapshot !== undefined)
      throw new HoldfastError('usage', 'one snapshot is named, and all are asked for', {
        hint: 'Leave out --snapshot, or --all, --since and --until.',
      });
    return findEntries(
      {
        backends: config.backends,
        patterns: this.operands,
        in: isAll ? { since, until } : { snapshot: snapshot ?? 'latest' },
        paths: path,
        secrets,
        type: TYPES.find((one) => one === type),
        newer,
        older,
        larger: larger === undefined ? undefined : parseSize(larger),
        smaller: smaller === undefined ? undefined : parseSize(smaller),
        secret: await restoreSecret(this.flags, this.signal),
        expected: await expectedRepository(config),
      },
      this.seams,
    );
  }

  protected override exitCode({ warnings }: FindResult) {
    return warnings.some(({ incomplete }) => incomplete) ? EXIT.incomplete : EXIT.done;
  }

  protected override text({ entries, searched, secrets, warnings }: FindResult): string {
    const snapshots = searched.length === 1 ? `snapshot ${shown(searched[0])}` : count(searched.length, 'snapshot');
    const where = this.flags.secrets ? `the secrets of ${snapshots}` : snapshots;
    const more =
      secrets > 0 && !this.flags.secrets
        ? [`${count(secrets, 'secret file')} kept apart and not searched: --secrets searches them instead`]
        : [];
    if (entries.length === 0) return warningLines(warnings) + lines(`Nothing found in ${where}.`, ...more);
    const columns = searched.length === 1 ? [] : ['first in', 'last in', 'snapshots'];
    return (
      warningLines(warnings) +
      table(
        ['type', 'size', 'modified', ...columns, 'path'],
        entries.map(({ type, size, mtime, first, last, snapshots, path }) => [
          type,
          String(size),
          mtime.slice(0, 19),
          ...(columns.length === 0 ? [] : [shown(first), shown(last), String(snapshots)]),
          path,
        ]),
        ['size', 'snapshots'],
      ) +
      lines(`${count(entries.length, 'entry', 'entries')} in ${where}`, ...more)
    );
  }
}

const shown = (snapshot: FoundIn | undefined): string =>
  snapshot ? `${snapshot.id.slice(0, 8)} of ${snapshot.time.slice(0, 19)}` : '';
