import * as Flags from '@oclif/core/flags';
import { HoldfastError } from '../../errors.ts';
import { openLook } from '../../operations/looking/open-look.ts';
import { formatDuration, parseDuration } from '../../units.ts';
import { HoldfastCommand } from '../base-command.ts';
import { requireSections } from '../config.ts';
import { expectedRepository, restoreSecret } from '../context.ts';
import { toJson } from '../output.ts';
import { lines } from '../render.ts';
import { restoreSecretFlags } from '../secrets.ts';

interface Ended {
  ended: 'quit' | 'idle' | 'interrupted';
}

export default class Browse extends HoldfastCommand<typeof Browse, Ended> {
  static override summary = 'Look into the snapshots in a browser on this machine: a page that changes nothing.';
  static override examples = ['holdfast browse --words-file words.txt'];
  static override flags = {
    port: Flags.integer({ summary: 'The port on 127.0.0.1; default any that is free.', min: 1, max: 65535 }),
    idle: Flags.string({ summary: 'End after so long without a request.', default: '15m', helpValue: 'TIME' }),
    ...restoreSecretFlags,
  };
  /** What is to be told is told when the page is there. */
  protected override readonly tellsItself = true;

  protected override async work(): Promise<Ended> {
    const idleMs = parseDuration(this.flags.idle);
    if (idleMs < 1000) throw new HoldfastError('usage', '--idle is too short', { hint: 'Give at least 1s.' });
    const config = requireSections(await this.loadConfig(), 'backends');
    const secret = await restoreSecret(this.flags, this.signal);
    const expected = await expectedRepository(config);
    await using look = await openLook({ backends: config.backends, secret, expected }, this.seams);
    this.warnAll(look.warnings);
    const { startBrowse } = await import('../browse/server.ts');
    const { clock, random, signal } = this;
    const page = await startBrowse(look, { port: this.flags.port ?? 0, idleMs, clock, random, signal });
    const { url, port } = page;
    const ready = this.flags.json
      ? toJson({ url, port }, {})
      : lines(
          `Open this in a browser on this machine; it works once: ${url}`,
          `Ends with Ctrl-C, with Quit on the page, or after ${formatDuration(idleMs)} without a request.`,
          `From another machine: ssh -L ${port}:127.0.0.1:${port} THIS-HOST, then open it there.`,
        );
    await this.stdout(Buffer.from(ready));
    return { ended: await page.ended };
  }

  protected override text(): string {
    return '';
  }
}
