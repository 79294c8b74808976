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
import { stateOptions } from '../state-options.ts';

const HANDLED = {
  apart: 'saved apart, restored only with --with-secrets',
  include: 'saved like the rest',
  leave: 'NOT saved',
};

export default class Backup extends ReportedCommand<typeof Backup, BackupResult> {
  static override summary = 'Take one snapshot of the state to all backends.';
  static override flags = {
    tag: Flags.string({ summary: 'A label for the snapshot.', multiple: true, helpValue: 'TAG', default: [] }),
    'one-file-system': Flags.boolean({ summary: 'Leave out what lies on other file systems than the state.' }),
    note: Flags.string({ summary: 'A note to the snapshot.', helpValue: 'TEXT' }),
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
          ...(await stateOptions(config.state, [...ownPlaces(config), ...localRoots(process.env)])),
          ...(this.flags['one-file-system'] ? { oneFileSystem: true } : {}),
        },
        require: config.commit.require,
        tags: this.flags.tag,
        note: this.flags.note,
        suspicion: config.suspicion,
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

  protected override text({
    snapshot,
    files,
    secrets,
    bytes,
    backends,
    suspicious,
    warnings,
    seconds,
    complete,
  }: BackupResult): string {
    const name = snapshot.id.slice(0, 8);
    return (
      warningLines(warnings) +
      lines(
        `snapshot ${name} (number ${snapshot.seq}): ${count(files.total, 'file')}, ${files.new} new, ${files.changed} changed, ${files.removed} removed`,
        ...(secrets.files > 0 ? [`${count(secrets.files, 'secret file')}: ${HANDLED[secrets.handling]}`] : []),
        `read ${formatSize(bytes.read)}, new ${formatSize(bytes.added)}, stored ${formatSize(bytes.stored)} on each backend, in ${seconds} s`,
        ...backends.map(({ name, state, error }) => `  ${name}: ${state}${error ? ` (${error.message})` : ''}`),
        ...(suspicious.length > 0
          ? [
              `The snapshot is SUSPICIOUS: look with \`holdfast diff ${name}~1 ${name}\`; if it is right: holdfast snapshots acknowledge ${name}`,
            ]
          : []),
        ...(complete || isOnlySuspicious({ backends, warnings, suspicious })
          ? []
          : ['The snapshot is INCOMPLETE: see the warnings and backends above.']),
      )
    );
  }
}

/** Then the snapshot has all that there was to save. */
function isOnlySuspicious({
  backends,
  warnings,
  suspicious,
}: Pick<BackupResult, 'backends' | 'warnings' | 'suspicious'>): boolean {
  const isEverywhere = backends.every(({ state }) => state === 'committed');
  return isEverywhere && warnings.filter(({ incomplete }) => incomplete).length === suspicious.length;
}
