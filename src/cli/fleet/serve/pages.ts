/** The pages: the whole fleet, one agent, the way in. Everything of agents and events is text of strangers. */
import type { FleetEvent } from '../../../fleet/events.ts';
import { isDown, LAYERS, type AgentState, type AgentView, type FleetView } from '../../../fleet/health.ts';
import { isStale, momentOf } from '../../../fleet/metrics.ts';
import { LEVELS } from '../../../fleet/degradation.ts';
import type { Runs } from '../../../operations/host/runs.ts';
import { formatSize } from '../../../units.ts';
import { html, type Html } from '../../browse/html.ts';
import { count } from '../../render.ts';
import { adviceOn, byUrgency } from './advice.ts';
import {
  ago,
  breakerPill,
  formatAge,
  formField,
  layerText,
  looksStrip,
  shown,
  statePill,
  type Page,
  type Place,
} from './layout.ts';
import type { FleetLook } from './looks.ts';

const EVENTS_SHOWN = 25;
const PROBLEMS_SHOWN = 50;

export function fleetPage({ view, runs, events }: FleetLook, place: Place): Page {
  const agents = byUrgency(view.agents);
  const troubled = agents.filter((agent) => adviceOn(agent).length > 0);
  const many = count(view.agents.length, 'agent');
  const title =
    troubled.length === 0
      ? allWell(view)
      : `${troubled.length} of ${many} ${troubled.length === 1 ? 'needs' : 'need'} a look`;
  const body = html`<h1>${title}</h1>
    ${watcherNote(view)} ${levelNote(view)} ${tiles(view)}
    ${
      troubled.length > 0 &&
      html`<h2>What to do</h2>
        <ul class="problems">
          ${troubled.slice(0, PROBLEMS_SHOWN).map((agent) => problemItem(agent, view, place))}
        </ul>`
    }
    ${troubled.length > PROBLEMS_SHOWN && html`<p>… and ${troubled.length - PROBLEMS_SHOWN} more, in the table below.</p>`}
    <h2>Agents</h2>
    ${agentTable(agents, runs, view.atMs, place)}
    <h2>Events</h2>
    ${eventTable(events, view.atMs, place)}
    <footer>
      Looked at
      <time datetime="${new Date(view.atMs).toISOString()}">${new Date(view.atMs).toISOString().slice(0, 19)}Z</time>.
      <a href="${place.root}api/status">JSON</a> · <a href="${place.root}metrics">metrics</a>
    </footer>`;
  return { title, body, refreshes: true };
}

/** Green is for those that are healthy, and for nobody else. */
function allWell({ agents }: FleetView): string {
  if (agents.length === 0) return 'There are no agents in the config';
  const healthy = agents.filter(({ state }) => state === 'healthy').length;
  return healthy === agents.length
    ? `All ${count(agents.length, 'agent')} are healthy`.replace('All 1 agent are', 'The one agent is')
    : `${healthy} of ${count(agents.length, 'agent')} are healthy, the others are starting`;
}

function watcherNote({ watcher, level, atMs }: FleetView): Html {
  if (!watcher)
    return html`<p class="notice">
      Nobody watches: this is one look, just now, and nothing is done about what it found. Start
      <code>holdfast fleet watch</code>.
    </p>`;
  const { host, pid, seenMs } = watcher;
  return html`<p class="dim">
    Watched by process ${pid} on ${shown(host)}, which gave a sign of life
    ${ago(seenMs, atMs)}.${level?.level === 0 && ' Level 0, nominal.'}
  </p>`;
}

function levelNote({ level, atMs }: FleetView): Html | undefined {
  if (!level || level.level === 0) return undefined;
  return html`<p class="notice${level.level === 3 && ' bad'}">
    <b>Level ${level.level}, ${LEVELS[level.level]}</b>, since ${ago(level.sinceMs, atMs)}:
    ${shown(level.reasons.join('; '))}
  </p>`;
}

