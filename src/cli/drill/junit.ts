/**
 * A drill as JUnit XML, which CI systems show: a suite a scenario, a case a check. The form is the one that Jenkins' xunit plugin has a schema for
 * (junit-10.xsd), of which others read parts.
 */
import type { DrillResult, NotRun, ScenarioResult } from '../../drill/result.ts';
import { notRunText } from './wording.ts';

export function drillJunit(result: DrillResult): string {
  const { scenarios, notRun } = result;
  const suites = [...scenarios.map((scenario) => suite(scenario, result.started)), ...notRun.map(notRunSuite)];
  const tests = scenarios.reduce((sum, { checks, skipped }) => sum + checks.length + skipped.length + 1, notRun.length);
  const failures = scenarios.reduce((sum, { checks }) => sum + checks.filter(({ ok }) => !ok).length, 0);
  const errors = scenarios.filter(({ error }) => error).length;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites${attributes({ name: `holdfast drill of ${result.agent?.handle ?? 'an agent'}`, tests, failures, errors, time: result.seconds })}>`,
    ...suites,
    '</testsuites>',
    '',
  ].join('\n');
}

/** A case a check, and one for the scenario itself: that it went through to its end. */
function suite({ name, title, checks, skipped, steps, error }: ScenarioResult, time: string): string {
  const failures = checks.filter(({ ok }) => !ok).length;
  const seconds = round(steps.reduce((sum, step) => sum + step.seconds, 0));
  const counts = { failures, errors: error ? 1 : 0, skipped: skipped.length };
  const head = { name, tests: checks.length + skipped.length + 1, ...counts, time: seconds };
  const gone = error
    ? [`      <error${attributes({ message: error.message, type: error.code })}/>`]
    : [`      <system-out>${escape(title)}</system-out>`];
  return [
    // The form has no zone.
    `  <testsuite${attributes({ ...head, timestamp: time.replace(/(\.\d+)?Z$/, '') })}>`,
    ...testCase(name, 'ran', gone, seconds),
    ...checks.flatMap((check) => {
      const told = escape(`${check.detail}\n${JSON.stringify(check.evidence, undefined, 1)}`);
      if (check.ok) return testCase(name, check.name, [`      <system-out>${told}</system-out>`]);
      return testCase(name, check.name, [
        `      <failure${attributes({ message: check.detail, type: 'check' })}>${told}</failure>`,
      ]);
    }),
    ...skipped.flatMap((one) => testCase(name, one.name, [`      <skipped${attributes({ message: one.why })}/>`])),
    '  </testsuite>',
  ].join('\n');
}

function testCase(classname: string, name: string, body: readonly string[], time = 0): string[] {
  return [`    <testcase${attributes({ classname, name, time })}>`, ...body, '    </testcase>'];
}

function notRunSuite(one: NotRun): string {
  const { name } = one;
  return [
    `  <testsuite${attributes({ name, tests: 1, failures: 0, errors: 0, skipped: 1, time: 0 })}>`,
    ...testCase(name, 'ran', [`      <skipped${attributes({ message: notRunText(one) })}/>`]),
    '  </testsuite>',
  ].join('\n');
}

const round = (seconds: number): number => Math.round(seconds * 1000) / 1000;

function attributes(values: Readonly<Record<string, string | number>>): string {
  return Object.entries(values)
    .map(([name, value]) => ` ${name}="${escape(String(value))}"`)
    .join('');
}

/** XML 1.0 has no place for most control characters, escaped or not, nor for half a surrogate pair. */
function escape(value: string): string {
  return value
    .toWellFormed()
    .replaceAll(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '\ufffd')
    .replaceAll(/[&<>"'\t\n\r]/g, (c) => `&#${c.charCodeAt(0)};`);
}
