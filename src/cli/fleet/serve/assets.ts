/** The style and the script of the pages. They work without the script, which only looks again by itself. */

export const STYLE = `
:root { color-scheme: light dark; --line: #d9d9de; --soft: #f5f5f7; --ink: #18181b; --dim: #55555f; --link: #1d4ed8; --back: #fff;
  --good: #166534; --good-back: #e7f6ec; --warn: #854d0e; --warn-back: #fdf3cf; --bad: #b01818; --bad-back: #fdeaea; --bad-line: #e5a3a3; }
@media (prefers-color-scheme: dark) { :root { --line: #36363c; --soft: #232327; --ink: #ececf0; --dim: #a5a5b0; --link: #93c5fd; --back: #17171a;
  --good: #86dfa4; --good-back: #16301f; --warn: #f3cf62; --warn-back: #352a0d; --bad: #ff9d9d; --bad-back: #3a1a1a; --bad-line: #7c3434; } }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--back); }
a { color: var(--link); } :focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 3px; }
header { display: flex; flex-wrap: wrap; gap: 4px 18px; align-items: baseline; padding: 10px 20px; border-bottom: 1px solid var(--line); background: var(--soft); }
header .home { font-weight: 600; color: var(--ink); text-decoration: none; } header form { margin-left: auto; }
main { max-width: 1240px; margin: 0 auto; padding: 12px 20px 56px; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 12px 0 4px; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 30px 0 8px; } h3 { font-size: 1rem; margin: 0; }
p { margin: 4px 0 10px; } .dim { color: var(--dim); } .small { font-size: .875rem; } code { font: .875em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; background: var(--soft); border-radius: 4px; padding: 1px 4px; }
.notice { border-radius: 8px; padding: 9px 13px; margin: 10px 0; overflow-wrap: anywhere; background: var(--warn-back); color: var(--warn); } .notice.bad { background: var(--bad-back); color: var(--bad); } .notice.good { background: var(--good-back); color: var(--good); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 8px; padding: 0; margin: 14px 0; list-style: none; }
.tiles li { border: 1px solid var(--line); border-radius: 8px; padding: 7px 11px; } .tiles b { display: block; font-size: 1.35rem; line-height: 1.25; font-variant-numeric: tabular-nums; } .tiles span { color: var(--dim); font-size: .8125rem; }
.tiles .bad { border-color: var(--bad-line); background: var(--bad-back); } .tiles .bad b, .tiles .bad span { color: var(--bad); } .tiles .warn { background: var(--warn-back); } .tiles .warn b, .tiles .warn span { color: var(--warn); }
ul.problems { list-style: none; padding: 0; margin: 8px 0; } ul.problems > li { border: 1px solid var(--line); border-left: 5px solid var(--warn); border-radius: 8px; padding: 8px 14px; margin: 8px 0; }
ul.problems > li.unhealthy { border-left-color: var(--bad); } ul.problems .head { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: baseline; } ul.problems .head a { font-weight: 600; overflow-wrap: anywhere; }
.why { margin: 2px 0 0; display: grid; grid-template-columns: minmax(150px, 15em) 1fr; gap: 0 12px; } .why b { font-weight: 600; } .why span { overflow-wrap: anywhere; } .next { margin: 3px 0 2px; color: var(--dim); } .next::before { content: "→ "; }
.pill { display: inline-block; border-radius: 10px; padding: 0 9px; font-size: .8125rem; line-height: 1.55; white-space: nowrap; background: var(--soft); border: 1px solid var(--line); color: var(--dim); }
.pill.good { color: var(--good); background: var(--good-back); border-color: transparent; } .pill.warn { color: var(--warn); background: var(--warn-back); border-color: transparent; } .pill.bad { color: var(--bad); background: var(--bad-back); border-color: transparent; font-weight: 600; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--dim); font-size: .8125rem; font-weight: 600; } th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; } td.name { font-weight: 600; min-width: 9em; } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } td.when, time { white-space: nowrap; }
.good-text { color: var(--good); } .warn-text { color: var(--warn); } .bad-text { color: var(--bad); font-weight: 600; }
svg.looks { display: block; width: 110px; height: 16px; margin-top: 3px; } svg.looks .back { fill: var(--good-back); } svg.looks .none { fill: var(--soft); } svg.looks .bad { fill: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; margin: 10px 0; } dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
input, button { font: inherit; padding: 7px 12px; border: 1px solid var(--line); border-radius: 7px; background: var(--back); color: var(--ink); max-width: 100%; } input[type=text], input[type=password] { width: 28em; }
button { cursor: pointer; background: var(--soft); } button.main { background: var(--link); color: var(--back); border-color: var(--link); font-weight: 600; } button.danger { background: var(--bad); color: var(--back); border-color: var(--bad); font-weight: 600; }
button.link { border: 0; padding: 0; background: none; color: var(--link); text-decoration: underline; }
details.act { border: 1px solid var(--line); border-radius: 8px; padding: 8px 14px; margin: 8px 0; } details.act summary { cursor: pointer; font-weight: 600; } details.act form { margin: 10px 0 6px; } label { display: block; margin: 4px 0; } .row { display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0; }
footer { margin: 36px 0 0; color: var(--dim); font-size: .875rem; }
body.old main { opacity: .45; }
@media (max-width: 940px) {
  header, main { padding-left: 12px; padding-right: 12px; } .why { grid-template-columns: 1fr; }
  table.agents thead { display: none; } table.agents tr { display: flex; flex-wrap: wrap; gap: 1px 14px; padding: 8px 0; border-bottom: 1px solid var(--line); } table.agents td { border: 0; padding: 0; } table.agents td.name { flex: 1 1 50%; min-width: 0; } table.agents td.state { text-align: right; } table.agents td.wide { flex: 1 1 100%; }
  table.agents td[data-is]::before { content: attr(data-is) " "; color: var(--dim); font-size: .8125rem; } table.agents td[data-is] { font-size: .875rem; } table.agents td.usual, table.agents td.looks-cell { display: none; }
  table.events tr { display: flex; flex-wrap: wrap; gap: 0 10px; border-bottom: 1px solid var(--line); padding: 5px 0; } table.events td { border: 0; padding: 0; } table.events thead { display: none; } table.events td.what { flex: 1 1 100%; }
}
`;