function tiles({ agents, queue }: FleetView): Html {
  const states: AgentState[] = ['unhealthy', 'degraded', 'unknown', 'starting', 'healthy'];
  const tone = (state: AgentState) =>
    state === 'unhealthy' ? 'bad' : state === 'degraded' || state === 'unknown' ? 'warn' : '';
  const open = agents.filter(({ breaker }) =>
    ['open', 'half-open', 'forced-open', 'unreadable'].includes(breaker.state),
  ).length;
  const tile = (value: number | string, name: string, is = '') =>
    html`<li class="${is}"><b>${value}</b><span>${name}</span></li>`;
  return html`<ul class="tiles">
    ${states.map((state) => {
      const many = agents.filter((agent) => agent.state === state).length;
      return tile(many, state, many > 0 ? tone(state) : '');
    })}
    ${tile(open, open === 1 ? 'breaker open' : 'breakers open', open > 0 ? 'warn' : '')}
    ${tile(queue.waiting + queue.running, 'commands queued')}
    ${tile(queue.dead, 'dead letters', queue.dead > 0 ? 'warn' : '')}
  </ul>`;
}

function problemItem(agent: AgentView, view: FleetView, { root }: Place): Html {
  const { name, state, critical, quarantine, sinceMs } = agent;
  return html`<li class="${state}">
    <div class="head">
      <a href="${root}agents/${encodeURIComponent(name)}">${shown(name)}</a>
      ${quarantine === null ? statePill(state) : html`<span class="pill bad">quarantine</span>`}
      ${critical && html`<span class="pill">critical</span>`}
      ${view.watcher !== null && html`<span class="dim small">${state} since ${ago(sinceMs, view.atMs)}</span>`}
    </div>
    ${problemLines(agent, view)}
  </li>`;
}

/** How long it has been so only a watcher knows. */
function problemLines(agent: AgentView, { watcher, atMs }: FleetView): Html[] {
  return adviceOn(agent).map(
    ({ what, evidence, sinceMs, next }) =>
      html`<p class="why">
          <b
            >${what}${watcher !== null && sinceMs !== null && html` <span class="dim small">${formatAge(atMs - sinceMs)}</span>`}</b
          >
          <span>${shown(evidence)}</span>
        </p>
        <p class="next">${inCode(next)}</p>`,
  );
}

/** Text in which commands stand between backticks. */
function inCode(text: string): Html[] {
  return text.split('`').map((part, i) => (i % 2 === 1 ? html`<code>${shown(part)}</code>` : html`${shown(part)}`));
}

function agentTable(agents: readonly AgentView[], runs: FleetLook['runs'], nowMs: number, { root }: Place): Html {
  // On a small screen what is as it should be is left out.
  const cell = (is: string, content: Html, isUsual: boolean) =>
    html`<td class="${isUsual && 'usual'}" data-is="${is}">${content}</td>`;
  return html`<table class="agents">
    <thead>
      <tr>
        <th>agent</th>
        <th>state</th>
        <th>live</th>
        <th>ready</th>
        <th>progress</th>
        <th>backup</th>
        <th>drill</th>
        <th class="number">queue</th>
        <th>breaker</th>
        <th>last looks</th>
      </tr>
    </thead>
    <tbody>
      ${agents.map((agent) => {
        const { name, state, layers, stats, breaker, quarantine, history } = agent;
        const queue = isStale(agent) ? undefined : (stats.queueDepth ?? layers.queue?.last.value);
        return html`<tr>
          <td class="name"><a href="${root}agents/${encodeURIComponent(name)}">${shown(name)}</a></td>
          <td class="state">
            ${statePill(state)} ${quarantine !== null && html`<span class="pill bad">quarantine</span>`}
          </td>
          ${(['live', 'ready', 'progress'] as const).map((layer) => cell(layer, layerText(layers[layer]), (layers[layer]?.status ?? 'ok') === 'ok'))}
          ${cell('backup', freshness(agent, 'backup', runs, nowMs), !hasMoment(agent, 'backup', runs))}
          ${cell('drill', freshness(agent, 'drill', runs, nowMs), !hasMoment(agent, 'drill', runs))}
          <td class="number${(queue ?? 0) === 0 && ' usual'}" data-is="queue">${queue ?? '–'}</td>
          <td class="${breaker.state === 'closed' && 'usual'}" data-is="breaker">${breakerPill(breaker.state)}</td>
          <td class="looks-cell">${looksStrip(history)}</td>
        </tr>`;
      })}
    </tbody>
  </table>`;
}

