/** What every page has, and the small parts that many have. */
import { escapeForDisplay } from '../../../raw-path.ts';
import { formatDuration } from '../../../units.ts';
import type { AgentView, LayerHealth } from '../../../fleet/health.ts';
import { html, type Html } from '../../browse/html.ts';
import { formatTime } from '../../render.ts';
import type { Visitor } from './gate.ts';

export interface Page {
  title: string;
  body: Html;
  /** That it is worth looking at again by itself; not where somebody fills in a form. */
  refreshes?: boolean;
}

/** Where a page is shown and to whom. */
export interface Place {
  /** The path that addresses begin with; ends with a slash. */
  root: string;
  /** The host that the fleet is looked at from. */
  host: string;
  visitor: Visitor | undefined;
}

const WITHOUT_SCRIPT_SECONDS = 20;

export function layout({ title, body, refreshes = false }: Page, { root, host, visitor }: Place): string {
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${title} – ${shown(host)} – holdfast</title>
        <link rel="stylesheet" href="${root}style.css" />
        <link rel="icon" href="data:," />
        ${refreshes && html`<noscript><meta http-equiv="refresh" content="${WITHOUT_SCRIPT_SECONDS}" /></noscript>`}
        <script src="${root}script.js" defer></script>
      </head>
      <body>
        <header>
          <a class="home" href="${root}">Fleet on ${shown(host)}</a>
          ${
            visitor?.kind === 'session' &&
            html`<form method="post" action="${root}logout">
              ${formField(visitor)}<button class="link small">Log out</button>
            </form>`
          }
        </header>
        <p id="old" class="notice bad" role="alert" hidden></p>
        <main${refreshes && html` data-refresh`}>${body}</main>
      </body>
    </html> `;
  return page.text;
}

/** What shows that a form is of this server. */
export function formField(visitor: Visitor | undefined): Html | undefined {
  return visitor?.kind === 'session' ? html`<input type="hidden" name="form" value="${visitor.form}" />` : undefined;
}

/** Text of agents, configs and strangers. */
export const shown = (text: string): string => escapeForDisplay(text);

/** How long ago. A moment to come is a clock that is wrong, and is shown as it is. */
export function ago(ms: number, nowMs: number): Html {
  const text = ms > nowMs + 2000 ? formatTime(ms) : `${formatAge(nowMs - ms)} ago`;
  return html`<time datetime="${new Date(ms).toISOString()}" title="${formatTime(ms)}">${text}</time>`;
}

/** In whole seconds and up, shortest first to read. */
export function formatAge(ms: number): string {
  return formatDuration(Math.max(0, Math.round(ms / 1000)) * 1000).replace(/^(\d+)\.0 s$/, '$1 s');
}

const STATE_CLASS: Readonly<Record<AgentView['state'], string>> = {
  healthy: 'good',
  degraded: 'warn',
  unhealthy: 'bad',
  starting: '',
  unknown: 'warn',
};

export function statePill(state: AgentView['state']): Html {
  return html`<span class="pill ${STATE_CLASS[state]}">${state}</span>`;
}

export function breakerPill(state: AgentView['breaker']['state']): Html {
  const tone = state === 'closed' ? 'good' : state === 'disabled' || state === 'half-open' ? 'warn' : 'bad';
  return html`<span class="pill ${tone}">${state}</span>`;
}

/** `failing` counts as ok, and is worth a look. */
export function layerText(health: LayerHealth | undefined): Html {
  if (!health) return html`<span class="dim" title="not looked at">–</span>`;
  const tone = { ok: 'good', failing: 'warn', recovering: 'warn', starting: '', down: 'bad', unseen: 'bad' }[
    health.status
  ];
  return html`<span class="${tone !== '' && `${tone}-text`}" title="${shown(health.last.evidence)}"
    >${health.status}</span
  >`;
}

/** The last looks, oldest left: where it was not well. */
export function looksStrip(history: AgentView['history']): Html {
  const runs: { from: number; to: number }[] = [];
  history.forEach(({ ok }, i) => {
    const last = runs.at(-1);
    if (ok) return;
    if (last?.to === i) last.to = i + 1;
    else runs.push({ from: i, to: i + 1 });
  });
  const bad = history.filter(({ ok }) => !ok).length;
  const told = history.length === 0 ? 'not looked at yet' : `${bad} of the last ${history.length} looks were not ok`;
  const width = Math.max(history.length, 1);
  return html`<svg class="looks" viewBox="0 0 ${width} 10" preserveAspectRatio="none" role="img" aria-label="${told}">
    <title>${told}</title>
    <rect class="${history.length > 0 ? 'back' : 'none'}" width="${width}" height="10" />
    ${runs.map(({ from, to }) => html`<rect class="bad" x="${from}" width="${to - from}" height="10" />`)}
  </svg>`;
}
