import * as Flags from '@oclif/core/flags';
import { hostname } from 'node:os';
import { demo, type DemoResult } from '../../drill/demo.ts';
import { HoldfastCommand } from '../base-command.ts';
import { EXIT } from '../exit-codes.ts';
import { lines } from '../render.ts';

export default class Demo extends HoldfastCommand<typeof Demo, DemoResult> {
  static override summary = 'Do the main job on a sample agent in a temporary folder, and check that it came back.';
  static override flags = {
    keep: Flags.boolean({ summary: 'Leave the temporary folder for a look at it.' }),
  };

  protected override async work(): Promise<DemoResult> {
    return demo({ keep: this.flags.keep, host: hostname(), tool: this.tool }, this.seams);
  }

  protected override exitCode({ ok }: DemoResult) {
    return ok ? EXIT.done : EXIT.drillFailed;
  }

  protected override text({ ok, steps, folder, seconds }: DemoResult): string {
    const width = Math.max(...steps.map(({ name }) => name.length));
    return lines(
      ...steps.map(
        ({ name, detail, seconds: taken }) => `${name.padEnd(width)}  ${taken.toFixed(2).padStart(5)} s  ${detail}`,
      ),
      '',
      ok
        ? `The agent is back: the same identity, the same state. It took ${seconds} s in all.`
        : 'FAILED: the agent that came back is not the one that was lost.',
      ...(folder === undefined ? [] : [`Everything is in ${folder}`]),
    );
  }
}