type Kept = 'backup' | 'drill';

/** When it was: by the repositories, else by the record of the host. Milliseconds. */
function whenOf(agent: AgentView, kind: Kept, runs: FleetLook['runs']): number | undefined {
  const moment = momentOf(agent.layers[kind]);
  return moment === undefined ? runs.get(agent.name)?.[kind]?.successMs : moment * 1000;
}

const hasMoment = (agent: AgentView, kind: Kept, runs: FleetLook['runs']): boolean =>
  agent.layers[kind] !== undefined || whenOf(agent, kind, runs) !== undefined;

function freshness(agent: AgentView, kind: Kept, runs: FleetLook['runs'], nowMs: number): Html {
  const health = agent.layers[kind];
  const atMs = whenOf(agent, kind, runs);
  const text = atMs === undefined ? undefined : ago(atMs, nowMs);
  if (!health)
    return text ? html`<span class="dim" title="by the record of its host">${text}</span>` : layerText(undefined);
  if (!text) return layerText(health);
  const isOld = isDown(health);
  return html`<span class="${isOld && 'bad-text'}" title="${shown(health.last.evidence)}"
    >${text}${isOld && ', too old'}</span
  >`;
}

function eventTable(events: readonly FleetEvent[], nowMs: number, { root }: Place): Html {
  if (events.length === 0) return html`<p class="dim">None yet. A watcher writes them.</p>`;
  return html`<table class="events">
    <thead>
      <tr>
        <th>when</th>
        <th>kind</th>
        <th>agent</th>
        <th>what</th>
      </tr>
    </thead>
    <tbody>
      ${events
        .slice(-EVENTS_SHOWN)
        .toReversed()
        .map(
          ({ atMs, kind, agent, message, dryRun }) =>
            html`<tr>
              <td class="when">${ago(atMs, nowMs)}</td>
              <td class="dim">${kind.replaceAll('_', ' ')}${dryRun && ' (dry run)'}</td>
              <td>
                ${agent !== undefined && html`<a href="${root}agents/${encodeURIComponent(agent)}">${shown(agent)}</a>`}
              </td>
              <td class="what">${shown(message)}</td>
            </tr>`,
        )}
    </tbody>
  </table>`;
}

