import * as Flags from '@oclif/core/flags';
import { basename, resolve } from 'node:path';
import { HoldfastError } from '../../errors.ts';
import { init } from '../../operations/init.ts';
import { BUILT_IN_PROFILES } from '../../state/profile-names.ts';
import { survey } from '../../state/survey.ts';
import { checkApart } from '../apart.ts';
import { checkDistinct, parseBackendFlag } from '../backend-flags.ts';
import { HoldfastCommand } from '../base-command.ts';
import { defaultKeyPaths, newConfigPath, renderConfig } from '../config.ts';
import { localFolders, ownPlaces, readAgentKey } from '../context.ts';
import { warningsExitCode } from '../exit-codes.ts';
import { passphraseFlags } from '../secrets.ts';
import { chosenProfile } from '../state-options.ts';
import { initialisedText, type Initialised } from '../taken-state.ts';

export default class Init extends HoldfastCommand<typeof Init, Initialised> {
  static override summary = 'Make an identity, its recovery words, a config and a repository on every backend.';
  static override examples = [
    'holdfast init --handle ada --state ~/agent-state --backend nas=file:///mnt/nas/ada --backend usb=file:///media/usb/ada',
  ];
  static override flags = {
    handle: Flags.string({ summary: "The agent's name.", required: true }),
    state: Flags.string({ summary: "The folder of the agent's state.", required: true, helpValue: 'DIR' }),
    backend: Flags.string({
      summary: 'A place for snapshots; two or more are better.',
      required: true,
      multiple: true,
      helpValue: 'NAME=URL',
    }),
    profile: Flags.string({
      summary: `What is state, secret and cache: ${BUILT_IN_PROFILES.join(', ')}, or a file; found by what is there when it is not given.`,
      helpValue: 'NAME|FILE',
    }),
    identity: Flags.string({ summary: "The agent's own ed25519 key, to keep it (mode 0600).", helpValue: 'FILE' }),
    'words-file': Flags.string({
      summary: 'Write the recovery words to a new file (mode 0600) instead of the terminal.',
      helpValue: 'PATH',
    }),
    paper: Flags.string({
      summary: 'Write the recovery document, to be printed, to a new PDF (mode 0600) instead of the terminal.',
      helpValue: 'FILE.pdf',
    }),
    'paper-size': Flags.option({
      summary: 'Of --paper.',
      options: ['a4', 'letter'] as const,
      default: 'a4' as const,
    })(),
    ...passphraseFlags,
    'post-quantum': Flags.boolean({
      summary: 'Encrypt for restore with ML-KEM-768 and X25519 (needs age 1.3 to open by hand).',
    }),
  };

  protected override async work(): Promise<Initialised> {
    const { flags } = this;
    const { 'words-file': wordsFile, paper } = flags;
    if (wordsFile === undefined && paper === undefined && (flags.json || !process.stdout.isTTY)) {
      throw new HoldfastError('usage', 'the recovery words can be shown on a terminal only', {
        hint: 'Give --paper FILE.pdf or --words-file PATH, print the file, put the paper away and delete the file.',
      });
    }
    const config = newConfigPath(flags.config, process.env, process.cwd());
    const backends = flags.backend.map(parseBackendFlag);
    checkDistinct(backends);
    for (const [what, file] of Object.entries({ 'words file': wordsFile, 'recovery document': paper }))
      if (file !== undefined) checkApart(file, what, { state: flags.state, backends });
    const keys = defaultKeyPaths(config);
    const given = flags.identity === undefined ? undefined : resolve(flags.identity);
    const imported = given === undefined ? undefined : await readAgentKey(given, flags, this.signal);
    // A host that is to sign by itself cannot ask for a passphrase: then an open copy is made, readable by its owner only.
    const identity = given === undefined || imported?.wasEncrypted ? keys.identity : given;
    const root = resolve(flags.state);
    const profile = await chosenProfile(flags.profile, root);
    const own = { agent: { handle: flags.handle, identity, writerKey: keys.writerKey }, backends };
    const takes = survey(root, profile.data, { keepOut: ownPlaces(own), signal: this.signal });
    const result = await init(
      {
        handle: flags.handle,
        backends,
        stateRoot: root,
        importedKey: imported?.key,
        keepsIdentityFile: identity === given,
        kind: flags['post-quantum'] ? 'hybrid' : 'x25519',
        files: {
          identity,
          writerKey: keys.writerKey,
          config,
          words: wordsFile && resolve(wordsFile),
        },
        paper: paper === undefined ? undefined : { file: resolve(paper), size: flags['paper-size'], tool: this.tool },
        foldersOf: (repository) => localFolders(process.env, repository),
        configText: renderConfig({
          handle: flags.handle,
          identity: identity === keys.identity ? basename(keys.identity) : identity,
          writerKey: basename(keys.writerKey),
          root,
          profile: profile.named,
          backends,
          require: backends.length,
        }),
      },
      this.seams,
    );
    const { name, title } = profile.data;
    return { ...result, profile: { name, title, detected: flags.profile === undefined }, takes };
  }

  protected override exitCode(result: Initialised) {
    return warningsExitCode(result);
  }

  protected override text(result: Initialised): string {
    return initialisedText(result);
  }
}
