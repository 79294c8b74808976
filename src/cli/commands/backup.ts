import * as Flags from '@oclif/core/flags';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { backup, type BackupResult } from '../../operations/backup.ts';
import { formatSize } from '../../units.ts';
import { requireSections } from '../config.ts';
import { localFolders, localRoots, ownPlaces, readHostKeys } from '../context.ts';
import { EXIT } from '../exit-codes.ts';
import { count, lines, warningLines } from '../render.ts';
import { dueFlag, ReportedCommand } from '../reported-command.ts';

export default class Backup extends ReportedCommand<typeof Backup, BackupResult> {
  static override summary = 'Take one snapshot of the state to all backends.';
  static override flags = {
    tag: Flags.string({ summary: 'A label for the snapshot.', multiple: true, helpValue: 'TAG', default: [] }),
    ...dueFlag,
  };
  protected override readonly kind = 'backup';

  protected override async work(): Promise<BackupResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'state', 'backends');
    const { writerKey, signer } = await readHostKeys(config.agent);
    const folders = localFolders(process.env, writerKey.repositoryId);
    return backup(
      {
        backends: config.backends,
        writerKey,
        signer,
        state: {
          root: config.state.root,
          exclude: config.state.exclude,
          keepOut: [...ownPlaces(config), ...localRoots(process.env)],
        },
        require: config.commit.require,
        tags: this.flags.tag,
        host: hostname(),
        tool: this.tool,
        config: await readFile(config.path, 'utf8'),
        folders,
        hooks: this.hooks,
      },
      this.seams,
    );
  }

  protected override exitCode({ complete }: BackupResult) {
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text({ snapshot, files, bytes, backends, warnings, seconds, complete }: BackupResult): string {
    return (
      warningLines(warnings) +
      lines(
        `snapshot ${snapshot.id.slice(0, 8)} (number ${snapshot.seq}): ${count(files.total, 'file')}, ${files.new} new, ${files.changed} changed, ${files.removed} removed`,
        `read ${formatSize(bytes.read)}, new ${formatSize(bytes.added)}, stored ${formatSize(bytes.stored)} on each backend, in ${seconds} s`,
        ...backends.map(({ name, state, error }) => `  ${name}: ${state}${error ? ` (${error.message})` : ''}`),
        ...(complete ? [] : ['The snapshot is INCOMPLETE: see the warnings and backends above.']),
      )
    );
  }
}
