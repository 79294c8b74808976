import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import { resolve } from 'node:path';
import { fingerprint, looksLikePublicKey, parsePublicKey } from '../../../identity/agent-key.ts';
import { verifySsh } from '../../../identity/ssh-signature.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { readSigner } from '../../context.ts';
import { readPieces, readShortText } from '../../input-file.ts';
import { facts } from '../../render.ts';

interface Verified {
  /** As it was given; `-` for stdin. */
  file: string;
  namespace: string;
  /** Of the key that signed. */
  fingerprint: string;
}

export default class IdentityVerify extends HoldfastCommand<typeof IdentityVerify, Verified> {
  static override summary = 'Check a signature made by `holdfast identity sign` or `ssh-keygen -Y sign`.';
  static override description =
    "Exit code 0: the signature is good. 13: it does not hold. 12: it is another key's than the one expected.";
  static override examples = [
    'holdfast identity verify letter.txt --signature letter.txt.sig',
    'holdfast identity verify letter.txt --signature letter.txt.sig --key did:key:z6Mk…',
  ];
  static override args = {
    file: Args.string({ description: 'what was signed; - for stdin', required: true, ignoreStdin: true }),
  };
  static override flags = {
    signature: Flags.string({ summary: 'The file with the signature.', required: true, helpValue: 'FILE' }),
    namespace: Flags.string({ summary: 'What the signature must be for.', default: 'file', helpValue: 'NAME' }),
    key: Flags.string({
      summary: "The key that must have signed: a public key, did:key or file with one; default: the agent's own.",
      helpValue: 'KEY|FILE',
    }),
  };

  protected override async work(): Promise<Verified> {
    const { namespace } = this.flags;
    const publicKey = await this.#expectedKey();
    const signature = await readShortText(resolve(this.flags.signature), 'a signature', this.signal);
    await verifySsh(signature, readPieces(this.args.file, this.signal), { namespace, publicKey });
    return { file: this.args.file, namespace, fingerprint: fingerprint(publicKey) };
  }

  async #expectedKey(): Promise<Uint8Array> {
    const { key } = this.flags;
    if (key === undefined) {
      const { agent } = requireSections(await this.loadConfig(), 'agent');
      return (await readSigner(agent)).publicKey;
    }
    return parsePublicKey(
      looksLikePublicKey(key) ? key : await readShortText(resolve(key), 'a public key', this.signal),
    );
  }

  protected override text({ file, namespace, fingerprint: print }: Verified): string {
    return facts({ 'good signature': file, namespace, by: print });
  }
}
