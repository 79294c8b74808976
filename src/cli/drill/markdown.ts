/** A drill as Markdown (CommonMark with tables): for an issue, a wiki, a pull request. */
import { escapeForDisplay } from '../../raw-path.ts';
import type { DrillResult, ScenarioResult } from '../../drill/result.ts';
import { drillFacts, lossText, notRunText, secondsText, verdictOf } from './wording.ts';

export function drillMarkdown(result: DrillResult): string {
  const { scenarios, notRun, warnings } = result;
  return [
    `# Migration drill${result.agent ? ` of ${text(result.agent.handle)}` : ''}: ${verdictOf(result)}`,
    '',
    ...drillFacts(result).map(([name, value]) => `- ${name}: ${text(value)}`),
    '',
    '| scenario | | checks | recovery | would be lost | identity |',
    '| --- | --- | ---: | ---: | ---: | --- |',
    ...scenarios.map(row),
    ...notRun.map((one) => `| ${text(one.name)} | not run | | | | ${text(notRunText(one))} |`),
    '',
    ...scenarios.flatMap(section),
    ...(warnings.length > 0 ? ['## Warnings', '', ...warnings.map(({ message }) => `- ${text(message)}`), ''] : []),
  ].join('\n');
}

function row({ name, ok, checks, recoverySeconds, dataLoss, identity }: ScenarioResult): string {
  const passed = checks.filter((check) => check.ok).length;
  return `| ${[
    text(name),
    ok ? 'passed' : '**FAILED**',
    `${passed} of ${checks.length}`,
    secondsText(recoverySeconds),
    lossText(dataLoss),
    identity.continuous ? 'continuous' : '**not proved**',
  ].join(' | ')} |`;
}

function section({ name, title, ok, checks, skipped, steps, error }: ScenarioResult): string[] {
  return [
    `## ${text(name)}: ${ok ? 'passed' : 'FAILED'}`,
    '',
    text(title),
    '',
    ...(error ? [`**It could not be gone through: ${text(error.message)}**`, ''] : []),
    steps.map((step) => `${step.name} ${secondsText(step.seconds)}`).join(', '),
    '',
    ...checks.map((check) => `- ${check.ok ? 'ok' : '**FAILED**'} ${text(check.name)}: ${text(check.detail)}`),
    ...skipped.map((check) => `- not looked at: ${text(check.name)}: ${text(check.why)}`),
    '',
  ];
}

/** As text, whatever is in it: names and evidence come from files. */
function text(value: string): string {
  return escapeForDisplay(value)
    .replaceAll(/[\\`*_{}[\]<>#|~&!]/g, (c) => `\\${c}`)
    .replace(/^[-+=]/, '\\$&')
    .replace(/^(\d+)([.)])(?= )/, '$1\\$2');
}
