/** Text that arrives in pieces, line by line. Only a line feed ends a line: file names may hold every other separator. */
import { HoldfastError } from './errors.ts';

const LINE_FEED = 0x0a;

/** Cuts UTF-8 text into lines, without their line feeds. */
export class LineSplitter {
  readonly #maxBytes: number;
  #rest: Uint8Array[] = [];
  #restBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The lines that end in this piece. The piece is not kept. */
  push(piece: Uint8Array): string[] {
    const end = piece.lastIndexOf(LINE_FEED);
    const tail = new Uint8Array(piece.subarray(end + 1)); // a copy; Buffer's own `slice` is none
    let lines: string[] = [];
    if (end >= 0) {
      const whole = piece.subarray(0, end);
      lines = decode(this.#rest.length === 0 ? whole : Buffer.concat([...this.#rest, whole])).split('\n');
      this.#rest = [];
      this.#restBytes = 0;
    }
    if (tail.length > 0) {
      this.#restBytes += tail.length;
      if (this.#restBytes > this.#maxBytes)
        throw new HoldfastError('damaged', `a line is longer than ${this.#maxBytes} bytes`);
      this.#rest.push(tail);
    }
    return lines;
  }

  /** @throws `damaged` when something came after the last line feed. */
  end(): void {
    if (this.#rest.length > 0) throw new HoldfastError('damaged', 'the last line is cut off');
  }
}

function decode(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
