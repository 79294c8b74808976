/** Reports of a drill as files, each in the form that its name asks for. */
import { accessSync, constants, statSync, writeFileSync } from 'node:fs';
import { dirname, extname, resolve } from 'node:path';
import { HoldfastError, messageOf } from '../../errors.ts';
import { longestRecovery, type KeptDrill } from '../../drill/history.ts';
import type { DrillResult } from '../../drill/result.ts';
import { toJson } from '../output.ts';
import { drillJunit } from './junit.ts';
import { drillMarkdown } from './markdown.ts';
import { drillPage } from './page.ts';

/** What a report is made of: the drill, and those before it, oldest first. */
type Form = (result: DrillResult, before: readonly KeptDrill[]) => string;

const FORMS: Readonly<Record<string, Form>> = {
  '.md': drillMarkdown,
  '.html': (result, before) =>
    drillPage(
      result,
      before.map(({ result: { started: time, ok, ...rest } }) => {
        return { time, ok, recoverySeconds: longestRecovery(rest) ?? 0 };
      }),
    ),
  '.xml': drillJunit,
  '.json': (result) => toJson(result),
};

export interface Report {
  path: string;
  render: Form;
}

/** Before the drill, so that a name that cannot be is no surprise after it. @throws `usage` */
export function planReports(paths: readonly string[]): Report[] {
  return paths.map((path) => {
    const render = FORMS[extname(path).toLowerCase()];
    if (!render) {
      throw new HoldfastError('usage', `${path} does not say what form the report is to have`, {
        hint: 'End its name in .md (Markdown), .html (a page), .xml (JUnit) or .json.',
      });
    }
    checkWritable(resolve(path));
    return { path: resolve(path), render };
  });
}

/** As far as can be told without writing. A pipe would wait for whoever reads it. */
function checkWritable(path: string): void {
  let why: string | undefined;
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found && !found.isFile()) why = 'it is no plain file';
    else accessSync(found ? path : dirname(path), constants.W_OK);
  } catch (error) {
    why = messageOf(error);
  }
  if (why === undefined) return;
  throw new HoldfastError('usage', `the report ${path} could not be written after the drill: ${why}`, {
    hint: 'Make its folder, or name another file.',
  });
}

/** A report of an earlier drill under the name is replaced. @throws `io` */
export function writeReports(reports: readonly Report[], result: DrillResult, before: readonly KeptDrill[]): void {
  for (const { path, render } of reports) {
    try {
      writeFileSync(path, render(result, before), { mode: 0o644 });
    } catch (cause) {
      throw new HoldfastError('io', `the report ${path} cannot be written: ${messageOf(cause)}`, {
        hint: 'Make its folder; the drill itself is in `holdfast drill history`.',
        cause,
      });
    }
  }
}