/**
 * Looks again every ten seconds, unless somebody is at a form. A page that could not be fetched says so and fades: nothing old is to be taken for
 * what is now. Times are shown in the zone of whoever looks.
 */
export const SCRIPT = `
const EVERY_MS = 10_000;
const local = (root) => {
  for (const time of root.querySelectorAll('time[datetime]')) {
    const date = new Date(time.dateTime);
    if (!Number.isNaN(date.getTime())) time.title = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' }).format(date);
  }
};
local(document);
let lastMs = Date.now();
const old = (why) => {
  document.body.classList.add('old');
  const notice = document.getElementById('old');
  notice.textContent = why + ' What is shown is from ' + new Date(lastMs).toLocaleTimeString() + '.';
  notice.hidden = false;
};
const again = async () => {
  if (document.querySelector('main[data-refresh]') === null || document.hidden) return;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(15_000) });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) return old('The fleet cannot be looked at now (HTTP ' + answer.status + ').');
    const main = new DOMParser().parseFromString(await answer.text(), 'text/html').querySelector('main');
    if (main === null) return old('The answer was no page.');
    const open = new Set([...document.querySelectorAll('details[open][id]')].map(({ id }) => id));
    for (const details of main.querySelectorAll('details[id]')) if (open.has(details.id)) details.open = true;
    const at = document.activeElement?.id;
    document.querySelector('main').replaceWith(main);
    if (at) document.getElementById(at)?.focus();
    local(main);
    lastMs = Date.now();
    document.body.classList.remove('old');
    document.getElementById('old').hidden = true;
  } catch {
    old('The server does not answer.');
  }
};
setInterval(again, EVERY_MS);
document.addEventListener('visibilitychange', () => { if (!document.hidden && Date.now() - lastMs > EVERY_MS) again(); });
`;