export function agentPage(agent: AgentView, { view, runs, events }: FleetLook, place: Place): Page {
  const { name, state, critical, layers, trend, seenMs, lookedMs } = agent;
  const nowMs = view.atMs;
  const problems = adviceOn(agent);
  const body = html`<p><a href="${place.root}">← All agents</a></p>
    <h1>${shown(name)} ${statePill(state)} ${critical && html`<span class="pill">critical</span>`}</h1>
    ${
      problems.length > 0 &&
      html`<ul class="problems">
        <li class="${state}">${problemLines(agent, view)}</li>
      </ul>`
    }
    <dl>
      <dt>state since</dt>
      <dd>${ago(agent.sinceMs, nowMs)}</dd>
      <dt>last seen well</dt>
      <dd>${seenMs === null ? 'never' : ago(seenMs, nowMs)}</dd>
      <dt>last looked at</dt>
      <dd>${lookedMs === 0 ? 'never' : ago(lookedMs, nowMs)}</dd>
      <dt>trend</dt>
      <dd>${trend === 'none' ? 'too few looks' : trend} ${looksStrip(agent.history)}</dd>
    </dl>
    <h2>What is looked at</h2>
    ${
      Object.keys(layers).length === 0
        ? html`<p class="dim">
            Nothing. Give it <code>live</code>, <code>ready</code> or <code>progress</code> in the config.
          </p>`
        : html`<table class="agents">
            <thead>
              <tr>
                <th>layer</th>
                <th></th>
                <th>since</th>
                <th>what was seen</th>
              </tr>
            </thead>
            <tbody>
              ${LAYERS.flatMap((layer) => {
                const health = layers[layer];
                return health
                  ? [
                      html`<tr>
                        <td class="name">${layer}</td>
                        <td>${layerText(health)}</td>
                        <td>${ago(health.sinceMs, nowMs)}</td>
                        <td>
                          ${shown(health.last.evidence)} <span class="dim small">${ago(health.last.atMs, nowMs)}</span>
                        </td>
                      </tr>`,
                    ]
                  : [];
              })}
            </tbody>
          </table>`
    }
    ${statsList(agent, nowMs)} ${runsList(runs.get(name), nowMs)}
    <h2>Breaker ${breakerPill(agent.breaker.state)}</h2>
    ${breakerForms(agent, nowMs, place)}
    <h2>Events of ${shown(name)}</h2>
    ${eventTable(
      events.filter((event) => event.agent === name),
      nowMs,
      place,
    )}`;
  return { title: name, body };
}

function statsList(agent: AgentView, nowMs: number): Html | undefined {
  const { stats } = agent;
  if (isStale(agent) || Object.keys(stats).length === 0) return undefined;
  const percent = (share: number) => `${Math.round(share * 100)} %`;
  const memory = stats.memoryBytes === undefined ? undefined : formatSize(stats.memoryBytes);
  const limit = stats.memoryLimitBytes === undefined ? '' : ` of ${formatSize(stats.memoryLimitBytes)}`;
  const rows: [string, Html | string | number | undefined][] = [
    ['tasks in progress', stats.tasksInProgress],
    ['tasks waiting', stats.queueDepth],
    ['tasks completed', stats.tasksCompleted?.success],
    ['tasks failed', stats.tasksCompleted?.failure],
    ['error rate', stats.errorRate === undefined ? undefined : percent(stats.errorRate)],
    ['memory', memory === undefined ? undefined : memory + limit],
    ['context window used', stats.contextUsed === undefined ? undefined : percent(stats.contextUsed)],
    ['last activity', stats.lastActivityMs === undefined ? undefined : ago(stats.lastActivityMs, nowMs)],
    ['last task', stats.lastTaskMs === undefined ? undefined : ago(stats.lastTaskMs, nowMs)],
  ];
  return html`<h2>What it tells</h2>
    <dl>
      ${rows.map(
        ([name, value]) =>
          value !== undefined &&
          html`<dt>${name}</dt>
            <dd>${value}</dd>`,
      )}
    </dl>`;
}

function runsList(runs: Runs | undefined, nowMs: number): Html | undefined {
  const kinds = (['backup', 'verify', 'drill'] as const).flatMap((kind) => {
    const run = runs?.[kind];
    return run ? [{ kind, run }] : [];
  });
  if (kinds.length === 0) return undefined;
  return html`<h2>Runs of holdfast on its host</h2>
    <dl>
      ${kinds.map(({ kind, run }) => {
        const behind = Object.entries(run.committed ?? {}).flatMap(([backend, held]) => (held ? [] : [backend]));
        return html`<dt>${kind}</dt>
          <dd>
            ${ago(run.endedMs, nowMs)},
            ${run.exitCode === 0 ? html`<span class="good-text">went well</span>` : html`<span class="bad-text">exit code ${run.exitCode}</span>`}${
              run.exitCode !== 0 &&
              html`, last success ${run.successMs === undefined ? 'never' : ago(run.successMs, nowMs)}`
            }${behind.length > 0 && html`, <span class="bad-text">behind: ${shown(behind.join(', '))}</span>`}${
              run.recoverySeconds !== undefined && html`, recovered in ${formatAge(run.recoverySeconds * 1000)}`
            }
          </dd>`;
      })}
    </dl>`;
}

