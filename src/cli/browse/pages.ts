/** The pages, each made on the server from what operations tell. */
import type { Entry, FileEntry } from '../../entry.ts';
import { searchNames, versionsOf, type Version } from '../../operations/versions.ts';
import { formatNs } from '../../operations/look.ts';
import type { Look, SeenSnapshot, Tree } from '../../operations/looking/open-look.ts';
import { escapeForDisplay, rawForDisplay, rawToText, ROOT, type RawPath } from '../../raw-path.ts';
import { formatSize } from '../../units.ts';
import { address } from './address.ts';
import { html, type Html } from './html.ts';
import {
  ago,
  crumbs,
  entryAddress,
  lastName,
  named,
  plural,
  secretsNote,
  short,
  sizeOf,
  time,
  unreadableNote,
  type Page,
} from './layout.ts';
import { preview, PREVIEW_HEX_BYTES, PREVIEW_TEXT_BYTES } from './preview.ts';
import { timeline } from './timeline.ts';

const SNAPSHOTS_A_PAGE = 100;
const ENTRIES_A_PAGE = 1000;
/** In the lists to choose from. */
const CHOICES_MAX = 500;

/** @param skip how many of the newest are left out. */
export function snapshotsPage(look: Look, nowMs: number, skip: number): Page {
  const { snapshots, warnings } = look;
  const newestFirst = snapshots.toReversed();
  const [newest] = newestFirst;
  const rows = newestFirst.slice(skip, skip + SNAPSHOTS_A_PAGE).map((snapshot, i) => {
    const before = newestFirst[skip + i + 1];
    return html`<li>
      <a class="open" href="${address('tree', { s: snapshot })}">${time(snapshot.record.time)}</a>
      <span class="facts"
        >${ago(snapshot.record.time, nowMs)} · ${plural(snapshot.record.counts.files, 'file')} ·
        ${formatSize(snapshot.record.counts.bytes)}${growth(snapshot, before)} · ${short(snapshot)}
        ${snapshot.said.tags.map((tag) => html` <span class="mark">${escapeForDisplay(tag)}</span>`)}
        ${suspicionMark(snapshot)}
        ${snapshot.said.note !== null && html` <q class="path">${escapeForDisplay(snapshot.said.note)}</q>`}
        ${snapshot.problem !== undefined && html` <span class="mark warn">${snapshot.problem}</span>`}</span
      >
      ${before && html`<a href="${address('diff', { a: before, b: snapshot })}">what changed<span class="unseen"> by ${snapshot.record.time}</span></a>`}
    </li>`;
  });
  const body = html`<h1>Snapshots of ${look.agent}</h1>
    ${warnings.slice(0, 5).map(({ message }) => html`<p class="warn">${escapeForDisplay(message)}</p>`)}
    ${
      newest
        ? html`<p>
              ${plural(snapshots.length, 'snapshot')}, the newest ${ago(newest.record.time, nowMs)}. Open one to see its
              files, or find a file by its name above, also one that was deleted.
            </p>
            <p class="row"><a class="button main" href="${address('tree', { s: newest })}">Open the newest</a></p>
            ${timeline(snapshots)}`
        : html`<p>There is no snapshot yet.</p>`
    }
    <h2>All, newest first</h2>
    <ol class="snapshots">
      ${rows}
    </ol>
    ${skip + SNAPSHOTS_A_PAGE < snapshots.length && html`<p><a href="./?skip=${skip + SNAPSHOTS_A_PAGE}">Older ones</a></p>`}
    ${snapshots.length > 1 && compareForm(newestFirst.slice(0, CHOICES_MAX))}`;
  return { title: 'Snapshots', body };
}

/** What looked like loss when it was made, and whether somebody has said since that it is right. */
function suspicionMark({ record, said }: SeenSnapshot): Html | undefined {
  const findings = record.suspicious ?? [];
  if (findings.length === 0) return undefined;
  const codes = [...new Set(findings.map(({ code }) => code))].join(', ');
  const title = findings.map(({ message }) => escapeForDisplay(message)).join('; ');
  return said.isAcknowledged
    ? html` <span class="mark" title="${title}">${codes} (acknowledged)</span>`
    : html` <span class="mark warn" title="${title}">suspicious: ${codes}</span>`;
}

function growth(snapshot: SeenSnapshot, before: SeenSnapshot | undefined): string {
  const change = snapshot.record.counts.bytes - (before?.record.counts.bytes ?? snapshot.record.counts.bytes);
  return change === 0 ? '' : ` (${change > 0 ? '+' : '−'}${formatSize(Math.abs(change))})`;
}

function compareForm(choices: readonly SeenSnapshot[]): Html {
  const options = (chosen: number) =>
    choices.map((one, i) => {
      const rest = ` (${short(one)})`;
      return html`<option
        value="${one.id}"
        data-time="${one.record.time}"
        data-rest="${rest}"
        ${i === chosen && html`selected`}
      >
        ${one.record.time.slice(0, 19)}${rest}
      </option>`;
    });
  return html`<h2>Compare two snapshots</h2>
    <form class="row" action="diff">
      <label
        >from
        <select name="a">
          ${options(1)}
        </select></label
      >
      <label
        >to
        <select name="b">
          ${options(0)}
        </select></label
      >
      <button>Compare</button>
    </form>`;
}

