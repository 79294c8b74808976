/**
 * Progress on stderr. On a terminal one line that is redrawn, for phases that take longer than a second; otherwise a plain
 * line every ten seconds. Driven by the events alone: no timer keeps the process alive or draws after the end.
 */
import type { Clock } from '../clock.ts';
import type { ProgressEvent } from '../progress.ts';
import { formatDuration, formatSize } from '../units.ts';

const BAR_AFTER_MS = 1000;
const REDRAW_MS = 100;
const PLAIN_LINE_MS = 10_000;
const BAR_WIDTH = 24;
const ERASE_LINE = '\r\x1b[2K';

/** The part of a stream that is needed; `process.stderr` is one. */
export interface ProgressStream {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

export interface ProgressDisplay {
  report(event: ProgressEvent): void;
  /** Removes the line; may be called more than once. */
  end(): void;
}

export function createProgress(
  stream: ProgressStream,
  { quiet, clock }: { quiet: boolean; clock: Clock },
): ProgressDisplay {
  const terminal = stream.isTTY === true;
  let phase = '';
  let startMs = clock.monotonic();
  let nextMs = 0;
  let drawn = false;

  function begin(name: string): void {
    erase();
    phase = name;
    startMs = clock.monotonic();
    nextMs = startMs + (terminal ? BAR_AFTER_MS : PLAIN_LINE_MS);
  }
  function erase(): void {
    if (drawn) stream.write(ERASE_LINE);
    drawn = false;
  }
  return {
    report(event) {
      if (quiet) return;
      if (event.type === 'phase') return begin(event.name);
      if (event.phase !== phase) begin(event.phase);
      const nowMs = clock.monotonic();
      if (nowMs < nextMs) return;
      const line = progressLine(event, nowMs - startMs, terminal);
      nextMs = nowMs + (terminal ? REDRAW_MS : PLAIN_LINE_MS);
      stream.write(terminal ? ERASE_LINE + line.slice(0, (stream.columns || 80) - 1) : `${line}\n`);
      drawn = terminal;
    },
    end: erase,
  };
}

function progressLine(event: ProgressEvent & { type: 'progress' }, elapsedMs: number, bar: boolean): string {
  const { phase, done, total, unit } = event;
  const amount = (n: number): string => (unit === 'bytes' ? formatSize(n) : `${n}`);
  const suffix = unit === 'bytes' ? '' : ` ${unit}`;
  const rate = unit === 'bytes' && elapsedMs > 0 ? `, ${formatSize(Math.round((done * 1000) / elapsedMs))}/s` : '';
  if (total === undefined || total === 0) return `${phase}: ${amount(done)}${suffix}${rate}`;
  const share = Math.min(1, done / total);
  const left = share > 0.01 && share < 1 ? `, ${formatDuration((elapsedMs / share) * (1 - share))} left` : '';
  const filled = Math.round(share * BAR_WIDTH);
  const drawing = bar ? ` [${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]` : '';
  return `${phase}:${drawing} ${Math.floor(share * 100)}% of ${amount(total)}${suffix}${rate}${left}`;
}
