/** Damage and losses for people. */
import type { Damage, Loss } from '../repository/repository.ts';
import { formatSize } from '../units.ts';
import { count } from './render.ts';

const PATHS_SHOWN = 5;
const SHOWN_MAX = 50;

/** A line for each damaged object. */
export function damageLines(damaged: readonly Damage[]): string[] {
  const shown = damaged
    .slice(0, SHOWN_MAX)
    .map(({ backend, key, problem, snapshots, paths, repaired, elsewhere, unread }) => {
      const touched = snapshots.length > 0 ? `; needed by ${count(snapshots.length, 'snapshot')}` : '';
      const files = paths.length > 0 ? `: ${someOf(paths, paths.length)}` : '';
      const others = [
        ...(elsewhere.length > 0 ? [`whole on ${elsewhere.join(', ')}`] : []),
        ...(unread.length > 0 ? [`there on ${unread.join(', ')}, not read`] : []),
      ];
      const where = repaired || others.length === 0 ? '' : ` (${others.join('; ')})`;
      return `${repaired ? 'REPAIRED' : 'DAMAGED'} ${backend} ${key}: ${problem}${where}${touched}${files}`;
    });
  if (damaged.length > SHOWN_MAX) shown.push(`… and ${damaged.length - SHOWN_MAX} more (see --json)`);
  return shown;
}

/** The next step, where something is lost on every backend. */
export const CAN_FORGET =
  'What no backend has can be given up, so that the rest is whole: `holdfast repair --forget-damaged --dry-run`.';

/** What did I lose? Nothing to say where nothing is damaged. */
export function lossLines(
  { elsewhere, unread, everywhere, snapshots }: Loss,
  { withSecret }: { withSecret: boolean },
): string[] {
  if (elsewhere + unread + everywhere === 0) return [];
  const maybe = unread > 0 ? ` ${unread} there on another, not read;` : '';
  const lines = [
    `What is lost: ${count(elsewhere, 'damaged object')} whole on another backend;${maybe} ${everywhere} whole on none`,
  ];
  for (const { id, seq, time, whole, files, bytes, paths } of snapshots.slice(0, SHOWN_MAX)) {
    const number = seq === null ? '' : `number ${seq}, `;
    const what = whole
      ? 'nothing of it can be restored'
      : `${count(files ?? 0, 'file')} (${formatSize(bytes ?? 0)}) cannot be restored: ${someOf(paths, files ?? paths.length)}`;
    lines.push(`  snapshot ${id.slice(0, 8)} (${number}${time}): ${what}`);
  }
  if (snapshots.length > SHOWN_MAX) lines.push(`  … and ${count(snapshots.length - SHOWN_MAX, 'older snapshot')}`);
  if (everywhere > 0 && snapshots.length === 0)
    lines.push(
      withSecret
        ? '  no snapshot is known that loses a file by it'
        : '  which snapshots and files that touches is told with the restore secret (--words-file, --identity-file)',
    );
  return lines;
}

function someOf(paths: readonly string[], all: number): string {
  const shown = paths.slice(0, PATHS_SHOWN);
  return `${shown.join(', ')}${all > shown.length ? ` and ${all - shown.length} more` : ''}`;
}
