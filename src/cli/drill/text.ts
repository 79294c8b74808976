/** The result of a drill, for people. */
import type { DrillResult, ScenarioResult } from '../../drill/result.ts';
import { formatDuration, formatSize } from '../../units.ts';
import { count, lines, warningLines } from '../render.ts';
import { notRunText, secondsText } from './wording.ts';

/** The drill before, of those that are kept. */
export interface DrillBefore {
  started: string;
  ok: boolean;
  recoverySeconds: number | null;
}

export function drillText(result: DrillResult, before: DrillBefore | null): string {
  const { scenarios, notRun, backends, warnings } = result;
  const width = Math.max(0, ...[...scenarios, ...notRun].map(({ name }) => name.length));
  return (
    warningLines(warnings) +
    lines(
      ...scenarios.flatMap((one) => scenarioLines(one, width)),
      ...notRun.map((one) => `not run  ${one.name.padEnd(width)}  ${notRunText(one)}`),
      ...backends.flatMap(({ name, error }) =>
        error === undefined ? [] : [error.includes(name) ? error : `backend ${name}: ${error}`],
      ),
      '',
      ...summary(result),
      ...(before === null
        ? []
        : [
            `the drill before, ${before.started}: ${before.ok ? 'passed' : 'did not pass'}, slowest recovery ${secondsText(before.recoverySeconds)}`,
          ]),
    )
  );
}

function scenarioLines({ name, ok, checks, recoverySeconds, error, title }: ScenarioResult, width: number): string[] {
  const took = recoverySeconds === null ? 'not recovered' : `recovered in ${formatDuration(recoverySeconds * 1000)}`;
  const head = `${ok ? 'passed ' : 'FAILED '}  ${name.padEnd(width)}  ${took}, ${count(checks.length, 'check')}`;
  if (ok) return [head];
  const failed = checks.filter((one) => !one.ok).map((one) => `    ${one.name}: ${one.detail}`);
  return [`${head}: ${title}`, ...failed, ...(error?.hint ? [`    ${error.hint}`] : [])];
}

function summary({ ok, scenarios, notRun, objectives, agent, seconds }: DrillResult): string[] {
  const failed = scenarios.filter((one) => !one.ok).length;
  const missing = notRun.filter(({ accepted }) => accepted === undefined).length;
  const without = notRun.length === 0 ? '' : `; done without: ${notRun.map(({ name }) => name).join(', ')}`;
  const who = agent ? `${agent.handle} (${agent.fingerprint})` : 'the agent';
  const loss = scenarios.find(({ dataLoss }) => dataLoss?.bytes !== null && dataLoss)?.dataLoss;
  const { rto, rpo } = objectives;
  const against = (most: number | null) => (most === null ? '' : ` (objective: ${formatDuration(most * 1000)})`);
  return [
    ok
      ? `The drill passed: ${who} came back in all of ${count(scenarios.length, 'scenario')}, in ${formatDuration(seconds * 1000)}${without}.`
      : failed > 0
        ? `The drill FAILED: ${failed} of ${count(scenarios.length, 'scenario')}.`
        : `The drill is INCOMPLETE: ${count(scenarios.length, 'scenario')} passed, ${missing} could not be run. Give what is missing, or say why you do without (\`drill.without\`).`,
    ...(rto.seconds === null
      ? []
      : [`slowest recovery: ${formatDuration(rto.seconds * 1000)}${against(rto.mostSeconds)}`]),
    ...(rpo.seconds === null
      ? []
      : [`newest snapshot: ${formatDuration(rpo.seconds * 1000)} old${against(rpo.mostSeconds)}`]),
    ...(loss && loss.files !== null && loss.bytes !== null
      ? [`a disaster now would lose: ${count(loss.files, 'file')}, about ${formatSize(loss.bytes)}`]
      : []),
  ];
}
