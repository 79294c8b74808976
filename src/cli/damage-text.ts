/** Damage and losses for people. */
import type { Damage, Loss } from '../repository/repository.ts';
import { formatSize } from '../units.ts';
import { count } from './render.ts';

const PATHS_SHOWN = 5;
const SHOWN_MAX = 50;

/** A line for each damaged object. */
export function damageLines(damaged: readonly Damage[]): string[] {
  const shown = damaged.slice(0, SHOWN_MAX).map(({ backend, key, problem, snapshots, paths, repaired, elsewhere }) => {
    const touched = snapshots.length > 0 ? `; needed by ${count(snapshots.length, 'snapshot')}` : '';
    const files = paths.length > 0 ? `: ${someOf(paths, paths.length)}` : '';
    const whole = repaired || elsewhere.length === 0 ? '' : ` (whole on ${elsewhere.join(', ')})`;
    return `${repaired ? 'REPAIRED' : 'DAMAGED'} ${backend} ${key}: ${problem}${whole}${touched}${files}`;
  });
  if (damaged.length > SHOWN_MAX) shown.push(`… and ${damaged.length - SHOWN_MAX} more (see --json)`);
  return shown;
}

/** What did I lose? Nothing to say where nothing is damaged. */
export function lossLines({ elsewhere, everywhere, snapshots }: Loss): string[] {
  if (elsewhere + everywhere === 0) return [];
  const lines = [
    `What is lost: ${count(elsewhere, 'damaged object')} whole on another backend; ${everywhere} whole on none`,
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
      '  which snapshots and files that touches is told with the restore secret (--words-file, --identity-file)',
    );
  return lines;
}

function someOf(paths: readonly string[], all: number): string {
  const shown = paths.slice(0, PATHS_SHOWN);
  return `${shown.join(', ')}${all > shown.length ? ` and ${all - shown.length} more` : ''}`;
}