/** Older and newer snapshots, at the same path. */
function neighbours(look: Look, snapshot: SeenSnapshot, page: string, path: RawPath): Html {
  const at = look.snapshots.indexOf(snapshot);
  const [older, newer] = [look.snapshots[at - 1], look.snapshots[at + 1]];
  const link = (other: SeenSnapshot | undefined, label: string) =>
    other && html`<a class="button" href="${address(page, { s: other, p: path })}">${label}</a>`;
  return html`<p class="row">
    ${link(older, '← the same, one snapshot earlier')} ${link(newer, 'one snapshot later →')}
    ${!newer && html`<span class="dim">This is the newest.</span>`}
  </p>`;
}

export async function treePage(look: Look, snapshot: SeenSnapshot, path: RawPath, skip: number): Promise<Page> {
  const tree = await look.tree(snapshot);
  tree.require(path);
  const children = tree.children(path);
  const hasAttributes = [...tree.below(path)].some(({ xattrs, flags }) => xattrs !== undefined || flags !== undefined);
  const rows = children.slice(skip, skip + ENTRIES_A_PAGE).map(
    (entry) =>
      html`<tr class="${entry.type}">
        <td class="path">
          <a href="${entryAddress(snapshot, entry)}">${lastName(entry.path)}${entry.type === 'folder' ? '/' : ''}</a
          >${entry.type === 'symlink' && html` <span class="dim">→ ${rawForDisplay(entry.target)}</span>`}
        </td>
        <td class="number">${sizeOf(entry)}</td>
        <td class="when">${time(formatNs(entry.mtimeNs))}</td>
      </tr>`,
  );
  const name = path === ROOT ? 'All files' : lastName(path);
  const body = html`${path !== ROOT && crumbs(snapshot, path)}
    <h1>${name}</h1>
    <p>As it was ${named(snapshot)}. ${plural(children.length, 'entry', 'entries')}.</p>
    ${secretsNote(snapshot)} ${neighbours(look, snapshot, 'tree', path)}
    <table>
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col" class="number">Size</th>
          <th scope="col" class="when">Modified</th>
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
    ${children.length === 0 && html`<p>The folder is empty.</p>`}
    ${skip + ENTRIES_A_PAGE < children.length && html`<p><a href="${address('tree', { s: snapshot, p: path, skip: String(skip + ENTRIES_A_PAGE) })}">More</a></p>`}
    <p class="row">
      <a class="button" href="${address('download', { s: snapshot, p: path })}" download>Download this folder (tar)</a>
    </p>
    ${hasAttributes && html`<p class="dim">The tar is without the extended attributes, ACLs and flags that some of this has; <code>holdfast restore</code> brings them back.</p>`}
    ${restoreHint(snapshot, path)}`;
  return { title: name, body, snapshot };
}

export async function filePage(look: Look, snapshot: SeenSnapshot, path: RawPath): Promise<Page> {
  const entry = (await look.tree(snapshot)).require(path);
  const facts = [
    ['Snapshot', named(snapshot)],
    ...(entry.type === 'file' ? [['Size', `${formatSize(entry.size)} (${plural(entry.size, 'byte')})`] as const] : []),
    ...(entry.type === 'symlink' ? [['Points to', rawForDisplay(entry.target)] as const] : []),
    ['Modified', time(formatNs(entry.mtimeNs))],
    ['Mode, owner', `${entry.mode.toString(8).padStart(4, '0')}, ${entry.uid}:${entry.gid}`],
    ['Path', html`<span class="path">${rawForDisplay(path)}</span>`],
  ] as const;
  const body = html`${crumbs(snapshot, path)}
    <h1>${lastName(path)}</h1>
    <p class="row">
      ${entry.type === 'file' && html`<a class="button main" href="${address('download', { s: snapshot, p: path })}" download>Download</a>`}
      <a class="button" href="${address('versions', { p: path })}">All versions</a>
    </p>
    <dl>
      ${facts.map(
        ([label, value]) =>
          html`<dt>${label}</dt>
            <dd>${value}</dd>`,
      )}
    </dl>
    ${neighbours(look, snapshot, 'file', path)} ${entry.type === 'file' && (await previewOf(look, snapshot, entry))}
    ${restoreHint(snapshot, path)}`;
  return { title: lastName(path), body, snapshot };
}

