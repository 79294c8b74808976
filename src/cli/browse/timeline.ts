/** The snapshots over time as a picture: how large the state was, and where it grew, shrank, or was marked. */
import type { SeenSnapshot } from '../../operations/looking/open-look.ts';
import { formatSize } from '../../units.ts';
import { address } from './address.ts';
import { html, type Html } from './html.ts';
import { time } from './layout.ts';

const WIDTH = 1000;
const HEIGHT = 100;
/** Of the height: what changed, above it how large. */
const CHANGE_SHARE = 0.4;
const SHOWN_MAX = 400;

/** @param snapshots oldest first. The list below it says the same to those who do not see it. */
export function timeline(snapshots: readonly SeenSnapshot[]): Html | undefined {
  const shown = snapshots.slice(-SHOWN_MAX);
  const [first, last] = [shown[0], shown.at(-1)];
  if (!first || !last || shown.length < 2) return undefined;
  const [from, to] = [Date.parse(first.record.time), Date.parse(last.record.time)];
  const width = Math.max(2, Math.min(40, (WIDTH / shown.length) * 0.6));
  const place = (iso: string) => ((Date.parse(iso) - from) / Math.max(1, to - from)) * (WIDTH - width);
  const largest = Math.max(1, ...shown.map(({ record }) => record.counts.bytes));
  const before = (i: number) => (shown[i - 1] ?? shown[i])?.record.counts.bytes ?? 0;
  const changes = shown.map(({ record }, i) => record.counts.bytes - before(i));
  const most = Math.max(1, ...changes.map(Math.abs));
  const bars = shown.map((snapshot, i) => {
    const { record, said, problem } = snapshot;
    const isSuspicious = (record.suspicious ?? []).length > 0 && !said.isAcknowledged;
    const x = place(record.time).toFixed(1);
    const change = changes[i] ?? 0;
    const size = (record.counts.bytes / largest) * HEIGHT * (1 - CHANGE_SHARE);
    const height = change === 0 ? 0 : Math.max(2, (Math.abs(change) / most) * HEIGHT * CHANGE_SHARE);
    const top = HEIGHT - size - height;
    return html`<a href="${address('tree', { s: snapshot })}" tabindex="-1"
      ><title>${record.time.slice(0, 19)}: ${formatSize(record.counts.bytes)}</title>
      <rect class="hit" x="${x}" y="0" width="${width}" height="${HEIGHT}" />
      <rect class="size" x="${x}" y="${HEIGHT - size}" width="${width}" height="${size}" />
      ${height > 0 && html`<rect class="${change > 0 ? 'grew' : 'shrank'}" x="${x}" y="${top}" width="${width}" height="${height}" />`}
      ${(problem !== undefined || isSuspicious || said.tags.length > 0) && html`<rect class="flag" x="${x}" y="0" width="${width}" height="6" />`}</a
    >`;
  });
  return html`<svg class="timeline" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
      ${bars}
    </svg>
    <div class="ends"><span>${time(first.record.time)}</span><span>${time(last.record.time)}</span></div>
    <p class="dim">
      Light: the size of the state. Dark: what it grew by; red: what it shrank by. A mark on top: a tag, a suspicion or
      a problem.
    </p>`;
}
