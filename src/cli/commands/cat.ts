import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../../errors.ts';
import { catFile } from '../../operations/look.ts';
import { HoldfastCommand } from '../base-command.ts';
import { requireSections } from '../config.ts';
import { expectedRepository, restoreSecret } from '../context.ts';
import { EXIT } from '../exit-codes.ts';
import { SNAPSHOT_FORMS } from '../render.ts';
import { restoreSecretFlags } from '../secrets.ts';

interface Content {
  path: string;
  bytes: number;
  /** With --json only, where nothing else may be on stdout. */
  base64?: string;
}

const JSON_MAX_BYTES = 64 * 1024 * 1024;

export default class Cat extends HoldfastCommand<typeof Cat, Content> {
  static override summary = 'Print one file of a snapshot.';
  static override args = {
    snapshot: Args.string({ description: SNAPSHOT_FORMS, required: true }),
    path: Args.string({ description: 'the file, relative to the root of the state', required: true }),
  };
  static override flags = {
    secrets: Flags.boolean({ summary: 'What the profile keeps apart, instead of the state.' }),
    ...restoreSecretFlags,
  };
  #complete = true;

  protected override async work(): Promise<Content> {
    const config = requireSections(await this.loadConfig(), 'backends');
    const pieces: Uint8Array[] = [];
    let held = 0;
    const collect = (bytes: Uint8Array): Promise<boolean> => {
      held += bytes.length;
      if (held > JSON_MAX_BYTES)
        throw new HoldfastError('usage', 'the file is too large for --json', {
          hint: 'Leave --json out, or use `holdfast restore --path`.',
        });
      pieces.push(bytes.slice());
      return Promise.resolve(true);
    };
    const { bytes, warnings } = await catFile(
      {
        backends: config.backends,
        secret: await restoreSecret(this.flags, this.signal),
        expected: await expectedRepository(config),
        snapshot: this.args.snapshot,
        secrets: this.flags.secrets,
        path: this.args.path,
        write: async (piece) => {
          await (this.flags.json ? collect(piece) : this.stdout(piece));
        },
      },
      this.seams,
    );
    this.warnAll(warnings);
    this.#complete = !warnings.some(({ incomplete }) => incomplete);
    return {
      path: this.args.path,
      bytes,
      ...(this.flags.json ? { base64: Buffer.concat(pieces).toString('base64') } : {}),
    };
  }

  protected override exitCode() {
    return this.#complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text(): string {
    return '';
  }
}
