import * as Flags from '@oclif/core/flags';
import { basename, resolve } from 'node:path';
import { recover, type RecoverResult } from '../../operations/recover.ts';
import { formatSize } from '../../units.ts';
import { parseFromFlag } from '../backend-flags.ts';
import { HoldfastCommand } from '../base-command.ts';
import { defaultKeyPaths, newConfigPath, recoveredConfig } from '../config.ts';
import { localFolders, restoreSecret } from '../context.ts';
import { restoreExitCode } from '../exit-codes.ts';
import { count, facts, lines, warningLines } from '../render.ts';
import { restoreSecretFlags } from '../secrets.ts';

export default class Recover extends HoldfastCommand<typeof Recover, RecoverResult> {
  static override summary = 'On a new machine: bring the agent back from its recovery words and a backend.';
  static override examples = ['holdfast recover --from file:///mnt/nas/ada --target ~/agent-state'];
  static override flags = {
    from: Flags.string({
      summary: 'A backend to recover from; may be given again.',
      required: true,
      multiple: true,
      helpValue: 'URL',
    }),
    target: Flags.string({ summary: 'A new or empty folder for the state.', required: true, helpValue: 'DIR' }),
    snapshot: Flags.string({ summary: '`latest`, an id or the beginning of one.', default: 'latest', helpValue: 'ID' }),
    ...restoreSecretFlags,
  };

  protected override async work(): Promise<RecoverResult> {
    const { flags } = this;
    const config = newConfigPath(flags.config, process.env, process.cwd());
    const keys = defaultKeyPaths(config);
    const target = resolve(flags.target);
    const backends = flags.from.map(parseFromFlag);
    return recover(
      {
        backends,
        secret: await restoreSecret(flags, this.signal),
        snapshot: flags.snapshot,
        target,
        files: { ...keys, config },
        foldersOf: (repository) => localFolders(process.env, repository),
        renderConfig: (old, handle) =>
          recoveredConfig(old, {
            handle,
            identity: basename(keys.identity),
            writerKey: basename(keys.writerKey),
            root: target,
            backends,
            require: backends.length,
          }),
      },
      this.seams,
    );
  }

  protected override exitCode(result: RecoverResult) {
    return restoreExitCode(result);
  }

  protected override text({
    agent,
    identity,
    snapshot,
    target,
    files,
    bytes,
    configFile,
    identityFile,
    writerKeyFile,
    warnings,
    seconds,
    lost,
  }: RecoverResult): string {
    return (
      warningLines(warnings) +
      facts({
        agent: `${agent.handle}, key ${agent.fingerprint}: ${identity.continuous ? 'the same identity as before' : 'NOT PROVED to be the same, see above'}`,
        state: `snapshot ${snapshot.id.slice(0, 8)} of ${snapshot.time}: ${count(files, 'file')}, ${formatSize(bytes)}, in ${target}`,
        config: configFile,
        identity: identityFile,
        'writer key': writerKeyFile,
        time: `${seconds} s`,
      }) +
      (lost.length > 0 ? lines(`${count(lost.length, 'file')} could NOT be restored: see the warnings above.`) : '') +
      lines('', 'Make sure that the old copy of the agent runs nowhere, look through the config, then: holdfast backup')
    );
  }
}