/** Opening a form is the first step, sending it the second: nothing happens by one touch. */
function breakerForms({ name, breaker, quarantine }: AgentView, nowMs: number, { root, visitor }: Place): Html {
  const { state, failures, retryAtMs } = breaker;
  const action = (what: string) => `${root}agents/${encodeURIComponent(name)}/${what}`;
  const retry =
    retryAtMs === undefined
      ? ''
      : retryAtMs <= nowMs
        ? ' It is tried with the next call.'
        : ` It is tried again in ${formatAge(retryAtMs - nowMs)}.`;
  const told: Readonly<Record<typeof state, string>> = {
    closed: `Calls go through; ${failures === 0 ? 'none has failed lately' : `the last ${failures} in a row failed`}.`,
    open: `Calls are refused after ${count(failures, 'failure')} in a row.${retry}`,
    unreadable: 'What is stored of it cannot be read, and no call is let through. Tripped or reset it is made anew.',
    'half-open': `One call tries it out, all others are refused.${retry}`,
    'forced-open': 'Somebody has stopped all calls, until somebody lets them through again.',
    disabled: 'Calls go through, and nothing is counted. `breaker enable` puts it back to work.',
  };
  const held =
    quarantine && `It is in quarantine: to let it out and close its breaker, run \`holdfast fleet release ${name}\`.`;
  return html`<p>${inCode(told[state])} ${held !== null && inCode(held)}</p>
    ${
      state !== 'forced-open' &&
      html`<details class="act" id="trip">
        <summary>Trip: stop all calls of ${shown(name)}</summary>
        <form method="post" action="${action('trip')}">
          ${formField(visitor)}
          <label for="reason">Why? Callers are told.</label>
          <input id="reason" type="text" name="reason" required maxlength="200" autocomplete="off" />
          <div class="row"><button class="danger">Stop all calls</button></div>
          <p class="dim small">They stay stopped until somebody resets the breaker.</p>
        </form>
      </details>`
    }
    ${
      state !== 'closed' &&
      state !== 'disabled' &&
      html`<details class="act" id="reset">
        <summary>Reset: let calls of ${shown(name)} through again</summary>
        <form method="post" action="${action('reset')}">
          ${formField(visitor)}
          <label
            ><input type="checkbox" name="sure" value="yes" required /> The agent is well, calls may go to it.</label
          >
          <div class="row"><button class="main">Let calls through</button></div>
        </form>
      </details>`
    }`;
}

/** @param tokenFile absent where strangers can ask */
export function loginPage(tokenFile: string | undefined, problem: string | undefined): Page {
  const body = html`<h1>Log in</h1>
    ${problem !== undefined && html`<p class="notice bad" role="alert">${problem}</p>`}
    <form method="post" action="/login">
      <label for="token"
        >The token: a line in
        ${tokenFile === undefined ? 'the file that the server named at its start' : html`<code>${shown(tokenFile)}</code>`},
        on its host.</label
      >
      <input id="token" type="password" name="token" required autofocus autocomplete="current-password" />
      <div class="row"><button class="main">Log in</button></div>
    </form>`;
  return { title: 'Log in', body };
}

export function errorPage(what: string, hint: string | undefined, { root }: Place): Page {
  const body = html`<h1>This cannot be shown</h1>
    <p class="notice bad" role="alert">${shown(what)}</p>
    ${hint !== undefined && html`<p>${inCode(hint)}</p>`}
    <p><a href="${root}">All agents</a></p>`;
  return { title: 'Error', body };
}
