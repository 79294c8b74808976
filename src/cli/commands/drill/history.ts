import * as Flags from '@oclif/core/flags';
import { longestRecovery, type KeptDrill } from '../../../drill/history.ts';
import { mergeDrills, readDrillsOn } from '../../../drill/stored.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { readKeptDrills, storeOptions } from '../../drill/kept.ts';
import { secondsText } from '../../drill/wording.ts';
import { lines, table, warningLines } from '../../render.ts';

interface HistoryRow {
  id: string;
  started: string;
  ok: boolean;
  /** Names of scenarios: those that passed, those that failed, and those that were not run. */
  passed: string[];
  failed: string[];
  notRun: string[];
  /** The longest of them. */
  recoverySeconds: number | null;
  /** The age of what a disaster would have brought back. */
  dataLossSeconds: number | null;
  /** False for a drill of an earlier key of the agent. */
  isCurrent: boolean;
}

interface HistoryResult {
  drills: HistoryRow[];
  warnings: { code: string; message: string }[];
}

export default class DrillHistory extends HoldfastCommand<typeof DrillHistory, HistoryResult> {
  static override summary = 'The drills so far on this host, each signed by the agent, oldest first.';
  static override flags = {
    'from-backends': Flags.boolean({ summary: 'With those that were put on the backends (`drill run --store`).' }),
  };

  protected override async work(): Promise<HistoryResult> {
    const config = requireSections(await this.loadConfig(), 'agent');
    const kept = await readKeptDrills(config);
    const none = { drills: [], problems: [], warnings: [] };
    const on = this.flags['from-backends']
      ? await readDrillsOn(await storeOptions(requireSections(config, 'agent', 'backends')), this.seams)
      : none;
    const unreadable = [...kept.problems, ...on.problems].map(({ file, message }) => {
      return { code: 'drill_unreadable', message: `${file}: ${message}` };
    });
    return { drills: mergeDrills(kept.drills, on.drills).map(row), warnings: [...unreadable, ...on.warnings] };
  }

  protected override text({ drills, warnings }: HistoryResult): string {
    const told = warningLines(warnings);
    if (drills.length === 0) return told + lines('No drill yet: run `holdfast drill run`.');
    const longest = Math.max(...drills.map(({ recoverySeconds }) => recoverySeconds ?? 0), 0.001);
    return (
      told +
      table(
        ['begun', '', 'recovery', '', 'data loss', 'failed', 'not run'],
        drills.map(({ started, ok, recoverySeconds, dataLossSeconds, failed, notRun, isCurrent }) => [
          started.replace(/\.\d+Z$/, 'Z'),
          `${ok ? 'passed' : failed.length > 0 ? 'FAILED' : 'in part'}${isCurrent ? '' : ' (earlier key)'}`,
          secondsText(recoverySeconds),
          '#'.repeat(Math.ceil(((recoverySeconds ?? 0) / longest) * 12)),
          secondsText(dataLossSeconds),
          failed.join(', '),
          notRun.join(', '),
        ]),
      )
    );
  }
}

function row({ id, result, isCurrent }: KeptDrill): HistoryRow {
  const { started, ok, scenarios, notRun, objectives } = result;
  const names = (passed: boolean) => scenarios.filter((one) => one.ok === passed).map(({ name }) => name);
  return {
    id,
    started,
    ok,
    passed: names(true),
    failed: names(false),
    notRun: notRun.map(({ name }) => name),
    recoverySeconds: longestRecovery(result),
    dataLossSeconds: objectives.rpo.seconds,
    isCurrent,
  };
}
