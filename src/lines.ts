/** Text that arrives in pieces, line by line. Only a line feed ends a line: file names may hold every other separator. */
import { HoldfastError } from './errors.ts';

const LINE_FEED = 0x0a;

/**
 * The lines of UTF-8 text, without their line feeds.
 * @throws `damaged` when a line is longer than `maxBytes` or the last has no line feed.
 */
export async function* splitLines(pieces: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<string> {
  let rest: Uint8Array[] = [];
  let restBytes = 0;
  for await (const piece of pieces) {
    let start = 0;
    for (let end = piece.indexOf(LINE_FEED); end >= 0; end = piece.indexOf(LINE_FEED, start)) {
      const tail = piece.subarray(start, end);
      yield decode(rest.length === 0 ? tail : Buffer.concat([...rest, tail]));
      rest = [];
      restBytes = 0;
      start = end + 1;
    }
    if (start < piece.length) {
      const tail = piece.slice(start);
      restBytes += tail.length;
      if (restBytes > maxBytes) throw new HoldfastError('damaged', `a line is longer than ${maxBytes} bytes`);
      rest.push(tail);
    }
  }
  if (rest.length > 0) throw new HoldfastError('damaged', 'the last line is cut off');
}

function decode(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
