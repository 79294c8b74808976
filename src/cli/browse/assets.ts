/** The style and the script of the page. The page works without the script. */

export const STYLE = `
:root { color-scheme: light dark; --line: #d4d4d8; --soft: #f4f4f5; --ink: #18181b; --dim: #52525b; --link: #1d4ed8; --back: #fff;
  --plus: #166534; --plus-back: #dcfce7; --minus: #991b1b; --minus-back: #fee2e2; --warn: #92400e; --warn-back: #fef3c7; }
@media (prefers-color-scheme: dark) { :root { --line: #3f3f46; --soft: #27272a; --ink: #f4f4f5; --dim: #a1a1aa; --link: #93c5fd; --back: #18181b;
  --plus: #86efac; --plus-back: #14301f; --minus: #fca5a5; --minus-back: #3b1818; --warn: #fcd34d; --warn-back: #3a2a0b; } }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); }
a { color: var(--link); } a:visited { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px; }
.skip { position: absolute; left: -999px; } .skip:focus { left: 8px; top: 8px; background: var(--back); padding: 4px 8px; }
header { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; padding: 10px 16px; border-bottom: 1px solid var(--line); background: var(--soft); }
header .home { font-weight: 600; text-decoration: none; color: var(--ink); }
header form.search { display: flex; flex: 1 1 260px; gap: 6px; } header .quit { margin-left: auto; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
main { max-width: 1040px; margin: 0 auto; padding: 8px 16px 48px; }
h1 { font-size: 1.4rem; line-height: 1.3; margin: 14px 0 6px; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 26px 0 6px; }
p { margin: 6px 0 10px; } .dim { color: var(--dim); } .path { overflow-wrap: anywhere; }
input, select, button, .button { font: inherit; padding: 6px 10px; border: 1px solid var(--line); border-radius: 6px; background: var(--back); color: var(--ink); max-width: 100%; }
input[type=search] { flex: 1; min-width: 0; }
button, .button { cursor: pointer; text-decoration: none; display: inline-block; background: var(--soft); color: var(--ink); }
.button:visited { color: var(--ink); }
.main { background: var(--link); color: var(--back); border-color: var(--link); font-weight: 600; } .main:visited { color: var(--back); }
.row { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 10px 0; }
.crumbs { overflow-wrap: anywhere; margin: 10px 0 0; } .crumbs ol { list-style: none; display: inline; padding: 0; } .crumbs li { display: inline; }
.crumbs li + li::before { content: " / "; color: var(--dim); }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; color: var(--dim); font-size: .875rem; }
th, td { padding: 7px 8px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; } td.path { width: 60%; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; } td.when { white-space: nowrap; }
.folder a { font-weight: 600; }
ol.snapshots, ul.plain { list-style: none; padding: 0; margin: 8px 0; }
ol.snapshots li, ul.plain li { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: baseline; padding: 8px 0; border-bottom: 1px solid var(--line); }
ol.snapshots .open { font-weight: 600; min-width: 15em; } ol.snapshots .facts { flex: 1 1 16em; color: var(--dim); }
.mark { border: 1px solid var(--line); border-radius: 10px; padding: 0 8px; font-size: .8125rem; overflow-wrap: anywhere; }
.warn { color: var(--warn); background: var(--warn-back); border-radius: 6px; padding: 8px 12px; overflow-wrap: anywhere; } .mark.warn { padding: 0 8px; }
svg.timeline { display: block; width: 100%; height: 84px; border-bottom: 1px solid var(--line); } svg .size { fill: var(--link); opacity: .35; }
svg .grew { fill: var(--link); } svg .shrank { fill: var(--minus); } svg .hit { fill: transparent; } svg a:hover .hit { fill: var(--line); opacity: .6; }
svg .flag { fill: var(--warn); } .ends { display: flex; justify-content: space-between; font-size: .8125rem; color: var(--dim); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 10px 0; } dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
pre { overflow: auto; max-height: 75vh; padding: 10px; margin: 8px 0; background: var(--soft); border: 1px solid var(--line); border-radius: 6px; font: 13px/1.5 ui-monospace, monospace; tab-size: 4; }
pre.text { white-space: pre-wrap; overflow-wrap: anywhere; } code { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre .plus, .sign.added { color: var(--plus); background: var(--plus-back); } pre .minus, .sign.removed { color: var(--minus); background: var(--minus-back); }
pre .at { color: var(--dim); } pre span { display: block; white-space: pre-wrap; overflow-wrap: anywhere; min-height: 1.5em; }
.sign { font-size: .8125rem; border-radius: 10px; padding: 0 8px; background: var(--soft); min-width: 5.2em; text-align: center; }
.changes .path { flex: 1 1 14em; } img.preview { max-width: 100%; max-height: 75vh; background: var(--soft); border: 1px solid var(--line); }
@media (max-width: 560px) { header form.search { flex: 1 1 100%; flex-wrap: wrap; order: 3; } input[type=search] { flex: 1 1 8em; } td.when, th.when { display: none; } ol.snapshots .open { min-width: 100%; } header, main { padding-left: 12px; padding-right: 12px; } }
`;

/** Times in the zone of whoever looks; `/` goes to the search. */
export const SCRIPT = `
for (const time of document.querySelectorAll('time[datetime]')) {
  const date = new Date(time.dateTime);
  if (Number.isNaN(date.getTime())) continue;
  time.title = time.textContent;
  time.textContent = new Intl.DateTimeFormat(undefined, { weekday: 'short', year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }).format(date);
}
for (const option of document.querySelectorAll('option[data-time]')) {
  const date = new Date(option.dataset.time);
  option.textContent = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' }).format(date) + option.dataset.rest;
}
document.addEventListener('keydown', (event) => {
  const search = document.getElementById('q');
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || !search) return;
  if (['INPUT', 'SELECT', 'TEXTAREA'].includes(document.activeElement?.tagName ?? '')) return;
  event.preventDefault();
  search.focus();
});
`;
