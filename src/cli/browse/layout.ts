/** What every page has, and the small parts that many have. */
import type { Entry } from '../../entry.ts';
import type { SeenSnapshot } from '../../operations/looking/open-look.ts';
import { parentOf, rawForDisplay, ROOT, type RawPath } from '../../raw-path.ts';
import { formatDuration, formatSize } from '../../units.ts';
import { address } from './address.ts';
import { html, type Html } from './html.ts';

export interface Page {
  title: string;
  body: Html;
  /** What the search of the head of the page looks for, and in which snapshot by choice. */
  query?: string;
  snapshot?: SeenSnapshot | undefined;
}

export function layout({ title, body, query, snapshot }: Page, agent: string): string {
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width" />
        <title>${title} – ${agent} – holdfast</title>
        <link rel="stylesheet" href="style.css" />
        <link rel="icon" href="data:," />
        <script src="script.js" defer></script>
      </head>
      <body>
        <a class="skip" href="#main">To the content</a>
        <header>
          <a class="home" href="./">Snapshots of ${agent}</a>
          <form class="search" action="find" role="search">
            <input
              type="search"
              id="q"
              name="q"
              value="${query ?? ''}"
              placeholder="Find a file by name"
              aria-label="Find a file by a part of its name or path"
            />
            ${
              snapshot &&
              html`<select name="s" aria-label="Where to look">
                <option value="">in all snapshots</option>
                <option value="${snapshot.id}">in this snapshot</option>
              </select>`
            }
            <button>Find</button>
          </form>
          <form class="quit" method="post" action="quit"><button>Quit</button></form>
        </header>
        <main id="main" tabindex="-1">${body}</main>
      </body>
    </html>`;
  return page.text;
}

export const plural = (n: number, one: string, many = `${one}s`): string =>
  `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

/** In UTC; the script shows it in the zone of whoever looks. */
export const time = (iso: string): Html =>
  html`<time datetime="${iso}">${iso.slice(0, 19).replace('T', ' ')} UTC</time>`;

export const ago = (iso: string, nowMs: number): string => {
  const ms = nowMs - Date.parse(iso);
  return ms < 0 ? 'in the future' : ms < 60_000 ? 'just now' : `${formatDuration(ms)} ago`;
};

export const short = ({ id }: SeenSnapshot): string => id.slice(0, 8);

/** Of a snapshot, in a sentence. */
export const named = (snapshot: SeenSnapshot): Html =>
  html`${time(snapshot.record.time)} <span class="dim">(${short(snapshot)})</span>`;

export const lastName = (path: RawPath): string => rawForDisplay(path.slice(path.lastIndexOf('/') + 1) as RawPath);

/** Where an entry is looked at. */
export function entryAddress(snapshot: SeenSnapshot, { type, path }: Pick<Entry, 'type' | 'path'>): string {
  return address(type === 'folder' ? 'tree' : 'file', { s: snapshot, p: path });
}

export const sizeOf = (entry: Entry): string => (entry.type === 'file' ? formatSize(entry.size) : '');

/** The way from the root down to a path, each folder a link, without the last name. */
export function crumbs(snapshot: SeenSnapshot, path: RawPath): Html {
  const folders: RawPath[] = [];
  for (let at = path; at !== ROOT; at = parentOf(at)) folders.unshift(parentOf(at));
  const link = (folder: RawPath) =>
    html`<li>
      <a href="${entryAddress(snapshot, { type: 'folder', path: folder })}"
        >${folder === ROOT ? 'all files' : lastName(folder)}</a
      >
    </li>`;
  return html`<nav class="crumbs" aria-label="Folders above">
    <ol>
      ${folders.map(link)}
    </ol>
  </nav>`;
}

export function unreadableNote(unreadable: readonly SeenSnapshot[]): Html | undefined {
  if (unreadable.length === 0) return undefined;
  return html`<p class="warn">
    The list of files of ${plural(unreadable.length, 'snapshot')} is damaged and was passed over:
    ${unreadable.map(short).join(', ')}
  </p>`;
}

/** The page never shows what a snapshot keeps apart; that there is something it says. */
export function secretsNote(snapshot: SeenSnapshot | undefined): Html | undefined {
  const files = snapshot?.record.secrets?.files ?? 0;
  if (!snapshot || files === 0) return undefined;
  return html`<p class="dim">
    ${plural(files, 'secret file')} kept apart, not shown here:
    <code>holdfast ls ${short(snapshot)} --secrets</code>
  </p>`;
}
