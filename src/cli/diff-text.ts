/** A comparison for people. */
import type { Change, DiffResult, DiffSide } from '../operations/diff.ts';
import { escapeForDisplay } from '../raw-path.ts';
import { formatSize } from '../units.ts';
import { count, lines, table } from './render.ts';

const SIGN = { added: '+', removed: '-', changed: '~', renamed: '>' } as const;

export function diffText({ compared, from, to, summary, changes, complete }: DiffResult): string {
  const rows = changes.map((change) => [SIGN[change.kind], nameOf(change), detailOf(change), sizesOf(change)]);
  return (
    lines(`${sideName(from)} -> ${sideName(to)}`) +
    (rows.length > 0 ? `${table(['', 'path', 'what', 'size'], rows)}` : '') +
    changes.map(textOf).join('') +
    lines(
      `${summary.added} added, ${summary.removed} removed, ${summary.changed} changed, ${summary.renamed} renamed, ${count(summary.unchanged, 'entry', 'entries')} as before; ${formatSize(summary.bytes.added)} more, ${formatSize(summary.bytes.removed)} less`,
      ...secretsLine(compared, from.secrets, to.secrets),
      ...(complete ? [] : ['The comparison is INCOMPLETE: see the warnings above.']),
    )
  );
}

function secretsLine(compared: DiffResult['compared'], before: number, after: number): string[] {
  if (compared === 'secrets') return [`compared are the secret files that are kept apart: ${before} -> ${after}`];
  if (before === 0 && after === 0) return [];
  return [`secret files kept apart and not compared: ${before} -> ${after}; --secrets compares them instead`];
}

function sideName(side: DiffSide): string {
  return side.kind === 'live'
    ? `the state as it is in ${side.root}`
    : `snapshot ${side.id.slice(0, 8)} (number ${side.seq}, ${side.time})`;
}

const nameOf = ({ path, oldPath }: Change): string => (oldPath === undefined ? path : `${oldPath} -> ${path}`);

function detailOf({ kind, what, before, after }: Change): string {
  const words = kind === 'added' || kind === 'removed' ? [(after ?? before)?.type ?? ''] : what;
  return words.join(', ');
}

function sizesOf({ before, after, what, kind }: Change): string {
  const one = kind === 'removed' ? before : after;
  if (kind === 'changed' && what.includes('size') && before && after)
    return `${formatSize(before.size)} -> ${formatSize(after.size)}`;
  return one?.type === 'file' ? formatSize(one.size) : '';
}

/** Tabs stay; whatever else might move the cursor is escaped. */
function textOf({ path, text, noText }: Change): string {
  if (text === undefined) return noText === undefined ? '' : `\n${lines(`${path}: ${noText}`)}`;
  const shown = text.split('\n').map((line) => line.split('\t').map(escapeForDisplay).join('\t'));
  return `\n${shown.join('\n')}`;
}
