/** The last runs as Prometheus metrics, in the text form that node_exporter's textfile collector reads. */
import type { RunKind, RunRecord, Runs } from './host/runs.ts';

/** A gauge. A value that is not known is no sample. */
export interface Metric {
  name: string;
  help: string;
  samples: { labels?: Readonly<Record<string, string>>; value: number }[];
}

/**
 * Gauges only, without time stamps (the collector refuses them). A value that is not known yet is left out.
 * The names are part of what users rely on; see docs/schedule.md.
 */
export function renderMetrics(agent: string, runs: Runs): string {
  return runMetrics(runs)
    .map(({ name, help, samples }) =>
      [
        `# HELP ${name} ${help}`,
        `# TYPE ${name} gauge`,
        ...samples.map(({ labels, value }) => `${name}{${labelText({ agent, ...labels })}} ${value}`),
        '',
      ].join('\n'),
    )
    .join('');
}

/** Those of which something is known, without the label `agent`. */
export function runMetrics(runs: Runs): Metric[] {
  const all = (['backup', 'verify', 'sync', 'forget', 'drill'] as const).flatMap((kind) => {
    const run = runs[kind];
    return run === undefined ? [] : metricsOf(kind, run);
  });
  return all.filter(({ samples }) => samples.length > 0);
}

function metricsOf(kind: RunKind, run: RunRecord): Metric[] {
  const one = (name: string, help: string, value: number | undefined): Metric => ({
    name: `holdfast_last_${kind}_${name}`,
    help,
    samples: value === undefined ? [] : [{ value }],
  });
  const each = (
    name: string,
    help: string,
    label: string,
    values: Readonly<Record<string, number | boolean>> = {},
  ): Metric => ({
    name: `holdfast_last_${kind}_${name}`,
    help,
    samples: Object.entries(values).map(([key, value]) => ({ labels: { [label]: key }, value: Number(value) })),
  });
  return [
    one('timestamp_seconds', `When the last ${kind} ended, whatever it came to.`, run.endedMs / 1000),
    one('success_timestamp_seconds', `When the last ${kind} with exit code 0 ended.`, seconds(run.successMs)),
    one('duration_seconds', `How long the last ${kind} took.`, run.seconds),
    one('exit_code', `The exit code of the last ${kind}.`, run.exitCode),
    one('files', `Files in the snapshot of the last ${kind} that took one.`, run.files),
    each('bytes', `Bytes of the last ${kind} that had a result.`, 'kind', run.bytes),
    each('backend_committed', `1 when the backend holds what the last ${kind} wrote.`, 'backend', run.committed),
    one('damaged_objects', `Damaged objects that the last ${kind} found.`, run.damaged),
    one('recovery_seconds', `The longest recovery of the last ${kind} that recovered something.`, run.recoverySeconds),
    one(
      'data_loss_seconds',
      `The age of what came back in the last ${kind} that recovered something.`,
      run.dataLossSeconds,
    ),
    each('scenarios', `Scenarios of the last ${kind} by what became of them.`, 'outcome', run.scenarios),
  ];
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const escaped = (value: string) => value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${escaped(value)}"`)
    .join(',');
}
