import { resolve } from 'node:path';
import * as Flags from '@oclif/core/flags';
import { HoldfastError, messageOf } from '../../../errors.ts';
import { alertRules, DEFAULT_ALERTS, type RuleFile } from '../../../fleet/alerts.ts';
import { replaceFile } from '../../../operations/host/runs.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { agentAges } from '../../fleet/serve-context.ts';
import { count, lines } from '../../render.ts';

interface Alerts extends RuleFile {
  /** Where they were written; null: nowhere. */
  file: string | null;
}

const HEAD =
  '# Written by `holdfast fleet alerts`. Change `fleet.alerts` in the config and write it again; see docs/monitoring.md.\n';

export default class FleetAlerts extends HoldfastCommand<typeof FleetAlerts, Alerts> {
  static override summary = 'Alert rules for Prometheus over what `fleet serve` tells.';
  static override description =
    'Thresholds are those of `fleet.alerts`, and the ages of backups and drills that agents ask for.';
  static override examples = [
    'holdfast fleet alerts --output /etc/prometheus/rules/holdfast.yaml && promtool check rules /etc/prometheus/rules/holdfast.yaml',
  ];
  static override flags = {
    output: Flags.string({ summary: 'Write them to this file, as a whole; default stdout.', helpValue: 'FILE' }),
  };
  #yaml = '';

  protected override async work(): Promise<Alerts> {
    const config = await this.loadConfig();
    const rules = alertRules(config.fleet?.alerts ?? DEFAULT_ALERTS, await agentAges(config));
    const { stringify } = await import('yaml');
    this.#yaml = HEAD + stringify(rules, { lineWidth: 0 });
    const { output } = this.flags;
    const file = output === undefined ? null : resolve(output);
    if (file !== null) write(file, this.#yaml);
    return { ...rules, file };
  }

  protected override text({ file, groups }: Alerts): string {
    if (file === null) return this.#yaml;
    const many = groups.reduce((sum, { rules }) => sum + rules.length, 0);
    return lines(`${count(many, 'rule')} written to ${file}`);
  }
}

function write(file: string, text: string): void {
  try {
    replaceFile(file, text, 0o644);
  } catch (error) {
    throw new HoldfastError('io', `cannot write ${file}: ${messageOf(error)}`, {
      hint: 'Give another --output, or make its folder.',
      cause: error,
    });
  }
}
