import * as Flags from '@oclif/core/flags';
import { BUILT_IN_SCENARIOS, selectCases } from '../../../drill/scenario.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { allScenarios } from '../../drill/context.ts';
import { table } from '../../render.ts';

interface ListedScenario {
  name: string;
  title: string;
  description: string | null;
  builtIn: boolean;
  /** What it recovers with, the first that is given. */
  with: readonly string[];
}

export default class DrillList extends HoldfastCommand<typeof DrillList, ListedScenario[]> {
  static override summary = 'List the scenarios that can be run.';
  static override flags = {
    scenario: Flags.string({
      summary: 'A scenario of your own, or a folder of them; may be given again.',
      helpValue: 'FILE',
      multiple: true,
      multipleNonGreedy: true,
      default: [],
    }),
  };

  protected override async work(): Promise<ListedScenario[]> {
    const config = await this.loadConfigIfAny();
    const scenarios = await allScenarios(config, this.flags.scenario);
    const backends = config?.backends?.map(({ name }) => name) ?? ['NAME'];
    return selectCases(scenarios, [], backends).map(({ name, scenario }) => ({
      name,
      title: scenario.title,
      description: scenario.description ?? null,
      builtIn: BUILT_IN_SCENARIOS.some((one) => one === scenario.name),
      with: scenario.recover.with,
    }));
  }

  protected override text(result: ListedScenario[]): string {
    return table(
      ['SCENARIO', 'WHAT HAPPENS'],
      result.map(({ name, title }) => [name, title]),
    );
  }
}
