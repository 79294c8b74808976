import * as Flags from '@oclif/core/flags';
import { doctor, WITHIN, type DoctorResult } from '../../drill/doctor.ts';
import { isHoldfastError, type HoldfastError } from '../../errors.ts';
import type { LogOptions } from '../../operations/identity-log.ts';
import { readRuns } from '../../operations/host/runs.ts';
import { HoldfastCommand } from '../base-command.ts';
import type { Config } from '../config.ts';
import { requireSections } from '../config.ts';
import { logOptions, readHostKeys } from '../context.ts';
import { readKeptDrills } from '../drill/kept.ts';
import { EXIT } from '../exit-codes.ts';
import { facts, lines, warningLines } from '../render.ts';
import { runsPath } from '../run-report.ts';

export default class Doctor extends HoldfastCommand<typeof Doctor, DoctorResult> {
  static override summary = 'How much the agent would survive: its level, the evidence, and what to do next.';
  static override description =
    'Level 0: ephemeral. 1: state in files. 2: encrypted backups in different places, fresh and verified. 3: identity recoverable: paper verified, drill passed. 4: several instances. Nothing counts that was not looked at. Exit code 15 below the level that is required.';
  static override flags = {
    require: Flags.integer({ summary: 'The level below which the exit code is 15.', default: 2, min: 0, max: 4 }),
  };
  protected override readonly triesAgain = true;

  protected override async work(): Promise<DoctorResult> {
    const config = requireSections(await this.loadConfig(), 'agent', 'backends');
    const log = await hostLog(config);
    const runs = readRuns(runsPath(process.env, config.path));
    return doctor(
      {
        ...(config.state && { state: config.state }),
        backends: config.backends,
        require: config.commit.require,
        log,
        keyFiles: [config.agent.identity, config.agent.writerKey],
        runs,
        paperMs: runs.paperMs,
        drills: await readKeptDrills(config),
        within: {
          ...WITHIN,
          ...(config.drill && { drillMs: config.drill.everyMs }),
          ...(config.drill?.rpoMs !== undefined && { backupMs: config.drill.rpoMs }),
        },
      },
      this.seams,
    );
  }

  protected override exitCode({ level }: DoctorResult) {
    return level < this.flags.require ? EXIT.unhealthy : EXIT.done;
  }

  protected override text({ level, name, levels, triangle, next, warnings }: DoctorResult): string {
    return (
      warningLines(warnings) +
      lines(`Level ${level} of 4: ${name}`, '') +
      levels
        .map(({ level: one, name: what, met, evidence }) =>
          lines(
            `${met ? '[x]' : '[ ]'} ${one} ${what}`,
            ...evidence.map(({ ok, name: asked, found }) => `      ${ok ? 'ok' : '--'}  ${asked}: ${found}`),
          ),
        )
        .join('') +
      lines('') +
      facts(
        Object.fromEntries(
          Object.entries(triangle).map(([corner, { safe, found }]) => [
            corner,
            `${safe ? 'safe' : 'AT RISK'}: ${found}`,
          ]),
        ),
      ) +
      lines(
        '',
        next ? `Next: ${next.command}\n`.trimEnd() : 'Nothing is left to do.',
        ...(next ? [`      ${next.why}`] : []),
      )
    );
  }
}

/** What cannot be used is told, as what lacks. */
async function hostLog(config: Required<Pick<Config, 'agent' | 'backends'>>): Promise<LogOptions | HoldfastError> {
  try {
    await readHostKeys(config.agent);
    return await logOptions(config);
  } catch (error) {
    if (!isHoldfastError(error)) throw error;
    return error;
  }
}
