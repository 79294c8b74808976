import { listSnapshots, type SnapshotRow } from '../../operations/look.ts';
import { formatSize } from '../../units.ts';
import { HoldfastCommand } from '../base-command.ts';
import { requireSections } from '../config.ts';
import { accessOf, localFolders, readWriterKey } from '../context.ts';
import { EXIT } from '../exit-codes.ts';
import { count, lines, table } from '../render.ts';

export default class Snapshots extends HoldfastCommand<typeof Snapshots, SnapshotRow[]> {
  static override summary = 'List the snapshots that verify, newest last.';
  #complete = true;

  protected override async work(): Promise<SnapshotRow[]> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const writerKey = await readWriterKey(config.agent);
    const folders = localFolders(process.env, writerKey.repositoryId);
    const access = accessOf(writerKey);
    const { snapshots, warnings } = await listSnapshots({ backends: config.backends, access, folders }, this.seams);
    this.warnAll(warnings);
    this.#complete = !warnings.some(({ incomplete }) => incomplete);
    return snapshots;
  }

  protected override exitCode() {
    return this.#complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text(rows: SnapshotRow[]): string {
    if (rows.length === 0 && !this.#complete) return lines('No snapshot can be shown.');
    if (rows.length === 0) return lines('No snapshot yet: run `holdfast backup`.');
    const hasMarks = rows.some(({ suspicious }) => suspicious.length > 0);
    const hasNotes = rows.some(({ note }) => note !== null);
    const hasLosses = rows.some(({ lost }) => lost !== null);
    const more = [...(hasMarks ? ['suspicious'] : []), ...(hasLosses ? ['lost'] : []), ...(hasNotes ? ['note'] : [])];
    return table(
      ['id', 'number', 'time', 'files', 'size', 'backends', 'tags', ...more],
      rows.map((row) => [
        row.id.slice(0, 8),
        String(row.seq),
        row.time,
        String(row.files),
        formatSize(row.bytes),
        row.backends.join(', '),
        row.tags.join(', '),
        ...(hasMarks ? [markOf(row)] : []),
        ...(hasLosses ? [lossOf(row)] : []),
        ...(hasNotes ? [row.note ?? ''] : []),
      ]),
      ['number', 'files', 'size'],
    );
  }
}

function lossOf({ lost }: SnapshotRow): string {
  if (!lost) return '';
  return lost.whole ? 'all' : count(lost.files, 'file');
}

function markOf({ suspicious, acknowledged }: SnapshotRow): string {
  const codes = [...new Set(suspicious.map(({ code }) => code))].join(', ');
  return codes !== '' && acknowledged ? `${codes} (acknowledged)` : codes;
}
