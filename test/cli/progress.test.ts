import { expect, it } from 'vitest';
import { createProgress } from '../../src/cli/progress.ts';
import type { Clock } from '../../src/clock.ts';
import type { ProgressEvent } from '../../src/progress.ts';

/** A display on a stream that is recorded, and a clock that is set by hand. */
function display({ isTTY, quiet = false, columns = 80 }: { isTTY: boolean; quiet?: boolean; columns?: number }) {
  let nowMs = 0;
  const written: string[] = [];
  const clock: Clock = { now: () => nowMs, monotonic: () => nowMs, sleep: () => Promise.resolve() };
  const shown = createProgress({ isTTY, columns, write: (text) => written.push(text) }, { quiet, clock });
  return {
    written,
    end: shown.end,
    report(atMs: number, event: ProgressEvent) {
      nowMs = atMs;
      shown.report(event);
    },
  };
}

const MiB = 1024 * 1024;
const reading = (done: number): ProgressEvent => ({
  type: 'progress',
  phase: 'reading',
  done,
  total: 100 * MiB,
  unit: 'bytes',
});

it('a terminal shows nothing for what takes less than a second', () => {
  const { report, end, written } = display({ isTTY: true });
  report(0, { type: 'phase', name: 'reading' });
  for (let ms = 0; ms < 1000; ms += 50) report(ms, reading(ms));
  end();
  expect(written).toEqual([]);
});

it('a terminal shows one line, redrawn at most ten times a second and wiped at the end', () => {
  const { report, end, written } = display({ isTTY: true });
  report(0, { type: 'phase', name: 'reading' });
  report(2000, reading(25 * MiB));
  report(2050, reading(26 * MiB));
  report(2100, reading(50 * MiB));
  end();
  end();
  expect(written).toEqual([
    '\r\x1b[2Kreading: [######..................] 25% of 100.0 MiB, 12.5 MiB/s, 6.0 s left',
    '\r\x1b[2Kreading: [############............] 50% of 100.0 MiB, 23.8 MiB/s, 2.1 s left',
    '\r\x1b[2K',
  ]);
});

it('no line is longer than the terminal is wide', () => {
  const { report, written } = display({ isTTY: true, columns: 20 });
  report(0, { type: 'phase', name: 'reading' });
  report(2000, reading(25 * MiB));
  expect(written[0]).toHaveLength('\r\x1b[2K'.length + 19);
});

it('elsewhere it is a plain line every ten seconds', () => {
  const { report, end, written } = display({ isTTY: false });
  report(0, { type: 'phase', name: 'scanning' });
  for (let ms = 0; ms <= 25_000; ms += 1000) {
    report(ms, { type: 'progress', phase: 'scanning', done: ms, unit: 'files' });
  }
  end();
  expect(written).toEqual(['scanning: 10000 files\n', 'scanning: 20000 files\n']);
});

it('--quiet shows nothing', () => {
  for (const isTTY of [true, false]) {
    const { report, end, written } = display({ isTTY, quiet: true });
    report(0, { type: 'phase', name: 'reading' });
    report(60_000, reading(1));
    end();
    expect(written).toEqual([]);
  }
});
