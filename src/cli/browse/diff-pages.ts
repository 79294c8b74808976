/** The pages of comparisons. */
import type { FileEntry } from '../../entry.ts';
import { HoldfastError } from '../../errors.ts';
import { compareTrees, type Difference } from '../../operations/looking/compare.ts';
import type { Look, SeenSnapshot } from '../../operations/looking/open-look.ts';
import { diffTexts, TEXT_DIFF_MAX_BYTES, type Hunk } from '../../operations/looking/text-diff.ts';
import { rawForDisplay, ROOT, type RawPath } from '../../raw-path.ts';
import { formatSize } from '../../units.ts';
import { address } from './address.ts';
import { html, type Html } from './html.ts';
import { entryAddress, lastName, named, plural, short, sizeOf, type Page } from './layout.ts';
import { fileIn } from './pages.ts';
import { visible } from './preview.ts';

const CHANGES_SHOWN_MAX = 2000;

export async function diffPage(look: Look, a: SeenSnapshot, b: SeenSnapshot): Promise<Page> {
  const [before, after] = [await look.tree(a), await look.tree(b)];
  const { differences, tally } = await compareTrees(before.entries, after.entries, {
    saved: () => Promise.resolve(undefined),
  });
  const { added, removed, changed, renamed, bytes } = tally;
  const body = html`<h1>What changed</h1>
    <p>From ${named(a)}<br />to ${named(b)}</p>
    <p>
      ${plural(added, 'entry', 'entries')} added, ${removed} removed, ${changed} changed, ${renamed} renamed;
      ${formatSize(bytes.added)} more, ${formatSize(bytes.removed)} less.
    </p>
    ${(secrets(a) > 0 || secrets(b) > 0) && html`<p class="dim">The secret files that are kept apart (${secrets(a)} and ${secrets(b)}) are not compared here: <code>holdfast diff ${short(a)} ${short(b)} --secrets</code></p>`}
    <p class="row">
      <a class="button" href="${address('diff', { a: b, b: a })}">The other way round</a>
      <a class="button" href="${address('tree', { s: a })}">Open the first</a>
      <a class="button" href="${address('tree', { s: b })}">Open the second</a>
    </p>
    ${differences.length > CHANGES_SHOWN_MAX && html`<p class="warn">The first ${CHANGES_SHOWN_MAX} of ${differences.length}; <code>holdfast diff</code> shows all.</p>`}
    <ul class="plain changes">
      ${differences.slice(0, CHANGES_SHOWN_MAX).map((one) => changeRow(one, a, b))}
    </ul>`;
  return { title: 'What changed', body, snapshot: b };
}

const secrets = ({ record }: SeenSnapshot): number => record.secrets?.files ?? 0;

function changeRow({ kind, path, what, before, after }: Difference, a: SeenSnapshot, b: SeenSnapshot): Html {
  const entry = after ?? before;
  if (!entry) return html``;
  const holder = after ? b : a;
  const name = path === ROOT ? 'the root' : rawForDisplay(path);
  const hasLines = kind === 'changed' && what.includes('content');
  const sizes =
    before?.type === 'file' && after?.type === 'file' && before.size !== after.size
      ? `${formatSize(before.size)} → ${formatSize(after.size)}`
      : before && !after
        ? sizeOf(before)
        : after?.type === 'file'
          ? formatSize(after.size)
          : '';
  return html`<li>
    <span class="sign ${kind}">${kind}</span>
    <a class="path" href="${entryAddress(holder, entry)}"
      >${name}${entry.type === 'folder' && path !== ROOT ? '/' : ''}</a
    >
    ${kind === 'renamed' && before && html`<span class="dim path">was ${rawForDisplay(before.path)}</span>`}
    <span class="dim">${what.join(', ')} ${sizes}</span>
    ${hasLines && html`<a href="${address('lines', { p: path, a, b })}">line by line<span class="unseen"> in ${name}</span></a>`}
  </li>`;
}

export async function linesPage(look: Look, path: RawPath, a: SeenSnapshot, b: SeenSnapshot): Promise<Page> {
  const [before, after] = [fileIn(await look.tree(a), path), fileIn(await look.tree(b), path)];
  if (!before && !after) {
    throw new HoldfastError('not_found', `neither snapshot has a file ${JSON.stringify(rawForDisplay(path))}`, {
      hint: 'Look for it by its name.',
    });
  }
  const read = async (file: FileEntry | undefined) =>
    !file ? new Uint8Array(0) : file.size > TEXT_DIFF_MAX_BYTES ? undefined : look.beginning(file, TEXT_DIFF_MAX_BYTES);
  const result = diffTexts(await read(before), await read(after));
  const side = (snapshot: SeenSnapshot, file: FileEntry | undefined) =>
    file
      ? html`<a href="${entryAddress(snapshot, file)}">${named(snapshot)}</a>, ${formatSize(file.size)}`
      : html`${named(snapshot)}: not there`;
  const body = html`<h1>${lastName(path)}, line by line</h1>
    <p class="path">${rawForDisplay(path)}</p>
    <p>From ${side(a, before)}<br />to ${side(b, after)}</p>
    ${'unable' in result ? html`<p>There is nothing to show: ${result.unable}.</p>` : result.hunks.length === 0 ? html`<p>The lines are the same.</p>` : lineTable(result.hunks)}
    <p><a href="${address('versions', { p: path })}">All versions</a></p>`;
  return { title: `${lastName(path)}, line by line`, body, snapshot: b };
}

const CLASSES: Readonly<Record<string, string>> = { '+': 'plus', '-': 'minus', '\\': 'at' };

function lineTable(hunks: readonly Hunk[]): Html {
  const rows = hunks.flatMap(({ beforeStart, afterStart, lines }) => [
    html`<span class="at"
      >line ${Math.max(1, beforeStart)}${afterStart !== beforeStart && `, now ${Math.max(1, afterStart)}`}</span
    >`,
    ...lines.map((line) => html`<span class="${CLASSES[line[0] ?? ''] ?? 'same'}">${visible(line)}</span>`),
  ]);
  return html`<pre tabindex="0" aria-label="Lines that went begin with minus, lines that came with plus">${rows}</pre>`;
}
