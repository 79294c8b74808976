import * as Flags from '@oclif/core/flags';
import { resolve } from 'node:path';
import { parseShareScheme } from '../../../identity/paper.ts';
import { requireRoot } from '../../../operations/access.ts';
import { checkAbsent } from '../../../identity/secret-file.ts';
import { createPaper, type CreatePaperOptions, type PaperResult } from '../../../operations/paper.ts';
import { checkApart } from '../../apart.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections, type Config } from '../../config.ts';
import { accessOf, expectedRepository, readWriterKeyIfAny, restoreSecret } from '../../context.ts';
import { count, facts, lines } from '../../render.ts';
import { restoreSecretFlags } from '../../secrets.ts';

interface Created extends PaperResult {
  /** True for a document with placeholders in place of the secrets. */
  sample: boolean;
}

export default class PaperCreate extends HoldfastCommand<typeof PaperCreate, Created> {
  static override summary = 'Write the recovery document, to be printed, as PDF to a new file (mode 0600).';
  static override description =
    'The words are asked for, and proved against the repository. On the document are the words, with QR codes of them and of the age key that derives from them, an imported agent key (encrypted), what they belong to, and how to recover with holdfast and without.';
  static override examples = [
    'holdfast paper create --output sheet.pdf',
    'holdfast paper create --output shares.pdf --shares 2of3 --size letter',
    'holdfast paper create --output sample.pdf --redact',
  ];
  static override flags = {
    output: Flags.string({ summary: 'The new file.', required: true, helpValue: 'FILE.pdf' }),
    size: Flags.option({ summary: 'Of the paper.', options: ['a4', 'letter'] as const, default: 'a4' as const })(),
    shares: Flags.string({
      summary: 'SLIP-39 shares in place of the words, a page each: how many restore, of how many.',
      helpValue: '2of3',
    }),
    redact: Flags.boolean({
      summary: 'A sample, with placeholders in place of all secrets. No secret is asked for or read.',
      default: false,
    }),
    ...restoreSecretFlags,
  };

  protected override async work(): Promise<Created> {
    const { flags } = this;
    const shares = flags.shares === undefined ? undefined : parseShareScheme(flags.shares);
    const output = resolve(flags.output);
    await checkAbsent(output); // before somebody types 24 words for nothing
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    checkApart(flags.output, 'recovery document', { state: config.state?.root, backends: config.backends });
    const result = await createPaper(
      {
        output,
        size: flags.size,
        shares,
        backends: config.backends,
        tool: this.tool,
        from: flags.redact ? await this.#sample(config) : await this.#root(config),
      },
      this.seams,
    );
    return { ...result, sample: flags.redact };
  }

  async #root(config: Config): Promise<CreatePaperOptions['from']> {
    const expected = await expectedRepository(config);
    const secret = await restoreSecret(this.flags, this.signal);
    return { kind: 'root', root: requireRoot(secret, 'the recovery document'), expected };
  }

  async #sample({ agent }: Config & Required<Pick<Config, 'agent'>>): Promise<CreatePaperOptions['from']> {
    const writerKey = await readWriterKeyIfAny(agent);
    return { kind: 'sample', handle: agent.handle, access: writerKey && accessOf(writerKey) };
  }

  protected override text({ file, pages, size, shares, fingerprint, codes, sample }: Created): string {
    const what = sample ? 'a sample' : shares ? `${shares.threshold} of ${shares.count} shares` : 'the recovery words';
    const next = sample
      ? ['Nothing in it is secret. It shows how the recovery document will look when it is printed.']
      : [
          'Print it now, at full size (100 %) and not over the network, and read it: are all words and codes clear?',
          'Then check the paper by typing it in: holdfast paper verify',
          `Then delete the file: shred -u ${file}`,
        ];
    return (
      facts({
        written: file,
        with: what,
        pages: `${count(pages, 'page')} (${size === 'a4' ? 'A4' : 'Letter'}), ${count(codes, 'QR code')}`,
        'agent key': fingerprint,
      }) + lines('', ...next)
    );
  }
}
