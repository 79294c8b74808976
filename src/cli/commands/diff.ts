import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../../errors.ts';
import { diff, type DiffResult } from '../../operations/diff.ts';
import { HoldfastCommand } from '../base-command.ts';
import { requireSections } from '../config.ts';
import { expectedRepository, localFolders, localRoots, ownPlaces, restoreSecret } from '../context.ts';
import { diffText } from '../diff-text.ts';
import { EXIT } from '../exit-codes.ts';
import { SNAPSHOT_FORMS, warningLines } from '../render.ts';
import { restoreSecretFlags } from '../secrets.ts';
import { stateOptions } from '../state-options.ts';

export default class Diff extends HoldfastCommand<typeof Diff, DiffResult> {
  static override summary =
    'Show what differs between two snapshots, or between a snapshot and the state as it is now.';
  static override examples = ['holdfast diff', 'holdfast diff 5a65dcf6 latest --path memory --text'];
  static override args = {
    a: Args.string({ description: SNAPSHOT_FORMS, default: 'latest' }),
    b: Args.string({ description: 'the same; without it, the state as it is now' }),
  };
  static override flags = {
    live: Flags.boolean({ summary: 'Compare with the state as it is now (what is done without B).' }),
    path: Flags.string({ summary: 'Only this path and what lies below it.', helpValue: 'P' }),
    stat: Flags.boolean({ summary: 'Only how much differs.', exclusive: ['text'] }),
    text: Flags.boolean({ summary: 'Text files line by line.' }),
    secrets: Flags.boolean({ summary: 'What the profile keeps apart, instead of the state; never line by line.' }),
    'one-file-system': Flags.boolean({
      summary: 'Leave out what lies on other file systems than the state, as `backup` does with it.',
    }),
    ...restoreSecretFlags,
  };

  protected override async work(): Promise<DiffResult> {
    const { a, b } = this.args;
    const ofLive = (['live', 'one-file-system'] as const).find((flag) => this.flags[flag]);
    if (b !== undefined && ofLive !== undefined) {
      throw new HoldfastError('usage', `a second snapshot and --${ofLive} exclude each other`, {
        hint: 'Leave one of them out.',
      });
    }
    const loaded = await this.loadConfig();
    const config = requireSections(loaded, 'backends');
    const keepOut = [...ownPlaces(loaded), ...localRoots(process.env)];
    const live = async () => ({
      ...(await stateOptions(requireSections(loaded, 'state').state, keepOut)),
      ...(this.flags['one-file-system'] ? { oneFileSystem: true } : {}),
    });
    const to = b ?? (await live());
    const secret = await restoreSecret(this.flags, this.signal);
    const { path = '', text, secrets } = this.flags;
    const expected = await expectedRepository(config);
    const foldersOf = (repository: string) => localFolders(process.env, repository);
    const result = await diff(
      { backends: config.backends, secret, expected, from: a ?? 'latest', to, path, text, secrets, foldersOf },
      this.seams,
    );
    return this.flags.stat ? { ...result, changes: [] } : result;
  }

  protected override exitCode({ complete }: DiffResult) {
    return complete ? EXIT.done : EXIT.incomplete;
  }

  protected override text(result: DiffResult): string {
    return warningLines(result.warnings) + diffText(result);
  }
}
