/** Commands that run by themselves, on a schedule: how a run went is told to whoever the config names. */
import type { Command } from '@oclif/core/command';
import * as Flags from '@oclif/core/flags';
import type { Hooks } from '../operations/hooks.ts';
import type { RunKind } from '../operations/host/runs.ts';
import { HoldfastCommand } from './base-command.ts';
import type { Config } from './config.ts';
import { toJson, writeStdout } from './output.ts';
import type { Reported, RunReport } from './run-report.ts';

/** For commands that `schedule` knows. */
export const dueFlag = {
  'if-due': Flags.boolean({ summary: 'Do nothing when the last run is not older than the last time it was due.' }),
};

export abstract class ReportedCommand<T extends typeof Command, R extends Reported> extends HoldfastCommand<T, R> {
  protected abstract readonly kind: RunKind;
  #config: Promise<Config> | undefined;
  #report: RunReport | undefined;

  /** To be run around the reading of the state. */
  protected get hooks(): Hooks | undefined {
    return this.#report?.hooks;
  }

  protected override loadConfig(): Promise<Config> {
    this.#config ??= super.loadConfig();
    return this.#config;
  }

  override async run(): Promise<void> {
    if ((this.flags as { 'if-due'?: boolean })['if-due'] && !(await this.isDue())) {
      await writeStdout(this.flags.json ? toJson({ skipped: 'not due' }) : 'not due\n');
      process.exitCode = 0;
      return;
    }
    await super.run();
  }

  protected override async perform(): Promise<R> {
    const config = await this.loadConfig();
    const { RunReport } = await import('./run-report.ts');
    const report = new RunReport({ kind: this.kind, config, env: process.env, seams: this.seams });
    this.#report = report;
    // A terminal that is closed must not leave the agent as `before` left it: the run goes on.
    const stay = (): void => {};
    if (report.hooks) process.on('SIGHUP', stay);
    try {
      return await this.#told(report);
    } finally {
      process.off('SIGHUP', stay);
    }
  }

  async #told(report: RunReport): Promise<R> {
    let result: R;
    try {
      report.check();
      result = await this.work();
    } catch (error) {
      this.warnAll(await report.failed(error));
      throw error;
    }
    const warnings = await report.done(result, this.exitCode(result));
    if (result.warnings) result.warnings.push(...warnings);
    else this.warnAll(warnings);
    return result;
  }

  /** For `--if-due`. */
  protected async isDue(): Promise<boolean> {
    const { isDue } = await import('./schedule-context.ts');
    return isDue(await this.loadConfig(), this.kind, this.clock.now(), process.env);
  }
}
