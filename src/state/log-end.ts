/** Where an append-only log ends for a backup: after its last whole line, for a program may be at writing the next. */
import { readSync } from 'node:fs';

/** A log that was not written to for so long is finished, also when its last line has no end. */
const FINISHED_AFTER_NS = 60_000_000_000n;

/** Whether a log was last written long ago by this clock (milliseconds), or at a time that is none of this clock's. */
export function isFinished(mtimeNs: bigint, nowMs: number): boolean {
  const age = BigInt(Math.trunc(nowMs)) * 1_000_000n - mtimeNs;
  return age > FINISHED_AFTER_NS || -age > FINISHED_AFTER_NS;
}

const PIECE_BYTES = 64 * 1024;
const LINE_FEED = 0x0a;

/** How many of the first `size` bytes are whole lines; `size` when there is no line feed. */
export function wholeLinesBytes(fd: number, size: number): number {
  const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, size));
  for (let end = size; end > 0; end -= piece.length) {
    const start = Math.max(0, end - piece.length);
    const length = readSync(fd, piece, 0, end - start, start);
    const at = piece.subarray(0, length).lastIndexOf(LINE_FEED);
    if (at >= 0) return start + at + 1;
  }
  return size;
}
