import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { listEntries, type ListedEntry } from '../../operations/look.ts';
import { HoldfastCommand } from '../base-command.ts';
import { requireSections } from '../config.ts';
import { expectedRepository, restoreSecret } from '../context.ts';
import { EXIT } from '../exit-codes.ts';
import { count, lines, SNAPSHOT_FORMS, table } from '../render.ts';
import { restoreSecretFlags } from '../secrets.ts';

interface Listing {
  snapshot: string;
  entries: ListedEntry[];
  /** Files that are kept apart. */
  secrets: number;
}

export default class Ls extends HoldfastCommand<typeof Ls, Listing> {
  static override summary =
    'List what a snapshot holds. Needs the restore secret: the host itself cannot read its history.';
  static override args = {
    snapshot: Args.string({ description: SNAPSHOT_FORMS, default: 'latest' }),
    path: Args.string({ description: 'only this path and what lies below it', default: '' }),
  };
  static override flags = {
    secrets: Flags.boolean({ summary: 'What the profile keeps apart, instead of the state.' }),
    depth: Flags.integer({
      summary: 'How many folders deep; 1 is what the folder itself holds.',
      min: 0,
      helpValue: 'N',
    }),
    ...restoreSecretFlags,
  };
  #complete = true;

  protected override async work(): Promise<Listing> {
    const config = requireSections(await this.loadConfig(), 'backends');
    const { warnings, ...listing } = await listEntries(
      {
        backends: config.backends,
        secret: await restoreSecret(this.flags, this.signal),
        expected: await expectedRepository(config),
        snapshot: this.args.snapshot,
        secrets: this.flags.secrets,
        path: this.args.path ?? '',
        depth: this.flags.depth,
      },
      this.seams,
    );
    this.warnAll(warnings);
    this.#complete = !warnings.some(({ incomplete }) => incomplete);
    return listing;
  }

  protected override exitCode() {
    return this.#complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text({ entries, secrets }: Listing): string {
    const more =
      secrets > 0 && !this.flags.secrets ? [`${count(secrets, 'secret file')} kept apart: --secrets lists them`] : [];
    const listing = table(
      ['mode', 'size', 'modified', 'path'],
      entries.map(({ type, mode, size, mtime, path, target, device }) => [
        `${{ file: '-', folder: 'd', symlink: 'l', fifo: 'p', device: device?.kind === 'block' ? 'b' : 'c' }[type]}${mode}`,
        String(size),
        mtime.slice(0, 19),
        target === undefined ? path : `${path} -> ${target}`,
      ]),
      ['size'],
    );
    return listing + lines(...more);
  }
}
