import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { HoldfastError, systemErrorCode } from '../../../errors.ts';
import { fingerprint } from '../../../identity/agent-key.ts';
import { signSsh } from '../../../identity/ssh-signature.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { readSigner } from '../../context.ts';
import { readPieces, STDIN } from '../../input-file.ts';
import { lines } from '../../render.ts';

interface Signed {
  /** Armored, as `ssh-keygen -Y verify` takes it. */
  signature: string;
  namespace: string;
  /** Of the key that signed. */
  fingerprint: string;
  /** Where the signature was written; absent when what was signed came on stdin and --output was not given. */
  file?: string;
}

export default class IdentitySign extends HoldfastCommand<typeof IdentitySign, Signed> {
  static override summary = "Sign a file with the agent's key, so that `ssh-keygen -Y verify` accepts it.";
  static override description =
    'The signature is written beside the file as FILE.sig, and for stdin to stdout. Others check it with `holdfast identity verify` or `ssh-keygen -Y verify`.';
  static override examples = [
    'holdfast identity sign letter.txt',
    'echo hello | holdfast identity sign --namespace greeting',
  ];
  static override args = {
    file: Args.string({ description: 'what to sign; - or nothing: stdin', default: STDIN, ignoreStdin: true }),
  };
  static override flags = {
    namespace: Flags.string({
      summary: 'What the signature is for; it holds for nothing else.',
      default: 'file',
      helpValue: 'NAME',
    }),
    output: Flags.string({ summary: 'The new file for the signature; default FILE.sig.', helpValue: 'FILE' }),
  };

  protected override async work(): Promise<Signed> {
    const { agent } = requireSections(await this.loadConfig(), 'agent');
    const key = await readSigner(agent);
    const { namespace } = this.flags;
    const signature = await signSsh(key, namespace, readPieces(this.args.file, this.signal));
    const file = this.flags.output ?? (this.args.file === STDIN ? undefined : `${this.args.file}.sig`);
    if (file !== undefined) await writeNew(resolve(file), signature);
    return {
      signature,
      namespace,
      fingerprint: fingerprint(key.publicKey),
      ...(file === undefined ? {} : { file: resolve(file) }),
    };
  }

  protected override text({ signature, file }: Signed): string {
    return file === undefined ? signature : lines(`written: ${file}`);
  }
}

/** Not secret: others are to read it. */
async function writeNew(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text, { flag: 'wx', flush: true });
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
    throw new HoldfastError('exists', `${path} is already there and is not replaced`, {
      hint: 'Give another path with --output, or move the file away if it is no longer needed.',
    });
  }
}
