import * as Flags from '@oclif/core/flags';
import { resolve } from 'node:path';
import { HoldfastError } from '../../../errors.ts';
import { formatAgentKey, parseAgentKey, type AgentKeyFormat } from '../../../identity/agent-key.ts';
import { restoreIdentity } from '../../../identity/root.ts';
import { readSecretFile, writeSecretFile } from '../../../identity/secret-file.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { restoreSecret } from '../../context.ts';
import { lines } from '../../render.ts';
import { restoreSecretFlags } from '../../secrets.ts';

interface Exported {
  format: string;
  file: string;
}

export default class IdentityExport extends HoldfastCommand<typeof IdentityExport, Exported> {
  static override summary = "Write the agent's key, or the age key that restores, to a new file (mode 0600).";
  static override description =
    'openssh, pkcs8 and hex write the key of this host. age writes the restore key, which only the recovery words give: with it, `age -d -i FILE` opens every object of the repository.';
  static override examples = ['holdfast identity export --format age --output restore.key --words-file words.txt'];
  static override flags = {
    format: Flags.option({
      summary: 'What to write.',
      options: ['openssh', 'pkcs8', 'hex', 'age'] as const,
      required: true,
    })(),
    output: Flags.string({ summary: 'The new file.', required: true, helpValue: 'FILE' }),
    'post-quantum': Flags.boolean({ summary: 'With age: the hybrid key of a repository made with --post-quantum.' }),
    ...restoreSecretFlags,
  };

  protected override async work(): Promise<Exported> {
    const { format } = this.flags;
    const file = resolve(this.flags.output);
    await writeSecretFile(
      file,
      Buffer.from(format === 'age' ? await this.#restoreKey() : await this.#agentKey(format)),
    );
    return { format, file };
  }

  async #restoreKey(): Promise<string> {
    const secret = await restoreSecret(this.flags, this.signal);
    if (secret.kind !== 'root')
      throw new HoldfastError('usage', 'the age key derives from the recovery words', { hint: 'Give --words-file.' });
    const kind = this.flags['post-quantum'] ? 'hybrid' : 'x25519';
    return `# holdfast restore key: opens every object of the repository. Delete this file when you are done.\n${restoreIdentity(secret.root, kind)}\n`;
  }

  async #agentKey(format: AgentKeyFormat): Promise<string> {
    const { agent } = requireSections(await this.loadConfig(), 'agent');
    const key = parseAgentKey(Buffer.from(await readSecretFile(agent.identity)).toString('utf8'));
    return formatAgentKey(key, format, agent.handle, this.random);
  }

  protected override text({ file }: Exported): string {
    return lines(`written: ${file}`);
  }
}
