/** A drill as one HTML page that needs nothing else: no script, no request. */
import { html, Html } from '../browse/html.ts';
import { escapeForDisplay } from '../../raw-path.ts';
import { longestRecovery } from '../../drill/history.ts';
import type { Check, DrillResult, ScenarioResult, StepResult } from '../../drill/result.ts';
import { formatDuration } from '../../units.ts';
import { drillFacts, lossText, notRunText, secondsText, verdictOf } from './wording.ts';

/** What the trend shows of an earlier drill. */
export interface Earlier {
  time: string;
  ok: boolean;
  /** The longest of its scenarios. */
  recoverySeconds: number;
}

const STYLE = `
:root { color-scheme: light dark; --line: #d4d4d8; --soft: #f4f4f5; --ink: #18181b; --dim: #52525b; --back: #fff; --good: #166534; --bad: #b91c1c; --bad-back: #fee2e2;
  --a: #a5b4fc; --b: #fca5a5; --c: #2563eb; --d: #86efac; --e: #fcd34d; --f: #d4d4d8; --g: #c4b5fd; }
@media (prefers-color-scheme: dark) { :root { --line: #3f3f46; --soft: #27272a; --ink: #f4f4f5; --dim: #a1a1aa; --back: #18181b; --good: #86efac; --bad: #fca5a5; --bad-back: #3b1818;
  --a: #4f46e5; --b: #b91c1c; --c: #60a5fa; --d: #15803d; --e: #b45309; --f: #52525b; --g: #7c3aed; } }
* { box-sizing: border-box; } body { margin: 0 auto; max-width: 1040px; padding: 16px; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); }
h1 { font-size: 1.5rem; line-height: 1.3; } h2 { font-size: 1.1rem; margin: 28px 0 6px; } h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; } .dim { color: var(--dim); }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; } dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--dim); font-size: .875rem; } th, td { padding: 6px 8px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
.scenario td:first-child { overflow-wrap: break-word; } .scenario td:nth-child(2) { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.scenario { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; margin: 12px 0; } .scenario.failed { border-color: var(--bad); }
.wide { overflow-x: auto; } svg { display: block; width: 100%; height: 22px; margin: 8px 0 2px; } svg.trend { height: 64px; }
.prepare { fill: var(--a); } .simulate { fill: var(--b); } .recover { fill: var(--c); } .check { fill: var(--d); } .measure { fill: var(--e); } .shadow { fill: var(--g); } .clean { fill: var(--f); }
.passed { fill: var(--good); } .failed-bar { fill: var(--bad); }
ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 14px; padding: 0; margin: 0; font-size: .8125rem; color: var(--dim); } .legend svg { display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 0; }
tr.bad-row td { background: var(--bad-back); }
`;