async function previewOf(look: Look, snapshot: SeenSnapshot, entry: FileEntry): Promise<Html> {
  const shown = preview(await look.beginning(entry, PREVIEW_TEXT_BYTES), entry.size);
  const heading = html`<h2>Content</h2>`;
  switch (shown.kind) {
    case 'empty':
      return html`${heading}
        <p>The file is empty.</p>`;
    case 'image':
      return html`${heading}<img
          class="preview"
          alt="The picture in ${lastName(entry.path)}"
          src="${address('image', { s: snapshot, p: entry.path })}"
        />`;
    case 'text':
      return html`${heading}${shown.isCut && html`<p class="dim">The first ${formatSize(PREVIEW_TEXT_BYTES)}; the download has all.</p>`}
        <pre class="text" tabindex="0" aria-label="Content of the file">${shown.text}</pre>`;
    case 'hex':
      return html`${heading}
        <p class="dim">No text${shown.isCut && html`; its first ${formatSize(PREVIEW_HEX_BYTES)}`}:</p>
        <pre tabindex="0" aria-label="Bytes of the file">${shown.text}</pre>`;
  }
}

/** What to type to get it back in its place, where a path can be typed. */
function restoreHint(snapshot: SeenSnapshot, path: RawPath): Html | undefined {
  const text = rawToText(path);
  if (text === undefined || text !== rawForDisplay(path)) return undefined;
  const quoted = /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
  return html`<h2>Get it back</h2>
    <p>
      With times and modes, into a new folder:
      <code>holdfast restore ${short(snapshot)}${path !== ROOT && ` --path ${quoted}`} --target ./restored</code>
    </p>`;
}

export async function findPage(look: Look, query: string, among: SeenSnapshot | 'all'): Promise<Page> {
  const { found, isCut, next, unreadable } = await searchNames(look, query, among);
  const newest = look.snapshots.at(-1);
  const rows = found.map(
    ({ entry, newest: holder }) =>
      html`<li>
        <a class="path" href="${entryAddress(holder, entry)}"
          >${rawForDisplay(entry.path)}${entry.type === 'folder' ? '/' : ''}</a
        >
        <span class="dim">${sizeOf(entry)}</span>
        ${among === 'all' && holder !== newest && html`<span class="mark warn">no longer there; last in ${time(holder.record.time)}</span>`}
        ${entry.type !== 'folder' && html`<a href="${address('versions', { p: entry.path })}">versions<span class="unseen"> of ${rawForDisplay(entry.path)}</span></a>`}
      </li>`,
  );
  const where = among === 'all' ? html`all snapshots` : html`the snapshot of ${named(among)}`;
  const body = html`<h1>${found.length === 0 ? 'Nothing found' : plural(found.length, 'path')} for “${query}”</h1>
    <p class="dim">
      In ${where}${next && html`, back to ${time(next.record.time)}`}. Each word must be a part of the path.
    </p>
    ${isCut && html`<p class="warn">There are more: give another word.</p>`} ${unreadableNote(unreadable)}
    ${secretsNote(among === 'all' ? newest : among)}
    <ul class="plain">
      ${rows}
    </ul>`;
  return { title: 'Find', body, query, snapshot: among === 'all' ? undefined : among };
}

export async function versionsPage(look: Look, path: RawPath, from: SeenSnapshot | undefined): Promise<Page> {
  const { versions, next, unreadable } = await versionsOf(look, path, from);
  const rows = versions.map((version, i) => versionRow(path, version, versions.slice(i + 1)));
  const body = html`<h1>Versions of ${lastName(path)}</h1>
    <p class="path">${rawForDisplay(path)}</p>
    ${unreadableNote(unreadable)}
    ${!versions.some(({ entry }) => entry) && html`<p>None of these snapshots has it.</p>`}
    <ul class="plain">
      ${rows}
    </ul>
    ${next && html`<p><a href="${address('versions', { p: path, s: next })}">Older snapshots</a></p>`}`;
  return { title: `Versions of ${lastName(path)}`, body };
}

function versionRow(path: RawPath, { newest, oldest, entry }: Version, older: readonly Version[]): Html {
  const span =
    newest === oldest
      ? html`in the snapshot of ${named(newest)}`
      : html`in the snapshots from ${named(oldest)} to ${named(newest)}`;
  if (!entry) return html`<li><span>not there</span> <span class="dim">${span}</span></li>`;
  const previous = older.find((one) => one.entry !== undefined);
  const isText = entry.type === 'file' && previous?.entry?.type === 'file';
  return html`<li>
    <a href="${entryAddress(newest, entry)}">modified ${time(formatNs(entry.mtimeNs))}</a>
    <span>${entry.type === 'file' ? sizeOf(entry) : entry.type}</span>
    ${entry.type === 'file' && html`<a href="${address('download', { s: newest, p: path })}" download>download</a>`}
    ${isText && previous && html`<a href="${address('lines', { p: path, a: previous.newest, b: newest })}">what changed</a>`}
    <span class="dim">${span}</span>
  </li>`;
}

/** For the pages of comparisons. */
export function fileIn(tree: Tree, path: RawPath): FileEntry | undefined {
  const entry: Entry | undefined = tree.get(path);
  return entry?.type === 'file' ? entry : undefined;
}
