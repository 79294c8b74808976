/** What all commands share: the global flags, one result rendered as text or JSON, progress, interruption. */
import { Command } from '@oclif/core/command';
import { setFlagsFromString } from 'node:v8';
import * as Flags from '@oclif/core/flags';
import type { Interfaces } from '@oclif/core';
import { systemClock, systemRandom } from '../clock.ts';
import { HoldfastError } from '../errors.ts';
import type { Warning } from '../entry.ts';
import type { Seams } from '../operations/seams.ts';
import type { Progress } from '../progress.ts';
import type { Config } from './config.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { breakerPath } from './context.ts';
import { sshDefaults } from './ssh.ts';
import { toJson, writeStdout } from './output.ts';
import { createProgress, type ProgressDisplay } from './progress.ts';
import { warningLines } from './render.ts';

type FlagsOf<T extends typeof Command> = Interfaces.InferredFlags<(typeof HoldfastCommand)['baseFlags'] & T['flags']>;
type ArgsOf<T extends typeof Command> = Interfaces.InferredArgs<T['args']>;

/**
 * A command: `work` does it and returns data (what --json prints), `text` renders the same data for people, `exitCode`
 * judges it. What `work` throws becomes the error report. `T` is the class itself, `R` the result:
 *
 *     export default class Snapshots extends HoldfastCommand<typeof Snapshots, SnapshotInfo[]> { … }
 */
export abstract class HoldfastCommand<T extends typeof Command, R> extends Command {
  static override baseFlags = {
    config: Flags.string({
      summary: 'Config file; default $HOLDFAST_CONFIG, then ./holdfast.yaml, then the XDG config folder.',
      helpValue: 'PATH',
      helpGroup: 'GLOBAL',
    }),
    json: Flags.boolean({ summary: 'Print the result as one JSON document.', helpGroup: 'GLOBAL' }),
    quiet: Flags.boolean({ summary: 'Show no progress.', helpGroup: 'GLOBAL' }),
  };

  protected flags!: FlagsOf<T>;
  protected args!: ArgsOf<T>;
  protected readonly clock = systemClock;
  protected readonly random = systemRandom;
  readonly #interruption = new AbortController();
  #display: ProgressDisplay | undefined;

  /** Does the command's work. Writes nothing to stdout, except where the result is bytes (see `stdout`). */
  protected abstract work(): Promise<R>;
  /** The same with what goes around it. */
  protected perform(): Promise<R> {
    return this.work();
  }
  /** The result for people, with a line feed after each line; '' for nothing to say. */
  protected abstract text(result: R): string;
  /** The exit code of a run that has a result. */
  protected exitCode(_result: R): ExitCode {
    return EXIT.done;
  }

  /** Aborted by `interruptedBy`, with a HoldfastError `interrupted`. */
  protected get signal(): AbortSignal {
    return this.#interruption.signal;
  }

  /** Shows progress on stderr, as far as --quiet and the terminal allow. */
  protected readonly progress: Progress = (event) => this.#display?.report(event);

  /** True for commands that try every backend, whatever earlier runs found out: somebody asked for it. */
  protected readonly triesAgain: boolean = false;

  /** True for commands that write what they have to say by themselves, while they run. */
  protected readonly tellsItself: boolean = false;

  /** True for commands that see to signals themselves: they stand in for another program. */
  protected readonly takesSignals: boolean = false;

  /** What interrupts it. */
  protected readonly interruptedBy: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];

  /** All operands, of commands that take any number. */
  protected operands: readonly string[] = [];

  /** What operations are given. */
  protected get seams(): Seams {
    const ssh = sshDefaults(process.env);
    return {
      clock: this.clock,
      random: this.random,
      signal: this.signal,
      progress: this.progress,
      openBackend: async (address, options) => {
        const { openBackend } = await import('../backend/open.ts');
        const { fileBreakerStore, forgetBreaker } = await import('../operations/host/breaker-file.ts');
        const breakerOf = (url: string) => {
          const path = breakerPath(process.env, url);
          if (this.triesAgain || options.insist) forgetBreaker(path);
          return fileBreakerStore(path);
        };
        return openBackend(address, { ...options, ssh, breakerOf });
      },
    };
  }

  /** `holdfast/<version>`, for the records. */
  protected get tool(): string {
    return `${this.config.name}/${this.config.version}`;
  }

  /** Tells warnings on stderr, where the result has no place for them. */
  protected warnAll(warnings: readonly Warning[]): void {
    this.#display?.end();
    process.stderr.write(warningLines(warnings));
  }

  /** The config that --config, the environment or the current folder points at; throws `config_invalid`. */
  protected async loadConfig(): Promise<Config> {
    const { findConfigPath, loadConfig } = await import('./config.ts');
    return loadConfig(findConfigPath(this.flags.config, process.env, process.cwd()));
  }

  /** The same, or undefined when there is none and none was named. */
  protected async loadConfigIfAny(): Promise<Config | undefined> {
    const { findConfigPath, loadConfig } = await import('./config.ts');
    let path: string;
    try {
      path = findConfigPath(this.flags.config, process.env, process.cwd());
    } catch {
      return undefined;
    }
    return loadConfig(path);
  }

  /** Writes raw bytes as the result; false when nobody reads any more, and the command may stop. */
  protected stdout(bytes: Uint8Array): Promise<boolean> {
    return writeStdout(bytes);
  }

  override async init(): Promise<void> {
    await super.init();
    const { flags, args, argv } = await this.parse({
      flags: this.ctor.flags,
      baseFlags: HoldfastCommand.baseFlags,
      args: this.ctor.args,
      strict: this.ctor.strict,
    });
    this.flags = flags as FlagsOf<T>;
    this.args = args as ArgsOf<T>;
    this.operands = argv.map(String);
  }

  override async run(): Promise<void> {
    if (!this.takesSignals) for (const signal of this.interruptedBy) process.on(signal, this.#interrupt);
    keepYoungGenerationSmall();
    this.#display = createProgress(process.stderr, { quiet: this.flags.quiet, clock: this.clock });
    try {
      const result = await this.perform();
      this.#display.end();
      if (!this.tellsItself) await writeStdout(this.flags.json ? toJson(result) : this.text(result));
      process.exitCode = this.exitCode(result);
    } finally {
      this.#display.end();
      for (const signal of this.interruptedBy) process.off(signal, this.#interrupt);
    }
  }

  override catch(error: Error): Promise<never> {
    return Promise.reject(error); // reported in one place, by main
  }

  /** The first signal asks the work to stop where everything is valid, the second ends the process at once. */
  readonly #interrupt = (): void => {
    if (this.signal.aborted) process.exit(EXIT.interrupted);
    this.#interruption.abort(
      new HoldfastError('interrupted', 'interrupted', { hint: 'What was finished is kept; run it again to go on.' }),
    );
  };
}

const [NODE_MAJOR] = process.versions.node.split('.').map(Number);

/**
 * Left alone, V8 lets a hundred megabytes of short-lived strings gather before it looks at them. The flag is not of Node's API, so it is set
 * only where it is known. At the end it is what it was: V8 uses compiled code again only under the flags it was stored under.
 */
function keepYoungGenerationSmall(): void {
  if (NODE_MAJOR === undefined || NODE_MAJOR > 24) return;
  setFlagsFromString('--semi-space-growth-factor=1');
  process.once('exit', () => setFlagsFromString('--semi-space-growth-factor=2'));
}
