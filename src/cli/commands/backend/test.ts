import * as Args from '@oclif/core/args';
import { testBackend, type BackendTestResult } from '../../../operations/backend-test.ts';
import { formatSize } from '../../../units.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { EXIT } from '../../exit-codes.ts';
import { facts, lines, table } from '../../render.ts';

export default class BackendTest extends HoldfastCommand<typeof BackendTest, BackendTestResult> {
  static override summary = 'Try on a backend all that holdfast relies on, and measure it.';
  static override description =
    'Works in a folder of its own there (backend-test/…), and takes it away again. What is stored is left alone.';
  static override examples = ['holdfast backend test cloud'];
  static override args = { name: Args.string({ description: 'The backend, as in the config.', required: true }) };

  protected override readonly triesAgain = true;

  protected override async work(): Promise<BackendTestResult> {
    const { backends } = requireSections(await this.loadConfig(), 'backends');
    return testBackend(backends, this.args.name, this.seams);
  }

  protected override exitCode({ ok }: BackendTestResult) {
    return ok ? EXIT.done : EXIT.failed;
  }

  protected override text({ name, ok, checks, capabilities, latencies, left }: BackendTestResult): string {
    const rows = checks.map(({ line, title, required, ok: good, problem, milliseconds }) => [
      String(line),
      good ? 'ok' : required ? 'FAILED' : 'missing',
      `${milliseconds} ms`,
      problem === null ? title : `${title}: ${problem}`,
    ]);
    const ms = (value: number) => `${value.toFixed(1)} ms`;
    const offered = Object.entries(capabilities).map(([what, has]) => `${what}: ${has ? 'yes' : 'no'}`);
    return (
      table(['line', 'result', 'time', 'what'], rows, ['line', 'time']) +
      lines('') +
      facts({
        capabilities: offered.length > 0 ? offered.join(', ') : undefined,
        'small objects': latencies
          ? `put ${ms(latencies.put)}, get ${ms(latencies.get)}, head ${ms(latencies.head)}, list ${ms(latencies.list)}`
          : undefined,
        '4 MiB': latencies
          ? `up ${formatSize(latencies.uploadBytesPerSecond)}/s, down ${formatSize(latencies.downloadBytesPerSecond)}/s`
          : undefined,
        left: left.length > 0 ? `${left.length} objects below backend-test/ could not be deleted` : undefined,
      }) +
      lines('', ok ? `${name} does all that is needed.` : `${name} does NOT do what is needed: do not rely on it.`)
    );
  }
}
