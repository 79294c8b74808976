import { hostname } from 'node:os';
import * as Flags from '@oclif/core/flags';
import { sync, type SyncResult } from '../../operations/sync.ts';
import { formatSize } from '../../units.ts';
import { requireSections } from '../config.ts';
import { localFolders, readHostKeys } from '../context.ts';
import { EXIT } from '../exit-codes.ts';
import { lines } from '../render.ts';
import { ReportedCommand } from '../reported-command.ts';

export default class Sync extends ReportedCommand<typeof Sync, SyncResult> {
  static override summary = 'Bring every backend level with the others; fill one that is new.';
  static override flags = {
    refill: Flags.string({
      summary: 'Fill this backend although it held the repository before and is empty now.',
      multiple: true,
      helpValue: 'NAME',
      default: [],
    }),
  };

  protected override readonly kind = 'sync';
  protected override readonly triesAgain = true;

  protected override async work(): Promise<SyncResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const { writerKey, signer, access } = await readHostKeys(config.agent);
    const folders = localFolders(process.env, writerKey.repositoryId);
    return sync(
      { backends: config.backends, access, signer, host: hostname(), folders, refill: this.flags.refill },
      this.seams,
    );
  }

  protected override exitCode({ complete }: SyncResult) {
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text({ backends, seconds }: SyncResult): string {
    return lines(
      ...backends.map(({ name, state, objects, bytes, healed, extended, error }) => {
        const problem = error ? ` (${error.message}${error.hint === undefined ? '' : `. ${error.hint}`})` : '';
        return `${name}: ${state}, ${objects} objects copied, ${formatSize(bytes)}${healed.length > 0 ? `, ${healed.length} healed` : ''}${extended > 0 ? `, locks of ${extended} objects extended` : ''}${problem}`;
      }),
      `done in ${seconds} s`,
    );
  }
}