/** @param earlier the drills before, oldest first */
export function drillPage(result: DrillResult, earlier: readonly Earlier[]): string {
  const { scenarios, notRun, warnings } = result;
  const whose = result.agent ? ` of ${shown(result.agent.handle)}` : '';
  const word = verdictOf(result);
  const verdict = html`<span class="${result.ok ? 'good' : 'bad'}">${word}</span>`;
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'" />
        <title>Drill${whose}: ${word}</title>
        <style>
          ${new Html(STYLE)}
        </style>
      </head>
      <body>
        <main>
          <h1>Migration drill${whose}: ${verdict}</h1>
          <dl>
            ${drillFacts(result).map(
              ([name, value]) =>
                html`<dt>${name}</dt>
                  <dd>${shown(value)}</dd> `,
            )}
          </dl>
          ${
            warnings.length > 0 &&
            html`<h2>Warnings</h2>
              <ul>
                ${warnings.map(({ message }) => html`<li>${shown(message)}</li>`)}
              </ul>`
          }
          ${trend(earlier, result)}
          <h2>Scenarios</h2>
          ${scenarios.map((scenario) => card(scenario))}
          ${
            notRun.length > 0 &&
            html`<h2>Not run</h2>
              <ul>
                ${notRun.map((one) => html`<li><b>${shown(one.name)}</b>: ${shown(notRunText(one))}</li>`)}
              </ul>`
          }
        </main>
      </body>
    </html> `;
  return page.text;
}

const shown = (value: string): string => escapeForDisplay(value);

function card({ name, title, ok, checks, skipped, steps, error, ...measured }: ScenarioResult): Html {
  const { recoverySeconds, dataLoss, identity, secret } = measured;
  const how = secret === null ? '' : ` with ${secret}`;
  return html`<section class="scenario${ok ? '' : ' failed'}">
    <h3>${shown(name)}: ${ok ? html`<span class="good">passed</span>` : html`<span class="bad">FAILED</span>`}</h3>
    <p>${shown(title)}</p>
    ${error && html`<p class="bad">It could not be gone through: ${shown(error.message)}</p>`} ${timeline(steps)}
    <p class="dim">
      Recovered${how}: ${secondsText(recoverySeconds)}. A disaster now would lose: ${lossText(dataLoss)}. Identity
      ${identity.continuous ? 'continuous' : html`<span class="bad">not proved</span>`}.
    </p>
    <div class="wide">
      <table>
        <thead>
          <tr>
            <th>check</th>
            <th></th>
            <th>what was seen</th>
          </tr>
        </thead>
        <tbody>
          ${checks.map(
            (
              check,
            ) => html`<tr${check.ok ? '' : html` class="bad-row"`}><td>${shown(check.name)}</td><td>${check.ok ? html`<span class="good">ok</span>` : html`<span class="bad">FAILED</span>`}</td><td>${shown(check.detail)}${evidence(check)}</td></tr>
      `,
          )}${skipped.map(
            (check) =>
              html`<tr>
                <td>${shown(check.name)}</td>
                <td class="dim">-</td>
                <td class="dim">not looked at: ${shown(check.why)}</td>
              </tr> `,
          )}
        </tbody>
      </table>
    </div>
  </section> `;
}

function evidence({ evidence: seen }: Check): Html | undefined {
  const pairs = Object.entries(seen);
  if (pairs.length === 0) return undefined;
  const told = (value: Check['evidence'][string]) =>
    shown(typeof value === 'object' && value !== null ? value.join(', ') : String(value));
  return html`<details>
    <summary class="dim">evidence</summary>
    <dl>
      ${pairs.map(
        ([name, value]) =>
          html`<dt>${name}</dt>
            <dd>${told(value)}</dd>`,
      )}
    </dl>
  </details>`;
}

/** The steps one after the other, as wide as they are long. */
function timeline(steps: readonly StepResult[]): Html {
  const total = Math.max(
    steps.reduce((sum, { seconds }) => sum + seconds, 0),
    0.001,
  );
  let at = 0;
  const bars = steps.map(({ name, seconds }) => {
    const x = (at / total) * 1000;
    at += seconds;
    return html`<rect
      class="${classOf(name)}"
      x="${x.toFixed(1)}"
      y="0"
      width="${((seconds / total) * 1000).toFixed(1)}"
      height="20"
      ><title>${name}: ${formatDuration(seconds * 1000)}</title></rect
    >`;
  });
  const told = steps.map(({ name, seconds }) => `${name} ${formatDuration(seconds * 1000)}`).join(', ');
  return html`<svg viewBox="0 0 1000 20" preserveAspectRatio="none" role="img" aria-label="${told}">${bars}</svg>
    <ul class="legend">
      ${steps.map(
        ({ name, seconds }) =>
          html`<li>
            <svg viewBox="0 0 10 10" aria-hidden="true"><rect class="${classOf(name)}" width="10" height="10" /></svg
            >${name} ${formatDuration(seconds * 1000)}
          </li>`,
      )}
    </ul>`;
}

const classOf = (name: StepResult['name']): string => name.split(' ')[0] ?? '';

/** Recovery times of the drills so far; nothing for the first. */
function trend(earlier: readonly Earlier[], now: DrillResult): Html | undefined {
  if (earlier.length === 0) return undefined;
  const all = [...earlier.slice(-29), { time: now.started, ok: now.ok, recoverySeconds: longestRecovery(now) ?? 0 }];
  const most = Math.max(...all.map(({ recoverySeconds }) => recoverySeconds), 0.001);
  const width = 1000 / all.length;
  const bars = all.map(({ ok, recoverySeconds, time }, i) => {
    const height = Math.max(2, (recoverySeconds / most) * 60);
    return html`<rect
      class="${ok ? 'passed' : 'failed-bar'}"
      x="${(i * width).toFixed(1)}"
      y="${(62 - height).toFixed(1)}"
      width="${(width * 0.8).toFixed(1)}"
      height="${height.toFixed(1)}"
      ><title>${time}: ${ok ? 'passed' : 'failed'}, ${formatDuration(recoverySeconds * 1000)}</title></rect
    >`;
  });
  return html`<h2>Recovery time of the last ${all.length} drills</h2>
    <svg
      class="trend"
      viewBox="0 0 1000 64"
      preserveAspectRatio="none"
      role="img"
      aria-label="${all.map(({ ok, recoverySeconds }) => `${formatDuration(recoverySeconds * 1000)} ${ok ? 'passed' : 'failed'}`).join(', ')}"
    >
      ${bars}
    </svg>
    <p class="dim">The longest: ${formatDuration(most * 1000)}.</p>`;
}
