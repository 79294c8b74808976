import * as Args from '@oclif/core/args';
import { HoldfastCommand } from '../base-command.ts';
import { completionScript, SHELLS, type Shell } from '../completion.ts';

export default class Completion extends HoldfastCommand<typeof Completion, { shell: Shell; script: string }> {
  static override summary = 'Print a script that completes commands and flags in your shell.';
  static override args = {
    shell: Args.string({ description: 'your shell', required: true, options: [...SHELLS] }),
  };
  static override examples = [
    { description: 'bash (in ~/.bashrc)', command: 'source <(holdfast completion bash)' },
    { description: 'zsh (in ~/.zshrc, after compinit)', command: 'source <(holdfast completion zsh)' },
    { description: 'fish (in ~/.config/fish/config.fish)', command: 'holdfast completion fish | source' },
  ];

  protected override async work(): Promise<{ shell: Shell; script: string }> {
    const shell = this.args.shell as Shell;
    const commands = this.config.commands.map(({ id, summary, flags }) => ({
      words: id.replaceAll(':', ' '),
      summary: summary ?? '',
      flags: Object.values(flags).map((flag) => ({
        name: flag.name,
        summary: flag.summary ?? '',
        takesValue: flag.type === 'option',
      })),
    }));
    return { shell, script: completionScript(shell, commands) };
  }

  protected override text({ script }: { script: string }): string {
    return script;
  }
}
